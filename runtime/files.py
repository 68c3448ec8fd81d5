"""Files that are never half written."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

TEMPORARY = r"\.visual-language-[0-9a-f]{16}\.tmp"  # how the name of an unfinished file ends


@contextlib.contextmanager
def whole_file(path: Path | str, mode: str = "wb", durable: bool = True, **options) -> Iterator[IO]:
    """Open a file that takes its name only when it is complete.

    mode: "w" or "wb"; options: those of `open`. With `durable` the data is on the disk before the file takes its name,
    so that a loss of power leaves the former file or the new one. Raises OSError; the former file stays.
    """
    path = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(path))
    beside = os.path.join(folder, f".{name}.visual-language-{secrets.token_hex(8)}.tmp")
    try:
        # "x" (O_EXCL) opens neither a file that is there nor a symbolic link
        with open(beside, mode.replace("w", "x"), **options) as f:
            yield f
            if durable:
                f.flush()
                os.fsync(f.fileno())
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(beside)
        if isinstance(error, OSError) and error.errno and error.filename in (None, beside):  # such as a full disk
            raise OSError(error.errno, error.strerror, path) from None
        raise
    if durable:
        _flush_folder(folder)


def write_atomically(path: Path | str, data: bytes) -> None:
    """Write bytes to a file that is complete or not there at all, even if the machine loses power.

    Raises OSError, with the space needed if the disk is full; the former file stays.
    """
    with named_space(path, len(data)), whole_file(path) as f:
        f.write(data)


@contextlib.contextmanager
def named_space(path: Path | str, size: int) -> Iterator[None]:
    """Add the bytes needed and the bytes free to the OSError of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        room = _room(os.path.dirname(os.path.abspath(path)))
        raise OSError(error.errno, f"{error.strerror}; {size / 1e6:.1f} MB needed{room}", os.fspath(path)) from None


def make_folder(folder: Path | str) -> None:
    """Make a folder if it is missing, and check that files can be made in it. Raises OSError that names the folder.

    A long run fails here, before its work and not after it.
    """
    os.makedirs(folder, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(folder)) from None


def is_lfs_pointer(path: Path | str) -> bool:
    """Whether a file is a Git LFS pointer: a few lines of text in place of a large file."""
    try:
        with open(path, "rb") as f:
            return f.read(42) == b"version https://git-lfs.github.com/spec/v1"
    except OSError:
        return False


def _flush_folder(folder: str) -> None:
    with contextlib.suppress(OSError):  # not every file system can flush a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _room(folder: str) -> str:
    try:
        return f", {shutil.disk_usage(folder).free / 1e6:.1f} MB free"
    except OSError:
        return ""
