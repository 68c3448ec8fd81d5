"""Grounding files: what a user sets some words to look like, in TOML: `red = {color = "#e6194b"}`."""

from __future__ import annotations

import os
import re
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

PARTS = ("color", "x", "y", "size")


class GroundingError(ValueError):
    """A grounding file that cannot be used, in one line that names the file."""


def load_grounding(path: str) -> dict[str, dict[str, Any]]:
    """A grounding file -> {word: {"color": [r, g, b], "x", "y", "size"}}, all values in [0, 1].

    Raises GroundingError, OSError.
    """
    try:
        with open(path, "rb") as f:
            words = tomllib.load(f)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GroundingError(
            f"{path}: {str(error).splitlines()[0]}; a line is, for instance, left = {{x = 0.2}}"
        ) from None
    out = {}
    for word, parts in words.items():
        where = f"{path}: {word}"
        if not isinstance(parts, dict) or not parts:
            raise GroundingError(f'{where} sets nothing; write, for instance, {word} = {{color = "#e6194b"}}')
        if unknown := [part for part in parts if part not in PARTS]:
            raise GroundingError(f"{where}: {unknown[0]} is none of {', '.join(PARTS)}")
        out[word] = {part: _value(where, part, value) for part, value in parts.items()}
    if not out:
        raise GroundingError(f"{path} holds no word")
    return out


def grounding_line(grounded: dict[str, dict[str, Any]], path: str = "") -> str:
    """What was grounded, as `load_grounding` returns it, and the file -> one line for reports; "" if nothing was.

    >>> grounding_line({"red": {"color": [1, 0, 0]}, "left": {"x": 0, "y": 0.5}}, "my/own.toml")
    'given, not emerged (own.toml): color of red; place of left'
    """
    words: dict[str, list[str]] = {}  # part -> the words that it is set for
    for word, parts in grounded.items():
        names = [part for part in PARTS if part in parts]
        if "x" in names and "y" in names:
            names[names.index("x") : names.index("y") + 1] = ["place"]
        for name in names:
            words.setdefault(name, []).append(word)
    listed = "; ".join(f"{name} of {', '.join(of)}" for name, of in words.items())
    file = f" ({os.path.basename(path)})" if path else ""
    return f"given, not emerged{file}: {listed}" if listed else ""


def _value(where: str, part: str, value: object) -> list[float] | float:
    if part == "color":
        color = color_of(value) if isinstance(value, str) else None
        if color is None:
            raise GroundingError(f'{where}: {value!r} is no color; write "#rrggbb" or a name that matplotlib knows')
        return color
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise GroundingError(f"{where}: {part} = {value!r} is not from 0 to 1")
    return float(value)


def color_of(name: str) -> list[float] | None:
    """ "#rrggbb" or a name of matplotlib's table -> [r, g, b] in [0, 1], or None."""
    from matplotlib.colors import CSS4_COLORS

    name = str(CSS4_COLORS.get(name, name))
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", name):
        return None
    return [int(name[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def grounded_words(cycle: Any, vocab: Any) -> dict[str, dict[str, Any]]:
    """{word: what a grounding file set and pictures show} of a model; {} without one."""
    return {vocab.words[token]: parts for token, parts in cycle.scene_decoder.grounded_tokens().items()}
