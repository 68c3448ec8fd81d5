"""Captions in JSON: COCO and its relatives, lists of records, one object a line, pictures with their captions."""

import json
from dataclasses import dataclass
from itertools import chain, islice

from text.columns import CAPTIONS, PICTURES, SAMPLE, caption_column, picture_column, picture_of, plain, strings_of

EXPECTED = (
    'expected COCO\'s {"annotations": [{"image_id": ..., "caption": ...}]}, a list of objects that have a caption, '
    "or one such object a line"
)


NAMELESS = ("a list of strings", "pictures with their captions")  # documents whose captions stand under no key


class BrokenJson(ValueError):
    """JSON that cannot be read, or that holds no captions; the message says what was expected."""


def looks_like_json(lines):
    """Whether lines from the beginning of a file are JSON: they begin with { or [ as no sentence does."""
    start = "".join(lines).lstrip()[:200]
    inside = start[1:].lstrip()[:1]
    return start[:1] == "{" and inside in ('"', "}", "") or start[:1] == "[" and inside in ("{", '"', "[", "]", "")


def read_json(lines, wanted=""):
    """Lines of a file -> (what it is, an iterator of (line or None, caption, picture or None)). Raises BrokenJson, ColumnError.

    One object a line is read line by line; anything else is held in memory as a whole.
    """
    lines = iter(lines)
    before, first = 0, ""
    for first in lines:
        if first.strip():
            break
        before += 1
    try:
        document = json.loads(first)
    except (ValueError, RecursionError):
        return _whole(_documents(first + "".join(lines), before), wanted)
    more = ((number, line) for number, line in enumerate(lines, before + 2) if line.strip())
    second = next(more, None)
    if second is None:
        return _whole([document], wanted)
    return _by_lines(chain([(before + 1, document)], _parsed(chain([second], more))), wanted)


def _documents(text, before):
    """The JSON values that stand one behind another in a text; mostly there is one."""
    decoder, at, found = json.JSONDecoder(), 0, []
    try:
        while (at := _past_space(text, at)) < len(text):
            value, at = decoder.raw_decode(text, at)
            found.append(value)
    except RecursionError:
        raise BrokenJson("is JSON nested too deeply for captions") from None
    except ValueError as error:
        said = getattr(error, "msg", str(error))
        where = f"line {error.lineno + before}" if hasattr(error, "lineno") else "somewhere"
        raise BrokenJson(f"is broken JSON at {where} ({said}); {EXPECTED}") from None
    return found


def _past_space(text, at):
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _parsed(numbered):
    for number, line in numbered:
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            said = getattr(error, "msg", "nested too deeply")
            raise BrokenJson(
                f"is broken JSON at line {number} ({said}); expected one object a line, as before it"
            ) from None


# ---------------------------------------------------------------------------------------------
# Records
# ---------------------------------------------------------------------------------------------


@dataclass
class _Keys:
    """Which keys of records hold caption and picture."""

    caption: str
    picture: str | None

    @classmethod
    def of(cls, records, wanted):
        """Found by name and by what some records hold. Raises ColumnError."""
        names = list(dict.fromkeys(key for record in records for key in record))
        columns = [[s for r in records if name in r for s in _as_strings(r[name])] for name in names]
        picture = picture_column(names, columns)
        return cls(names[caption_column(names, columns, wanted)], None if picture is None else names[picture])

    def __str__(self):
        return f"captions in {self.caption!r}" + (f", pictures in {self.picture!r}" if self.picture else "")

    def captions(self, record):
        """(caption, picture or None) of a record; one empty caption if it has none."""
        picture = picture_of(record.get(self.picture)) if self.picture else None
        return [(text, picture) for text in strings_of(record.get(self.caption)) or [""]]


def _as_strings(value):
    if isinstance(value, (dict, list)):
        return strings_of(value)
    return [] if value is None or isinstance(value, bool) else [str(value)]


def _has_captions(records, wanted):
    """Whether records name a key for captions."""
    keys = {key for record in records[:SAMPLE] for key in record}
    return wanted in keys if wanted else any(plain(k) in CAPTIONS or "caption" in plain(k) for k in keys)


def _by_lines(numbered, wanted):
    start = list(islice(numbered, SAMPLE))
    if strange := [number for number, value in start if not isinstance(value, dict)]:
        raise BrokenJson(f"has no JSON object at line {strange[0]}; expected one object a line")
    keys = _Keys.of([value for _, value in start], wanted)

    def captions():
        for number, value in chain(start, numbered):
            if not isinstance(value, dict):
                raise BrokenJson(f"has no JSON object at line {number}; expected one object a line")
            yield from ((number, text, picture) for text, picture in keys.captions(value))

    return f"JSON, one object a line, {keys}", captions()


# ---------------------------------------------------------------------------------------------
# Documents
# ---------------------------------------------------------------------------------------------


def _whole(documents, wanted):
    value = documents[0] if len(documents) == 1 else documents
    if isinstance(value, dict) and {"cells", "nbformat"} <= value.keys():
        raise BrokenJson("is a notebook; save its sentences as a text file, one a line")
    kind, records = _records_in_list(value) if isinstance(value, list) else _records_in_object(value, wanted)
    if not records:
        if isinstance(value, dict) and isinstance(value.get("annotations"), list):
            raise BrokenJson(
                'has "annotations" without a "caption"; of COCO take captions_*.json, not instances_*.json'
            )
        raise BrokenJson(f"is JSON without captions; {EXPECTED}")
    keys = _Keys.of(records[:SAMPLE], wanted)
    return f"JSON, {kind}" + f", {keys}" * (kind not in NAMELESS), (
        (None, text, picture) for record in records for text, picture in keys.captions(record)
    )


def _are(kind, values):
    return bool(values) and all(isinstance(value, kind) for value in values)


def _records_in_list(value):
    """(what it is, its records) of a list of objects, of strings or of rows; no records if it is of something else."""
    if _are(dict, value):
        return "a list of objects", value
    if _are(str, value):
        return NAMELESS[0], [{"caption": text} for text in value]
    if _are(list, value):
        header = any(plain(name) in CAPTIONS for name in value[0])
        names = [*map(str, value[0] if header else range(1, max(map(len, value)) + 1))]
        return "a list of rows", [dict(zip(names, row)) for row in value[header:]]
    return "", []


def _records_in_object(value, wanted):
    """The same of an object: lists of records under some of its keys (COCO), records under keys, columns, pictures with their
    captions, or one record."""
    if not isinstance(value, dict) or not value:
        return "", []
    lists = {k: v for k, v in value.items() if isinstance(v, list) and _are(dict, v) and _has_captions(v, wanted)}
    if lists:
        return f"records in {', '.join(map(repr, lists))}", [record for v in lists.values() for record in v]
    columns = {
        k: list(v.values()) if isinstance(v, dict) else v for k, v in value.items() if isinstance(v, (list, dict))
    }
    named = [k for k in columns if _has_captions([{k: None}], wanted)]
    if named and len(columns[named[0]]) and not _are(dict, columns[named[0]]):
        columns = {k: v for k, v in columns.items() if len(v) == len(columns[named[0]])}
        return "columns", [dict(zip(columns, row)) for row in zip(*columns.values())]
    values = list(value.values())
    if _are(dict, values) and _has_captions(values, wanted):
        return "objects under keys", [{"picture": key, **record} for key, record in value.items()]
    if _has_captions([value], wanted):
        return "one object", [value]
    texts = all(isinstance(v, str) or isinstance(v, list) and _are(str, v) for v in values)
    if texts and not any(plain(key) in PICTURES for key in value):
        return NAMELESS[1], [{"picture": key, "caption": v} for key, v in value.items()]
    return "", []
