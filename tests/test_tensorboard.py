"""--tensorboard: what TensorBoard itself reads of a run, and what happens without the package."""

import json
from pathlib import Path

import pytest
from conftest import TINY, run_forked

from training.console import Console
from training.tensorboard_log import TensorBoardLog


def events_of(folder):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return events


@pytest.mark.slow
def test_tensorboard_shows_what_metrics_jsonl_holds_after_a_resume_too(tmp_path):
    pytest.importorskip("tensorboard")
    for epochs in (2, 3):
        resume = ["--resume", "auto"] if epochs == 3 else []
        done = run_forked(
            "train.py", *TINY, "--log_interval", 2, "--tensorboard", "--epochs", epochs, *resume, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    events = events_of(tmp_path / "logs" / "tensorboard")
    for kind, name in (
        ("train", "loss_caption"),
        ("train", "lr"),
        ("validation", "exact_match"),
        ("validation", "word_accuracy"),
    ):
        shown = [(e.step, e.value) for e in events.Scalars(f"{kind}/{name}")]
        assert shown == [(r["step"], pytest.approx(r[name], rel=1e-6)) for r in rows if r["kind"] == kind], name
    assert sorted(e.step for e in events.Images("scenes")) == [r["step"] for r in rows if r["kind"] == "validation"]


def test_only_event_files_of_this_program_are_removed(tmp_path):
    """A log that is begun anew, as after --resume, beside a user's baselines, and in a log folder that holds some."""
    summary_writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    folder = tmp_path / "tensorboard"
    for path in (folder, folder / "baseline"):
        with summary_writer(str(path)) as writer:
            writer.add_scalar("validation/exact_match", 0.5, 1)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    history = [{"kind": "validation", "step": 1, "epoch": 1, "exact_match": 0.5}]
    own = []
    for _ in range(2):
        log = TensorBoardLog(str(tmp_path), history, Console(1, 0))
        log.writer.close()
        now = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        assert now.items() >= before.items()
        own.append(now.keys() - before.keys())
    assert len(own[0]) == len(own[1]) == 1 and own[0] != own[1]


@pytest.mark.slow
def test_another_run_sets_the_log_aside(tmp_path):
    pytest.importorskip("tensorboard")
    for _ in range(2):
        assert run_forked("train.py", *TINY, "--tensorboard", "--epochs", 1, cwd=tmp_path).returncode == 0
    assert list((tmp_path / "logs" / "earlier_1" / "tensorboard").iterdir())
    assert len(list((tmp_path / "logs" / "tensorboard").iterdir())) == 1


def test_without_the_package_one_line_before_anything_is_written(tmp_path):
    (tmp_path / "tensorboard.py").write_text("raise ModuleNotFoundError('none', name='tensorboard')", encoding="utf-8")
    done = run_forked(
        "train.py", *TINY, "--tensorboard", "--epochs", 1, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("train.py: --tensorboard needs") and "pip install tensorboard" in done.stderr
    assert {p.name for p in Path(tmp_path).iterdir()} <= {"tensorboard.py", "__pycache__"}
