"""Fresh captioners, trained on the pictures of a frozen scene decoder: how fast can its language be learned?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

import losses
from captioners.base import Caption, Reading
from channel import round_8bit
from data_utils import BOS, PAD
from metrics import exact_match
from models import CaptionNetwork
from text.padding import targets_of
from training.optimizer import warmup_cosine

WARMUP = 30  # steps of a fresh captioner
LEARNING_RATE = 1e-3
NOISE = 0.02  # standard deviation, in units of [0, 1]


class PlainCaptioner(nn.Module):
    """Another build of captioner: strided convolutions, then every word at once, each from the whole picture."""

    def __init__(self, vocab_size: int, max_tokens: int, hidden_dim: int = 96):
        super().__init__()
        self.places = max_tokens + 1
        widths = [3, 32, 64, hidden_dim, hidden_dim]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.GroupNorm(1, b) for b in widths[1:])
        self.hidden = nn.Linear(16 * hidden_dim, 4 * hidden_dim)
        self.out = nn.Linear(4 * hidden_dim, self.places * vocab_size)

    def all_logits(self, picture: torch.Tensor) -> torch.Tensor:
        """(B, 3, 64, 64) in [0, 1] -> (B, places, V)."""
        x = picture * 2 - 1
        for conv, norm in zip(self.convs, self.norms):
            x = F.gelu(norm(conv(x)))  # sides 32, 16, 8, 4
        return self.out(F.gelu(self.hidden(x.flatten(1)))).unflatten(1, (self.places, -1))

    def forward(self, picture: torch.Tensor, ids: torch.Tensor) -> Caption:
        """As `Captioner.forward`; hidden states (B, T + 1, V) are logits, and do not depend on the tokens before."""
        logits = self.all_logits(picture)[:, : ids.shape[1] + 1]
        return Caption(logits, picture.new_zeros(len(picture), 0))

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The hidden states, which are logits."""
        return hidden

    @torch.no_grad()
    def read(self, picture: torch.Tensor, temperature: float = 0.0, rng: torch.Generator | None = None) -> Reading:
        """As `Captioner.read`, greedy."""
        never = torch.tensor([PAD, BOS], device=picture.device)
        log_probs, ids = self.all_logits(picture).index_fill(2, never, float("-inf")).log_softmax(-1).max(-1)
        return Reading(ids, log_probs.sum(1), log_probs, torch.full((*ids.shape, 64), 1 / 64, device=picture.device))


def narrow_caption_network(vocab_size: int, max_tokens: int) -> CaptionNetwork:
    """The model's own build of captioner, narrower: d_model 64, hidden_dim 96."""
    return CaptionNetwork(vocab_size, max_tokens, 64, 96)


CAPTIONERS = {"caption_network": narrow_caption_network, "plain_convolutions": PlainCaptioner}  # id: builder
CAPTIONER_LABELS = {"caption_network": "caption network", "plain_convolutions": "plain convolutions"}


def fresh_captioner(build: str, vocab: Any, max_tokens: int, seed: int, device: torch.device) -> nn.Module:
    """An untrained captioner of CAPTIONERS. torch's own random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 104729)
        return CAPTIONERS[build](len(vocab), max_tokens).to(device)


def train_captioners(
    captioners: dict[str, nn.Module],
    model: Any,
    protocol: Any,
    checks: list[str],
    seed: int,
    after_step: Callable[[], None] | None = None,
    score: Callable[[list[str], list[str]], float] = exact_match,
) -> dict[str, list[tuple[int, float]]]:
    """Train each of {name: captioner} on the same pictures of a frozen scene decoder.

    model: the ModelUnderTest or baseline that draws; checks: unseen sentences; after_step: called without arguments
    after each step; score: a function of sentences and captions. AdamW 1e-3 with 30 steps of warm-up and a cosine to 2
    %; the pictures have noise of sigma 0.02 and 8 bits. -> {name: [(step, score on `checks`)]} after every
    `protocol.every` steps and the last one.
    """
    optimizers = {
        name: torch.optim.AdamW(c.parameters(), LEARNING_RATE, betas=(0.9, 0.98)) for name, c in captioners.items()
    }
    rng = torch.Generator(model.device).manual_seed(seed)
    unseen = model.draw(checks).to(model.device)
    batch = model.batches(seed)
    curves = {name: [] for name in captioners}
    for step in range(protocol.steps):
        ids = batch(step).to(model.device)  # (B, T)
        with torch.no_grad():  # once for all captioners: drawing costs as much as training the plain one
            picture = model.cycle.draw(ids).picture.float()  # (B, 3, 64, 64) in [0, 1]
            noise = torch.randn(picture.shape, generator=rng, device=model.device)
            picture = round_8bit((picture + NOISE * noise).clamp(0, 1))
        targets = targets_of(ids)  # (B, T + 1)
        for name, captioner in captioners.items():
            loss = losses.token_loss(captioner.logits(captioner(picture, ids).hidden), targets)
            for group in optimizers[name].param_groups:
                group["lr"] = LEARNING_RATE * warmup_cosine(step, protocol.steps, WARMUP)
            optimizers[name].zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(captioner.parameters(), 1.0)
            optimizers[name].step()
            if (step + 1) % protocol.every == 0 or step + 1 == protocol.steps:
                captions = [model.vocab.decode(row) for row in captioner.read(unseen).ids.tolist()]
                curves[name].append((step + 1, score(checks, captions)))
        if after_step:
            after_step()
    return curves
