"""Scenes written as codes, which a person can read and type, of models trained with --use_vq.

Objects are divided by "/", and the background is named as one of their properties is: `color=3 shape=7 / shape=1
place=4 / background=2`. What is not named is as where no word sets it; "-" is an object without a code. Glyphs are
codes in the order of their cells, `17 - 4`, where "-" is an empty cell.
"""

from __future__ import annotations

from collections.abc import Sequence

from decoders.properties import BACKGROUND

NOTHING, BETWEEN = "-", " / "
FORMER_NAMES = {"ground": BACKGROUND}


def write_objects(objects: Sequence[dict[str, int]], background: int) -> str:
    """Objects as [{property: code}] and the code of the background, -1 for none -> text.

    >>> write_objects([{"color": 3, "shape": 7}, {}], 2)
    'color=3 shape=7 / - / background=2'
    """
    parts = [" ".join(f"{name}={code}" for name, code in obj.items()) or NOTHING for obj in objects]
    return BETWEEN.join(parts + ([f"{BACKGROUND}={background}"] if background >= 0 else []))


def read_objects(text: str, sizes: dict[str, int], most: int) -> tuple[list[dict[str, int]], int]:
    """Text -> the arguments of `write_objects`. sizes: {property: its number of codes}; most: objects at most.

    Raises ValueError, in one line that names what is wrong.

    >>> read_objects("shape=1 / background=2 / -", {"shape": 5, "background": 3}, 3)
    ([{'shape': 1}, {}], 2)
    """
    objects = []
    background = -1
    for part in text.split("/"):
        named = {}
        for word in part.split() if part.strip() != NOTHING else []:
            name, equals, code = word.partition("=")
            name = FORMER_NAMES.get(name, name)
            if not equals or name not in sizes:
                known = " ".join(f"{name}=0...{n - 1}" for name, n in sizes.items())
                raise ValueError(f"{word!r} is no code; the codes of this model are {known}")
            if name in named or (name == BACKGROUND and background >= 0):
                raise ValueError(f"{word!r} is the second {name}; put / between two objects")
            named[name] = _parse_code(word, code, name, sizes[name])
            if name == BACKGROUND:
                background = named[name]
        if not part.strip():
            raise ValueError(f"{text!r} has an object without a code; write {NOTHING} for it")
        if named.keys() != {BACKGROUND}:
            objects.append({name: code for name, code in named.items() if name != BACKGROUND})
    if not 0 < len(objects) <= most:
        raise ValueError(f"{text!r} has {len(objects)} objects; this model draws 1 to {most}")
    return objects, background


def write_glyphs(glyphs: Sequence[int]) -> str:
    """The codes of the glyphs of a scene by their cells, -1 for an empty cell -> text.

    >>> write_glyphs([17, -1, 4, -1])
    '17 - 4'
    """
    last = max((i for i, code in enumerate(glyphs) if code >= 0), default=-1)
    return " ".join(NOTHING if code < 0 else str(code) for code in glyphs[: last + 1]) or NOTHING


def read_glyphs(text: str, size: int, n_cells: int) -> list[int]:
    """Text -> codes below `size`, -1 for an empty cell, n_cells of them. Raises ValueError, in one line.

    >>> read_glyphs("17 - 4", 20, 5)
    [17, -1, 4, -1, -1]
    """
    glyphs = [-1 if word == NOTHING else _parse_code(word, word, "a code", size) for word in text.split()]
    if len(glyphs) > n_cells:
        raise ValueError(f"{text!r} has {len(glyphs)} cells; this model has {n_cells}")
    if not any(code >= 0 for code in glyphs):
        raise ValueError(f"{text!r} has no code; the codes of this model are 0 to {size - 1}, one for each glyph")
    return glyphs + [-1] * (n_cells - len(glyphs))


def _parse_code(word: str, text: str, name: str, size: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < size):
        raise ValueError(f"{word!r}: {name} is a whole number from 0 to {size - 1}")
    return int(text)
