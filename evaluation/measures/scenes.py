"""Does a word set one visible property? Metrics of pictures, from what `measured_scene` measures in the pixels.

Every function takes `draw`, which turns a list of sentences into pictures (n, 3, 64, 64) in [0, 1] on the CPU, and a
seed, and returns a dict of plain values with `n`. Some also take `read`, which turns pictures into captions. Word
classes are the keys of WORD_CLASSES, properties those of PROPERTIES.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import spearmanr

from evaluation.measures.measured_scene import MeasuredObject, MeasuredScene
from evaluation.measures.scene_properties import (
    BACKGROUND,
    OF_OBJECTS,
    PROPERTIES,
    distance,
    distances,
    measure,
    thresholds,
    vectors,
)
from evaluation.measures.scene_sentences import (
    WORD_CLASSES,
    binding_pairs,
    random_slots,
    random_swaps,
    sentences_with,
)
from metrics import is_exact
from text.grammar import MOST_OBJECTS, render, to_row

Draw = Callable[[list[str]], torch.Tensor]
Read = Callable[[torch.Tensor], list[str]]

SAME_OUTLINE = 0.9  # IoU
SAME_COLOR = 6.0  # dE (CIE76)


def count_accuracy(draw: Draw, seed: int, n: int = 100) -> dict:
    """Share in [0, 1] of pictures with as many objects as the sentence, n sentences each of one, two and three."""
    rng = np.random.default_rng(seed)
    shares = []
    for objects in range(1, MOST_OBJECTS + 1):
        pictures = draw([render(s) for s in random_slots(n, rng, (objects,))])
        shares.append(np.mean([len(scene.objects) == objects for scene in measure(pictures)]))
    return {"n": MOST_OBJECTS * n, "accuracy": float(np.mean(shares))}


def binding(draw: Draw, seed: int, n: int = 500, read: Read | None = None) -> dict:
    """For n pairs "a C1 O1 and a C2 O2" / "a C2 O1 and a C1 O2", shares in [0, 1] of pairs where
    outlines: both objects keep their outline, IoU >= 0.9;
    colors: both objects take the color of the other, dE <= 6, and lose their own, dE > 6;
    binding: all of these and, with `read`, both captions are exact.
    Pictures without two measured objects fail outlines and colors.
    """
    pairs = binding_pairs(n, np.random.default_rng(seed))
    pictures = [draw([pair[i] for pair in pairs]) for i in range(2)]
    outlines = np.zeros(n, bool)
    colors = np.zeros(n, bool)
    exact = np.ones(n, bool)
    for i, (a, b) in enumerate(zip(*map(measure, pictures))):
        if len(a.objects) == len(b.objects) == 2:
            apart = np.array([[distance("color", x, y) for y in b.objects] for x in a.objects])
            colors[i] = np.array_equal(apart <= SAME_COLOR, [[False, True], [True, False]])
            overlaps = [1 - distance("outline", x, y) for x, y in zip(a.objects, b.objects)]
            outlines[i] = min(overlaps) >= SAME_OUTLINE
    if read:
        captions = zip(*(read(p) for p in pictures))
        exact[:] = [is_exact(a, x) and is_exact(b, y) for (a, b), (x, y) in zip(pairs, captions)]
    shares = {"outlines": outlines, "colors": colors, "binding": outlines & colors & exact}
    return {"n": n, **{name: float(values.mean()) for name, values in shares.items()}}


def changes(a: MeasuredScene, b: MeasuredScene, least: dict[str, float]) -> list[tuple[int | str, str]]:
    """Two scenes with equally many objects -> [(index of the object or "background", changed property)]."""
    out = [(BACKGROUND, BACKGROUND)] if distance(BACKGROUND, a.background, b.background) > least[BACKGROUND] else []
    pairs = enumerate(zip(a.objects, b.objects))
    return out + [(i, name) for i, (x, y) in pairs for name in OF_OBJECTS if distance(name, x, y) > least[name]]


def one_word_one_property(draw: Draw, seed: int, n: int = 60) -> dict:
    """Swap one word of each class in n sentences: how many swaps change one property of one object, or the background?

    -> {"n": number of swaps, "share": of swaps that change exactly one property, mean over word classes, "by_class",
    "table": {word class: {property: share of swaps that change it, of any object}}, "main": {word class: the property
    that it changes most, or None}}; shares in [0, 1].
    """
    rng = np.random.default_rng(seed)
    swaps = {word_class: random_swaps(n, word_class, rng) for word_class in WORD_CLASSES}
    pictures = {
        word_class: [draw([render(pair[i]) for pair in pairs]) for i in range(2)] for word_class, pairs in swaps.items()
    }
    least = thresholds(torch.cat([first[: max(1, n // 3)] for first, _ in pictures.values()]), seed)
    out = {name: {} for name in ("by_class", "table", "main")}
    for word_class, (first, second) in pictures.items():
        scenes = list(zip(measure(first), measure(second)))
        found = [changes(a, b, least) for a, b in scenes if len(a.objects) == len(b.objects)]
        out["by_class"][word_class] = sum(len(c) == 1 for c in found) / n
        table = {name: sum(name in {p for _, p in c} for c in found) / n for name in PROPERTIES}
        out["table"][word_class] = table
        out["main"][word_class] = max(table, key=table.get) if any(table.values()) else None
    share = float(np.mean(list(out["by_class"].values())))
    return {"n": n * len(WORD_CLASSES), "share": share, **out}


def first_object(scene: MeasuredScene) -> MeasuredObject | None:
    """The object of which a word of `sentences_with` is measured; None if there is none."""
    return scene.objects[0] if scene.objects else None


def reading_features(scenes: list[MeasuredScene]) -> dict[str, np.ndarray]:
    """Scenes -> {property: (n, k)} of the `first_object`, whose absence has the mean values, and of the background."""
    out = {BACKGROUND: vectors(BACKGROUND, [s.background for s in scenes])}
    objects = [first_object(s) for s in scenes]
    there = np.array([t is not None for t in objects])
    for name in OF_OBJECTS:
        some = vectors(name, [t for t in objects if t is not None]) if there.any() else np.zeros((0, 1))
        out[name] = np.zeros((len(objects), some.shape[1]))
        out[name][there] = some
        out[name][~there] = some.mean(0) if there.any() else 0
    return out


def nearest_mean(train: dict[str, np.ndarray], words: list[str], test: dict[str, np.ndarray]) -> np.ndarray:
    """Two {property: (n, k)}, (m, k), and the word of each of the n -> for each of the m the word whose examples have
    the nearest mean. Each property is divided by its spread among examples of one word, at least half of the least
    difference that counts: a property that depends on the word has a large weight, one that varies with other words a
    small one."""
    names, of = np.unique(words, return_inverse=True)
    total = 0
    for name, values in train.items():
        means = np.stack([values[of == i].mean(0) for i in range(len(names))])
        least = PROPERTIES[name].least
        if name == "outline":  # of masks, which differ in least x area pixels
            least = np.sqrt(least * values.sum(1).mean())
        spread = np.sqrt(((values - means[of]) ** 2).sum(1).mean())
        total = total + ((test[name][:, None] - means) ** 2).sum(-1) / max(spread, least / 2) ** 2
    return names[np.argmin(total, 1)]


def naive_reader_on_properties(draw: Draw, seed: int, shots: int = 4, n: int = 60, repeats: int = 3) -> dict:
    """Accuracy in [0, 1] of `nearest_mean` on measured properties, after `shots` examples of each word with random
    other words: on n new sentences for each word class, mean of `repeats` sets of examples.

    -> {"n": number of test sentences, "accuracy": mean over word classes}.
    """
    rng = np.random.default_rng(seed)
    accuracies = []
    for word_class, words in WORD_CLASSES.items():
        answers = [words[i % len(words)] for i in range(n)]
        test = reading_features(measure(draw([render(sentences_with(word_class, w, 1, rng)[0]) for w in answers])))
        right = []
        for _ in range(repeats):
            examples = [(w, s) for w in words for s in sentences_with(word_class, w, shots, rng)]
            scenes = measure(draw([render(s) for _, s in examples]))
            read = nearest_mean(reading_features(scenes), [w for w, _ in examples], test)
            right.append(np.mean(read == np.array(answers)))
        accuracies.append(np.mean(right))
    return {"n": n * len(WORD_CLASSES), "accuracy": float(np.mean(accuracies))}


def topographic_similarity_measured(draw: Draw, seed: int, n: int = 150) -> dict:
    """Spearman correlation in [-1, 1], over all pairs of n sentences of one or two objects, between the number of slots
    that differ and the distance of the measured properties (Brighton & Kirby 2006).

    That distance is the sum of distance / mean distance over the properties of the first and second objects and of the
    background; a property that only one of the pictures has adds 1. -> {"n", "correlation"}; None if all pictures are
    the same.
    """
    slots = random_slots(n, np.random.default_rng(seed), (1, 2))
    rows = np.array([to_row(s) for s in slots])
    scenes = measure(draw([render(s) for s in slots]))
    a, b = np.triu_indices(n, 1)
    total = _scaled_distances(BACKGROUND, [s.background for s in scenes], a, b)
    for number in range(2):
        objects = [s.objects[number] if len(s.objects) > number else None for s in scenes]
        for name in OF_OBJECTS:
            total = total + _scaled_distances(name, objects, a, b)
    correlation = float(spearmanr((rows[a] != rows[b]).sum(1), total)[0]) if np.ptp(total) > 0 else None
    return {"n": n, "correlation": correlation}


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
