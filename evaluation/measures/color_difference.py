"""How different two pictures look: CIE76, the Euclidean distance in CIELAB, after a slight blur."""

import torch

from channel import blur
from imaging.color import srgb_to_lab

BLUR = 1.5  # px: differences of single pixels are not visible
VISIBLE = 10.0  # a difference that is seen at a glance; the least visible difference is about 2


def color_difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """CIE76 color difference of every pixel after a blur of 1.5 px.

    a, b: pictures (n, 3, 64, 64) in [0, 1], compared pairwise -> (n, 64, 64) >= 0; black and white differ by 100.
    """
    lab_a, lab_b = (srgb_to_lab(blur(pictures, BLUR), axis=1) for pictures in (a, b))  # (n, 3, 64, 64)
    return ((lab_a - lab_b) ** 2).sum(1).sqrt()
