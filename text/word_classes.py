"""Word classes, and which noun a word belongs to: found in the training sentences by distribution alone.

Words of one class can replace one another, so their neighbors are alike (Harris 1954). One class, the nouns, occurs
in every sentence, and a sentence describes as many objects as it has nouns. In sentences with one noun, words of a
class that mostly precede it belong to the next noun, those of other classes to the previous noun. A class that occurs
at most once in a sentence, however many nouns there are, belongs to the background. Words between two nouns whose
class never occurs beside a single noun belong to the first of the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NOUN, NEXT, PREVIOUS, BACKGROUND = "noun", "next", "previous", "background"  # what the words of a class belong to
DETERMINED = 0.98  # a word that follows another with this probability carries no information
ALIKE = 0.15  # words are of one class if their neighbors overlap by 1 - this (Bhattacharyya coefficient)
ROUNDS = 3  # in the first a neighbor is a word, then a word class
MOST_WORDS = 1000  # rarer words get no class; the cost is quadratic in this


@dataclass
class WordClasses:
    """The word classes of a vocabulary, in plain lists, as a checkpoint holds them."""

    class_of: list[int]  # of each token id; -1 for a word without a class
    belongs_to: list[str]  # of each class: NOUN, NEXT, PREVIOUS or BACKGROUND
    size: list[int]  # of each class: how many words it has; the largest first
    grounding: dict[str, dict[str, Any]] = field(default_factory=dict)  # token id -> what --grounding sets

    def checked(self, vocab_size: int) -> WordClasses:
        """Itself, if it fits a vocabulary. Raises ValueError."""
        n = len(self.belongs_to)
        fits = len(self.class_of) == vocab_size and all(type(c) is int and -1 <= c < n for c in self.class_of)
        fits = fits and len(self.size) == n and all(b in (NOUN, NEXT, PREVIOUS, BACKGROUND) for b in self.belongs_to)
        fits = fits and isinstance(self.grounding, dict)
        if not fits or not all(k.isdigit() and int(k) < vocab_size for k in self.grounding):
            raise ValueError("its word classes do not fit its vocabulary")
        return self


def find_word_classes(sentences: Sequence[Sequence[int]], vocab_size: int) -> WordClasses:
    """Sentences as lists of token ids -> WordClasses. Deterministic."""
    common = [w for w, _ in Counter(w for s in sentences for w in s).most_common(MOST_WORDS)]
    index = {w: i for i, w in enumerate(sorted(common))}  # rarer words are all len(index)
    rows = [np.array([index.get(w, len(index)) for w in s]) for s in sentences if len(s)]
    label = _labels(_without_determined(rows, len(index)), len(index))
    members = [np.flatnonzero(label == k) for k in range(label.max(initial=-1) + 1)]
    members = sorted((m for m in members if len(m) > 1), key=lambda m: (-len(m), m[0]))
    class_of_common = np.full(len(index) + 1, -1)
    for number, words in enumerate(members):
        class_of_common[words] = number
    class_of = np.full(vocab_size, -1)
    class_of[list(index)] = class_of_common[:-1]
    belongs_to = _belongings([class_of_common[row] for row in rows], len(members))
    return WordClasses(class_of.tolist(), belongs_to, [len(words) for words in members])


def _concatenated(rows, border):
    """Rows one after the other, with a border before the first, between two, and behind the last."""
    ends = np.cumsum([len(row) for row in rows], dtype=int)
    return np.insert(np.concatenate([*rows, []]).astype(int), [0, *ends], border)


def _counts(left, right, n, m):
    """Counts of the pairs of an index below n and one below m in two parallel arrays -> (n, m)."""
    return np.bincount(left * m + right, minlength=n * m).reshape(n, m)


def _without_determined(rows, n):
    """The sentences without words that the word before them determines; n is the index of a rare word."""
    line = _concatenated(rows, n + 1)
    pairs = _counts(line[:-1], line[1:], n + 2, n + 2)
    pairs = pairs[: n + 1, : n + 1]  # without the borders
    share = pairs / np.maximum(pairs.sum(1, keepdims=True), 1)
    return [row[np.concatenate([[True], share[row[:-1], row[1:]] < DETERMINED])] for row in rows]


def _labels(rows, n):
    """Sentences of word indices below n (n: rare) -> the cluster of each word (n,), -1 for one that no sentence has."""
    from scipy.cluster.hierarchy import fcluster, linkage  # half a second to import, which drawing does not need

    line = _concatenated(rows, n + 1)
    used = np.unique(line[line < n])
    label = np.full(n + 2, -1)  # of each word, of a rare one and of a border
    label[used] = np.arange(len(used))
    for _ in range(ROUNDS if len(used) > 1 else 0):
        features = _neighbors(line, label)[used]
        below = np.nextafter(ALIKE, 0)  # fcluster joins at this distance, too
        label[used] = fcluster(linkage(features, "average", "cosine"), below, "distance") - 1
    return label[:n]


def _neighbors(line, label):
    """How often a word has each label, a rare word or a sentence's border to its left and right -> (words, labels).

    Rows have length 1 and hold roots of shares, so that products of rows are Bhattacharyya coefficients.
    """
    labels = int(label.max()) + 3
    rare, border = labels - 2, labels - 1
    shown = np.where(label < 0, rare, label)
    shown[-1] = border
    words, shown = line[1:-1], shown[line]
    counts = np.stack([_counts(words, beside, len(label), labels) for beside in (shown[:-2], shown[2:])])
    share = counts / np.maximum(counts.sum(2, keepdims=True), 1)
    return np.sqrt(np.concatenate(share, 1) / 2)


def _belongings(rows, n_classes):
    """Sentences as arrays of classes (-1 for none) -> NOUN, NEXT, PREVIOUS or BACKGROUND for each class."""
    if not n_classes:
        return []
    rows = [row[row >= 0] for row in rows]
    counts = np.stack([np.bincount(row, minlength=n_classes) for row in rows])  # (sentences, classes)
    noun = int(np.argmax((counts > 0).mean(0)))
    has_one_noun = counts[:, noun] == 1
    before = np.zeros(n_classes)
    after = np.zeros(n_classes)
    for row in (row for row, one in zip(rows, has_one_noun) if one):
        at = int(np.argmax(row == noun))
        np.add.at(before, row[:at], 1)
        np.add.at(after, row[at + 1 :], 1)
    is_of_background = (counts.max(0) <= 1) & (counts[has_one_noun] > 0).any(0)
    out = [NEXT if before[k] > after[k] else PREVIOUS for k in range(n_classes)]
    for k in np.flatnonzero(is_of_background):
        out[k] = BACKGROUND
    out[noun] = NOUN
    return out
