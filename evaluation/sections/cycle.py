"""The section about the cycle: sentences to pictures and back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import torch

import metrics
from evaluation.measures.round_trip import ROUND_TRIP_METRICS, per_sentence, round_trip_id, round_trip_scores, slots_of
from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, Protocol
from pictures import through_png
from text.grammar import PARTS, part_of

WRONG = 200  # captions that metrics.json keeps of a split


def cycle_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Round trips through PNG files on disk, on every split, beside captions that need no training."""
    found = Metrics(seed)
    details = {"confusion": {}, "wrong": {}}
    with_slots = model.lines is None
    of_gray = model.read(torch.full((1, 3, 64, 64), 0.5))
    for split in model.splits:
        sentences = model.sentences(protocol.sentences, split, seed)
        with tempfile.TemporaryDirectory() as folder:
            _, captions = through_png(model.cycle, model.vocab, sentences, model.device, folder)
        n = len(sentences)
        guesses = model.sentences(n, split, seed + 1) if with_slots else sentences[n // 2 :] + sentences[: n // 2]
        captions_of = {
            OWN: captions,
            "chance": guesses,
            "majority": [metrics.majority_sentence(sentences)] * n,
            "blank_picture": of_gray * n,
            "other_picture": captions[1:] + captions[:1],
        }
        scores = {name: round_trip_scores(sentences, some, with_slots) for name, some in captions_of.items()}
        for name, slot in scores[OWN]:
            label, better = ROUND_TRIP_METRICS[name]
            values, weights = per_sentence(name, slot, sentences, captions)
            found.add(
                round_trip_id(name, slot, split),
                label.format(slot=slot),
                {who: of_who[name, slot] for who, of_who in scores.items()},
                len(values),
                interval=metrics.bootstrap_interval(values, seed, weights),
                high=None if better == "low" else 1.0,
                better=better,
                split=split,
                group=slot,
            )
        if with_slots:
            hits = metrics.slot_hits(slots_of, sentences, captions, part_of)
            details["confusion"][split] = {
                slot: {"words": PARTS[slot], "counts": metrics.confusion_matrix(hits[slot], PARTS[slot]).tolist()}
                for slot in hits
            }
        wrong = [[a, b] for a, b in zip(sentences, captions) if not metrics.is_exact(a, b)]
        details["wrong"][split] = wrong[:WRONG]
        advance(1 / len(model.splits))
    return {"metrics": found, "details": details}
