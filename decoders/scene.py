"""What every scene decoder gives, and the VAE bottleneck that they share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn as nn

from imaging.filters import smooth

PICTURE_SIZE = 64
START_LOGVAR = -5.0  # at a log variance of 0 the noise drowns the words, and the cycle never starts


@dataclass
class Scene:
    """A drawn batch of B scenes, with the parts that it was composed of, if it has any."""

    picture: torch.Tensor  # (B, 3, 64, 64) in [0, 1]
    mu: torch.Tensor  # (B, z_dim) posterior mean; with --use_vq the numbers that its codes stand for
    logvar: torch.Tensor  # (B, z_dim) posterior log variance
    kl: torch.Tensor  # (B,) KL of the posterior to N(0, 1), nats, parts that are not drawn left out; 0 without a VAE
    codes: torch.Tensor = (
        None  # (B, C) int64, with --use_vq the code of each part, -1 of what is not drawn; as if none were dropped
    )
    object_masks: torch.Tensor = None  # (B, N, 64, 64) in [0, 1], the bodies of the objects decoder's things
    dropped: torch.Tensor = (
        None  # (B, T) bool, words that the picture does not tell, because their latents were dropped
    )
    # Of the marks decoder alone:
    attention: torch.Tensor = None  # (B, K, T) how much of each word each sprite shows
    presence: torch.Tensor = None  # (B, K) in [0, 1]
    colors: torch.Tensor = None  # (B, K, 3) sRGB in [0, 1]
    masks: torch.Tensor = None  # (B, K, side, side) in [0, 1], the sprite's own window
    ground: torch.Tensor = None  # (3,) sRGB in [0, 1]
    preference: torch.Tensor = None  # (B, K, T) where each word would stand if it were alone
    compose: Callable = None  # masks (b, K, side, side), colors (b, K, 3) -> pictures (b, 3, 64, 64)


def gaussian_kl(mu, logvar):
    """KL(N(mu, exp(logvar)) || N(0, 1)) per latent, nats (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mu.float() ** 2 + logvar.float().exp() - logvar.float() - 1)


def reparameterize(mu, logvar, rng):
    """A draw of the posterior (Kingma & Welling 2014, section 2.4); its mean without a generator."""
    if rng is None:
        return mu
    noise = torch.randn(mu.shape, device=mu.device, generator=rng)
    return mu + noise * (0.5 * logvar).exp()


def start_with_little_noise(to_logvar):
    """Initialize the layer that gives log variances."""
    nn.init.zeros_(to_logvar.weight)
    nn.init.constant_(to_logvar.bias, START_LOGVAR)


class Coherence(nn.Module):
    """The spatial stage: a 3x3 smoothing that the decoder cannot write around, so that what is
    told in the picture is told by things larger than a pixel."""

    def forward(self, picture):
        return smooth(picture, (0.25, 0.5, 0.25))
