"""A user's captions: read once as a stream, kept in arrays, split by hashes into train, val and test."""

import functools
import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from text.columns import kind_of
from text.formats import CaptionsReader
from text.lines import CaptionsFileError, shown
from text.order import shuffled
from text.padding import pad
from text.vocabulary import Vocabulary, tokenize

TOKENIZERS = ("words", "bpe")
MAX_LINE_WORDS = 32  # a longer line of a user is left out, and counted
MAX_LINE_UNITS = 200  # the same for text in pieces: words, numbers and signs
SHORT_NUMBER = 5  # digits; pictures that are numbered with fewer in two files need not be the same


@dataclass
class CaptionsReport:
    """What reading a captions file left out."""

    format: str = ""
    lines: int = 0
    empty: int = 0
    duplicates: int = 0
    long: int = 0
    first_long: str = ""  # where it stands
    broken: int = 0
    complaint: str = ""  # about the first row without a caption
    held_out: int = 0  # sentences that a file to validate or to test has, too, and other captions of its pictures
    most_words: int = MAX_LINE_WORDS

    def __str__(self):
        parts = [
            f"{self.lines} lines: {self.empty} empty skipped",
            f"{self.duplicates} duplicates merged",
            f"{self.long} longer than {self.most_words} words left out"
            + f" (the first is {self.first_long})" * bool(self.long),
        ]
        if self.broken:
            parts.append(f"{self.broken} without a caption skipped ({self.complaint})")
        if self.held_out:
            parts.append(f"{self.held_out} left out because a file to validate or to test has them or their pictures")
        return ", ".join(parts)


# ---------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------


class Rows:
    """Sentences as they are read: word numbers, lengths, a hash of each and of its picture, in arrays; equal ones are merged on
    the way.

    Of several files each has only sentences that none before it has, and no picture of them.
    """

    BLOCK = 1 << 17  # sentences between two looks for duplicates

    def __init__(self, joint=" "):
        self.joint = joint  # what stands between two words
        self.index = {}  # word -> number, in order of appearance
        self.words, self.lengths, self.hashes, self.groups = [], [], [], []  # arrays of whole blocks
        self.known = np.empty(0, np.uint64)  # the hashes so far, sorted
        self.known_before = self.known  # those of the files before this one
        self.pictures_before = np.empty(0, np.uint64)
        self._begin()

    def _begin(self):
        self.duplicates = self.held_out = 0  # of the present file
        self._first_block = len(self.hashes)
        self._twins = []  # (hashes, groups) of sentences that were merged
        self._pictures = set()
        self._clear()

    def _clear(self):
        self._words, self._lengths, self._hashes, self._groups = array("i"), array("B"), array("Q"), array("Q")

    def add(self, words, picture=None):
        index = self.index
        self._words.extend([index.setdefault(w, len(index)) for w in words])
        self._lengths.append(len(words))
        hashed = _hash(self.joint.join(words), b"split")
        self._hashes.append(hashed)
        self._groups.append(hashed if picture is None else _hash(picture, b"picture"))
        if picture is not None and not (kind_of(picture) == "number" and len(picture) < SHORT_NUMBER):
            self._pictures.add(self._groups[-1])
        if len(self._lengths) == self.BLOCK:
            self.settle()

    def settle(self):
        """Keep the first of equal sentences of the open block, and none that an earlier block has."""
        hashes, groups = np.array(self._hashes, np.uint64), np.array(self._groups, np.uint64)
        lengths = np.array(self._lengths, np.uint8)
        held_out = _among(hashes, self.known_before) | _among(groups, self.pictures_before)
        here = np.flatnonzero(~held_out)
        keep = np.zeros(len(hashes), bool)
        keep[here[np.unique(hashes[here], return_index=True)[1]]] = True
        keep &= ~_among(hashes, self.known)
        merged = ~keep & ~held_out
        self._twins.append((hashes[merged], groups[merged]))
        words = np.array(self._words, np.int32)[np.repeat(keep, lengths)]
        self.words.append(words.astype(np.uint16) if len(self.index) <= 1 << 16 else words)
        self.lengths.append(lengths[keep])
        self.hashes.append(hashes[keep])
        self.groups.append(groups[keep])
        self.known = np.sort(np.concatenate([self.known, hashes[keep]]), kind="stable")  # fast on what is nearly sorted
        self.duplicates += int(merged.sum())
        self.held_out += int(held_out.sum())
        self._clear()

    def end_of_file(self):
        """Close the present file -> (hashes, groups) of its sentences. Groups: the hash of the picture, or of the sentence."""
        self.settle()
        hashes, groups = (np.concatenate(blocks[self._first_block :]) for blocks in (self.hashes, self.groups))
        twins, of_twins = (np.concatenate(arrays) for arrays in zip(*self._twins))
        order = np.argsort(hashes, kind="stable")
        rows = order[np.searchsorted(hashes, twins, sorter=order)]
        np.minimum.at(
            groups, rows, of_twins
        )  # a sentence of several pictures belongs to the same one in any order of lines
        self.known_before = self.known
        self.pictures_before = np.union1d(self.pictures_before, np.fromiter(self._pictures, np.uint64))
        self._begin()
        return hashes, groups


def _hash(text, salt):
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, salt=salt).digest(), "big")


def _among(values, known):
    """Which values a sorted array has."""
    if not len(known):
        return np.zeros(len(values), bool)
    return known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values


def read_into(rows, path, column, in_words, most_words, or_none=False):
    """Read a captions file into Rows -> (its report, hashes, groups). in_words: a line -> its words; or_none: see CaptionsReader.
    Raises CaptionsFileError, OSError."""
    reader = CaptionsReader(path, column, or_none)
    report = CaptionsReport(reader.format, most_words=most_words)
    for caption in reader:
        report.lines += 1
        words = in_words(caption.text.strip())
        if not words:
            report.empty += 1
        elif caption.cut or len(words) > most_words:
            report.long += 1
            report.first_long = report.first_long or reader.where(caption, report.lines).removeprefix(f"{path}, ")
        else:
            rows.add(words, caption.picture)
    report.broken, report.complaint = reader.broken, reader.complaint
    report.empty -= report.broken
    rows.settle()
    report.duplicates, report.held_out = rows.duplicates, rows.held_out
    hashes, groups = rows.end_of_file()
    if report.long > (report.lines - report.empty) / 2:
        raise CaptionsFileError(
            f"{path}: most lines are longer than {most_words} words ({report}); put one sentence on a line"
        )
    return report, hashes, groups


# ---------------------------------------------------------------------------------------------
# Splits
# ---------------------------------------------------------------------------------------------


def split_place(groups, wanted, parts):
    """Where to split a sorted array so that at least `parts` parts can follow: the place nearest to `wanted` that parts no group
    of equal neighbors. Where there are too few groups, one is parted.

    >>> split_place(np.array([1, 1, 1, 2, 2, 3]), 4, 1), split_place(np.array([1, 1, 1, 2, 2, 3]), 4, 2)
    (3, 3)
    >>> split_place(np.array([1, 1, 1]), 2, 1)
    2
    """
    places = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    if len(places) >= parts:
        places = places[: len(places) - parts + 1]
    places = places[places <= len(groups) - parts]
    return int(places[np.abs(places - wanted).argmin()]) if len(places) else min(max(wanted, 1), len(groups) - parts)


def split(found, train_split):
    """{part: (hashes, groups)} of the files, in the order in which they were read -> rows to train, to validate, to test on.

    What has no file of its own comes from the captions file. The shares are by rank of a hash, so that they are exact and no
    order of lines matters, and are moved to where they part no group.
    """
    orders, start = {}, 0
    for part, (hashes, groups) in found.items():
        orders[part] = start + np.lexsort((hashes, groups))
        start += len(hashes)
    of_file, groups = orders["train"], np.sort(found["train"][1])
    missing, n = 3 - len(found), len(groups)
    trained = split_place(groups, round(n * train_split), missing) if missing else n
    unseen = of_file[trained:]
    half = len(unseen)
    if missing == 2:
        half = split_place(groups[trained:], half // 2, 1)
    val = orders["val"] if "val" in found else unseen[:half]
    test = orders["test"] if "test" in found else unseen[half:] if missing == 2 else unseen
    return of_file[:trained], val, test


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
    """A user's sentences, split into train, val and test by a hash of each sentence, or of its picture where the format tells
    it: all captions of a picture are on one side.

    An epoch has `num_samples` sentences (default: each once): the file again and again, in a new order each time. With
    `val_file` and `test_file` those are the sentences to validate and to test; none of them, and no caption of their pictures,
    is trained on. `column` is that of the captions in a table. The files are read once, as a stream; what stays is 2 or 4
    bytes a word and 16 a sentence.

    `train`, `val` and `test` are sequences of str: with `tokenizer` "words" normalized ones, with "bpe" lines as they were typed.
    The vocabulary is made of the sentences to train on alone, unless one is given; vocab_size 0 takes all words, or a usual
    number of pieces. Raises CaptionsFileError, OSError, ValueError.
    """

    def __init__(
        self, path, seed, train_split=0.8, vocab=None, tokenizer="words", vocab_size=0,
        *, num_samples=None, column="", val_file="", test_file="",
    ):  # fmt: skip
        in_words, most_words, self._joint = tokenize, MAX_LINE_WORDS, " "
        if tokenizer == "bpe":
            from text.bpe import split_text  # the library takes a moment to load, and the grammar has no use for it

            in_words, most_words, self._joint = split_text, MAX_LINE_UNITS, ""
        self.seed = seed
        self.files, self.column = {"test": test_file, "val": val_file, "train": path}, column
        rows, self.reports, found = Rows(self._joint), {}, {}
        for part, file in self.files.items():  # what must not be trained on comes first
            if file:
                self.reports[part], *found[part] = read_into(rows, file, column, in_words, most_words, part != "train")
        self.report = self.reports["train"]
        self._check_sizes({part: len(hashes) for part, (hashes, _) in found.items()})
        self._store(rows)
        self._first_row = len(self._starts) - 1 - len(found["train"][0])  # of the captions file
        train, val, test = split(found, train_split)
        self._order, self.trained = train, len(train)  # rows, and how many different sentences are trained on
        self.train, self.val, self.test = (_Sentences(self, part) for part in (train, val, test))
        self.num_samples = num_samples or self.trained
        self.vocab = vocab or self._vocabulary(tokenizer, vocab_size)
        if (
            vocab
            and tokenizer == "words"
            and (strange := next((w for w in self.trained_units() if w not in vocab.index), None))
        ):
            raise CaptionsFileError(
                f"{path}: the checkpoint does not know the word {strange!r}; it was trained on other sentences"
            )
        self._numbers = [self.vocab.encode_unit(unit) for unit in self._units]  # of the words or pieces of each unit
        self.max_words = int(self._lengths_of(slice(None)).max())

    @classmethod
    def of_run(cls, settings, vocab=None, num_samples=None):
        """The data of a run with these settings. Raises CaptionsFileError, OSError."""
        s = settings
        files = dict(column=s.captions_column, val_file=s.val_file, test_file=s.test_file)
        text = s.captions_file, s.seed, s.train_split, vocab, s.tokenizer, s.vocab_size
        return cls(*text, num_samples=num_samples, **files)

    def _check_sizes(self, sizes):
        """Raise CaptionsFileError for a file with too few sentences; sizes: {part: how many it has}."""
        least = {part: 1 for part in sizes} | {"train": 4 - len(sizes)}
        for part, size in sizes.items():
            if size < least[part]:
                why = " (one each to train, to validate, to test)" if least[part] == 3 else ""
                what = f"{size} usable sentence(s), at least {least[part]} are needed{why}"
                raise CaptionsFileError(f"{self.files[part]}: {what}; {self._how_read(part)}")

    def _how_read(self, part):
        return f"read as {self.reports[part].format}: {self.reports[part]}"

    def description(self):
        """Lines for people: how each file was read, and what was left out; a sentence as it was read; the sizes of the parts."""
        lines = [f"{file} {self._how_read(part)}" for part, file in reversed(self.files.items()) if file]
        lines.append(f"first sentence as read: {shown(self.first_sentence())}")
        lines.append(f"{self.trained} to train on, {len(self.val)} to validate, {len(self.test)} to test")
        return lines

    def _store(self, rows):
        """Take over the units of all sentences: words, or what pieces are found in."""
        lengths = np.concatenate(rows.lengths)
        rows.known = None
        self._units = sorted(rows.index)
        self._starts = np.concatenate(
            [[0], np.cumsum(lengths, dtype=np.int64)]
        )  # of each sentence in _flat, in the files' order
        self._flat = np.empty(self._starts[-1], np.uint16 if len(self._units) <= 1 << 16 else np.int32)
        rank, at = {u: i for i, u in enumerate(self._units)}, 0
        number = np.array([rank[u] for u in rows.index])
        while rows.words:
            block = rows.words.pop(0)
            self._flat[at : at + len(block)] = number[block]
            at += len(block)

    def _vocabulary(self, tokenizer, size):
        if tokenizer == "words":
            return Vocabulary.of(self.trained_units(size))
        from text.bpe import BpeVocabulary

        return BpeVocabulary.of(self.train, size)

    def trained_units(self, most=0):
        """The different words of the sentences to train on, or what pieces are found in (`split_text`), the most common first and at
        most `most` of them; 0: all."""
        trained = np.zeros(len(self._starts) - 1, bool)
        trained[self._order] = True
        here = np.repeat(trained, np.diff(self._starts))
        counts = np.bincount(self._flat[here], minlength=len(self._units))
        common = np.argsort(-counts, kind="stable")[: most or len(counts)]
        return [self._units[i] for i in common if counts[i]]

    def lengths(self):
        """How many words or pieces each sentence to train on has, (trained,)."""
        return self._lengths_of(self._order)

    def _lengths_of(self, rows):
        of_unit = np.array(
            [min(len(numbers), 255) for numbers in self._numbers], np.uint8
        )  # a byte a word, as files are long
        return np.add.reduceat(of_unit[self._flat], self._starts[:-1], dtype=np.int32)[rows]

    def sentence(self, row):
        """A sentence: its words joined by spaces, or its text as it was typed; row: its place in the order of reading."""
        return self._joint.join(self._units[i] for i in self._flat[self._starts[row] : self._starts[row + 1]].tolist())

    def first_sentence(self):
        """The first sentence of the captions file, as it was read."""
        return self.sentence(int(self._first_row))

    def _ids(self, row):
        """The word or piece numbers of a sentence, at most `max_words`."""
        units = self._flat[self._starts[row] : self._starts[row + 1]].tolist()
        return [i for unit in units for i in self._numbers[unit]][: self.max_words]

    @functools.cached_property
    def trained_words(self):
        """The different words of the sentences to train on, as `tokenize` finds them."""
        return {word for sentence in self.train for word in tokenize(sentence)}

    def has_trained_words(self, sentence):
        """Whether training shows every word of a sentence."""
        return self.trained_words.issuperset(tokenize(sentence))

    def some_sentences(self, n):
        """About n of the sentences to train on, as lists of word numbers."""
        return [self._ids(row) for row in self._order[:n]]

    def batch(self, epoch, number, size):
        """Sentences number*size ... of an epoch: (b, longest) int64; b < size in the last batch.

        Epochs go on through the file where the one before ended; each pass through it has an order of its own.
        """
        at, left = epoch * self.num_samples + number * size, min(size, self.num_samples - number * size)
        rows = []
        while left > 0:
            passes, start = divmod(at, self.trained)
            part = shuffled(start, left, self.trained, [self.seed, passes])
            rows.append(self._order[part])
            at, left = at + len(part), left - len(part)
        return pad([self._ids(row) for part in rows for row in part])

    @functools.cached_property
    def digest(self):
        """A hash of all sentences, their split and their word numbers; the order of lines does not matter."""
        hasher, block, train = hashlib.blake2b(digest_size=16), 1 << 16, self._order
        unseen = _Sentences(self, np.concatenate([self.val.rows, self.test.rows]))
        for start in range(0, len(unseen), block):
            hasher.update(("\n" * (start > 0) + "\n".join(unseen[start : start + block])).encode())
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
