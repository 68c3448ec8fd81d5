"""A training set made from a user's captions: split by hashes into train, val and test, and served in batches."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from captions.lines import CaptionsFileError, shown
from captions.reader import CaptionsReader
from captions.sentences import CaptionsReport, FileKeys, SentenceStore
from text.order import shuffled
from text.padding import pad
from text.vocabulary import Vocabulary, tokenize

if TYPE_CHECKING:
    from settings import Settings
    from text.bpe import BpeVocabulary

MAX_WORDS = 32  # in a sentence; longer ones are left out, and counted
MAX_UNITS = 200  # the same with --tokenizer bpe: words, numbers and punctuation marks


# ---- Splits ---------------------------------------------------------------------------------------


def split_point(groups: np.ndarray, wanted: int, parts: int) -> int:
    """Where to split a sorted array so that at least `parts` parts can follow: the index nearest to `wanted` that
    divides no group of equal neighbors. Where there are too few groups, one is divided.

    >>> split_point(np.array([1, 1, 1, 2, 2, 3]), 4, 1), split_point(np.array([1, 1, 1, 2, 2, 3]), 4, 2)
    (3, 3)
    >>> split_point(np.array([1, 1, 1]), 2, 1)
    2
    """
    points = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    if len(points) >= parts:
        points = points[: len(points) - parts + 1]
    points = points[points <= len(groups) - parts]
    return int(points[np.abs(points - wanted).argmin()]) if len(points) else min(max(wanted, 1), len(groups) - parts)


def split_rows(keys: dict[str, FileKeys], train_split: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """{part: keys of its file}, in the order of reading -> rows of train, val, test, each sorted by hash.

    A part without a file gets a share of the captions file. The shares are exact, do not depend on the order of lines,
    and are moved to where they divide no group.
    """
    orders: dict[str, np.ndarray] = {}
    start = 0
    for part, of_file in keys.items():
        orders[part] = start + np.lexsort((of_file.hashes, of_file.groups))
        start += len(of_file.hashes)
    groups = np.sort(keys["train"].groups)
    missing = 3 - len(keys)
    trained = split_point(groups, round(len(groups) * train_split), missing) if missing else len(groups)
    train, unseen = np.split(orders["train"], [trained])
    half = split_point(groups[trained:], len(unseen) // 2, 1) if missing == 2 else 0
    val = orders.get("val", unseen[:half] if missing == 2 else unseen)
    test = orders.get("test", unseen[half:])
    return train, val, test


# ---- The training set -----------------------------------------------------------------------------


class Sentences(Sequence):
    """Some sentences of CaptionsData, joined from their units when they are asked for. A slice is a list."""

    def __init__(self, data: CaptionsData, rows: np.ndarray) -> None:
        self.data = data
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self.data.sentence(row) for row in self.rows[i]]
        return self.data.sentence(self.rows[i])


class CaptionsData:
    """A user's sentences, split into train, val and test by a hash of each sentence, or of its picture where the file
    names it: all captions of a picture are in one part.

    An epoch has `num_samples` sentences (default: each once): the file again and again, in a new order each time.
    `val_file` and `test_file` replace shares of the file; none of their sentences, and no caption of their pictures, is
    trained on. `column` and `file_format` are those of CaptionsReader. A word takes 2 or 4 bytes, a sentence 16.

    `train`, `val` and `test` are sequences of str: with `tokenizer` "words" normalized ones, with "bpe" lines as they
    were typed. The vocabulary is made from train, unless one is given; vocab_size 0: all words, or 2,000 tokens.
    Raises CaptionsFileError, OSError, ValueError.
    """

    def __init__(
        self, path: str, seed: int, train_split: float = 0.8, vocab: Vocabulary | BpeVocabulary | None = None,
        tokenizer: str = "words", vocab_size: int = 0, *, num_samples: int | None = None,
        column: str = "", val_file: str = "", test_file: str = "", file_format: str = "auto",
    ) -> None:  # fmt: skip
        self.seed = seed
        self.column = column
        self.file_format = file_format
        self.files = {"test": test_file, "val": val_file, "train": path}  # in the order of reading
        self._tokenizer = tokenizer
        keys = self._read()
        self.report = self.reports["train"]
        self._first_row = len(self._starts) - 1 - len(keys["train"].hashes)
        self._order, val, test = split_rows(keys, train_split)
        self.trained = len(self._order)  # different sentences to train on
        self.train, self.val, self.test = (Sentences(self, rows) for rows in (self._order, val, test))
        self.num_samples = num_samples or self.trained
        self.vocab = vocab or self._new_vocabulary(vocab_size)
        if vocab and tokenizer == "words":
            unknown = next((word for word in self.trained_units() if word not in vocab.index), None)
            if unknown is not None:
                what = f"the checkpoint does not know the word {unknown!r}; it was trained on other sentences"
                raise CaptionsFileError(f"{path}: {what}")
        self._ids_of_unit = [self.vocab.encode_unit(unit) for unit in self._units]
        self.max_tokens = int(self._lengths_of(slice(None)).max())

    @classmethod
    def of_run(
        cls, settings: Settings, vocab: Vocabulary | BpeVocabulary | None = None, num_samples: int | None = None
    ) -> CaptionsData:
        """The data of a run with these settings. Raises CaptionsFileError, OSError."""
        s = settings
        return cls(
            s.captions_file, s.seed, s.train_split, vocab, s.tokenizer, s.vocab_size, num_samples=num_samples,
            column=s.captions_column, val_file=s.val_file, test_file=s.test_file, file_format=s.captions_format,
        )  # fmt: skip

    def _read(self) -> dict[str, FileKeys]:
        """Read the files, the test file first. Raises CaptionsFileError, also for too few sentences, OSError."""
        if self._tokenizer == "bpe":
            from text.bpe import split_text  # the library takes a moment to load, and the grammar does not need it

            store = SentenceStore(split_text, MAX_UNITS, separator="")
        else:
            store = SentenceStore(tokenize, MAX_WORDS, separator=" ")
        self._separator = store.separator
        keys: dict[str, FileKeys] = {}
        self.reports: dict[str, CaptionsReport] = {}
        files = {part: file for part, file in self.files.items() if file}
        for part, file in files.items():
            reader = CaptionsReader(file, self.column, self.file_format, or_none=part != "train")
            self.reports[part] = CaptionsReport(reader.format, store.most_units)
            keys[part] = store.read(reader, self.reports[part])
            if self.reports[part].has_mostly_long:
                what = f"most lines are longer than {store.most_units} words ({self.reports[part]})"
                raise CaptionsFileError(f"{file}: {what}; put one sentence on a line")
        for part, file in files.items():
            least = 4 - len(files) if part == "train" else 1
            if len(keys[part].hashes) < least:
                why = " (one each to train, to validate, to test)" if least == 3 else ""
                what = f"{len(keys[part].hashes)} usable sentence(s), at least {least} are needed{why}"
                raise CaptionsFileError(f"{file}: {what}; {self._how_read(part)}")
        self._units = sorted(store.index)
        rank = {unit: i for i, unit in enumerate(self._units)}
        renumbered = np.array([rank[unit] for unit in store.index], np.uint16 if len(rank) <= 1 << 16 else np.int32)
        self._flat = np.concatenate([renumbered[units] for units in store.units])  # of all sentences, as they were read
        self._starts = np.concatenate([[0], np.cumsum(np.concatenate(store.lengths), dtype=np.int64)])
        return keys

    def _how_read(self, part: str) -> str:
        return f"read as {self.reports[part].format}: {self.reports[part]}"

    def description(self) -> list[str]:
        """Lines to print: how each file was read, what was left out, a sentence as read, the sizes of the parts."""
        lines = [f"{file} {self._how_read(part)}" for part, file in reversed(self.files.items()) if file]
        lines.append(f"first sentence as read: {shown(self.first_sentence())}")
        lines.append(f"{self.trained} to train on, {len(self.val)} to validate, {len(self.test)} to test")
        return lines

    def _new_vocabulary(self, size: int) -> Vocabulary | BpeVocabulary:
        if self._tokenizer == "words":
            return Vocabulary.of(self.trained_units(size))
        from text.bpe import BpeVocabulary

        return BpeVocabulary.of(self.train, size)

    def trained_units(self, most: int = 0) -> list[str]:
        """The different units of the sentences to train on, the most common first, at most `most` of them; 0: all."""
        trained = np.zeros(len(self._starts) - 1, bool)
        trained[self._order] = True
        is_trained = np.repeat(trained, np.diff(self._starts))
        counts = np.bincount(self._flat[is_trained], minlength=len(self._units))
        common = np.argsort(-counts, kind="stable")[: most or len(counts)]
        return [self._units[i] for i in common if counts[i]]

    def lengths(self) -> np.ndarray:
        """How many tokens each sentence to train on has, (trained,) int32."""
        return self._lengths_of(self._order)

    def _lengths_of(self, rows: np.ndarray | slice) -> np.ndarray:
        of_unit = np.array([min(len(ids), 255) for ids in self._ids_of_unit], np.uint8)
        return np.add.reduceat(of_unit[self._flat], self._starts[:-1], dtype=np.int32)[rows]

    def _units_of(self, row: int) -> np.ndarray:
        return self._flat[self._starts[row] : self._starts[row + 1]]

    def sentence(self, row: int) -> str:
        """A sentence: its words joined by spaces, or its text as it was typed; row: its index in reading order."""
        return self._separator.join(self._units[i] for i in self._units_of(row).tolist())

    def first_sentence(self) -> str:
        """The first sentence of the captions file, as it was read."""
        return self.sentence(self._first_row)

    def _ids(self, row: int) -> list[int]:
        """The token ids of a sentence, at most `max_tokens`."""
        return [i for unit in self._units_of(row).tolist() for i in self._ids_of_unit[unit]][: self.max_tokens]

    @functools.cached_property
    def trained_words(self) -> set[str]:
        """The different words of the sentences to train on, as `tokenize` finds them."""
        return {word for sentence in self.train for word in tokenize(sentence)}

    def has_trained_words(self, sentence: str) -> bool:
        """Whether every word of a sentence occurs in the training set."""
        return self.trained_words.issuperset(tokenize(sentence))

    def some_sentences(self, n: int) -> list[list[int]]:
        """About n of the sentences to train on, as lists of token ids."""
        return [self._ids(row) for row in self._order[:n]]

    def batch(self, epoch: int, number: int, size: int) -> torch.Tensor:
        """Sentences number*size ... of an epoch: (b, longest) int64; b < size in the last batch.

        An epoch goes on through the file where the one before ended; each pass through the file has its own order.
        """
        at = epoch * self.num_samples + number * size
        left = min(size, self.num_samples - number * size)
        rows: list[int] = []
        while left > 0:
            passes, start = divmod(at, self.trained)
            part = self._order[shuffled(start, left, self.trained, [self.seed, passes])]
            rows.extend(part)
            at += len(part)
            left -= len(part)
        return pad([self._ids(row) for row in rows])

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all sentences and their split; the order of lines does not matter."""
        hasher = hashlib.blake2b(digest_size=16)
        for i, sentence in enumerate([*self.val, *self.test]):
            hasher.update(("\n" * (i > 0) + sentence).encode())
        lengths = np.diff(self._starts)[self._order]
        hasher.update(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64).tobytes())
        for row in self._order:
            hasher.update(self._units_of(row).astype(np.int32).tobytes())
        return hasher.hexdigest()
