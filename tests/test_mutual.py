"""Fresh captioners across models, and the script that trains the models."""

import dataclasses
import json
import sys

import pytest
import torch
from conftest import ROOT, TINY
from evaluation_cases import SMALL
from parrot import tiny_circle

from data_utils import GrammarData, Vocabulary
from evaluation import mutual
from evaluation.protocol import ModelUnderTest
from models import Circle
from settings import Settings

sys.path.insert(0, str(ROOT / "scripts"))
import mutual_intelligibility  # noqa: E402


def model_under_test(circle, vocab, settings):
    return ModelUnderTest(
        circle=circle.eval(), vocab=vocab, settings=settings, device=torch.device("cpu"), data=GrammarData(1 << 16, 5)
    )


@pytest.mark.slow
def test_a_captioner_reads_its_teacher_and_whoever_draws_alike():
    one = model_under_test(*tiny_circle())
    circle, vocab, settings = tiny_circle()
    torch.manual_seed(9)  # other weights, other language
    other = model_under_test(Circle(settings, len(vocab), GrammarData.max_words, circle.word_classes), vocab, settings)
    protocol = dataclasses.replace(SMALL, sentences=60, steps=60)
    found = mutual.fresh_reading([one, other, model_under_test(*tiny_circle())], protocol, 0)
    share = found["share"]
    assert found["share_is"] == "slots_soft" and found["n"] == 60
    assert share[0][2] == share[0][0] == share[2][0] and found["exact_match"][0][2] == found["exact_match"][0][0]
    assert share[0][0] > share[0][1] and share[1][1] > share[1][0]  # what is taught is understood better
    assert share[0][0] > found["share_by_luck"][0][0] + 0.02


def test_models_of_other_words_are_left_out():
    one = model_under_test(*tiny_circle())
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, decoder="conv")
    vocab = Vocabulary.of(["a", "ball"])
    other = model_under_test(Circle(settings, len(vocab), 4), vocab, settings)
    other.lines, other.data = ["a ball", "ball a"], one.data
    other.batches = lambda seed: lambda step: torch.full((4, 2), 3)
    found = mutual.fresh_reading([one, other], dataclasses.replace(SMALL, steps=1), 0)
    assert found["share"][0][1] is None and found["share"][0][0] is not None and found["share_is"] == "word_accuracy"


@pytest.mark.slow
def test_the_script_trains_each_seed_once_and_prints_the_matrices(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mutual_intelligibility, "QUICK", SMALL)
    command = ["--out_dir", str(tmp_path), "--seeds", "3", "4", "--quick", "--threads", "1", "--", *TINY, "--epochs", "1"]
    assert mutual_intelligibility.main(command) == 0
    out = capsys.readouterr().out
    assert out.count("| seed 3 |") == 4 and "by luck" in out and "(n = 24, seed 501)" in out
    kept = json.loads((tmp_path / "mutual.json").read_text(encoding="utf-8"))
    assert kept["seeds"] == [3, 4] and len(kept["own"]) == len(kept["fresh"]["share"]) == 2
    weights = (tmp_path / "seed_3" / "checkpoints" / "best.pt").read_bytes()
    assert mutual_intelligibility.main(command) == 0
    assert capsys.readouterr().out == out and (tmp_path / "seed_3" / "checkpoints" / "best.pt").read_bytes() == weights
    assert mutual_intelligibility.main([*command, "--d_model", "33"]) == 1
    error = capsys.readouterr().err
    assert "output.txt" in error and error.count("\n") == 1
