"""What every script does with a wrong flag, without memory, and with what a console cannot show."""

import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, run_script, script_env
from parrot import parrot

import devices
from checkpoints import CheckpointError, load
from command_line import UserError, exit_code, failure, in_one_line, is_out_of_memory

# ---------------------------------------------------------------------------------------------
# Wrong flags
# ---------------------------------------------------------------------------------------------

WRONG = {
    "train.py": ["--seed", "9" * 20],
    "generate.py": ["--sample", "3"],
    "caption.py": [],
    "export.py": ["--out_dir"],
    "data_utils.py": ["--seed", "9" * 20],
    "benchmark.py": ["--repeats", "0"],
    "colab_train.py": ["huge"],
    "scripts/faults.py": ["--kills", "-1"],
    "scripts/processes.py": ["--processes", "none"],
    "scripts/readme_pictures.py": [],
    "scripts/flags_table.py": ["two\nlines"],
    "benchmarking/plain.py": ["--batch_size", "0"],
}


@pytest.mark.parametrize("script", WRONG)
def test_a_wrong_flag_is_one_line_with_a_pointer_to_help(script, tmp_path):
    done = run_script(script, *WRONG[script], cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.startswith(f"{script}: ") and done.stderr.endswith(f"; see python {script} --help\n")
    assert done.stderr.count("\n") == 1
    assert run_script(script, "--help", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("generate.py", ["--sample", "1", "--out_dir", "o", "--checkpoint", "none.pt"]),
        ("export.py", ["--out_dir", "o", "--checkpoint", "none.pt"]),
        ("scripts/readme_pictures.py", ["none.pt"]),
        ("scripts/processes.py", ["--device", "meta", "--rounds", "1"]),
        ("benchmarking/plain.py", ["--device", "meta"]),
        ("scripts/faults.py", ["--kills", "0", "--terms", "0", "--disks", "0", "--matrix", "none", "--out", "none/x"]),
    ],
)
def test_what_is_not_there_is_one_line(script, flags, tmp_path):
    done = run_script(script, *flags, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f"{script}: ") and done.stderr.count("\n") == 1
    assert "none" in done.stderr or "--device meta" in done.stderr


def test_devices_without_numbers_and_names_of_the_cpu():
    for name in ("meta", "hpu", "mkldnn", "cuda:99", "", "cpu:x"):
        with pytest.raises(ValueError, match="is not available here; use --device auto"):
            devices.choose_device(name)
    assert devices.choose_device("cpu:1") == torch.device("cpu")  # equal to the device that its tensors say they are on


# ---------------------------------------------------------------------------------------------
# Out of memory
# ---------------------------------------------------------------------------------------------


def raised(action):
    with pytest.raises(Exception) as caught:  # noqa: PT011 (of any kind)
        action()
    return caught.value


GPU = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.74 GiB of which 1.06 GiB is free."
APPLE = "MPS backend out of memory (MPS allocated: 8.00 GB). Tried to allocate 512.00 MB on private pool."
MEMORY = [
    (raised(lambda: torch.empty(10**12, 100)), "out of memory (400000.0 GB at once)"),
    (raised(lambda: torch.empty(10**18, 100)), "out of memory"),
    (raised(lambda: torch.empty(10**20, 100)), "out of memory"),
    (raised(lambda: np.empty((10**12, 100))), "out of memory (728. TiB at once)"),
    (raised(lambda: np.empty((10**18, 100))), "out of memory"),
    (torch.OutOfMemoryError(GPU), "out of memory (2.00 GiB at once)"),
    (RuntimeError(APPLE), "out of memory (512.00 MB at once)"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory"),
    (MemoryError(), "out of memory"),
    (OSError(12, "Cannot allocate memory"), "out of memory"),
]


@pytest.mark.parametrize(("error", "line"), MEMORY, ids=lambda x: type(x).__name__ if isinstance(x, Exception) else "")
def test_memory_that_runs_out_is_one_line_whatever_raises_it(error, line, capsys):
    def action():
        raise error

    assert is_out_of_memory(error) and in_one_line(error) == line
    assert exit_code("x.py", action, "make --batch_size smaller") == 1
    assert capsys.readouterr().err == f"x.py: {line}; make --batch_size smaller\n"


def test_other_errors_of_the_program_keep_their_traceback():
    for error in (RuntimeError("shapes do not fit"), UserError("out of memory, as said before"), TypeError("a fault")):
        assert not is_out_of_memory(error)
    with pytest.raises(RuntimeError, match="shapes"):
        failure("x.py", RuntimeError("shapes do not fit"))


# Runs a script's `main` in a process that, from a call on, may take no more memory than it has and 64 MB.
LIMITED = """
import importlib, resource, sys
name, where, what, call, *flags = sys.argv[1:]
module, place = importlib.import_module(name), importlib.import_module(where)
*path, attribute = what.split(".")
for part in path:
    place = getattr(place, part)
clean, calls = getattr(place, attribute), iter(range(10**6))

def limited(*a, **k):
    if next(calls) == int(call):
        pages = int(open("/proc/self/statm", encoding="ascii").read().split()[0])
        most = pages * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        import torch
        torch.ones(10**8)
    return clean(*a, **k)

setattr(place, attribute, limited)
sys.exit(module.main(flags))
"""


def run_limited(name, place, call, *flags, cwd):
    """A script in a process whose memory ends at the given call of `module:attribute`."""
    command = [sys.executable, "-c", LIMITED, name, *place.split(":"), str(call), *map(str, flags)]
    env = script_env({"PYTHONPATH": str(ROOT)})
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=120)


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.pt")}


def test_a_model_too_large_for_any_memory_is_one_line_and_an_earlier_run_stays_where_it_is(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "checkpoints", tmp_path / "checkpoints")
    before = digests(tmp_path / "checkpoints")
    done = run_script("train.py", *TINY, "--z_dim", 10**9, "--d_model", 4096, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("train.py: out of memory (") and "--z_dim 1000000000" in done.stderr
    assert "--batch_size 32" in done.stderr and "make the largest of them smaller" in done.stderr
    assert digests(tmp_path / "checkpoints") == before and not (tmp_path / "checkpoints" / "earlier_1").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_memory_that_runs_out_in_the_middle_of_a_run_leaves_its_last_checkpoint(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path, dirs_exist_ok=True)
    before = digests(tmp_path / "checkpoints")
    done = run_limited("train", "training.trainer:Trainer.train_step", 3, "--resume", "auto", "--epochs", 4, cwd=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert last.startswith("train.py: out of memory (0.4 GB at once); asked for --batch_size 32 --d_model 32"), last
    assert last.endswith(f"{os.path.join('checkpoints', 'last.pt')} of step 16 is whole")
    assert digests(tmp_path / "checkpoints") == before and load(tmp_path / "checkpoints" / "last.pt")["position"]["step"] == 16


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
@pytest.mark.parametrize(
    ("name", "place", "flags"),
    [
        ("generate", "generate:draw_sentences", ["--text", "a red ball", "--out_dir", "o"]),
        ("generate", "torch:load", ["--text", "a red ball", "--out_dir", "o"]),  # not a damaged file
        ("generate", "checkpoints:Circle.load_state_dict", ["--text", "a red ball", "--out_dir", "o"]),  # nor another program's
        ("caption", "caption:read_pictures", ["picture.png"]),
        ("export", "checkpoints:Circle.load_state_dict", ["--out_dir", "o"]),
    ],
)
def test_memory_that_runs_out_where_a_model_is_used_is_one_line(name, place, flags, tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    done = run_limited(name, place, 0, "--checkpoint", parrot(), *flags, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"{name}.py: out of memory (0.4 GB at once); ") and "--checkpoint" in done.stderr
    assert list(tmp_path.glob("o/*")) == []


def test_a_checkpoint_is_not_called_damaged_for_want_of_memory(tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError(GPU)

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(torch.OutOfMemoryError):
        load(parrot())
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError):
        load(tmp_path / "x.pt")
