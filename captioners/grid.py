"""The captioner of scenes: a CNN that keeps an 8x8 grid, an LSTM, and attention over the grid."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from attention import attend, join_heads, split_heads
from captioners.base import Caption, Captioner, teacher_inputs


class CaptionNetwork(Captioner):
    """Reads a scene. GroupNorm with one group normalizes each picture by itself: no sentence sees another."""

    HEADS = 4

    def __init__(self, vocab_size: int, max_tokens: int, d_model: int = 512, hidden_dim: int = 256) -> None:
        super().__init__()
        if hidden_dim % 32:
            raise ValueError(f"hidden_dim {hidden_dim} is not a multiple of 32")
        self.max_tokens = max_tokens
        a, b, c = hidden_dim // 8, hidden_dim // 4, hidden_dim // 2
        self.convs = nn.ModuleList(
            [nn.Conv2d(3, a, 5, 2, 2), nn.Conv2d(a, b, 3, 2, 1), nn.Conv2d(b, c, 3, 2, 1), nn.Conv2d(c, c, 3, 1, 1)]
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, n) for n in (a, b, c, c))
        self.position = nn.Parameter(torch.randn(64, c) * 0.3)  # of each cell of the grid
        self.squeeze = nn.Linear(c, 16)
        self.to_gist = nn.Linear(16 * 64, hidden_dim)
        self.to_embedding = nn.Sequential(nn.GELU(), nn.Linear(hidden_dim, d_model))
        self.embedding = nn.Embedding(vocab_size, hidden_dim)
        self.lstm = nn.LSTM(2 * hidden_dim, hidden_dim, batch_first=True)
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.key_value = nn.Linear(c, 2 * hidden_dim)
        self.out = nn.Sequential(nn.Linear(2 * hidden_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, vocab_size))

    @classmethod
    def from_settings(cls, settings: Any, vocab_size: int, max_tokens: int) -> CaptionNetwork:
        return cls(vocab_size, max_tokens, settings.d_model, settings.hidden_dim)

    def see(self, picture: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """-> gist (B, H), (keys, values), each (B x heads, 64, H / heads)."""
        x = (picture * 2 - 1).contiguous(memory_format=torch.channels_last)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            y = F.gelu(norm(conv(x)))  # 32x32, 16x16, 8x8, 8x8
            x = x + y if i == 3 else y
        grid = x.flatten(2).transpose(1, 2)  # (B, 64, c)
        gist = self.to_gist(self.squeeze(grid).flatten(1))  # (B, H)
        keys, values = split_heads(self.key_value(grid + self.position), self.HEADS, 2)
        return gist, (keys, values)

    def lstm_input(self, gist: torch.Tensor, seen: Any, t: int) -> torch.Tensor:
        return gist[:, None]

    def _attend(self, states: torch.Tensor, seen: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """LSTM states (B, T, H) -> hidden states (B, T, H), attention (B, heads, T, 64)."""
        attended, weights = attend(split_heads(self.query(states), self.HEADS)[0], *seen)
        hidden = self.combine(states, join_heads(attended, self.HEADS))
        return hidden, weights.unflatten(0, (-1, self.HEADS)).transpose(2, 3)

    def attend_to(self, state: torch.Tensor, seen: Any, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, weights = self._attend(state, seen)
        return hidden, weights.mean(1)[:, 0]

    def forward(
        self,
        picture: torch.Tensor,
        ids: torch.Tensor,
        word_dropout: float = 0.0,
        rng: torch.Generator | None = None,
        dropped: torch.Tensor | None = None,
    ) -> Caption:
        gist, seen = self.see(picture)
        inputs = teacher_inputs(ids, word_dropout, rng, dropped)  # (B, T + 1)
        beside = gist[:, None].expand(-1, inputs.shape[1], -1)
        states, _ = self.lstm(torch.cat([self.embedding(inputs), beside], -1))  # (B, T + 1, H)
        hidden, _ = self._attend(states, seen)
        return Caption(hidden, self.to_embedding(gist))
