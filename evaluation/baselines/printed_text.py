"""Text printed as small letters in a picture: what writing carries, beside a language of marks that is learned."""

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
ADVANCE, ASCENT = 0.602, 0.76  # of this font: width of a letter, and height above the base line, as shares of its size
ENOUGH = 0.99  # share of the texts that fit, at least
SMALLEST = 4, 6  # px across and down that a letter needs to be read


def cells():
    """The cells that a letter may have, (px across, px down), the largest letters first and among them the widest spacing."""
    sizes = range(SMALLEST[0], PICTURE_SIZE // 2), range(SMALLEST[1], PICTURE_SIZE // 2)
    return sorted(
        ((w, h) for w in sizes[0] for h in sizes[1]), key=lambda cell: (size_in(*cell), cell[1], cell[0]), reverse=True
    )


def size_in(width, height):
    """The size of letters, in px, that fill a cell."""
    return min(width / ADVANCE, height)


@functools.cache
def glyph(character, width, height):
    """A character in a cell -> (height, width) uint8, light on dark. What is wider than the cell is drawn smaller."""
    size = size_in(width, height)
    path = MONO if ord(character) in letters_of(MONO) else font_for(character) or MONO
    font = ImageFont.truetype(path, size)
    if (wide := font.getlength(character)) > width:
        font = ImageFont.truetype(path, max(1.0, size * width / wide))
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((width / 2, round(ASCENT * height)), character, fill=255, font=font, anchor="ms")
    return np.asarray(image)


class Letters:
    """Texts <-> numbers of letters <-> pictures: white on black, of one width, row by row, parted at the edge wherever that is.

    The size of a letter is the largest at which 99 % of `texts` fit, or the smallest that can be read; a longer text loses its
    end. The alphabet is that of the texts: another character is printed, and cannot be read back.
    """

    def __init__(self, texts):
        length = np.quantile([len(t) for t in texts], ENOUGH, method="higher")
        fitting = (c for c in cells() if (PICTURE_SIZE // c[0]) * (PICTURE_SIZE // c[1]) >= length)
        self.width, self.height = next(fitting, SMALLEST)  # of a cell, px
        self.columns, self.rows = PICTURE_SIZE // self.width, PICTURE_SIZE // self.height
        self.characters = [*SPECIALS, *sorted(set().union(*texts))]
        self.index = {c: i for i, c in enumerate(self.characters) if i >= len(SPECIALS)}

    def __len__(self):
        return len(self.characters)

    @property
    def places(self):
        """Letters of the longest text that fits."""
        return self.columns * self.rows

    def middles(self):
        """The middle of each letter: (places, 2), x and y in (0, 1) of the picture."""
        y, x = torch.meshgrid(torch.arange(self.rows) + 0.5, torch.arange(self.columns) + 0.5, indexing="ij")
        return torch.stack([x * self.width, y * self.height], -1).flatten(0, 1) / PICTURE_SIZE

    def encode(self, text):
        """The numbers of the letters that fit, without those that the alphabet lacks."""
        return [self.index[c] for c in text[: self.places] if c in self.index]

    def decode(self, numbers):
        """The text of letters' numbers, up to the first end mark."""
        numbers = list(numbers)
        numbers = numbers[: numbers.index(EOS)] if EOS in numbers else numbers
        return "".join(self.characters[i] for i in numbers if i not in (PAD, BOS))

    def draw(self, texts):
        """Texts -> pictures (n, 3, 64, 64) in [0, 1] at 8 bits."""
        pictures = np.zeros((len(texts), PICTURE_SIZE, PICTURE_SIZE), np.uint8)
        for picture, text in zip(pictures, texts):
            text = text[: self.places].ljust(self.places)
            field = np.stack([glyph(c, self.width, self.height) for c in text])
            field = field.reshape(self.rows, self.columns, self.height, self.width).transpose(0, 2, 1, 3)
            picture[: self.rows * self.height, : self.columns * self.width] = field.reshape(self.rows * self.height, -1)
        return (torch.from_numpy(pictures).float() / 255)[:, None].expand(-1, 3, -1, -1)
