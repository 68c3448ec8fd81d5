"""The three networks of the cycle: text -> scene -> text.

    AutoregressiveLanguageModel   reads and invents sentences SceneDecoder                  draws a sentence as a 64x64
    picture: the decoder of the default preset (decoders/objects.py) CaptionNetwork                reads a picture back,
    and sees nothing but the picture (captioners/grid.py)

`algorithm.py` shows how they are trained together; `decoders.DECODERS` and `captioners.CAPTIONERS` are the registries.
Shapes: B sentences, T tokens, V tokens of vocabulary, D = d_model. A forward pass draws random numbers only from the
generator that it is given; without one it is deterministic.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from attention import attend, join_heads, split_heads
from captioners import CAPTIONERS, CaptionNetwork
from captioners.base import sample_tokens
from decoders import DECODERS
from decoders.base import Scene, Text
from decoders.objects import ObjectsSceneDecoder as SceneDecoder
from text.vocabulary import BOS, EOS, PAD
from text.word_classes import WordClasses

__all__ = ["AutoregressiveLanguageModel", "CaptionNetwork", "Cycle", "SceneDecoder"]


def dropout(x: torch.Tensor, p: float, rng: torch.Generator | None) -> torch.Tensor:
    """Inverted dropout from an explicit generator; the identity without one."""
    if rng is None or p == 0:
        return x
    return x * (torch.rand(x.shape, device=x.device, generator=rng) >= p) / (1 - p)


# ---------------------------------------------------------------------------------------------
# Language model
# ---------------------------------------------------------------------------------------------


class Block(nn.Module):
    """One pre-norm transformer layer with causal attention."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.project = nn.Linear(d_model, d_model)
        self.norm_mlp = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, p: float, rng: torch.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States (B, T, D), attention mask (keys T, queries T) -> states (B, T, D), weights (B, heads, T, T)."""
        qkv = split_heads(self.qkv(self.norm_attention(x)), self.n_heads, 3)
        attended, weights = attend(qkv[0], qkv[1], qkv[2], mask)
        x = x + dropout(self.project(join_heads(attended, self.n_heads)), p, rng)
        x = x + dropout(self.down(F.gelu(self.up(self.norm_mlp(x)))), p, rng)
        return x, weights.unflatten(0, (-1, self.n_heads)).transpose(2, 3)


class AutoregressiveLanguageModel(nn.Module):
    """A causal transformer over tokens with a next-token loss and a sentence embedding.

    has_token_embedding: scene decoders draw tokens from an embedding of its own, not from that of the output layer.
    """

    def __init__(
        self,
        vocab_size: int,
        max_tokens: int,
        d_model: int = 512,
        n_heads: int = 8,
        n_layers: int = 6,
        dropout: float = 0.0,
        has_token_embedding: bool = False,
    ) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not a multiple of n_heads {n_heads}")
        self.max_tokens = max_tokens
        self.p = dropout
        self.embedding = nn.Embedding(vocab_size, d_model)  # shared with the output layer
        self.position = nn.Embedding(max_tokens + 1, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.has_token_embedding = has_token_embedding
        if has_token_embedding:
            self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.to_sentence = nn.Linear(d_model, d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)

    @property
    def drawn_embedding(self) -> torch.Tensor:
        """The embedding that tokens are drawn from, without context: (V, D)."""
        return self.token_embedding.weight if self.has_token_embedding else self.embedding.weight

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (..., D) -> logits of the next token (..., V), float32."""
        return (hidden @ self.embedding.weight.T).float()

    def forward(self, ids: torch.Tensor, rng: torch.Generator | None = None) -> Text:
        """Token ids (B, T), padded with PAD -> Text. States at padding mean nothing. Raises ValueError for T >
        max_tokens."""
        if ids.shape[1] > self.max_tokens:
            raise ValueError(f"a sentence of {ids.shape[1]} tokens; this model reads at most {self.max_tokens}")
        inputs = F.pad(ids, (1, 0), value=BOS)  # (B, T + 1)
        x = self.embedding(inputs) + self.position.weight[: inputs.shape[1]]  # (B, T + 1, D)
        x = dropout(x, self.p, rng)
        causal = torch.full((inputs.shape[1],) * 2, float("-inf"), device=x.device).tril(-1)  # (keys, queries)
        attention = []
        for block in self.blocks:
            x, weights = block(x, causal, self.p, rng)
            attention.append(weights)
        x = self.norm(x)  # (B, T + 1, D)
        mask = (ids != PAD).float()[..., None]  # (B, T, 1)
        mean = (x[:, 1:] * mask).sum(1) / mask.sum(1).clamp(min=1)  # (B, D)
        tokens = F.embedding(ids, self.drawn_embedding)  # (B, T, D)
        return Text(ids, x, tokens, self.to_sentence(mean), attention)

    @torch.no_grad()
    def sample(self, n: int, rng: torch.Generator, temperature: float = 1.0, most: int | None = None) -> torch.Tensor:
        """n invented sentences -> token ids (n, T), T <= max_tokens, padded with PAD; cut after `most` tokens."""
        device = self.embedding.weight.device
        ids = torch.zeros(n, 0, dtype=torch.int64, device=device)
        is_open = torch.ones(n, dtype=torch.bool, device=device)
        for _ in range(min(self.max_tokens, most or self.max_tokens)):
            logits = self.logits(self(ids).hidden[:, -1])  # (n, V)
            logits[:, [PAD, BOS]] = float("-inf")
            if not ids.shape[1]:
                logits[:, EOS] = float("-inf")  # an empty sentence describes nothing
            token = sample_tokens(logits, temperature, rng)  # (n,)
            is_open &= token != EOS
            ids = torch.cat([ids, torch.where(is_open, token, PAD)[:, None]], 1)
        return ids[:, : max(1, int((ids != PAD).sum(1).max()))]


# ---------------------------------------------------------------------------------------------
# The cycle
# ---------------------------------------------------------------------------------------------


class Cycle(nn.Module):
    """The three networks together, as Settings describe them. word_classes: for decoders that need them."""

    def __init__(
        self, settings: Any, vocab_size: int, max_tokens: int, word_classes: WordClasses | None = None
    ) -> None:
        super().__init__()
        s = settings
        decoder = DECODERS[s.decoder]
        self.word_classes = word_classes
        self.language_model = AutoregressiveLanguageModel(
            vocab_size, max_tokens, s.d_model, s.n_heads, s.n_layers, s.dropout, decoder.has_token_embedding
        )
        self.scene_decoder = decoder.from_settings(s, vocab_size, word_classes)
        self.caption_network = CAPTIONERS[decoder.captioner].from_settings(s, vocab_size, max_tokens)

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest sentence that can be drawn."""
        return self.language_model.max_tokens

    @property
    def vocab_size(self) -> int:
        return self.language_model.embedding.num_embeddings

    @property
    def has_codes(self) -> bool:
        """Whether scenes are lists of codes (--use_vq)."""
        return self.scene_decoder.has_codes

    @torch.no_grad()
    def draw(self, ids: torch.Tensor) -> Scene:
        """Token ids (B, T) -> Scene, without noise."""
        return self.scene_decoder(self.language_model(ids))
