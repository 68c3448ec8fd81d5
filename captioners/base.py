"""What caption networks share: a picture in, tokens out, and nothing but the picture to read them from.

Shapes: B pictures, T tokens, V tokens of vocabulary, H = hidden_dim, D = d_model. A forward pass draws random numbers
only from the generator that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from text.vocabulary import BOS, EOS, PAD

LEAST_TEMPERATURE = 1e-6  # below it tokens are not drawn: logits divided by it overflow


@dataclass
class Caption:
    """What a captioner computes of a batch of pictures and the true tokens."""

    hidden: torch.Tensor  # (B, T + 1, H) states from which the output layer predicts each token and EOS
    embedding: torch.Tensor  # (B, D) embedding of the picture, in the space of sentence embeddings


@dataclass
class Reading:
    """What a captioner reads in a batch of pictures."""

    ids: torch.Tensor  # (B, max_tokens + 1) token ids, PAD after EOS
    log_prob: torch.Tensor  # (B,) log probability of the tokens and of EOS, nats
    token_log_probs: torch.Tensor  # (B, max_tokens + 1) log probability of each token, 0 after EOS
    attention: torch.Tensor  # (B, max_tokens + 1, 64) where it looks, on an 8x8 grid


def teacher_inputs(
    ids: torch.Tensor,
    word_dropout: float = 0.0,
    rng: torch.Generator | None = None,
    dropped: torch.Tensor | None = None,
) -> torch.Tensor:
    """The token before each target: (B, T) -> (B, T + 1), starting with BOS.

    Word dropout replaces some tokens by PAD (Bowman et al. 2016), so that the picture is needed. Tokens that the
    picture does not show (dropped, (B, T) bool) are replaced, too.
    """
    inputs = F.pad(ids, (1, 0), value=BOS)
    if rng is not None and word_dropout:
        is_hidden = torch.rand(inputs.shape, device=ids.device, generator=rng) < word_dropout
        inputs = torch.where(is_hidden & (inputs != BOS), PAD, inputs)
    return inputs if dropped is None else inputs.masked_fill(F.pad(dropped, (1, 0)), PAD)


def sample_tokens(logits: torch.Tensor, temperature: float, rng: torch.Generator | None) -> torch.Tensor:
    """One token for each row of logits (B, V) -> (B,) int64; the most probable one below LEAST_TEMPERATURE."""
    if temperature < LEAST_TEMPERATURE:
        return logits.argmax(-1)
    scaled = (logits - logits.amax(-1, keepdim=True)) / temperature  # finite for every temperature
    return torch.multinomial(scaled.softmax(-1), 1, generator=rng)[:, 0]


class Captioner(nn.Module):
    """Base class of caption networks: an LSTM that at each token sees the token before and a part of the picture.

    A subclass creates the modules below and defines `forward`, `see`, `lstm_input` and `attend_to`.
    """

    max_tokens: int
    embedding: nn.Embedding
    lstm: nn.LSTM
    out: nn.Sequential  # its last layer predicts the next token

    @classmethod
    def from_settings(cls, settings: Any, vocab_size: int, max_tokens: int) -> Captioner:
        """Build the captioner that some Settings describe. Raises ValueError."""
        raise NotImplementedError

    @property
    def output(self) -> Any:
        """The output layer: hidden states (..., H) -> logits (..., V)."""
        return self.out[-1]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (..., H) -> logits (..., V), float32."""
        return self.output(hidden).float()

    def forward(
        self,
        picture: torch.Tensor,
        ids: torch.Tensor,
        word_dropout: float = 0.0,
        rng: torch.Generator | None = None,
        dropped: torch.Tensor | None = None,
    ) -> Caption:
        """Pictures (B, 3, 64, 64) in [0, 1] and the true token ids (B, T) -> Caption; options as `teacher_inputs`.

        State t sees the picture and the tokens before token t, some of them hidden.
        """
        raise NotImplementedError

    def see(self, picture: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """(B, 3, 64, 64) in [0, 1] -> gist (B, H), and what `lstm_input` and `attend_to` need of the picture."""
        raise NotImplementedError

    def lstm_input(self, gist: torch.Tensor, seen: Any, t: int) -> torch.Tensor:
        """What the LSTM sees of the picture at token t: (B, 1, H)."""
        raise NotImplementedError

    def attend_to(self, state: torch.Tensor, seen: Any, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        """An LSTM state (B, 1, H) at token t -> hidden states (B, 1, H), attention (B, 64)."""
        raise NotImplementedError

    def combine(self, state: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """LSTM states and what is attended to, each (..., H) -> hidden states (..., H)."""
        return self.out[:-1](torch.cat([state, seen], -1))

    @torch.no_grad()
    def read(self, picture: torch.Tensor, temperature: float = 0.0, rng: torch.Generator | None = None) -> Reading:
        """Pictures (B, 3, 64, 64) in [0, 1] -> Reading of at most max_tokens tokens; greedy at temperature 0."""
        gist, seen = self.see(picture)
        token = torch.full((len(picture),), BOS, device=picture.device)
        is_open = torch.ones_like(token, dtype=torch.bool)
        never = torch.tensor([PAD, BOS], device=token.device)
        memory = None
        ids, log_probs, attention = [], [], []
        for t in range(self.max_tokens + 1):
            inputs = torch.cat([self.embedding(token)[:, None], self.lstm_input(gist, seen, t)], -1)
            state, memory = self.lstm(inputs, memory)
            hidden, weights = self.attend_to(state, seen, t)
            logits = self.logits(hidden[:, 0]).index_fill(1, never, float("-inf"))
            token = sample_tokens(logits, temperature, rng)
            if t == self.max_tokens:  # a caption that does not end is cut where the longest sentence ends
                token = torch.full_like(token, EOS)
            log_prob = logits.log_softmax(-1).gather(1, token[:, None])[:, 0]
            log_probs.append(torch.where(is_open, log_prob, 0))
            token = torch.where(is_open, token, PAD)
            is_open = is_open & (token != EOS)
            ids.append(token)
            attention.append(weights)
        token_log_probs = torch.stack(log_probs, 1)
        return Reading(torch.stack(ids, 1), token_log_probs.sum(1), token_log_probs, torch.stack(attention, 1))
