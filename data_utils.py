"""Scene descriptions as batches: sentences of the grammar, or of a user's captions file.

    python data_utils.py --split train --num 10 --seed 0
    python data_utils.py --split test_pairs --num 1000 --seed 7 > pairs.txt

The grammar and the vocabulary live in `text/`, captions files in `captions/`; `__all__` lists what users look for here.
The sentences of a batch follow from (seed, epoch, batch number) alone: nothing is stored, an epoch of ten million
costs no more memory than one of ten thousand, and a resumed run draws the same sentences.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

import numpy as np
import torch

from captions.dataset import CaptionsData
from captions.lines import CaptionsFileError, read_lines
from captions.sentences import CaptionsReport
from runtime.command_line import Parser, exit_code, number
from text.grammar import (
    ACTIONS,
    BACKGROUNDS,
    COLORS,
    MOST_WORDS,
    OBJECTS,
    POSITIONS,
    RELATIONS,
    SIZES,
    SPLITS,
    numbered_rows,
    parse,
    render,
    sample_rows,
    sample_sentences,
    to_dict,
    words_of,
)
from text.order import shuffled
from text.padding import pad, targets_of
from text.vocabulary import BOS, EOS, PAD, SPECIALS, UnknownWord, Vocabulary, tokenize

__all__ = [
    "GrammarData", "CaptionsData", "CaptionsReport", "CaptionsFileError", "read_lines",  # data
    "COLORS", "OBJECTS", "SIZES", "POSITIONS", "BACKGROUNDS", "ACTIONS", "RELATIONS", "SPLITS",  # the grammar
    "parse", "render", "sample_sentences", "print_sentences",
    "Vocabulary", "UnknownWord", "tokenize", "BOS", "EOS", "PAD", "SPECIALS",  # words and token ids
    "pad", "targets_of",  # batches
]  # fmt: skip


class GrammarData:
    """Batches of grammar sentences as integer tensors, trimmed to their longest sentence.

    With `fixed` the same `num_samples` sentences are shown every epoch, in a new order; otherwise
    sentences are drawn anew. Neither is stored: a fixed sentence follows from its number.
    """

    max_tokens = MOST_WORDS

    def __init__(self, num_samples: int, seed: int, fixed: bool = False) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.fixed = fixed
        self.vocab = Vocabulary.of_grammar()

    def to_ids(self, rows: np.ndarray) -> list[list[int]]:
        """The token ids of some rows (n, 19) of the grammar."""
        return [[self.vocab.index[word] for word in words_of(to_dict(row))] for row in rows]

    def some_sentences(self, n: int) -> list[list[int]]:
        """About n of the sentences to train on, as lists of token ids."""
        if self.fixed:
            rows = numbered_rows(np.arange(min(n, self.num_samples)), "train", self.seed)
        else:
            rows = sample_rows(n, "train", np.random.default_rng([self.seed, 0]))
        return self.to_ids(rows)

    def batch(self, epoch: int, number: int, size: int) -> torch.Tensor:
        """Sentences number*size ... of an epoch: (b, longest) int64; b < size in the last batch."""
        if self.fixed:
            numbers = shuffled(number * size, size, self.num_samples, [self.seed, epoch])
            rows = numbered_rows(numbers, "train", self.seed)
        else:
            rng = np.random.default_rng([self.seed, 1 + epoch, number])
            rows = sample_rows(min(size, self.num_samples - number * size), "train", rng)
        return pad(self.to_ids(rows))


# ---- python data_utils.py -------------------------------------------------------------------------


BLOCK = 10000  # sentences drawn at once, however few are asked for: --num 5 is a prefix of --num 50000


def main(argv: list[str] | None = None) -> int:
    parser = Parser("data_utils.py", "Print scene descriptions of a split, one a line.")
    parser.add_argument("--split", choices=SPLITS, default="train", help="which split (default: train)")
    parser.add_argument("--num", type=number(int, 0), default=10, help="how many sentences (default: 10)")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="seed of the draw, 0 or more (default: 0)")
    args = parser.parse_args(argv)
    return exit_code("data_utils.py", lambda: print_sentences(args.split, args.num, args.seed), "make --num smaller")


def print_sentences(split: str, count: int, seed: int) -> int:
    """Print sentences of a split, one a line. Returns the exit code."""
    for start in range(0, count, BLOCK):
        block = sample_sentences(BLOCK, split, seed * 1_000_003 + start)
        print("\n".join(block[: count - start]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
