"""Kinds of words, and which noun a word belongs to: found in sentences alone, by where words stand.

Words of one kind can replace one another, so their neighbors are alike (Harris 1954). One kind, the nouns, stands in every
sentence; a sentence speaks of as many things as it has nouns. Words of a kind that stands before the noun of sentences with
one noun belong to the next noun, those of a kind that stands behind it to the previous one, and a kind that stands at most
once in a sentence, however many nouns there are, belongs to the ground of the scene. Words between two nouns that never stand
beside a single one belong to the first of the two: a reader has just come to it.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

NOUN, NEXT, PREVIOUS, GROUND = "noun", "next", "previous", "ground"  # what the words of a kind belong to
DETERMINED = 0.98  # a word that follows another with this probability says nothing of its own
ALIKE = 0.15  # words are of one kind if their neighbors overlap by 1 - this (Bhattacharyya coefficient)
ROUNDS = 3  # first a neighbor is a word, then the kind of a word
MOST_WORDS = 1000  # the most common ones; rarer words get no kind. The cost is quadratic in this


@dataclass
class WordClasses:
    """What is known of the kinds of words: plain lists, as a checkpoint holds them."""

    kind: list  # of each word number; -1 for a word that says nothing of its own
    belongs_to: list  # of each kind: NOUN, NEXT, PREVIOUS or GROUND
    size: list  # of each kind: how many words it has; the largest first
    given: dict = field(
        default_factory=dict
    )  # word number as str -> what a user says it looks like (`text/grounding.py`)

    def checked(self, vocab_size):
        """Itself, if it fits a vocabulary. Raises ValueError."""
        kinds = len(self.belongs_to)
        whole = all(type(k) is int and -1 <= k < kinds for k in self.kind) and len(self.kind) == vocab_size
        whole = whole and isinstance(self.given, dict) and all(k.isdigit() and int(k) < vocab_size for k in self.given)
        if (
            not whole
            or not all(b in (NOUN, NEXT, PREVIOUS, GROUND) for b in self.belongs_to)
            or len(self.size) != kinds
        ):
            raise ValueError("its word classes do not fit its vocabulary")
        return self


def find_word_classes(sentences, vocab_size):
    """Lists of word numbers -> WordClasses. Deterministic."""
    common = [w for w, _ in Counter(w for s in sentences for w in s).most_common(MOST_WORDS)]
    index = {w: i for i, w in enumerate(sorted(common))}  # rarer words are all len(index)
    rows = [np.array([index.get(w, len(index)) for w in s]) for s in sentences if len(s)]
    label = _labels(_without_determined(rows, len(index)), len(index))
    members = [np.flatnonzero(label == k) for k in range(label.max(initial=-1) + 1)]
    members = sorted((m for m in members if len(m) > 1), key=lambda m: (-len(m), m[0]))
    kind_of_common = np.full(len(index) + 1, -1)
    for number, words in enumerate(members):
        kind_of_common[words] = number
    kind = np.full(vocab_size, -1)
    kind[list(index)] = kind_of_common[:-1]
    belongs_to = _belongings([kind_of_common[row] for row in rows], len(members))
    return WordClasses(kind.tolist(), belongs_to, [len(words) for words in members])


def _in_a_line(rows, border):
    """Rows one after the other, with a border before the first, between two, and behind the last: each word has neighbors."""
    ends = np.cumsum([len(row) for row in rows], dtype=int)
    return np.insert(np.concatenate([*rows, []]).astype(int), [0, *ends], border)


def _counts(left, right, n, m):
    """How often each pair of a number below n and one below m stands in two arrays side by side -> (n, m)."""
    return np.bincount(left * m + right, minlength=n * m).reshape(n, m)


def _without_determined(rows, n):
    """The sentences without words that the word before them determines; n is the number of a rare word."""
    line = _in_a_line(rows, n + 1)
    pairs = _counts(line[:-1], line[1:], n + 2, n + 2)
    pairs = pairs[: n + 1, : n + 1]  # without the borders
    share = pairs / np.maximum(pairs.sum(1, keepdims=True), 1)
    return [row[np.concatenate([[True], share[row[:-1], row[1:]] < DETERMINED])] for row in rows]


def _labels(rows, n):
    """Sentences of words below n (n: rare) -> the cluster of each word (n,), -1 for one that no sentence has."""
    from scipy.cluster.hierarchy import (  # half a second to import, and scripts that use a model do without
        fcluster,
        linkage,
    )

    line = _in_a_line(rows, n + 1)
    used = np.unique(line[line < n])
    label = np.full(n + 2, -1)  # of each word, of a rare one and of a border
    label[used] = np.arange(len(used))
    for _ in range(ROUNDS if len(used) > 1 else 0):
        features = _neighbors(line, label)[used]
        below = np.nextafter(ALIKE, 0)  # fcluster joins at a distance, too
        label[used] = fcluster(linkage(features, "average", "cosine"), below, "distance") - 1
    return label[:n]


def _neighbors(line, label):
    """How often each word has each label, a rare word or the border of a sentence to its left and to its right -> (words,
    labels), rows of length 1 of the roots of shares, so that products of rows are Bhattacharyya coefficients."""
    labels = int(label.max()) + 3
    rare, border = labels - 2, labels - 1
    shown = np.where(label < 0, rare, label)
    shown[-1] = border
    words, shown = line[1:-1], shown[line]
    counts = np.stack([_counts(words, beside, len(label), labels) for beside in (shown[:-2], shown[2:])])
    share = counts / np.maximum(counts.sum(2, keepdims=True), 1)
    return np.sqrt(np.concatenate(share, 1) / 2)


def _belongings(rows, n_kinds):
    """Sentences as arrays of kinds (-1 for none) -> NOUN, NEXT, PREVIOUS or GROUND for each kind."""
    if not n_kinds:
        return []
    rows = [row[row >= 0] for row in rows]
    counts = np.stack([np.bincount(row, minlength=n_kinds) for row in rows])  # (sentences, kinds)
    noun = int(np.argmax((counts > 0).mean(0)))
    has_one_noun = counts[:, noun] == 1
    before, behind = np.zeros(n_kinds), np.zeros(n_kinds)
    for row in (row for row, one in zip(rows, has_one_noun) if one):
        at = int(np.argmax(row == noun))
        np.add.at(before, row[:at], 1)
        np.add.at(behind, row[at + 1 :], 1)
    of_ground = (counts.max(0) <= 1) & (counts[has_one_noun] > 0).any(0)
    return [
        NOUN if k == noun else GROUND if of_ground[k] else NEXT if before[k] > behind[k] else PREVIOUS
        for k in range(n_kinds)
    ]
