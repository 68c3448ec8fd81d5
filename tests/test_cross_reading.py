"""Fresh captioners across models, and the script that trains the models."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, TINY
from evaluation_cases import SMALL
from parrot import tiny_cycle

from data_utils import GrammarData, Vocabulary, pad
from evaluation.protocol import ModelUnderTest
from evaluation.sections import cross_reading as mutual
from models import Cycle
from settings import Settings

sys.path.insert(0, str(ROOT / "scripts"))
import mutual_intelligibility

TAUGHT = [
    "a red ball", "a blue star", "a green box in the left", "a huge pink cube", "a ball above a star", "a box next to a red box",
    "a tiny white circle on a striped background", "a gray star glowing in the top",
]  # fmt: skip


class Repeated:
    """The same few sentences in every batch: learned in seconds."""

    num_samples = len(TAUGHT)

    def __init__(self, vocab):
        self.ids = pad([vocab.encode(s) for s in TAUGHT])

    def batch(self, epoch, number, size):
        return self.ids


def model_under_test(cycle, vocab, settings):
    data = Repeated(vocab)
    return ModelUnderTest(
        cycle=cycle.eval(), vocab=vocab, settings=settings, device=torch.device("cpu"), lines=TAUGHT, data=data
    )


@pytest.mark.slow
def test_a_captioner_reads_its_teacher_and_whoever_draws_alike():
    one = model_under_test(*tiny_cycle())
    cycle, vocab, settings = tiny_cycle()
    torch.manual_seed(9)  # other weights, other language
    other = model_under_test(Cycle(settings, len(vocab), GrammarData.max_tokens, cycle.word_classes), vocab, settings)
    protocol = dataclasses.replace(SMALL, steps=100, every=100)
    found = mutual.fresh_reading([one, other, model_under_test(*tiny_cycle())], protocol, 0)
    exact, share, by_chance = (found[name] for name in ("exact_match", "share", "share_by_chance"))
    assert found["share_is"] == "word_accuracy" and found["n"] == len(TAUGHT) and found["steps"] == 100
    assert share[0][2] == share[0][0] == share[2][0] and exact[0][2] == exact[0][0]
    for taught, stranger in ((0, 1), (1, 0)):
        assert exact[taught][taught] > 0.7 > exact[taught][stranger]
        assert share[taught][taught] > by_chance[taught][taught] + 0.2


def test_models_of_other_words_are_left_out():
    one = model_under_test(*tiny_cycle())
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, decoder="conv")
    vocab = Vocabulary.of(["a", "ball"])
    other = ModelUnderTest(
        cycle=Cycle(settings, len(vocab), 4),
        vocab=vocab,
        settings=settings,
        device=one.device,
        lines=["a ball", "ball a"],
    )
    other.data = SimpleNamespace(num_samples=2, batch=lambda *_: torch.tensor([[3, 4], [4, 3]]))
    found = mutual.fresh_reading([one, other], dataclasses.replace(SMALL, steps=1), 0)
    assert found["share"][0][1] is None and found["share"][0][0] is not None and found["share_is"] == "word_accuracy"


@pytest.mark.slow
def test_the_script_trains_each_seed_once_and_prints_the_matrices(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mutual_intelligibility, "QUICK", SMALL)
    command = [
        "--out_dir",
        str(tmp_path),
        "--seeds",
        "3",
        "4",
        "--quick",
        "--threads",
        "1",
        "--",
        *TINY,
        "--epochs",
        "1",
    ]
    assert mutual_intelligibility.main(command) == 0
    out = capsys.readouterr().out
    assert out.count("\n| seed 3 |") == 4 and "by by_chance" in out and "(n = 24, seed 501)" in out
    kept = json.loads((tmp_path / "mutual.json").read_text(encoding="utf-8"))
    assert kept["seeds"] == [3, 4] and len(kept["own"]) == len(kept["fresh"]["share"]) == 2
    weights = (tmp_path / "seed_3" / "checkpoints" / "best.pt").read_bytes()
    assert mutual_intelligibility.main(command) == 0
    assert capsys.readouterr().out == out and (tmp_path / "seed_3" / "checkpoints" / "best.pt").read_bytes() == weights
    assert mutual_intelligibility.main([*command, "--d_model", "33"]) == 1
    error = capsys.readouterr().err
    assert "output.txt" in error and error.count("\n") == 1
