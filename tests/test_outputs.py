"""No command removes or replaces a file that this program did not make."""

import contextlib
import os
import random
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parrot import KNOWN, blank, parrot

import evaluate
import export
import generate
from runtime.command_line import UserError
from runtime.files import whole_file
from runtime.outputs import MANIFEST, Manifest, OutputFolder, write_output
from training import snapshots
from training.console import Console
from training.folders import RunLock, prepare
from training.metrics_log import MetricsLog
from training.tensorboard_log import TensorBoardLog
from visualization import round_trips, scene_sheet, training_curves

PICTURES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
HISTORY = [
    {"kind": "train", "step": 1, "epoch": 0, "seconds": 1.0, "loss_caption": 1.0},
    {"kind": "validation", "step": 2, "epoch": 1, "seconds": 2.0, "exact_match": 0.5, "word_accuracy": 0.5},
]


# ---------------------------------------------------------------------------------------------
# The manifest
# ---------------------------------------------------------------------------------------------


def test_own_files_are_replaced_and_removed_and_no_others(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.write("own.txt", b"1")
    write_output(tmp_path / "own.txt", b"2")
    (tmp_path / "mine.txt").write_bytes(b"mine")
    (tmp_path / "link.txt").symlink_to("own.txt")
    for name in ("mine.txt", "link.txt"):
        with pytest.raises(OSError, match="not made here by this program"):
            manifest.write(name, b"3")
        Manifest(tmp_path).remove(name)
    assert (tmp_path / "mine.txt").read_bytes() == b"mine" and (tmp_path / "link.txt").read_bytes() == b"2"
    Manifest(tmp_path).remove("own.txt")
    assert sorted(os.listdir(tmp_path)) == [MANIFEST, "link.txt", "mine.txt"]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(OSError, match="not made here"), Manifest(tmp_path).open("list.txt") as f:
        f.write(b"own")
        (tmp_path / "list.txt").write_bytes(b"mine")
    assert (tmp_path / "list.txt").read_bytes() == b"mine" and os.listdir(tmp_path) == ["list.txt"]


def test_a_users_file_with_the_name_of_the_manifest_stays(tmp_path):
    (tmp_path / MANIFEST).write_bytes(b"mine")
    with pytest.raises(OSError, match="move it away"):
        write_output(tmp_path / "a.txt", b"1")
    assert os.listdir(tmp_path) == [MANIFEST] and (tmp_path / MANIFEST).read_bytes() == b"mine"


def test_a_line_that_a_loss_of_power_cut_off_lists_nothing(tmp_path):
    write_output(tmp_path / "a.txt", b"1")
    whole = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(whole[:-10])
    assert not Manifest(tmp_path).owns("a.txt")
    write_output(tmp_path / "b.txt", b"1")
    assert Manifest(tmp_path).owns("b.txt")


def test_unfinished_files_follow_no_link_and_have_the_usual_permissions(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / f".a.txt.visual-language-{'0' * 16}.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError), whole_file(tmp_path / "a.txt") as f:
        f.write(b"x")
    assert victim.read_bytes() == b"mine"
    write_output(tmp_path / "b.txt", b"1")
    assert (tmp_path / "b.txt").stat().st_mode == victim.stat().st_mode


def test_one_command_at_a_time(tmp_path):
    with OutputFolder(tmp_path, "a", "a".__eq__) as outputs:
        outputs.write("a", b"1")
        with pytest.raises(UserError, match="in use by another process"):
            OutputFolder(tmp_path, "a", "a".__eq__, overwrite=True)
    with OutputFolder(tmp_path, "a", "a".__eq__):
        assert not (tmp_path / "a").exists()
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------
# Random folders, random commands
# ---------------------------------------------------------------------------------------------


def write_logs(folder, tensorboard):
    """As a run of one epoch does."""
    with RunLock(folder):
        for flag in ("checkpoint_dir", "log_dir"):
            prepare(folder, flag, False, epochs=1)
        console = Console(1, 0)
        if tensorboard:
            TensorBoardLog(folder, HISTORY, console).writer.close()
            curves = os.path.join(folder, "training_curves.png")
            console.try_to_write("curves", curves, lambda: training_curves(HISTORY, curves))
        MetricsLog(folder, HISTORY, console)
        for name, write in {
            "scenes_epoch_1.png": lambda path: scene_sheet(PICTURES, KNOWN[:2], path),
            "sample_generations.png": lambda path: round_trips(KNOWN[:2], PICTURES, KNOWN[:2], path),
            "evolution.json": lambda path: snapshots.add(path, 1, KNOWN[:2], PICTURES, KNOWN[:2]),
            "training_summary.txt": lambda path: write_output(path, b"summary"),
            "best.pt": lambda path: write_output(path, b"best"),
        }.items():
            path = os.path.join(folder, name)
            console.try_to_write(name, path, lambda path=path, write=write: write(path))


def write_report(folder, force):
    """As evaluate.py does at its end."""
    for name in evaluate.OUTPUTS:
        write_output(os.path.join(folder, name), b"report", force)


COMMANDS = {
    "generate": lambda folder: generate.main(["--checkpoint", parrot(), "--out_dir", folder, "--text", *KNOWN[:2]]),
    "layers": lambda folder: generate.main(
        ["--checkpoint", blank(), "--out_dir", folder, "--text", KNOWN[0], "--layers"]
    ),
    "from folder": lambda folder: generate.main(
        ["--checkpoint", parrot(), "--out_dir", folder, "--overwrite", "--texts_file", f"{folder}/captions.jsonl"]
    ),
    "export": lambda folder: export.main(["--checkpoint", blank(), "--out_dir", folder]),
    "logs": lambda folder: write_logs(folder, tensorboard=False),
    "tensorboard": lambda folder: write_logs(folder, tensorboard=True),
    "report": lambda folder: write_report(folder, force=False),
}
NAMES = (
    "00000.png 00001.png 00002.png 00017.png captions.jsonl contact_sheet.png layers.png model.json model.safetensors "
    "metrics.jsonl training_curves.png training_summary.txt scenes_epoch_1.png evolution.json sample_generations.png "
    "best.pt last.pt checkpoint_epoch_1.pt metrics.json report.md index.html partial.json run.lock notes.txt "
    "tensorboard/events.out.tfevents.1.host.1.0 tensorboard/baseline/events earlier_1/notes.txt "
    ".captions.jsonl.4711.tmp .00000.png.1.tmp .last.pt.7.tmp"
).split()
CONTENTS = (b"mine", b"", b'{"text": "a", "image": "00017.png", "caption": "a red ball"}\n', b"\x89PNG\r\n\x1a\n")


def snapshot(folder):
    paths = (p for p in Path(folder).rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def check_that_no_users_file_is_lost(steps):
    """steps: names of commands, and (name, content) of files that a user puts in the folder unless one is there, or changes."""
    with tempfile.TemporaryDirectory() as folder:
        mine = {}
        for step in steps:
            if isinstance(step, str):
                with contextlib.suppress(OSError, UserError):
                    COMMANDS[step](folder)
            else:
                name, content = step
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                    mine[name] = content
            now = snapshot(folder)
            assert {name: now.get(name) for name in mine} == mine, steps


FILES = st.tuples(st.sampled_from(NAMES), st.sampled_from(CONTENTS))
CHEAP = st.sampled_from(["logs", "report", "export"])
OTHERS = st.sampled_from(sorted(COMMANDS))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(FILES | CHEAP, min_size=3, max_size=8))
def test_logs_reports_and_exports_leave_a_users_files_alone(steps):
    check_that_no_users_file_is_lost(steps)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.lists(FILES, min_size=1, max_size=6), OTHERS, st.lists(FILES, max_size=3), OTHERS)
def test_commands_leave_a_users_files_alone(first, one, second, two):
    check_that_no_users_file_is_lost([*first, one, *second, two])


@pytest.mark.slow
def test_many_folders_and_commands():
    rng = random.Random(0)
    for _ in range(60):
        steps = [(rng.choice(NAMES), rng.choice(CONTENTS)) for _ in range(rng.randrange(12))]
        steps += [rng.choice(sorted(COMMANDS)) for _ in range(4)]
        rng.shuffle(steps)
        check_that_no_users_file_is_lost(steps)
