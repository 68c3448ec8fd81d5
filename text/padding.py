"""Batches of sentences of different lengths: padding, targets, and rows without the padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from text.vocabulary import EOS, PAD


def pad(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Lists of token ids -> (n, longest) int64 tensor, padded with PAD."""
    out = torch.full((len(rows), max(map(len, rows), default=0)), PAD, dtype=torch.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return out


def targets_of(ids: torch.Tensor) -> torch.Tensor:
    """Token ids (B, T) -> what is predicted, (B, T + 1): the tokens, then one EOS, then PAD."""
    targets = F.pad(ids, (0, 1), value=PAD)
    return targets.scatter(1, (ids != PAD).sum(1, keepdim=True), EOS)


def batch_tokens(ids: torch.Tensor, vocab_size: int, always: int = 1) -> torch.Tensor:
    """Which tokens a batch (B, T) has: (V,) int64 of 0 and 1. The first `always` tokens count as present."""
    present = torch.zeros(vocab_size, dtype=torch.int64, device=ids.device)
    present[ids.flatten()] = 1
    present[:always] = 1
    return present


def count_batch_tokens(ids: torch.Tensor, vocab_size: int) -> tuple[torch.Tensor, int]:
    """Token ids (B, T) in [0, V) -> the same tokens renumbered (B, T) in [0, N), and N = min(V, B T + 1).

    The order of tokens stays, and PAD stays 0. N is an upper bound: counting the tokens would wait for a GPU.
    """
    present = batch_tokens(ids, vocab_size)
    return (present.cumsum(0) - 1)[ids], min(vocab_size, ids.numel() + 1)


class _Take(torch.autograd.Function):
    """x[rows] of different rows; the gradient is one copy."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        ctx.rows = rows
        ctx.count = len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient.new_zeros(ctx.count, *gradient.shape[1:]).index_copy_(0, ctx.rows, gradient), None


class Packing:
    """The rows of a padded batch that hold a token, as one list; mask (B, T) bool.

    A third of a batch of captions is padding. The number of rows is rounded up, because kernels are prepared for each
    number of rows anew. On a GPU all rows are kept, since counting them would wait for the device.
    """

    ROUND = 16  # the number of kept rows is a multiple of this

    def __init__(self, mask: torch.Tensor) -> None:
        self.shape = mask.shape
        self.keeps_all = mask.device.type != "cpu"
        if not self.keeps_all:
            first = torch.argsort(~mask.flatten(), stable=True)  # rows with a token, in their order
            self.rows = first[: -(-int(mask.sum()) // self.ROUND) * self.ROUND]

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, ...) -> (N, ...)."""
        return x.flatten(0, 1) if self.keeps_all else _Take.apply(x.flatten(0, 1), self.rows)

    def unpack(self, x: torch.Tensor) -> torch.Tensor:
        """(N, ...) -> (B, T, ...), 0 in rows that were left out."""
        if not self.keeps_all:
            x = x.new_zeros(self.shape.numel(), *x.shape[1:]).index_copy(0, self.rows, x)
        return x.unflatten(0, self.shape)
