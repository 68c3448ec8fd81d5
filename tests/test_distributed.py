"""Several processes for real: gloo on the CPU, started one by one or by torchrun.

Started as a script, this file is one process of a group that writes the gradients of two steps to a file.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from unittest import mock

import pytest
import torch
from conftest import ROOT, TINY, script_env
from forked import Process

import checkpoints
from losses import token_loss
from runtime.signals import StopWhenSafe
from settings import resolve
from text.grammar import sample_sentences
from training import distributed
from training.data import open_data
from training.trainer import Trainer

QUIET = "--no-use_vae --word_dropout 0 --no-channel".split()  # nothing random but the sentences
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and torchrun")


def two_steps(decoder, group, captions_file=""):
    """The gradients of a batch of 60 and of a last one of 37, with nothing random but the sentences."""
    sizes = dict(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=150, n_cells=25)
    run = dict(batch_size=60, num_samples=97, epochs=1, clip=0.0, lr=0.0)
    nothing_random = dict(word_dropout=0.0, latent_dropout=0.0, channel=False)
    flags = dict(decoder=decoder, **sizes, **run, **nothing_random)
    opened = open_data(resolve({**flags, **({"captions_file": captions_file} if captions_file else {})}))
    assert opened.settings.random_tokens == (0.2 if captions_file else 0.0)
    trainer, out = Trainer(opened.settings, opened.training, torch.device("cpu"), group), {}
    for step in range(2):
        with mock.patch("channel.add_noise", lambda picture, *_: picture):
            parts = trainer.train_step()
        out.update({f"{decoder} {step} loss {k}": v.clone() for k, v in parts.items()})
        out.update(
            {f"{decoder} {step} {n}": p.grad.clone() for n, p in trainer.cycle.named_parameters() if p.grad is not None}
        )
    return out


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(command, cwd, size=2):
    """The command, as of `Forked`, as processes of one group."""
    address = dict(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size)
    )
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    return [Process(command, cwd, script_env({**address, **rank})) for rank in ranks]


def training(*flags):
    """The command of a tiny run."""
    return [ROOT / "train.py", *TINY, *flags]


def finish(processes, timeout=60):
    """Exit codes and what each wrote to stderr; nobody may hang."""
    try:
        done = [p.finish(timeout) for p in processes]
    finally:
        for p in processes:
            p.kill()
    return [d.returncode for d in done], [d.stderr for d in done]


def losses(folder):
    return [json.loads(line) for line in (folder / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


# ---------------------------------------------------------------------------------------------
# Equal to one process
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("size", "decoder", "captions_file"), [(2, "conv", ""), (2, "glyphs", ""), (5, "glyphs", "c")])
def test_several_processes_have_the_gradient_of_one(tmp_path, monkeypatch, size, decoder, captions_file):
    """With a captions file a fifth of the rows have random tokens; the first of five processes has a fifth of the rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c").write_text("\n".join(sample_sentences(200, "train", 0)), encoding="utf-8")
    codes, said = finish(start([__file__, decoder, captions_file], tmp_path, size), 120)
    assert codes == [0] * size, said
    one = two_steps(decoder, distributed.SINGLE_PROCESS, captions_file)
    for rank in range(size):
        several = torch.load(tmp_path / f"{rank}.pt")
        assert several.keys() == one.keys()
        for name, value in one.items():
            error, norm = (several[name] - value).norm(), value.norm()
            assert error <= 3e-5 * norm + 1e-9, (name, float(error), float(norm))


def test_a_process_without_words_has_weight_and_loss_0():
    group, none = distributed.ProcessGroup(0, 5), torch.zeros(2, 3, dtype=torch.long)
    logits = torch.randn(2, 3, 9, requires_grad=True)
    loss = token_loss(logits, none) * group.share_of_targets(none.repeat(5, 1))
    loss.backward()
    assert loss == 0 and logits.grad.abs().sum() == 0


@pytest.mark.slow
def test_they_train_alike_and_a_run_goes_on_with_another_number_of_processes(tmp_path):
    flags = [*QUIET, "--num_samples", 75, "--batch_size", 16, "--epochs", 1, "--log_interval", 1]
    for size in (1, 2):
        (tmp_path / str(size)).mkdir()
        codes, said = finish(start(training(*flags), tmp_path / str(size), size))
        assert codes == [0] * size and not any(said[1:]), said
    one, two = (losses(tmp_path / str(size)) for size in (1, 2))
    assert [r["step"] for r in one] == [r["step"] for r in two] == [1, 2, 3, 4, 5, 5]
    for a, b in zip(one[:-1], two[:-1], strict=True):  # the last step has 11 sentences
        assert a["lr"] == b["lr"] and a["corruption_strength"] == b["corruption_strength"]
        apart = {k: abs(a[k] - b[k]) / (1 + abs(a[k])) for k in a if k.startswith("loss_")}
        assert max(apart.values()) < 3e-2, apart  # the captioner's picture always has a little noise of its own
    names = {
        size: checkpoints.load(tmp_path / str(size) / "checkpoints" / "last.pt")["model"].keys() for size in (1, 2)
    }
    assert names[1] == names[2]
    for size in (1, 2):  # and now the other way round
        command = [ROOT / "train.py", "--resume", "auto", "--epochs", 2]
        codes, said = finish(start(command, tmp_path / str(size), 3 - size))
        assert codes == [0] * (3 - size) and "resuming checkpoints/last.pt at epoch 1, step 5 of 10" in said[0], said
    one, two = (losses(tmp_path / str(size)) for size in (1, 2))
    assert [r["step"] for r in one] == [r["step"] for r in two] and two[-1]["step"] == 10
    a, b = ([r for r in rows if r["kind"] == "train"][-1] for rows in (one, two))
    assert all(abs(a[k] - b[k]) < 1e-2 * (1 + abs(a[k])) for k in a if k.startswith("loss_"))


@pytest.mark.slow
def test_torchrun(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(ROOT / "train.py"),
    ]
    command += [str(a) for a in [*TINY, "--epochs", 1, "--log_interval", 4]]
    done = subprocess.run(command, cwd=tmp_path, env=script_env(), capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("exact match on 256 unseen sentences") == 1 and done.stderr.count("step 4/8") == 1
    assert not list(tmp_path.glob("*/*.tmp")) and len(losses(tmp_path)) == 3


# ---------------------------------------------------------------------------------------------
# Ends
# ---------------------------------------------------------------------------------------------

LONG = training("--epochs", 99, "--log_interval", 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, told", [(signal.SIGTERM, [1]), (signal.SIGINT, [0, 1, 1])], ids=["to one", "to all, twice"]
)
def test_a_signal_to_any_process_saves_and_ends_all(tmp_path, number, told):
    processes = start(LONG, tmp_path)
    processes[0].hear("step 2/")
    for rank in told:
        processes[rank].send_signal(number)
    codes, said = finish(processes)
    assert codes == [128 + number] * 2, said
    last = said[0].splitlines()[-1]
    state = checkpoints.load(tmp_path / "checkpoints" / "last.pt")
    assert last.endswith("go on with: torchrun --nproc_per_node=2 train.py --resume auto") and said[1] == ""
    assert f"step {state['position']['step']};" in last


@pytest.mark.slow
def test_a_signal_while_the_first_validates_ends_all(tmp_path):
    processes = start(LONG, tmp_path)
    processes[0].hear("step 8/")
    processes[0].send_signal(signal.SIGTERM)
    codes, said = finish(processes)
    assert codes == [143, 143] and "epoch 1, step 8; go on with" in said[0], said


# Gloo may lose the news that a process is gone; then the others wait for this long, instead of a minute.
SOON_LOST = """
import datetime, sys
from training import distributed
distributed.SILENCE_IN_A_STEP = datetime.timedelta(seconds=15)
import train
train.end(train.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_second_signal_ends_a_process_at_once_and_the_others_follow(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    processes = start(["-c", SOON_LOST, *LONG[1:]], tmp_path)
    processes[0].hear("step 2/")
    processes[1].send_signal(signal.SIGSTOP)  # the processes cannot agree now
    processes[0].send_signal(signal.SIGTERM)
    time.sleep(2.5)
    processes[0].send_signal(signal.SIGTERM)
    assert processes[0].wait(timeout=20) == 143  # while it waits for the other
    processes[1].send_signal(signal.SIGCONT)
    codes, said = finish(processes)
    assert codes == [143, 1] and "go on with" not in said[0] and said[1] == "", said


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_killed_ends_the_others(tmp_path, lost):
    processes = start(LONG, tmp_path)
    processes[0].hear("step 3/")
    processes[lost].kill()
    begin = time.monotonic()
    codes, said = finish(processes)
    assert time.monotonic() - begin < 20
    assert codes[lost] == -signal.SIGKILL and codes[1 - lost] == 1, said
    assert "Traceback" not in said[0] + said[1] and said[1] == ""
    state = checkpoints.load(tmp_path / "checkpoints" / "last.pt")
    if lost == 1:
        last = said[0].splitlines()[-1]
        assert (
            f"another process of this run was lost at epoch 0, step {state['position']['step']}; go on with: torchrun"
            in last
        )
        assert checkpoints.all_finite(state) and state["position"]["step"] >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, code, words",
    [
        (["--batch_size", 31], 1, "--batch_size 31 cannot be divided evenly among 2 processes"),
        (["--captions_file", "none.txt"], 1, "none.txt: No such file"),
        (["--resume", "none.pt"], 1, "none.pt does not exist"),
        (["--checkpoint_dir", "file"], 1, "file cannot be written to"),
        (["--device", "cuda:99"], 1, "--device cuda:99 is not available here"),
        (["--d_model", 33], 2, "--d_model 33 is not a multiple"),
    ],
)
def test_a_failure_is_one_line_from_the_first_and_ends_all(tmp_path, flags, code, words):
    (tmp_path / "file").write_text("", encoding="utf-8")
    codes, said = finish(start(training(*flags), tmp_path))
    assert codes == [code] * 2 and said[1] == "" and words in said[0], said
    assert "Traceback" not in said[0] and (code == 2 or len(said[0].splitlines()) == 1)


@pytest.mark.slow
def test_a_run_that_diverges_ends_all(tmp_path):
    codes, said = finish(start(training("--epochs", 8, "--lr", "1e9"), tmp_path))
    assert codes == [1, 1] and "--lr 1e+09 is too high" in said[0].splitlines()[-1] and said[1] == "", said


# A process of a group whose fifth batch does not fit into memory, on one rank.
WITHOUT_MEMORY = """
import os, sys
import torch, train
from training.trainer import Trainer

clean = Trainer.train_step

def step(trainer):
    if trainer.step == 4 and os.environ["RANK"] == sys.argv[1]:
        torch.empty(10**13)
    return clean(trainer)

Trainer.train_step = step
train.end(train.main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_memory_that_runs_out_in_one_process_is_said_by_it_and_ends_all(tmp_path, monkeypatch, rank):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = ["-c", WITHOUT_MEMORY, rank, *TINY, "--epochs", 8]
    codes, said = finish(start(command, tmp_path))
    assert codes == [1, 1] and "Traceback" not in said[0] + said[1], said
    last = said[rank].splitlines()[-1]
    assert "out of memory (40000.0 GB at once); asked for --batch_size 32" in last and said[1].count("\n") == rank
    assert last.startswith("train.py: out" if rank == 0 else "train.py: process 1: out")
    step = checkpoints.load(tmp_path / "checkpoints" / "last.pt")["position"]["step"]
    assert step == (0 if rank == 0 else 4)  # a process that lost another saves; one without memory does not try


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_others_reports_it_and_ends_at_a_signal(tmp_path, rank, number):
    port = str(free_port())
    group = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE="2", RANK=str(rank))  # left in the environment
    process = Process(training(), tmp_path, script_env(group))
    process.hear(
        f"train.py: waiting for 1 more process at 127.0.0.1:{port} (RANK {rank} of WORLD_SIZE 2 in the environment; "
        "unset them to train with one process)"
    )
    process.send_signal(number)
    assert process.wait(timeout=5) == 128 + number and list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------
# A single process
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["two", "0", "-1", ""])
def test_a_bad_variable_of_a_group_is_named_in_one_line(tmp_path, value):
    group = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="1", WORLD_SIZE=value, RANK="0")
    done = Process(training(), tmp_path, script_env(group)).finish(60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"train.py: WORLD_SIZE={value} in the environment is no whole number from 1")


@pytest.mark.parametrize("size", [1, 2])
def test_a_process_of_a_group_ends_without_the_interpreters_shutdown(size):
    program = "import atexit; from training import distributed; atexit.register(print, 'shut down'); print('last words'); distributed.end(3)"
    env = script_env(dict(WORLD_SIZE=str(size), RANK="0", MASTER_ADDR="127.0.0.1"))
    done = Process(["-c", program], ROOT, {**env, "PYTHONPATH": str(ROOT)}).finish(60)
    assert done.returncode == 3 and done.stdout.split("\n")[0] == "last words"
    assert ("shut down" in done.stdout) == (size == 1)


def test_other_programs_variables_do_not_make_a_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("RANK", raising=False)
    assert distributed.world_size() == 1 and distributed.join(StopWhenSafe()) is distributed.SINGLE_PROCESS


def test_a_single_process_changes_nothing():
    x, group = torch.ones(3, 2, requires_grad=True), distributed.SINGLE_PROCESS
    assert group.gather(x=x) == {"x": x} and group.local_rows(x).shape == (3, 2) and group.first_row(x) == 0
    assert group.average_in_place(x, []) is x and group.maximum(3, 1) == (3, 1)
    assert group.on_all(lambda: 5) == group.broadcast(5) == 5
    with pytest.raises(RuntimeError, match="gloo"), group.watch():
        raise RuntimeError("gloo")


def test_a_part_of_a_batch_is_corrupted_as_in_the_whole():
    import numpy as np

    import channel

    picture = torch.rand(24, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def corrupted(rows, first):
        rng, host_rng = torch.Generator().manual_seed(0), np.random.default_rng(3)
        out = channel.transmit(picture[rows], torch.tensor(0.5), rng, host_rng, first=first)
        return (out - picture[rows]).abs().mean((1, 2, 3))

    whole = corrupted(slice(0, 24), 0)
    parts = torch.cat([corrupted(slice(i, i + 3), i) for i in range(0, 24, 3)])  # fewer rows than kinds of corruption
    assert (whole - parts).abs().max() < 0.1 * whole.max()  # the noise is another, the corruption of each is not


if __name__ == "__main__":
    torch.set_num_threads(1)
    group = distributed.join(StopWhenSafe())
    group.connect(torch.device("cpu"))
    torch.save(two_steps(sys.argv[1], group, sys.argv[2]), f"{os.environ['RANK']}.pt")
    group.leave()
    distributed.end(0)
