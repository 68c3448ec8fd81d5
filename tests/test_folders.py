"""The folders of a run: one run at a time, earlier runs set aside, a user's files left alone."""

import json
import os
from types import SimpleNamespace

import pytest
from conftest import ROOT, script_env
from forked import Process

from checkpoints import CheckpointError, save
from runtime.command_line import UserError
from runtime.outputs import MANIFEST, write_output
from training.console import Console
from training.folders import RunLock, prepare
from training.saving import CheckpointWriter

ROW = json.dumps({"kind": "train", "step": 1, "epoch": 0}) + "\n"
STATE = {"format": 3, "position": {"epoch": 1, "batch": 0, "step": 8}}


def files_in(folder):
    paths = (p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


HOLDER = """import sys, time
sys.path.insert(0, {root!r})
from training.folders import RunLock
lock = RunLock({folder!r})
print('held', file=sys.stderr, flush=True)
time.sleep(60)"""


def test_a_second_run_is_refused_by_process_id_and_a_dead_one_holds_nobody_up(tmp_path):
    script = HOLDER.format(root=str(ROOT), folder=str(tmp_path))
    holder = Process(["-c", script], tmp_path, script_env())
    try:
        holder.hear("held")
        with pytest.raises(CheckpointError, match=f"in use by process {holder.pid}.*--log_dir"):
            RunLock(str(tmp_path), "--log_dir")
    finally:
        holder.kill()
        holder.wait()
    assert (tmp_path / "run.lock").read_text(encoding="utf-8") == str(holder.pid)  # what a killed run leaves
    with RunLock(str(tmp_path)):
        assert (tmp_path / "run.lock").read_text(encoding="utf-8") == str(os.getpid())
        with pytest.raises(CheckpointError, match=str(os.getpid())):
            RunLock(str(tmp_path))
    with RunLock(str(tmp_path)):
        pass


@pytest.mark.parametrize("kind", ["text", "link"])
def test_a_users_file_named_run_lock_is_not_overwritten(tmp_path, kind):
    mine = tmp_path / ("run.lock" if kind == "text" else "notes.txt")
    mine.write_text("notes", encoding="utf-8")
    if kind == "link":
        (tmp_path / "run.lock").symlink_to(mine)
    with pytest.raises((CheckpointError, OSError)):
        RunLock(str(tmp_path))
    assert mine.read_text(encoding="utf-8") == "notes"


def test_only_own_unfinished_files_are_removed(tmp_path):
    end = f".visual-language-{'0a' * 8}.tmp"
    own = [f".{name}{end}" for name in ("last.pt", "best.pt", "checkpoint_epoch_12.pt")]
    foreign = [".notes.tmp", ".last.pt.123.tmp", f".model.pt{end}", f"last.pt{end}", f".last.pt{end}.bak"]
    for name in own + foreign:
        (tmp_path / name).write_bytes(b"x")
    prepare(tmp_path, "checkpoint_dir", False, epochs=5)
    assert sorted(os.listdir(tmp_path)) == sorted(foreign)


@pytest.mark.parametrize("has_manifest", [True, False])
def test_an_earlier_run_is_set_aside_and_foreign_files_stay(tmp_path, capsys, has_manifest):
    """Without a manifest: a run of a version that wrote none, which is known by its metrics.jsonl."""
    earlier = {"metrics.jsonl": ROW.encode(), "scenes_epoch_3.png": b"scenes"}
    foreign = {"notes.txt": b"mine", "tensorboard/baseline/events": b"mine"}
    if has_manifest:
        foreign["training_summary.txt"] = b"mine"
    for number in (1, 2):
        for name, data in earlier.items():
            write_output(tmp_path / name, data)
        for name, data in foreign.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        if not has_manifest:
            (tmp_path / MANIFEST).unlink()
        prepare(tmp_path, "log_dir", False, epochs=5)
        assert f"its files are now in {tmp_path / f'earlier_{number}'}" in capsys.readouterr().err
    aside = {f"earlier_{n}/{name}": data for n in (1, 2) for name, data in earlier.items()}
    assert files_in(tmp_path) == {**foreign, **aside}


def test_a_resumed_run_keeps_its_files_and_those_that_were_copied_there(tmp_path, capsys):
    save(tmp_path / "last.pt", STATE)
    (tmp_path / "metrics.jsonl").write_text(ROW, encoding="utf-8")
    before = files_in(tmp_path)
    prepare(tmp_path, "checkpoint_dir", True, epochs=5)
    prepare(tmp_path, "log_dir", True, epochs=5)
    assert files_in(tmp_path) == before and capsys.readouterr().err == ""
    write_output(tmp_path / "last.pt", b"next")


@pytest.mark.parametrize("is_resumed", [True, False])
@pytest.mark.parametrize("name", ["best.pt", "last.pt", "checkpoint_epoch_2.pt"])
def test_a_checkpoint_of_another_program_is_refused(tmp_path, is_resumed, name):
    (tmp_path / name).write_bytes(b"of another program")
    with pytest.raises(
        UserError, match=f"{name}: it was not made here by this program.*choose another --checkpoint_dir"
    ):
        prepare(tmp_path, "checkpoint_dir", is_resumed, epochs=5)
    assert files_in(tmp_path) == {name: b"of another program"}
    prepare(tmp_path, "checkpoint_dir", is_resumed, epochs=1) if "2" in name else None


def test_a_damaged_checkpoint_is_set_aside(tmp_path):
    write_output(tmp_path / "last.pt", b"whole")
    (tmp_path / "last.pt").write_bytes(b"who")
    prepare(tmp_path, "checkpoint_dir", True, epochs=5)
    assert files_in(tmp_path) == {"earlier_1/last.pt": b"who"}


def test_only_checkpoints_that_this_program_wrote_here_are_pruned(tmp_path):
    settings = SimpleNamespace(checkpoint_dir=str(tmp_path), keep_last=1)
    writer = CheckpointWriter(SimpleNamespace(settings=settings, epoch=30), Console(1, 0))
    for epoch in (2, 25, 28, 29, 30, 99):
        writer.manifest.write(f"checkpoint_epoch_{epoch}.pt", b"own")
    for name in ("checkpoint_epoch_1.pt", "checkpoint_epoch_2.pt", "checkpoint_epoch_3_copy.pt"):
        (tmp_path / name).write_bytes(b"mine")
    writer.remove_old()
    left = [f"checkpoint_epoch_{end}.pt" for end in ("1", "2", "25", "30", "3_copy", "99")]
    assert sorted(files_in(tmp_path)) == sorted(left) and files_in(tmp_path)["checkpoint_epoch_2.pt"] == b"mine"
