"""Text of any script on pictures: fonts that have its characters, line breaks, and one warning for what no font has."""

from __future__ import annotations

import functools
import os
import re
import sys
import unicodedata
from collections.abc import Iterable

from PIL import ImageDraw, ImageFont, features

from imaging.matplotlib_import import import_matplotlib

import_matplotlib()

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

Color = tuple[int, int, int]

BASE = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # comes with matplotlib
ODD = re.compile(r"bold|italic|oblique|black|light|thin|medium|condensed|narrow|mono|serif|lastresort", re.I)
LINE_SPACING = 1.25  # of the font size
SHAPED = re.compile("[\u0590-\u08ff\u0900-\u0dff]")  # right to left, or with letters that depend on their neighbors
_warned = set()  # characters, and "raqm", that a warning named


# ---------------------------------------------------------------------------------------------
# Which font has a letter
# ---------------------------------------------------------------------------------------------


@functools.cache
def letters_of(path: str) -> frozenset[int]:
    """The code points that a font has; none for a font that is not scalable."""
    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def system_fonts() -> list[str]:
    """Files of the fonts of this machine, plain ones first."""
    paths = font_manager.findSystemFonts()
    return sorted(paths, key=lambda path: (len(ODD.findall(os.path.basename(path))), os.path.basename(path), path))


@functools.cache
def font_for(character: str) -> str | None:
    """The file of a font that has a character; None if there is none, or if it shows nothing."""
    code = ord(character)
    if code in letters_of(BASE):
        return BASE
    if unicodedata.category(character) in ("Cf", "Cc", "Cs", "Co", "Cn") or 0xFE00 <= code <= 0xFE0F:
        return None
    return next((path for path in system_fonts() if code in letters_of(path)), None)


@functools.cache
def _load(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def runs_of_fonts(text: str) -> list[tuple[str, str]]:
    """A text -> [(file of a font, neighboring characters that it draws)]. A character that no font has is drawn as a
    box.

    A combining character belongs to the letter before it, so that the font can place it there.
    """
    found = []
    for character in text:
        path = font_for(character)
        if path is None and unicodedata.category(character) in ("Cf", "Cc", "Cs") or 0xFE00 <= ord(character) <= 0xFE0F:
            if not (found and ord(character) in letters_of(found[-1][0])):
                continue  # an invisible character: without a font it would be a box
            path = found[-1][0]
        elif found and unicodedata.category(character)[0] == "M" and ord(character) in letters_of(found[-1][0]):
            path = found[-1][0]
        path = path or BASE
        if found and found[-1][0] == path:
            found[-1][1] += character
        else:
            found.append([path, character])
    return [(path, characters) for path, characters in found]


def warn_of_missing(texts: Iterable[str]) -> None:
    """Warn on standard error, once for each character, that no font of this machine has it."""
    texts = list(texts)
    missing = {
        c
        for text in texts
        for c in text
        if font_for(c) is None and unicodedata.category(c)[0] not in "CMZ" and c not in _warned
    }
    if missing:
        shown = " ".join(sorted(missing)[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        cure = "install a font that has them, such as Noto Sans CJK, Noto Sans Devanagari or Noto Emoji"
        print(f"warning: no font here has {shown}; pictures with text show boxes for them; {cure}", file=sys.stderr)
    shaped = {c for text in texts for c in SHAPED.findall(text)} - missing
    if shaped and not features.check("raqm") and "raqm" not in _warned:
        _warned.add("raqm")
        print(
            "warning: this Pillow has no raqm; pictures with text show Arabic, Hebrew and Indic letters out of order",
            file=sys.stderr,
        )
    _warned.update(missing)


# ---------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------


def width_of(text: str, size: int) -> float:
    """The width of a text in px."""
    return sum(_load(path, size).getlength(characters) for path, characters in runs_of_fonts(text))


def wrap(text: str, width: int, size: int, most: int = 4) -> list[str]:
    """Break a text into at most `most` lines of a width in px; the last one ends in … if there is more.

    Lines break at spaces, and inside words that are too wide, as in scripts without spaces.
    """
    lines = [""]
    for word in text.split():
        if len(lines) > most:
            break
        longer = f"{lines[-1]} {word}".lstrip()
        if width_of(longer, size) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word[: 100 * most]:
            if (
                lines[-1]
                and width_of(lines[-1] + character, size) > width
                and unicodedata.category(character)[0] != "M"
            ):
                lines.append("")
            lines[-1] += character
    if len(lines) > most:
        last = lines[most - 1]
        while last and width_of(last + "…", size) > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last.rstrip() + "…"]
    return lines


def draw_text(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int = 12, fill: Color = (0, 0, 0)
) -> None:
    """Draw one line of text; `at` is its upper left corner, px."""
    x = at[0]
    y = at[1] + _load(BASE, size).getmetrics()[0]  # on a common base line
    for path, characters in runs_of_fonts(text):
        font = _load(path, size)
        draw.text((x, y), characters, fill=fill, font=font, anchor="ls")
        x += font.getlength(characters)


def draw_paragraph(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    width: int,
    size: int = 12,
    fill: Color = (0, 0, 0),
    most: int = 4,
) -> int:
    """Draw a text in at most `most` lines of a width in px -> the height used, px."""
    lines = wrap(text, width, size, most)
    step = round(size * LINE_SPACING)
    for i, line in enumerate(lines):
        draw_text(draw, (at[0], at[1] + i * step), line, size, fill)
    return len(lines) * step
