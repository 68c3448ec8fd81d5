"""Which column of a table, or which key of JSON records, holds the captions, and which one names the picture."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from captions.lines import shown

CAPTIONS = {
    "caption", "captions", "text", "texts", "sentence", "sentences", "description", "descriptions", "comment",
    "comments", "raw", "alttext", "phrase",
}  # fmt: skip
PICTURES = [  # in order of preference
    "imageid", "imgid", "cocoid", "videoid", "image", "img", "imagename", "filename", "file", "imagefile", "imagepath",
    "filepath", "path", "picture", "photo", "photoid", "video", "imageurl", "imgurl", "url",
]  # fmt: skip
FILE_NAME = re.compile(r"\w+://\S+|\S.*\.(?:jpe?g|png|gif|bmp|webp|tiff?)|\d{5,}_[0-9a-f]{6,}", re.I)
PLAIN_LINES = "or read its lines as plain text with --captions_format text"
FEW = 3  # values that may begin alike by chance


class ColumnError(ValueError):
    """No column, or more than one, can hold the captions; the message lists the columns."""


@dataclass
class Columns:
    """What is read of a table or of JSON records."""

    names: list[str]
    caption: int  # index of the column
    picture: int | None

    @classmethod
    def of(cls, names: list[str], values: Sequence[Sequence[str]], wanted: str = "") -> Columns:
        """Chosen by names and some values of each column; wanted: --captions_column. Raises ColumnError."""
        return cls(names, _caption_column(names, values, wanted), _picture_column(names, values))

    def __str__(self) -> str:
        picture = "" if self.picture is None else f", pictures in {self.names[self.picture]!r}"
        return f"captions in column {self.names[self.caption]!r}{picture}"


def _caption_column(names: list[str], values: Sequence[Sequence[str]], wanted: str) -> int:
    listed = ", ".join(f"{name!r} ({shown(some[0])[:20]})" if some else repr(name) for name, some in zip(names, values))
    if wanted:
        for is_wanted in ([name == wanted for name in names], [plain(name) == plain(wanted) for name in names]):
            if any(is_wanted):
                return is_wanted.index(True)
        if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
            return int(wanted) - 1
        raise ColumnError(f"--captions_column {wanted} is none of its columns: {listed}")
    named = [i for i, name in enumerate(names) if plain(name) in CAPTIONS]
    found = named
    if len(named) != 1:
        found = [i for i in named or range(len(names)) if _may_be_captions(values[i])] or named
    if len(found) == 1:
        return found[0]
    example = names[found[0] if found else -1]
    raise ColumnError(
        f"its columns are {listed}; name the one with the captions, such as --captions_column {example}; {PLAIN_LINES}"
    )


def _picture_column(names: list[str], values: Sequence[Sequence[str]]) -> int | None:
    plain_names = [plain(name) for name in names]
    named = [plain_names.index(name) for name in PICTURES if name in plain_names]
    files = [i for i, some in enumerate(values) if sum(_is_file_name(v) for v in some) > len(some) / 2]
    return next(iter(named + files), None)


def _may_be_captions(values: Sequence[str]) -> bool:
    """Whether most values have letters and are no file names, one is more than a word, and few begin alike."""
    texts = [value for value in values if _is_text(value)]
    # Scripts from Thai on write sentences without spaces
    has_sentence = any(len(text.split()) > 1 or text[-1] in ".!?" or max(text) >= "\u0e00" for text in texts)
    beginnings = Counter(tuple(text.split()[:3]) for text in texts)
    begin_alike = max(beginnings.values(), default=0) > max(FEW, len(texts) / 2)
    return has_sentence and 2 * len(texts) > len(values) and not begin_alike


def _is_text(value: str) -> bool:
    return any(map(str.isalpha, value)) and not _is_file_name(value)


def _is_file_name(value: str) -> bool:
    return bool(FILE_NAME.fullmatch(re.sub(r"#\w+$", "", value.strip())))


def plain(name: str) -> str:
    """A column's name in lower case, without spaces, hyphens and underscores.

    >>> plain(" Image_Name")
    'imagename'
    """
    return re.sub(r"[\s_-]+", "", name).casefold()


def names_captions(names: Iterable[str], wanted: str = "") -> bool:
    """Whether one of the names is the wanted one; or, without that, a usual name of captions."""
    return wanted in names if wanted else any(plain(name) in CAPTIONS for name in names)


def names_pictures(names: Iterable[str]) -> bool:
    """Whether one of the names is a usual name of pictures."""
    return any(plain(name) in PICTURES for name in names)


def is_header(rows: Sequence[Sequence[str]], wanted: str = "") -> bool:
    """Whether the first of some rows has names: a usual one, the wanted one, single words only, or text above a column
    that has none.

    >>> [is_header(rows) for rows in ([["Image Name", "x y"]], [["en", "de"]], [["Bild 1", "x y"], ["7", "a dog"]])]
    [True, True, True]
    >>> is_header([["a dog runs", "ein Hund rennt"], ["a cat", "eine Katze"]])
    False
    """
    names = rows[0]
    single_words = all(re.fullmatch(r"[^\W\d][\w-]*", name) for name in names) and len(set(names)) == len(names)
    has_text = [[_is_text(cell) for cell in column] for column in zip(*rows, strict=False)]
    above = any(first and others and not any(others) for first, *others in has_text)
    return names_captions(names) or names_pictures(names) or wanted in names or single_words or above


def strings_of(value: object) -> list[str]:
    """The captions in a value: a string, a list of strings (in a table as JSON), or objects that hold one.

    >>> strings_of("a dog"), strings_of('["a dog", "it runs"]'), strings_of([{"raw": "a dog", "id": 3}])
    (['a dog'], ['a dog', 'it runs'], ['a dog'])
    """
    if isinstance(value, str) and value.startswith('["') and value.endswith('"]'):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
    if isinstance(value, list):
        return [text for item in value for text in strings_of(item)]
    if isinstance(value, dict):
        return next((strings_of(item) for key, item in value.items() if plain(key) in CAPTIONS), [])
    return [value] if isinstance(value, str) else []


def picture_of(value: object) -> str | None:
    """The key of a picture: "1.jpg#0" and "1.jpg#4" are one. None for an empty value."""
    text = "" if value is None else str(value).strip()
    return re.sub(r"#\w+$", "", text) or None
