"""Train on Google Colab, or anywhere: goes on by itself after a disconnect and keeps a copy on Drive.

    python colab_train.py quick
    python colab_train.py full --drive_dir /content/drive/MyDrive/circle
    python colab_train.py full --run_name blue -- --seed 3 --lambda_kl 0.01

What follows -- goes to train.py, which holds every setting and does the training. The same command
again resumes a run that was cut short; a finished run is left as it is. Local results are never deleted.
In a notebook, colab_train.main(["quick"]) shows curves, scenes and samples with the cell.
"""

import codecs
import contextlib
import glob
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time

import torch

from checkpoints import CheckpointError
from colab import drive_sync
from colab.notebook_display import SAMPLES, LivePictures, in_notebook, modified, show_picture
from runtime.command_line import Parser, exit_code, number, path_name
from runtime.devices import choose_device
from runtime.outputs import write_output
from settings import PRESETS
from training.folders import RunLock

ROOT = os.path.dirname(os.path.abspath(__file__))
OWN_FLAGS = ("--preset", "--resume", "--checkpoint_dir", "--log_dir")  # colab_train.py gives these to train.py itself
MEANT_FOR = {
    "quick": "eight epochs: some minutes on Colab's T4 or on two CPU cores",
    "full": "fifty epochs: meant for a GPU",
}
BREAK = getattr(signal, "CTRL_BREAK_EVENT", None)  # Windows sends no other signal to a child that lets it save
WAIT_FOR_PREVIOUS = 60  # seconds that an interrupted run gets to save and leave
# Linux tells a child when its parent has died, however it died; a training whose notebook was killed
# then saves and ends, instead of holding the run's folder. It lasts through exec.
LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.executable, [sys.executable] + sys.argv[2:])
"""


def say(line):
    """One line for the person who watches, also between two states of a progress bar."""
    print(("\r\x1b[K" if sys.stdout.isatty() else "") + line, flush=True)


def check_gpu(device="auto"):
    """Say where this runs and, without a GPU, what to do. Returns the torch.device. Raises ValueError."""
    chosen = choose_device(device)
    on_colab = drive_sync.on_colab()
    if chosen.type == "cuda":
        memory = torch.cuda.get_device_properties(chosen).total_memory / 2**30
        name = f"GPU {torch.cuda.get_device_name(chosen)} with {memory:.0f} GB"
    else:
        name = {"cpu": f"CPU with {os.cpu_count()} cores", "mps": "Apple GPU"}.get(chosen.type, chosen.type)
    say(f"{'Google Colab' if on_colab else 'this machine (not Colab)'}: {name}, torch {torch.__version__}")
    if chosen.type == "cpu" and device == "auto":
        if on_colab:
            say("no GPU: choose Runtime > Change runtime type > T4 GPU, then Runtime > Run all")
        say("training works without a GPU too: quick takes some minutes on two cores, full many hours")
    return chosen


# ---------------------------------------------------------------------------------------------
# The training as a child process
# ---------------------------------------------------------------------------------------------


class Training:
    """`train.py` as a child: its output as it comes, signals passed on once, its exit code.

    In a session of its own, because the signal that stops a notebook goes to the whole group, and
    train.py takes a second one as an order to leave without saving.
    """

    def __init__(self, arguments):
        command = ["-u", os.path.join(ROOT, "train.py"), *arguments]
        if sys.platform == "linux":
            command = ["-c", LAUNCHER, str(os.getpid()), *command]
        pipe = subprocess.PIPE if in_notebook() else None  # a terminal is handed on, and gets a progress bar
        both = subprocess.STDOUT if pipe else None
        env = {**os.environ, "PYTHONIOENCODING": "utf-8"} if pipe else None
        sys.stdout.flush()
        own_group = dict(start_new_session=True, creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))
        self.child = subprocess.Popen([sys.executable, *command], stdout=pipe, stderr=both, env=env, **own_group)
        self.chunks, self.asked = queue.Queue(), False
        if pipe:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := os.read(self.child.stdout.fileno(), 1 << 16):
            self.chunks.put(decoder.decode(data))
        self.chunks.put(None)

    def pass_on(self, number, _frame=None):
        """Give a signal to the child; it saves and leaves."""
        self.asked = True
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(number if BREAK is None else BREAK)

    def wait(self, each_second):
        """Show output and call `each_second` until the child has ended -> its exit code."""
        due, text = 0.0, ""
        while text is not None and (self.child.stdout or self.child.poll() is None):
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


@contextlib.contextmanager
def signals_go_to(receiver):
    """Ctrl-C, a notebook's stop button and SIGTERM call `receiver` meanwhile."""
    former = {}
    if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
        former = {number: signal.signal(number, receiver) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def wait_for_previous(checkpoint_dir):
    """Wait until a run that was just interrupted has saved and left. Raises CheckpointError."""
    end, told = time.monotonic() + WAIT_FOR_PREVIOUS, False
    while True:
        try:
            with RunLock(checkpoint_dir):
                return
        except CheckpointError:
            if time.monotonic() > end:
                raise
            if not told:
                say(f"another run is using {checkpoint_dir}; waiting up to {WAIT_FOR_PREVIOUS} s for it to leave")
                told = True
            time.sleep(0.5)


# ---------------------------------------------------------------------------------------------
# Drive
# ---------------------------------------------------------------------------------------------


def open_drive(args):
    """A started DriveCopy, or None without a usable Drive; and the path of what it brought back, or ""."""
    if not args.drive_dir:
        return None, ""
    folder = os.path.join(args.drive_dir, args.run_name)
    try:
        copy = drive_sync.DriveCopy(folder, args.drive_keep, args.drive_minutes, say)
        newer = drive_sync.take_newest(copy, args.checkpoint_dir, say)
        if newer:
            copy.fetch_pictures(args.log_dir)
    except OSError as error:
        say(
            f"Drive: {folder} is not used ({drive_sync.reason(error)}); training goes on, results stay in {args.checkpoint_dir}"
        )
        return None, ""
    sources = {kind: os.path.join(args.checkpoint_dir, f"{kind}.pt") for kind in ("last", "best")}
    logs = glob.escape(args.log_dir)
    copy.start(sources, [f"{logs}/*.png", f"{logs}/metrics.jsonl", f"{logs}/training_summary.txt"])
    return copy, newer


def close_drive(copy, training):
    """Let the last results reach Drive, and say what it has."""
    say("Drive: copying the last results")
    training.asked = False
    with signals_go_to(training.pass_on):
        whole = copy.finish(going_on=lambda: not training.asked)
    if whole:
        say(f"Drive has step {copy.step} and the pictures, in {copy.folder}")
    else:
        held = f"step {copy.step}, not all of the run" if copy.step >= 0 else "nothing of this run"
        say(f"Drive has {held}; everything is on this machine: make room on Drive and run this again, or download it")


# ---------------------------------------------------------------------------------------------
# python colab_train.py
# ---------------------------------------------------------------------------------------------


def describe(preset):
    """A preset for --help, from the settings themselves."""
    values = [f"--{k}" if v is True else f"--{k} {v}" for k, v in PRESETS[preset].items()]
    lines = [" ".join(values[i : i + 6]) for i in range(0, len(values), 6)]
    return f"  {preset:6} {MEANT_FOR[preset]}\n" + "\n".join(f"         {line}" for line in lines)


def parse_arguments(argv):
    """The arguments before -- parsed, and those after it, which are train.py's."""
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    own, rest = argv[:cut], argv[cut + 1 :]
    text = (
        __doc__ + "\npresets, with what they pass to train.py:\n" + "\n".join(map(describe, reversed(sorted(PRESETS))))
    )
    parser = Parser("colab_train.py", text)
    flag, presets = parser.add_argument, sorted(PRESETS)
    flag("name", nargs="?", choices=presets, metavar="quick|full", help="the preset")
    flag("--preset", choices=presets, help="the same, as a flag")
    flag("--run_name", metavar="TEXT", help="names the run's folders, so that runs do not mix (default: the preset)")
    flag("--checkpoint_dir", type=path_name, metavar="DIR", help="(default: checkpoints/RUN_NAME)")
    flag("--log_dir", type=path_name, metavar="DIR", help="(default: logs/RUN_NAME)")
    flag(
        "--drive_dir",
        type=os.path.expanduser,
        metavar="DIR",
        default="",
        help="a folder on a mounted Drive; copies go to DIR/RUN_NAME (default: none)",
    )
    flag(
        "--drive_keep",
        type=number(int, 1),
        default=2,
        metavar="N",
        help="copies of each kind that stay on Drive (default: 2)",
    )
    flag(
        "--drive_minutes",
        type=number(float, 0),
        default=5,
        metavar="X",
        help="minutes between two rounds of copies (default: 5)",
    )
    args = parser.parse_args(own)
    if args.name and args.preset and args.name != args.preset:
        parser.error(f"{args.name} contradicts --preset {args.preset}")
    args.preset = args.name or args.preset
    if not args.preset:
        parser.error("say which preset: quick or full")
    for typed in rest:
        if typed.split("=")[0] in OWN_FLAGS:
            parser.error(f"{typed} is given to train.py by colab_train.py; put it before --, or leave it out")
    args.run_name = args.run_name or args.preset
    if not re.fullmatch(r"\w[\w.-]*", args.run_name):
        parser.error(f"--run_name {args.run_name!r} cannot be a folder's name; use letters, digits, - and _")
    args.checkpoint_dir = args.checkpoint_dir or os.path.join("checkpoints", args.run_name)
    args.log_dir = args.log_dir or os.path.join("logs", args.run_name)
    return args, rest


def device_of(rest):
    """The --device among train.py's flags."""
    for flag, value in zip(rest, [*rest[1:], ""]):  # one too many where there are none
        if flag.split("=")[0] == "--device":
            return flag.partition("=")[2] or value
    return "auto"


def keep_samples(log_dir, before):
    """A copy of the samples beside the run's other pictures: the next run writes its own over them. before: when those of an
    earlier run were written, ns."""
    if modified(SAMPLES) == before:
        say(f"{SAMPLES} was not written")
        return
    try:
        with open(SAMPLES, "rb") as f:
            write_output(os.path.join(log_dir, SAMPLES), f.read())
    except OSError as error:
        say(f"{SAMPLES} could not be copied to {log_dir} ({drive_sync.reason(error)})")


def train(args, rest):
    """The whole command. Returns train.py's exit code. Raises ValueError, CheckpointError, OSError."""
    check_gpu(device_of(rest))
    for folder in (args.checkpoint_dir, args.log_dir):
        os.makedirs(folder, exist_ok=True)
    wait_for_previous(args.checkpoint_dir)
    copy, newer = open_drive(args)
    pictures = LivePictures(args.log_dir) if in_notebook() else None
    folders = ["--checkpoint_dir", args.checkpoint_dir, "--log_dir", args.log_dir]
    before = modified(SAMPLES)
    training = Training(["--preset", args.preset, "--resume", newer or "auto", *folders, *rest])
    with signals_go_to(training.pass_on):
        code = training.wait(pictures.refresh if pictures else lambda: None)
    if code == 0:
        keep_samples(args.log_dir, before)
    if pictures:
        pictures.refresh()
    if copy:
        close_drive(copy, training)
    if code in (130, 143):
        say("training was interrupted and has saved; the same again goes on")
    elif code == 137:
        say("training was killed, perhaps for want of memory; the same again goes on")
    elif code:
        say(f"training failed with exit code {code}; its last line says why")
    elif pictures and os.path.exists(os.path.join(args.log_dir, SAMPLES)):
        show_picture(os.path.join(args.log_dir, SAMPLES))
    return code


def main(argv=None):
    args, rest = parse_arguments(argv)
    return exit_code("colab_train.py", lambda: train(args, rest))


if __name__ == "__main__":
    sys.exit(main())
