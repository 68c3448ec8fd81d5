"""Properties of the objects and the background of pictures, and how far two of them are apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from evaluation.measures.measured_scene import MeasuredBackground, MeasuredObject, MeasuredScene, measure_scene

Measured = MeasuredObject | MeasuredBackground

BACKGROUND = "background"

NOISE = 0.01  # sigma of the mild channel, in units of [0, 1]

NOISE_QUANTILE = 0.95


@dataclass(frozen=True)
class Property:
    """A measured property: its unit, its values, and the least difference that counts."""

    unit: str
    vector: Callable[[Measured], np.ndarray]  # -> (k,)
    least: float  # in that unit; `thresholds` may raise it to the noise of the measurement


def _stripes(background):
    """(3,) strength of stripes, L*, and strength x frequency with their direction as a doubled angle, L* radians a px,
    so that opposite directions are the same stripes."""
    across, down = background.frequency
    length = max(np.hypot(across, down), 1e-9)
    return background.strength * np.array([1, (across**2 - down**2) / length, 2 * across * down / length])


# The least difference is about the 90th percentile of this property's measured differences when another one changes
PROPERTIES = {
    "color": Property("dE", lambda obj: obj.lab, 12.0),
    "outline": Property("1 - IoU", lambda obj: obj.outline.ravel(), 0.2),
    "place": Property("px", lambda obj: obj.center, 2.0),
    "rim": Property("sRGB", lambda obj: obj.rim, 0.15),
    "shading": Property("sRGB a radius", lambda obj: obj.shading, 0.12),
    "size": Property("log area ratio", lambda obj: np.log([obj.area]), 0.25),
    "dot": Property("sRGB", lambda obj: obj.dot, 0.15),
    BACKGROUND: Property("dE", lambda background: np.concatenate([background.lab, _stripes(background)]), 4.0),
}

OF_OBJECTS = [name for name in PROPERTIES if name != BACKGROUND]


def vectors(name: str, measured: list[Measured]) -> np.ndarray:
    """A property of objects or of backgrounds -> (n, k)."""
    return np.array([PROPERTIES[name].vector(m) for m in measured], np.float64)


def distances(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances of vectors of a property, (..., k) each that broadcast -> (...) in the property's unit."""
    if name == "outline":
        return 1 - np.minimum(a, b).sum(-1) / np.maximum(np.maximum(a, b).sum(-1), 1)
    return np.linalg.norm(a - b, axis=-1)


def distance(name: str, a: Measured, b: Measured) -> float:
    """Distance of two objects or of two backgrounds in the property's unit."""
    return float(distances(name, PROPERTIES[name].vector(a), PROPERTIES[name].vector(b)))


def measure(pictures: torch.Tensor) -> list[MeasuredScene]:
    """Pictures (n, 3, 64, 64) in [0, 1] -> what is measured in each."""
    return [measure_scene(picture) for picture in pictures]


def thresholds(pictures: torch.Tensor, seed: int) -> dict[str, float]:
    """Pictures -> {property: the 95th percentile of differences between two measurements, at least `Property.least`}.

    Each picture is measured twice through a mild channel: Gaussian noise of sigma 0.01, then 8 bit.
    """
    rng = torch.Generator().manual_seed(seed)
    twice = []
    for _ in range(2):
        noisy = pictures + NOISE * torch.randn(pictures.shape, generator=rng)
        twice.append(measure((noisy.clamp(0, 1) * 255).round() / 255))
    found = {BACKGROUND: [distance(BACKGROUND, a.background, b.background) for a, b in zip(*twice)]}
    pairs = [pair for a, b in zip(*twice) if len(a.objects) == len(b.objects) for pair in zip(a.objects, b.objects)]
    found |= {name: [distance(name, *pair) for pair in pairs] for name in OF_OBJECTS}
    return {k: max(PROPERTIES[k].least, float(np.quantile(v, NOISE_QUANTILE)) if v else 0.0) for k, v in found.items()}
