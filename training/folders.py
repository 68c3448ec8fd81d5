"""One run per folder: locks, unfinished files of killed processes, earlier runs set aside."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from checkpoints import CHECKPOINT_NAME, CheckpointError, load
from runtime.command_line import UserError
from runtime.files import make_folder
from runtime.outputs import NOT_OWN, Manifest, lock, open_unlinked, remove_unfinished
from settings import Settings
from training.metrics_log import is_history

LOG_NAME = r"metrics\.jsonl|training_summary\.txt|training_curves\.png|scenes_epoch_\d+\.png|evolution\.json"
PATTERNS = {"checkpoint_dir": CHECKPOINT_NAME, "log_dir": LOG_NAME}  # of the names that a run writes
EVENTS = "tensorboard/"


class RunLock:
    """Holds `run.lock` of a folder while a run lives. Raises CheckpointError if another run holds it, or a foreign file
    has its name.

    The system releases the lock when the process dies. On a file system without locks (some network drives) nothing is
    locked.
    """

    def __init__(self, folder: Path | str, flag: str = "--checkpoint_dir"):
        self.path = os.path.join(folder, "run.lock")
        self.file = os.fdopen(open_unlinked(self.path, os.O_CREAT), "r+", encoding="utf-8", errors="replace")
        owner = self.file.read(20)
        if not lock(self.file.fileno()):
            self.file.close()
            raise CheckpointError(
                f"{folder} is in use by process {owner.strip() or 'unknown'}; wait for it, or choose another {flag}"
            )
        if owner and not owner.isdecimal():
            self.file.close()
            raise CheckpointError(f"{self.path} is not a lock of this program; move it away, or choose another {flag}")
        self._note(str(os.getpid()))

    def _note(self, owner: str) -> None:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without its note
            self.file.seek(0)
            self.file.truncate(0)
            self.file.write(owner)
            self.file.flush()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_) -> None:
        self._note("")
        with contextlib.suppress(OSError):
            self.file.close()


# ---------------------------------------------------------------------------------------------
# Which files are this program's own
# ---------------------------------------------------------------------------------------------


def _named(folder: Path | str, pattern: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if re.fullmatch(pattern, name))


def _is_checkpoint(path: str) -> bool:
    try:
        load(path, whole=False)
        return not os.path.islink(path)
    except CheckpointError:
        return False


def adopt(folder: Path | str, pattern: str) -> Manifest:
    """The manifest of a run's folder, with the files of a run that were copied there, or are of a version without
    manifests.

    They are known by their content; pictures and summaries by the metrics.jsonl beside them. Raises OSError.
    """
    manifest = Manifest(folder)
    has_old_log = not os.path.exists(manifest.path) and is_history(os.path.join(folder, "metrics.jsonl"))
    for name in _named(folder, pattern):
        if manifest.owns(name):
            continue
        path = os.path.join(folder, name)
        if name.endswith(".pt"):
            is_own = _is_checkpoint(path)
        else:
            is_own = is_history(path) if name == "metrics.jsonl" else has_old_log and os.path.isfile(path)
        if is_own:
            manifest.adopt(name)
    return manifest


def set_aside(folder: Path | str, names: list[str]) -> str:
    """Move files of an earlier run into folder/earlier_1, earlier_2 ... -> that folder. Raises OSError."""
    number = 1
    while os.path.lexists(aside := os.path.join(folder, f"earlier_{number}")):
        number += 1
    for name in names:
        os.makedirs(os.path.dirname(os.path.join(aside, name)), exist_ok=True)
        os.replace(os.path.join(folder, name), os.path.join(aside, name))
    return aside


def prepare(folder: Path | str, flag: str, is_resumed: bool, epochs: int) -> None:
    """Make sure that a run finds no file in its way; call it while the folder is locked. Raises UserError, OSError.

    Files of an earlier run are set aside, and so are damaged checkpoints of the resumed one. A foreign file stays where
    it is: a checkpoint that has its name is refused, and a log is not written.
    """
    pattern = PATTERNS[flag]
    remove_unfinished(folder, pattern)
    manifest = adopt(folder, pattern)
    events = [name for name in manifest.hashes if name.startswith(EVENTS)]
    found = [*_named(folder, pattern), *events]
    former = [] if is_resumed else [name for name in found if manifest.owns(name)]
    if flag == "checkpoint_dir":
        for name in set(found).difference(former):
            number = re.search(r"\d+", name)
            if number and int(number[0]) > epochs or manifest.owns(name):
                continue
            if name not in manifest.hashes:
                raise UserError(f"{os.path.join(folder, name)}: {NOT_OWN}; choose another --{flag}, or move it away")
            former.append(name)
    if former:
        aside = set_aside(folder, former)
        print(f"{folder} held an earlier run; its files are now in {aside}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------
# A run
# ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def hold_folders(settings: Settings, state: dict | None, path: str | None) -> Iterator[None]:
    """Make the folders of a run, lock them, and set an earlier run's files aside.

    state: of the checkpoint `path` that is resumed, or None. Raises UserError, CheckpointError.
    """
    with contextlib.ExitStack() as locks:
        for flag in PATTERNS:
            folder = getattr(settings, flag)
            cure = f"choose another --{flag}"
            try:
                make_folder(folder)
                if flag == "checkpoint_dir" or os.path.realpath(folder) != os.path.realpath(settings.checkpoint_dir):
                    locks.enter_context(RunLock(folder, f"--{flag}"))
                prepare(folder, flag, continues(folder, flag, state, path), settings.epochs)
            except OSError as error:
                if flag == "checkpoint_dir":
                    raise UserError(f"{folder} cannot be written to ({error.strerror}); {cure}") from None
                print(
                    f"warning: {folder} cannot be written to ({error.strerror}); training goes on; {cure}",
                    file=sys.stderr,
                )
        yield


def continues(folder: Path | str, flag: str, state: dict | None, path: str | None) -> bool:
    """Whether a folder's files belong to the run that is resumed."""
    if state is None:
        return False
    if flag == "checkpoint_dir":
        return os.path.realpath(os.path.dirname(path)) == os.path.realpath(folder)
    try:
        with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8", errors="replace") as f:
            first = f.readline()
        return not first or bool(state["history"]) and json.loads(first) == state["history"][0]
    except FileNotFoundError:
        return True
    except (ValueError, KeyError, TypeError, IndexError):
        return False
