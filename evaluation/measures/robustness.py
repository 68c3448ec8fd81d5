"""Robustness: exact match after a picture was corrupted, by corruption and strength.

Each corruption maps a batch (n, 3, 64, 64) in [0, 1] to a batch of the same shape, which is then clamped and rounded to
8 bits, as in a PNG file. Pure functions; noise depends on a seed.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from channel import add_noise, blur, resample, shift
from metrics import exact_match
from pictures import from_image, to_image


def _jpeg(pictures, quality, _rng):
    """JPEG as Pillow's libjpeg writes it, not the training channel's imitation."""
    out = []
    for picture in pictures:
        buffer = io.BytesIO()
        to_image(picture).save(buffer, "JPEG", quality=int(quality))
        out.append(from_image(Image.open(buffer)))
    return torch.stack(out)


def _rotate(pictures, degrees, _rng):
    rotated = [to_image(p).rotate(degrees, Image.BILINEAR, fillcolor=_corner(p)) for p in pictures]
    return torch.stack([from_image(image) for image in rotated])


def _corner(picture):
    """The color of the background, for the triangles that a rotation leaves empty."""
    return tuple(int(v) for v in (picture[:, 0, 0] * 255).round())


def _patch(pictures, side, rng):
    """A gray square of `side` px at a random place of each picture."""
    out = pictures.clone()
    side = int(side)
    for picture in out:
        y = int(torch.randint(0, 65 - side, (), generator=rng))
        x = int(torch.randint(0, 65 - side, (), generator=rng))
        picture[:, y : y + side, x : x + side] = 0.5
    return out


def _hue(pictures, degrees, _rng):
    out = []
    for picture in pictures:
        hsv = np.array(to_image(picture).convert("HSV"))
        hsv[..., 0] = hsv[..., 0] + np.uint8(round(degrees / 360 * 256) % 256)
        out.append(from_image(Image.fromarray(hsv, "HSV").convert("RGB")))
    return torch.stack(out)


@dataclass(frozen=True)
class Corruption:
    """A corruption of pictures, in several strengths."""

    apply: Callable  # (pictures (n, 3, 64, 64) in [0, 1], strength, torch.Generator) -> the same shape
    strengths: tuple[float, ...]  # from mild to severe
    trained_on: bool  # by the default channel


CORRUPTIONS = {
    "jpeg": Corruption(_jpeg, (90, 70, 50, 30, 15, 5), True),  # quality
    "blur": Corruption(lambda p, s, _: blur(p, s), (0.5, 1.0, 1.5, 2.0, 3.0), True),  # sigma, px
    "noise": Corruption(lambda p, s, g: add_noise(p, s, g), (0.05, 0.1, 0.2, 0.3, 0.5), True),  # sigma
    "resample": Corruption(lambda p, s, _: resample(p, int(s)), (32, 24, 16, 12, 8), True),  # side, px
    "brightness": Corruption(lambda p, s, _: p * s, (1.1, 1.2, 0.8, 0.6, 0.4), False),  # factor
    "shift": Corruption(lambda p, s, _: shift(p, int(s), int(s)), (1, 2, 3, 4), True),  # px
    "rotation": Corruption(_rotate, (1, 3, 6, 10, 20), False),  # degrees
    "patch": Corruption(_patch, (4, 8, 12, 16, 24), False),  # side, px
    "hue": Corruption(_hue, (5, 10, 20, 40, 90), False),  # degrees
    "bits": Corruption(lambda p, s, _: (p * (2**s - 1)).round() / (2**s - 1), (6, 4, 3, 2, 1), False),  # a channel
    "low_pass": Corruption(lambda p, s, _: blur(blur(p, s), s), (1.0, 2.0, 3.0), False),  # sigma, px
    "high_pass": Corruption(lambda p, s, _: p - blur(p, s) + 0.5, (3.0, 2.0, 1.0), False),  # sigma, px
}

# The conditions of the README's table: id: (corruption, strength)
STANDARD = {
    "jpeg_50": ("jpeg", 50),
    "blur_1": ("blur", 1.0),
    "noise_0.1": ("noise", 0.1),
    "half_size": ("resample", 32),
    "16x16": ("resample", 16),
    "brighter_20": ("brightness", 1.2),
    "darker_20": ("brightness", 0.8),
    "shift_2": ("shift", 2),
    "patch_8": ("patch", 8),
    "rotation_3": ("rotation", 3),
}


def corrupt(pictures: torch.Tensor, kind: str, strength: float, seed: int = 0) -> torch.Tensor:
    """Pictures (n, 3, 64, 64) in [0, 1] after one of CORRUPTIONS, rounded to 8 bits: the same shape and range."""
    corrupted = CORRUPTIONS[kind].apply(pictures, strength, torch.Generator().manual_seed(seed))
    return (corrupted.clamp(0, 1) * 255).round() / 255


def exact_match_after(
    read: Callable[[torch.Tensor], list[str]],
    sentences: list[str],
    pictures: torch.Tensor,
    kind: str,
    strength: float,
    seed: int = 0,
) -> float:
    """Exact match in [0, 1] of captions read from the corrupted pictures (n, 3, 64, 64) of n sentences."""
    return exact_match(sentences, read(corrupt(pictures, kind, strength, seed)))


def corruption_curves(
    read: Callable[[torch.Tensor], list[str]], sentences: list[str], pictures: torch.Tensor, seed: int = 0
) -> dict[str, dict]:
    """-> {corruption: {"trained_on", "strengths", "exact_match": at each strength, "halves_at"}}.

    read: pictures -> captions; pictures: (n, 3, 64, 64) in [0, 1] of the sentences. halves_at is the first strength at
    which exact match is below half of the uncorrupted one, or None.
    """
    clean = exact_match(sentences, read(pictures))
    out = {}
    for kind, corruption in CORRUPTIONS.items():
        scores = [exact_match_after(read, sentences, pictures, kind, s, seed) for s in corruption.strengths]
        halves = next((s for s, score in zip(corruption.strengths, scores) if score < clean / 2), None)
        curve = {"strengths": list(corruption.strengths), "exact_match": scores, "halves_at": halves}
        out[kind] = {"trained_on": corruption.trained_on, **curve}
    return out


def middle_strength(curve: dict) -> tuple[float, float]:
    """(strength, exact match there) of the middle strength of one of `corruption_curves`."""
    i = (len(curve["strengths"]) - 1) // 2
    return curve["strengths"][i], curve["exact_match"][i]


def low_frequency_share(pictures: torch.Tensor) -> float:
    """Share in [0, 1] of the variance of pictures (n, 3, 64, 64) that 16x16 pixels hold: low means fine texture."""
    coarse = F.interpolate(F.avg_pool2d(pictures, 4), 64, mode="bilinear")
    mean = pictures.mean((2, 3), keepdim=True)
    return float(((coarse - mean) ** 2).sum() / ((pictures - mean) ** 2).sum().clamp(min=1e-9))
