"""What a run keeps of its growth: bounded, whole, its own, and none twice after a resume."""

import doctest
import json
import shutil

import pytest
import torch
from conftest import TINY, run_forked

from training import snapshots

TEXTS = ["a red ball", "a blue box"]
PICTURES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def epochs(path, first_row=None):
    return [f["epoch"] for f in snapshots.read(path, first_row)["frames"]]


def test_examples():
    assert not doctest.testmod(snapshots).failed


def test_many_epochs_stay_few_frames_from_first_to_last(tmp_path):
    path = tmp_path / snapshots.NAME
    for epoch in range(130):
        snapshots.add(path, epoch, TEXTS, PICTURES, TEXTS)
    kept = epochs(path)
    assert len(kept) == snapshots.FRAMES and kept[0] == 0 and kept[-1] == 129 and kept == sorted(set(kept))
    assert max(b - a for a, b in zip(kept, kept[1:])) <= 4


def test_epochs_done_again_replace_the_branch_that_was_left(tmp_path):
    path = tmp_path / snapshots.NAME
    for epoch in (0, 1, 2, 3, 2):
        snapshots.add(path, epoch, TEXTS, PICTURES, TEXTS)
    assert epochs(path) == [0, 1, 2]


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, '{"run": null, "texts": 3, "frames": []}',
    '{"run": null, "texts": ["a"], "frames": [{"epoch": 1, "captions": ["a"], "pictures": ["http://x/y.png"]}]}'])  # fmt: skip
def test_foreign_and_changed_files_are_not_read_and_not_replaced(tmp_path, content):
    path = tmp_path / snapshots.NAME
    for is_changed in (False, True):
        if is_changed:
            snapshots.add(path, 1, TEXTS, PICTURES, TEXTS)
        path.write_text(content, encoding="utf-8")
        assert snapshots.read(path, None) is None
        with pytest.raises(OSError, match="not made here by this program, or has been changed since"):
            snapshots.add(path, 5, TEXTS, PICTURES, TEXTS)
        assert path.read_text(encoding="utf-8") == content
        path.unlink()


def test_another_runs_frames_are_not_taken_over(tmp_path):
    path = tmp_path / snapshots.NAME
    snapshots.add(path, 1, TEXTS, PICTURES, TEXTS, {"seconds": 1.5})
    assert snapshots.read(path, {"seconds": 1.6}) is None
    snapshots.add(path, 2, TEXTS, PICTURES, TEXTS, {"seconds": 1.6})
    assert epochs(path, {"seconds": 1.6}) == [2]


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_frames_and_a_folder_in_the_way_stops_nothing(tiny_run, tmp_path):
    for name in ("checkpoints", "logs"):
        shutil.copytree(tiny_run / name, tmp_path / name)
    path = tmp_path / "logs" / snapshots.NAME
    before = json.loads(path.read_text(encoding="utf-8"))["frames"]
    resume = ["train.py", *TINY, "--resume", "checkpoints/checkpoint_epoch_1.pt", "--epochs"]
    done = run_forked(*resume, 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = json.loads(path.read_text(encoding="utf-8"))["frames"]
    assert [f["epoch"] for f in after] == [0, 1, 2, 3] and after[:2] == before[:2]
    path.unlink()
    path.mkdir()
    done = run_forked(*resume, 2, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.count("evolution.json could not be written") == 1, done.stderr
