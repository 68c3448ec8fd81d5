"""Scene descriptions as batches: sentences of the grammar, or of a user's captions file.

    python data_utils.py --split train --num 10 --seed 0
    python data_utils.py --split test_pairs --num 1000 --seed 7 > pairs.txt

The grammar, the vocabulary and captions files live in `text/`; what users look for here is imported from there.
Everything is stateless: the sentences of a batch follow from (seed, epoch, batch number) alone, so an epoch of ten
million costs no more memory than one of ten thousand, and a resumed run draws the same sentences.
"""

import sys

import numpy as np
import torch

from command_line import Parser, exit_code, number
from text.captions_file import CaptionsData, CaptionsFileError, CaptionsReport, read_lines  # noqa: F401 (part of this module's interface)
from text.grammar import (  # noqa: F401 (part of this module's interface)
    ACTIONS,
    BACKGROUNDS,
    COLORS,
    OBJECTS,
    POSITIONS,
    SIZES,
    SLOT_SIZES,
    SLOT_WORDS,
    SLOTS,
    SPLITS,
    TEMPLATE_WORDS,
    TEMPLATES,
    count_sentences,
    numbered_slots,
    parse,
    render,
    sample_sentences,
    sample_slots,
)
from text.order import shuffled
from text.padding import pad, targets_of  # noqa: F401 (part of this module's interface)
from text.vocabulary import BOS, EOS, PAD, SPECIALS, UnknownWord, Vocabulary, tokenize  # noqa: F401 (part of this module's interface)


class GrammarData:
    """Batches of grammar sentences as integer tensors, trimmed to their longest sentence.

    With `fixed` the same `num_samples` sentences are shown every epoch, in a new order; otherwise
    sentences are drawn anew. Neither is stored: a fixed sentence follows from its number.
    """

    def __init__(self, num_samples, seed, fixed=False):
        self.num_samples, self.seed, self.fixed = num_samples, seed, fixed
        self.vocab = Vocabulary.of_grammar()
        self.max_words = max(map(len, TEMPLATE_WORDS))
        self._table = self._word_table()

    def _word_table(self):
        """Per template and word place: a fixed word number, or -1 - slot."""
        table = np.full((len(TEMPLATES), self.max_words), PAD, np.int64)
        for t, words in enumerate(TEMPLATE_WORDS):
            for i, w in enumerate(words):
                table[t, i] = -1 - SLOTS.index(w[1:-1]) if w[0] == "{" else self.vocab.index[w]
        self._slot_ids = np.full((len(SLOTS), SLOT_SIZES.max()), PAD, np.int64)
        for s, name in enumerate(SLOTS):
            self._slot_ids[s, : SLOT_SIZES[s]] = [self.vocab.index[w] for w in SLOT_WORDS[name]]
        return table

    def to_ids(self, template, slots):
        """Template numbers (n,) and slots (n, 10) -> (n, max_words) word numbers."""
        ids = self._table[template]
        slot = np.maximum(-1 - ids, 0)
        value = np.maximum(np.take_along_axis(slots, slot, 1), 0)
        return np.where(ids < 0, self._slot_ids[slot, value], ids)

    def batch(self, epoch, number, size):
        """Sentences number*size ... of an epoch: (b, longest) int64; b < size in the last batch."""
        if self.fixed:
            drawn = numbered_slots(shuffled(number * size, size, self.num_samples, [self.seed, epoch]), "train", self.seed)
        else:
            rng = np.random.default_rng([self.seed, 1 + epoch, number])
            drawn = sample_slots(min(size, self.num_samples - number * size), "train", rng)
        ids = self.to_ids(*drawn)
        return torch.from_numpy(np.ascontiguousarray(ids[:, : int((ids != PAD).sum(1).max())]))


# ---------------------------------------------------------------------------------------------
# python data_utils.py
# ---------------------------------------------------------------------------------------------


def main(argv=None):
    parser = Parser("data_utils.py", "Print scene descriptions of a split, one a line.")
    parser.add_argument("--split", choices=SPLITS, default="train", help="which split (default: train)")
    parser.add_argument("--num", type=number(int, 0), default=10, help="how many sentences (default: 10)")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="seed of the draw, 0 or more (default: 0)")
    args = parser.parse_args(argv)
    return exit_code("data_utils.py", lambda: print_sentences(args.split, args.num, args.seed), "make --num smaller")


def print_sentences(split, count, seed):
    """Sentences of a split, one a line. Returns the exit code."""
    for start in range(0, count, 10000):  # blocks of a fixed size: --num 5 is a prefix of --num 50000
        block = sample_sentences(10000, split, seed * 1_000_003 + start)
        print("\n".join(block[: count - start]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
