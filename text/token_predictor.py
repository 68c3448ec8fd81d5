"""The cross-entropy of a batch's tokens, at a cost that follows neither padding nor the size of the vocabulary."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from losses import token_loss
from text.padding import Packing, batch_tokens, targets_of
from text.vocabulary import EOS, PAD, SPECIALS

WHOLE = 2048  # a vocabulary of at most this size is used whole
SAMPLED = 1024  # tokens that are used of a larger one, unless the batch itself has more


class TokenPredictor:
    """Computes the losses of networks that predict the tokens of one batch; ids (B, T), `local` the rows of this
    process.

    Rows of padding take no part. A large vocabulary is reduced to C tokens: those of the batch and some drawn at
    random, each of which stands for several absent ones, so that the softmax's sum is right on average (sampled softmax
    by importance sampling; Bengio & Senecal 2003). host_rng draws only for such a vocabulary.
    """

    def __init__(self, ids: torch.Tensor, local: torch.Tensor, vocab_size: int, host_rng: np.random.Generator) -> None:
        self.targets = targets_of(local)  # (B, T + 1)
        self.packing = Packing(self.targets != PAD)
        size = max(SAMPLED, ids.numel() + len(SPECIALS))
        self.is_sampled = vocab_size > max(WHOLE, size)
        if self.is_sampled:
            present = batch_tokens(ids, vocab_size, EOS + 1)
            draw = torch.from_numpy(host_rng.random(vocab_size, np.float32)).to(ids.device)
            self.tokens = (present + draw).topk(size).indices.sort().values  # (C,)
            self.index = torch.zeros(vocab_size, dtype=torch.int64, device=ids.device)  # of each token among the C
            self.index[self.tokens] = torch.arange(size, device=ids.device)
            absent = (vocab_size - present.sum()) / (size - present.sum()).clamp(min=1)
            self.log_weight = torch.where(present[self.tokens] > 0, 0.0, absent.log())  # (C,)

    def loss(
        self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, loss_mask: torch.Tensor
    ) -> torch.Tensor:
        """Mean cross-entropy, nats, of an output layer (weight (V, H), bias (V,)) on hidden states (B, T + 1, H).

        loss_mask (B, T + 1) bool: targets that count, beside padding, which never does.
        """
        rows = self.packing.pack(hidden)  # (N, H)
        targets = self.packing.pack(self.targets.masked_fill(~loss_mask, PAD))  # (N,)
        if not self.is_sampled:
            return token_loss(F.linear(rows, weight, bias), targets)
        bias = None if bias is None else bias[self.tokens]
        logits = F.linear(rows, weight[self.tokens], bias).float() + self.log_weight  # (N, C)
        return token_loss(logits, self.index[targets])
