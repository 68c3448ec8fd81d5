"""The shape and the color of a glyph, as small networks of its latent."""

from __future__ import annotations

import math

import torch
import torch.nn as nn

from decoders.waves import Waves


class Shapes(nn.Module):
    """A latent -> the soft coverage of one compact shape, whose radius varies with the angle.

    The radius is a sum of waves of a few orders with one of them in the lead (Zahn & Roskies 1972 describe closed
    curves by such series), so that a glyph can be named: disc, dumbbell, trefoil, cross, star, with or without a hole.
    All glyphs cover the same area, so that none is more conspicuous than another.
    """

    ORDERS = range(2, 6)  # lobes
    AREA = 0.27  # the area of a glyph as a share of its window
    HOLE = 0.6  # the radius of a hole as a share of the radius between the lobes
    SOFTNESS = 1.5  # steepness of edges, per px

    x: torch.Tensor
    y: torch.Tensor

    def __init__(self, latent_dim: int, side: int, hidden_dim: int) -> None:
        super().__init__()
        self.side = side  # of a window, px
        n_values = 3 * len(self.ORDERS) + 2
        self.outline = nn.Sequential(nn.Linear(latent_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, n_values))
        with torch.no_grad():  # different tokens start with different outlines
            self.outline[2].get_parameter("weight").mul_(12)
        axis = torch.arange(side) - (side - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("x", x.reshape(-1).clone(), persistent=False)  # px from the center of a window
        self.register_buffer("y", y.reshape(-1).clone(), persistent=False)
        self.waves = Waves(self.ORDERS)

    def forward(self, z: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Latents (..., d), points x, y (..., n), px from the center of the glyph -> coverage (..., n) in [0, 1]."""
        n = len(self.ORDERS)
        hole, depth, order, turn = self.outline(z).split([1, 1, n, 2 * n], -1)
        core = 1 - 0.6 * torch.sigmoid(depth + 0.5)  # radius between the lobes; that of their tips is 1
        order = (1.5 * order).softmax(-1)
        turn = turn.unflatten(-1, (n, 2))
        turn = turn / torch.sqrt(turn.square().sum(-1, keepdim=True) + 1e-3)
        hole = torch.sigmoid(2 * hole - 2)
        mean = (1 + core) / 2  # radius = mean + swing x wave
        swing = (1 - core) / 2
        area = (
            mean**2 + swing**2 * order.square().sum(-1, keepdim=True) / 2 - hole * (self.HOLE * core) ** 2
        )  # units of pi
        size = torch.sqrt(self.AREA * self.side**2 / (math.pi * area))  # px
        distance = torch.sqrt(x * x + y * y + 1e-3)
        wave = self.waves(order, turn, x / distance, y / distance)
        filled = 1 - hole * torch.sigmoid((self.HOLE * core * size - distance) * self.SOFTNESS)
        return torch.sigmoid((size * (mean + swing * wave) - distance) * self.SOFTNESS) * filled


class Colors(nn.Module):
    """A latent -> one sRGB color in [0, 1]."""

    def __init__(self, latent_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(latent_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 3))
        with torch.no_grad():
            self.net[2].get_parameter("weight").mul_(4)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.net(z))
