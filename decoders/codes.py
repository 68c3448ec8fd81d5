"""Scenes written as codes, which a person can read and type, of models trained with --use_vq.

Things are divided by "/", and the ground is named like a property of them: `color=3 shape=7 / shape=1 place=4 / ground=2`. What is
not named is as where no word says it; "-" is a thing of which nothing is said. Marks are numbers in the order of their places:
`17 - 4`, where "-" is a place without a mark.
"""

from decoders.properties import GROUND

NOTHING, BETWEEN = "-", " / "


def write_things(things, ground):
    """Things as [{property: code}] and the code of the ground, -1 for none -> text.

    >>> write_things([{"color": 3, "shape": 7}, {}], 2)
    'color=3 shape=7 / - / ground=2'
    """
    parts = [" ".join(f"{name}={code}" for name, code in thing.items()) or NOTHING for thing in things]
    return BETWEEN.join(parts + ([f"{GROUND}={ground}"] if ground >= 0 else []))


def read_things(text, sizes, most):
    """Text -> what `write_things` takes. sizes: {property: how many codes it has}; most: things at most. Raises ValueError, in
    one line that names what is wrong.

    >>> read_things("shape=1 / ground=2 / -", {"shape": 5, "ground": 3}, 3)
    ([{'shape': 1}, {}], 2)
    """
    things, ground = [], -1
    for part in text.split("/"):
        named = {}
        for word in part.split() if part.strip() != NOTHING else []:
            name, equals, code = word.partition("=")
            if not equals or name not in sizes:
                known = " ".join(f"{name}=0...{n - 1}" for name, n in sizes.items())
                raise ValueError(f"{word!r} is no code; this model's are {known}")
            if name in named or name == GROUND and ground >= 0:
                raise ValueError(f"{word!r} comes after another {name}; put / between two things")
            named[name] = _number(word, code, name, sizes[name])
            if name == GROUND:
                ground = named[name]
        if not part.strip():
            raise ValueError(f"{text!r} has a thing without a code; write {NOTHING} for one of which nothing is said")
        if named.keys() != {GROUND}:
            things.append({name: code for name, code in named.items() if name != GROUND})
    if not 0 < len(things) <= most:
        raise ValueError(f"{text!r} has {len(things)} things; this model draws 1 to {most}")
    return things, ground


def write_glyphs(glyphs):
    """The codes of the marks of a scene by their places, -1 for none -> text.

    >>> write_marks([17, -1, 4, -1])
    '17 - 4'
    """
    last = max((i for i, code in enumerate(glyphs) if code >= 0), default=-1)
    return " ".join(NOTHING if code < 0 else str(code) for code in glyphs[: last + 1]) or NOTHING


def read_glyphs(text, size, most):
    """Text -> codes below `size`, -1 for none, `most` of them. Raises ValueError, in one line that names what is wrong.

    >>> read_marks("17 - 4", 20, 5)
    [17, -1, 4, -1, -1]
    """
    glyphs = [-1 if word == NOTHING else _number(word, word, "code", size) for word in text.split()]
    if len(glyphs) > most:
        raise ValueError(f"{text!r} has {len(glyphs)} places; this model has {most}")
    if not any(code >= 0 for code in glyphs):
        raise ValueError(f"{text!r} has no code; this model's are 0 to {size - 1}, one for each mark")
    return glyphs + [-1] * (most - len(glyphs))


def _number(word, text, name, size):
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < size):
        raise ValueError(f"{word!r}: {name} is a whole number from 0 to {size - 1}")
    return int(text)
