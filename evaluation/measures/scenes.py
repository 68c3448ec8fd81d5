"""Does a word do one visible thing? Metrics of pictures of sentences, from what `evaluation/measures/measured_scene.py` finds in the pixels.

Every function takes `draw`, which turns a list of sentences into pictures (n, 3, 64, 64) in [0, 1] on the CPU, and a seed, and
returns a dict of plain numbers with `n`. Some take `read` too, which turns pictures into captions. Sentences come from the
grammar; none holds a pair of words or has a frame that training never shows. A *kind* is what a word is said of: "color",
"object", "size", "position", "action", "background", "relation". A *property* is what is measured, see PROPERTIES.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr

from evaluation.measures.measured_scene import measure_scene
from text.grammar import (
    BACKGROUNDS,
    COLORS,
    MOST_THINGS,
    OBJECTS,
    OF_A_THING,
    RELATIONS,
    SLOTS,
    SUFFIXES,
    WITHOUT_ARTICLES,
    in_split,
    parse,
    render,
    sample_rows,
    to_dict,
    to_row,
)

KINDS = {**OF_A_THING, "background": BACKGROUNDS, "relation": RELATIONS}
GROUND = "ground"
SEEN_SPLITS = ("train", "val", "test")  # their pairs of words and frames are those of training
NOISE = 0.01  # sigma of the mild channel, in units of [0, 1]
NOISE_QUANTILE = 0.95
SAME_OUTLINE, SAME_COLOR = 0.9, 6.0  # IoU, dE (CIE76)


@dataclass(frozen=True)
class Property:
    """How one measured property is told: its unit, its numbers, and the least difference that counts."""

    unit: str
    vector: object  # MeasuredThing or MeasuredGround -> (k,) array
    least: float  # in that unit; noise of measuring may raise it, see `thresholds`


def _stripes(ground):
    """(3,) strength of stripes, L*, and strength x frequency with their direction as a doubled angle, L* radians a px, so that
    opposite directions are the same stripes."""
    across, down = ground.frequency
    length = max(np.hypot(across, down), 1e-9)
    return ground.strength * np.array([1, (across**2 - down**2) / length, 2 * across * down / length])


# The least differences are about the 90th percentile of what a change of another property does to the measuring of this one
PROPERTIES = {
    "color": Property("dE", lambda thing: thing.lab, 12.0),
    "outline": Property("1 - IoU", lambda thing: thing.outline.ravel(), 0.2),
    "place": Property("px", lambda thing: thing.center, 2.0),
    "rim": Property("sRGB", lambda thing: thing.rim, 0.15),
    "shading": Property("sRGB a radius", lambda thing: thing.shading, 0.12),
    "size": Property("log area ratio", lambda thing: np.log([thing.area]), 0.25),
    "dot": Property("sRGB", lambda thing: thing.dot, 0.15),
    GROUND: Property("dE", lambda ground: np.concatenate([ground.lab, _stripes(ground)]), 4.0),
}
OF_THINGS = [name for name in PROPERTIES if name != GROUND]


def vectors(name, measured):
    """A property of things, or of grounds -> (n, k) array."""
    return np.array([PROPERTIES[name].vector(m) for m in measured], np.float64)


def distances(name, a, b):
    """Distances of vectors of a property, (..., k) each that broadcast -> (...) in the property's unit."""
    if name == "outline":
        return 1 - np.minimum(a, b).sum(-1) / np.maximum(np.maximum(a, b).sum(-1), 1)
    return np.linalg.norm(a - b, axis=-1)


def distance(name, a, b):
    """Of two things, or of two grounds, in the property's unit."""
    return float(distances(name, PROPERTIES[name].vector(a), PROPERTIES[name].vector(b)))


def measure(pictures):
    """Pictures (n, 3, 64, 64) -> a list of MeasuredScene."""
    return [measure_scene(picture) for picture in pictures]


def thresholds(pictures, seed):
    """Pictures -> {property: a difference that measuring alone makes in one of twenty cases, or the least one that counts}.

    Each picture is measured twice through a mild channel: Gaussian noise of sigma 0.01, then 8 bit.
    """
    rng = torch.Generator().manual_seed(seed)
    twice = []
    for _ in range(2):
        noisy = pictures + NOISE * torch.randn(pictures.shape, generator=rng)
        twice.append(measure((noisy.clamp(0, 1) * 255).round() / 255))
    found = {GROUND: [distance(GROUND, a.ground, b.ground) for a, b in zip(*twice)]}
    pairs = [pair for a, b in zip(*twice) if len(a.things) == len(b.things) for pair in zip(a.things, b.things)]
    found |= {name: [distance(name, *pair) for pair in pairs] for name in OF_THINGS}
    return {k: max(PROPERTIES[k].least, float(np.quantile(v, NOISE_QUANTILE)) if v else 0.0) for k, v in found.items()}


# ---------------------------------------------------------------------------------------------
# Sentences
# ---------------------------------------------------------------------------------------------


def things_of(slots):
    """The number of things that a slot dict speaks of."""
    return sum("object" + suffix in slots for suffix in SUFFIXES)


def is_seen(slots):
    """Whether training may show a slot dict, but for the sentences that are left out one by one."""
    row = to_row(slots)[None]
    return any(in_split(row, split)[0] for split in SEEN_SPLITS)


def random_slots(n, rng, things=(1, 2, 3), kind=None):
    """n slot dicts of the grammar that speak of so many things and have a word of a kind."""
    out = []
    while len(out) < n:
        some = [to_dict(row) for row in sample_rows(20 + 4 * n, "train", rng)]
        out += [s for s in some if things_of(s) in things and (kind is None or slots_of_kind(s, kind))]
    return out[:n]


def slots_of_kind(slots, kind):
    """Names of the slots of a dict whose word can be swapped for another of its kind."""
    if kind == "relation" and slots.get(WITHOUT_ARTICLES):
        return []  # that frame knows "and" only
    return [name for name in SLOTS if name.rstrip("23") == kind and name in slots]


def swapped(slots, name, rng, words):
    """A slot dict with another one of the words in a slot, or None if training shows no such sentence."""
    others = [{**slots, name: str(w)} for w in rng.permutation([w for w in words if w != slots[name]])]
    return next((s for s in others if is_seen(s)), None)


def random_swaps(n, kind, rng):
    """n pairs of slot dicts that differ in one word of a kind."""
    out = []
    while len(out) < n:
        for slots in random_slots(n - len(out), rng, kind=kind):
            other = swapped(slots, str(rng.choice(slots_of_kind(slots, kind))), rng, KINDS[kind])
            out += [(slots, other)] if other else []
    return out


def sentences_with(kind, word, n, rng):
    """n slot dicts with a given word of a kind, other words random: of one thing, or for a relation of two, in its first slot."""
    out = []
    while len(out) < n:
        for slots in random_slots(n, rng, things=(2,) if kind == "relation" else (1,), kind=kind):
            out.append({**slots, slots_of_kind(slots, kind)[0]: word})
        out = [s for s in out if is_seen(s)]
    return out[:n]


# ---------------------------------------------------------------------------------------------
# Metrics
# ---------------------------------------------------------------------------------------------


def count_accuracy(draw, seed, n=100, read=None):
    """Share of sentences, n each of one, two and three things, whose picture has as many measured things, in [0, 1].

    -> {"n", "accuracy", "by_things": {1, 2, 3}, "read": share of captions that speak of as many things, None without `read`}.
    """
    rng = np.random.default_rng(seed)
    by_things, read_right = {}, []
    for things in range(1, MOST_THINGS + 1):
        pictures = draw([render(s) for s in random_slots(n, rng, (things,))])
        by_things[things] = float(np.mean([len(scene.things) == things for scene in measure(pictures)]))
        if read:
            read_right += [things_of(parse(caption) or {}) == things for caption in read(pictures)]
    return {
        "n": MOST_THINGS * n,
        "accuracy": float(np.mean(list(by_things.values()))),
        "by_things": by_things,
        "read": float(np.mean(read_right)) if read else None,
    }


def binding_pairs(n, rng):
    """n pairs of sentences "a C1 O1 and a C2 O2", "a C2 O1 and a C1 O2", all four pairs of words allowed in training."""
    out = []
    while len(out) < n:
        c, o = rng.choice(len(COLORS), 2, replace=False), rng.choice(len(OBJECTS), 2, replace=False)
        first, second = (
            {
                "color": COLORS[a],
                "object": OBJECTS[o[0]],
                "relation2": "and",
                "color2": COLORS[b],
                "object2": OBJECTS[o[1]],
            }
            for a, b in (c, c[::-1])
        )
        if is_seen(first) and is_seen(second):
            out.append((render(first), render(second)))
    return out


def binding(draw, seed, n=500, read=None):
    """For n pairs "a C1 O1 and a C2 O2" / "a C2 O1 and a C1 O2", shares in [0, 1] of pairs where
    outlines: both things keep theirs, IoU >= 0.9;
    colors: both things take the other's, dE <= 6, and lose their own, dE > 6;
    read: both sentences come back word for word, None without `read`;
    binding: all of these. Pictures without two measured things fail outlines and colors.
    median_iou in [0, 1] and median_color_error, dE, are those of outlines and colors, None if nothing was measured.
    """
    pairs = binding_pairs(n, np.random.default_rng(seed))
    pictures = [draw([pair[i] for pair in pairs]) for i in range(2)]
    outlines, colors, overlaps, errors = np.zeros(n, bool), np.zeros(n, bool), [], []
    for i, (a, b) in enumerate(zip(*map(measure, pictures))):
        if len(a.things) == len(b.things) == 2:
            apart = np.array([[distance("color", x, y) for y in b.things] for x in a.things])
            colors[i] = np.array_equal(apart <= SAME_COLOR, [[False, True], [True, False]])
            errors += [apart[0, 1], apart[1, 0]]
            overlaps += [1 - distance("outline", x, y) for x, y in zip(a.things, b.things)]
            outlines[i] = min(overlaps[-2:]) >= SAME_OUTLINE
    out = {"n": n, "outlines": float(outlines.mean()), "colors": float(colors.mean()), "read": None}
    for name, values in (("median_iou", overlaps), ("median_color_error", errors)):
        out[name] = float(np.median(values)) if values else None
    both = outlines & colors
    if read:
        exact = np.array(
            [[s == c for s, c in zip(sentences, read(p))] for sentences, p in zip(zip(*pairs), pictures)]
        ).all(0)
        out["read"] = float(exact.mean())
        both &= exact
    return {**out, "binding": float(both.mean())}


def changes(a, b, least):
    """Two scenes with as many things, {property: threshold} -> a list of (number of the thing or "ground", property)."""
    out = [(GROUND, GROUND)] if distance(GROUND, a.ground, b.ground) > least[GROUND] else []
    pairs = enumerate(zip(a.things, b.things))
    return out + [(i, name) for i, (x, y) in pairs for name in OF_THINGS if distance(name, x, y) > least[name]]


def one_word_one_property(draw, seed, n=60):
    """n swaps of one word for each kind, in random sentences: how many change exactly one property of one thing, or the ground?

    -> {"n": of all swaps, "share": of those, mean over kinds, "by_kind", "unchanged": shares where nothing changes, by kind,
    "count_differs": shares where the pictures differ in their number of things, by kind, "table": {kind: {property: share of
    swaps that change it, of any thing}}, "main": {kind: the property that it changes most, or None}, "thresholds"}; shares
    in [0, 1].
    """
    rng = np.random.default_rng(seed)
    swaps = {kind: random_swaps(n, kind, rng) for kind in KINDS}
    pictures = {kind: [draw([render(pair[i]) for pair in pairs]) for i in range(2)] for kind, pairs in swaps.items()}
    least = thresholds(torch.cat([first[: max(1, n // 3)] for first, _ in pictures.values()]), seed)
    out = {
        "n": n * len(KINDS),
        "share": 0.0,
        "by_kind": {},
        "unchanged": {},
        "count_differs": {},
        "table": {},
        "main": {},
    }
    for kind, (first, second) in pictures.items():
        scenes = list(zip(measure(first), measure(second)))
        found = [changes(a, b, least) for a, b in scenes if len(a.things) == len(b.things)]
        out["by_kind"][kind] = sum(len(c) == 1 for c in found) / n
        out["unchanged"][kind] = sum(not c for c in found) / n
        out["count_differs"][kind] = 1 - len(found) / n
        table = {name: sum(name in {p for _, p in c} for c in found) / n for name in PROPERTIES}
        out["table"][kind] = table
        out["main"][kind] = max(table, key=table.get) if any(table.values()) else None
    return {**out, "share": float(np.mean(list(out["by_kind"].values()))), "thresholds": least}


def the_thing(scene):
    """What a word is measured on in `sentences_with`: the first thing; None if there is none."""
    return scene.things[0] if scene.things else None


def value_distances(draw, seed, main, n=12):
    """How far apart are the two nearest words of a kind, in the property that the kind sets? In n sentences for each kind.

    main: {kind: property} of `one_word_one_property`. The distance of two words is the mean over the sentences that training
    shows with both. -> {kind: {"n": pictures, "property", "words": the nearest two, "distance" >= 0, "unit"}}; of areas the
    ratio (>= 1) and of outlines the IoU (in [0, 1], 1 for the same) is told. A kind that sets nothing has None for a value.
    """
    rng = np.random.default_rng(seed)
    out = {}
    for kind, name in main.items():
        words = KINDS[kind]
        frames = sentences_with(kind, words[0], n, rng)
        slot = "relation2" if kind == "relation" else kind
        cells = [(i, j) for j, s in enumerate(frames) for i, w in enumerate(words) if is_seen({**s, slot: w})]
        out[kind] = None
        if not name:
            continue
        scenes = measure(draw([render({**frames[j], slot: words[i]}) for i, j in cells]))
        at = {c: m for c, s in zip(cells, scenes) if (m := s.ground if name == GROUND else the_thing(s)) is not None}
        apart = {}
        for a in range(len(words)):
            for b in range(a):
                both = [distance(name, at[a, j], at[b, j]) for j in range(n) if (a, j) in at and (b, j) in at]
                if both:
                    apart[words[b], words[a]] = float(np.mean(both))
        if apart:
            nearest = min(apart, key=apart.get)
            out[kind] = {"n": len(cells), "property": name, "words": list(nearest), **_as_told(name, apart[nearest])}
    return out


def _as_told(name, value):
    if name == "outline":
        return {"distance": 1 - value, "unit": "IoU"}
    if name == "size":
        return {"distance": float(np.exp(value)), "unit": "area ratio"}
    return {"distance": value, "unit": PROPERTIES[name].unit}


def reading_features(kind, scenes):
    """Scenes -> {property: (n, k)} of the thing that a kind is said of, and of the ground. A missing thing has the mean."""
    out = {GROUND: vectors(GROUND, [s.ground for s in scenes])}
    things = [the_thing(s) for s in scenes]
    there = np.array([t is not None for t in things])
    for name in OF_THINGS:
        some = vectors(name, [t for t in things if t is not None]) if there.any() else np.zeros((0, 1))
        out[name] = np.zeros((len(things), some.shape[1]))
        out[name][there] = some
        out[name][~there] = some.mean(0) if there.any() else 0
    return out


def nearest_mean(taught, words, asked):
    """Two {property: (n, k)}, (m, k), the word of each of the n -> for each of the m the word whose examples have the nearest
    mean. Each property is divided by its spread among examples of one word, and at least by half of what counts as a
    difference: a property that goes with the word counts for much, one that varies anyway for little."""
    kinds, of = np.unique(words, return_inverse=True)
    total = 0
    for name, values in taught.items():
        means = np.stack([values[of == i].mean(0) for i in range(len(kinds))])
        least = PROPERTIES[name].least
        if name == "outline":  # of masks, which differ in least x area pixels
            least = np.sqrt(least * values.sum(1).mean())
        spread = np.sqrt(((values - means[of]) ** 2).sum(1).mean())
        total = total + ((asked[name][:, None] - means) ** 2).sum(-1) / max(spread, least / 2) ** 2
    return kinds[np.argmin(total, 1)]


def naive_reader_on_properties(draw, seed, shots=4, n=60, repeats=3):
    """Which word was it, from measured properties, after `shots` examples a word with all else random? Accuracy in [0, 1] of
    `nearest_mean` on n new sentences for each kind, mean of `repeats` sets of examples.

    -> {"n": sentences asked in all, "accuracy": mean over kinds, "by_kind", "chance": {kind: 1 / words}}.
    """
    rng = np.random.default_rng(seed)
    by_kind = {}
    for kind, words in KINDS.items():
        answers = [words[i % len(words)] for i in range(n)]
        asked = reading_features(kind, measure(draw([render(sentences_with(kind, w, 1, rng)[0]) for w in answers])))
        right = []
        for _ in range(repeats):
            taught = [(w, s) for w in words for s in sentences_with(kind, w, shots, rng)]
            scenes = measure(draw([render(s) for _, s in taught]))
            read = nearest_mean(reading_features(kind, scenes), [w for w, _ in taught], asked)
            right.append(np.mean(read == np.array(answers)))
        by_kind[kind] = float(np.mean(right))
    chance = {kind: 1 / len(words) for kind, words in KINDS.items()}
    return {
        "n": n * len(KINDS),
        "accuracy": float(np.mean(list(by_kind.values()))),
        "by_kind": by_kind,
        "chance": chance,
    }


def topographic_similarity_measured(draw, seed, n=150):
    """Spearman correlation in [-1, 1], over all pairs of n sentences of one or two things, of how many slots differ and how far
    apart the measured properties are (Brighton & Kirby 2006).

    The latter is the sum over properties of the first and second things, and of the ground, of distance / mean distance; what
    one of the two pictures lacks counts 1 each, as a usual difference does.
    -> {"n", "pairs", "correlation"}; None if all pictures are the same.
    """
    slots = random_slots(n, np.random.default_rng(seed), (1, 2))
    rows = np.array([to_row(s) for s in slots])
    scenes = measure(draw([render(s) for s in slots]))
    a, b = np.triu_indices(n, 1)
    total = _scaled_distances(GROUND, [s.ground for s in scenes], a, b)
    for number in range(2):
        things = [s.things[number] if len(s.things) > number else None for s in scenes]
        for name in OF_THINGS:
            total = total + _scaled_distances(name, things, a, b)
    correlation = float(spearmanr((rows[a] != rows[b]).sum(1), total)[0]) if np.ptp(total) > 0 else None
    return {"n": n, "pairs": len(a), "correlation": correlation}


def _scaled_distances(name, measured, a, b):
    """Distances of pairs (a, b) of a list with Nones, divided by their mean or the least that counts; (pairs,)."""
    there = np.array([m is not None for m in measured])
    if not there.any():
        return np.zeros(len(a))
    some = vectors(name, [m for m in measured if m is not None])
    values = np.zeros((len(measured), some.shape[1]))
    values[there] = some
    out = np.where(there[a] != there[b], 1.0, 0.0)
    both = there[a] & there[b]
    if both.any():
        apart = distances(name, values[a[both]], values[b[both]])
        out[both] = apart / max(apart.mean(), PROPERTIES[name].least)
    return out
