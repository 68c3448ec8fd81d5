"""The captioner of glyphs: a CNN, a glimpse at the cell of each token, and an LSTM."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from captioners.base import Caption, Captioner, teacher_inputs
from imaging.cells import cell_centers, grid_shape
from text.padding import Packing, targets_of
from text.vocabulary import PAD


class GlyphCaptionNetwork(Captioner):
    """Reads glyphs in reading order: at token t it looks at cell t.

    The centers of the cells are learned, from a start on the grid, and move with the picture.
    """

    GLIMPSE = 4  # points across and down
    WIDTH = 1.25  # of a glimpse, in cells
    REACH = 0.15  # how far centers may move with a picture, as a share of half its side

    points: torch.Tensor

    def __init__(
        self, vocab_size: int, max_tokens: int, d_model: int = 512, hidden_dim: int = 256, n_cells: int = 25
    ) -> None:
        super().__init__()
        if hidden_dim % 32:
            raise ValueError(f"hidden_dim {hidden_dim} is not a multiple of 32")
        self.max_tokens = max_tokens
        a = max(8, hidden_dim // 6 // 8 * 8)
        b = max(8, hidden_dim // 3 // 8 * 8)
        self.convs = nn.ModuleList([nn.Conv2d(3, a, 5, 2, 2), nn.Conv2d(a, b, 3, 2, 1), nn.Conv2d(b, b, 3, 1, 1)])
        self.norms = nn.ModuleList(nn.GroupNorm(1, n) for n in (a, b, b))
        self.squeeze = nn.Linear(b, 16)
        self.to_gist = nn.Linear(16 * 64, hidden_dim)
        self.to_embedding = nn.Sequential(nn.GELU(), nn.Linear(hidden_dim, d_model))
        self.embedding = nn.Embedding(vocab_size, hidden_dim)
        self.lstm = nn.LSTM(2 * hidden_dim, hidden_dim, batch_first=True)
        self.out = nn.Sequential(nn.Linear(2 * hidden_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, vocab_size))
        outside = torch.tensor([[3.0, 3.0]])  # EOS has no cell: its glimpse lies outside the picture
        self.centers = nn.Parameter(torch.cat([2 * cell_centers(n_cells)[:max_tokens] - 1, outside]))  # (K + 1, 2) x, y
        self.to_shift = nn.Linear(hidden_dim, 2)
        nn.init.zeros_(self.to_shift.weight)
        nn.init.zeros_(self.to_shift.bias)
        side = self.WIDTH * 2 / grid_shape(n_cells)[1]
        axis = (torch.arange(self.GLIMPSE) - (self.GLIMPSE - 1) / 2) * side / self.GLIMPSE
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("points", torch.stack([x, y], -1).flatten(0, 1), persistent=False)  # (P, 2)
        self.glimpse = nn.Sequential(
            nn.Linear(b * self.GLIMPSE**2, 2 * hidden_dim), nn.GELU(), nn.Linear(2 * hidden_dim, hidden_dim)
        )

    @classmethod
    def from_settings(cls, settings: Any, vocab_size: int, max_tokens: int) -> GlyphCaptionNetwork:
        return cls(vocab_size, max_tokens, settings.d_model, settings.hidden_dim, settings.n_cells)

    def features(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, 3, 64, 64) in [0, 1] -> gist (B, H), features (B, c, 16, 16), centers of all cells (B, K + 1, 2)."""
        x = (picture * 2 - 1).contiguous(memory_format=torch.channels_last)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            y = F.gelu(norm(conv(x)))  # 32x32, 16x16, 16x16
            x = x + y if i == 2 else y
        gist = self.to_gist(self.squeeze(F.avg_pool2d(x, 2).flatten(2).transpose(1, 2)).flatten(1))
        shift = self.REACH * torch.tanh(self.to_shift(gist).float())[:, None]  # (B, 1, 2)
        return gist, x.float(), self.centers + shift

    def glimpses(self, features: torch.Tensor, centers: torch.Tensor, packing: Packing) -> torch.Tensor:
        """Features (B, c, 16, 16) at some centers (B, T, 2), packing of (B, T) -> (N, H)."""
        points = centers[:, :, None] + self.points  # (B, T, P, 2)
        seen = F.grid_sample(features, points, align_corners=False)  # (B, c, T, P), 0 outside
        return self.glimpse(packing.pack(seen.permute(0, 2, 3, 1).flatten(2)))

    def forward(
        self,
        picture: torch.Tensor,
        ids: torch.Tensor,
        word_dropout: float = 0.0,
        rng: torch.Generator | None = None,
        dropped: torch.Tensor | None = None,
    ) -> Caption:
        gist, features, centers = self.features(picture)
        inputs = teacher_inputs(ids, word_dropout, rng, dropped)  # (B, T + 1)
        packing = Packing(targets_of(ids) != PAD)
        glimpses = self.glimpses(features, centers[:, : inputs.shape[1]], packing)  # (N, H)
        states, _ = self.lstm(torch.cat([self.embedding(inputs), packing.unpack(glimpses)], -1))
        hidden = packing.unpack(self.combine(packing.pack(states), glimpses))  # (B, T + 1, H)
        return Caption(hidden, self.to_embedding(gist))

    def see(self, picture: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """-> gist (B, H), (glimpses at all cells (B, K + 1, H), their centers (B, K + 1, 2))."""
        gist, features, centers = self.features(picture)
        packing = Packing(torch.ones(centers.shape[:2], dtype=torch.bool, device=centers.device))
        return gist, (packing.unpack(self.glimpses(features, centers, packing)), centers)

    def lstm_input(self, gist: torch.Tensor, seen: Any, t: int) -> torch.Tensor:
        return seen[0][:, t : t + 1]

    def attend_to(self, state: torch.Tensor, seen: Any, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The attention is the cell of an 8x8 grid in which the center of cell t lies."""
        glimpses, centers = seen
        cell = ((centers[:, t] + 1) * 4).long().clamp(0, 7)  # (B, 2)
        attention = F.one_hot(cell[:, 1] * 8 + cell[:, 0], 64).float()
        return self.combine(state, glimpses[:, t : t + 1]), attention
