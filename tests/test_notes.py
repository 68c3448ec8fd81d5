"""What a run says before it starts."""

import re

import pytest

import train
from settings import PRESETS, Settings, resolve
from training.notes import changed_schedule, poor_result, short_run, without_effect


def test_a_run_that_is_mostly_warm_up_says_so_and_how_to_mend_it():
    assert short_run(Settings(warmup_steps=100), 200) == []
    (line,) = short_run(Settings(warmup_steps=100, epochs=2, num_samples=64), 32)
    assert "all 32 steps are warm-up" in line and all(
        f in line for f in ("--epochs 2", "--num_samples 64", "--warmup_steps 100")
    )
    assert "100 of the 150 steps" in short_run(Settings(warmup_steps=100), 150)[0]
    for preset in PRESETS.values():
        s = resolve({}, None, Settings(**preset))
        assert short_run(s, s.epochs * -(-s.num_samples // s.batch_size)) == []


@pytest.mark.parametrize("name", ["quick", "full"])
def test_a_small_file_gets_as_many_steps_of_a_preset_as_the_grammar(name, tmp_path, monkeypatch):
    """288 lines were 32 steps of the quick preset, all of them warm-up."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.txt").write_text("".join(f"a dog with number {i}\n" for i in range(288)), encoding="utf-8")
    seen = {}

    def stop(settings, state, path):
        raise OSError("enough")

    real = train.Trainer

    def small(settings, data, *args):
        tiny = dict(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54)
        trainer = real(resolve(tiny, None, settings), data, *args)
        seen[settings.captions_file] = (trainer.total, data.num_samples)
        return trainer

    monkeypatch.setattr(train, "Trainer", small)
    monkeypatch.setattr(train, "hold_folders", stop)
    for flags in ([], ["--captions_file", "small.txt"]):
        assert train.main(["--preset", name, *flags]) == 1
    assert seen[""] == seen["small.txt"] and seen[""][0] > 10 * Settings(**PRESETS[name]).warmup_steps


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ({"n_cells": 9}, "--n_cells 9 has no effect here; it needs --decoder glyphs"),
        ({"decoder": "glyphs", "n_objects": 2}, "--n_objects 2 has no effect"),
        ({"lambda_kl": 0.1}, "--lambda_kl 0.1 has no effect here; it needs --use_vae"),
        ({"train_split": 0.5}, "--train_split 0.5 has no effect"),
        ({"captions_file": "a", "fixed_data": True}, "--fixed_data True has no effect"),
        (
            {"captions_file": "a", "val_file": "b", "test_file": "c", "train_split": 0.5},
            "--train_split 0.5 has no effect",
        ),
        ({"decoder": "conv", "lambda_repulsion": 1.0}, "--lambda_repulsion 1.0 has no effect"),
    ],
)
def test_a_flag_that_changes_nothing_is_named(typed, named):
    lines = [*without_effect(resolve(typed), typed)]
    assert len(lines) == 1 and named in lines[0]


@pytest.mark.parametrize(
    "typed",
    [
        {"decoder": "glyphs", "n_cells": 9}, {"use_vae": True, "lambda_kl": 0.1},
        {"fixed_data": True, "train_split": 0.5}, {"captions_file": "a", "train_split": 0.5, "num_samples": 5}, {"n_objects": 2},
        {"captions_file": "a", "val_file": "b", "train_split": 0.5},
    ],
)  # fmt: skip
def test_a_flag_with_an_effect_is_not(typed):
    assert [*without_effect(resolve(typed), typed)] == []


def test_a_learning_rate_that_jumps_on_resume_is_announced():
    before = dict(epochs=4, lr=1e-3, warmup_steps=100)
    (line,) = changed_schedule(Settings(epochs=8, lr=1e-3), before, 100, 400)
    assert "5.1e-04 instead of 2.0e-05" in line and "--epochs 8 instead of 4" in line
    assert "--lr 0.002 instead of 0.001" in changed_schedule(Settings(epochs=4, lr=2e-3), before, 100, 50)[0]
    assert changed_schedule(Settings(epochs=4, lr=1e-3), before, 100, 200) == []
    assert (
        changed_schedule(Settings(epochs=4, lr=1e-3, warmup_steps=50), before, 100, 200) == []
    )  # warm-up is over in both


def test_a_run_that_reached_little_says_what_to_do():
    assert poor_result(Settings(), 0.5) == []
    assert "--resume auto --epochs 100" in poor_result(Settings(epochs=50), 0.0)[0]


@pytest.mark.parametrize("flag", ["--layout", "--lambda_cloze", "--lambda_layout", "--lambda_shape"])
def test_a_retired_flag_is_refused_with_what_to_use_instead(flag, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main([flag, "1"])
    assert stopped.value.code == 2 and re.search(rf"{flag}: retired; \S.*--\w", capsys.readouterr().err)
