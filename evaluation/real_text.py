"""Real sentences: how much of a text comes back as it was typed, whether the captioner reads or guesses, which sentences fail,
and what a person could see of their words (`real_legibility`)."""

import math

import numpy as np
import torch
from sacrebleu.metrics import BLEU, CHRF

import metrics
from evaluation import robustness
from evaluation.hand_made_code import HandMadeCode
from evaluation.protocol import metric
from evaluation.real_legibility import legibility_of_words
from evaluation.report import markdown_table
from pictures import draw_sentences, read_pictures
from text.vocabulary import tokenize

LENGTHS = {"short": (0, 9), "middle": (10, 14), "long": (15, math.inf)}  # words
IN_A_ROW = (("blur", 1.0), ("noise", 0.1), ("jpeg", 50))  # a picture that goes through all of them


def text_scores(originals, recovered):
    """What came back of texts as they were typed -> {id: value}: shares in [0, 1], but chrF and BLEU in [0, 100].

    chrF is that of Popovic (2015), BLEU that of Papineni et al. (2002), of all texts together, both by sacrebleu.
    """
    pairs = list(zip(originals, recovered, strict=True))
    return {
        "exact_match": metrics.exact_match(originals, recovered),
        "verbatim": metrics.verbatim_match(originals, recovered),
        "word_accuracy": max(0.0, 1 - metrics.word_error_rate(originals, recovered)),
        "word_error_rate": metrics.word_error_rate(originals, recovered),
        "character_error_rate": sum(metrics.edit_distance(a, b) for a, b in pairs)
        / max(1, sum(len(a) for a, _ in pairs)),
        "chrf": CHRF().corpus_score(recovered, [originals]).score,
        "bleu": BLEU(effective_order=True).corpus_score(recovered, [originals]).score,
    }


SCORES = {  # id: (label, highest value, better)
    "exact_match": ("exact match", 1.0, "high"),
    "verbatim": ("verbatim: as it was typed", 1.0, "high"),
    "word_accuracy": ("1 - word error rate", 1.0, "high"),
    "word_error_rate": ("word error rate", None, "low"),
    "character_error_rate": ("character error rate", None, "low"),
    "chrf": ("chrF", 100.0, "high"),
    "bleu": ("BLEU", 100.0, "high"),
}


def shuffled_words(sentence, rng):
    """The words of a sentence in another order, as they are typed (word salad); rng: numpy Generator."""
    words = sentence.split()
    return " ".join(words[i] for i in rng.permutation(len(words)))


def corrupted_in_a_row(pictures, seed):
    """Pictures (n, 3, 64, 64) in [0, 1] after every corruption of IN_A_ROW -> the same shape."""
    for kind, strength in IN_A_ROW:
        pictures = robustness.corrupt(pictures, kind, strength, seed)
    return pictures


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


def tables(scores, groups):
    """{condition: scores of `text_scores`} and `exact_match_of_groups` -> two tables in Markdown."""
    rows = [[label, *(f"{scores[name][id]:.4g}" for name in scores)] for id, (label, _, _) in SCORES.items()]
    of_groups = [[GROUPS[name], f"{value:.4g}", n] for name, (value, n) in groups.items()]
    return [markdown_table(["", *scores], rows), markdown_table(["exact match", "", "n"], of_groups)]


def failures(sentences, captions, most):
    """Lines that show at most so many sentences that did not come back as they were typed, each with its caption."""
    return [f"- {text}\n  {caption}" for text, caption in zip(sentences, captions) if text != caption][:most]


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
