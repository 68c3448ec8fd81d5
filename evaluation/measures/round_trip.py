"""Scores of sentences of the grammar and their captions, each with the terms that its bootstrap needs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

import metrics
from text.grammar import PARTS, WITHOUT_ARTICLES, parse, part_of
from text.vocabulary import tokenize

ROUND_TRIP_METRICS = {  # id: (label, better)
    "exact_match": ("exact match", "high"),
    "word_accuracy": ("word accuracy", "high"),
    "word_error_rate": ("word error rate", "low"),
    "slots_soft": ("Soft (mean of slots)", "high"),
    "slots_hard": ("Hard (all slots)", "high"),
    "slot_accuracy": ("slot: {slot}", "high"),
}


@lru_cache(maxsize=20000)
def _slots(sentence):
    return tuple((slot, word) for slot, word in (parse(sentence) or {}).items() if slot != WITHOUT_ARTICLES)


def slots_of(sentence: str) -> dict[str, str]:
    """{slot: word} of a sentence; empty for a sentence that is not in the grammar."""
    return dict(_slots(sentence))


def round_trip_id(name: str, slot: str, split: str) -> str:
    """A metric of ROUND_TRIP_METRICS -> its id.

    >>> round_trip_id("exact_match", "", "test"), round_trip_id("slot_accuracy", "color", "test")
    ('exact_match/test', 'slot_accuracy/test/color')
    """
    return f"{name}/{split}/{slot}" if slot else f"{name}/{split}"


def round_trip_scores(
    originals: list[str], captions: list[str], with_slots: bool = True
) -> dict[tuple[str, str], float]:
    """Every metric of sentences and their captions -> {(id of ROUND_TRIP_METRICS, slot or ""): value}."""
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


def per_sentence(name: str, slot: str, originals: list[str], captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(values, weights) of sentences for the bootstrap of a metric, which is the ratio of their sums.

    Both (n,); for a slot n counts its words in all sentences. Soft has a column for each slot, (n, slots), and is the
    mean of the columns' ratios. Raises KeyError for an unknown name.
    """
    rows = [(tokenize(a), tokenize(b)) for a, b in zip(originals, captions)]
    if name == "exact_match":
        values = np.array([metrics.is_exact(a, b) for a, b in zip(originals, captions)], float)
        return values, np.ones(len(values))
    if name == "word_accuracy":
        right = np.array([sum(x == y for x, y in zip(a, b)) for a, b in rows], float)
        return right, np.array([max(len(a), len(b)) for a, b in rows], float)
    if name == "word_error_rate":
        errors = np.array([metrics.edit_distance(a, b) for a, b in rows], float)
        return errors, np.array([len(a) for a, _ in rows], float)
    if name == "slots_hard":
        values = np.array(metrics.hard_slots(slots_of, originals, captions))
        return values, np.ones(len(values))
    if name == "slot_accuracy":
        right = np.array([x == y for x, y in metrics.slot_hits(slots_of, originals, captions, part_of)[slot]], float)
        return right, np.ones(len(right))
    if name == "slots_soft":
        return _slots_per_sentence(originals, captions)
    raise KeyError(name)


def _slots_per_sentence(originals, captions):
    """(how many words of a part are read right, how many the sentence has), each (n, parts that occur)."""
    right = np.zeros((len(originals), len(PARTS)))
    present = np.zeros_like(right)
    for i, (original, caption) in enumerate(zip(originals, captions)):
        for slot, hits in metrics.slot_hits(slots_of, [original], [caption], part_of).items():
            right[i, list(PARTS).index(slot)] = sum(word == read for word, read in hits)
            present[i, list(PARTS).index(slot)] = len(hits)
    occurs = present.any(0)
    return right[:, occurs], present[:, occurs]
