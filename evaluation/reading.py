"""What an evaluation measures of the circle: round trips, fresh readers, wear, what a person could read.

A section maps a `Subject`, a `Plan`, a seed and `say` (told the share of the section that is done) to
{"figures": {name: figure}, "details": {...}}, all of it JSON.
"""

import tempfile

import numpy as np
import torch

import metrics
from evaluation import legibility, robustness
from evaluation.baselines import Pair, fresh_reader, train_readers
from evaluation.legibility import FOUR_SLOTS
from evaluation.protocol import figure, slots_of
from pictures import BATCH, draw_sentences, read_pictures, through_png
from text.grammar import SLOT_WORDS, SLOTS

# ---------------------------------------------------------------------------------------------
# The circle
# ---------------------------------------------------------------------------------------------


def score(originals, captions, with_slots=True):
    """All measures of round trips -> {name: value}."""
    out = {
        "exact match": metrics.exact_match(originals, captions),
        "word accuracy": metrics.word_accuracy(originals, captions),
        "word error rate": metrics.word_error_rate(originals, captions),
    }
    if with_slots:
        each, soft = metrics.slot_accuracies(metrics.slot_hits(slots_of, originals, captions))
        out["Soft (mean of slots)"] = soft
        out["Hard (all slots)"] = float(np.mean(metrics.hard_slots(slots_of, originals, captions)))
        out.update({f"slot: {slot}": each[slot] for slot in SLOTS if slot in each})
    return out


def per_sentence(name, originals, captions):
    """A measure as (values, weights) of sentences, their sums' ratio being the measure; for its bootstrap.
    A slot counts the sentences that have it; Soft has a column for each slot."""
    pairs = [(a.split(), b.split()) for a, b in zip(originals, captions)]
    ones = np.ones(len(pairs))
    if name == "exact match":
        return np.array([a == b for a, b in zip(originals, captions)], float), ones
    if name == "word accuracy":
        return np.array([sum(x == y for x, y in zip(a, b)) for a, b in pairs], float), np.array(
            [max(len(a), len(b)) for a, b in pairs], float
        )
    if name == "word error rate":
        return np.array([metrics.edit_distance(a, b) for a, b in pairs], float), np.array([len(a) for a, _ in pairs], float)
    if name == "Hard (all slots)":
        return np.array(metrics.hard_slots(slots_of, originals, captions)), ones
    if name.startswith("slot: "):
        right = np.array([x == y for x, y in metrics.slot_hits(slots_of, originals, captions)[name[6:]]], float)
        return right, np.ones(len(right))
    hits, there = np.zeros((len(pairs), len(SLOTS))), np.zeros((len(pairs), len(SLOTS)))
    for i, (a, b) in enumerate(zip(originals, captions)):
        for slot, [(x, y)] in metrics.slot_hits(slots_of, [a], [b]).items():
            hits[i, SLOTS.index(slot)], there[i, SLOTS.index(slot)] = x == y, 1
    return hits[:, there.any(0)], there[:, there.any(0)]


def circle_section(subject, plan, seed, say):
    """Round trips through PNG files on disk, on every split, beside captions that need no training."""
    figures, details = {}, {"confusion": {}, "wrong": {}}
    slots = subject.lines is None
    blank = read_pictures(subject.circle, subject.vocab, torch.full((1, 3, 64, 64), 0.5), subject.device)[0]
    for split in subject.splits:
        sentences = subject.sentences(plan.sentences, split, seed)
        captions = []
        with tempfile.TemporaryDirectory() as folder:
            for start in range(0, len(sentences), BATCH):
                captions += through_png(subject.circle, subject.vocab, sentences[start : start + BATCH], subject.device, folder)[1]
        n = len(sentences)
        guesses = subject.sentences(n, split, seed + 1) if slots else sentences[n // 2 :] + sentences[: n // 2]
        baselines = {
            "chance": score(sentences, guesses, slots),
            "majority": score(sentences, [metrics.majority_sentence(sentences)] * n, slots),
            "blank picture": score(sentences, blank * n, slots),
            "another's picture": score(sentences, captions[1:] + captions[:1], slots),
        }
        for name, value in score(sentences, captions, slots).items():
            worse = name == "word error rate"
            values, weights = per_sentence(name, sentences, captions)
            interval = metrics.bootstrap_interval(values, seed, weights)
            beside = {k: v[name] for k, v in baselines.items()}
            figures[f"{split} · {name}"] = figure(
                value, len(values), seed, beside, interval, high=None if worse else 1.0, better="low" if worse else "high"
            )
        if slots:
            hits = metrics.slot_hits(slots_of, sentences, captions)
            words = {s: SLOT_WORDS[s] for s in hits}
            details["confusion"][split] = {
                s: {"words": w, "counts": metrics.confusion_matrix(hits[s], w).tolist()} for s, w in words.items()
            }
        details["wrong"][split] = [[a, b] for a, b in zip(sentences, captions) if a != b][:200]
        say(1 / len(subject.splits))
    return {"figures": figures, "details": details}


# ---------------------------------------------------------------------------------------------
# Fresh readers: can it be learned, and the baselines that need training
# ---------------------------------------------------------------------------------------------


def readers_section(subject, plan, seed, say):
    """Fresh readers on frozen drawers: exact match against steps, and what the readers taught on other drawers score on the
    splits and after wear."""
    figures, curves, scores, worn = {}, {}, {}, {}
    frozen = {"this model": subject.circle.draw, **{k: pair.draw for k, pair in subject.others(seed).items()}}
    max_words = subject.circle.language_model.max_words
    checks = subject.sentences(plan.checks, "test", seed + 2)
    share = 1 / (len(frozen) * plan.steps)
    for name, draw in frozen.items():
        readers = {build: fresh_reader(build, subject.vocab, max_words, seed, subject.device) for build in plan.readers}
        taught = train_readers(
            readers, draw, subject.batches(seed), subject.vocab, checks, plan.steps, plan.every, subject.device, seed,
            lambda: say(share),
        )  # fmt: skip
        curves.update({f"{name}, {build}": curve for build, curve in taught.items()})
        if name == "this model":
            continue
        pair, scores[name] = Pair(draw, readers["plain convolutions"]), {}
        for split in subject.splits:
            sentences = subject.sentences(plan.sentences, split, seed)
            captions, _ = read_pictures(
                pair, subject.vocab, draw_sentences(pair, subject.vocab, sentences, subject.device), subject.device
            )
            scores[name][split] = score(sentences, captions, subject.lines is None)
        sentences = subject.sentences(plan.worn, "test", seed)
        worn[name] = robustness.measure(pair, subject.vocab, subject.device, sentences, seed)
    for build in plan.readers:
        for what, of in (("exact match at the end", _last), ("area under the curve", _area), ("steps to 95 %", _steps)):
            values = {name: of(curves[f"{name}, {build}"], plan.steps) for name in frozen}
            high = None if what.startswith("steps") else 1.0
            figures[f"{build} · {what}"] = figure(
                values.pop("this model"), len(checks), seed, values, high=high, better="low" if high is None else "high",
                note=f"{plan.steps} steps of 64 sentences" + ("; none where it was never reached" if high is None else ""),
            )  # fmt: skip
    return {"figures": figures, "details": {"curves": curves, "scores": scores, "wear": worn, "steps": plan.steps}}


def _last(curve, _steps):
    return curve[-1][1]


def _area(curve, steps):
    """Mean exact match over the steps, by the trapezoid rule from (0, 0)."""
    x, y = [0] + [s for s, _ in curve], [0.0] + [v for _, v in curve]
    return sum((b - a) * (v + w) / 2 for a, b, v, w in zip(x, x[1:], y, y[1:])) / steps


def _steps(curve, _steps):
    return next((s for s, v in curve if v >= 0.95), None)


# ---------------------------------------------------------------------------------------------
# Robustness and legibility
# ---------------------------------------------------------------------------------------------


def middle(kind, curve):
    """(name, exact match) of the middle strength of a curve of wear."""
    i = (len(curve["strengths"]) - 1) // 2
    return f"{kind} {curve['strengths'][i]}", curve["exact_match"][i]


def robustness_section(subject, plan, seed, say):
    """Exact match after wear; baselines: the undamaged pictures, and later the other drawers (`readers_section`)."""
    sentences = subject.sentences(plan.worn, "test", seed)
    pictures = subject.draw(sentences)
    clean = metrics.exact_match(sentences, read_pictures(subject.circle, subject.vocab, pictures, subject.device)[0])
    curves = robustness.measure(subject.circle, subject.vocab, subject.device, sentences, seed)
    figures = {}
    for kind, curve in curves.items():
        curve["trained_on"] = bool(curve["trained_on"] and subject.settings.channel)
        name, value = middle(kind, curve)
        interval = metrics.bootstrap_interval(np.arange(len(sentences)) < round(value * len(sentences)), seed)
        figures[name] = figure(
            value, len(sentences), seed, {"undamaged": clean}, interval, better="high",
            note=("" if curve["trained_on"] else "not ") + f"trained on; halves at {curve['halves_at'] or 'none of the strengths'}",
        )  # fmt: skip
    coarse = robustness.low_frequency_share(pictures)
    noise = robustness.low_frequency_share(torch.rand(len(pictures), 3, 64, 64, generator=torch.Generator().manual_seed(seed)))
    figures["variance that 16x16 pixels hold"] = figure(coarse, len(pictures), seed, {"white noise": noise}, better="high")
    return {"figures": figures, "details": {"clean": clean, "curves": curves}}


def legibility_section(subject, plan, seed, say):
    """The measures of legibility.py, beside the drawing program and a drawer that learned nothing."""
    own = legibility.measure(subject.circle, subject.vocab, subject.device, seed, plan.quick)
    others = {}
    for name, pair in subject.others(seed).items():
        say(1 / 3)
        others[name] = legibility.measure(pair, subject.vocab, subject.device, seed, True)
    n, figures = 200 if plan.quick else 500, {}

    def add(name, key, high=1.0, better="high", n=n, low=0.0, note="", **chance):
        values = {k: key(v) for k, v in others.items() if key(v) is not None}
        if key(own) is not None:
            figures[name] = figure(key(own), n, seed, {**chance, **values}, low=low, high=high, better=better, note=note)

    for slot in FOUR_SLOTS:
        add(f"naive reader, 4 examples a word · {slot}", lambda m, s=slot: m["naive_reader_4"][s], chance=1 / len(SLOT_WORDS[slot]))
    add("color word from the color histogram", lambda m: m["color_from_histogram_64"], chance=1 / len(SLOT_WORDS["color"]))
    pairs = 60 if plan.quick else 120
    for slot in FOUR_SLOTS:
        add(
            f"one {slot} word swapped: share of the picture that changes",
            lambda m, s=slot: m["swap"][s]["changed"],
            better="low",
            n=pairs,
        )
        add(f"one {slot} word swapped: visible change (ΔE)", lambda m, s=slot: m["swap"][s]["visible"], high=None, n=pairs)
        add(f"one {slot} word swapped: overlap over contexts", lambda m, s=slot: m["swap"][s]["overlap"], n=40)
    chance = float(np.mean([1 / len(SLOT_WORDS[s]) for s in FOUR_SLOTS]))
    add("slots read from silhouettes alone", lambda m: m["silhouette_slots"], chance=chance)
    return {"figures": figures, "details": {"own": own, **others}}


def cross_reading(subjects, plan, seed):
    """Exact match when one model draws and another reads: rows draw, columns read. None where the words differ."""
    rows = []
    for a in subjects:
        sentences = a.sentences(min(plan.sentences, 300), "test", seed)
        pictures = a.draw(sentences)
        rows.append([])
        for b in subjects:
            known = set(b.vocab.words) >= set(a.vocab.words)
            rows[-1].append(
                metrics.exact_match(sentences, read_pictures(b.circle, b.vocab, pictures, b.device)[0]) if known else None
            )
    return rows


def add_trained_baselines(done):
    """Put what readers taught on other drawers score beside the circle's own figures, whole and worn, in place."""
    details = done["readers"]["details"]
    taught = f"reader taught {details['steps']} steps"
    for name, figure_ in done["circle"]["figures"].items():
        split, measure = name.split(" · ", 1)
        for drawer, by_split in details["scores"].items():
            if measure in by_split[split]:
                figure_["baselines"][f"{drawer}, {taught}"] = by_split[split][measure]
    for kind in done["robustness"]["details"]["curves"]:
        for drawer, curves in details["wear"].items():
            name, value = middle(kind, curves[kind])
            done["robustness"]["figures"][name]["baselines"][f"{drawer}, {taught}"] = value
