"""Train on Google Colab, or anywhere: goes on by itself after a disconnect and keeps a copy on Drive.

    python colab_train.py quick
    python colab_train.py full --drive_dir /content/drive/MyDrive/circle
    python colab_train.py full --run_name blue -- --seed 3 --batch_size 128

What follows -- goes to train.py, which holds every setting and does the training. The same command
again resumes a run that was cut short; a finished run is left as it is. Local results are never deleted.
In a notebook, colab_train.main(["quick"]) shows curves, scenes and samples below the cell.
"""

import argparse
import base64
import codecs
import contextlib
import glob
import html
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time

import torch

import drive_sync
from checkpoints import CheckpointError, RunLock
from devices import choose_device
from settings import PRESETS

ROOT = os.path.dirname(os.path.abspath(__file__))
OWN_FLAGS = ("--preset", "--resume", "--checkpoint_dir", "--log_dir")  # colab_train.py gives these to train.py itself
HALF_MEANT = {
    "quick": "about ten epochs: some minutes on Colab's T4 or on two CPU cores",
    "full": "about fifty epochs: meant for a GPU",
}
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


# ---------------------------------------------------------------------------------------------
# Where it runs
# ---------------------------------------------------------------------------------------------


def in_notebook():
    """Whether a notebook shows what this process prints."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def check_gpu(preset=None, device="auto"):
    """Say where this runs and, without a GPU, what to do. Returns the torch.device. Raises ValueError."""
    chosen = choose_device(device)
    place = "Google Colab" if drive_sync.on_colab() else "this machine (not Colab)"
    if chosen.type == "cuda":
        memory = torch.cuda.get_device_properties(chosen).total_memory / 2**30
        say(f"{place}: GPU {torch.cuda.get_device_name(chosen)}, {memory:.0f} GB, torch {torch.__version__}")
        return chosen
    name = {"cpu": f"CPU with {os.cpu_count()} cores", "mps": "Apple GPU"}.get(chosen.type, chosen.type)
    say(f"{place}: {name}, torch {torch.__version__}")
    if chosen.type == "cpu" and device == "auto":
        cure = (
            "choose Runtime > Change runtime type > T4 GPU and run all cells again" if drive_sync.on_colab() else "a GPU is faster"
        )
        cost = (
            "full takes many hours without one, quick about ten minutes on two cores"
            if preset != "quick"
            else "quick takes about ten minutes on two cores"
        )
        say(f"no GPU: {cure}; {cost}. Training works here too.")
    return chosen


# ---------------------------------------------------------------------------------------------
# Pictures in a notebook
# ---------------------------------------------------------------------------------------------


def newest_scenes(log_dir):
    """The scene sheet of the latest epoch, or None."""
    numbered = [
        (int(m[1]), p)
        for p in glob.glob(os.path.join(glob.escape(log_dir), "scenes_epoch_*.png"))
        if (m := re.search(r"_(\d+)\.png$", p))
    ]
    return max(numbered)[1] if numbered else None


def show_picture(path):
    """A picture file below the cell, or its path where there is no notebook."""
    if not in_notebook():
        say(path)
        return
    from IPython.display import Image, display

    with open(path, "rb") as f:
        display(Image(data=f.read()))


def show_results(run_name):
    """Samples, curves and the latest scenes of a run. Raises FileNotFoundError if it has none yet."""
    log_dir = os.path.join("logs", run_name)
    paths = ["sample_generations.png", os.path.join(log_dir, "training_curves.png"), newest_scenes(log_dir)]
    for title, path in zip(("Samples: sentence, scene, what is read back", "Curves", "Scenes of the last epoch"), paths):
        if not path or not os.path.exists(path):
            raise FileNotFoundError(f"{path or log_dir + '/scenes_epoch_N.png'} is not there; train the run {run_name} first")
        say(title)
        show_picture(path)


def show_round_trips(folder):
    """Sentence, scene and what is read back, from the folder that generate.py wrote."""
    with open(os.path.join(folder, "captions.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    if not in_notebook():
        for row in rows:
            say(f"{row['text']}  ->  {os.path.join(folder, row['image'])}  ->  {row['caption']}")
        return
    from IPython.display import HTML, display

    cells = []
    for row in rows:
        with open(os.path.join(folder, row["image"]), "rb") as f:
            data = base64.b64encode(f.read()).decode()
        verdict = "word for word" if row["exact_match"] else "not the same"
        text, caption = (html.escape(row[k]) for k in ("text", "caption"))
        cells.append(
            f'<figure style="display:inline-block;margin:0 24px 12px 0;width:224px;vertical-align:top"><figcaption>{text}</figcaption>'
            f'<img alt="scene of: {text}" style="width:192px;image-rendering:pixelated;margin:6px 0" src="data:image/png;base64,{data}">'
            f"<figcaption>read back: <b>{caption or '(nothing)'}</b> ({verdict})</figcaption></figure>"
        )
    display(HTML("".join(cells)))


def show_page(path, height=720):
    """A page of one file below the cell, in a frame of its own."""
    if not in_notebook():
        say(path)
        return
    from IPython.display import HTML, display

    with open(path, encoding="utf-8") as f:
        page = html.escape(f.read(), quote=True)
    display(HTML(f'<iframe srcdoc="{page}" style="width:100%;height:{height}px;border:1px solid #ccc"></iframe>'))


class LivePictures:
    """Curves and scenes above the log of a running cell, renewed after every epoch."""

    def __init__(self, log_dir):
        from IPython.display import HTML, display

        self.log_dir, self.shown = log_dir, {}
        note = "{} appear after the first epoch"
        self.places = {name: display(HTML(f"<i>{note.format(name)}</i>"), display_id=True) for name in ("curves", "scenes")}

    def refresh(self):
        from IPython.display import Image

        for name, path in (("curves", os.path.join(self.log_dir, "training_curves.png")), ("scenes", newest_scenes(self.log_dir))):
            now = path and drive_sync.stamp(path)
            if now and self.shown.get(name) != (path, now):
                self.shown[name] = (path, now)
                with contextlib.suppress(OSError), open(path, "rb") as f:
                    self.places[name].update(Image(data=f.read()))


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
        sys.stdout.flush()
        both = subprocess.STDOUT if pipe else None
        self.child = subprocess.Popen([sys.executable, *command], stdout=pipe, stderr=both, start_new_session=True)
        self.chunks, self.asked = queue.Queue(), False
        if pipe:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := os.read(self.child.stdout.fileno(), 1 << 16):
            self.chunks.put(decoder.decode(data))
        self.chunks.put(None)

    def pass_on(self, number, _frame=None):
        self.asked = True
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(number)

    def wait(self, each_second):
        """Show output and call `each_second` until the child has ended -> its exit code."""
        due, text = 0.0, ""
        while text is not None and (self.child.stdout or self.child.poll() is None):
            if time.monotonic() > due:
                each_second()
                due = time.monotonic() + 1
            try:
                if self.child.stdout:
                    text = self.chunks.get(timeout=0.5)
                    sys.stdout.write(text or "")
                    sys.stdout.flush()
                else:
                    self.child.wait(0.5)
            except (queue.Empty, subprocess.TimeoutExpired):
                pass
        code = self.child.wait()
        return code if code >= 0 else 128 - code


@contextlib.contextmanager
def signals_go_to(receiver):
    """Ctrl-C, the notebook's stop button and SIGTERM call `receiver` meanwhile."""
    old = {}
    if threading.current_thread() is threading.main_thread():
        old = {number: signal.signal(number, receiver) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def wait_for_previous(checkpoint_dir):
    """Wait until a run that was just interrupted has saved and left. Raises CheckpointError."""
    end, told = time.monotonic() + WAIT_FOR_PREVIOUS, False
    while True:
        try:
            RunLock(checkpoint_dir).release()
            return
        except CheckpointError:
            if time.monotonic() > end:
                raise
            if not told:
                say(f"another run is using {checkpoint_dir}; waiting up to {WAIT_FOR_PREVIOUS} s for it to leave")
                told = True
            time.sleep(0.5)


# ---------------------------------------------------------------------------------------------
# python colab_train.py
# ---------------------------------------------------------------------------------------------


def describe(preset):
    """A preset in one line, from the settings themselves."""
    values = " ".join(f"--{k}" if v is True else f"--{k} {v}" for k, v in PRESETS[preset].items())
    return f"  {preset:5} {HALF_MEANT[preset]}\n        {values}"


def parse_arguments(argv):
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    own, rest = argv[:cut], argv[cut + 1 :]
    text = __doc__ + "\npresets:\n" + "\n".join(map(describe, PRESETS))
    parser = argparse.ArgumentParser("colab_train.py", description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=sorted(PRESETS), metavar="quick|full", help="the preset")
    parser.add_argument("--preset", choices=sorted(PRESETS), help="the same, as a flag")
    parser.add_argument(
        "--run_name", metavar="TEXT", help="name of the run's folders, so that runs do not mix (default: the preset)"
    )
    parser.add_argument("--checkpoint_dir", metavar="DIR", help="(default: checkpoints/RUN_NAME)")
    parser.add_argument("--log_dir", metavar="DIR", help="(default: logs/RUN_NAME)")
    parser.add_argument(
        "--drive_dir",
        metavar="DIR",
        default="",
        help="a folder of a mounted Drive that gets copies, in DIR/RUN_NAME (default: none)",
    )
    parser.add_argument("--drive_keep", type=int, default=2, metavar="N", help="copies of each kind to keep on Drive (default: 2)")
    parser.add_argument("--drive_minutes", type=float, default=5, metavar="X", help="minutes between two copies (default: 5)")
    args = parser.parse_args(own)
    if args.name and args.preset and args.name != args.preset:
        parser.error(f"{args.name} contradicts --preset {args.preset}")
    args.preset = args.name or args.preset or parser.error("say which preset: quick or full")
    for flag in rest:
        if flag.split("=")[0] in OWN_FLAGS:
            parser.error(f"{flag} is set by colab_train.py; give it before -- or leave it out")
    args.run_name = args.run_name or args.preset
    if not re.fullmatch(r"\w[\w.-]*", args.run_name):
        parser.error(f"--run_name {args.run_name!r} cannot be a folder's name; use letters, digits, - and _")
    if args.drive_keep < 1 or not args.drive_minutes >= 0:
        parser.error("--drive_keep must be 1 or more, --drive_minutes 0 or more")
    args.checkpoint_dir = args.checkpoint_dir or os.path.join("checkpoints", args.run_name)
    args.log_dir = args.log_dir or os.path.join("logs", args.run_name)
    return args, rest


def open_drive(args):
    """A started DriveCopy, after the newest run has been taken from it; None without a usable Drive."""
    if not args.drive_dir:
        return None
    folder = os.path.join(args.drive_dir, args.run_name)
    try:
        copy = drive_sync.DriveCopy(folder, args.drive_keep, args.drive_minutes, say)
        if not drive_sync.take_newest(copy, args.checkpoint_dir, args.log_dir, say):
            return None
        sources = {kind: os.path.join(args.checkpoint_dir, f"{kind}.pt") for kind in ("last", "best")}
        logs = glob.escape(args.log_dir)
        copy.start(sources, [f"{logs}/metrics.jsonl", f"{logs}/training_*", "sample_generations.png"])
        return copy
    except OSError as error:
        say(f"Drive: {folder} cannot be used ({drive_sync.reason(error)}); training goes on, results stay in {args.checkpoint_dir}")
        return None


def close_drive(copy, training):
    """Let the last results reach Drive, and say what it has."""
    say("Drive: copying the last results")
    with signals_go_to(training.pass_on):
        training.asked = False
        whole = copy.finish(going_on=lambda: not training.asked)
    if whole:
        say(f"Drive has step {copy.step} and the pictures in {copy.folder}")
    else:
        newest = f"step {copy.step}" if copy.step >= 0 else "nothing new"
        say(f"Drive has {newest} only; the whole run is on this machine: make room on Drive and run this again, or download it")


def device_of(rest):
    """The --device among train.py's flags."""
    for flag, value in zip(rest, [*rest[1:], ""]):
        if flag.startswith("--device"):
            return flag.partition("=")[2] or value
    return "auto"


def train(args, rest):
    """Returns train.py's exit code. Raises ValueError, CheckpointError, OSError."""
    check_gpu(args.preset, device_of(rest))
    for folder in (args.checkpoint_dir, args.log_dir):
        os.makedirs(folder, exist_ok=True)
    wait_for_previous(args.checkpoint_dir)
    copy = open_drive(args)
    pictures = LivePictures(args.log_dir) if in_notebook() else None
    folders = ["--checkpoint_dir", args.checkpoint_dir, "--log_dir", args.log_dir]
    training = Training(["--preset", args.preset, "--resume", "auto", *folders, *rest])
    with signals_go_to(training.pass_on):
        code = training.wait(pictures.refresh if pictures else lambda: None)
    if pictures:
        pictures.refresh()
    if copy:
        close_drive(copy, training)
    if code in (130, 143):
        say("training was interrupted and has saved; the same again goes on")
    elif code == 137:
        say(
            "training was killed, perhaps for want of memory (try -- --batch_size 32 --run_name with a new name); the same again goes on"
        )
    elif code:
        say(f"training failed with exit code {code}; its last line above says why")
    elif pictures:
        show_picture("sample_generations.png")
    return code


def main(argv=None):
    args, rest = parse_arguments(argv)
    try:
        return train(args, rest)
    except (ValueError, CheckpointError, OSError) as error:
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        print(f"colab_train.py: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
