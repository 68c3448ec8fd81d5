"""The section about real sentences: what comes back as typed, what the captioner guesses, which words one sees."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

import metrics
from evaluation.baselines.binary_code import BinaryCode
from evaluation.measures.text_scores import SCORES, corrupted_in_a_row, shuffled_words, text_scores
from evaluation.measures.word_legibility import LEGIBILITY, legibility_scores
from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, Protocol
from text.vocabulary import tokenize

LENGTHS = {"short": (0, 9), "middle": (10, 14), "long": (15, math.inf)}  # words
GROUPS = {
    "short": "up to 9 words",
    "middle": "10 to 14 words",
    "long": "15 words or more",
    "trained_words": "all words occur in the training set",
    "new_words": "with a word that does not occur in the training set",
}


def groups_of(sentences: list[str], has_trained_words: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """{group of GROUPS: indices of its sentences}: by length, and by whether all words occur in the training set."""
    words = np.array([len(tokenize(s)) for s in sentences])
    known = np.array([has_trained_words(s) for s in sentences])
    groups = {name: np.flatnonzero((words >= low) & (words <= high)) for name, (low, high) in LENGTHS.items()}
    return {**groups, "trained_words": np.flatnonzero(known), "new_words": np.flatnonzero(~known)}


def exact_match_of_groups(
    sentences: list[str], captions: list[str], has_trained_words: Callable[[str], bool]
) -> dict[str, tuple[float, int]]:
    """{group of `groups_of` that has sentences: (exact match in [0, 1], number of its sentences)}."""
    exact = np.array([metrics.is_exact(a, b) for a, b in zip(sentences, captions)])
    groups = groups_of(sentences, has_trained_words)
    return {name: (float(exact[rows].mean()), len(rows)) for name, rows in groups.items() if len(rows)}


def real_text_scores(
    model: ModelUnderTest, sentences: list[str], has_trained_words: Callable[[str], bool], seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, tuple[float, int]], list[str]]:
    """-> ({condition: scores of `text_scores`}, {group: (exact match, n)}, captions); seed: of salad and noise."""
    rng = np.random.default_rng(seed)
    pictures = model.draw(sentences)
    captions = model.read(pictures)
    salad = [shuffled_words(s, rng) for s in sentences]
    code = BinaryCode(model.vocab, model.max_tokens)
    coded = code.draw(sentences)
    scores = {
        "clean": text_scores(sentences, captions),
        "salad": text_scores(salad, model.read(model.draw(salad))),
        "in_a_row": text_scores(sentences, model.read(corrupted_in_a_row(pictures, seed))),
        "blank_picture": text_scores(sentences, model.read(torch.full((1, 3, 64, 64), 0.5)) * len(sentences)),
        "other_picture": text_scores(sentences, captions[1:] + captions[:1]),
        "binary_code": text_scores(sentences, code.read(coded)),
        "binary_code_in_a_row": text_scores(sentences, code.read(corrupted_in_a_row(coded, seed))),
    }
    return scores, exact_match_of_groups(sentences, captions, has_trained_words), captions


def real_text_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Scores of unseen lines of the captions file, and the legibility of their words."""
    found = Metrics(seed)
    sentences = model.sentences(protocol.sentences, "test", seed)
    n = len(sentences)
    scores, groups, captions = real_text_scores(model, sentences, model.data.has_trained_words, seed)
    for id, (label, high, better) in SCORES.items():
        beside = {name: scores[name][id] for name in ("blank_picture", "other_picture", "binary_code")}
        found.add(f"real_text/{id}", label, {OWN: scores["clean"][id], **beside}, n, high=high, better=better)
    exact = {name: of["exact_match"] for name, of in scores.items()}
    clean = {"uncorrupted": exact["clean"]}
    values = {OWN: exact["salad"], **clean}
    found.add("real_text/salad", "exact match, words of each sentence shuffled", values, n, better="high")
    values = {OWN: exact["in_a_row"], **clean, "binary_code": exact["binary_code_in_a_row"]}
    label = "exact match, after blur 1, noise 0.1 and JPEG 50 in a row"
    found.add("real_text/in_a_row", label, values, n, better="high")
    for name, (value, count) in groups.items():
        label = f"exact match, {GROUPS[name]}"
        found.add(f"real_text/of/{name}", label, {OWN: value, **clean}, count, better="high", group=name)
    advance(0.6)
    for id, (values, count) in legibility_scores(model, sentences, protocol.corrupted, seed).items():
        label, high, better = LEGIBILITY[id]
        found.add(f"real_text/{id}", label, values, count, high=high, better=better)
    advance(0.4)
    wrong = [[a, b] for a, b in zip(sentences, captions) if a != b][:200]
    return {"metrics": found, "details": {"wrong": wrong}}
