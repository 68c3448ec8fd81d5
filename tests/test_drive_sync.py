"""Copies on Drive: made while a run goes on, taken back, and a Drive that fails."""

import shutil
import time
from pathlib import Path

import pytest

from checkpoints import load, save
from colab import drive_sync
from runtime.outputs import MANIFEST

FAKE = Path(__file__).parent / "fake_colab"


@pytest.fixture
def said():
    return []


@pytest.fixture
def local(tiny_run, tmp_path):
    """A local run of 8 steps: real checkpoints, copied."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    shutil.copy(tiny_run / "checkpoints" / "checkpoint_epoch_1.pt", folder / "last.pt")
    shutil.copy(tiny_run / "checkpoints" / "checkpoint_epoch_1.pt", folder / "best.pt")
    return folder


def copy_all(local, drive, say, keep=2):
    """One round of copies and its end -> (DriveCopy, whether all was copied)."""
    copy = drive_sync.DriveCopy(drive, keep, 0, say)
    copy.start({kind: str(local / f"{kind}.pt") for kind in ("last", "best")}, [str(local / "*.png")])
    return copy, copy.finish()


def names(folder):
    return sorted(p.name for p in Path(folder).iterdir() if p.name != MANIFEST)


def test_copies_have_new_names_load_and_few_stay(local, tmp_path, said):
    drive, state = tmp_path / "drive" / "run", load(local / "last.pt")
    (local / "curves.png").write_bytes(b"png")
    for step in (8, 9, 10):
        state["position"]["step"] = step
        save(local / "last.pt", state)
        copy, whole = copy_all(local, drive, said.append)
        assert whole and copy.step == step
    assert [n for n in names(drive) if n.startswith("last")] == ["last_step_000000009.pt", "last_step_000000010.pt"]
    assert load(drive / "last_step_000000010.pt")["position"]["step"] == 10
    assert (drive / "curves.png").read_bytes() == b"png" and said == []
    assert names(local) == ["best.pt", "curves.png", "last.pt"]


def test_a_users_files_on_drive_stay(local, tmp_path, said):
    drive, state = tmp_path / "drive" / "run", load(local / "last.pt")
    drive.mkdir(parents=True)
    mine = {"curves.png": b"mine", "last_step_000000001.pt": b"mine", ".last_step_000000001.pt.7.tmp": b"mine"}
    for name, data in mine.items():
        (drive / name).write_bytes(data)
    (local / "curves.png").write_bytes(b"png")
    for step in (8, 9, 10):
        state["position"]["step"] = step
        save(local / "last.pt", state)
        copy_all(local, drive, said.append)
    assert {name: (drive / name).read_bytes() for name in mine} == mine
    assert "curves.png was not copied" in said[0] and not (drive / "last_step_000000008.pt").exists()


def test_copies_are_made_while_the_run_goes_on(local, tmp_path, said):
    copy = drive_sync.DriveCopy(tmp_path / "drive" / "run", 2, 0, said.append)
    copy.start({"last": str(local / "last.pt")}, [])
    end = time.monotonic() + 30
    while not copy.names("last") and time.monotonic() < end:
        time.sleep(0.1)
    assert copy.names("last") == ["last_step_000000008.pt"] and copy.thread.is_alive()
    assert copy.finish()


def test_a_full_drive_is_said_once_and_costs_nothing_local(local, tmp_path, said, monkeypatch):
    drive, before = tmp_path / "drive" / "run", (local / "last.pt").read_bytes()
    full = lambda path, mode="r", **k: open("/dev/full" if "x" in mode else path, mode.replace("x", "w"), **k)  # noqa: E731
    monkeypatch.setattr("runtime.files.open", full, raising=False)
    copy, whole = copy_all(local, drive, said.append)
    assert not whole and copy.step == -1 and names(drive) == []
    assert len(said) == 1 and "No space left" in said[0] and "training goes on" in said[0] and "\n" not in said[0]
    assert (local / "last.pt").read_bytes() == before


def test_a_copy_that_arrives_cut_off_does_not_count(local, tmp_path, said, monkeypatch):
    drive, write = tmp_path / "drive" / "run", drive_sync.write_output
    monkeypatch.setattr(drive_sync, "write_output", lambda path, data: write(path, data[: len(data) // 2]))
    copy, whole = copy_all(local, drive, said.append)
    assert not whole and copy.step == -1 and "bytes arrived" in said[0] and names(drive) == []


def test_a_cut_off_file_on_drive_is_named_passed_over_and_left(tiny_run, local, tmp_path, said):
    drive, fresh = tmp_path / "drive" / "run", tmp_path / "fresh"
    copy_all(local, drive, said.append)
    whole = (tiny_run / "checkpoints" / "last.pt").read_bytes()
    (drive / "last_step_000000016.pt").write_bytes(whole[: len(whole) // 2])
    fresh.mkdir()
    copy = drive_sync.DriveCopy(drive, 2, 0, said.append)
    assert drive_sync.take_newest(copy, fresh, said.append) == str(fresh / "last.pt")
    assert load(fresh / "last.pt")["position"]["step"] == 8 and load(fresh / "best.pt")
    assert "last_step_000000016.pt is cut off" in said[0] and "\n" not in said[0]
    shutil.copy(tiny_run / "checkpoints" / "last.pt", local / "last.pt")
    copy.start({"last": str(local / "last.pt")}, [])
    assert copy.finish() and load(drive / "last_step_000000016-2.pt")["position"]["step"] == 16
    assert (drive / "last_step_000000016.pt").stat().st_size == len(whole) // 2 and (
        drive / "last_step_000000008.pt"
    ).exists()


def test_the_newer_of_drive_and_local_is_taken_and_nothing_local_is_lost(tiny_run, local, tmp_path, said):
    drive = tmp_path / "drive" / "run"
    ahead = tmp_path / "ahead"
    ahead.mkdir()
    shutil.copy(tiny_run / "checkpoints" / "last.pt", ahead / "last.pt")
    shutil.copy(local / "best.pt", ahead / "best.pt")
    copy_all(ahead, drive, said.append)
    behind, copy = (local / "last.pt").read_bytes(), drive_sync.DriveCopy(drive, 2, 0, said.append)
    assert drive_sync.take_newest(copy, ahead, said.append) == ""  # the local one is as new
    assert drive_sync.take_newest(copy, local, said.append) == str(local / "last.pt")
    assert load(local / "last.pt")["position"]["step"] == 16
    assert (local / "last_before_drive_1.pt").read_bytes() == behind
    assert names(local) == ["best.pt", "last.pt", "last_before_drive_1.pt"]


def test_another_run_on_drive_is_left_alone(tiny_run, local, tmp_path, said):
    drive, state = tmp_path / "drive" / "run", load(tiny_run / "checkpoints" / "last.pt")
    state["settings"]["seed"] = 7
    other = tmp_path / "other"
    other.mkdir()
    save(other / "last.pt", state)
    copy_all(other, drive, said.append)
    before, copy = names(local), drive_sync.DriveCopy(drive, 2, 0, said.append)
    with pytest.raises(drive_sync.OtherRun, match="--seed 7"):
        drive_sync.take_newest(copy, local, said.append)
    assert names(local) == before


def test_mounting_says_in_one_line_why_there_is_no_drive(tmp_path, monkeypatch, said):
    assert drive_sync.mount("circle", said.append) == "" and "not Colab" in said.pop()
    monkeypatch.syspath_prepend(FAKE)
    monkeypatch.setenv("DRIVE_MOUNT", str(tmp_path / "drive"))
    monkeypatch.setenv("FAKE_DRIVE", "fails")
    assert (
        drive_sync.mount("circle", said.append) == "" and "mount failed" in said[0] and "training goes on" in said.pop()
    )
    monkeypatch.setenv("FAKE_DRIVE", "ok")
    assert drive_sync.mount("circle", said.append) == str(tmp_path / "drive" / "MyDrive" / "circle") and len(said) == 1
    drive_sync.flush(said.append)
    assert (tmp_path / "drive.flushed").exists()
