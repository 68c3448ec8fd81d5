"""Real sentences: how much of a text comes back as it was typed, whether the captioner reads or guesses, which sentences fail,
and what a person could see of their words (`real_legibility`)."""

import math

import numpy as np
import torch

import metrics
from evaluation.baselines.binary_code import HandMadeCode
from evaluation.measures.text_scores import SCORES, corrupted_in_a_row, shuffled_words, text_scores
from evaluation.measures.word_legibility import LEGIBILITY, legibility_scores
from evaluation.metric import OWN, metric
from pictures import draw_sentences, read_pictures
from text.vocabulary import tokenize

LENGTHS = {"short": (0, 9), "middle": (10, 14), "long": (15, math.inf)}  # words


def groups_of(sentences, has_trained_words):
    """{id: numbers of the sentences} by length, and by whether training shows all their words (a function of a sentence)."""
    words = np.array([len(tokenize(s)) for s in sentences])
    known = np.array([has_trained_words(s) for s in sentences])
    groups = {name: np.flatnonzero((words >= low) & (words <= high)) for name, (low, high) in LENGTHS.items()}
    return {**groups, "trained_words": np.flatnonzero(known), "new_words": np.flatnonzero(~known)}


GROUPS = {
    "short": "up to 9 words",
    "middle": "10 to 14 words",
    "long": "15 words or more",
    "trained_words": "training shows all its words",
    "new_words": "with a word that training never shows",
}


def exact_match_of_groups(sentences, captions, has_trained_words):
    """{group of `groups_of` that has sentences: (exact match in [0, 1], number of its sentences)}."""
    exact = np.array([metrics.exact_match([a], [b]) for a, b in zip(sentences, captions)])
    groups = groups_of(sentences, has_trained_words)
    return {name: (float(exact[rows].mean()), len(rows)) for name, rows in groups.items() if len(rows)}


def real_text_scores(model, sentences, has_trained_words, seed):
    """Everything that the section measures of n sentences -> ({id: scores of `text_scores`}, {group: (exact match, n)}, captions)."""

    def read(pictures):
        return read_pictures(model.cycle, model.vocab, pictures, model.device)[0]

    rng = np.random.default_rng(seed)
    pictures = model.draw(sentences)
    captions = read(pictures)
    salad = [shuffled_words(s, rng) for s in sentences]
    of_salad = read(draw_sentences(model.cycle, model.vocab, salad, model.device))
    code = HandMadeCode(model.vocab, model.max_words)
    coded = code.draw(sentences)
    scores = {
        "clean": text_scores(sentences, captions),
        "salad": text_scores(salad, of_salad),
        "in_a_row": text_scores(sentences, read(corrupted_in_a_row(pictures, seed))),
        "blank_picture": text_scores(sentences, read(torch.full((1, 3, 64, 64), 0.5)) * len(sentences)),
        "other_picture": text_scores(sentences, captions[1:] + captions[:1]),
        "hand_made_code": text_scores(sentences, code.read(coded)),
        "hand_made_code_in_a_row": text_scores(sentences, code.read(corrupted_in_a_row(coded, seed))),
    }
    return scores, exact_match_of_groups(sentences, captions, has_trained_words), captions


def real_text_section(model, protocol, seed, advance):
    """The section of an evaluation; see `evaluation.reading` for what a section is."""
    sentences = model.sentences(protocol.sentences, "test", seed)
    scores, groups, captions = real_text_scores(model, sentences, model.data.has_trained_words, seed)
    n, found = len(sentences), {}
    for id, (label, high, better) in SCORES.items():
        beside = {name: scores[name][id] for name in ("blank_picture", "other_picture", "hand_made_code")}
        found |= metric(
            f"real_text/{id}", label, scores["clean"][id], n, seed, baselines=beside, high=high, better=better
        )
    clean = {"uncorrupted": scores["clean"]["exact_match"]}
    coded = {"hand_made_code": scores["hand_made_code_in_a_row"]["exact_match"]}
    for name, label, beside in (
        ("salad", "words of each sentence shuffled", clean),
        ("in_a_row", "after blur 1, noise 0.1 and JPEG 50 in a row", clean | coded),
    ):
        value = scores[name]["exact_match"]
        found |= metric(f"real_text/{name}", f"exact match, {label}", value, n, seed, baselines=beside, better="high")
    for name, (value, count) in groups.items():
        label = f"exact match, {GROUPS[name]}"
        found |= metric(f"real_text/of/{name}", label, value, count, seed, baselines=clean, better="high", group=name)
    advance(0.6)
    found |= legibility_of_words(model, sentences, protocol.corrupted, seed)
    advance(0.4)
    wrong = [[a, b] for a, b in zip(sentences, captions) if a != b][:200]
    return {"metrics": found, "details": {"wrong": wrong}}


def legibility_of_words(model, sentences, n, seed):
    """`legibility_scores` as metrics of the section for real sentences, beside a random decoder of the same build."""
    found = {}
    for id, (values, count) in legibility_scores(model, sentences, n, seed).items():
        label, high, better = LEGIBILITY[id]
        own = values.pop(OWN)
        found |= metric(f"real_text/{id}", label, own, count, seed, baselines=values, high=high, better=better)
    return found
