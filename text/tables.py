"""Tables of captions: CSV and TSV, with a header or without, as Excel, Kaggle and Flickr write them."""

import csv
import re
from dataclasses import dataclass
from itertools import islice

from text.columns import CAPTIONS, PICTURES, SAMPLE, caption_column, kind_of, kind_of_column, picture_column, plain

DELIMITERS = {"\t": "tabs", "|": "“|”", ";": "semicolons", ",": "commas"}
NAME_CHARACTERS, NAME_WORDS = 40, 4  # of a column's name, at most
MOST = 0.9  # share of rows that must be alike
TITLES = 5  # lines before the header of a table
NUMBERED = re.compile(r'"?\d+"?[,;](?=[^\s\d])')  # a number and a caption, and not a number with a comma in it
LINES_OF_A_FIELD = 100  # a quote that is open for longer was never closed
HARD = ("picture", "url", "number")  # kinds of values by which a table is told from prose with commas

csv.field_size_limit(1 << 24)


class BrokenTable(ValueError):
    """A table that cannot be read; the message names the line and what was expected there."""


@dataclass
class Table:
    """How a table is to be read."""

    delimiter: str
    names: list  # of the columns; numbers from "1" where there is no header
    header: int  # lines before the first row
    caption: int  # columns, from 0
    picture: int | None

    def __str__(self):
        kind = "TSV" if self.delimiter == "\t" else "CSV"
        parted = "" if self.delimiter in "\t," else f" with {DELIMITERS[self.delimiter]}"
        picture = "" if self.picture is None else f", pictures in {self.names[self.picture]!r}"
        return f"{kind}{parted}, captions in column {self.names[self.caption]!r}{picture}"

    def complaint(self, fields):
        """What is wrong with a row that has no caption."""
        here = f"{len(fields)} field{'s' * (len(fields) != 1)} parted by {DELIMITERS[self.delimiter]}"
        return f"{here}, expected {len(self.names)}: {', '.join(self.names)}"

    def field(self, fields, column, line):
        """A row's value of a column, None if the row has another number of fields. line: the row as it stands in the file.

        What is too much belongs to a caption that stands last: it holds the delimiter and is not in quotes.
        """
        if any(fields[len(self.names) :]) and column == self.caption:
            parts = line.split(self.delimiter, len(self.names) - 1)
            quoted = any(part.lstrip().startswith('"') for part in parts)
            return parts[-1].strip() if column == len(parts) - 1 and not quoted else None
        return fields[column] if column < len(fields) else None


# ---------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------


def rows_of(lines, delimiter):
    """Rows of a table: (number of the first line, fields without the white space around them, the row as it stands there).

    Raises BrokenTable.
    A field in quotes may hold delimiters, line ends and doubled quotes. Quotes that are no quotes of a field are letters.
    """
    lines = iter(lines)
    number = 0
    for line in lines:
        number += 1
        first, fields = number, _fields(line, delimiter)
        while fields is None and number - first < LINES_OF_A_FIELD and (more := next(lines, None)) is not None:
            number += 1
            line += more
            if more.count('"') % 2:
                fields = _fields(line, delimiter)
        if fields is None:
            raise BrokenTable(
                f"line {first}: a quote opens and does not close; end the field with a quote, and double quotes inside"
            )
        yield first, fields, line


def _fields(line, delimiter):
    """The fields of a row, None if a quote is open at its end."""
    try:
        row = next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True), [])
    except csv.Error as error:
        if "unexpected end" in str(error) or line.count('"') % 2:
            return None
        row = line.split(delimiter)
    return [field.strip() for field in row]


# ---------------------------------------------------------------------------------------------
# Is it a table?
# ---------------------------------------------------------------------------------------------


def find_table(lines, wanted=""):
    """The Table that lines from the beginning of a file are, or None. wanted: --captions_column. Raises ColumnError."""
    skipped, delimiters = 0, list(DELIMITERS)
    if lines and (said := re.fullmatch(r"sep=(.)\s*", lines[0])):  # Excel's own
        skipped, delimiters = 1, [said[1]]
    lines = lines[skipped:]
    samples = {delimiter: _sample(lines, delimiter) for delimiter in delimiters}
    for find in (_with_header, _by_contents):
        for delimiter, rows in samples.items():
            before = _before_table(rows) if rows else 0
            if rows and (table := find(rows[before:], delimiter, wanted, lines)):
                table.header += skipped + before
                return table
    return None


def are_quoted_lines(lines):
    """Whether lines are a table of one column without a header: in quotes where Excel needs them, or all in quotes."""
    rows = _sample(lines, ",")
    quoted = [line for line in lines if line.startswith('"')]
    needed = [line for line in quoted if "," in line or '""' in line]
    return (
        bool(quoted)
        and all(len(row) == 1 for row in rows)
        and len(quoted) in (len(needed), len(lines))
        and len(rows) > 1
    )


def _sample(lines, delimiter):
    """Some rows from the beginning that are not empty."""
    rows = []
    try:
        for _, fields, _ in islice(rows_of(lines, delimiter), 2 * SAMPLE):
            rows += [fields] * any(fields)
    except BrokenTable:  # is said when the file is read
        pass
    return rows[: SAMPLE + 1]


def _before_table(rows):
    """How many rows stand before a table: comments that begin with #, and titles before a row that names captions."""
    comments = next((i for i, row in enumerate(rows) if not row[0].startswith("#")), 0)
    if comments == 1 and len(rows[0]) == len(rows[1]):
        comments = 0  # a header may begin so, too
    titles = next((i for i, row in enumerate(rows[comments:][:TITLES]) if len(row) > 1), 0)
    return comments + titles * any(plain(name) in CAPTIONS for name in rows[comments + titles] if titles)


def _alike(rows):
    """Share of rows that have as many fields as the first one."""
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows)


def _columns(rows, width):
    return [[row[i] for row in rows if i < len(row)] for i in range(width)]


def _looks_like_names(row):
    """Whether a row can be a header: short names, all different."""
    named = [name for name in row if name]
    short = all(len(n) <= NAME_CHARACTERS and len(n.split()) <= NAME_WORDS and n[-1] not in ".!?" for n in named)
    return bool(named) and short and len(set(named)) == len(named)


def _with_header(rows, delimiter, wanted, _):
    """A table whose first row names a column of captions or of pictures."""
    names = rows[0]
    if not _looks_like_names(names):
        return None
    captions = [plain(n) in CAPTIONS or n == wanted for n in names]
    pictures = [plain(n) in PICTURES for n in names]
    if len(names) == 1:
        return Table(delimiter, names, 1, 0, None) if captions[0] and delimiter == "," else None
    sure = any(captions) and any(pictures) or _alike(rows) > 0.5
    if not sure or not (any(captions) or any(pictures) or any("caption" in plain(n) for n in names)):
        return None
    columns = _columns(rows[1:], len(names))
    return Table(delimiter, names, 1, caption_column(names, columns, wanted), picture_column(names, columns))


def _by_contents(rows, delimiter, wanted, lines):
    """A table without known names: rows of equal width with something beside text, or without a space behind any comma, or
    anything parted by tabs or |."""
    first = [kind_of(row[0]) for row in rows]
    named = first.count("picture") >= MOST * len(rows) or _share_of(lines, lambda line: NUMBERED.match(line)) >= MOST
    if delimiter in ",;" and named and _has_commas_of_prose(rows):
        return Table(delimiter, ["1", "2"], 0, caption_column(["1", "2"], [first, []], wanted or "2"), 0)
    width = len(rows[0])
    if width < 2 or _alike(rows) < MOST:
        return None
    kinds = [kind_of_column(values) for values in _columns(rows[1:], width)]
    if delimiter in ",;" and not wanted and not set(HARD) & set(kinds):
        if _share_of(lines, lambda line: _is_tight(line, delimiter)) < MOST:
            return None  # prose with as many commas in every line
    header = _is_header(rows[0], kinds)
    names = rows[0] if header else [str(i + 1) for i in range(width)]
    columns = _columns(rows[header:], width)
    return Table(delimiter, names, int(header), caption_column(names, columns, wanted), picture_column(names, columns))


def _share_of(lines, fits):
    lines = [line for line in lines[: SAMPLE + 1] if line.strip()]
    return sum(bool(fits(line)) for line in lines) / max(1, len(lines))


def _is_tight(line, delimiter):
    """Whether a line has more than one field, and no space behind a delimiter, as only prose has it."""
    try:
        row = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return False
    return len(row) > 1 and not any(field.startswith(" ") for field in row[1:])


def _has_commas_of_prose(rows):
    """Whether a picture's name and a caption stand in each row, and further delimiters belong to the caption."""
    return all(len(row) > 1 for row in rows) and len({len(row) for row in rows}) > 1


def _is_header(row, kinds):
    """Whether the first row names the columns, of which the others have these kinds."""
    hard = [kind_of(name) != kind for name, kind in zip(row, kinds) if kind in HARD]
    soft = [kind_of(name) == "word" for name, kind in zip(row, kinds) if kind == "text"]
    return _looks_like_names(row) and all(hard) and (bool(hard) or all(soft) and bool(soft))
