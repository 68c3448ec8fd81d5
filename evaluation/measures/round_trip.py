"""Scores of sentences and their captions, each with the terms that its bootstrap needs."""

from functools import lru_cache

import numpy as np

import metrics
from text.grammar import PARTS, WITHOUT_ARTICLES, parse, part_of
from text.vocabulary import tokenize


@lru_cache(maxsize=20000)
def _slots(sentence):
    return tuple((slot, word) for slot, word in (parse(sentence) or {}).items() if slot != WITHOUT_ARTICLES)


def slots_of(sentence):
    """{slot: word} of a sentence; empty for a sentence that is not in the grammar."""
    return dict(_slots(sentence))


ROUND_TRIP_METRICS = {  # id: (label, better)
    "exact_match": ("exact match", "high"),
    "word_accuracy": ("word accuracy", "high"),
    "word_error_rate": ("word error rate", "low"),
    "slots_soft": ("Soft (mean of slots)", "high"),
    "slots_hard": ("Hard (all slots)", "high"),
    "slot_accuracy": ("slot: {slot}", "high"),
}


def round_trip_id(name, slot, split):
    """A metric of ROUND_TRIP_METRICS -> its id: "exact_match/test", "slot_accuracy/test/color"."""
    return f"{name}/{split}/{slot}" if slot else f"{name}/{split}"


def round_trip_scores(originals, captions, with_slots=True):
    """Every metric of sentences and what was read back -> {(id of ROUND_TRIP_METRICS, slot or ""): value}."""
    out = {
        ("exact_match", ""): metrics.exact_match(originals, captions),
        ("word_accuracy", ""): metrics.word_accuracy(originals, captions),
        ("word_error_rate", ""): metrics.word_error_rate(originals, captions),
    }
    if with_slots:
        each, soft = metrics.slot_accuracies(metrics.slot_hits(slots_of, originals, captions, part_of))
        out["slots_soft", ""] = soft
        out["slots_hard", ""] = float(np.mean(metrics.hard_slots(slots_of, originals, captions)))
        out.update({("slot_accuracy", slot): each[slot] for slot in PARTS if slot in each})
    return out


def per_sentence(name, slot, originals, captions):
    """A metric of ROUND_TRIP_METRICS as (values, weights) of sentences, for its bootstrap: the metric is the ratio of their sums.

    Both (n,); for a slot n counts its words in all sentences. Soft has a column for each slot, (n, slots), and is the mean
    of the columns' ratios. Raises KeyError for an unknown name.
    """
    rows = [(tokenize(a), tokenize(b)) for a, b in zip(originals, captions)]
    ones = np.ones(len(rows))
    if name == "exact_match":
        return np.array([a == b for a, b in rows], float), ones
    if name == "word_accuracy":
        right = np.array([sum(x == y for x, y in zip(a, b)) for a, b in rows], float)
        return right, np.array([max(len(a), len(b)) for a, b in rows], float)
    if name == "word_error_rate":
        return np.array([metrics.edit_distance(a, b) for a, b in rows], float), np.array(
            [len(a) for a, _ in rows], float
        )
    if name == "slots_hard":
        return np.array(metrics.hard_slots(slots_of, originals, captions)), ones
    if name == "slot_accuracy":
        right = np.array([x == y for x, y in metrics.slot_hits(slots_of, originals, captions, part_of)[slot]], float)
        return right, np.ones(len(right))
    if name == "slots_soft":
        return _slots_per_sentence(originals, captions)
    raise KeyError(name)


def _slots_per_sentence(originals, captions):
    """(how many words of a part came back, how many the sentence has), each (n, parts that occur)."""
    right = np.zeros((len(originals), len(PARTS)))
    present = np.zeros_like(right)
    for i, (original, caption) in enumerate(zip(originals, captions)):
        for slot, hits in metrics.slot_hits(slots_of, [original], [caption], part_of).items():
            right[i, list(PARTS).index(slot)] = sum(word == read for word, read in hits)
            present[i, list(PARTS).index(slot)] = len(hits)
    occurs = present.any(0)
    return right[:, occurs], present[:, occurs]
