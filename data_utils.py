"""Scene descriptions: a grammar, its splits, its parser, a vocabulary and batches.

    python data_utils.py --split train --num 10 --seed 0
    python data_utils.py --split test_pairs --num 1000 --seed 7 > pairs.txt

A sentence of the grammar is a template and its slots. Everything here is stateless: the
sentences of a batch follow from (seed, epoch, batch number) alone, so an epoch of ten million
costs no more memory than one of ten thousand, and a resumed run draws the same sentences.
"""

import argparse
import difflib
import functools
import hashlib
import os
import re
import stat
import sys
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from text.grammar import (  # noqa: F401 (users look for the grammar here)
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
    mix64,
    numbered_slots,
    parse,
    render,
    sample_sentences,
    sample_slots,
    with_articles,
)

# ---------------------------------------------------------------------------------------------
# Vocabulary
# ---------------------------------------------------------------------------------------------

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<bos>", "<eos>")
SENTENCE_MARKS = (".", ",", ";", ":", "!", "?")


class UnknownWord(ValueError):
    """A word outside the vocabulary; the message names it and the nearest known word."""


@dataclass
class Vocabulary:
    """Words and their numbers; 0, 1, 2 are padding, start and end of a sentence."""

    words: list
    articles: bool = False  # English "an" is written for "a" before a vowel, outside the model
    index: dict = field(init=False, repr=False)

    def __post_init__(self):
        self.index = {w: i for i, w in enumerate(self.words)}

    @classmethod
    def of(cls, words, articles=False):
        return cls(list(SPECIALS) + sorted(set(words)), articles)

    @classmethod
    def of_grammar(cls):
        literal = [w for words in TEMPLATE_WORDS for w in words if w[0] != "{"]
        return cls.of(literal + [w for words in SLOT_WORDS.values() for w in words], articles=True)

    def __len__(self):
        return len(self.words)

    def encode(self, sentence):
        """Word numbers of a sentence, without start and end. Raises UnknownWord."""
        ids = []
        for word in tokenize(sentence):
            word = "a" if self.articles and word == "an" else word
            if word not in self.index and word in SENTENCE_MARKS:
                continue  # of no account to a model that never saw one
            if word not in self.index or word in SPECIALS:
                near = difflib.get_close_matches(word[:100], self.words[len(SPECIALS) :], n=1, cutoff=0.0)
                hint = f"; the nearest known word is {near[0]!r}" if near else ""
                raise UnknownWord(f"unknown word {word[:100]!r}{hint}")
            ids.append(self.index[word])
        return ids

    def decode(self, ids):
        """The sentence of word numbers, up to the first end mark."""
        words = []
        for i in ids:
            if i == EOS:
                break
            if i not in (PAD, BOS):
                words.append(self.words[i])
        return " ".join(with_articles(words) if self.articles else words)


# Signs of direction and of line breaking are no part of a word; a space of no width parts two.
_INVISIBLE = dict.fromkeys([0xAD, 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]) | {0x200B: " "}


@functools.cache
def _words_of_any_script():
    """Like the pattern in `tokenize`, with the marks that Python's \\w leaves out (vowels of Hindi, points of
    Hebrew), the joiners of Persian, and emoji of several characters in one piece."""
    planes = [*range(0x300, 0x20000), *range(0xE0100, 0xE01F0), *range(0x1F3FB, 0x1F400)]
    marks = "".join(chr(c) for c in planes if unicodedata.category(chr(c))[0] == "M" or 0x1F3FB <= c <= 0x1F3FF)
    letter, sign = f"[^\\W_][{marks}\u200c\u200d]*", f"[^\\w\\s][{marks}]*"
    return re.compile(f"(?:{letter})+(?:['’\\-](?:{letter})+)*|{sign}(?:\u200d{sign})*|_")


def tokenize(line):
    """The words of a line: lower case, punctuation apart, any script.

    >>> tokenize("A red ball, in the LEFT.")
    ['a', 'red', 'ball', ',', 'in', 'the', 'left', '.']
    """
    if line.isascii():
        return re.findall(r"[^\W_]+(?:['\-][^\W_]+)*|[^\w\s]|_", line.lower())
    return _words_of_any_script().findall(unicodedata.normalize("NFC", line.translate(_INVISIBLE).lower()))


# ---------------------------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------------------------


def pad(rows):
    """Lists of word numbers -> (n, longest) int64 tensor, padded with PAD."""
    out = torch.full((len(rows), max(map(len, rows), default=0)), PAD, dtype=torch.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return out


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


def shuffled(start, size, n, key):
    """Items start ... start+size of a seeded pseudo-random order of range(n), without storing it.

    A 4-round Feistel network (Luby & Rackoff 1988) on the next even power of two, walked
    until it lands below n.
    """
    half = max(1, (int(n - 1).bit_length() + 1) // 2)
    keys = np.random.default_rng([*key, 0x5F]).integers(1 << 62, size=4).astype(np.uint64)
    mask = np.uint64((1 << half) - 1)

    def permute(x):
        left, right = x >> np.uint64(half), x & mask
        for k in keys:
            left, right = right, left ^ (mix64(right ^ k) & mask)
        return left << np.uint64(half) | right

    out = permute(np.arange(start, min(start + size, n), dtype=np.uint64))
    while (out >= n).any():
        out = np.where(out >= n, permute(out), out)
    return out.astype(np.int64)


class CaptionsFileError(ValueError):
    """A captions file from which nothing can be learned, with the reason in one line."""


MAX_LINE_WORDS = 32  # words of a user's line beyond this are cut, and counted


@dataclass
class CaptionsReport:
    """What reading a captions file left out."""

    lines: int = 0
    empty: int = 0
    duplicates: int = 0
    cut: int = 0
    damaged: int = 0

    def __str__(self):
        return (
            f"{self.lines} lines: {self.empty} empty skipped, {self.duplicates} duplicates merged, "
            f"{self.cut} cut at {MAX_LINE_WORDS} words, {self.damaged} with characters that are not UTF-8"
        )


LINE_CHARACTERS = 1 << 16  # a longer line is cut here while reading, so that a file of one line stays small
BYTE_ORDER_MARKS = [(b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")]


def read_lines(path):
    """Lines of a text file as str, each at most 65536 characters; yields (line, was_cut, was_damaged).

    A byte-order mark is dropped, UTF-16 and UTF-32 with a mark are understood, lines may end as on
    any system; what is not UTF-8 and NUL characters become U+FFFD and count as damage.
    Raises OSError, and CaptionsFileError for a folder, a pipe or a device.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device may never end
        raise CaptionsFileError(f"{path} is not a regular file; name a text file")
    with open(path, "rb") as f:
        head = f.read(4)
    encoding = next((name for mark, name in BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8-sig")
    with open(path, encoding=encoding, errors="replace") as f:
        while line := f.readline(LINE_CHARACTERS):
            cut, rest = False, line
            while not rest.endswith("\n") and (rest := f.readline(LINE_CHARACTERS)):
                cut |= rest != "\n"
            line = line.replace("\x00", "\ufffd")
            yield line, cut, "\ufffd" in line


class _Rows:
    """Sentences as they are read: word numbers, lengths and a hash of each, in arrays; equal ones are merged on the way."""

    BLOCK = 1 << 17  # sentences between two looks for duplicates

    def __init__(self):
        self.index, self.duplicates = {}, 0  # word -> number, in order of appearance
        self.words, self.lengths, self.hashes = [], [], []  # arrays of whole blocks
        self.known = np.empty(0, np.uint64)  # the hashes so far, sorted
        self._clear()

    def _clear(self):
        self._words, self._lengths, self._hashes = array("i"), array("B"), array("Q")

    def add(self, words):
        index = self.index
        self._words.extend([index.setdefault(w, len(index)) for w in words])
        self._lengths.append(len(words))
        digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8, salt=b"split").digest()
        self._hashes.append(int.from_bytes(digest, "big"))
        if len(self._lengths) == self.BLOCK:
            self.settle()

    def settle(self):
        """Keep the first of equal sentences of the open block, and none that an earlier block has."""
        hashes, lengths = np.array(self._hashes, np.uint64), np.array(self._lengths, np.uint8)
        keep = np.zeros(len(hashes), bool)
        keep[np.unique(hashes, return_index=True)[1]] = True
        if len(self.known):
            keep &= self.known[np.minimum(np.searchsorted(self.known, hashes), len(self.known) - 1)] != hashes
        words = np.array(self._words, np.int32)[np.repeat(keep, lengths)]
        self.words.append(words.astype(np.uint16) if len(self.index) <= 1 << 16 else words)
        self.lengths.append(lengths[keep])
        self.hashes.append(hashes[keep])
        self.known = np.sort(np.concatenate([self.known, hashes[keep]]), kind="stable")  # fast on what is nearly sorted
        self.duplicates += int((~keep).sum())
        self._clear()


class _Sentences(Sequence):
    """Sentences of a captions file, written out when they are asked for. A slice is a list."""

    def __init__(self, data, rows):
        self.data, self.rows = data, rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self.data.sentence(row) for row in self.rows[i]]
        return self.data.sentence(self.rows[i])


class CaptionsData:
    """A user's sentences, one a line, split by a hash of each sentence into train and test.

    The file is read once, as a stream; what stays is 2 or 4 bytes a word and 16 a sentence. `test` is a sequence
    of str. Raises CaptionsFileError, OSError.
    """

    def __init__(self, path, seed, train_split=0.8, vocab=None):
        self.seed, self.report = seed, CaptionsReport()
        rows = _Rows()
        for line, cut, damaged in read_lines(path):
            self.report.lines += 1
            self.report.damaged += damaged
            words = tokenize(line.replace("\ufffd", " "))
            if not words:
                self.report.empty += 1
                continue
            self.report.cut += cut or len(words) > MAX_LINE_WORDS
            rows.add(words[:MAX_LINE_WORDS])
        rows.settle()
        self.report.duplicates = rows.duplicates
        lengths, hashes = np.concatenate(rows.lengths), np.concatenate(rows.hashes)
        if self.report.damaged > (self.report.lines - self.report.empty) / 2:
            raise CaptionsFileError(f"{path}: most lines are no UTF-8 text ({self.report}); save the file as UTF-8")
        if len(lengths) < 2:
            raise CaptionsFileError(f"{path}: {len(lengths)} usable sentence(s), at least 2 are needed ({self.report})")
        self.vocab = vocab or Vocabulary.of(rows.index)
        if strange := next((w for w in rows.index if w not in self.vocab.index), None):
            raise CaptionsFileError(f"{path}: the checkpoint does not know the word {strange!r}; it was trained on other sentences")
        self.max_words = int(lengths.max())
        rows.known = None
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])  # of each sentence in _flat, in the file's order
        self._flat = np.empty(self._starts[-1], np.uint16 if len(self.vocab) <= 1 << 16 else np.int32)
        number, at = np.array([self.vocab.index[w] for w in rows.index]), 0
        while rows.words:
            block = rows.words.pop(0)
            self._flat[at : at + len(block)] = number[block]
            at += len(block)
        # The share is by rank of a hash, so that it is exact and no order of lines matters.
        self._order = np.argsort(hashes, kind="stable")
        self.num_samples = min(max(round(len(lengths) * train_split), 1), len(lengths) - 1)
        self.test = _Sentences(self, self._order[self.num_samples :])

    def sentence(self, row):
        """The words of row `row` of the file, joined by spaces."""
        return " ".join(self.vocab.words[i] for i in self._flat[self._starts[row] : self._starts[row + 1]].tolist())

    def batch(self, epoch, number, size):
        rows = self._order[shuffled(number * size, size, self.num_samples, [self.seed, epoch])]
        return pad([self._flat[self._starts[r] : self._starts[r + 1]].tolist() for r in rows])

    @functools.cached_property
    def digest(self):
        """A hash of all sentences, their split and their word numbers; the order of lines does not matter."""
        hasher, block, train = hashlib.blake2b(digest_size=16), 1 << 16, self._order[: self.num_samples]
        for start in range(0, len(self.test), block):
            hasher.update(("\n" * (start > 0) + "\n".join(self.test[start : start + block])).encode())
        hasher.update(np.int64(0).tobytes())
        end = np.int64(0)
        for start in range(0, len(train), block):
            rows = train[start : start + block]
            ends = end + np.cumsum(self._starts[rows + 1] - self._starts[rows])
            hasher.update(ends.tobytes())
            end = ends[-1]
        for start in range(0, len(train), block):
            rows = train[start : start + block]
            lengths = self._starts[rows + 1] - self._starts[rows]
            within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            hasher.update(self._flat[np.repeat(self._starts[rows], lengths) + within].astype(np.int32).tobytes())
        return hasher.hexdigest()


# ---------------------------------------------------------------------------------------------
# python data_utils.py
# ---------------------------------------------------------------------------------------------


def main(argv=None):
    parser = argparse.ArgumentParser(description="Print scene descriptions of a split, one a line.")
    parser.add_argument("--split", choices=SPLITS, default="train", help="which split (default: train)")
    parser.add_argument("--num", type=int, default=10, help="how many sentences (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw, 0 or more (default: 0)")
    args = parser.parse_args(argv)
    if args.num < 0 or args.seed < 0:
        parser.error("--num and --seed must be 0 or more")
    try:
        for start in range(0, args.num, 10000):  # blocks of a fixed size: --num 5 is a prefix of --num 50000
            block = sample_sentences(10000, args.split, args.seed * 1_000_003 + start)
            print("\n".join(block[: args.num - start]))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` closed the pipe: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
