"""The captions of a file: plain text, a table (CSV, TSV), JSON or JSONL; docs/data.md has the rules that choose one."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from captions import FORMATS
from captions.columns import (
    PLAIN_LINES,
    ColumnError,
    Columns,
    is_header,
    names_captions,
    names_pictures,
    picture_of,
    strings_of,
)
from captions.lines import CaptionsFileError, read_lines

DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "“|”"}
TOKEN = re.compile(r"[^\t]+#\d+\t")  # Flickr8k.token.txt: name.jpg#0, a tab, the caption
JSON_START = re.compile(r'\s*(?:\{\s*(?:"|$)|\[\s*(?:["{]|$))')
SAMPLE = 100  # lines or records by which columns are chosen
MOST_WITHOUT_CAPTION = 0.05  # of the rows
ROW_CHARACTERS = 1 << 24  # in a row of a table or a line of JSONL, at most
EXPECTED = 'expected a list of strings or of objects with a "caption", COCO\'s "annotations", or one object a line'


class Caption(NamedTuple):
    """A caption as it stands in its file."""

    text: str  # "" for an empty line or row
    picture: str | None = None  # equal for all captions of a picture, where the file names it
    line: int | None = None  # in the file, from 1, where the format has lines
    cut: bool = False  # whether the line is longer than what was read of it


class CaptionsReader:
    """The captions of a file, read as a stream each time it is iterated. Raises CaptionsFileError, OSError.

    column: the name of the column (or JSON key) with the captions, or its number from 1; "" chooses it.
    file_format: one of FORMATS; "auto" follows the ending of the file's name.
    or_none: whether plain text, which has no columns, is read although a column is given.

    `format` describes how the file is read. After an iteration `broken` is the number of rows without a caption, which are
    skipped, and `complaint` is about the first of them.
    """

    def __init__(self, path: str, column: str = "", file_format: str = "auto", or_none: bool = False):
        self.path = path
        self.column = column
        self.broken = 0
        self.complaint = ""
        start = [line for line, _ in islice(read_lines(path), SAMPLE) if line.strip()]
        ending = PurePath(path.lower().removesuffix(".gz")).suffix[1:] if file_format == "auto" else file_format
        if ending not in FORMATS:
            ending = _format_of(start, column)
        try:
            if ending in ("json", "jsonl"):
                self._open_json()
            elif ending in ("csv", "tsv") and start:
                self._open_table(start[0], "\t" if ending == "tsv" else _delimiter(start[0]))
            elif column and start and not or_none:
                cure = "leave it out, or give --captions_format csv, tsv, json or jsonl"
                raise ColumnError(f"--captions_column {column}: plain text has no columns; {cure}")
            else:
                self.format = "plain text, one sentence a line"
                self._read = self._read_text
        except ColumnError as error:
            raise CaptionsFileError(f"{path}: {error}") from None

    def __iter__(self) -> Iterator[Caption]:
        rows = 0
        self.broken = 0
        for caption in self._read():
            rows += 1
            yield caption
        if self.broken > MOST_WITHOUT_CAPTION * rows:
            found = f"{self.path}, {self.complaint}; {self.broken} of {rows} rows are like that"
            raise CaptionsFileError(f"{found}; correct them, {PLAIN_LINES}")

    def where(self, caption: Caption, number: int) -> str:
        """Where a caption stands, for a message; number: of the caption, from 1."""
        return f"{self.path}, " + (f"line {caption.line}" if caption.line else f"caption {number}")

    def _lines(self) -> Iterator[str]:
        for number, (line, was_cut) in enumerate(read_lines(self.path, ROW_CHARACTERS), 1):
            if was_cut:
                raise CaptionsFileError(f"{self.path}, line {number} has more than {ROW_CHARACTERS} characters")
            yield line

    def _read_text(self) -> Iterator[Caption]:
        for number, (line, was_cut) in enumerate(read_lines(self.path), 1):
            yield Caption(line.strip(), None, number, was_cut)

    # ---- tables ---------------------------------------------------------------------------------

    def _open_table(self, first_line: str, delimiter: str) -> None:
        self._delimiter = delimiter
        rows = [[cell.strip() for cell in row] for _, row in islice(self._rows(), SAMPLE) if any(row)]
        if delimiter == "\t" and TOKEN.match(first_line):
            self._header = []
            self._columns = Columns(["NAME#NUMBER", "caption"], caption=1, picture=0)
            self.format = "token file (NAME#NUMBER, a tab, the caption)"
        else:
            self._header = rows[0] if is_header(rows, self.column) else []
            names = self._header or [str(i + 1) for i in range(len(rows[0]))]
            rows = rows[1:] if self._header else rows
            values = [[row[i] for row in rows if i < len(row) and row[i]] for i in range(len(names))]
            self._columns = Columns.of(names, values, self.column)
            kind = "TSV" if delimiter == "\t" else "CSV"
            self.format = f"{kind}, {self._columns}"
        self._read = self._read_table

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """(number of the first line, cells) of each row. With commas and semicolons, cells in quotes may have several lines."""
        has_quotes = self._delimiter in ",;"
        quoting = csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE
        reader = csv.reader(self._lines(), delimiter=self._delimiter, quoting=quoting, strict=True)
        number = 1
        try:
            for row in reader:
                yield number, row if has_quotes else [_unquoted(cell.strip()) for cell in row]
                number = reader.line_num + 1
        except csv.Error as error:
            cure = "put a cell with commas or quotes in quotes, and double the quotes inside"
            raise CaptionsFileError(f"{self.path}, line {number}: broken CSV ({error}); {cure}") from None

    def _read_table(self) -> Iterator[Caption]:
        caption, picture, names = self._columns.caption, self._columns.picture, self._columns.names
        width = len(names)
        for number, row in self._rows():
            if any(row[width:]) and caption == width - 1:  # a caption with commas and without quotes
                row = [*row[:caption], self._delimiter.join(row[caption:])]
            row = [cell.strip() for cell in row]
            if not any(row):
                yield Caption("", None, number)
            elif any(row[width:]) or len(row) <= caption:
                self.broken += 1
                found = f"{len(row)} cell{'s' * (len(row) != 1)} separated by {DELIMITERS[self._delimiter]}"
                self.complaint = self.complaint or f"line {number}: {found}, expected {width}: {', '.join(names)}"
                yield Caption("", None, number)
            elif row != self._header:  # which joined files have again
                name = None if picture is None else picture_of(row[picture])
                yield from (Caption(text, name, number) for text in strings_of(row[caption]))

    # ---- JSON -----------------------------------------------------------------------------------

    def _open_json(self) -> None:
        sample = [record for _, record in islice(self._records(), SAMPLE)]
        if not sample:
            raise CaptionsFileError(f"{self.path} is JSON without captions; {EXPECTED}")
        names = list(dict.fromkeys(key for record in sample for key in record))
        values = [[text for record in sample for text in strings_of(record.get(name))] for name in names]
        self._columns = Columns.of(names, values, self.column)
        self.format = f"JSON, {self._columns}"
        self._read = self._read_json

    def _read_json(self) -> Iterator[Caption]:
        caption, picture, names = self._columns.caption, self._columns.picture, self._columns.names
        for number, record in self._records():
            name = None if picture is None else picture_of(record.get(names[picture]))
            for text in strings_of(record.get(names[caption])) or [""]:
                yield Caption(text.strip(), name, number)

    def _records(self) -> Iterator[tuple[int | None, dict]]:
        """(line, record) of JSONL, which is read line by line; (None, record) of one JSON document."""
        first_two = list(islice((line for line, _ in read_lines(self.path, ROW_CHARACTERS) if line.strip()), 2))
        if len(first_two) == 2 and _is_json(first_two[0]):
            numbered = ((number, line) for number, line in enumerate(self._lines(), 1) if line.strip())
            values = ((number, self._parsed(line, number)) for number, line in numbered)
        else:
            document = self._parsed("".join(line for line, _ in read_lines(self.path, limit=0)))
            values = ((None, value) for value in self._records_in(document))
        for number, value in values:
            if not isinstance(value, (dict, str)):
                where = f"line {number}" if number else "its list"
                raise CaptionsFileError(f"{self.path}, {where} has a value that is no object and no string; {EXPECTED}")
            yield number, {"caption": value} if isinstance(value, str) else value

    def _parsed(self, text: str, number: int | None = None) -> object:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            where = f"line {number or error.lineno}"
            raise CaptionsFileError(f"{self.path} is broken JSON at {where} ({error.msg}); {EXPECTED}") from None
        except (ValueError, RecursionError) as error:  # a number of too many digits, too many brackets
            raise CaptionsFileError(f"{self.path} is JSON that cannot be read ({error}); {EXPECTED}") from None

    def _records_in(self, document: object) -> list:
        """The list that a document is, or holds under a key, as COCO's "annotations"; several such lists are joined."""
        if not isinstance(document, dict):
            return document if isinstance(document, list) else []
        lists = [value for value in document.values() if isinstance(value, list) and self._have_captions(value)]
        return [record for records in lists for record in records] or [document] * self._have_captions([document])

    def _have_captions(self, records: list) -> bool:
        keys = {key for record in records[:SAMPLE] if isinstance(record, dict) for key in record}
        return names_captions(keys, self.column)


def _format_of(start: list[str], column: str) -> str:
    """The format of a file whose name does not give it, by its first lines that are not empty; see docs/data.md."""
    if not start:
        return "text"
    if JSON_START.match(start[0]):
        return "json"
    tabs = {line.count("\t") for line in start}
    if TOKEN.match(start[0]) or len(start) > 1 and len(tabs) == 1 and tabs != {0}:
        return "tsv"
    delimiter = _delimiter(start[0])
    names = start[0].strip().split(delimiter)
    has_names = column in names if column else names_captions(names) and names_pictures(names)
    return "csv" if has_names and any(delimiter in line for line in start[1:2]) else "text"


def _delimiter(first_line: str) -> str:
    """The most frequent delimiter in the first line of a table; of equally frequent ones the first of DELIMITERS."""
    return max(DELIMITERS, key=first_line.count) if any(map(first_line.count, DELIMITERS)) else ","


def _unquoted(cell: str) -> str:
    """A cell without the quotes around it, between which quotes are doubled.

    >>> _unquoted('"a ""big"" dog"'), _unquoted('"Hello," he said, "dear."')
    ('a "big" dog', '"Hello," he said, "dear."')
    """
    inside = cell[1:-1]
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if is_quoted else cell


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
        return True
    except (ValueError, RecursionError):
        return False


def some_captions(path: str, num: int, seed: int) -> list[str]:
    """`num` different captions of a file in a random order, or all if it has fewer. Raises CaptionsFileError, OSError."""
    captions = list(dict.fromkeys(c.text.strip() for c in CaptionsReader(path) if c.text.strip()))
    return [captions[i] for i in np.random.default_rng(seed).permutation(len(captions))[:num]]
