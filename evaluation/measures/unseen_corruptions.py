"""Corruptions that no training of this project uses, in torchvision's implementation rather than our own.

`available()` returns them, or one line that explains why they are not available: a torchvision that does not match its
torch raises RuntimeError on import, which costs a warning, never the run.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import torch

# Strengths that leave a scene readable to a person
DISTORTION = 0.3  # how far a corner moves, as a share of half the picture's side
ALPHA, SIGMA = 40.0, 4.0  # of elastic: strength and smoothness of the displacement, which is mostly below 2 px
SHARPNESS = 4.0  # 1 leaves a picture as it is
BITS = 3  # that posterize keeps of the 8 of a channel
QUALITY = 20  # of JPEG, from 1 to 100


def available() -> tuple[dict[str, Callable[[torch.Tensor, int], torch.Tensor]], str]:
    """The corruptions -> ({name: function}, "") or ({}, the reason why there are none, in one line).

    A function maps pictures (n, 3, 64, 64) in [0, 1] and a seed to corrupted ones of the same shape, range and device.
    The result depends on the seed alone, each picture is corrupted differently, and torch's own random state stays as
    it is.
    """
    try:
        from torchvision.transforms import v2
    except Exception as error:  # ImportError, RuntimeError (operator torchvision::nms does not exist), OSError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return {}, f"torchvision cannot be imported ({reason}); corruptions that it makes are left out"
    kinds = {
        "perspective": lambda picture: v2.RandomPerspective(DISTORTION, p=1.0, fill=_corner(picture)),
        "elastic": lambda picture: v2.ElasticTransform(ALPHA, SIGMA, fill=_corner(picture)),
        "sharpness": lambda _: v2.RandomAdjustSharpness(SHARPNESS, p=1.0),
        "posterize": lambda _: v2.RandomPosterize(BITS, p=1.0),
    }
    if hasattr(v2, "JPEG"):  # torchvision 0.29 deprecates it
        kinds["jpeg of torchvision"] = lambda _: v2.JPEG(QUALITY)
    return {name: functools.partial(_corrupt, make) for name, make in kinds.items()}, ""


def _corrupt(make, pictures, seed):
    """Apply to each picture, as 8-bit levels, the transform that `make` returns for it."""
    levels = (pictures.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # torchvision draws from torch's own generator
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.manual_seed(seed)
        changed = [make(picture)(picture) for picture in levels]
    return torch.stack(changed).to(pictures.device).float() / 255 if changed else pictures.clone()


def _corner(picture):
    """The levels of a corner, for the areas that a transform leaves empty."""
    return [int(level) for level in picture[:, 0, 0]]
