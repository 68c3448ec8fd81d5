"""Kill, stop and starve real training processes at random moments, and count what is lost.

    python -m scripts.faults                                   the whole table, 10 to 20 minutes on two cores
    python -m scripts.faults --kills 20 --terms 4 --disks 1 --matrix short --seed 1
    python -m scripts.faults --kills 20 --terms 0 --disks 0 --matrix none --out faults.json

Each training process is forked from this one, which has torch loaded but never computes, so that a
process costs milliseconds instead of seconds to start; from then on it runs `train.main` as `python
train.py` does. Two runs are "equal" if every tensor of model and optimizer, the position, the counts
and every row of metrics (times aside) are. Needs os.fork: Linux or macOS. The exit code is 1 if
anything was lost.
"""

import contextlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import product

os.environ.setdefault("OMP_NUM_THREADS", "1")

# With what each process would load for its first curves and its first optimizer: two seconds of CPU
import matplotlib.backends.backend_agg  # noqa: F401
import torch
import torch._dynamo  # noqa: F401

import train
from checkpoints import CheckpointError, load, newest_valid
from runtime.command_line import Parser, UserError, exit_code, number, path_name

MODEL = """--d_model 32 --n_heads 2 --n_layers 1 --hidden_dim 32 --z_dim 54 --use_vae --dropout 0.1
    --lr 0.002 --keep_last 0 --log_interval 3"""
LONG = f"{MODEL} --use_amp --threads 1 --num_samples 509 --batch_size 32 --epochs 4".split()
OFTEN = ["--save_minutes", "0.0003"]  # about at every step, so that a good part of the kills hits a write


# ---------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------

RUNNING = set()  # process ids, so that none is left behind when this program is stopped


def start(folder, *argv, file_limit=None):
    """Fork a training process that works in `folder` and writes to its out.txt; returns the process id."""
    pid = os.fork()
    if pid:
        RUNNING.add(pid)
        return pid
    code = 99
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(folder)
        out = os.open("out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = (
            os.fdopen(1, "w", buffering=1, encoding="utf-8"),
            os.fdopen(2, "w", buffering=1, encoding="utf-8"),
        )
        if file_limit:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
        code = train.main(list(argv))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def finish(pid):
    """Wait for a process -> its exit code, negative for the signal that ended it."""
    status = os.waitpid(pid, 0)[1]
    RUNNING.discard(pid)
    return os.waitstatus_to_exitcode(status)


def signal_after(pid, number, delay, writes_in=None):
    """Send a signal after a delay in seconds, unless the process has ended before; returns the exit code.

    With `writes_in` the signal then waits for the next file that is being written in that folder.
    """
    until = time.monotonic() + delay
    while time.monotonic() < until or (writes_in and not unfinished(writes_in)):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            RUNNING.discard(pid)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, number)
    return finish(pid)


def unfinished(folder):
    """Names of the temporary files of a folder."""
    return [n for n in os.listdir(folder) if n.endswith(".tmp")] if os.path.isdir(folder) else []


def output(folder):
    with open(os.path.join(folder, "out.txt"), encoding="utf-8", errors="replace") as f:
        return f.read()


# ---------------------------------------------------------------------------------------------
# Equality
# ---------------------------------------------------------------------------------------------


def differences(a, b, at=""):
    """Where two nested states differ, bit for bit; a list of places."""
    if torch.is_tensor(a):
        same = torch.is_tensor(b) and a.dtype == b.dtype and a.shape == b.shape
        return (
            []
            if same and a.contiguous().view(-1).view(torch.uint8).equal(b.contiguous().view(-1).view(torch.uint8))
            else [at]
        )
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for k in a for d in differences(a[k], b[k], f"{at}.{k}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{at}.{i}")]
    return [] if type(a) is type(b) and a == b else [at]


def rows(folder):
    """The rows of metrics.jsonl without their times."""
    with open(os.path.join(folder, "logs", "metrics.jsonl"), encoding="utf-8") as f:
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in f]


def compare(reference, folder):
    """What differs between a run that was never stopped and one that was; a list of places."""
    wanted, got = (load(os.path.join(f, "checkpoints", "last.pt")) for f in (reference, folder))
    keys = [
        "model",
        "optimizer",
        "scaler",
        "position",
        "corruption_strength",
        "skipped",
        "loss_sums",
        "best",
        "vocabulary",
    ]
    found = [d for k in keys for d in differences(wanted[k], got[k], k)]
    metrics = rows(folder)
    if metrics != rows(reference):
        found.append("metrics.jsonl")
    if len({(r["kind"], r["step"]) for r in metrics}) != len(metrics):
        found.append("a step twice in metrics.jsonl")
    for name in sorted(os.listdir(os.path.join(reference, "checkpoints"))):
        if name.endswith(".pt") and not os.path.exists(os.path.join(folder, "checkpoints", name)):
            found.append(f"{name} is missing")
    return found


class Case:
    """One line of the table: what was done, how often, and what went wrong."""

    def __init__(self, name):
        self.name, self.n = name, 0
        self.failures, self.note = [], ""
        self._start = time.monotonic()

    def check(self, ok, what):
        if not ok:
            self.failures.append(what)
            print(f"FAILED {self.name}: {what}", file=sys.stderr, flush=True)

    def done(self, note=""):
        self.note, self.seconds = note, round(time.monotonic() - self._start, 1)
        print(
            f"{self.name}: n={self.n}, failures={len(self.failures)}, {self.seconds} s {note}",
            file=sys.stderr,
            flush=True,
        )
        return self


def completed(folder):
    """Names of the epoch checkpoints that load whole, the step of the newest checkpoint, and what is wrong."""
    checkpoints = os.path.join(folder, "checkpoints")
    names, whole = (os.listdir(checkpoints) if os.path.isdir(checkpoints) else []), set()
    for name in names:
        if name.startswith("checkpoint_epoch_"):
            try:
                load(os.path.join(checkpoints, name))
                whole.add(name)
            except CheckpointError:
                pass
    complaints = []
    path, state = newest_valid(checkpoints, complaints.append)
    return whole, state["position"]["step"] if path else -1, complaints


# ---------------------------------------------------------------------------------------------
# Cases
# ---------------------------------------------------------------------------------------------


def uninterrupted(folder, argv=LONG):
    """A run that nothing disturbs -> its length in seconds."""
    os.makedirs(folder)
    begin = time.monotonic()
    if finish(start(folder, *argv)):
        raise UserError(f"the undisturbed run failed; it said: {(output(folder).splitlines() or ['nothing'])[-1]}")
    return time.monotonic() - begin


def kills(count, work, reference, length, rng):
    """SIGKILL at random moments; after each, `--resume auto` goes on, until the run ends; then begin anew."""
    case, writing, runs = Case("SIGKILL, then --resume auto"), 0, 0
    while case.n < count:
        runs += 1
        folder = os.path.join(work, f"kill{runs}")
        os.makedirs(folder)
        whole, step, patience = set(), -1, 0
        while True:
            last = case.n >= count
            delay = 1e9 if last else rng.uniform(0, 0.2 * length) + patience
            aim = os.path.join(folder, "checkpoints") if case.n % 2 else None  # every other kill hits a write
            code = signal_after(start(folder, *LONG, *OFTEN, "--resume", "auto"), signal.SIGKILL, delay, aim)
            if code != -signal.SIGKILL:
                break
            case.n += 1
            if case.n % 20 == 0:
                print(f"{case.n} of {count} kills", file=sys.stderr, flush=True)
            now, at, complaints = completed(folder)
            writing += bool(unfinished(os.path.join(folder, "checkpoints")))
            patience = patience + 0.2 if at <= step else 0  # a process that never reaches a save learns nothing
            case.check(at >= step, f"run {runs}: newest step fell from {step} to {at}")
            case.check(whole <= now, f"run {runs}: lost {sorted(whole - now)}")
            case.check(not complaints, f"run {runs}: {complaints}")
            whole, step = now, at
        case.check(code == 0, f"run {runs}: exit code {code}: {output(folder)[-300:]}")
        if code == 0:
            case.check(not (found := compare(reference, folder)), f"run {runs}: {found[:5]} differ")
            case.check(not unfinished(os.path.join(folder, "checkpoints")), f"run {runs}: temporary files are left")
        shutil.rmtree(folder)
    return case.done(f"{runs} runs ended equal to the undisturbed one; {writing} kills hit a write")


def terms(count, work, reference, length, rng):
    """SIGTERM and SIGINT in turn at random moments: exit code, a checkpoint of that very step, an equal end."""
    case, runs = Case("SIGTERM / SIGINT, then --resume auto"), 0
    while case.n < count:
        runs += 1
        folder = os.path.join(work, f"term{runs}")
        os.makedirs(folder)
        while True:
            number = (signal.SIGTERM, signal.SIGINT)[case.n % 2]
            delay = 1e9 if case.n >= count else rng.uniform(0.02, 0.3 * length)
            code = signal_after(start(folder, *LONG, "--resume", "auto"), number, delay)
            if code == 0:
                break
            case.n += 1
            said = output(folder).splitlines()[-1]
            step = completed(folder)[1]
            case.check(code == 128 + number, f"run {runs}: exit code {code} after {number.name}: {said}")
            case.check(
                f"step {step}; go on with: python train.py --resume auto" in said,
                f"run {runs}: step {step} on disk, said {said!r}",
            )
            if code not in (130, 143):
                break
        if code == 0:
            case.check(not (found := compare(reference, folder)), f"run {runs}: {found[:5]} differ")
        shutil.rmtree(folder)
    return case.done(f"{runs} runs ended equal to the undisturbed one")


def disks(count, work, reference, rng):
    """No room for a save: the run goes on, says so, ends with code 1; with room again it resumes to an equal end."""
    case, kinds = Case("disk full in a save, then --resume auto"), []
    for i in range(count):
        folder = os.path.join(work, f"disk{i}")
        os.makedirs(os.path.join(folder, "checkpoints"))
        size = rng.randrange(600, 3600)  # kB: from nothing after the first save to nearly enough
        mounted = i % 2 == 0 and _mount(os.path.join(folder, "checkpoints"), size)
        try:
            case.n += 1
            code = finish(start(folder, *LONG, file_limit=None if mounted else rng.randrange(600, 1000) * 1000))
            said = output(folder)
            case.check(code == 1 and "Traceback" not in said, f"{size} kB: exit code {code}: {said[-300:]}")
            case.check(
                "MB needed" in said and said.count("last.pt could not be written") <= 1,
                f"{size} kB: said {said[-300:]!r}",
            )
            case.check(not completed(folder)[2], f"{size} kB: damaged files")
            if mounted:
                subprocess.run(["mount", "-o", "remount,size=64m", os.path.join(folder, "checkpoints")], check=True)
            code = finish(start(folder, *LONG, "--resume", "auto"))
            case.check(
                code == 0 and "resuming" in output(folder),
                f"{size} kB: resume ended with {code}: {output(folder)[-300:]}",
            )
            found = [d for d in compare(reference, folder) if not d.startswith("checkpoint_epoch")]  # those had no room
            case.check(not found, f"{size} kB: {found[:5]} differ")
            kinds.append("tmpfs" if mounted else "RLIMIT_FSIZE")
        finally:
            if mounted:
                subprocess.run(["umount", os.path.join(folder, "checkpoints")], check=True)
        shutil.rmtree(folder)
    return case.done(", ".join(f"{kinds.count(k)} with {k}" for k in sorted(set(kinds))))


def _mount(folder, kilobytes):
    if os.geteuid() or not sys.platform.startswith("linux"):
        return False
    return (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", folder], capture_output=True
        ).returncode
        == 0
    )


def matrix(short, work, rng):
    """Every setting that could break exactness: stopped in an epoch, and resumed from an epoch's checkpoint."""
    case = Case("resume equality" + (" (short)" if short else ""))
    grid = list(product((1, 2), (8, 64), (False, True), (False, True), ("objects",)))
    grid = [grid[5], grid[10]] if short else grid + [(1, 8, True, False, "conv"), (2, 64, True, True, "conv")]
    for i, (threads, batch, amp, fixed, decoder) in enumerate(grid):
        flags = f"--threads {threads} --batch_size {batch} --num_samples {5 * batch + 3} --decoder {decoder}"
        argv = f"{MODEL} --epochs 2 {flags}".split()
        argv += ["--use_amp"] * amp + ["--fixed_data"] * fixed
        name = f"threads {threads}, batch {batch}, amp {amp}, fixed {fixed}, {decoder}"
        reference, stopped, epoch = (os.path.join(work, f"{kind}{i}") for kind in ("reference", "stopped", "epoch"))
        length = uninterrupted(reference, argv)
        os.makedirs(stopped)
        for _ in range(3):
            signal_after(
                start(stopped, *argv, *OFTEN, "--resume", "auto"),
                rng.choice([signal.SIGTERM, signal.SIGKILL]),
                rng.uniform(0.1, 0.6) * length,
            )
        code = finish(start(stopped, *argv, "--resume", "auto"))
        case.n += 1
        case.check(
            code == 0 and not compare(reference, stopped),
            f"{name}: stopped three times: code {code}, {compare(reference, stopped)[:5]}",
        )
        os.makedirs(os.path.join(epoch, "checkpoints"))
        shutil.copy(os.path.join(reference, "checkpoints", "checkpoint_epoch_1.pt"), os.path.join(epoch, "checkpoints"))
        code = finish(start(epoch, "--resume", os.path.join("checkpoints", "checkpoint_epoch_1.pt")))
        case.n += 1
        found = [d for d in compare(reference, epoch) if not d.startswith("best.pt")]
        case.check(code == 0 and not found, f"{name}: from epoch 1: code {code}, {found[:5]}")
        for folder in (reference, stopped, epoch):
            shutil.rmtree(folder)
    return case.done("threads 1, 2 x batch 8, 64 x AMP off, on x fixed data off, on; dropout, VAE and channel noise on")


# ---------------------------------------------------------------------------------------------
# python -m scripts.faults
# ---------------------------------------------------------------------------------------------


def machine():
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            name = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), name)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, {versions}"


def main(argv=None):
    parser = Parser("scripts/faults.py", __doc__)
    parser.add_argument("--kills", type=number(int, 0), default=200, help="SIGKILLs (default: 200)")
    parser.add_argument("--terms", type=number(int, 0), default=20, help="SIGTERMs and SIGINTs, in turn (default: 20)")
    parser.add_argument("--disks", type=number(int, 0), default=6, help="runs on a full disk (default: 6)")
    parser.add_argument(
        "--matrix", choices=("full", "short", "none"), default="full", help="resume equality (default: full)"
    )
    parser.add_argument("--seed", type=number(int, 0), default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--out", type=path_name, help="write the figures to this file too, as JSON")
    args = parser.parse_args(argv)
    if not hasattr(os, "fork"):
        parser.error("needs os.fork, which Linux and macOS have")
    return exit_code("scripts/faults.py", lambda: run_all(args))


def run_all(args):
    """Every kind of fault that was asked for, as a table. Returns the exit code. Raises UserError, OSError."""
    rng, cases = random.Random(args.seed), []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves no process, mount or folder behind
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as last:
        last.callback(lambda: [os.kill(pid, signal.SIGKILL) for pid in RUNNING])
        reference = os.path.join(work, "reference")
        if args.kills or args.terms or args.disks:
            length = uninterrupted(reference)
        if args.kills:
            cases.append(kills(args.kills, work, reference, length, rng))
        if args.terms:
            cases.append(terms(args.terms, work, reference, length, rng))
        if args.disks:
            cases.append(disks(args.disks, work, reference, rng))
        if args.matrix != "none":
            cases.append(matrix(args.matrix == "short", work, rng))
    print("| fault | n | lost or unequal | what was seen | s |\n|---|---|---|---|---|")
    for c in cases:
        print(f"| {c.name} | {c.n} | {len(c.failures)} | {c.note} | {c.seconds:.0f} |")
    print(f"\nseed {args.seed}; {machine()}")
    if args.out:
        figures = [
            {"fault": c.name, "n": c.n, "failures": c.failures, "note": c.note, "seconds": c.seconds} for c in cases
        ]
        with open(args.out, "w", encoding="utf-8") as f:
            json.dump({"seed": args.seed, "machine": machine(), "cases": figures}, f, indent=1)
    return int(any(c.failures for c in cases))


if __name__ == "__main__":
    sys.exit(main())
