"""A user's captions file: read once as a stream, kept in arrays, split by a hash of each sentence."""

import functools
import hashlib
import os
import stat
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from text.order import shuffled
from text.padding import pad
from text.vocabulary import Vocabulary, tokenize

TOKENIZERS = ("words", "bpe")


class CaptionsFileError(ValueError):
    """A captions file from which nothing can be learned, with the reason in one line."""


MAX_LINE_WORDS = 32  # words of a user's line beyond this are cut, and counted
MAX_LINE_UNITS = 200  # the same for text in pieces, of words, numbers and signs


@dataclass
class CaptionsReport:
    """What reading a captions file left out."""

    lines: int = 0
    empty: int = 0
    duplicates: int = 0
    cut: int = 0
    damaged: int = 0
    most_words: int = MAX_LINE_WORDS

    def __str__(self):
        return (
            f"{self.lines} lines: {self.empty} empty skipped, {self.duplicates} duplicates merged, "
            f"{self.cut} cut at {self.most_words} words, {self.damaged} with characters that are not UTF-8"
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


class Rows:
    """Sentences as they are read: word numbers, lengths and a hash of each, in arrays; equal ones are merged on the way."""

    BLOCK = 1 << 17  # sentences between two looks for duplicates

    def __init__(self, joint=" "):
        self.joint = joint  # what stands between two words
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
        digest = hashlib.blake2b(self.joint.join(words).encode("utf-8", "replace"), digest_size=8, salt=b"split").digest()
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
    """A user's sentences, one a line, split by a hash of each sentence into train, val and test.

    The file is read once, as a stream; what stays is 2 or 4 bytes a word and 16 a sentence. `val` and `test` are sequences
    of str: with `tokenizer` "words" normalized ones, with "bpe" lines as they were typed. The vocabulary is made of the
    sentences to train on alone, unless one is given; vocab_size 0 takes all words, or a usual number of pieces.
    Raises CaptionsFileError, OSError, ValueError.
    """

    def __init__(self, path, seed, train_split=0.8, vocab=None, tokenizer="words", vocab_size=0):
        in_pieces = tokenizer == "bpe"
        self.seed, self.report = seed, CaptionsReport(most_words=MAX_LINE_UNITS if in_pieces else MAX_LINE_WORDS)
        self._joint = "" if in_pieces else " "
        if in_pieces:
            from text.pieces import PieceVocabulary, split_text
        rows = Rows(self._joint)
        for line, cut, damaged in read_lines(path):
            self.report.lines += 1
            self.report.damaged += damaged
            line = line.replace("\ufffd", " ").strip()
            words = split_text(line) if in_pieces else tokenize(line)
            if not words:
                self.report.empty += 1
                continue
            self.report.cut += cut or len(words) > self.report.most_words
            rows.add(words[: self.report.most_words])
        rows.settle()
        self.report.duplicates = rows.duplicates
        lengths, hashes = np.concatenate(rows.lengths), np.concatenate(rows.hashes)
        if self.report.damaged > (self.report.lines - self.report.empty) / 2:
            raise CaptionsFileError(f"{path}: most lines are no UTF-8 text ({self.report}); save the file as UTF-8")
        if len(lengths) < 2:
            raise CaptionsFileError(f"{path}: {len(lengths)} usable sentence(s), at least 2 are needed ({self.report})")
        rows.known = None
        self._units = sorted(rows.index)  # words, or what pieces are found in
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])  # of each sentence in _flat, in the file's order
        self._flat = np.empty(self._starts[-1], np.uint16 if len(self._units) <= 1 << 16 else np.int32)
        rank, at = {u: i for i, u in enumerate(self._units)}, 0
        number = np.array([rank[u] for u in rows.index])
        while rows.words:
            block = rows.words.pop(0)
            self._flat[at : at + len(block)] = number[block]
            at += len(block)
        # The share is by rank of a hash, so that it is exact and no order of lines matters.
        self._order = np.argsort(hashes, kind="stable")
        self.num_samples = min(max(round(len(lengths) * train_split), 1), len(lengths) - 1)
        unseen = self._order[self.num_samples :]
        half = max(1, len(unseen) // 2)
        self.val = _Sentences(self, unseen[:half])  # chooses; a single unseen line is in both
        self.test = _Sentences(self, unseen[half:] if len(unseen) > 1 else unseen)
        self._unseen = _Sentences(self, unseen)
        self.train = _Sentences(self, self._order[: self.num_samples])
        if vocab is None:
            vocab = PieceVocabulary.of(self.train, vocab_size) if in_pieces else Vocabulary.of(self._trained_words(vocab_size))
        elif not in_pieces and (strange := next((w for w in self._trained_words() if w not in vocab.index), None)):
            raise CaptionsFileError(f"{path}: the checkpoint does not know the word {strange!r}; it was trained on other sentences")
        self.vocab = vocab
        self._numbers = [vocab.encode_unit(unit) for unit in self._units]  # of the words or pieces of each unit
        self.max_words = int(self._lengths_of(np.arange(len(lengths))).max())

    def _trained_words(self, most=0):
        """The words of the sentences to train on, the most common `most` of them; 0: all."""
        trained = np.zeros(len(self._starts) - 1, bool)
        trained[self._order[: self.num_samples]] = True
        here = np.repeat(trained, np.diff(self._starts))
        counts = np.bincount(self._flat[here], minlength=len(self._units))
        common = np.argsort(-counts, kind="stable")[: most or len(counts)]
        return [self._units[i] for i in common if counts[i]]

    def lengths(self):
        """How many words or pieces each sentence to train on has, (num_samples,)."""
        return self._lengths_of(self._order[: self.num_samples])

    def _lengths_of(self, rows):
        of_unit = np.array([len(numbers) for numbers in self._numbers])
        ends = np.concatenate([[0], np.cumsum(of_unit[self._flat])])
        return ends[self._starts[rows + 1]] - ends[self._starts[rows]]

    def sentence(self, row):
        """Row `row` of the file: its words joined by spaces, or its text as it was typed."""
        return self._joint.join(self._units[i] for i in self._flat[self._starts[row] : self._starts[row + 1]].tolist())

    def _ids(self, row):
        """The word or piece numbers of a row, at most `max_words`."""
        units = self._flat[self._starts[row] : self._starts[row + 1]].tolist()
        return [i for unit in units for i in self._numbers[unit]][: self.max_words]

    def some_sentences(self, n):
        """About n of the sentences to train on, as lists of word numbers."""
        return [self._ids(row) for row in self._order[: min(n, self.num_samples)]]

    def batch(self, epoch, number, size):
        rows = self._order[shuffled(number * size, size, self.num_samples, [self.seed, epoch])]
        return pad([self._ids(row) for row in rows])

    @functools.cached_property
    def trained_words(self):
        """The different words of the sentences to train on, as `tokenize` finds them."""
        return {word for sentence in self.train for word in tokenize(sentence)}

    def has_trained_words(self, sentence):
        """Whether training shows every word of a sentence."""
        return self.trained_words.issuperset(tokenize(sentence))

    @functools.cached_property
    def digest(self):
        """A hash of all sentences, their split and their word numbers; the order of lines does not matter."""
        hasher, block, train = hashlib.blake2b(digest_size=16), 1 << 16, self._order[: self.num_samples]
        for start in range(0, len(self._unseen), block):
            hasher.update(("\n" * (start > 0) + "\n".join(self._unseen[start : start + block])).encode())
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
