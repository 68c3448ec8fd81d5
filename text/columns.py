"""Which column of a table, or which key of JSON records, holds the captions, and which names the picture."""

import ast
import json
import re

CAPTIONS = {
    "caption", "captions", "text", "texts", "sentence", "sentences", "description", "descriptions", "comment", "comments",
    "raw", "utterance", "alttext", "phrase",
}  # fmt: skip
PICTURES = [  # the first of them that a table has; names as `plain` makes them
    "imageid", "imgid", "cocoid", "videoid", "image", "img", "imagename", "filename", "file", "imagefile", "imagepath", "filepath",
    "path", "picture", "photo", "photoid", "video", "clip", "clipid", "videoname", "imageurl", "imgurl", "url", "flickrurl", "cocourl",
]  # fmt: skip
NO_CAPTION = re.compile(r"(id|ids|number|no|num|index|count|length|len|url|lang|language|time|date|score|source)$")
FILE_NAME = re.compile(r"\S.*\.(?:jpe?g|png|gif|bmp|webp|tiff?|mp4|avi|webm|npy)(?:\.\d+)?(?:#\w+)?", re.I)
FLICKR_ID = re.compile(r"\d{5,}_[0-9a-f]{6,}(?:#\d+)?")
URL = re.compile(r"\w+://\S+")
NUMBER = re.compile(r"[-+]?[\d.,:/ -]*\d[\d.,:/ -]*%?")
ENOUGH = 0.6  # share of a column's values that make it one of a kind
SAMPLE = 100  # records or rows by which columns are judged


class ColumnError(ValueError):
    """No column, or more than one, can hold the captions; the message names them."""


def plain(name):
    """A column's name without case, spaces and punctuation.

    >>> plain(" Image_Name")
    'imagename'
    """
    return re.sub(r"[\W_]+", "", str(name)).casefold()


# ---------------------------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------------------------


def kind_of(value):
    """What a string is: "picture", "url", "number", "word", "text" or "" for nothing.

    >>> [kind_of(v) for v in ("a/b.jpg#0", "http://x.org/1", "2021-03-04", "train", "a dog runs", "犬が走る", " ")]
    ['picture', 'url', 'number', 'word', 'text', 'text', '']
    """
    value = value.strip()
    if not value:
        return ""
    if FILE_NAME.fullmatch(value) or FLICKR_ID.fullmatch(value):
        return "picture"
    if URL.fullmatch(value):
        return "url"
    if NUMBER.fullmatch(value):
        return "number"
    unspaced = sum(c >= "\u0e00" and c.isalpha() for c in value) > 2  # Thai, Chinese, Japanese write no spaces
    return "text" if unspaced or len([w for w in value.split() if any(c.isalpha() for c in w)]) > 1 else "word"


def kind_of_column(values):
    """The kind that most of a column's values have, "" if none has a majority."""
    kinds = [k for k in map(kind_of, values) if k]
    return next((k for k in sorted(set(kinds)) if kinds.count(k) >= ENOUGH * len(kinds)), "")


def strings_of(value):
    """The captions in one value: a string, a list of strings (also as text, as tables have it), or records that hold one.

    >>> strings_of("a dog"), strings_of('["a dog", "it runs"]'), strings_of([{"raw": "a dog", "id": 3}])
    (['a dog'], ['a dog', 'it runs'], ['a dog'])
    """
    if isinstance(value, str):
        text = value.strip()
        if text[:2] in ('["', "['") and text[-1:] == "]":
            for parse in (json.loads, ast.literal_eval):
                try:
                    found = parse(text)
                except (ValueError, SyntaxError, RecursionError, MemoryError):
                    continue
                if isinstance(found, list) and all(isinstance(x, str) for x in found):
                    return found
        return [value]
    if isinstance(value, list):
        return [s for item in value for s in strings_of(item)]
    if isinstance(value, dict):
        return next((strings_of(v) for k, v in value.items() if plain(k) in CAPTIONS and isinstance(v, str)), [])
    return []


def picture_of(value):
    """The key of a picture: "1.jpg#0" and "1.jpg#4" are one. None for nothing."""
    text = re.sub(r"#\w+$", "", str(value).strip()) if value is not None else ""
    return text or None


# ---------------------------------------------------------------------------------------------
# Columns
# ---------------------------------------------------------------------------------------------


def caption_column(names, columns, wanted=""):
    """The number of the column that holds the captions.

    names: of the columns; columns: some values of each, as strings; wanted: the name or number (from 1) that a user typed.
    Raises ColumnError if there is none, or if it is not plain which.
    """
    listed = ", ".join(map(repr, names))
    if wanted:
        for same in (lambda n: n == wanted, lambda n: plain(n) == plain(wanted) != ""):
            if found := [i for i, n in enumerate(names) if same(str(n))]:
                return found[0]
        if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
            return int(wanted) - 1
        raise ColumnError(f"--captions_column {wanted} is none of its columns: {listed}")
    of_text = [i for i, values in enumerate(columns) if kind_of_column(values) == "text"]
    for found in (
        [i for i, n in enumerate(names) if plain(n) in CAPTIONS],
        [i for i, n in enumerate(names) if "caption" in plain(n) and not NO_CAPTION.search(plain(n))],
        of_text,
    ):
        found = [i for i in found if i in of_text] if len(found) > 1 else found
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(repr(names[i]) for i in found)
            raise ColumnError(
                f"its columns {several} can all hold captions; name one: --captions_column {names[found[0]]}"
            )
    raise ColumnError(f"none of its columns is known to hold captions: {listed}; name one with --captions_column")


def picture_column(names, columns):
    """The number of the column that names the picture, None if there is none."""
    at = {plain(n): i for i, n in reversed(list(enumerate(names)))}
    kinds = [kind_of_column(values) for values in columns]
    by_contents = [kinds.index(kind) for kind in ("picture", "url") if kind in kinds]
    return next((at[name] for name in PICTURES if name in at), by_contents[0] if by_contents else None)
