"""Pictures for files and notebooks: each is written, shows something, and shows what it was given."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import script_env
from PIL import Image

import visualization


def drawn(path):
    """A PNG's pixels; it must hold more than a plain background."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 100 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    return pixels


def test_gaze_is_light_where_the_captioner_looked():
    weights = torch.zeros(64)
    weights[8 * 6 + 1] = 0.7
    light = visualization.gaze_picture(torch.ones(3, 64, 64), weights)
    assert light[:, 52, 12].min() > 0.9 and light[:, :40].max() < 0.3 and light[:, :, 30:].max() < 0.3
    assert visualization.gaze_picture(torch.ones(3, 64, 64), torch.zeros(64)).isfinite().all()


def test_projections_keep_clusters_and_are_seeded():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 0.1, (15, 20)), rng.normal(3, 0.1, (15, 20))])
    for at in visualization.project(x).values():
        assert at.shape == (30, 2) and np.abs(at).max() == pytest.approx(1)
        a, b = at[:15], at[15:]
        assert np.linalg.norm(a.mean(0) - b.mean(0)) > 2 * max(a.std(), b.std())
    again = visualization.project(x)
    assert all(np.array_equal(v, again[k]) for k, v in visualization.project(x).items())


@pytest.mark.parametrize("vectors", [np.zeros((9, 4)), np.ones((1, 3)), np.arange(6.0).reshape(3, 2), np.zeros((2, 1))])
def test_projections_of_nothing_much_are_finite(vectors):
    assert all(np.isfinite(v).all() and v.shape == (len(vectors), 2) for v in visualization.project(vectors).values())


def test_sheets_of_scenes_rows_and_round_trips(tmp_path):
    pictures = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    texts = [f"sentence number {i}" for i in range(6)]
    visualization.scene_sheet(pictures, texts, tmp_path / "a.png")
    visualization.grid_sheet(pictures, ["one", "two"], ["x", "y", "z"], tmp_path / "c.png")
    visualization.round_trips(texts, pictures, [*texts[:5], "another"], tmp_path / "d.png")
    visualization.training_curves([], tmp_path / "e.png")
    for name in "acd":
        drawn(tmp_path / f"{name}.png")
    assert (drawn(tmp_path / "d.png") == visualization.WRONG).all(-1).any()


def test_what_came_back_for_a_long_sentence_is_seen_under_its_scene(tmp_path):
    long = (
        "The woman who sells bread at the station forgot her umbrella on the bench behind the church before breakfast"
    )
    sheets = set()
    for end in ("a cat.", "a cow."):
        visualization.scene_sheet(torch.zeros(1, 3, 64, 64), [f"{long}. -> {long}, said {end}"], tmp_path / "a.png")
        sheets.add((tmp_path / "a.png").read_bytes())
    assert len(sheets) == 2


@pytest.mark.parametrize("setting", ["MPLBACKEND", "matplotlibrc"])
def test_broken_settings_of_matplotlib_cost_a_warning(tmp_path, setting):
    (tmp_path / "matplotlibrc").write_bytes(b"font.family: caf\xe9\n" if setting == "matplotlibrc" else b"")
    env = script_env({"MPLBACKEND": "nonsense"} if setting == "MPLBACKEND" else None)
    row = {"kind": "validation", "step": 1, "epoch": 1, "seconds": 1, "exact_match": 1, "word_accuracy": 1}
    program = f"import visualization; visualization.training_curves([{row}], 'curves.png')"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and "matplotlib's settings are ignored" in done.stderr, done.stderr
    assert (tmp_path / "curves.png").exists()
