"""One run per folder: locks, leftovers of killed processes, earlier runs set aside."""

import contextlib
import json
import os
import re
import sys

from checkpoints import CHECKPOINT_NAME, CheckpointError, newest_valid
from runtime.command_line import UserError
from runtime.files import make_folder

LOG_NAME = (
    r"metrics\.jsonl|training_summary\.txt|training_curves\.png|scenes_epoch_\d+\.png|evolution\.json|tensorboard"
)


class RunLock:
    """Holds `run.lock` of a folder while a run lives. Raises CheckpointError if another run holds it.

    The system lets go of the lock when the process dies, so a killed run holds nobody up. A file system
    without locks (some network drives) is used without one.
    """

    AT = 1 << 20  # the locked byte: far behind the process id, which Windows would hide from readers otherwise

    def __init__(self, folder, flag="--checkpoint_dir"):
        self.path = os.path.join(folder, "run.lock")
        self.file = open(self.path, "a+", encoding="utf-8")
        try:
            self._lock()
        except (BlockingIOError, PermissionError):  # PermissionError is how Windows says that another holds it
            self.file.seek(0)
            owner = self.file.read(20).strip() or "unknown"
            self.file.close()
            raise CheckpointError(
                f"{folder} is in use by process {owner}; wait for it, or choose another {flag}"
            ) from None
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
                make_folder(folder)
                if flag == "checkpoint_dir" or os.path.realpath(folder) != os.path.realpath(settings.checkpoint_dir):
                    locks.enter_context(RunLock(folder, f"--{flag}"))
                remove_leftovers(folder, pattern)
                if not continues(folder, flag, state, path) and (aside := set_aside(folder, pattern)):
                    print(f"{folder} held an earlier run; its files are now in {aside}", file=sys.stderr)
            except OSError as error:
                if flag == "checkpoint_dir":
                    raise UserError(f"{folder} cannot be written to ({error.strerror}); {cure}") from None
                print(
                    f"warning: {folder} cannot be written to ({error.strerror}); training goes on; {cure}",
                    file=sys.stderr,
                )
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
