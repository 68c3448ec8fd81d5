"""The printed text baseline: text in small letters in a picture, beside a language of glyphs that is learned."""

from __future__ import annotations

import functools
import os

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from decoders.base import PICTURE_SIZE
from imaging.fonts import font_for, letters_of
from text.vocabulary import BOS, EOS, PAD, SPECIALS

MONO = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSansMono.ttf")  # comes with matplotlib
ADVANCE = 0.602  # width of a letter of this font, as a share of its size
ASCENT = 0.76  # height above the base line, as a share of its size
ENOUGH = 0.99  # least share of the texts that fit
SMALLEST = 4, 6  # px across and down of the smallest legible letter


def cells() -> list[tuple[int, int]]:
    """The possible sizes of a letter's cell, (px across, px down), in decreasing size of letter, then of cell."""
    widths, heights = (range(least, PICTURE_SIZE // 2) for least in SMALLEST)
    sizes = [(w, h) for w in widths for h in heights]
    return sorted(sizes, key=lambda cell: (size_in(*cell), cell[1], cell[0]), reverse=True)


def size_in(width: int, height: int) -> float:
    """The font size in px at which letters fill a cell."""
    return min(width / ADVANCE, height)


@functools.cache
def glyph(character: str, width: int, height: int) -> np.ndarray:
    """A character in a cell -> (height, width) uint8, light on dark; a character wider than the cell is shrunk."""
    size = size_in(width, height)
    path = MONO if ord(character) in letters_of(MONO) else font_for(character) or MONO
    font = ImageFont.truetype(path, size)
    if (wide := font.getlength(character)) > width:
        font = ImageFont.truetype(path, max(1.0, size * width / wide))
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((width / 2, round(ASCENT * height)), character, fill=255, font=font, anchor="ms")
    return np.asarray(image)


class PrintedText:
    """Texts <-> ids of letters <-> pictures: white on black, monospaced, row by row, broken at the edge of the picture.

    The size of a letter is the largest at which 99 % of `texts` fit, or the smallest legible one; longer texts are cut.
    The alphabet is that of the texts: other characters are printed, but cannot be read.
    """

    def __init__(self, texts: list[str]):
        length = np.quantile([len(t) for t in texts], ENOUGH, method="higher")
        fitting = (c for c in cells() if (PICTURE_SIZE // c[0]) * (PICTURE_SIZE // c[1]) >= length)
        self.width, self.height = next(fitting, SMALLEST)  # of a cell, px
        self.columns, self.rows = PICTURE_SIZE // self.width, PICTURE_SIZE // self.height
        self.characters = [*SPECIALS, *sorted(set().union(*texts))]
        self.index = {c: i for i, c in enumerate(self.characters) if i >= len(SPECIALS)}

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def places(self) -> int:
        """Letters of the longest text that fits."""
        return self.columns * self.rows

    def middles(self) -> torch.Tensor:
        """The center of each letter: (places, 2), x and y in (0, 1) of the picture."""
        y, x = torch.meshgrid(torch.arange(self.rows) + 0.5, torch.arange(self.columns) + 0.5, indexing="ij")
        return torch.stack([x * self.width, y * self.height], -1).flatten(0, 1) / PICTURE_SIZE

    def encode(self, text: str) -> list[int]:
        """The ids of the letters that fit, without characters that the alphabet lacks."""
        return [self.index[c] for c in text[: self.places] if c in self.index]

    def decode(self, ids: list[int]) -> str:
        """The text of letters' ids, up to the first end token."""
        ids = list(ids)
        ids = ids[: ids.index(EOS)] if EOS in ids else ids
        return "".join(self.characters[i] for i in ids if i not in (PAD, BOS))

    def draw(self, texts: list[str]) -> torch.Tensor:
        """Texts -> pictures (n, 3, 64, 64) in [0, 1] at 8 bits."""
        pictures = np.zeros((len(texts), PICTURE_SIZE, PICTURE_SIZE), np.uint8)
        for picture, text in zip(pictures, texts):
            text = text[: self.places].ljust(self.places)
            field = np.stack([glyph(c, self.width, self.height) for c in text])
            field = field.reshape(self.rows, self.columns, self.height, self.width).transpose(0, 2, 1, 3)
            picture[: self.rows * self.height, : self.columns * self.width] = field.reshape(self.rows * self.height, -1)
        return (torch.from_numpy(pictures).float() / 255)[:, None].expand(-1, 3, -1, -1)
