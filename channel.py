"""The channel between scene decoder and captioner: corruptions of the picture, all differentiable.

Every picture is clamped and rounded to 8 bits, as in a PNG file. Another corruption is drawn at random, and grows with
a strength in [0, 1]. Each picture of a batch has one kind of corruption. Hues do not change, since colors carry
meaning.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from imaging.filters import blur, full_precision


def straight_through(hard: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """The value of `hard` with the gradient of `soft` (Bengio et al. 2013)."""
    return soft + (hard - soft).detach()


def round_8bit(picture: torch.Tensor) -> torch.Tensor:
    """What a PNG stores of a picture in [0, 1], with a straight-through gradient."""
    with torch.no_grad():
        hard = (picture * 255).round_().div_(255)
    return straight_through(hard, picture)


def add_noise(picture: torch.Tensor, sigma: float | torch.Tensor, rng: torch.Generator | None) -> torch.Tensor:
    """Gaussian noise of standard deviation sigma, in units of the range [0, 1]."""
    return picture + sigma * torch.randn(picture.shape, device=picture.device, generator=rng)


def resample(picture: torch.Tensor, size: int) -> torch.Tensor:
    """Down to size x size by area and back to 64x64, bilinear."""
    return F.interpolate(F.adaptive_avg_pool2d(picture, size), picture.shape[-1], mode="bilinear", align_corners=False)


def shift(picture: torch.Tensor, dx: int, dy: int) -> torch.Tensor:
    """Move by whole pixels, the border repeated."""
    x = F.pad(picture, (4, 4, 4, 4), mode="replicate")
    side = picture.shape[-1]
    return x[..., 4 - dy : 4 - dy + side, 4 - dx : 4 - dx + side]


# Quantization tables of ITU-T T.81 (JPEG), annex K
LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
) + (99,) * 32  # fmt: skip


@functools.lru_cache
def _jpeg_matrices(side: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """JPEG's transforms of a plane as matrices, applied from the left and, transposed, from the right: the cosine
    transform of its 8x8 blocks and back, the same at half the resolution; RGB -> YCbCr and back. Each float32."""
    n = torch.arange(8, device=device, dtype=torch.float32)
    dct = torch.cos((2 * n[None] + 1) * n[:, None] * math.pi / 16) / 2
    dct[0] /= math.sqrt(2)
    blocks, half_blocks = (torch.block_diag(*[dct] * (k // 8)) for k in (side, side // 2))
    down = torch.eye(side // 2, device=device).repeat_interleave(2, 1) / 2  # (side / 2, side)
    up = F.interpolate(torch.eye(side // 2, device=device)[None], scale_factor=2, mode="linear", align_corners=False)[
        0
    ].T
    luma = torch.tensor([0.299, 0.587, 0.114], device=device)
    red, _, blue = torch.eye(3, device=device)
    ycc = torch.stack([luma, (blue - luma) / 1.772, (red - luma) / 1.402])
    return blocks, blocks.T, half_blocks @ down, up @ half_blocks.T, ycc, ycc.inverse()


@functools.lru_cache
def _jpeg_steps(table: tuple[int, ...], quality: int, side: int, device: torch.device) -> torch.Tensor:
    """The quantization step of every coefficient of a plane, (side, side)."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = ((torch.tensor(table, device=device) * scale + 50) / 100).floor().clamp(1, 255)
    return steps.view(8, 8).repeat(side // 8, side // 8)


@full_precision
def jpeg(picture: torch.Tensor, quality: int) -> torch.Tensor:
    """JPEG of a quality in [1, 100] with 4:2:0 chroma, rounding straight through (no Huffman code: it
    loses nothing). The side of a picture is a multiple of 16. Follows ITU-T T.81 and JFIF 1.02."""
    side, device = picture.shape[-1], picture.device
    into, out_of, half_into, half_out_of, to_ycc, to_rgb = _jpeg_matrices(side, device)

    def planes_through(
        planes: torch.Tensor, into: torch.Tensor, out_of: torch.Tensor, steps: torch.Tensor
    ) -> torch.Tensor:
        coefficients = into @ planes @ into.T
        return out_of @ straight_through((coefficients / steps).round() * steps, coefficients) @ out_of.T

    luma, chroma = (to_ycc @ picture.mul(255).flatten(2)).unflatten(2, (side, side)).split([1, 2], 1)
    luma = planes_through(luma - 128, into, out_of, _jpeg_steps(LUMA, quality, side, device)) + 128
    chroma = planes_through(chroma, half_into, half_out_of, _jpeg_steps(CHROMA, quality, side // 2, device))
    rgb = (to_rgb @ torch.cat([luma, chroma], 1).flatten(2)).unflatten(2, (side, side)) / 255
    return straight_through(rgb.clamp(0, 1), rgb)


class _Reorder(torch.autograd.Function):
    """x[order], where each row comes once and `back` is the inverse: the gradient is one copy, too."""

    @staticmethod
    def forward(ctx, x, order, back):
        ctx.back = back
        return x[order]

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.back], None, None


# The corruptions of training; the hardest, noise and JPEG, have two shares. `evaluate.py` also measures others.
CORRUPTIONS = ("none", "noise", "noise", "blur", "resample", "jpeg", "jpeg", "shift")


def corrupt(
    kind: str, picture: torch.Tensor, strength: torch.Tensor, rng: torch.Generator, host_rng: np.random.Generator
) -> torch.Tensor:
    """One kind of corruption: pictures (b, 3, 64, 64) -> the same shape; other arguments as `transmit`."""
    if kind == "noise":
        return add_noise(picture, 0.03 + 0.12 * strength * float(host_rng.random()), rng)
    if kind == "blur":
        return blur(picture, 0.3 + 1.2 * strength * float(host_rng.random()))
    if kind == "resample":
        if host_rng.random() < 0.5:
            return resample(picture, 32)
        return torch.lerp(picture, resample(picture, 16), strength)
    if kind == "jpeg":
        return jpeg(picture, int(host_rng.integers(30, 91)))
    if kind == "shift":
        return shift(picture, *(int(d) for d in host_rng.integers(-3, 4, size=2)))
    return picture


def transmit(
    picture: torch.Tensor,
    strength: torch.Tensor,
    rng: torch.Generator,
    host_rng: np.random.Generator,
    corruptions: Sequence[str] = CORRUPTIONS,
    first: int = 0,
) -> torch.Tensor:
    """Send pictures (B, 3, 64, 64) through the channel -> the received pictures, in [0, 1] and rounded to 8 bits.

    strength: 0-dim tensor in [0, 1]; rng: generator on the pictures' device; host_rng: for choices that must not wait
    for the device. The batch is divided evenly over the corruptions, from a random start. Of a batch that several
    processes share, these are the pictures from index `first` on.
    """
    start = int(host_rng.integers(len(corruptions)))
    index = torch.arange(len(picture), device=picture.device)
    rows: dict[str, torch.Tensor] = {}  # of each kind
    for i, kind in enumerate(corruptions):
        drawn = index[(start + i - first) % len(corruptions) :: len(corruptions)]
        rows[kind] = torch.cat([rows[kind], drawn]) if kind in rows else drawn
    order = torch.cat(list(rows.values()))
    back = torch.argsort(order)
    groups = _Reorder.apply(picture.float(), order, back).split([len(row) for row in rows.values()])
    parts = []
    for kind, group in zip(rows, groups):
        if len(group):
            parts.append(corrupt(kind, group, strength, rng, host_rng))
        else:  # every process draws the same random numbers, whether or not a kind has a row in it
            corrupt(kind, picture[:1].detach(), strength, rng, host_rng)
    received = add_noise(_Reorder.apply(torch.cat(parts), back, order), 0.02, rng)
    return round_8bit(straight_through(received.clamp(0, 1), received))
