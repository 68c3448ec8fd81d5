"""Is a picture a scene of this model at all? Its caption is drawn again, and the two pictures are compared.

A captioner says something to every picture, and networks are often sure of what they say to foreign ones (Nguyen et al. 2015);
the likelihoods of generative models fail there, too (Nalisnick et al. 2019). A picture that comes back from its own code is a
better sign (An & Cho 2015), the more so the less the code holds: no real picture fits into a sentence. Nothing is trained for it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from channel import add_noise, blur, jpeg, round_8bit, shift
from pictures import INVENTION, draw_sentences, read_pictures
from text.grammar import different_sentences

SENTENCES, SEED = 60, 0  # of the calibration
MOST = 24  # words or pieces of a sentence that the language model invents for it
COARSE = 4  # px: the pictures are compared by squares of this side, so that noise counts little
MOVED = (-2, 0, 2)  # px across and down: a scene that arrives a little out of place is a scene
LEAST = 0.01  # shares of the variance below this one count as equal


def unexplained(pictures, redrawn):
    """What a picture's caption does not explain: mean squared difference of pictures (n, 3, 64, 64) in [0, 1] and of what is
    drawn from their captions, where it fits best, divided by the variance of the picture, at 16x16 pixels -> (n,), 0 for the same
    picture, about 2 for any two, more for plain pictures."""
    a = F.avg_pool2d(pictures, COARSE)
    variance = (a - a.mean((2, 3), keepdim=True)).square().mean((1, 2, 3))
    moved = (F.avg_pool2d(shift(redrawn, dx, dy), COARSE) for dx in MOVED for dy in MOVED)
    return torch.stack([(a - b).square().mean((1, 2, 3)) for b in moved]).amin(0) / (variance + 1e-4)


@dataclass
class SceneCheck:
    """Turns what a caption leaves unexplained into a probability, for one model, by logistic regression (Platt 1999)."""

    offset: float  # of the log odds that a picture is a scene of the model
    slope: float  # of the log odds over log(unexplained), <= 0

    @classmethod
    def of(cls, cycle, vocab, settings, device):
        """Calibrated on sentences of `val`; for a model of a captions file, which may not be there, on sentences that its language
        model invents.

        Scenes, as they are and after JPEG 50, a blur of 1 px, noise of 0.1 and a shift of 2 px, are told from the same pictures
        beside the caption of another sentence. Both count as equally likely.
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

    def probability(self, left):
        """What captions leave unexplained, (n,) -> how likely the pictures are scenes of the model, (n,) in [0, 1]."""
        return torch.sigmoid(self.offset + self.slope * log_unexplained(left))


def logistic_regression(x, label, steps=30):
    """x (n,), label (n,) 0 or 1, float64 -> offset and slope of the log odds of 1, by Newton's method. A penalty of slope^2 / 2
    keeps the slope finite where the labels can be told apart without a fault."""
    design, penalty = torch.stack([torch.ones_like(x), x], 1), torch.tensor([0.0, 1.0], dtype=x.dtype)  # (n, 2), (2,)
    weights = torch.zeros(2, dtype=x.dtype)
    for _ in range(steps):
        p = torch.sigmoid(design @ weights)  # (n,)
        gradient = design.T @ (p - label) + penalty * weights
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + torch.diag(penalty + 1e-9)
        weights = weights - torch.linalg.solve(curvature, gradient)
    return weights.tolist()


def log_unexplained(left):
    """Natural logarithm of (n,) shares of variance."""
    return left.double().clamp(min=LEAST).log()


def some_sentences(cycle, vocab, settings, device):
    """Sentences of the model's language that need nothing but the model."""
    if not settings.captions_file:
        return different_sentences(SENTENCES, "val", SEED)
    rng = torch.Generator(device).manual_seed(SEED)
    return [vocab.decode(row) for row in cycle.language_model.sample(SENTENCES, rng, INVENTION, MOST).tolist()]
