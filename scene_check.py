"""Is a picture a scene of this model? Its caption is drawn again, and the two pictures are compared.

A captioner has a caption for every picture, and networks are often confident about foreign pictures (Nguyen et al.
2015); so are the likelihoods of generative models (Nalisnick et al. 2019). The reconstruction error is a better sign
(An & Cho 2015), and the better the less the code holds: no real picture fits into a sentence. No network is trained for
this check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from channel import add_noise, blur, jpeg, round_8bit, shift
from models import Cycle
from pictures import INVENTION, draw_sentences, read_pictures
from settings import Settings
from text.grammar import different_sentences

SENTENCES = 60  # of the calibration
SEED = 0
MOST = 24  # words or tokens of a sentence that the language model invents for it
COARSE = 4  # px, the side of the squares by which pictures are compared, so that noise counts little
MOVED = (-2, 0, 2)  # px across and down, the shifts that are ignored
LEAST = 0.01  # smaller shares of the variance count as this one


def unexplained(pictures: torch.Tensor, redrawn: torch.Tensor) -> torch.Tensor:
    """The share of a picture's variance that its caption does not explain, at 16x16 pixels -> (n,): mean squared
    difference of pictures (n, 3, 64, 64) in [0, 1] and of the pictures that are drawn from their captions, at the best
    shift, divided by the variance of the picture. 0 for equal pictures, about 2 for unrelated ones, more for plain
    pictures."""
    a = F.avg_pool2d(pictures, COARSE)
    variance = (a - a.mean((2, 3), keepdim=True)).square().mean((1, 2, 3))
    moved = (F.avg_pool2d(shift(redrawn, dx, dy), COARSE) for dx in MOVED for dy in MOVED)
    return torch.stack([(a - b).square().mean((1, 2, 3)) for b in moved]).amin(0) / (variance + 1e-4)


@dataclass
class SceneCheck:
    """Maps the unexplained share to a probability for one model, by logistic regression (Platt 1999)."""

    offset: float  # of the log odds that a picture is a scene of the model
    slope: float  # of the log odds over log(unexplained), <= 0

    @classmethod
    def of(cls, cycle: Cycle, vocab: Any, settings: Settings, device: torch.device) -> SceneCheck:
        """Calibrate on sentences of `val`, or, for a model of a captions file, which may be missing, on sentences that
        its language model invents.

        The positive examples are scenes, also after JPEG 50, a blur of 1 px, noise of 0.1 and a shift of 2 px; the
        negative examples are the same pictures with the caption of another sentence. Both are equally likely.
        """
        pictures = draw_sentences(cycle, vocab, some_sentences(cycle, vocab, settings, device), device)
        noisy = add_noise(pictures, 0.1, torch.Generator().manual_seed(SEED))
        received = torch.cat([pictures, jpeg(pictures, 50), blur(pictures, 1.0), noisy, shift(pictures, 2, 2)])
        received = round_8bit(received.clamp(0, 1))
        redrawn = draw_sentences(cycle, vocab, read_pictures(cycle, vocab, received, device)[0], device)
        left = torch.cat([unexplained(received, redrawn), unexplained(received, redrawn.roll(1, 0))])
        is_scene = torch.arange(len(left)) < len(received)
        offset, slope = logistic_regression(log_unexplained(left), is_scene.double())
        return cls(offset, min(0.0, slope))

    def probability(self, left: torch.Tensor) -> torch.Tensor:
        """`unexplained` shares (n,) -> the probabilities that the pictures are scenes of the model, (n,) in [0, 1]."""
        return torch.sigmoid(self.offset + self.slope * log_unexplained(left))


def logistic_regression(x: torch.Tensor, label: torch.Tensor, steps: int = 30) -> list[float]:
    """x (n,), label (n,) 0 or 1, float64 -> offset and slope of the log odds of 1, by Newton's method. A penalty of
    slope^2 / 2 keeps the slope finite if the labels are separable."""
    design = torch.stack([torch.ones_like(x), x], 1)  # (n, 2)
    penalty = torch.tensor([0.0, 1.0], dtype=x.dtype)
    weights = torch.zeros(2, dtype=x.dtype)
    for _ in range(steps):
        p = torch.sigmoid(design @ weights)  # (n,)
        gradient = design.T @ (p - label) + penalty * weights
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + torch.diag(penalty + 1e-9)
        weights = weights - torch.linalg.solve(curvature, gradient)
    return weights.tolist()


def log_unexplained(left: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of (n,) shares of variance."""
    return left.double().clamp(min=LEAST).log()


def some_sentences(cycle: Cycle, vocab: Any, settings: Settings, device: torch.device) -> list[str]:
    """Sentences of the model's language, without its captions file."""
    if not settings.captions_file:
        return different_sentences(SENTENCES, "val", SEED)
    rng = torch.Generator(device).manual_seed(SEED)
    return [vocab.decode(row) for row in cycle.language_model.sample(SENTENCES, rng, INVENTION, MOST).tolist()]
