"""What a word can set: the color, shape, place, rim, shading, dot and size of a thing, and the ground.

Each property is a small network from a latent to the numbers that are drawn, common to all things. How far two values are
apart is told in units of "clearly different". Everything here is float32.
"""

import math

import torch
import torch.nn as nn

from decoders.waves import Waves
from imaging.color import srgb_to_lab

# The properties of a thing, and for how many values each has room, as the eye and the channel tell them apart
ROOM = {"color": 24, "shape": 14, "place": 9, "rim": 8, "shading": 6, "dot": 5, "size": 3}
PROPERTIES = tuple(ROOM)
GROUND = "ground"
OPTIONAL = ("rim", "dot")  # a thing has none unless a word sets it
GIVEN = {
    "color": ("color", [0, 1, 2]),
    "x": ("place", [0]),
    "y": ("place", [1]),
    "size": ("size", [0]),
}  # part -> its numbers
SMALLEST, LARGEST = 4.2, 7.5  # radius of the disc of a thing's area where three things share the picture, px

# name: (numbers, gain of the last layer, so that unlike words start with unlike values)
NETWORKS = {
    "color": (3, 4), "shape": (14, 12), "place": (2, 6), "rim": (3, 4), "shading": (2, 6), "dot": (3, 4), "size": (1, 6),
    GROUND: (6, 4),
}  # fmt: skip
# How far apart two values are clearly different: dE (CIE76), shares of a territory, logarithms, shares ...
CLEARLY_DIFFERENT = {
    "color": 25.0, "shape": 0.5, "place": 0.45, "rim": 40.0, "shading": 0.55, "dot": 40.0, "size": 0.16, GROUND: 1.0,
}  # fmt: skip
LIGHTNESS = 0.7  # of how much a difference of lightness counts beside one of hue: a picture can be darker as a whole


class Outline(nn.Module):
    """The outline of a thing: one order of waves in the lead, with pointed tips (triangle, star) or flat ones (trefoil, cross)."""

    ORDERS = range(2, 6)  # lobes
    DEPTH = 0.5  # of the deepest valley between two lobes, as a share of their tips
    SHARPNESS = 0.25  # the most of the second harmonic, as a share of the first
    NAMEABLE = 0.35  # how far apart waves are that a person gives two names
    STILL_MOVES = 4.0  # where a sigmoid has a fourteenth of its steepest slope

    def __init__(self):
        super().__init__()
        self.waves = Waves(self.ORDERS)

    def _wave(self, numbers):
        """Numbers of shapes (..., 14) -> radius between the lobes (..., 1), second harmonic (..., 1), how much of each order
        (..., orders)."""
        depth, sharp, order = numbers[..., :1], numbers[..., 1:2], numbers[..., 2 : 2 + len(self.ORDERS)]
        # the radius of the tips is about 1
        return (
            1 - self.DEPTH * torch.sigmoid(depth + 0.5),
            self.SHARPNESS * torch.tanh(sharp),
            (1.5 * order).softmax(-1),
        )

    def form(self, numbers):
        """Numbers of shapes (..., 14) -> the amplitudes of their waves (..., 2 orders), whichever way they are turned, about 1
        apart where a person gives them two names."""
        core, sharp, order = self._wave(numbers)
        swing = (1 - core) / 2 / self.NAMEABLE
        return torch.cat([swing * order, 2 * swing * sharp * order], -1)

    def saturation(self, numbers):
        """How far numbers of shapes (..., 14) lie where the sigmoids of `_wave` are flat: mean of relu(|number| - STILL_MOVES)^2
        -> 0-dim. Two discs that lie there stay two discs: no loss of their outlines reaches them."""
        return torch.relu(numbers[..., : 2 + len(self.ORDERS)].abs() - self.STILL_MOVES).square().mean()

    def forward(self, numbers, x, y, radius):
        """Numbers of shapes (..., 14), points x, y (..., n) from the center, radius of a disc of the same area (..., 1), px.

        Returns how far each point lies inside the curve and its distance from the center, (..., n), px.
        """
        n = len(self.ORDERS)
        core, sharp, order = self._wave(numbers)
        turn = numbers[..., 2 + n :]
        turn = turn.unflatten(-1, (n, 2))
        turn = turn / torch.sqrt(turn.square().sum(-1, keepdim=True) + 1e-3)
        mean, swing = (1 + core) / 2, (1 - core) / 2  # radius = mean + swing x wave
        power = order.square().sum(-1, keepdim=True)
        area = mean**2 + swing**2 * (power + (sharp * power) ** 2) / 2  # in units of pi
        size = radius / torch.sqrt(area)
        distance = torch.sqrt(x * x + y * y + 1e-3)
        wave = self.waves(order, turn, x / distance, y / distance)
        wave = wave + sharp * (2 * wave * wave - power)  # cos a + s cos 2a, for a wave of one order
        return size * (mean + swing * wave) - distance, distance


class PropertyNetworks(nn.Module):
    """Latents -> values of properties, and how far apart values are."""

    def __init__(self, z, hidden):
        super().__init__()
        self.outline = Outline()
        self.ground_logit = nn.Parameter(torch.logit(torch.tensor([0.06, 0.08, 0.14])))  # of a ground that no word sets
        self.networks = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(z, hidden), nn.GELU(), nn.Linear(hidden, numbers))
                for name, (numbers, _) in NETWORKS.items()
            }
        )
        with torch.no_grad():
            for name, (_, gain) in NETWORKS.items():
                self.networks[name][2].weight *= gain

    def forward(self, name, z):
        """Latents (..., z) -> what they set, (..., numbers): color, rim and dot sRGB in [0, 1], the last two with an opacity
        behind it; place and shading in [-1, 1]; size a radius in px; ground sRGB, the strength of its stripes in [0, 1], and
        their frequency across and down, radians a px."""
        v = self.networks[name](z)
        if name == "color":
            return torch.sigmoid(v)
        if name in ("place", "shading"):
            return torch.tanh(v)
        if name in OPTIONAL:
            return torch.cat([torch.sigmoid(v), torch.ones_like(v[..., :1])], -1)
        if name == "size":
            return SMALLEST * torch.exp(math.log(LARGEST / SMALLEST) * torch.sigmoid(v))
        if name == GROUND:
            color = 0.5 * torch.sigmoid(v[..., :3] + self.ground_logit + 0.7)
            return torch.cat([color, torch.sigmoid(v[..., 3:4]), 0.75 * torch.tanh(v[..., 4:])], -1)
        return v  # shape

    @staticmethod
    def given_numbers(part, value):
        """What a grounding says, in [0, 1] -> the numbers of the property that it sets."""
        if part == "color":
            return value
        return [SMALLEST * (LARGEST / SMALLEST) ** value] if part == "size" else [2 * value - 1]

    def plain_ground(self):
        """The ground that no word sets, (6,): one dark color without stripes."""
        return torch.cat([torch.sigmoid(self.ground_logit), self.ground_logit.new_zeros(3)])

    def points(self, values):
        """{property: values (n, numbers)} -> {what is kept apart: points (n, F)}: `features` of each property and, so that no two
        outlines differ by their turn alone, their forms."""
        out = {name: self.features(name, v) for name, v in values.items()}
        return out | ({"form": self.outline.form(values["shape"])} if "shape" in values else {})

    def features(self, name, values):
        """Values (n, numbers) -> points (n, F) whose distance is 1 where two values are clearly different."""
        if name == "color":
            values = srgb_to_lab(values) * values.new_tensor([LIGHTNESS, 1, 1])
        elif name in OPTIONAL:  # one that is hardly there has hardly a color
            values = torch.cat([srgb_to_lab(values[:, :3]) * values[:, 3:], 50 * values[:, 3:]], 1)
        elif name == "size":
            values = values.log()
        elif name == "shape":
            values = self.silhouettes(values)
        elif name == GROUND:
            stripes = values[:, 3:4]
            values = torch.cat([srgb_to_lab(values[:, :3]) / 20, stripes, 4 * values[:, 4:] * stripes], 1)
        return values / CLEARLY_DIFFERENT[name]

    def silhouettes(self, numbers, side=16, radius=4.6):
        """Shapes (n, 14) -> masks of one size, each of length 1, (n, side^2)."""
        axis = torch.arange(side, device=numbers.device) - (side - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        inside, _ = self.outline(numbers, x.reshape(1, -1), y.reshape(1, -1), torch.full_like(numbers[:, :1], radius))
        mask = torch.sigmoid(1.5 * inside)
        return mask / torch.sqrt(mask.square().sum(1, keepdim=True) + 1e-6)
