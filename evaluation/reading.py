"""The sections of an evaluation about reading: round trips, fresh captioners, corruption, what a person could read.

A section is a function of a `ModelUnderTest`, a `Protocol`, a seed and `advance` (a function that is called with the share
of the section that was just done, in [0, 1]) -> {"metrics": {id: fields of protocol.metric}, "details": {...}}, all of it JSON.
"""

import sys
import tempfile

import numpy as np
import torch

import metrics
from evaluation import legibility, robustness, unseen_corruptions
from evaluation.baselines import BaselineModel, fresh_captioner, train_captioners
from evaluation.labels import CAPTIONERS
from evaluation.legibility import FOUR_SLOTS
from evaluation.protocol import OWN, metric, slots_of
from pictures import BATCH, draw_sentences, read_pictures, through_png
from text.grammar import PARTS, SLOT_WORDS, part_of
from text.vocabulary import tokenize

# ---------------------------------------------------------------------------------------------
# Round trips
# ---------------------------------------------------------------------------------------------

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


def captioners_section(model, protocol, seed, advance):
    """Fresh captioners on frozen scene decoders: exact match against steps.

    In the details also what the captioners of the baselines score on the splits and after corruption.
    """
    curves, scores, corruption = {}, {}, {}
    frozen = {OWN: model.cycle.draw, **{name: baseline.draw for name, baseline in model.baselines(seed).items()}}
    max_words = model.cycle.language_model.max_words
    checks = model.sentences(protocol.checks, "test", seed + 2)

    def step_done():
        advance(1 / (len(frozen) * protocol.steps))

    for decoder, draw in frozen.items():
        captioners = {
            build: fresh_captioner(build, model.vocab, max_words, seed, model.device) for build in protocol.captioners
        }
        curves[decoder] = train_captioners(captioners, draw, model, protocol, checks, seed, step_done)
        if decoder == OWN:
            continue
        baseline = BaselineModel(draw, captioners["plain_convolutions"], max_words)
        scores[decoder] = {}
        for split in model.splits:
            sentences = model.sentences(protocol.sentences, split, seed)
            pictures = draw_sentences(baseline, model.vocab, sentences, model.device)
            captions, _ = read_pictures(baseline, model.vocab, pictures, model.device)
            for (name, slot), value in round_trip_scores(sentences, captions, model.lines is None).items():
                scores[decoder][round_trip_id(name, slot, split)] = value
        sentences = model.sentences(protocol.corrupted, "test", seed)
        corruption[decoder] = robustness.corruption_curves(baseline, model.vocab, model.device, sentences, seed)
    details = {"curves": curves, "scores": scores, "corruption": corruption, "steps": protocol.steps}
    return {"metrics": _learning_metrics(curves, protocol, len(checks), seed), "details": details}


def _learning_metrics(curves, protocol, n, seed):
    """Curves {decoder: {captioner: [(step, exact match)]}} -> metrics of each captioner; n: sentences of a check."""
    found = {}
    for build in protocol.captioners:
        for name, (label, summary, high, better) in CURVE_METRICS.items():
            values = {decoder: summary(curve[build], protocol.steps) for decoder, curve in curves.items()}
            unreached = "; none where it was never reached" if name == "steps_to_95" else ""
            found |= metric(
                f"captioner/{build}/{name}",
                f"{CAPTIONERS[build]} · {label}",
                values.pop(OWN),
                n,
                seed,
                baselines=values,
                high=high,
                better=better,
                group=build,
                note=f"{protocol.steps} steps of 64 sentences{unreached}",
            )
    return found


def _final(curve, _steps):
    """Exact match after the last step, in [0, 1]."""
    return curve[-1][1]


def _area(curve, steps):
    """Mean exact match over the steps, by the trapezoid rule from (0, 0): in [0, 1]."""
    x = [0] + [step for step, _ in curve]
    y = [0.0] + [value for _, value in curve]
    return sum((b - a) * (v + w) / 2 for a, b, v, w in zip(x, x[1:], y, y[1:])) / steps


def _steps_to_95(curve, _steps):
    """The first step after which exact match is 95 % or more; None if there is none."""
    return next((s for s, v in curve if v >= 0.95), None)


CURVE_METRICS = {  # id: (label, function of a curve and the number of steps, highest value, better)
    "final_exact_match": ("exact match at the end", _final, 1.0, "high"),
    "area_under_curve": ("area under the curve", _area, 1.0, "high"),
    "steps_to_95": ("steps to 95 %", _steps_to_95, None, "low"),
}


# ---------------------------------------------------------------------------------------------
# Robustness and legibility
# ---------------------------------------------------------------------------------------------


def middle_strength(curve):
    """(strength, exact match there) of the middle strength of one of `robustness.corruption_curves`."""
    i = (len(curve["strengths"]) - 1) // 2
    return curve["strengths"][i], curve["exact_match"][i]


def robustness_section(model, protocol, seed, advance):
    """Exact match after corruption, beside the uncorrupted pictures (and, from `add_trained_baselines`, other decoders)."""
    sentences = model.sentences(protocol.corrupted, "test", seed)
    pictures = model.draw(sentences)
    clean = metrics.exact_match(sentences, read_pictures(model.cycle, model.vocab, pictures, model.device)[0])
    curves = robustness.corruption_curves(model.cycle, model.vocab, model.device, sentences, seed)
    found = {}
    n = len(sentences)
    for kind, curve in curves.items():
        curve["trained_on"] = bool(curve["trained_on"] and model.settings.channel)
        strength, value = middle_strength(curve)
        found |= metric(
            f"corruption/{kind}_{strength}",
            f"{kind} {strength}",
            value,
            n,
            seed,
            baselines={"uncorrupted": clean},
            interval=metrics.bootstrap_interval(np.arange(n) < round(value * n), seed),
            better="high",
            group=kind,
            note=("" if curve["trained_on"] else "not ")
            + f"trained on; halves at {curve['halves_at'] or 'none of the strengths'}",
        )
    unseen, reason = _unseen_corruptions(model, sentences, pictures, clean, seed)
    found |= unseen
    noise = torch.rand(len(pictures), 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    found |= metric(
        "coarse_variance",
        "variance that 16x16 pixels hold",
        robustness.low_frequency_share(pictures),
        len(pictures),
        seed,
        baselines={"white_noise": robustness.low_frequency_share(noise)},
        better="high",
    )
    return {"metrics": found, "details": {"clean": clean, "curves": curves, "unseen_left_out": reason}}


def _unseen_corruptions(model, sentences, pictures, clean, seed):
    """Exact match after corruptions that no training uses, in torchvision's implementation -> metrics, and why there are none."""
    kinds, reason = unseen_corruptions.available()
    if reason:
        print(f"warning: {reason}", file=sys.stderr, flush=True)
    found = {}
    for name, corrupt in kinds.items():
        captions, _ = read_pictures(model.cycle, model.vocab, corrupt(pictures, seed), model.device)
        found |= metric(
            f"unseen_corruption/{name.replace(' ', '_')}",
            f"{name}, never trained on",
            metrics.exact_match(sentences, captions),
            len(sentences),
            seed,
            baselines={"uncorrupted": clean},
            better="high",
            group=name,
        )
    return found, reason


def legibility_section(model, protocol, seed, advance):
    """The metrics of legibility.py, beside the hand-made renderer and a random scene decoder."""
    own = legibility.legibility_metrics(model.cycle, model.vocab, model.device, seed, protocol.quick)
    others = {}
    for name, baseline in model.baselines(seed).items():
        advance(1 / 3)
        others[name] = legibility.legibility_metrics(baseline, model.vocab, model.device, seed, protocol.quick)
    found = {}

    def add(id, label, n, better="high", high=1.0, chance=None, group=""):
        if own[id] is not None:
            baselines = {} if chance is None else {"chance": chance}
            baselines |= {name: values[id] for name, values in others.items() if values[id] is not None}
            found.update(
                metric(id, label, own[id], n, seed, baselines=baselines, high=high, better=better, group=group)
            )

    tests, pairs, contexts = (200, 60, 40) if protocol.quick else (500, 120, 40)
    chance = {slot: 1 / len(SLOT_WORDS[slot]) for slot in FOUR_SLOTS}
    for slot in FOUR_SLOTS:
        label = f"naive reader, 4 examples a word · {slot}"
        add(f"legibility/naive_4/{slot}", label, tests, chance=chance[slot], group=slot)
    add(
        "legibility/color_histogram_64",
        "color word from the color histogram",
        tests,
        chance=chance["color"],
        group="color",
    )
    for slot in FOUR_SLOTS:
        label = f"one {slot} word swapped: share of the picture that changes"
        add(f"legibility/swap_changed/{slot}", label, pairs, better="low", group=slot)
        label = f"one {slot} word swapped: visible change (ΔE)"
        add(f"legibility/swap_visible/{slot}", label, pairs, high=None, group=slot)
        add(f"legibility/swap_overlap/{slot}", f"one {slot} word swapped: overlap over contexts", contexts, group=slot)
    mean_chance = float(np.mean(list(chance.values())))
    add("legibility/silhouettes", "slots read from silhouettes alone", tests, chance=mean_chance)
    return {"metrics": found, "details": {OWN: own, **others}}


# ---------------------------------------------------------------------------------------------
# Across sections and models
# ---------------------------------------------------------------------------------------------


def cross_reading(models, protocol, seed):
    """Exact match when one model draws and another reads: rows draw, columns read. None where the words differ."""
    rows = []
    for drawing in models:
        sentences = drawing.sentences(min(protocol.sentences, 300), "test", seed)
        pictures = drawing.draw(sentences)
        row = []
        for reading in models:
            if set(reading.vocab.words) >= set(drawing.vocab.words):
                captions, _ = read_pictures(reading.cycle, reading.vocab, pictures, reading.device)
                row.append(metrics.exact_match(sentences, captions))
            else:
                row.append(None)
        rows.append(row)
    return rows


def add_trained_baselines(sections):
    """Put what fresh captioners of the baselines score beside the model's own metrics, whole and corrupted, in place."""
    details = sections["captioners"]["details"]
    for decoder, scores in details["scores"].items():
        for id, value in scores.items():
            sections["circle"]["metrics"][id]["baselines"][f"{decoder}/fresh_captioner"] = value
    for decoder, curves in details["corruption"].items():
        for kind in sections["robustness"]["details"]["curves"]:
            strength, value = middle_strength(curves[kind])
            found = sections["robustness"]["metrics"][f"corruption/{kind}_{strength}"]
            found["baselines"][f"{decoder}/fresh_captioner"] = value
