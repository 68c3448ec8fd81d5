"""Batches of sentences of unlike length: padded, as targets of the next word, and with the padding left out again."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from text.vocabulary import EOS, PAD


def pad(rows):
    """Lists of word numbers -> (n, longest) int64 tensor, padded with PAD."""
    out = torch.full((len(rows), max(map(len, rows), default=0)), PAD, dtype=torch.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return out


def targets_of(ids):
    """Word numbers (B, T) -> what to predict (B, T + 1): the words, then one end mark, then PAD."""
    targets = F.pad(ids, (0, 1), value=PAD)
    return targets.scatter(1, (ids != PAD).sum(1, keepdim=True), EOS)


class _Take(torch.autograd.Function):
    """x[rows], where no row comes twice: the gradient is one copy, too."""

    @staticmethod
    def forward(ctx, x, rows):
        ctx.rows, ctx.count = rows, len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.new_zeros(ctx.count, *gradient.shape[1:]).index_copy_(0, ctx.rows, gradient), None


class Packing:
    """The rows of a padded batch that hold something as one list, so that the others cost nothing; here (B, T) bool.

    A third of a batch's places is padding. Some of it is kept, because kernels are prepared for each number of rows anew.
    On a GPU, where counting rows would wait for the device, all are kept.
    """

    ROUND = 16  # the number of kept rows is a multiple of this

    def __init__(self, here, pack=True):
        self.shape = here.shape
        self.rows = None
        if pack and here.device.type == "cpu":
            first = torch.argsort(~here.flatten(), stable=True)  # those that hold something, in their order
            self.rows = first[: -(-int(here.sum()) // self.ROUND) * self.ROUND]

    def pack(self, x):
        """(B, T, ...) -> (N, ...)."""
        return x.flatten(0, 1) if self.rows is None else _Take.apply(x.flatten(0, 1), self.rows)

    def unpack(self, x):
        """(N, ...) -> (B, T, ...), 0 where nothing was kept."""
        if self.rows is not None:
            x = x.new_zeros(self.shape.numel(), *x.shape[1:]).index_copy(0, self.rows, x)
        return x.unflatten(0, self.shape)


@dataclass
class PackedRows:
    """The rows of a batch that hold something, not spread out over (B, T) again."""

    rows: torch.Tensor  # (N, ...)
    packing: Packing
