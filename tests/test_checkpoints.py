import errno
import os
import pickle
import time
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT, script_env
from forked import Process

import checkpoints
import train
from checkpoint_upgrade import FORMAT, upgrade
from checkpoints import CheckpointError, load, newest_valid, save, write_atomically
from runtime.files import whole_file


def state_of(step, saved_at=None, **more):
    return {
        "format": FORMAT,
        "position": {"epoch": 0, "batch": 0, "step": step},
        "saved_at": step if saved_at is None else saved_at,
        **more,
    }


@pytest.fixture
def run_folder(tmp_path):
    """A folder with checkpoints of steps 10, 20 and 30, as a run leaves them."""
    save(tmp_path / "checkpoint_epoch_1.pt", state_of(10, weights=torch.arange(5000.0)))
    save(tmp_path / "checkpoint_epoch_2.pt", state_of(20, weights=torch.arange(5000.0)))
    save(tmp_path / "last.pt", state_of(30, weights=torch.arange(5000.0)))
    return tmp_path


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path):
    path = tmp_path / "last.pt"
    write_atomically(path, b"before")
    script = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from runtime.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically({str(path)!r}, b"x" * 2_000_000)
except OSError as error:
    print(error.strerror, error.filename)
"""
    said = Process(["-c", script], tmp_path, script_env()).finish(60).stdout
    assert "2.0 MB needed" in said and "MB free" in said and str(path) in said
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_full_disk_names_the_file_that_it_had_no_room_for(tmp_path):
    with pytest.raises(OSError, match="No space") as error, whole_file(tmp_path / "00000.png"):
        raise OSError(errno.ENOSPC, "No space left on device")  # as a write says it, without a name
    assert Path(error.value.filename) == tmp_path / "00000.png" and os.listdir(tmp_path) == []


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "last.pt"
    write_atomically(path, b"0" * 3_000_000)
    program = f"""import sys; sys.path.insert(0, {str(ROOT)!r})
from runtime.files import write_atomically
for i in range(40): write_atomically({str(path)!r}, str(i % 10).encode() * 3_000_000)"""
    writer = Process(["-c", program], tmp_path, script_env())
    seen = set()
    while writer.poll() is None:
        data = path.read_bytes()
        assert len(data) == 3_000_000 and len(set(data)) == 1
        seen.add(data[0])
        time.sleep(0.002)
    assert writer.poll() == 0 and len(seen) > 1


# ---------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------


def damage(path, kind):
    data = bytearray(Path(path).read_bytes())
    if kind == "truncated":
        data = data[: len(data) // 2]
    elif kind == "bit-flipped":
        data[len(data) // 2] ^= 16
    elif kind == "empty":
        data = b""
    elif kind == "foreign":
        data = b"GIF89a" + os.urandom(5000)
    Path(path).write_bytes(data)


@pytest.mark.parametrize(
    "kind", ["truncated", "bit-flipped", "empty", "foreign", "missing", "folder", "newer", "other program", "zip"]
)
def test_a_file_that_is_no_good_checkpoint_gets_one_line_that_names_it(run_folder, kind):
    path = run_folder / "last.pt"
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "newer":
        save(path, {**state_of(30), "format": checkpoints.FORMAT + 1})
    elif kind == "other program":
        torch.save({"weights": torch.ones(3)}, path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "hello")
    else:
        damage(path, kind)
    with pytest.raises(CheckpointError) as raised:
        load(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("whole", [True, False])
def test_a_hostile_file_runs_none_of_its_code(tmp_path, whole):
    mark = str(tmp_path / "was_run")
    torch.save({**state_of(1), "model": Hostile(mark)}, tmp_path / "last.pt")
    (tmp_path / "checkpoint_epoch_1.pt").write_bytes(pickle.dumps({**state_of(2), "model": Hostile(mark)}))
    for name in ("last.pt", "checkpoint_epoch_1.pt"):
        with pytest.raises(CheckpointError):
            load(tmp_path / name, whole=whole)
    assert newest_valid(str(tmp_path), report=lambda _: None) == (None, None)
    assert not os.path.exists(mark)
    torch.load(tmp_path / "last.pt", weights_only=False)  # the trap is real
    assert os.path.exists(mark)


@pytest.mark.parametrize("name", ["settings", "vocabulary", "articles", "max_tokens", "model"])
def test_a_checkpoint_that_lacks_a_part_gets_one_line(tiny_run, name):
    state = load(tiny_run / "checkpoints" / "last.pt")
    del state[name]
    with pytest.raises(CheckpointError, match="x.pt does not fit"):
        checkpoints.model_of(state, "x.pt", "cpu")


@pytest.mark.parametrize(
    "bad",
    [
        {"d_model": "wide"},
        {"dropout": float("nan")},
        {"batch_size": 0},
        {"use_vae": 3},
        {"decoder": "x"},
        {"n_heads": 7},
    ],
)
def test_settings_out_of_range_are_refused_by_name(tiny_run, bad):
    state = load(tiny_run / "checkpoints" / "last.pt")
    with pytest.raises(CheckpointError, match=next(iter(bad))):
        checkpoints.settings_of({**state, "settings": {**state["settings"], **bad}}, "x.pt")


# ---------------------------------------------------------------------------------------------
# The newest good one
# ---------------------------------------------------------------------------------------------


def newest(folder):
    said = []
    path, state = newest_valid(str(folder), said.append)
    return (os.path.basename(path) if path else None), (state["position"]["step"] if state else None), said


@pytest.mark.parametrize("kind", ["truncated", "bit-flipped", "empty", "foreign"])
def test_the_newest_good_checkpoint_is_found_and_damaged_ones_are_named_and_left(run_folder, kind):
    assert newest(run_folder) == ("last.pt", 30, [])
    damage(run_folder / "last.pt", kind)
    before = (run_folder / "last.pt").read_bytes()
    name, step, said = newest(run_folder)
    assert (name, step) == ("checkpoint_epoch_2.pt", 20)
    assert len(said) == 1 and "skipped" in said[0] and "last.pt" in said[0]
    assert (run_folder / "last.pt").read_bytes() == before
    for number in (1, 2):
        damage(run_folder / f"checkpoint_epoch_{number}.pt", kind)
    name, step, said = newest(run_folder)
    assert name is None and len(said) == 3


def test_newest_is_what_was_saved_last_whatever_the_file_times_say(run_folder):
    os.utime(run_folder / "checkpoint_epoch_1.pt", (2**31, 2**31))
    assert newest(run_folder)[0] == "last.pt"
    save(run_folder / "checkpoint_epoch_4.pt", state_of(40, saved_at=40))  # the process died before last.pt was renewed
    assert newest(run_folder)[0] == "checkpoint_epoch_4.pt"
    save(run_folder / "last.pt", state_of(25, saved_at=50))  # a branch from an earlier epoch is the run that goes on
    assert newest(run_folder)[:2] == ("last.pt", 25)


def test_best_counts_when_nothing_else_is_left_and_nothing_is_nothing(run_folder, tmp_path):
    for name in ("last.pt", "checkpoint_epoch_1.pt", "checkpoint_epoch_2.pt"):
        os.remove(run_folder / name)
    assert newest(run_folder) == (None, None, [])
    assert newest(run_folder / "nowhere") == (None, None, [])
    save(run_folder / "best.pt", state_of(15))
    save(run_folder / "copy_of_last.pt", state_of(99))
    assert newest(run_folder)[:2] == ("best.pt", 15)


def former_state(**settings):
    """A state as format 2 has it, in what was renamed since."""
    return {
        "format": 2,
        "settings": {"n_sprites": 36, "drills": 0.2, "lambda_cloze": 0.3, **settings},
        "model": {
            "language_model.alone.weight": 1,
            "language_model.cloze.0.weight": 2,
            "scene_decoder.alphabets.ground.own.weight": 3,
            "scene_decoder.properties.networks.ground.0.bias": 4,
            "scene_decoder.ground_logit": 5,
            "caption_network.place": 6,
        },
        "word_classes": {"kind": [-1, 0], "belongs_to": ["ground"], "size": [1], "given": {"1": {"x": 0.5}}},
        "max_words": 36,
        "severity": 0.5,
    }


def test_a_checkpoint_of_the_former_format_gets_the_names_of_today():
    state = upgrade(former_state(decoder="marks", layout="line"))
    assert state["settings"] == {"n_cells": 36, "random_tokens": 0.2, "decoder": "glyphs"}
    assert state["model"] == {
        "language_model.token_embedding.weight": 1,
        "scene_decoder.alphabets.background.own.weight": 3,
        "scene_decoder.properties.networks.background.0.bias": 4,
        "scene_decoder.background_logit": 5,
        "caption_network.position": 6,
    }
    classes = {"class_of": [-1, 0], "belongs_to": ["background"], "size": [1], "grounding": {"1": {"x": 0.5}}}
    assert state["word_classes"] == classes
    assert (state["max_tokens"], state["corruption_strength"], state["format"]) == (36, 0.5, FORMAT)


def test_a_retired_model_names_what_to_use_instead(tmp_path):
    save(tmp_path / "old.pt", former_state(decoder="marks", layout="kinds"))
    with pytest.raises(CheckpointError, match=r"old\.pt was trained with --decoder marks --layout kinds.*objects"):
        load(tmp_path / "old.pt")


def test_a_former_checkpoint_is_drawn_with_and_not_resumed(tmp_path, capsys):
    state = checkpoints.load_export(ROOT / "pretrained" / "grammar")
    assert state["upgraded_from"] == 2
    save(tmp_path / "old.pt", state)
    assert train.main(["--resume", str(tmp_path / "old.pt"), "--checkpoint_dir", str(tmp_path / "c")]) == 1
    assert "can be drawn with, but not resumed" in capsys.readouterr().err
