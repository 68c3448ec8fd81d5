"""A finite alphabet of codes for a latent factor: finite scalar quantization (FSQ, Mentzer et al. 2023).

Each of the first dimensions is bounded by tanh and rounded to one of its levels; the levels together are the code. The
grid has no weights, so that no code can die, and the gradient passes the rounding straight through. Everything here is
float32, also under autocast: in bf16 neighboring levels and their indices coincide, and the library only guards against
CUDA's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn as nn

AUTO = "auto"
MOST_LEVELS = 5  # of a dimension, where levels are chosen by the number of words
OUTERMOST = 0.96  # where the outermost levels lie, as a share of the limit of tanh
MOST_CODES = 1 << 16  # float32 represents their indices exactly


def parse_levels(text: str) -> tuple[int, ...] | None:
    """--vq_levels -> the levels of each dimension of a code, None for `auto`. Raises ValueError, in one line without
    the flag.

    >>> parse_levels("8,5,5"), parse_levels("auto")
    ((8, 5, 5), None)
    """
    if text == AUTO:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 and int(part) >= 2 for part in parts):
        raise ValueError(f"is no list of whole numbers from 2, such as 8,5,5, and not {AUTO}")
    levels = tuple(int(part) for part in parts)
    if math.prod(levels) > MOST_CODES:
        raise ValueError(f"are {math.prod(levels)} codes, more than {MOST_CODES}")
    return levels


def choose_levels(n_words: int, dimensions: int = 99) -> tuple[int, ...]:
    """The smallest grid with a code for each word: as few dimensions as MOST_LEVELS allows, with similar levels; more
    levels only where a factor has no more dimensions.

    >>> choose_levels(5), choose_levels(7), choose_levels(11), choose_levels(2000)
    ((5,), (4, 2), (4, 3), (5, 5, 5, 4, 4))
    """
    used = 1
    while MOST_LEVELS**used < n_words and used < dimensions:
        used += 1
    most = max(MOST_LEVELS, math.ceil(n_words ** (1 / used)))
    grids = itertools.combinations_with_replacement(range(most, 1, -1), used)
    return min((g for g in grids if math.prod(g) >= n_words), key=lambda g: (math.prod(g), g[0] - g[-1]))


class Quantizer(nn.Module):
    """An alphabet: latents (..., d) -> values of their codes (..., d), and the codes.

    The values of a code are an embedding of its own, so that codes can look as different as they must, plus a linear
    map of its position on the grid, through which gradients reach the latent. Raises ValueError if a code needs more
    than d dimensions.
    """

    highest: torch.Tensor  # the index of each dimension's highest level

    def __init__(self, levels: Sequence[int], factor_dim: int) -> None:
        super().__init__()
        from vector_quantize_pytorch import FSQ  # takes two seconds to import, and only models with codes need it

        if len(levels) > factor_dim:
            raise ValueError(f"a code of {len(levels)} dimensions; a factor of the latent has {factor_dim}")
        self.levels = tuple(levels)
        self.n_codes = math.prod(levels)
        # Symmetric levels lie around 0, and allow two of them; without indices FSQ does not wait for the device.
        self.fsq = FSQ(list(levels), preserve_symmetry=True, return_indices=False)
        self.register_buffer("highest", torch.tensor(levels) - 1, persistent=False)
        self.slope = nn.Linear(len(levels), factor_dim, bias=False)
        self.own = nn.Embedding(self.n_codes, factor_dim)  # starts as N(0, 1), the prior of the VAE

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (..., d) -> values (..., d), codes (...) int64 in [0, n_codes)."""
        with torch.autocast(z.device.type, enabled=False):
            z = z[..., : len(self.levels)].float()
            position = self.fsq(z.reshape(1, -1, len(self.levels)))[0].reshape(z.shape)  # in [-1, 1]
            codes = self.fsq.codes_to_indices(position.detach()).long()
            return self.slope(position) + self.own(codes), codes

    def values(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes (...) -> values (..., d), as `forward` returns them."""
        position = self.fsq.indices_to_codes(codes.reshape(-1)).reshape(*codes.shape, -1)
        return self.slope(position) + self.own(codes)

    def commitment(self, z: torch.Tensor) -> torch.Tensor:
        """Mean squared distance of the latents of all words, (n, d), from the centers of the codes that `spread` gives
        them -> 0-dim. The commitment loss of van den Oord et al. (2017), to a code of one's own instead of the
        nearest."""
        z = z[:, : len(self.levels)].float()
        center = spread(z.detach(), self.levels) / self.highest * 2 - 1  # in [-1, 1]
        return (z - torch.atanh(OUTERMOST * center)).square().sum(1).mean()

    def random_codes(self, shape: Sequence[int], rng: torch.Generator) -> torch.Tensor:
        """Codes drawn uniformly -> int64 of a shape."""
        device = self.own.weight.device
        return (torch.rand(shape, device=device, generator=rng) * self.n_codes).long()


def spread(points: torch.Tensor, levels: Sequence[int]) -> torch.Tensor:
    """Assign each of n points (n, d) to a cell of its own near it, on a grid of at least n cells -> levels (n, d),
    int64.

    The first dimension divides the points evenly over its levels, the second one those of each level over its levels,
    and so on, as in a k-d tree. In one dimension that is the nearest assignment there is.

    >>> spread(torch.tensor([[0.1], [5.0], [0.2]]), (3,)).T
    tensor([[0, 2, 1]])
    """
    n = len(points)
    first = torch.zeros_like(points[:, 0], dtype=torch.int64)  # the rank of the first point of each point's group
    size = torch.full_like(first, n)  # of the group
    out = []
    for i, count in enumerate(levels):
        order = points[:, i].argsort(stable=True)
        order = order[first[order].argsort(stable=True)]  # by group, then by this dimension
        rank = torch.empty_like(order).scatter(0, order, torch.arange(n, device=order.device)) - first
        level = rank * count // size
        start = -(-level * size // count)
        end = -(-(level + 1) * size // count)
        first = first + start
        size = end - start
        out.append(level)
    return torch.stack(out, 1)


def make_quantizer(vq_levels: str, n_words: int, factor_dim: int) -> Quantizer:
    """The alphabet of factors that n_words words set, with the levels of --vq_levels. Raises ValueError."""
    return Quantizer(parse_levels(vq_levels) or choose_levels(n_words, factor_dim), factor_dim)
