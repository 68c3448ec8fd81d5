"""The sections of an evaluation about reading: round trips, fresh captioners, corruption, what a person could read.

A section is a function of a `ModelUnderTest`, a `Protocol`, a seed and `advance` (a function that is called with the share
of the section that was just done, in [0, 1]) -> {"metrics": {id: fields of protocol.metric}, "details": {...}}, all of it JSON.
"""

import tempfile

import torch

import metrics
from evaluation.measures.round_trip import ROUND_TRIP_METRICS, per_sentence, round_trip_id, round_trip_scores, slots_of
from evaluation.metric import metric
from pictures import BATCH, read_pictures, through_png
from text.grammar import PARTS, part_of

# ---------------------------------------------------------------------------------------------
# Round trips
# ---------------------------------------------------------------------------------------------


def _captions_from_files(model, sentences):
    """What the model reads from the PNG files of its own pictures of n sentences -> n captions."""
    captions = []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(sentences), BATCH):
            captions += through_png(model.cycle, model.vocab, sentences[start : start + BATCH], model.device, folder)[1]
    return captions


def cycle_section(model, protocol, seed, advance):
    """Round trips through PNG files on disk, on every split, beside captions that need no training."""
    found = {}
    details = {"confusion": {}, "wrong": {}}
    with_slots = model.lines is None
    gray = torch.full((1, 3, 64, 64), 0.5)
    of_gray = read_pictures(model.cycle, model.vocab, gray, model.device)[0]
    for split in model.splits:
        sentences = model.sentences(protocol.sentences, split, seed)
        captions = _captions_from_files(model, sentences)
        n = len(sentences)
        guesses = model.sentences(n, split, seed + 1) if with_slots else sentences[n // 2 :] + sentences[: n // 2]
        baselines = {
            "chance": round_trip_scores(sentences, guesses, with_slots),
            "majority": round_trip_scores(sentences, [metrics.majority_sentence(sentences)] * n, with_slots),
            "blank_picture": round_trip_scores(sentences, of_gray * n, with_slots),
            "other_picture": round_trip_scores(sentences, captions[1:] + captions[:1], with_slots),
        }
        for (name, slot), value in round_trip_scores(sentences, captions, with_slots).items():
            label, better = ROUND_TRIP_METRICS[name]
            values, weights = per_sentence(name, slot, sentences, captions)
            found |= metric(
                round_trip_id(name, slot, split),
                label.format(slot=slot),
                value,
                len(values),
                seed,
                baselines={baseline: scores[name, slot] for baseline, scores in baselines.items()},
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
        details["wrong"][split] = [[a, b] for a, b in zip(sentences, captions) if a != b][:200]
        advance(1 / len(model.splits))
    return {"metrics": found, "details": details}


# ---------------------------------------------------------------------------------------------
# Fresh captioners: can it be learned, and the baselines that need training
# ---------------------------------------------------------------------------------------------


# ---------------------------------------------------------------------------------------------
# Robustness and legibility
# ---------------------------------------------------------------------------------------------


# ---------------------------------------------------------------------------------------------
# Across sections and models
# ---------------------------------------------------------------------------------------------
