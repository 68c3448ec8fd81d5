"""Linear filters of pictures, always in float32."""

import functools

import torch
import torch.nn.functional as F


def full_precision(filter_):
    """Decorates what is done to a picture: float32 under autocast, too, whose 8 significant bits would make other pictures."""

    @functools.wraps(filter_)
    def done(picture, *arguments, **options):
        with torch.autocast(picture.device.type, enabled=False):
            return filter_(picture.float(), *arguments, **options)

    return done


@full_precision
def blur(picture, sigma):
    """Gaussian blur, sigma in px (number or 0-dim tensor > 0), reaching 4 px."""
    at = torch.arange(-4, 5, device=picture.device)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(picture.dtype)
    x = F.pad(picture, (4, 4, 4, 4), mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 9, 1).expand(3, -1, -1, -1), groups=3)
    return F.conv2d(x, kernel.view(1, 1, 1, 9).expand(3, -1, -1, -1), groups=3)


@functools.lru_cache
def _band(side, taps, repeat, device):
    """(side, side) matrix that puts sum_i taps[i] x[n + i - half] in the place of x[n]; beyond the ends x repeats or is 0."""
    n, i = torch.arange(side, device=device)[:, None], torch.arange(len(taps), device=device) - len(taps) // 2
    weight = torch.tensor(taps, device=device) * (((n + i >= 0) & (n + i < side)) | repeat)
    return torch.zeros(side, side, device=device).scatter_add(1, (n + i).clamp(0, side - 1), weight)


@full_precision
def smooth(picture, taps, repeat=True):
    """Weighted means of neighbors, the same across and down: square pictures (..., side, side), a tuple of an odd number of
    weights -> the same shape. Beyond the border the picture repeats, or is 0.

    Two products with a band matrix: a convolution of one channel takes longer.
    """
    band = _band(picture.shape[-1], taps, repeat, picture.device)
    return band @ (picture @ band.T)
