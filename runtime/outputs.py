"""One rule for all outputs: only files that this program made are removed or replaced.

A hidden file beside the outputs, the manifest, lists the name and the SHA-256 of each. A file is this program's own if
the manifest lists its name with its present hash. So a file that a user puts there, or changes, is not touched.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from runtime.command_line import UserError
from runtime.files import TEMPORARY, make_folder, named_space, whole_file

MANIFEST = ".visual_language.jsonl"
HEADER = b'{"made_by": "visual language", "lists": "the outputs of this folder"}'
LOCKED_BYTE = 1 << 20  # beyond the content: Windows lets nobody read a locked byte
NOT_OWN = "it was not made here by this program, or has been changed since"


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file, as hexadecimal digits. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _signature(path: str) -> tuple[int, ...]:
    """What changes when a file changes."""
    status = os.lstat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def open_unlinked(path: Path | str, flags: int) -> int:
    """Open a file for reading and writing, but not through a symbolic link -> file descriptor. Raises OSError."""
    return os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | flags, 0o666)


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed or the process ends -> False if another process holds the lock.

    True also on a file system without locks, as some network drives are.
    """
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # PermissionError is what Windows raises for a lock of another process
        return False
    except OSError:
        pass
    return True


class HashingFile:
    """Writes bytes to an open file and computes their SHA-256."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        self.file.write(data)


class Manifest:
    """The list of files that this program made in a folder. Raises OSError if a foreign file has its name."""

    def __init__(self, folder: Path | str):
        self.folder = os.path.abspath(folder)
        self.path = os.path.join(self.folder, MANIFEST)
        self.hashes: dict[str, set[str]] = {}  # of each name those since the list was begun; "" for a growing file
        self._verified: dict[str, tuple[int, ...]] = {}  # signatures of files whose hash is right
        try:
            with os.fdopen(open_unlinked(self.path, 0), "rb") as f:
                content = f.read()
        except FileNotFoundError:
            return
        if content and not content.startswith(HEADER):
            raise OSError(errno.EEXIST, "has the name of this program's manifest; move it away", self.path)
        for line in content[len(HEADER) :].splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that a loss of power cut off
                row = json.loads(line)
                self.hashes.setdefault(row["name"], set()).add(row["sha256"])

    def owns(self, name: str) -> bool:
        """Whether a file is there, is listed, and has a listed hash."""
        path = os.path.join(self.folder, name)
        try:
            if name not in self.hashes or not stat.S_ISREG(os.lstat(path).st_mode):
                return False
            if "" in self.hashes[name] or self._verified.get(name) == _signature(path):
                return True
            if sha256_of(path) not in self.hashes[name]:
                return False
            self._verified[name] = _signature(path)
            return True
        except OSError:
            return False

    def is_free(self, name: str) -> bool:
        """Whether this program may write a file of this name: there is none, or its own."""
        return not os.path.lexists(os.path.join(self.folder, name)) or self.owns(name)

    def add(self, name: str, sha256: str = "") -> None:
        """List a file before it takes its name, so that a process killed in between leaves no unlisted file. Raises
        OSError.

        Without a hash the name alone makes it this program's own: for files that grow, whose names are unique.
        """
        if sha256 in self.hashes.get(name, ()):
            return
        line = (
            b"\n" + json.dumps({"name": name, "sha256": sha256}).encode()
        )  # not at the end of a line that was cut off
        with os.fdopen(open_unlinked(self.path, os.O_APPEND | os.O_CREAT), "ab") as f:
            f.write(line if f.tell() else HEADER + line)
        self.hashes.setdefault(name, set()).add(sha256)

    def adopt(self, name: str) -> None:
        """List a file that is known by its content as this program's. Raises OSError."""
        self.add(name, sha256_of(os.path.join(self.folder, name)))

    @contextlib.contextmanager
    def open(self, name: str, durable: bool = True, overwrite: bool = False) -> Iterator[HashingFile]:
        """Open a file for bytes that takes its name when it is complete and listed.

        Raises OSError, also for a foreign file of that name unless `overwrite` is given.
        """
        path = os.path.join(self.folder, name)
        self._check_free(name, overwrite)
        with whole_file(path, durable=durable) as f:
            hashing = HashingFile(f)
            yield hashing
            self._check_free(name, overwrite)
            self.add(name, hashing.digest.hexdigest())
        with contextlib.suppress(OSError):
            self._verified[name] = _signature(path)

    def _check_free(self, name: str, overwrite: bool) -> None:
        if not overwrite and not self.is_free(name):
            raise OSError(errno.EEXIST, f"{NOT_OWN}; move it away", os.path.join(self.folder, name))

    def write(self, name: str, data: bytes, durable: bool = True, overwrite: bool = False) -> None:
        """Write a file and list it. Raises OSError as `open` does."""
        with named_space(os.path.join(self.folder, name), len(data)), self.open(name, durable, overwrite) as f:
            f.write(data)

    def remove(self, name: str) -> None:
        """Remove a file if it is this program's own. Raises OSError."""
        if self.owns(name):
            os.remove(os.path.join(self.folder, name))


def write_output(path: Path | str, data: bytes, overwrite: bool = False) -> None:
    """Write a file that its folder's manifest lists. Raises OSError, also for a foreign file of that name."""
    folder, name = os.path.split(os.path.abspath(path))
    Manifest(folder).write(name, data, overwrite=overwrite)


def remove_unfinished(folder: Path | str, names: str) -> None:
    """Remove what killed processes left of files whose names match a pattern. Call it while the folder is locked."""
    for name in os.listdir(folder):
        if re.fullmatch(rf"\.(?:{names}){TEMPORARY}", name):
            with contextlib.suppress(OSError):
                os.remove(os.path.join(folder, name))


def refuse_inputs(folder: Path | str, names: str, inputs: Iterable[Path | str | None]) -> None:
    """Raise UserError if an input file lies in the output folder under a name, of a pattern, that the command
    writes."""
    for path in inputs:
        inside, name = os.path.split(os.path.realpath(path or ""))
        with contextlib.suppress(OSError):
            if path and re.fullmatch(names, name, re.I) and os.path.samefile(inside, folder):
                raise UserError(
                    f"{path} is an input, and --out_dir {folder} would replace it; choose another --out_dir"
                )


class OutputFolder(Manifest):
    """The folder of a command that writes several files, locked against a second command until `close`.

    names: a pattern of the names that the command may write; is_planned: whether it will write a name. Its own files of
    an earlier command are removed first. Raises UserError, before anything is written, if another process holds the
    lock or a foreign file has a planned name, and OSError.
    """

    def __init__(self, folder: Path | str, names: str, is_planned: Callable[[str], bool], overwrite: bool = False):
        super().__init__(folder)
        self.names = names
        self.shown = os.fspath(folder)
        self.overwrite = overwrite
        self.descriptor: int | None = None
        if os.path.exists(self.path):
            self._lock()
        try:
            if not overwrite and os.path.isdir(self.folder):
                self._check(is_planned)
            make_folder(folder)
            if self.descriptor is None:
                self._lock()
            self._begin()
        except BaseException:
            if self.descriptor is not None:
                os.close(self.descriptor)
            raise

    def _lock(self) -> None:
        descriptor = open_unlinked(self.path, os.O_CREAT)
        if not lock(descriptor) or not os.path.exists(self.path):  # the other process may just have removed it
            os.close(descriptor)
            raise UserError(f"{self.shown} is in use by another process; wait for it, or choose another --out_dir")
        self.descriptor = descriptor

    def _check(self, is_planned: Callable[[str], bool]) -> None:
        foreign = next(
            (name for name in sorted(os.listdir(self.folder)) if is_planned(name) and not self.owns(name)), ""
        )
        if foreign:
            cure = "choose another --out_dir, or add --overwrite"
            raise UserError(f"{os.path.join(self.shown, foreign)} is in the way: {NOT_OWN}; {cure}")

    def _begin(self) -> None:
        """Remove the earlier files, and begin the list anew with those of other commands."""
        earlier = [name for name in self.hashes if re.fullmatch(self.names, name)]
        for name in earlier:
            self.remove(name)
        remove_unfinished(self.folder, self.names)
        self.hashes = {name: hashes for name, hashes in self.hashes.items() if name not in earlier}
        os.ftruncate(self.descriptor, 0)
        kept = [(name, sha256) for name, hashes in self.hashes.items() for sha256 in sorted(hashes)]
        self.hashes = {}
        for name, sha256 in kept:
            self.add(name, sha256)

    def open(self, name: str, durable: bool = True, overwrite: bool = False) -> contextlib.AbstractContextManager:
        return super().open(name, durable, overwrite or self.overwrite)

    def close(self) -> None:
        """Unlock the folder. An empty list is removed."""
        if not self.hashes and os.name != "nt":  # Windows removes no open file
            with contextlib.suppress(OSError):
                os.remove(self.path)
        os.close(self.descriptor)

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, *_) -> None:
        self.close()
