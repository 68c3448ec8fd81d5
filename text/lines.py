"""Lines of a text file as users have them: packed or not, in any encoding that names itself, with any line ends."""

import codecs
import gzip
import io
import os
import re
import stat
import unicodedata
import zlib
from contextlib import contextmanager

from text.signatures import name_of_binary, name_of_text


class CaptionsFileError(ValueError):
    """A captions file from which nothing can be learned, with the reason in one line."""


LINE_CHARACTERS = 1 << 16  # a longer line of prose is cut here while reading, so that a file of one line stays small
HEAD = 1 << 16  # bytes by which the kind of a file is known
GZIP = b"\x1f\x8b"
BYTE_ORDER_MARKS = [
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
]
NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # how Python keeps bytes that it cannot decode
SUSPECTS = 200  # lines by which an encoding is guessed
LEAST_CONFIDENCE = 0.1  # below it Windows-1252, the most common one, is the better guess


SHOWN = 200  # characters of a sentence that a message shows


def shown(text):
    """The beginning of a text in one line for a terminal: without control characters, which could change what it shows.

    >>> shown("a\\tred \\x07ball")
    'a red \ufffdball'
    """
    text = " ".join(text[: 2 * SHOWN].split())
    text = "".join("\ufffd" if unicodedata.category(c) == "Cc" else c for c in text)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


# ---------------------------------------------------------------------------------------------
# Bytes
# ---------------------------------------------------------------------------------------------


@contextmanager
def _open_bytes(path):
    """The bytes of a file, unpacked if they are gzip. Raises OSError, CaptionsFileError."""
    with open(path, "rb") as f:
        packed = f.read(2) == GZIP
        f.seek(0)
        if not packed:
            yield f
            return
        try:
            with gzip.GzipFile(fileobj=f) as unpacked:
                yield unpacked
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CaptionsFileError(f"{path} is a damaged gzip file ({error}); copy or download it again") from None


def _head(path):
    """(encoding, its first bytes) of a text file. Raises OSError, CaptionsFileError for what is no text."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device may never end
        raise CaptionsFileError(f"{path} is not a regular file; name a text file")
    with _open_bytes(path) as f:
        head = f.read(HEAD)
    if found := name_of_binary(head, path):
        raise CaptionsFileError(f"{path} is {found[0]}, not text; {found[1]}")
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and b"\0" in head:
        even, odd = head[::2].count(0), head[1::2].count(0)
        if max(even, odd) > len(head) / 4 and min(even, odd) < max(even, odd) / 10:
            what = f"it looks like UTF-16-{'LE' if odd > even else 'BE'} without a byte-order mark"
            raise CaptionsFileError(f"{path}, line 1 is no UTF-8 text ({what}); save the file as UTF-8")
    return encoding, head


def read_head(path):
    """The first 64 kB of a text file as str, for a look at its format; its last line may lack its end. Raises as `read_lines`."""
    encoding, head = _head(path)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head, final=False)
    text = io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)
    if found := name_of_text(text, path):
        raise CaptionsFileError(f"{path} is {found[0]}; {found[1]}")
    return text


# ---------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------


def read_lines(path, limit=LINE_CHARACTERS):
    """Lines of a text file with their ends, at most `limit` characters of each (0: all); yields (line, was_cut).

    A byte-order mark is dropped, UTF-16 and UTF-32 with a mark are understood, gzip is unpacked, lines may end as on any
    system. Raises OSError, and CaptionsFileError for what is no text and for a line in another encoding, by its number.
    """
    encoding, _ = _head(path)
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    with _open_bytes(path) as binary, io.TextIOWrapper(binary, encoding=encoding, errors=errors) as f:
        number = 0
        while line := f.readline(limit or -1):
            number += 1
            cut, rest = False, line
            while limit and not rest.endswith("\n") and (rest := f.readline(limit)):
                cut |= rest != "\n"
            if not line.isascii() and (NOT_UTF_8.search(line) or "\ufffd" in line):
                raise CaptionsFileError(f"{path}, {_complaint(encoding, number, line, f)}")
            if "\0" in line:
                raise CaptionsFileError(
                    f"{path}, line {number} has NUL characters, which no text has; save the file as UTF-8"
                )
            yield line.lstrip("\ufeff"), cut  # within a file they are left where files were joined


def _complaint(encoding, number, line, rest):
    """What is wrong with a line that holds what could not be decoded. rest: the file behind it."""
    if not NOT_UTF_8.search(line):
        if encoding != "utf-8-sig":
            return f"line {number} is no {encoding.upper()} text; save the file as UTF-8"
        lost = "which stands where an earlier conversion lost a letter"
        return f"line {number} has the character U+FFFD, {lost}; correct the line or leave it out"
    suspects = [line]
    for other in iter(lambda: rest.readline(LINE_CHARACTERS), ""):
        if NOT_UTF_8.search(other):
            suspects.append(other)
        if len(suspects) == SUSPECTS:
            break
    name, text = guess_encoding([s.encode("utf-8", "surrogateescape") for s in suspects])
    return f"line {number} is no UTF-8 text (it looks like {name}: {shown(text)[:60]!r}); save the file as UTF-8"


def guess_encoding(lines):
    """The likely encoding of lines of bytes -> (its name, the first line decoded)."""
    import chardet  # only where something is wrong

    found = chardet.detect(b"".join(lines), encoding_era=chardet.EncodingEra.MODERN_WEB)
    name = found["encoding"] if found["encoding"] and found["confidence"] >= LEAST_CONFIDENCE else "Windows-1252"
    return name, lines[0].decode(name, "replace")
