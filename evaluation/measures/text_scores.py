"""Scores of real sentences and their captions, as they are typed."""

from __future__ import annotations

import numpy as np
import torch
from sacrebleu.metrics import BLEU, CHRF

import metrics
from evaluation.measures import robustness

IN_A_ROW = (("blur", 1.0), ("noise", 0.1), ("jpeg", 50))  # all of them are applied to one picture, in this order
SCORES = {  # id: (label, highest value, better)
    "exact_match": ("exact match", 1.0, "high"),
    "verbatim": ("verbatim: as it was typed", 1.0, "high"),
    "word_accuracy": ("1 - word error rate", 1.0, "high"),
    "word_error_rate": ("word error rate", None, "low"),
    "character_error_rate": ("character error rate", None, "low"),
    "chrf": ("chrF", 100.0, "high"),
    "bleu": ("BLEU", 100.0, "high"),
}


def text_scores(originals: list[str], recovered: list[str]) -> dict[str, float]:
    """Typed texts and their captions -> {id of SCORES: value}: shares in [0, 1], but chrF and BLEU in [0, 100].

    chrF is that of Popovic (2015), BLEU that of Papineni et al. (2002), of all texts together, both by sacrebleu.
    """
    errors = sum(metrics.edit_distance(a, b) for a, b in zip(originals, recovered, strict=True))
    word_error_rate = metrics.word_error_rate(originals, recovered)
    return {
        "exact_match": metrics.exact_match(originals, recovered),
        "verbatim": metrics.verbatim_match(originals, recovered),
        "word_accuracy": max(0.0, 1 - word_error_rate),
        "word_error_rate": word_error_rate,
        "character_error_rate": errors / max(1, sum(map(len, originals))),
        "chrf": CHRF().corpus_score(recovered, [originals]).score,
        "bleu": BLEU(effective_order=True).corpus_score(recovered, [originals]).score,
    }


def shuffled_words(sentence: str, rng: np.random.Generator) -> str:
    """The words of a sentence in another order, as they are typed (word salad)."""
    words = sentence.split()
    return " ".join(words[i] for i in rng.permutation(len(words)))


def corrupted_in_a_row(pictures: torch.Tensor, seed: int) -> torch.Tensor:
    """Pictures (n, 3, 64, 64) in [0, 1] after every corruption of IN_A_ROW -> the same shape."""
    for kind, strength in IN_A_ROW:
        pictures = robustness.corrupt(pictures, kind, strength, seed)
    return pictures
