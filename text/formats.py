"""Captions out of a file of any format that users have: prose, token files, tables, JSON; each of them packed by gzip or not.

A file of another kind is refused by name, and so is one that looks like one of these and is broken.
"""

import io
import re
from typing import NamedTuple

import numpy as np

from text.columns import CAPTIONS, FLICKR_ID, ColumnError, kind_of_column, picture_of, plain, strings_of
from text.json_captions import BrokenJson, looks_like_json, read_json
from text.lines import HEAD, CaptionsFileError, read_head, read_lines
from text.tables import BrokenTable, Table, are_quoted_lines, find_table, rows_of

TOKEN = re.compile(r"([^\t]+#\d+)\t(.*)")  # Flickr8k.token.txt: name.jpg#0<tab>caption
CLIP = r"[\w-]{11}_\d+_\d+"  # of a video on YouTube, as MSVD names it
NAMED = re.compile(
    rf"({FLICKR_ID.pattern}|{CLIP}|\S+?\.(?:jpe?g|png|gif|bmp|webp|tiff?)(?:#\d+)?)(?:\s*[:–—-])?[ \t]+(.*)", re.I
)
MOST = 0.9  # share of lines that show what a file is
WITHOUT_CAPTION = 0.05  # share of rows without a caption that is skipped; with more the file is broken
ROW_CHARACTERS = 1 << 24
LONGEST_NAME = 300  # characters of a picture's name or address


class Caption(NamedTuple):
    """A caption as it stands in its file."""

    text: str  # "" for an empty line or row
    picture: str | None = None  # what all captions of one picture share, where the format tells
    line: int | None = None  # in the file, from 1, where the format has lines
    cut: bool = False  # whether the line goes on behind what is read of it


class CaptionsReader:
    """The captions of a file, read as a stream each time it is iterated. Raises CaptionsFileError, OSError.

    path: the file; column: the name of the column with the captions, or its number from 1, "" to guess it; with `or_none` plain
    text, which has no columns, is read in spite of it.
    """

    def __init__(self, path, column="", or_none=False):
        self.path, self.column, self.or_none = path, column, or_none
        self.rows = self.broken = 0
        self.complaint = ""  # about the first row without a caption
        self._json = None  # an iterator that has not been used
        head = read_head(path)
        lines = io.StringIO(head).readlines()  # str.splitlines knows ends of lines that files do not have
        if len(lines) > 1 and len(head) >= HEAD // 4:  # the head may end in the middle of a line
            lines.pop()
        try:
            self.format, self._read = self._find(lines)  # what the file is, for people; how it is read
        except (BrokenJson, BrokenTable, ColumnError) as error:
            raise self._error(error) from None

    def __iter__(self):
        self.rows = self.broken = 0
        try:
            yield from self._read()
        except (BrokenJson, BrokenTable, ColumnError) as error:
            raise self._error(error) from None
        if self.broken > WITHOUT_CAPTION * self.rows:
            raise CaptionsFileError(f"{self.path}, {self.complaint} ({self.broken} of {self.rows} rows are like that)")

    def where(self, caption, number):
        """Where a caption stands, for people; number: of the caption, from 1."""
        return f"{self.path}, " + (f"line {caption.line}" if caption.line else f"caption {number}")

    def _error(self, error):
        return CaptionsFileError(f"{self.path}{' ' if str(error).startswith(('is ', 'has ')) else ', '}{error}")

    def _find(self, lines):
        if looks_like_json(lines):
            format_, self._json = read_json(self._lines(limit=0), self.column)
            return format_, self._read_json
        shown = [line for line in lines if line.strip()]
        if _share(TOKEN, shown) > 0.5:
            return "token file, name#number and a tab before each caption", lambda: self._read_named(
                TOKEN, "NAME#NUMBER, a tab"
            )
        if table := find_table(lines, self.column):
            return str(table), lambda: self._read_table(table)
        header = int(_names_caption(shown)) if shown else 0
        if _share(NAMED, shown[header:]) >= MOST:
            return "lines that begin with a picture's name", lambda: self._read_named(
                NAMED, "a picture's name, a space", header
            )
        if self.column and not self.or_none:
            raise ColumnError(f"--captions_column {self.column}: it is plain text, without columns; leave the flag out")
        if are_quoted_lines(shown):
            return "CSV of one column, without a header", lambda: self._read_table(Table(",", ["1"], 0, 0, None))
        if kind_of_column([line[:LONGEST_NAME] for line in shown]) in ("picture", "url"):
            raise ColumnError("is a list of names of pictures, without captions; name the file that has them")
        return "plain text, one sentence a line", self._read_prose

    # ---- the formats ----------------------------------------------------------------------------

    def _lines(self, limit=ROW_CHARACTERS):
        for number, (line, cut) in enumerate(read_lines(self.path, limit), 1):
            if cut:
                raise CaptionsFileError(
                    f"{self.path}, line {number} has more than {limit} characters; it is no row of captions"
                )
            yield line

    def _read_prose(self):
        for line, cut in read_lines(self.path):
            self.rows += 1
            yield Caption(line.strip(), None, self.rows, cut)

    def _read_named(self, pattern, expected, header=0):
        for number, line in enumerate(self._lines(), 1):
            found = pattern.match(line)
            if header and line.strip():
                header -= 1
            elif found or not line.strip():
                self.rows += 1
                yield Caption(found[2].strip(), picture_of(found[1]), number) if found else Caption("", None, number)
            else:
                yield self._without_caption(number, f"expected {expected} and a caption, as on the other lines")

    def _read_table(self, table):
        header = table.header
        for number, fields, line in rows_of(self._lines(), table.delimiter):
            if not any(fields):
                self.rows += 1
                yield Caption("", None, number)
            elif header or fields == table.names:  # again where files were joined
                header = max(0, header - 1)
            elif (value := table.field(fields, table.caption, line)) is None:
                yield self._without_caption(number, table.complaint(fields))
            else:
                self.rows += 1
                picture = None if table.picture is None else picture_of(table.field(fields, table.picture, line))
                yield from (Caption(text, picture, number) for text in strings_of(value))

    def _read_json(self):
        captions, self._json = self._json or read_json(self._lines(limit=0), self.column)[1], None
        for number, text, picture in captions:
            self.rows += 1
            yield Caption(text.strip(), picture, number)

    def _without_caption(self, number, complaint):
        self.rows += 1
        self.broken += 1
        self.complaint = self.complaint if self.broken > 1 else f"line {number}: {complaint}"
        return Caption("", None, number)


def some_captions(path, num, seed):
    """`num` different captions of a file in a random order, or all if it has fewer. Raises CaptionsFileError, OSError."""
    captions = list(dict.fromkeys(c.text.strip() for c in CaptionsReader(path) if c.text.strip()))
    return [captions[i] for i in np.random.default_rng(seed).permutation(len(captions))[:num]]


def _names_caption(lines):
    """Whether the first line is a header: its last word is a name for captions, and it has no more words than a header."""
    words = lines[0].split()
    return 1 < len(words) < 5 and plain(words[-1]) in CAPTIONS


def _share(pattern, lines):
    """Share of lines that a pattern matches."""
    return sum(bool(pattern.match(line)) for line in lines) / max(1, len(lines))
