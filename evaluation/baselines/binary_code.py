"""The binary code baseline: black and white squares that encode the token ids of a text as binary numbers.

It shows how much text a picture of this size can carry if the code is neither learned nor legible. Nothing is trained.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from decoders.base import PICTURE_SIZE
from pictures import rows_of
from text.vocabulary import EOS


class BinaryCode:
    """Texts <-> pictures. Each token takes as many squares as its id has bits; squares are as large as the longest text
    that the model draws permits. Raises ValueError if they would be smaller than a pixel."""

    def __init__(self, vocab: Any, max_tokens: int):
        self.vocab = vocab
        self.max_tokens = max_tokens
        self.bits = (len(vocab) - 1).bit_length()
        sides = [px for px in range(1, PICTURE_SIZE) if (PICTURE_SIZE // px) ** 2 >= max_tokens * self.bits]
        if not sides:
            raise ValueError(f"{max_tokens} tokens of {self.bits} bits are more than a picture has pixels")
        self.side = max(sides)  # of a square, px
        self.squares = PICTURE_SIZE // self.side  # in a row

    def draw(self, sentences: list[str]) -> torch.Tensor:
        """Sentences -> pictures (n, 3, 64, 64) in [0, 1], without tokens beyond the longest text."""
        pictures = torch.zeros(len(sentences), 1, PICTURE_SIZE, PICTURE_SIZE)
        for picture, row in zip(pictures, rows_of(self.vocab, sentences, self.max_tokens)):
            ids = torch.tensor([*row, *[EOS] * (self.max_tokens - len(row))])
            bits = (ids[:, None] >> torch.arange(self.bits)) & 1  # (max_tokens, bits)
            field = F.pad(bits.flatten().float(), (0, self.squares**2 - bits.numel()))
            field = field.view(1, self.squares, self.squares)
            field = field.repeat_interleave(self.side, 1).repeat_interleave(self.side, 2)
            picture[:, : field.shape[1], : field.shape[2]] = field
        return pictures.expand(-1, 3, -1, -1)

    def read(self, pictures: torch.Tensor) -> list[str]:
        """Pictures (n, 3, 64, 64) -> sentences: a square is white if its mean is above one half."""
        used = self.squares * self.side
        means = F.avg_pool2d(pictures[:, :, :used, :used].mean(1, keepdim=True), self.side).flatten(1)
        bits = (means > 0.5).long()[:, : self.max_tokens * self.bits].unflatten(1, (self.max_tokens, self.bits))
        ids = (bits << torch.arange(self.bits)).sum(2).clamp(max=len(self.vocab) - 1)
        return [self.vocab.decode(row) for row in ids.tolist()]
