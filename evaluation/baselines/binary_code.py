"""A picture code made by hand: squares of black and white that say the numbers of a text's pieces in binary.

It shows how much of a text a picture of this size can carry if nobody has to learn it, or to see anything in it. Nothing is trained.
"""

import torch
import torch.nn.functional as F

from decoders.base import PICTURE_SIZE
from pictures import rows_of
from text.vocabulary import EOS


class HandMadeCode:
    """Texts <-> pictures. Each piece takes as many squares as its number has bits; squares are as large as the longest text
    that the model draws leaves room for. Raises ValueError if they would be smaller than a pixel."""

    def __init__(self, vocab, max_words):
        self.vocab, self.max_words = vocab, max_words
        self.bits = (len(vocab) - 1).bit_length()
        sides = [px for px in range(1, PICTURE_SIZE) if (PICTURE_SIZE // px) ** 2 >= max_words * self.bits]
        if not sides:
            raise ValueError(f"{max_words} pieces of {self.bits} bits are more than a picture has pixels")
        self.side = max(sides)  # of a square, px
        self.squares = PICTURE_SIZE // self.side  # in a row

    def draw(self, sentences):
        """Sentences -> pictures (n, 3, 64, 64) in [0, 1]. What is longer than the model draws is left out."""
        pictures = torch.zeros(len(sentences), 1, PICTURE_SIZE, PICTURE_SIZE)
        for picture, row in zip(pictures, rows_of(self.vocab, sentences, self.max_words)):
            numbers = torch.tensor([*row, *[EOS] * (self.max_words - len(row))])
            bits = (numbers[:, None] >> torch.arange(self.bits)) & 1  # (max_words, bits)
            field = F.pad(bits.flatten().float(), (0, self.squares**2 - bits.numel())).view(
                1, self.squares, self.squares
            )
            field = field.repeat_interleave(self.side, 1).repeat_interleave(self.side, 2)
            picture[:, : field.shape[1], : field.shape[2]] = field
        return pictures.expand(-1, 3, -1, -1)

    def read(self, pictures):
        """Pictures (n, 3, 64, 64) -> sentences: a square is white if its mean is above one half."""
        used = self.squares * self.side
        means = F.avg_pool2d(pictures[:, :, :used, :used].mean(1, keepdim=True), self.side).flatten(1)
        bits = (means > 0.5).long()[:, : self.max_words * self.bits].unflatten(1, (self.max_words, self.bits))
        numbers = (bits << torch.arange(self.bits)).sum(2).clamp(max=len(self.vocab) - 1)
        return [self.vocab.decode(row) for row in numbers.tolist()]
