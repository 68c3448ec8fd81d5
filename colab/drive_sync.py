"""A second copy of a run in a folder that may be slow, full or gone: Google Drive.

Training writes to the local disk only. A background thread copies finished checkpoints under new
names, because Drive syncs lazily and an overwritten name can be seen half old and half new. A copy
counts once its size is right and it loads; only then are older copies removed, and only on Drive.
Whatever goes wrong with Drive is said in one line and never stops the training.
"""

import contextlib
import glob
import importlib.util
import io
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from checkpoints import CheckpointError, load, newest_valid
from colab.notebook_display import modified
from runtime.outputs import Manifest, remove_unfinished, write_output
from settings import FIXED_ON_RESUME

MOUNT_POINT = "/content/drive"  # where Colab's own notebooks put it; $DRIVE_MOUNT chooses another
NAME = re.compile(r"(last|best)_step_(\d{9})(?:-(\d+))?\.pt")


def on_colab() -> bool:
    """Whether this Python is Google Colab's."""
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:
        return False


def reason(error: Exception) -> str:
    """The cause of an error on one line, at most 160 characters."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:160]


# ---------------------------------------------------------------------------------------------
# Google Drive of a notebook on Colab
# ---------------------------------------------------------------------------------------------


def my_drive() -> str:
    """The folder of the user's files on a mounted Drive."""
    return os.path.join(os.environ.get("DRIVE_MOUNT", MOUNT_POINT), "MyDrive")


def mount(folder: str, say: Callable[[str], None] = print) -> str:
    """Mount Google Drive, which asks the user, and make `folder` on it -> its path, or "" without a Drive.

    Works in a notebook's own process only.
    """
    if not on_colab():
        say("this is not Colab: there is no Google Drive to mount; results stay in this folder")
        return ""
    try:
        from google.colab import drive

        if not os.path.isdir(my_drive()):
            drive.mount(os.path.dirname(my_drive()))
        path = os.path.join(my_drive(), folder)
        os.makedirs(path, exist_ok=True)
    except Exception as error:  # Colab raises ValueError, MessageError and others
        say(f"Drive could not be mounted ({reason(error)}); training goes on, download the results at the end")
        return ""
    say(f"Drive: results are copied to {path}")
    return path


def flush(say: Callable[[str], None] = print) -> None:
    """Wait until Google has everything that was written to Drive, and unmount it."""
    if not on_colab() or not os.path.isdir(my_drive()):
        say("no Drive is mounted: nothing to wait for")
        return
    from google.colab import drive

    drive.flush_and_unmount()
    say("Drive has everything")


# ---------------------------------------------------------------------------------------------
# Copies
# ---------------------------------------------------------------------------------------------


class DriveCopy:
    """Copies `last.pt` and `best.pt` of a run, and its small files, to a folder while it trains.

    `keep` copies of each kind stay, `minutes` lie between two rounds. Raises OSError if the folder
    cannot be made.
    """

    def __init__(self, folder: str, keep: int = 2, minutes: float = 5.0, say: Callable[[str], None] = print) -> None:
        parent = os.path.dirname(os.path.abspath(folder))
        if not os.path.isdir(parent):
            os.mkdir(parent)  # fails where Drive is not mounted: a folder made there would be in its way
        os.makedirs(folder, exist_ok=True)
        self.folder, self.keep, self.minutes, self.say = folder, keep, minutes, say
        self.copied = {}  # kind or path -> when the copied file was last written
        self.said = set()  # kinds of failure that were reported
        self.damaged = set()  # names of copies that do not load
        self.step = -1  # of the newest copy known to be good
        self.sources = {}
        self.extras = []
        self.thread = None
        self.stop = threading.Event()
        remove_unfinished(folder, NAME.pattern)  # copies cut short by a disconnect

    def names(self, kind: str) -> list[str]:
        """Copies of a kind, newest first, those known to be damaged left out."""
        found = [(m, m[0]) for m in map(NAME.fullmatch, os.listdir(self.folder)) if m and m[1] == kind]
        found.sort(key=lambda f: (int(f[0][2]), int(f[0][3] or 1)), reverse=True)
        return [name for _, name in found if name not in self.damaged]

    # -- taking back ------------------------------------------------------------------------------

    def fetch(self, kind: str, beyond: int, local: str) -> dict[str, Any] | None:
        """The newest good copy with more than `beyond` steps -> its state, written to the file `local`;
        None if there is none. A damaged copy is named and passed over."""
        for name in self.names(kind):
            if int(NAME.fullmatch(name)[2]) <= beyond:
                return None
            try:
                with open(os.path.join(self.folder, name), "rb") as f:
                    data = f.read()
            except OSError as error:
                self.say(f"Drive: {name} cannot be read ({reason(error)}) and is passed over")
                continue
            write_output(local, data)
            try:
                state = load(local)
                step_of(state)
                return state
            except (CheckpointError, KeyError, TypeError):
                self.damaged.add(name)
                self.say(f"Drive: {name} is cut off or damaged ({len(data)} bytes) and is passed over")
                os.remove(local)  # what was just written from it
        return None

    def fetch_pictures(self, log_dir: str) -> None:
        """Bring back the run's pictures and summary that are not in `log_dir`; one that fails is left out."""
        for name in os.listdir(self.folder):
            path = os.path.join(log_dir, name)
            if re.fullmatch(r"[\w-]+\.(png|txt)", name) and not os.path.lexists(path):
                with contextlib.suppress(OSError), open(os.path.join(self.folder, name), "rb") as f:
                    write_output(path, f.read())

    # -- giving -----------------------------------------------------------------------------------

    def start(self, sources: dict[str, str], extras: list[str]) -> None:
        """Begin to copy: sources {"last": path, "best": path}; extras, paths or patterns of small files."""
        self.sources, self.extras = sources, extras
        self.thread = threading.Thread(target=self._work, name="copies to Drive", daemon=True)
        self.thread.start()

    def finish(self, minutes: float = 30, going_on: Callable[[], bool] = lambda: True) -> bool:
        """One last round, then wait for it. True if everything has been copied."""
        self.stop.set()
        end = time.monotonic() + 60 * minutes
        while self.thread.is_alive() and time.monotonic() < end and going_on():
            self.thread.join(0.2)
        return not self.thread.is_alive() and not self.said

    def _work(self):
        due = 0.0
        while not self.stop.wait(0.5):
            if time.monotonic() >= due and self._changed():
                self._round()
                due = time.monotonic() + 60 * self.minutes
        self._round()

    def _changed(self):
        """Whether a checkpoint is there that has not been copied."""
        return any(s and s != self.copied.get(kind) for kind, s in ((k, modified(p)) for k, p in self.sources.items()))

    def _round(self):
        """Copy what is new: `last` before `best`, so that the best is never older than the run that knows of it."""
        self.said, before = set(), self.said
        paths = [path for pattern in self.extras for path in sorted(glob.glob(pattern))]
        jobs = [(kind, path, self._checkpoint) for kind, path in self.sources.items()] + [
            (p, p, self._small) for p in paths
        ]
        for key, path, copy in jobs:
            now = modified(path)
            if now is None or now == self.copied.get(key):
                continue
            try:
                copy(key, path)
                self.copied[key] = now
            except Exception as error:  # a mounted Drive fails in many ways; none may end the training
                kind = getattr(error, "errno", None) or type(error)
                if not self.said and kind not in before:
                    line = f"Drive: {os.path.basename(path)} was not copied ({reason(error)})"
                    self.say(f"{line}; training goes on, the local file stays")
                self.said.add(kind)

    def _checkpoint(self, kind, path):
        with open(path, "rb") as f:
            data = f.read()  # one whole file, even if it is replaced meanwhile
        step = step_of(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
        target = self._free_name(kind, step, len(data))
        if target is not None:
            write_output(target, data)
            try:
                if os.path.getsize(target) != len(data):
                    raise OSError(f"only {os.path.getsize(target)} of {len(data)} bytes arrived")
                load(target)
            except Exception:
                self.damaged.add(os.path.basename(target))
                with contextlib.suppress(OSError):
                    os.remove(target)
                raise
        if kind == "last":
            self.step = step
        manifest = Manifest(self.folder)
        for name in self.names(kind)[self.keep :]:
            if not manifest.owns(name):
                continue
            with contextlib.suppress(OSError):
                os.truncate(os.path.join(self.folder, name), 0)  # Drive's bin would go on counting its size
                os.remove(os.path.join(self.folder, name))

    def _free_name(self, kind, step, size):
        """A path that no file has yet; None if a good copy of this step is there."""
        for number in range(1, 1000):
            name = f"{kind}_step_{step:09d}" + (f"-{number}" if number > 1 else "") + ".pt"
            path = os.path.join(self.folder, name)
            if not os.path.lexists(path):
                return path
            with contextlib.suppress(CheckpointError, OSError):
                if name not in self.damaged and os.path.getsize(path) == size and load(path):
                    return None
            self.damaged.add(name)
        raise OSError(f"no free name for step {step}")

    def _small(self, _key, path):
        with open(path, "rb") as f:
            write_output(os.path.join(self.folder, os.path.basename(path)), f.read())


def step_of(state: dict[str, Any]) -> int:
    """How many steps a checkpoint has."""
    return int(state["position"]["step"])


class OtherRun(OSError):
    """The folder on Drive belongs to a run with other settings."""


# ---------------------------------------------------------------------------------------------
# At the start of a run
# ---------------------------------------------------------------------------------------------


def take_newest(copy: DriveCopy, checkpoint_dir: str, say: Callable[[str], None] = print) -> str:
    """Bring a newer run back from Drive -> its path in checkpoint_dir, or "" if the local run is as new.

    Newer is more steps: the same settings take the same steps. Local files are kept: what stands in the
    way gets another name. Raises OtherRun if Drive's run has other settings, OSError.
    """
    path, here = newest_valid(checkpoint_dir, report=lambda _: None)  # train.py will name what is damaged
    step = step_of(here) if here else -1
    incoming, last = (os.path.join(checkpoint_dir, name) for name in ("from_drive.pt", "last.pt"))
    state = copy.fetch("last", step, incoming)
    if state is None:
        if copy.names("last"):
            say(f"Drive has nothing newer than {path} (step {step})" if path else "Drive has no usable checkpoint")
        return ""
    if here and (other := [n for n in FIXED_ON_RESUME if here["settings"].get(n) != state["settings"].get(n)]):
        os.remove(incoming)
        raise OtherRun(f"it holds another run, with --{other[0]} {state['settings'].get(other[0])} where this one has "
                       f"{here['settings'].get(other[0])}; another --run_name keeps them apart")  # fmt: skip
    say(f"Drive: going on from its step {step_of(state)}" + (f", newer than {path} (step {step})" if path else ""))
    put_in_place(incoming, last)
    take_best(copy, checkpoint_dir)
    return last


def take_best(copy: DriveCopy, checkpoint_dir: str) -> None:
    """Bring best.pt back from Drive, unless the local one is as good. Raises OSError."""
    local, incoming = os.path.join(checkpoint_dir, "best.pt"), os.path.join(checkpoint_dir, "from_drive.pt")

    def quality(state):  # of equals the later is the better one, or it would not have been kept
        return state.get("best", -1.0), step_of(state)

    try:
        best = quality(load(local))
    except (CheckpointError, KeyError, TypeError):
        best = (-1.0, -1)
    state = copy.fetch("best", -1, incoming)
    if state is None:
        return
    if quality(state) > best:
        put_in_place(incoming, local)
    else:
        os.remove(incoming)


def put_in_place(incoming: str, path: str) -> None:
    """Move a file to `path`; a file that has this name is kept under the next free one."""
    if os.path.lexists(path):
        stem, number = path.removesuffix(".pt"), 1
        while os.path.lexists(kept := f"{stem}_before_drive_{number}.pt"):
            number += 1
        os.replace(path, kept)
    os.replace(incoming, path)
