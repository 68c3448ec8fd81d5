"""Text of any script on pictures: fonts that have its letters, lines that fit, and one warning for what no font has."""

import functools
import os
import re
import sys
import unicodedata

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont, features

BASE = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # comes with matplotlib
ODD = re.compile(r"bold|italic|oblique|black|light|thin|medium|condensed|narrow|mono|serif|lastresort", re.I)
LINE_SPACING = 1.25  # of the size of the letters
SHAPED = re.compile("[\u0590-\u08ff\u0900-\u0dff]")  # right to left, or letters that change beside others
_told = set()  # what was warned of


# ---------------------------------------------------------------------------------------------
# Which font has a letter
# ---------------------------------------------------------------------------------------------


@functools.cache
def letters_of(path):
    """The code points that a font has; none for a font whose letters have one size."""
    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def system_fonts():
    """Files of the fonts of this machine, plain ones first."""
    paths = font_manager.findSystemFonts()
    return sorted(paths, key=lambda path: (len(ODD.findall(os.path.basename(path))), os.path.basename(path), path))


@functools.cache
def font_for(character):
    """The file of a font that has a character; None if there is none, or if it shows nothing."""
    code = ord(character)
    if code in letters_of(BASE):
        return BASE
    if unicodedata.category(character) in ("Cf", "Cc", "Cs", "Co", "Cn") or 0xFE00 <= code <= 0xFE0F:
        return None
    return next((path for path in system_fonts() if code in letters_of(path)), None)


@functools.cache
def _load(path, size):
    return ImageFont.truetype(path, size)


def pieces(text):
    """Neighboring characters that one font draws -> [(file of the font, characters)]. What no font has is a box.

    A mark belongs to the letter before it, so that a font can put it there.
    """
    found = []
    for character in text:
        path = font_for(character)
        if path is None and unicodedata.category(character) in ("Cf", "Cc", "Cs") or 0xFE00 <= ord(character) <= 0xFE0F:
            if not (found and ord(character) in letters_of(found[-1][0])):
                continue  # a sign that shows nothing: without a font it would be a box
            path = found[-1][0]
        elif found and unicodedata.category(character)[0] == "M" and ord(character) in letters_of(found[-1][0]):
            path = found[-1][0]
        path = path or BASE
        if found and found[-1][0] == path:
            found[-1][1] += character
        else:
            found.append([path, character])
    return [(path, characters) for path, characters in found]


def warn_of_missing(texts):
    """Say once for each character, on standard error, that no font here has it."""
    missing = {
        c
        for text in texts
        for c in text
        if font_for(c) is None and unicodedata.category(c)[0] not in "CM" and c not in _told
    }
    if missing:
        shown = " ".join(sorted(missing)[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        cure = "install a font that has them, such as Noto Sans CJK, Noto Sans Devanagari or Noto Emoji"
        print(f"warning: no font here has {shown}; pictures with text show boxes for them; {cure}", file=sys.stderr)
    shaped = {c for text in texts for c in SHAPED.findall(text)} - missing
    if shaped and not features.check("raqm") and "raqm" not in _told:
        _told.add("raqm")
        print(
            "warning: this Pillow has no raqm; pictures with text show Arabic, Hebrew and Indic letters out of order",
            file=sys.stderr,
        )
    _told.update(missing)


# ---------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------


def width_of(text, size):
    """The width of a text in px."""
    return sum(_load(path, size).getlength(characters) for path, characters in pieces(text))


def wrap(text, width, size, most=4):
    """Lines of a text that fit into a width in px, at most `most`; the last one ends in … if there is more.

    Lines are parted at spaces, and inside words that are too wide, as in scripts without spaces.
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


def draw_text(draw, at, text, size=12, fill=(0, 0, 0)):
    """One line of text on a Pillow drawing; `at` is its left upper corner, px."""
    x, y = at[0], at[1] + _load(BASE, size).getmetrics()[0]  # on a common base line
    for path, characters in pieces(text):
        font = _load(path, size)
        draw.text((x, y), characters, fill=fill, font=font, anchor="ls")
        x += font.getlength(characters)


def draw_paragraph(draw, at, text, width, size=12, fill=(0, 0, 0), most=4):
    """A text in lines that fit into a width in px, at most `most`; returns the height used, px."""
    lines, step = wrap(text, width, size, most), round(size * LINE_SPACING)
    for i, line in enumerate(lines):
        draw_text(draw, (at[0], at[1] + i * step), line, size, fill)
    return len(lines) * step
