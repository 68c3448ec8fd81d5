"""The words that a step computes with, so that its cost follows the batch and not the vocabulary."""

from dataclasses import dataclass

import numpy as np
import torch

from text.vocabulary import EOS, SPECIALS

WHOLE = 2048  # a vocabulary of up to so many words is used whole while training
SAMPLED = 1024  # words that are used of a larger one, unless the batch itself has more


def words_of_batch(ids, vocab_size):
    """Word numbers (B, T) in [0, V) -> the same words renumbered (B, T) in [0, N), and N = min(V, B T + 1).

    The order of the words stays, and padding stays 0. N counts what a batch could have, not what it has: counting would wait
    for a GPU.
    """
    present = _present(ids, vocab_size)
    return (present.cumsum(0) - 1)[ids], min(vocab_size, ids.numel() + 1)


def _present(ids, vocab_size, first=1):
    """Which words a batch has: (B, T) -> (V,) of 0 and 1; the first ones always count."""
    present = torch.zeros(vocab_size, dtype=torch.int64, device=ids.device)
    present[ids.flatten()] = 1
    present[:first] = 1
    return present


@dataclass
class WordSample:
    """The C words among which networks choose the next word: all, or the words of the batch and some drawn at random.

    Each drawn word counts for all the absent words that it stands for, so that the sum in a softmax is right on average
    (importance sampling; Bengio & Senecal 2003). A vocabulary of up to `WHOLE` words is used whole.
    """

    words: torch.Tensor = None  # (C,) word numbers, ascending; None: all
    number: torch.Tensor = None  # (V,) where a word stands among them
    log_weight: torch.Tensor = None  # (C,) log of how many words each stands for

    @classmethod
    def for_batch(cls, ids, vocab_size, host_rng):
        """A sample for word numbers (B, T); host_rng, a numpy Generator, is asked only if the vocabulary is too large."""
        size = max(SAMPLED, ids.numel() + len(SPECIALS))
        if vocab_size <= max(WHOLE, size):
            return cls()
        present = _present(ids, vocab_size, EOS + 1)
        draw = torch.from_numpy(host_rng.random(vocab_size, np.float32)).to(ids.device)
        words = (present + draw).topk(size).indices.sort().values
        number = torch.zeros(vocab_size, dtype=torch.int64, device=ids.device)
        number[words] = torch.arange(size, device=ids.device)
        absent = (vocab_size - present.sum()) / (size - present.sum()).clamp(min=1)
        return cls(words, number, torch.where(present[words] > 0, 0.0, absent.log()))

    def rows(self, table):
        """What a table (V, ...) says of these words: (C, ...)."""
        return table if self.words is None else table[self.words]

    def weighted(self, logits):
        """Logits (..., C) plus the log of how many words each stands for."""
        return logits if self.words is None else logits + self.log_weight

    def numbers(self, ids):
        """Word numbers of the batch -> their places among the C words; padding, start and end keep theirs."""
        return ids if self.words is None else self.number[ids]


ALL_WORDS = WordSample()
