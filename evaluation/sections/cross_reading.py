"""Can models that were trained apart read one another's pictures? For evaluations of several models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import metrics
from evaluation.baselines.captioners import fresh_captioner, train_captioners
from evaluation.baselines.decoders import BaselineModel
from evaluation.measures.round_trip import round_trip_scores
from evaluation.protocol import ModelUnderTest, Protocol

BUILD = "plain_convolutions"  # of the fresh captioners
AT_MOST = 300  # sentences that each model draws


def _knows_words_of(reading, drawing):
    return set(reading.vocab.words) >= set(drawing.vocab.words)


def cross_reading(models: list[ModelUnderTest], protocol: Protocol, seed: int) -> list[list[float | None]]:
    """Exact match when one model draws and another reads: rows draw, columns read. None where the words differ."""
    rows = []
    for drawing in models:
        sentences = drawing.sentences(min(protocol.sentences, AT_MOST), "test", seed)
        pictures = drawing.draw(sentences)
        row = []
        for reading in models:
            knows = _knows_words_of(reading, drawing)
            row.append(metrics.exact_match(sentences, reading.read(pictures)) if knows else None)
        rows.append(row)
    return rows


def fresh_reading(
    models: list[ModelUnderTest], protocol: Protocol, seed: int, advance: Callable[[float], None] = lambda share: None
) -> dict:
    """Train a fresh captioner on each model's pictures, and measure it on every model's.

    -> {"exact_match", "share", "share_by_chance": rows draw and columns trained the captioner, in [0, 1], None where
    the words differ; "n", "steps", "share_is"}. share: of words that are read right, by slot for the grammar
    ("slots_soft"), else by position ("word_accuracy"); share_by_chance: the same for the caption of another picture.
    All captioners start from the same weights.
    """
    with_slots = all(m.lines is None for m in models)
    share_is = "slots_soft" if with_slots else "word_accuracy"
    readers = [trained_reader(model, protocol, seed, advance, len(models)) for model in models]
    names = ("exact_match", "share", "share_by_chance")
    out = {**{name: [] for name in names}, "steps": protocol.steps, "share_is": share_is}
    for drawing in models:
        sentences = drawing.sentences(min(protocol.sentences, AT_MOST), "test", seed)
        pictures = drawing.draw(sentences)
        out["n"] = len(sentences)
        for name in names:
            out[name].append([])
        for reader in readers:
            values = (None, None, None)
            if _knows_words_of(reader, drawing):
                captions = reader.read(pictures)
                scores = round_trip_scores(sentences, captions, with_slots)
                by_chance = round_trip_scores(sentences, captions[1:] + captions[:1], with_slots)
                values = (scores["exact_match", ""], scores[share_is, ""], by_chance[share_is, ""])
            for name, value in zip(names, values):
                out[name][-1].append(value)
    return out


def trained_reader(
    model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None], of: int
) -> ModelUnderTest:
    """The model with a fresh captioner after `protocol.steps` steps on its pictures. of: how many there will be."""
    captioner = fresh_captioner(BUILD, model.vocab, model.max_tokens, seed, model.device)
    checks = model.sentences(min(protocol.checks, 50), "test", seed + 2)
    train_captioners({BUILD: captioner}, model, protocol, checks, seed, lambda: advance(1 / (of * protocol.steps)))
    cycle = BaselineModel(model.cycle.draw, captioner, model.max_tokens)
    return dataclasses.replace(model, cycle=cycle)
