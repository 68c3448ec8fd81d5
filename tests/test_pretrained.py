"""Weights that ship: how they are made and measured, and that every script takes them where nothing else is named."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_script, script_env
from parrot import KNOWN, parrot

import caption
import checkpoints
import evaluate
import export
import generate
from checkpoints import load, load_model, save
from evaluation.report import model_card
from settings import PRESETS, Settings

sys.path.insert(0, str(ROOT / "scripts"))
import make_pretrained
import measure_pretrained

TWO_METRICS = {"exact_match/test": 0.25, "corruption/jpeg_50": 0.125}


@pytest.fixture
def two_metrics(monkeypatch):
    """The card without the metrics that take minutes, and without the process that is timed."""
    monkeypatch.setattr(model_card, "checkpoint_metrics", lambda *_: TWO_METRICS)
    monkeypatch.setattr(model_card, "seconds_of_command", lambda *_: 1.25)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pretrained folder made of the parrot -> its path."""
    folder = tmp_path_factory.mktemp("made") / "grammar"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_card, "checkpoint_metrics", lambda *_: TWO_METRICS)
        assert make_pretrained.main([parrot(), "--out_dir", str(folder), "--n", "5"]) == 0
    return folder


@pytest.fixture
def shipped(made, two_metrics, tmp_path, monkeypatch):
    """A copy of the pretrained folder, in an empty working folder -> its path."""
    folder = shutil.copytree(made, tmp_path / "shipped" / "grammar")
    monkeypatch.setattr(checkpoints, "PRETRAINED", str(folder))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def test_half_the_size_and_the_same_sentences(shipped):
    whole, half = (load_model(str(path), "cpu") for path in (parrot(), shipped))
    assert os.path.getsize(shipped / "model.safetensors") < 0.7 * sum(4 * p.numel() for p in whole[0].parameters())
    assert sorted(p.name for p in shipped.iterdir()) == ["README.md", "model.json", "model.safetensors"]
    assert half[1].words == whole[1].words and half[0].word_classes == whole[0].word_classes
    for (name, a), b in zip(whole[0].state_dict().items(), half[0].state_dict().values()):
        assert b.dtype == torch.float32 and torch.allclose(a, b, rtol=1e-3, atol=1e-6), name
        assert not name.startswith("scene_decoder") or torch.equal(a, b), name
    about = json.loads((shipped / "model.json").read_text(encoding="utf-8"))
    assert about["half_precision"]["n"] == 5 and about["half_precision"]["largest_change"] <= 2


def test_weights_that_float16_cannot_hold_stay_whole(tmp_path):
    large = torch.full((2, 2), 1e6)
    assert checkpoints.halved("caption_network.a", large) is large
    assert checkpoints.halved("caption_network.a", torch.ones(2, 2)).dtype == torch.float16
    assert checkpoints.halved("caption_network.bias", torch.ones(2)).dtype == torch.float32


def test_no_folder_of_the_training_machine_is_named(two_metrics, tmp_path):
    state = load(parrot())
    state["settings"].update(
        checkpoint_dir="/home/somebody/runs", log_dir="/home/somebody/logs", grounding="/home/somebody/my.toml"
    )
    save(tmp_path / "named.pt", state)
    assert make_pretrained.main([str(tmp_path / "named.pt"), "--out_dir", str(tmp_path / "out"), "--n", "2"]) == 0
    assert "somebody" not in (tmp_path / "out" / "model.json").read_text(encoding="utf-8")
    assert load_model(str(tmp_path / "out"), "cpu")[2].grounding == "my.toml"


def test_the_card_has_what_was_measured(shipped, capsys):
    card = (shipped / "README.md").read_text(encoding="utf-8")
    assert "| exact match, `test` | 25.00 % | 25.00 % |" in card and "n = 5, seed 501" in card
    assert "license: mit" in card and "--n 5 --seed 501" in card and "{{" not in card and "None" not in card
    assert f"{sum(t.numel() for t in load(parrot())['model'].values()):,}" in card
    capsys.readouterr()
    assert measure_pretrained.main([str(shipped), "--n", "7"]) == 0
    again = (shipped / "README.md").read_text(encoding="utf-8")
    assert "n = 7" in again and capsys.readouterr().out == again


def test_what_cannot_be_made_is_one_line(tmp_path, capsys, monkeypatch):
    for command in ((make_pretrained, "no.pt"), (measure_pretrained, str(tmp_path))):
        assert command[0].main([command[1]]) == 1
        error = capsys.readouterr().err
        assert error.startswith("scripts/") and error.count("\n") == 1
    monkeypatch.setattr(make_pretrained, "LIMIT", 10)
    assert make_pretrained.main([parrot(), "--out_dir", str(tmp_path / "large"), "--n", "2"]) == 1
    assert "do not commit" in capsys.readouterr().err


def test_scripts_take_it_where_nothing_is_trained_and_say_so(shipped, capsys):
    assert generate.main(["--text", *KNOWN, "--out_dir", "out"]) == 0
    rows = [json.loads(line) for line in Path("out/captions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [r["caption"] for r in rows] == KNOWN
    said = [line for line in capsys.readouterr().err.splitlines() if "using" in line]
    assert len(said) == 1 and str(shipped) in said[0] and "best.pt" in said[0]
    assert caption.main(["out/00000.png"]) == 0
    assert json.loads(capsys.readouterr().out)["caption"] == KNOWN[0]
    assert export.main(["--out_dir", "copy", "--half"]) == 0
    assert Path("copy/model.safetensors").read_bytes() == (shipped / "model.safetensors").read_bytes()


def test_a_trained_model_comes_first(shipped, capsys):
    os.makedirs("checkpoints")
    shutil.copy(parrot(), "checkpoints/best.pt")
    assert generate.main(["--text", "a red ball", "--out_dir", "out"]) == 0
    assert f"using {os.path.join('checkpoints', 'best.pt')}\n" in capsys.readouterr().err
    Path("checkpoints/best.pt").write_bytes(b"damaged")
    assert generate.main(["--text", "a red ball", "--out_dir", "out"]) == 1  # and not, in silence, another model


def test_without_either_the_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "PRETRAINED", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    assert generate.main(["--text", "a red ball", "--out_dir", "out"]) == 1
    assert "train.py --preset quick" in capsys.readouterr().err and os.listdir() == []


def test_evaluate_knows_a_folder_by_its_files(shipped, monkeypatch):
    monkeypatch.setattr(evaluate, "SECTIONS", {})
    args = evaluate.parse_arguments(["--out_dir", "report"])
    assert args.checkpoint is None
    before = evaluate.digest(shipped)
    (shipped / "README.md").write_text("another card", encoding="utf-8")
    assert evaluate.digest(shipped) == before
    with open(shipped / "model.json", "a", encoding="utf-8") as f:
        f.write(" ")
    assert evaluate.digest(shipped) != before


@pytest.mark.slow
def test_a_fresh_clone_draws_without_training(shipped, tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, clone)
    for path in ROOT.glob("*/__init__.py"):
        shutil.copytree(path.parent, clone / path.parent.name)
    shutil.copytree(shipped, clone / "pretrained" / "grammar")
    (tmp_path / "elsewhere").mkdir()
    for cwd in (clone, tmp_path / "elsewhere"):
        done = run_script(clone / "generate.py", "--text", *KNOWN[:1], "--out_dir", "out", cwd=cwd, env=script_env())
        assert done.returncode == 0 and "using the pretrained model" in done.stderr, done.stderr
        assert json.loads((cwd / "out" / "captions.jsonl").read_text(encoding="utf-8"))["caption"] == KNOWN[0]


def test_the_command_of_a_run_is_told_in_flags():
    assert model_card.training_command(Settings()) == "python train.py"
    assert model_card.training_command(Settings(**PRESETS["quick"])) == "python train.py --preset quick"
    changed = Settings(**{**PRESETS["quick"], "seed": 7, "use_vae": False, "log_dir": "elsewhere"})
    assert model_card.training_command(changed) == "python train.py --preset quick --no-use_vae --seed 7"


def test_shipped_weights_stay_small():
    files = [p for p in (ROOT / "pretrained").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 20e6
    for path in files:
        if path.suffix == ".safetensors":
            assert path.stat().st_size < make_pretrained.LIMIT
            load_model(str(path.parent), "cpu")
