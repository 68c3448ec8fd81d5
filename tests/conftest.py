"""What the tests share: the real scripts as real processes, and one tiny finished training run."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from forked import CAN_FORK, Process
from shared import VARIABLE, made_once

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: spinning threads slow two cores tenfold

TINY = "--d_model 32 --n_heads 2 --n_layers 1 --hidden_dim 32 --z_dim 54 --num_samples 256 --batch_size 32 --lr 0.002 --use_vae".split()


def script_command(name, *args):
    return [sys.executable, str(ROOT / name), *map(str, args)]


def script_env(env=None):
    own = {k: v for k, v in os.environ.items() if k != VARIABLE}  # tests that a script runs are another test run
    return {**own, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(env or {})}


def run_script(name, *args, cwd, env=None, timeout=600):
    """`python name args` in a folder, to its end; output is text."""
    text = dict(encoding="utf-8", errors="replace")
    return subprocess.run(
        script_command(name, *args), cwd=cwd, env=script_env(env), capture_output=True, timeout=timeout, **text
    )


def start_forked(name, *args, cwd, env=None):
    """A script in a process of its own that starts at once, see forked.py -> Process."""
    return Process([ROOT / name, *args], cwd, script_env(env))


def run_forked(name, *args, cwd, env=None, timeout=600):
    """As `run_script`, for all but how Python and the libraries start, which it leaves out: that takes most of a short run."""
    if not CAN_FORK:
        return run_script(name, *args, cwd=cwd, env=env, timeout=timeout)
    return start_forked(name, *args, cwd=cwd, env=env).finish(timeout)


def run_unheard(name, *args, cwd, both=False):
    """As `run_forked`, with an output that nobody reads any more, as in `| true`; both: standard error, too."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        process = Process([ROOT / name, *args], cwd, script_env(), out=pipe, err=pipe if both else None)
    return process.finish(timeout=120)


def run_here(name, *args, cwd):
    """As `run_script`, but inside this process, which has torch loaded already: for what ends soon, such as an error."""
    out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
    argv = [str(ROOT / name), *map(str, args)]
    try:
        os.chdir(cwd)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.multiple(sys, argv=argv, path=[*sys.path]),
        ):
            runpy.run_path(argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        os.chdir(before)
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


@pytest.fixture(scope="session")
def tiny_run():
    """A folder in which a tiny run of two epochs has finished."""

    def train(folder):
        folder.mkdir()
        done = run_forked("train.py", *TINY, "--epochs", 2, cwd=folder)
        assert done.returncode == 0, done.stderr

    return made_once("tiny_run", train)


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs inside this process draw nothing after an epoch: for tests that look at no picture."""
    for name in ("draw", "add_snapshot"):
        monkeypatch.setattr(f"training.run.Run.{name}", lambda *_: None)
