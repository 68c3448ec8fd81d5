"""Runs that are stopped and go on: kills, signals, folders."""

import json
import os
import shutil
import signal
import sys

import pytest
from conftest import TINY, run_forked, run_here, run_script, start_forked

import checkpoints
import train
from text import grammar

ONE_EPOCH = [*TINY, "--epochs", 1]


def rows(folder):
    return [json.loads(line) for line in (folder / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def copy_of(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def everything_in(folder):
    return {
        p.relative_to(folder): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()
    }


# ---------------------------------------------------------------------------------------------
# Kills, signals, full disks and equality: scripts/faults.py, in short
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_nothing_is_lost_short(tmp_path):
    flags = "--kills 12 --terms 4 --disks 2 --matrix short --out out.json".split()
    done = run_script("scripts/faults.py", *flags, cwd=tmp_path, timeout=1200)
    assert done.returncode == 0, done.stderr
    cases = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["cases"]
    assert [case["n"] for case in cases] == [12, 4, 2, 4] and not any(case["failures"] for case in cases)


# ---------------------------------------------------------------------------------------------
# --resume
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_finished_run_reports_again_and_changes_no_checkpoint(tiny_run, tmp_path):
    folder = copy_of(tiny_run, tmp_path)
    before = everything_in(folder / "checkpoints")
    metrics = rows(folder)
    done = run_forked("train.py", "--resume", "auto", "--preset", "quick", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("exact match on 256 unseen sentences")
    assert "resuming checkpoints/last.pt at epoch 2" in done.stderr
    assert "--preset quick is left aside" in done.stderr
    after = everything_in(folder / "checkpoints")
    assert {k: v for k, v in after.items() if k.suffix == ".pt"} == {
        k: v for k, v in before.items() if k.suffix == ".pt"
    }
    assert rows(folder) == metrics


@pytest.mark.slow
def test_epochs_may_grow_and_curves_go_on(tiny_run, tmp_path):
    folder = copy_of(tiny_run, tmp_path)
    before = rows(folder)
    with open(folder / "logs" / "metrics.jsonl", "a", encoding="utf-8") as f:
        f.write('{"kind": "train", "step": 17, "epoch": 2, "sec')  # what a kill leaves
    seconds = checkpoints.load(folder / "checkpoints" / "last.pt")["seconds"]
    done = run_forked("train.py", "--resume", "checkpoints/checkpoint_epoch_2.pt", "--epochs", 3, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "at epoch 2, step 16 of 24" in done.stderr
    assert "the learning rate goes on at" in done.stderr and "--epochs 3 instead of 2" in done.stderr
    after = rows(folder)
    assert after[: len(before)] == before
    assert [r["step"] for r in after[len(before) :]] == [24, 24]
    assert checkpoints.load(folder / "checkpoints" / "last.pt")["seconds"] > seconds
    assert (folder / "checkpoints" / "checkpoint_epoch_3.pt").exists()
    refused = run_here("train.py", "--resume", "auto", "--epochs", 2, cwd=folder)
    assert refused.returncode == 1 and "--epochs 2" in refused.stderr and "completed 3" in refused.stderr


@pytest.mark.slow
def test_what_cannot_be_resumed_is_said_in_one_line_and_nothing_is_touched(tiny_run, tmp_path):
    folder = copy_of(tiny_run, tmp_path)
    (folder / "damaged.pt").write_bytes((folder / "checkpoints" / "last.pt").read_bytes()[:-1000])
    before = everything_in(folder)
    for flags, words in [
        (["--resume", "checkpoints/none.pt"], ["checkpoints/none.pt", "does not exist"]),
        (["--resume", "damaged.pt"], ["damaged.pt", "damaged"]),
        (["--resume", "auto", "--d_model", 64], ["--d_model 64", "has 32"]),
        (
            ["--resume", "checkpoints/last.pt", "--preset", "quick", "--num_samples", 512],
            ["--num_samples 512", "has 256"],
        ),
        (["--resume", "auto", "--no-use_vae"], ["--use_vae False", "has True"]),
        (["--resume", "auto", "--preset", "quick", "--use_vq"], ["--use_vq True", "has False"]),
    ]:
        done = run_here("train.py", *flags, cwd=folder)
        assert done.returncode == 1 and done.stdout == ""
        assert len(done.stderr.splitlines()) == 1 and all(w in done.stderr for w in ["train.py:", *words]), done.stderr
        assert everything_in(folder) == before


@pytest.mark.slow
def test_auto_skips_damage_leaves_it_and_starts_fresh_without_any(tiny_run, tmp_path):
    folder = copy_of(tiny_run, tmp_path)
    for name in os.listdir(folder / "checkpoints"):
        if name.endswith(".pt"):
            os.truncate(folder / "checkpoints" / name, 1000)
    os.rename(folder / "checkpoints" / "checkpoint_epoch_2.pt", folder / "checkpoints" / "checkpoint_epoch_9.pt")
    done = run_forked("train.py", "--resume", "auto", *ONE_EPOCH, "--keep_last", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    for name in ("last", "best", "checkpoint_epoch_1", "checkpoint_epoch_9"):
        assert f"skipped: checkpoints/{name}.pt" in done.stderr
    assert "nothing to resume in checkpoints; starting fresh" in done.stderr
    assert (folder / "checkpoints" / "checkpoint_epoch_9.pt").stat().st_size == 1000  # left in place
    assert checkpoints.load(folder / "checkpoints" / "checkpoint_epoch_1.pt")["position"]["step"] == 8
    assert [r["step"] for r in rows(folder)] == [8, 8]


@pytest.mark.slow
def test_a_fresh_run_sets_an_earlier_one_aside(tiny_run, tmp_path):
    folder = copy_of(tiny_run, tmp_path)
    before = (folder / "checkpoints" / "best.pt").read_bytes()
    metrics = rows(folder)
    done = run_forked("train.py", *ONE_EPOCH, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "its files are now in checkpoints/earlier_1" in done.stderr
    assert (folder / "checkpoints" / "earlier_1" / "best.pt").read_bytes() == before
    assert (folder / "checkpoints" / "earlier_1" / "checkpoint_epoch_2.pt").exists()
    assert [
        json.loads(x)
        for x in (folder / "logs" / "earlier_1" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ] == metrics
    assert len(rows(folder)) == 2 and not (folder / "checkpoints" / "checkpoint_epoch_2.pt").exists()


def test_another_captions_file_is_refused_and_a_moved_one_is_not(no_pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        train.Run, "finish", lambda self, sentences: {"last.pt": 0.0}
    )  # its thousand sentences are not needed here
    lines = grammar.sample_sentences(40, "train", 0)
    for name, text in (
        ("a.txt", lines),
        ("moved.txt", lines),
        ("other.txt", lines[1:]),
        ("words.txt", [*lines, "a heavy zeppelin"]),
    ):
        (tmp_path / name).write_text("\n".join(text), encoding="utf-8")
    tiny = [str(a) for a in TINY]
    assert train.main([*tiny, "--epochs", "1", "--captions_file", "a.txt"]) == 0
    capsys.readouterr()
    for name in ("other.txt", "words.txt"):
        assert train.main(["--resume", "auto", "--captions_file", name]) == 1
        said = capsys.readouterr().err
        assert name in said and "other sentences" in said and len(said.splitlines()) == 1
    assert train.main(["--resume", "auto", "--captions_file", "moved.txt"]) == 0


def test_a_captions_file_that_is_not_there_any_more_is_asked_for(no_pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train.Run, "finish", lambda self, sentences: {"last.pt": 0.0})
    lines = grammar.sample_sentences(60, "train", 0)
    (tmp_path / "a.txt").write_text("\n".join(lines[:40]), encoding="utf-8")
    (tmp_path / "test.txt").write_text("\n".join(lines[40:]), encoding="utf-8")
    files = ["--captions_file", "a.txt", "--test_file", "test.txt"]
    assert train.main([*map(str, TINY), "--num_samples", "64", "--epochs", "1", *files]) == 0
    capsys.readouterr()
    for name, flag in (("a.txt", "--captions_file"), ("test.txt", "--test_file")):
        (tmp_path / name).rename(tmp_path / "moved.txt")
        capsys.readouterr()
        assert train.main(["--resume", "auto"]) == 1
        run = os.path.join("checkpoints", "last.pt")
        said = capsys.readouterr().err
        assert (
            said
            == f"train.py: {name}, on which the run of {run} was trained, is not there; if it was moved, name it: {flag} NEW\n"
        )
        assert train.main(["--resume", "auto", flag, "moved.txt"]) == 0
        (tmp_path / "moved.txt").rename(tmp_path / name)
    (tmp_path / "test.txt").write_text("\n".join(lines[41:]), encoding="utf-8")
    capsys.readouterr()
    assert train.main(["--resume", "auto"]) == 1
    assert "or its --val_file or --test_file, holds other sentences" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------
# Signals, as a shell sends them
# ---------------------------------------------------------------------------------------------


def stopped(folder, *flags, after, numbers):
    """Start train.py, send signals once it has said a line with `after`; returns the exit code and what it said."""
    process = start_forked("train.py", *flags, cwd=folder)
    process.hear(after)
    process.send_signal(signal.SIGSTOP)  # all of them arrive at once
    for number in [*numbers, signal.SIGCONT]:
        process.send_signal(number)
    done = process.finish(timeout=120)
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    "number, after, step",
    [
        (signal.SIGINT, "step 3/16", range(3, 8)),  # between steps
        (signal.SIGTERM, "step 8/16", [8]),  # in validation
        (signal.SIGHUP, "epoch 2: exact match", [16]),  # in the final sampling
    ],
)
def test_a_signal_saves_says_how_to_go_on_and_the_command_does(tmp_path, number, after, step):
    folders = ["--checkpoint_dir", "my models", "--log_dir", "l"]
    code, said = stopped(tmp_path, *TINY, "--epochs", 2, "--log_interval", 1, *folders, after=after, numbers=[number])
    assert code == 128 + number, said
    last = said.splitlines()[-1]
    assert last.endswith("go on with: python train.py --resume auto --checkpoint_dir 'my models' --log_dir l")
    state = checkpoints.load(tmp_path / "my models" / "last.pt")
    assert state["position"]["step"] in step and f"step {state['position']['step']};" in last
    done = run_forked("train.py", "--resume", "auto", *folders, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = [
        (r["kind"], r["step"])
        for r in map(json.loads, (tmp_path / "l" / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    ]
    assert len(seen) == len(set(seen)) == 18  # 16 steps and 2 validations


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_second_signal_ends_the_process_at_once_and_the_folder_stays_good(tmp_path):
    code, said = stopped(
        tmp_path, *TINY, "--epochs", 50, after="epoch 1: exact", numbers=[signal.SIGINT, signal.SIGTERM]
    )
    assert code in (130, 143) and "go on with" not in said
    assert checkpoints.newest_valid(str(tmp_path / "checkpoints"))[1]["position"]["step"] >= 0


def test_handlers_are_handed_back_so_that_a_notebook_can_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    assert train.main(["--resume", "none.pt"]) == 1
    assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_two_runs_in_one_folder_the_second_is_refused_and_a_killed_one_is_forgotten(tmp_path):
    process = start_forked("train.py", *TINY, cwd=tmp_path)
    try:
        process.hear("step")
        for flags in (["--resume", "auto"], ["--checkpoint_dir", "other"]):  # the second would share the log folder
            done = run_forked("train.py", *TINY, *flags, cwd=tmp_path)
            assert done.returncode == 1 and f"in use by process {process.pid}" in done.stderr
    finally:
        process.kill()
        process.wait()
    done = run_forked("train.py", "--resume", "auto", "--epochs", 1, *TINY, cwd=tmp_path)
    assert "in use" not in done.stderr and done.returncode == (1 if "contradicts" in done.stderr else 0), done.stderr


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_takes_no_new_file_is_noticed_before_the_first_step(
    no_pictures, resume, tmp_path, monkeypatch, capsys
):
    """Also where an earlier run's lock can be opened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train.Run, "finish", lambda self, sentences: {"last.pt": 0.0})
    assert not resume or train.main([*map(str, TINY), "--num_samples", "64", "--epochs", "1"]) == 0
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "checkpoints" / "run.lock").touch()
    capsys.readouterr()
    (tmp_path / "checkpoints").chmod(0o555)
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # whom no permission stops

        def refuse(dir):
            raise PermissionError(13, "Permission denied", os.path.join(dir, "tmp"))

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    try:
        flags = (
            ["--resume", "auto", "--epochs", "2"]
            if resume
            else [*map(str, TINY), "--num_samples", "64", "--epochs", "1"]
        )
        assert train.main(flags) == 1
    finally:
        (tmp_path / "checkpoints").chmod(0o755)
    said = capsys.readouterr().err
    assert (
        said.splitlines()[-1]
        == "train.py: checkpoints cannot be written to (Permission denied); choose another --checkpoint_dir"
    )
    assert not any(line.startswith("epoch") for line in said.splitlines())


@pytest.mark.slow
def test_folders_that_cannot_be_written_to(tmp_path):
    (tmp_path / "checkpoints").write_text("a file", encoding="utf-8")
    done = run_forked("train.py", *ONE_EPOCH, "--warmup_steps", 0, cwd=tmp_path)
    assert (
        done.returncode == 1
        and len(done.stderr.splitlines()) == 1
        and "checkpoints cannot be written to" in done.stderr
    )
    (tmp_path / "l").write_text("a file", encoding="utf-8")
    done = run_forked("train.py", *ONE_EPOCH, "--checkpoint_dir", "c", "--log_dir", "l", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.count("metrics l/metrics.jsonl could not be written") == 1
    assert checkpoints.load(tmp_path / "c" / "last.pt")["position"]["step"] == 8
