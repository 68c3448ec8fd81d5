"""Draws objects on a background from values of their properties. Differentiable, without weights."""

from __future__ import annotations

import torch
import torch.nn as nn

from decoders.base import PICTURE_SIZE
from decoders.properties import Outline

# For 1, 2 and 3 objects: the center of each object's territory, how far the object may move from it across and down,
# px, and the scale of objects. Territories do not overlap, so that objects keep apart and inside the frame.
TERRITORIES = {
    1: (((0, 0),), (12.5, 12.5), 1.5),
    2: (((-16, 0), (16, 0)), (3.0, 18.0), 1.1),
    3: (((-16, -16), (16, -16), (0, 16)), (3.8, 3.8), 1.0),
}
SOFTNESS = 2.2  # steepness of edges, per px
SHADE = 0.45  # how far shading moves a color towards white or black at most
HOLE, DOT = 0.52, 0.34  # radii of the hole in an object with a dot, and of the dot in it, as shares of the object's
STRIPES = 0.2  # how far the strongest stripes of the background move its color towards white and black


def shaded(color: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
    """Colors in [0, 1], moved towards white by a positive share of light, towards black by a negative one, in [-1, 1].

    Nothing is clamped, so that every color keeps its gradient.
    """
    return color + light * torch.where(light > 0, 1 - color, color)


class Renderer(nn.Module):
    """Values of properties -> pictures; N = n_objects."""

    x: torch.Tensor  # (4096,) px from the center
    y: torch.Tensor
    center: torch.Tensor  # (counts, N, 2)
    reach: torch.Tensor  # (counts, 2)
    scale: torch.Tensor  # (counts,)

    def __init__(self, n_objects: int, outline: Outline) -> None:
        super().__init__()
        self.n_objects = n_objects
        self.outline = outline
        axis = torch.arange(PICTURE_SIZE) - (PICTURE_SIZE - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("x", x.reshape(-1).clone(), persistent=False)
        self.register_buffer("y", y.reshape(-1).clone(), persistent=False)
        counts = range(1, n_objects + 1)
        center = torch.zeros(n_objects, n_objects, 2)
        for count in counts:
            center[count - 1, :count] = torch.tensor(TERRITORIES[count][0], dtype=torch.float32)
        reach = torch.tensor([TERRITORIES[count][1] for count in counts])
        scale = torch.tensor([TERRITORIES[count][2] for count in counts])
        self.register_buffer("center", center, persistent=False)
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(
        self,
        values: dict[str, torch.Tensor],
        background: torch.Tensor,
        count: torch.Tensor,
        only: int | None = None,
    ) -> torch.Tensor:
        """{property: (B, N, n)}, background (B, 6), number of objects (B,) -> pictures (B, 3, 64, 64) in [0, 1].

        Later objects cover earlier ones where they meet. only: the index of the one object to draw, -1 for none.
        """
        wave = torch.sin(background[:, 4:5] * self.x + background[:, 5:6] * self.y)  # (B, 4096)
        stripes = STRIPES * background[:, 3:4, None] * wave[:, None]  # (B, 1, 4096)
        picture = shaded(background[:, :3, None], stripes)  # (B, 3, 4096)

        at = count - 1
        center = self.center[at] + self.reach[at][:, None] * values["place"]  # (B, N, 2)
        x = self.x - center[..., :1]  # (B, N, 4096)
        y = self.y - center[..., 1:]
        radius = values["size"] * self.scale[at][:, None, None]  # (B, N, 1)
        inside, distance = self.outline(values["shape"], x, y, radius)
        index = torch.arange(self.n_objects, device=x.device)
        exists = index < count[:, None] if only is None else (index == only).expand(len(count), -1)
        exists = exists.float()[..., None]  # (B, N, 1)

        within = torch.sigmoid(SOFTNESS * inside)
        body = within * exists
        rim_width = 1.5 + 0.12 * radius
        rim = torch.sigmoid(SOFTNESS * (inside + rim_width)) * (1 - within) * values["rim"][..., 3:] * exists
        has_dot = values["dot"][..., 3:]
        hole = torch.sigmoid(SOFTNESS * (HOLE * radius - distance)) * has_dot * exists
        dot = torch.sigmoid(SOFTNESS * (DOT * radius - distance)) * has_dot * exists
        shading = values["shading"]
        light = SHADE * torch.tanh((shading[..., :1] * x + shading[..., 1:] * y) / radius)
        color = shaded(values["color"][..., None], light[:, :, None])  # (B, N, 3, 4096)

        for i in range(self.n_objects):
            picture = torch.lerp(picture, values["rim"][:, i, :3, None].expand_as(picture), rim[:, i, None])
            picture = torch.lerp(picture, color[:, i], body[:, i, None])
            picture = picture * (1 - hole[:, i, None])  # dark, so that a dot stands out from a body of any color
            picture = torch.lerp(picture, values["dot"][:, i, :3, None].expand_as(picture), dot[:, i, None])
        return picture.unflatten(2, (PICTURE_SIZE, PICTURE_SIZE))
