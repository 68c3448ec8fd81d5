"""The plain decoder for comparison: sentence embedding -> latent -> upsampling convolutions."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from decoders.scene import Coherence, Scene, gaussian_kl, reparameterize, start_with_little_noise


class ConvSceneDecoder(nn.Module):
    """It closes the cycle too, with a texture that no person can read."""

    draws_objects, draws_glyphs, has_layers = False, False, False

    def __init__(self, d_model=512, hidden_dim=256, z_dim=128, use_vae=True):
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

    def forward(self, text, mask, rng=None):
        """TextState, (B, T) bool where a word stands -> Scene without parts. Noise only with a generator."""
        mu, logvar = self.to_mu(text.sentence).float(), self.to_logvar(text.sentence).float()  # (B, z_dim)
        z = reparameterize(mu, logvar, rng if self.use_vae else None)  # (B, z_dim)
        x = self.start(z).unflatten(1, (-1, 4, 4))  # (B, hidden, 4, 4)
        for stage, norm in zip(self.stages, self.norms):
            x = F.gelu(norm(stage(F.interpolate(x, scale_factor=2, mode="bilinear"))))  # sides of 8, 16, 32, 64
        picture = self.coherence(torch.sigmoid(self.to_rgb(x).float()))  # (B, 3, 64, 64)
        kl = gaussian_kl(mu, logvar).sum(1) if self.use_vae else mu.new_zeros(len(mu))
        return Scene(picture, mu, logvar, kl)
