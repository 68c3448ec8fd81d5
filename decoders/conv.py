"""The plain decoder, for comparison: sentence embedding -> latent -> upsampling convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import losses
from decoders.base import Coherence, Decoder, Scene, Text, gaussian_kl, reparameterize, start_with_little_noise
from imaging.color import srgb_to_lab
from text.padding import count_batch_tokens
from text.vocabulary import PAD


class ConvSceneDecoder(Decoder):
    """Draws textures that the captioner reads and a person cannot."""

    def __init__(self, d_model: int = 512, hidden_dim: int = 256, z_dim: int = 128, use_vae: bool = True) -> None:
        super().__init__()
        self.use_vae = use_vae
        self.to_mu = nn.Linear(d_model, z_dim)
        self.to_logvar = nn.Linear(d_model, z_dim)
        start_with_little_noise(self.to_logvar)
        self.start = nn.Linear(z_dim, hidden_dim * 16)
        widths = [hidden_dim, hidden_dim // 2, hidden_dim // 4, hidden_dim // 8, hidden_dim // 8]
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.GroupNorm(1, b) for b in widths[1:])
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.coherence = Coherence()

    @classmethod
    def from_settings(cls, settings: Any, vocab_size: int, word_classes: Any) -> ConvSceneDecoder:
        s = settings
        return cls(s.d_model, s.hidden_dim, s.z_dim, s.use_vae)

    def forward(self, text: Text, rng: torch.Generator | None = None) -> Scene:
        mu = self.to_mu(text.sentence).float()  # (B, z_dim)
        logvar = self.to_logvar(text.sentence).float()  # (B, z_dim)
        z = reparameterize(mu, logvar, rng if self.use_vae else None)  # (B, z_dim)
        x = self.start(z).unflatten(1, (-1, 4, 4))  # (B, hidden, 4, 4)
        for stage, norm in zip(self.stages, self.norms):
            x = F.gelu(norm(stage(F.interpolate(x, scale_factor=2, mode="bilinear"))))  # sides of 8, 16, 32, 64
        picture = self.coherence(torch.sigmoid(self.to_rgb(x).float()))  # (B, 3, 64, 64)
        kl = gaussian_kl(mu, logvar).sum(1) if self.use_vae else mu.new_zeros(len(mu))
        dropped = torch.zeros_like(text.ids, dtype=torch.bool)
        return Scene(picture, mu, logvar, kl, dropped, codes=text.ids.new_zeros(len(mu), 0))

    def features(self, scene: Scene) -> dict[str, torch.Tensor]:
        return {"mean_color": scene.picture.float().mean((2, 3))}  # (B, 3)

    def losses(
        self,
        embedding: torch.Tensor,
        features: dict[str, torch.Tensor],
        ids: torch.Tensor,
        host_rng: np.random.Generator,
    ) -> dict[str, torch.Tensor]:
        """The mean color of a picture counts as the color of each of its tokens."""
        ids, count = count_batch_tokens(ids, len(embedding))
        tokens = ids.flatten()  # (B T,)
        lab = srgb_to_lab(features["mean_color"].repeat_interleave(ids.shape[1], 0))  # (B T, 3)
        return {"color": losses.color_loss(lab, tokens, (tokens != PAD).float(), count)}
