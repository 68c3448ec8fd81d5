"""Files that are never half written, checkpoints that load safely, and one run per folder."""

import contextlib
import dataclasses
import glob
import io
import os
import re
import zipfile

import torch

from data_utils import Vocabulary
from models import Circle
from settings import Settings

FORMAT = 1


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message is one line that names the file and the cure."""


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------


def write_atomically(path, data):
    """Bytes -> a file that is there whole or not at all, even if the machine loses power. Raises OSError."""
    folder = os.path.dirname(os.path.abspath(path))
    beside = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(beside)
        raise
    with contextlib.suppress(OSError):  # not every file system lets a folder be flushed
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def save(path, state):
    """Write a state of plain types and tensors. Raises OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def remove_leftovers(folder):
    """Delete the half-written files of killed processes; only names that `write_atomically` makes."""
    for path in glob.glob(os.path.join(glob.escape(folder), ".*.tmp")):
        if re.fullmatch(r"\.(last|best|checkpoint_epoch_\d+)\.pt\.\d+\.tmp", os.path.basename(path)):
            with contextlib.suppress(OSError):
                os.remove(path)


def prune(folder, keep_last, landmark=25):
    """Delete epoch checkpoints older than the newest `keep_last`; every 25th stays. 0 keeps all."""
    if not keep_last:
        return
    numbered = []
    for name in os.listdir(folder):
        if match := re.fullmatch(r"checkpoint_epoch_(\d+)\.pt", name):
            numbered.append((int(match[1]), name))
    for number, name in sorted(numbered)[:-keep_last]:
        if number % landmark:
            with contextlib.suppress(OSError):
                os.remove(os.path.join(folder, name))


# ---------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------


def load(path, device="cpu"):
    """The state in a checkpoint; runs no code of the file. Raises CheckpointError."""
    try:
        size = os.path.getsize(path)
        if not os.path.isfile(path):
            raise CheckpointError(f"{path} is not a file; name a .pt file")
        if size == 0:
            raise CheckpointError(f"{path} is empty; use another checkpoint of the folder")
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                raise CheckpointError(f"{path} is damaged (record {bad}); use another checkpoint of the folder")
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; see which checkpoints are in its folder") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from None
    except CheckpointError:
        raise
    except Exception:  # zipfile, pickle and torch raise many kinds for damaged or foreign files
        raise CheckpointError(f"{path} is no checkpoint, or is damaged ({size} bytes); use another one of the folder") from None
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise CheckpointError(f"{path} is a checkpoint of another program")
    if state["format"] > FORMAT:
        raise CheckpointError(f"{path} has format {state['format']}, this program reads up to {FORMAT}; update the program")
    return state


def model_state(circle, vocab, settings):
    """What every script needs to rebuild a model."""
    return {
        "format": FORMAT,
        "settings": dataclasses.asdict(settings),
        "vocabulary": list(vocab.words),
        "articles": vocab.articles,
        "max_words": circle.language_model.max_words,
        "model": circle.state_dict(),
    }


def settings_of(state, path):
    """The Settings in a state. Raises CheckpointError."""
    try:
        return Settings(**state["settings"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} does not fit this version of the program ({error})") from None


def build(state, path, device):
    """A state -> (Circle in its weights, Vocabulary, Settings). Raises CheckpointError."""
    settings = settings_of(state, path)
    try:
        vocab = Vocabulary(state["vocabulary"], state["articles"])
        circle = Circle(settings, len(vocab), state["max_words"]).to(device)
        circle.load_state_dict(state["model"])
    except Exception as error:
        reason = str(error).splitlines()[0][:120]
        raise CheckpointError(f"{path} does not fit this version of the program ({reason})") from None
    return circle, vocab, settings


def load_model(path, device):
    """A checkpoint's (Circle, Vocabulary, Settings), ready to draw and read. Raises CheckpointError."""
    return build(load(path, device), path, device)


def newest_valid(folder, say=print):
    """The newest checkpoint of a folder that loads, as (path, state); (None, None) if there is none.

    Newest is the one with most steps. A damaged one is named through `say` and left in place.
    """
    names = ["last.pt"] + sorted(os.listdir(folder) if os.path.isdir(folder) else [], reverse=True)
    found = (None, None)
    for name in names:
        if not re.fullmatch(r"(last|checkpoint_epoch_\d+)\.pt", name) or not os.path.exists(os.path.join(folder, name)):
            continue
        path = os.path.join(folder, name)
        if found[0] and (name == "last.pt" or os.path.getmtime(path) <= os.path.getmtime(found[0])):
            continue
        try:
            state = load(path)
            if found[0] is None or state["position"]["step"] > found[1]["position"]["step"]:
                found = (path, state)
        except (CheckpointError, KeyError, TypeError) as error:
            say(f"skipped: {error}")
    return found


# ---------------------------------------------------------------------------------------------
# One run per folder
# ---------------------------------------------------------------------------------------------


class RunLock:
    """Holds `run.lock` of a folder while a run lives; the system lets go of it when the process dies,
    so a lock left behind by a killed run holds nobody up. Raises CheckpointError if a run holds it."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "run.lock")
        self.file = open(self.path, "a+")
        try:
            if os.name == "nt":
                import msvcrt

                self.file.seek(0)
                msvcrt.locking(self.file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.seek(0)
            owner = self.file.read(20).strip() or "unknown"
            self.file.close()
            raise CheckpointError(f"{folder} is in use by process {owner}; choose another --checkpoint_dir") from None
        self.file.truncate(0)
        self.file.write(str(os.getpid()))
        self.file.flush()

    def release(self):
        self.file.truncate(0)
        self.file.close()
