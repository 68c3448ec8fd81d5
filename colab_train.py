"""Train on Google Colab, or anywhere: continues by itself after a disconnect and keeps a copy on Drive.

    python colab_train.py quick
    python colab_train.py full --drive_dir /content/drive/MyDrive/circle
    python colab_train.py full --run_name blue -- --seed 3 --lambda_kl 0.01

The arguments after -- go to train.py, which has every setting and does the training. The same command
again resumes a run that was interrupted; a finished run is left as it is. Local results are never deleted.
In a notebook, colab_train.main(["quick"]) shows curves, scenes and samples with the cell.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

import argparse
import codecs
import contextlib
import glob
import math
import queue
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import torch

from checkpoints import CheckpointError
from colab import drive_sync
from colab.notebook_display import SAMPLES, LivePictures, in_notebook, modified, show_picture
from runtime.command_line import Parser, exit_code, number, path_name
from runtime.devices import choose_device
from runtime.files import write_atomically
from runtime.signals import StopWhenSafe
from settings import PRESETS
from training.folders import RunLock

ROOT = os.path.dirname(os.path.abspath(__file__))
OWN_FLAGS = ("--preset", "--resume", "--checkpoint_dir", "--log_dir")  # colab_train.py passes these to train.py
MEANT_FOR = {
    "quick": "eight epochs: some minutes on Colab's T4 or on two CPU cores",
    "full": "fifty epochs: meant for a GPU",
}
BREAK = getattr(signal, "CTRL_BREAK_EVENT", None)  # Windows sends no other signal to a child that lets it save
WAIT_FOR_PREVIOUS = 60  # seconds that an interrupted run gets to save and leave
# Linux signals a child when its parent has died, even by SIGKILL; a training whose notebook was killed
# then saves and ends, instead of locking the run's folder. The setting lasts through exec.
LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.executable, [sys.executable] + sys.argv[2:])
"""


def log(line: str) -> None:
    """Print a line, also between two states of a progress bar."""
    print(("\r\x1b[K" if sys.stdout.isatty() else "") + line, flush=True)


def check_gpu(device: str = "auto") -> torch.device:
    """Report the device and, without a GPU, how to get one -> the device. Raises ValueError."""
    chosen = choose_device(device)
    on_colab = drive_sync.on_colab()
    if chosen.type == "cuda":
        memory = torch.cuda.get_device_properties(chosen).total_memory / 2**30
        name = f"GPU {torch.cuda.get_device_name(chosen)} with {memory:.0f} GB"
    else:
        name = {"cpu": f"CPU with {os.cpu_count()} cores", "mps": "Apple GPU"}.get(chosen.type, chosen.type)
    log(f"{'Google Colab' if on_colab else 'this machine (not Colab)'}: {name}, torch {torch.__version__}")
    if chosen.type == "cpu" and device == "auto":
        if on_colab:
            log("no GPU: choose Runtime > Change runtime type > T4 GPU, then Runtime > Run all")
        log("training works without a GPU too: quick takes some minutes on two cores, full many hours")
    return chosen


# ---------------------------------------------------------------------------------------------
# The training as a child process
# ---------------------------------------------------------------------------------------------


class Training:
    """`train.py` as a child process: its output, the signals passed on to it, its exit code.

    In a session of its own, because the signal that stops a notebook goes to the whole process group, and
    train.py ends without saving at a second signal.
    """

    def __init__(self, arguments: list[str]) -> None:
        command = ["-u", os.path.join(ROOT, "train.py"), *arguments]
        if sys.platform == "linux":
            command = ["-c", LAUNCHER, str(os.getpid()), *command]
        pipe = subprocess.PIPE if in_notebook() else None  # a terminal is inherited, and shows a progress bar
        both = subprocess.STDOUT if pipe else None
        env = {**os.environ, "PYTHONIOENCODING": "utf-8"} if pipe else None
        sys.stdout.flush()
        own_group = dict(start_new_session=True, creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))
        self.child = subprocess.Popen([sys.executable, *command], stdout=pipe, stderr=both, env=env, **own_group)
        self.chunks = queue.Queue()
        if pipe:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := os.read(self.child.stdout.fileno(), 1 << 16):
            self.chunks.put(decoder.decode(data))
        self.chunks.put(None)

    def pass_on(self, number: int) -> None:
        """Send a signal to the child, which saves and ends."""
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(number if BREAK is None else BREAK)

    def wait(self, signals: StopWhenSafe, each_second: Callable[[], object]) -> int:
        """Show output, pass signals on and call `each_second` until the child has ended -> its exit code."""
        due, text = 0.0, ""
        while text is not None and (self.child.stdout or self.child.poll() is None):
            if number := signals.take():
                self.pass_on(number)
            if time.monotonic() > due:
                each_second()
                due = time.monotonic() + 1
            with contextlib.suppress(queue.Empty, subprocess.TimeoutExpired):
                if self.child.stdout:
                    text = self.chunks.get(timeout=0.5)
                    sys.stdout.write(text or "")
                    sys.stdout.flush()
                else:
                    self.child.wait(0.5)
        code = self.child.wait()
        return code if code >= 0 else 128 - code


def wait_for_previous(checkpoint_dir: str) -> None:
    """Wait until a run that was just interrupted has saved and ended. Raises CheckpointError."""
    end = time.monotonic() + WAIT_FOR_PREVIOUS
    is_reported = False
    while True:
        try:
            with RunLock(checkpoint_dir):
                return
        except CheckpointError:
            if time.monotonic() > end:
                raise
            if not is_reported:
                log(f"another run is using {checkpoint_dir}; waiting up to {WAIT_FOR_PREVIOUS} s for it to leave")
                is_reported = True
            time.sleep(0.5)


# ---------------------------------------------------------------------------------------------
# Drive
# ---------------------------------------------------------------------------------------------


def open_drive(args: argparse.Namespace) -> tuple[drive_sync.DriveCopy | None, str]:
    """A started DriveCopy, or None without a usable Drive; and the path of the checkpoint it restored, or ""."""
    if not args.drive_dir:
        return None, ""
    folder = os.path.join(args.drive_dir, args.run_name)
    try:
        copy = drive_sync.DriveCopy(folder, args.drive_keep, args.drive_minutes, log)
        newer = drive_sync.take_newest(copy, args.checkpoint_dir, log)
        if newer:
            copy.fetch_pictures(args.log_dir)
    except OSError as error:
        cause = drive_sync.reason(error)
        log(f"Drive: {folder} is not used ({cause}); training goes on, results stay in {args.checkpoint_dir}")
        return None, ""
    sources = {kind: os.path.join(args.checkpoint_dir, f"{kind}.pt") for kind in ("last", "best")}
    logs = glob.escape(args.log_dir)
    copy.start(sources, [f"{logs}/*.png", f"{logs}/metrics.jsonl", f"{logs}/training_summary.txt"])
    return copy, newer


def close_drive(copy: drive_sync.DriveCopy, signals: StopWhenSafe) -> None:
    """Copy the last results to Drive until a signal comes, and report what Drive has."""
    log("Drive: copying the last results")
    signals.take()
    whole = copy.finish(going_on=lambda: not signals.number)
    if whole:
        log(f"Drive has step {copy.step} and the pictures, in {copy.folder}")
    else:
        held = f"step {copy.step}, not all of the run" if copy.step >= 0 else "nothing of this run"
        log(f"Drive has {held}; everything is on this machine: make room on Drive and run this again, or download it")


# ---------------------------------------------------------------------------------------------
# python colab_train.py
# ---------------------------------------------------------------------------------------------


def describe(preset: str) -> str:
    """A preset for --help, from the settings."""
    values = [f"--{k}" if v is True else f"--{k} {v}" for k, v in PRESETS[preset].items()]
    lines = [" ".join(values[i : i + 6]) for i in range(0, len(values), 6)]
    return f"  {preset:6} {MEANT_FOR[preset]}\n" + "\n".join(f"         {line}" for line in lines)


def parse_arguments(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The parsed arguments before --, and the ones after it, which are train.py's."""
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    rest = argv[cut + 1 :]
    presets_text = "\n".join(map(describe, reversed(sorted(PRESETS))))
    parser = Parser("colab_train.py", f"{__doc__ or ''}\npresets, with what they pass to train.py:\n{presets_text}")
    presets = sorted(PRESETS)
    flag = parser.add_argument
    flag("name", nargs="?", choices=presets, metavar="quick|full", help="the preset")
    flag("--preset", choices=presets, help="the same, as a flag")
    flag("--run_name", metavar="TEXT", help="names the run's folders, so that runs do not mix (default: the preset)")
    flag("--checkpoint_dir", type=path_name, metavar="DIR", help="(default: checkpoints/RUN_NAME)")
    flag("--log_dir", type=path_name, metavar="DIR", help="(default: logs/RUN_NAME)")
    text = "a folder on a mounted Drive; copies go to DIR/RUN_NAME (default: none)"
    flag("--drive_dir", type=os.path.expanduser, metavar="DIR", default="", help=text)
    text = "copies of each type that stay on Drive (default: 2)"
    flag("--drive_keep", type=number(int, 1), default=2, metavar="N", help=text)
    text = "minutes between two rounds of copies (default: 5)"
    flag("--drive_minutes", type=number(float, 0), default=5, metavar="X", help=text)
    args = parser.parse_args(argv[:cut])
    if args.name and args.preset and args.name != args.preset:
        parser.error(f"{args.name} contradicts --preset {args.preset}")
    args.preset = args.name or args.preset
    if not args.preset:
        parser.error("name a preset: quick or full")
    for typed in rest:
        if typed.split("=")[0] in OWN_FLAGS:
            parser.error(f"{typed} is given to train.py by colab_train.py; put it before --, or leave it out")
    args.run_name = args.run_name or args.preset
    if not re.fullmatch(r"\w[\w.-]*", args.run_name):
        parser.error(f"--run_name {args.run_name!r} cannot be a folder's name; use letters, digits, - and _")
    args.checkpoint_dir = args.checkpoint_dir or os.path.join("checkpoints", args.run_name)
    args.log_dir = args.log_dir or os.path.join("logs", args.run_name)
    return args, rest


def flags_of_notebook(text: str, folder: str) -> list[str]:
    """The flags typed into the notebook; a file of `folder`, such as an uploaded one, gets its full path."""
    flags = []
    for word in shlex.split(text):
        flag, equals, name = word.rpartition("=")
        path = os.path.join(folder, name)
        flags.append(f"{flag}{equals}{path}" if os.path.isfile(path) else word)
    return flags


def device_of(rest: list[str]) -> str:
    """The --device among train.py's flags."""
    for flag, value in zip(rest, [*rest[1:], ""]):  # one too many where there are none
        if flag.split("=")[0] == "--device":
            return flag.partition("=")[2] or value
    return "auto"


def keep_samples(log_dir: str, before: int | None) -> None:
    """Copy the samples to the run's other pictures, since the next run replaces them.

    before: when the samples of an earlier run were written, ns.
    """
    if modified(SAMPLES) == before:
        log(f"{SAMPLES} was not written")
        return
    try:
        with open(SAMPLES, "rb") as f:
            write_atomically(os.path.join(log_dir, SAMPLES), f.read())
    except OSError as error:
        log(f"{SAMPLES} could not be copied to {log_dir} ({drive_sync.reason(error)})")


def train(args: argparse.Namespace, rest: list[str]) -> int:
    """The whole command -> train.py's exit code. Raises ValueError, CheckpointError, OSError."""
    check_gpu(device_of(rest))
    for folder in (args.checkpoint_dir, args.log_dir):
        os.makedirs(folder, exist_ok=True)
    wait_for_previous(args.checkpoint_dir)
    copy, newer = open_drive(args)
    pictures = LivePictures(args.log_dir) if in_notebook() else None
    folders = ["--checkpoint_dir", args.checkpoint_dir, "--log_dir", args.log_dir]
    before = modified(SAMPLES)
    training = Training(["--preset", args.preset, "--resume", newer or "auto", *folders, *rest])
    with StopWhenSafe(echo=math.inf) as signals:  # a second signal is passed on as well
        code = training.wait(signals, pictures.refresh if pictures else lambda: None)
        if code == 0:
            keep_samples(args.log_dir, before)
        if pictures:
            pictures.refresh()
        if copy:
            close_drive(copy, signals)
    if code in (129, 130, 143):
        log("training was interrupted and has saved; the same command continues it")
    elif code == 137:
        log("training was killed, perhaps because memory ran out; the same command continues it")
    elif code:
        log(f"training failed with exit code {code}; its last line names the cause")
    elif pictures and os.path.exists(os.path.join(args.log_dir, SAMPLES)):
        show_picture(os.path.join(args.log_dir, SAMPLES))
    return code


def main(argv: list[str] | None = None) -> int:
    """Run the command line -> exit code. Raises SystemExit(2) for a wrong flag."""
    args, rest = parse_arguments(argv)
    return exit_code("colab_train.py", lambda: train(args, rest))


if __name__ == "__main__":
    sys.exit(main())
