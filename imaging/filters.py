"""Linear filters of pictures, always in float32."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F


def full_precision(filter_: Callable) -> Callable:
    """Decorate a function of a picture: it computes in float32 under autocast, too, whose bfloat16 has 8 significant
    bits."""

    @functools.wraps(filter_)
    def done(picture, *arguments, **options):
        with torch.autocast(picture.device.type, enabled=False):
            return filter_(picture.float(), *arguments, **options)

    return done


@full_precision
def blur(picture: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """Gaussian blur of pictures (B, 3, h, w); sigma in px (number or 0-dim tensor > 0). The kernel has 9x9 px."""
    at = torch.arange(-4, 5, device=picture.device)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(picture.dtype)
    x = F.pad(picture, (4, 4, 4, 4), mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 9, 1).expand(3, -1, -1, -1), groups=3)
    return F.conv2d(x, kernel.view(1, 1, 1, 9).expand(3, -1, -1, -1), groups=3)


@functools.lru_cache
def _band(side, taps, repeat, device):
    """(side, side) matrix that replaces x[n] by sum_i taps[i] x[n + i - half]; beyond the ends x repeats its edge or is
    0."""
    n = torch.arange(side, device=device)[:, None]
    i = torch.arange(len(taps), device=device) - len(taps) // 2
    weight = torch.tensor(taps, device=device) * (((n + i >= 0) & (n + i < side)) | repeat)
    return torch.zeros(side, side, device=device).scatter_add(1, (n + i).clamp(0, side - 1), weight)


@full_precision
def smooth(picture: torch.Tensor, taps: tuple[float, ...], repeat: bool = True) -> torch.Tensor:
    """Convolve square pictures (..., side, side) with the same odd number of weights across and down -> the same shape.

    Beyond the border the picture repeats its edge, or is 0. Two products with a band matrix are faster than a
    convolution of one channel.
    """
    band = _band(picture.shape[-1], taps, repeat, picture.device)
    return band @ (picture @ band.T)
