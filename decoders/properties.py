"""The properties that a word can set: color, shape, place, rim, shading, dot and size of an object, and the background.

Each property is a small network from a latent to the values that are drawn, shared by all objects. Distances of two
values are in units of "clearly different". Everything here is float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn

from decoders.waves import Waves
from imaging.color import srgb_to_lab

# The properties of an object, and how many values of each can be distinguished by eye and through the channel
CAPACITY = {"color": 24, "shape": 14, "place": 9, "rim": 8, "shading": 6, "dot": 5, "size": 3}
PROPERTIES = tuple(CAPACITY)
BACKGROUND = "background"
OPTIONAL = ("rim", "dot")  # an object has none unless a word sets it
# What --grounding can set -> the property and the indices of its values
GROUNDED = {"color": ("color", [0, 1, 2]), "x": ("place", [0]), "y": ("place", [1]), "size": ("size", [0])}
SMALLEST, LARGEST = 4.2, 7.5  # px, radius of the disc of an object's area where three objects share the picture

# Property -> how many values it has
N_VALUES = {"color": 3, "shape": 14, "place": 2, "rim": 3, "shading": 2, "dot": 3, "size": 1, BACKGROUND: 6}
# Property -> gain of its network's last layer, so that different words start with different values
GAIN = {"color": 4, "shape": 12, "place": 6, "rim": 4, "shading": 6, "dot": 4, "size": 6, BACKGROUND: 4}
# Property -> the distance at which two values are clearly different: dE (CIE76), shares of a territory, logarithms ...
CLEARLY_DIFFERENT = {
    "color": 25.0, "shape": 0.5, "place": 0.45, "rim": 40.0, "shading": 0.55, "dot": 40.0, "size": 0.16,
    BACKGROUND: 1.0,
}  # fmt: skip
LIGHTNESS = 0.7  # weight of a difference of lightness beside one of hue: a whole picture can be darker


class Outline(nn.Module):
    """The outline of an object: a closed curve led by waves of one order, with pointed tips (triangle, star) or flat
    ones (trefoil, cross)."""

    ORDERS = range(2, 6)  # lobes
    DEPTH = 0.5  # of the deepest valley between two lobes, as a share of their tips
    SHARPNESS = 0.25  # the largest second harmonic, as a share of the first
    NAMEABLE = 0.35  # distance of the waves of two outlines that a person gives two names
    SATURATED = 4.0  # input beyond which a sigmoid is nearly flat: a fourteenth of its steepest slope

    def __init__(self) -> None:
        super().__init__()
        self.waves = Waves(self.ORDERS)

    def _wave(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Values of shapes (..., 14) -> radius between the lobes (..., 1), second harmonic (..., 1), share of each
        order (..., orders)."""
        depth = values[..., :1]
        sharpness = values[..., 1:2]
        order = values[..., 2 : 2 + len(self.ORDERS)]
        core = 1 - self.DEPTH * torch.sigmoid(depth + 0.5)  # the radius of the tips is about 1
        return core, self.SHARPNESS * torch.tanh(sharpness), (1.5 * order).softmax(-1)

    def form(self, values: torch.Tensor) -> torch.Tensor:
        """Values of shapes (..., 14) -> the amplitudes of their waves (..., 2 orders), independent of rotation; about 1
        apart where a person gives two names."""
        core, sharpness, order = self._wave(values)
        swing = (1 - core) / 2 / self.NAMEABLE
        return torch.cat([swing * order, 2 * swing * sharpness * order], -1)

    def saturation(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of relu(|value| - SATURATED)^2 of shapes (..., 14) -> 0-dim. In the flat parts of the sigmoids of
        `_wave` no loss moves an outline, and two words could stay one disc."""
        return torch.relu(values[..., : 2 + len(self.ORDERS)].abs() - self.SATURATED).square().mean()

    def forward(
        self, values: torch.Tensor, x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values of shapes (..., 14), points x, y (..., n) from the center and the radius of a disc of the same area
        (..., 1), all px -> how far each point lies inside the curve, and its distance from the center, (..., n), px."""
        n = len(self.ORDERS)
        core, sharpness, order = self._wave(values)
        turn = values[..., 2 + n :].unflatten(-1, (n, 2))
        turn = turn / torch.sqrt(turn.square().sum(-1, keepdim=True) + 1e-3)
        mean = (1 + core) / 2  # radius = mean + swing x wave
        swing = (1 - core) / 2
        power = order.square().sum(-1, keepdim=True)
        area = mean**2 + swing**2 * (power + (sharpness * power) ** 2) / 2  # in units of pi
        size = radius / torch.sqrt(area)
        distance = torch.sqrt(x * x + y * y + 1e-3)
        wave = self.waves(order, turn, x / distance, y / distance)
        wave = wave + sharpness * (2 * wave * wave - power)  # cos a + s cos 2a, for a wave of one order
        return size * (mean + swing * wave) - distance, distance


class PropertyNetworks(nn.Module):
    """Latents -> values of properties, and distances of values."""

    def __init__(self, latent_dim: int, hidden: int) -> None:
        super().__init__()
        self.outline = Outline()
        self.background_logit = nn.Parameter(torch.logit(torch.tensor([0.06, 0.08, 0.14])))  # where no word sets one
        self.networks = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(latent_dim, hidden), nn.GELU(), nn.Linear(hidden, n))
                for name, n in N_VALUES.items()
            }
        )
        with torch.no_grad():
            for name, gain in GAIN.items():
                self.networks[name].get_parameter("2.weight").mul_(gain)

    def forward(self, name: str, z: torch.Tensor) -> torch.Tensor:
        """Latents (..., d) -> values of a property (..., n): color, rim and dot sRGB in [0, 1], the last two with an
        opacity behind it; place and shading in [-1, 1]; size a radius in px; background sRGB, the strength of its
        stripes in [0, 1], and their frequency across and down, radians a px."""
        v = self.networks[name](z)
        if name == "color":
            return torch.sigmoid(v)
        if name in ("place", "shading"):
            return torch.tanh(v)
        if name in OPTIONAL:
            return torch.cat([torch.sigmoid(v), torch.ones_like(v[..., :1])], -1)
        if name == "size":
            return SMALLEST * torch.exp(math.log(LARGEST / SMALLEST) * torch.sigmoid(v))
        if name == BACKGROUND:
            color = 0.5 * torch.sigmoid(v[..., :3] + self.background_logit + 0.7)
            return torch.cat([color, torch.sigmoid(v[..., 3:4]), 0.75 * torch.tanh(v[..., 4:])], -1)
        return v  # shape

    @staticmethod
    def grounded_values(part: str, value: Any) -> Sequence[float]:
        """What a grounding file sets, in [0, 1] -> values of the property."""
        if part == "color":
            return value
        return [SMALLEST * (LARGEST / SMALLEST) ** value] if part == "size" else [2 * value - 1]

    def plain_background(self) -> torch.Tensor:
        """The background that no word sets, (6,): one dark color without stripes."""
        return torch.cat([torch.sigmoid(self.background_logit), self.background_logit.new_zeros(3)])

    def points(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """{property: values (n, ...)} -> {what repels: points (n, F)}: `features` of each property and, so that no two
        outlines differ by rotation alone, their forms."""
        points = {name: self.features(name, v) for name, v in values.items()}
        if "shape" in values:
            points["form"] = self.outline.form(values["shape"])
        return points

    def features(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Values (n, ...) -> points (n, F) at distance 1 where two values are clearly different."""
        if name == "color":
            values = srgb_to_lab(values) * values.new_tensor([LIGHTNESS, 1, 1])
        elif name in OPTIONAL:  # the color of a rim counts by its opacity
            values = torch.cat([srgb_to_lab(values[:, :3]) * values[:, 3:], 50 * values[:, 3:]], 1)
        elif name == "size":
            values = values.log()
        elif name == "shape":
            values = self.silhouettes(values)
        elif name == BACKGROUND:
            stripes = values[:, 3:4]
            values = torch.cat([srgb_to_lab(values[:, :3]) / 20, stripes, 4 * values[:, 4:] * stripes], 1)
        return values / CLEARLY_DIFFERENT[name]

    def silhouettes(self, values: torch.Tensor, side: int = 16, radius: float = 4.6) -> torch.Tensor:
        """Shapes (n, 14) -> masks of one size, each of length 1, (n, side^2)."""
        axis = torch.arange(side, device=values.device) - (side - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        inside, _ = self.outline(values, x.reshape(1, -1), y.reshape(1, -1), torch.full_like(values[:, :1], radius))
        mask = torch.sigmoid(1.5 * inside)
        return mask / torch.sqrt(mask.square().sum(1, keepdim=True) + 1e-6)
