"""Lines of a text file: UTF-8, or UTF-16 and UTF-32 with a byte-order mark; a gzip file is unpacked."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


class CaptionsFileError(ValueError):
    """A captions file that cannot be used; the message is one line that names the cure."""


LINE_CHARACTERS = 1 << 16  # a longer line is cut, so that a file of one line needs little memory
HEAD = 1 << 16  # bytes that are searched for NUL
SHOWN = 200  # characters of a sentence that a message shows
GZIP = b"\x1f\x8b"
BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
SAVE_AS_TEXT = "save its sentences as plain text or CSV"
NOT_CAPTIONS = {  # how a file begins, in lower case: the error
    b"%pdf-": f"is a PDF document; {SAVE_AS_TEXT}",
    b"pk\3\4": f"is an Office document or a ZIP archive; {SAVE_AS_TEXT}",
    b"{\\rtf": f"is an RTF document; {SAVE_AS_TEXT}",
    b"<!doctype": f"is a web page; {SAVE_AS_TEXT}",
    b"<html": f"is a web page; {SAVE_AS_TEXT}",
    b"<?xml": f"is an XML document; {SAVE_AS_TEXT}",
    b"version https://git-lfs": "is a Git LFS pointer; fetch the file with: git lfs pull",
}
UNDECODED = re.compile("[\udc80-\udcff]")  # how `surrogateescape` keeps bytes that are not UTF-8


def shown(text: str) -> str:
    """The beginning of a text in one line for a terminal, without control characters.

    >>> shown("a\\tred \\x07ball")
    'a red \ufffdball'
    """
    text = " ".join(text[: 2 * SHOWN].split())
    text = "".join("\ufffd" if unicodedata.category(c) == "Cc" else c for c in text)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def read_lines(path: str, limit: int = LINE_CHARACTERS) -> Iterator[tuple[str, bool]]:
    """Yields (line with its end, whether it was cut) of a text file; at most `limit` characters of a line, 0: all.

    Lines end with LF, CR LF or CR. Raises OSError, and CaptionsFileError for a file that is not text.
    """
    with _opened(path) as binary:
        encoding = _encoding(path, binary.read(HEAD))
        binary.seek(0)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
        with io.TextIOWrapper(binary, encoding=encoding, errors=errors) as f:
            number = 0
            while line := f.readline(limit or -1):
                number += 1
                was_cut = False
                rest = line
                while limit and not rest.endswith("\n") and (rest := f.readline(limit)):
                    was_cut |= rest != "\n"
                yield _checked(path, number, line).lstrip("\ufeff"), was_cut  # joined files have such marks inside


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device may never end
        raise CaptionsFileError(f"{path} is not a regular file; name a text file")
    with open(path, "rb") as f:
        is_gzip = f.read(len(GZIP)) == GZIP
        f.seek(0)
        try:
            yield gzip.GzipFile(fileobj=f) if is_gzip else f
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CaptionsFileError(f"{path} is a damaged gzip file ({error}); copy or download it again") from None


def _encoding(path: str, head: bytes) -> str:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:30].lower()
    for prefix, error in NOT_CAPTIONS.items():
        if start.startswith(prefix):
            raise CaptionsFileError(f"{path} {error}")
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        raise CaptionsFileError(f"{path} is not a text file (it has NUL bytes); save it as plain text or CSV, in UTF-8")
    return "utf-8-sig"


def _checked(path: str, number: int, line: str) -> str:
    """A line whose characters were all decoded. Surrogate pairs that were encoded one by one (CESU-8) are joined."""
    if UNDECODED.search(line):
        raw = line.encode("utf-8", "surrogateescape")
        try:
            line = raw.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeError:
            guess = shown(raw.decode("cp1252", "replace"))[:60]
            what = f"is not UTF-8 text (as Windows-1252 it reads {guess!r}); save the file with the encoding UTF-8"
            raise CaptionsFileError(f"{path}, line {number} {what}") from None
    for character, name in (("\0", "U+0000"), ("\ufffd", "U+FFFD")):
        if character in line:
            what = f"has the character {name}, where an earlier conversion lost a letter; correct or remove the line"
            raise CaptionsFileError(f"{path}, line {number} {what}")
    return line
