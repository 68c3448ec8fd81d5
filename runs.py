"""What keeps a training run whole: one run per folder, signals at safe moments, earlier runs set aside."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time

from checkpoints import CHECKPOINT_NAME, CheckpointError, load, newest_valid, settings_of
from settings import FIXED_ON_RESUME, PRESETS, resolve

LOG_NAME = r"metrics\.jsonl|training_summary\.txt|training_curves\.png|scenes_epoch_\d+\.png|evolution\.json"


class UserError(Exception):
    """Something that the user can mend, said in one line."""


def in_one_line(error):
    """An exception as a line for the user."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return (str(error).splitlines() or [type(error).__name__])[0]


# ---------------------------------------------------------------------------------------------
# Signals
# ---------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """A signal asked the run to stop; its number is the argument."""


class Signals:
    """Remembers Ctrl-C, SIGTERM and a closed terminal until a safe moment; a second one ends the process at once.

    A context manager: on leaving, the former handlers are back, for a notebook that goes on. What comes within
    `echo` seconds of the first counts as the same one: a scheduler and torchrun both pass a signal on.

    Python runs a handler only between two steps of the main thread, which may wait inside a library for a process
    that never answers. So the handlers do nothing, and a thread of its own reads the number from the wake-up socket.
    """

    def __init__(self, echo=0.0):
        self.number, self._former, self.echo, self._since = 0, {}, echo, 0.0

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            heard, self._wake = socket.socketpair()
            self._wake.setblocking(False)
            self._former_wake = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):  # nohup stays in force
                    self._former[number] = signal.signal(number, lambda *_: None)
            self._listener = threading.Thread(target=self._listen, args=(heard,), daemon=True)
            self._listener.start()
        return self

    def __exit__(self, *_):
        if self._former:
            signal.set_wakeup_fd(self._former_wake)
            self._wake.shutdown(socket.SHUT_RDWR)  # ends the thread, even if a forked process holds the socket too
            self._wake.close()
            self._listener.join()
        for number, former in self._former.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)

    def _listen(self, heard):
        with heard:
            while came := heard.recv(1):
                if came[0] in self._former:
                    self._note(came[0])

    def _note(self, number):
        if not self.number:
            self.number, self._since = number, time.monotonic()
        elif time.monotonic() - self._since >= self.echo:
            os._exit(128 + number)

    def check(self):
        """Raise Interrupted if a signal has come."""
        if self.number:
            raise Interrupted(self.number)


# ---------------------------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------------------------


class RunLock:
    """Holds `run.lock` of a folder while a run lives. Raises CheckpointError if another run holds it.

    The system lets go of the lock when the process dies, so a killed run holds nobody up. A file system
    without locks (some network drives) is used without one.
    """

    AT = 1 << 20  # the locked byte: far behind the process id, which Windows would hide from readers otherwise

    def __init__(self, folder, flag="--checkpoint_dir"):
        self.path = os.path.join(folder, "run.lock")
        self.file = open(self.path, "a+")
        try:
            self._lock()
        except (BlockingIOError, PermissionError):  # PermissionError is how Windows says that another holds it
            self.file.seek(0)
            owner = self.file.read(20).strip() or "unknown"
            self.file.close()
            raise CheckpointError(f"{folder} is in use by process {owner}; wait for it, or choose another {flag}") from None
        except OSError:
            pass
        with contextlib.suppress(OSError):  # a full disk: the lock holds without its note
            self.file.truncate(0)
            self.file.write(str(os.getpid()))
            self.file.flush()

    def _lock(self):
        if os.name == "nt":
            import msvcrt

            self.file.seek(self.AT)
            msvcrt.locking(self.file.fileno(), msvcrt.LK_NBLCK, 1)
            self.file.seek(0)
        else:
            import fcntl

            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.file.truncate(0)
        with contextlib.suppress(OSError):
            self.file.close()


def _own_files(folder, pattern):
    """Names in a folder that match a pattern of names that runs write, sorted."""
    return sorted(name for name in os.listdir(folder) if re.fullmatch(pattern, name))


def set_aside(folder, pattern):
    """Move an earlier run's files into folder/earlier_1, earlier_2 ...; returns that folder, or None if
    there were none. Raises OSError."""
    names = _own_files(folder, pattern)
    if not names:
        return None
    number = 1
    while os.path.exists(aside := os.path.join(folder, f"earlier_{number}")):
        number += 1
    os.mkdir(aside)
    for name in names:
        os.replace(os.path.join(folder, name), os.path.join(aside, name))
    return aside


def remove_leftovers(folder, pattern=CHECKPOINT_NAME):
    """Delete the half-written files of killed processes: only names that `write_atomically` makes of own files.
    Call it while holding the folder's lock."""
    for name in _own_files(folder, rf"\.({pattern})\.\d+\.tmp"):
        with contextlib.suppress(OSError):
            os.remove(os.path.join(folder, name))


@contextlib.contextmanager
def hold_folders(settings, state, path):
    """Make the folders of a run, lock them, and set an earlier run's files aside. Raises UserError, CheckpointError."""
    with contextlib.ExitStack() as locks:
        for flag, pattern in (("checkpoint_dir", CHECKPOINT_NAME), ("log_dir", LOG_NAME)):
            folder, cure = getattr(settings, flag), f"choose another --{flag}"
            try:
                os.makedirs(folder, exist_ok=True)
                if flag == "checkpoint_dir" or os.path.realpath(folder) != os.path.realpath(settings.checkpoint_dir):
                    locks.enter_context(RunLock(folder, f"--{flag}"))
                remove_leftovers(folder, pattern)
                if not continues(folder, flag, state, path) and (aside := set_aside(folder, pattern)):
                    print(f"{folder} held an earlier run; its files are now in {aside}", file=sys.stderr)
            except OSError as error:
                if flag == "checkpoint_dir":
                    raise UserError(f"{folder} cannot be written to ({error.strerror}); {cure}") from None
                print(f"warning: {folder} cannot be written to ({error.strerror}); training goes on; {cure}", file=sys.stderr)
        yield


def continues(folder, flag, state, path):
    """Whether a folder's files belong to the run that is resumed, or are damaged and stay where they are."""
    if flag == "checkpoint_dir":
        if state is not None:
            return os.path.realpath(os.path.dirname(path)) == os.path.realpath(folder)
        return newest_valid(folder, say=lambda _: None)[0] is None
    if state is None:
        return False
    try:
        with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8", errors="replace") as f:
            first = f.readline()
        return not first or not state["history"] or json.loads(first) == state["history"][0]
    except FileNotFoundError:
        return True
    except (ValueError, KeyError, TypeError, IndexError):
        return False


# ---------------------------------------------------------------------------------------------
# Where a run starts
# ---------------------------------------------------------------------------------------------


def find_start(settings, typed, preset, resume):
    """The checkpoint to go on from, or None, and the settings of this run. Raises CheckpointError, UserError."""
    if resume == "auto":
        typed = {**typed, "checkpoint_dir": settings.checkpoint_dir}  # a folder may have been renamed since
        path, state = newest_valid(settings.checkpoint_dir, lambda m: print(m, file=sys.stderr))
        if state is None:
            print(f"nothing to resume in {settings.checkpoint_dir}; starting fresh", file=sys.stderr)
    else:
        path, state = resume, load(resume) if resume else None
    if state is None:
        return None, None, settings
    old = settings_of(state, path)
    for name in FIXED_ON_RESUME:
        had, moved = getattr(old, name), name == "captions_file" and typed.get(name) and old.captions_file
        if name in typed and typed[name] != had and not moved:  # a file that was moved is known by its sentences
            raise UserError(f"--{name} {typed[name]} contradicts {path}, which has {had}; leave the flag out or start a new run")
    if preset and any(getattr(old, name) != value for name, value in PRESETS[preset].items() if name not in typed):
        print(f"--preset {preset} is left aside: the settings come from {path}", file=sys.stderr)
    return path, state, resolve(typed, base=old)
