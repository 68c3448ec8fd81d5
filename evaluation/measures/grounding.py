"""Do pictures show what a grounding file sets? A reader without the model reads grounded words from the pixels.

The reader knows the grounding file (`text/grounding.py`) and nothing else: no picture, no sentence, no weights. It
reads the nearest color in CIELAB. It does not know the units of positions and areas: over all pictures in which it
reads a position, it maps the range of the measured centroids to the range of positions in the file, and likewise for
the logarithms of areas. Some measurements may be wrong, so a range ends at the quantiles at which the outermost words
lie if all words are equally common.

The sentences name one object. In scenes with more objects, objects are smaller and their positions are in smaller
territories, which the reader does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from evaluation.measures.measured_scene import MeasuredObject, to_lab
from evaluation.measures.scenes import measure, sentences_with
from text.grammar import OBJECT_PARTS, render


@dataclass(frozen=True)
class Aspect:
    """What the reader reads of an object."""

    parts: tuple[str, ...]  # of a word in the grounding file
    measured: Callable[[MeasuredObject], np.ndarray]  # (k,), as many values as the parts have
    has_unit: bool  # the measured values have the unit of the file, so they are not scaled


ASPECTS = {
    "color": Aspect(("color",), lambda obj: obj.lab, True),
    "position": Aspect(("x", "y"), lambda obj: obj.center, False),
    "size": Aspect(("size",), lambda obj: np.log([obj.area]), False),
}


def points_of(name: str, grounded_words: dict[str, dict]) -> tuple[list[str], np.ndarray]:
    """An aspect of {word: parts} -> words, their values (words, k) in CIELAB or in [0, 1], NaN where there is none."""
    parts = ASPECTS[name].parts
    words = [word for word, of in grounded_words.items() if any(part in of for part in parts)]
    rows = [[np.atleast_1d(grounded_words[word].get(part, np.nan)) for part in parts] for word in words]
    values = np.array([np.concatenate(row) for row in rows], np.float64)
    return words, to_lab(values) if name == "color" and words else values


def scaled(measured: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Measured values (n, k), each column scaled to the range of the file's values (words, k), which may be NaN."""
    share = 50 / len(points)
    low, high = np.percentile(measured, (share, 100 - share), axis=0)
    least, most = np.nanmin(points, 0), np.nanmax(points, 0)
    return least + (measured - low) / np.maximum(high - low, 1e-9) * (most - least)


def read(name: str, pictures: torch.Tensor, points: np.ndarray) -> np.ndarray:
    """Pictures (n, 3, 64, 64) and the values of words for an aspect (words, k) -> the index of the nearest word for
    each picture (n,), -1 for a picture without an object. Distances are means of squares over the values that the file
    has for a word. The largest object is read."""
    aspect = ASPECTS[name]
    objects = [max(scene.objects, key=lambda obj: obj.area, default=None) for scene in measure(pictures)]
    is_found = np.array([obj is not None for obj in objects])
    out = np.full(len(objects), -1)
    if is_found.any():
        measured = np.array([aspect.measured(obj) for obj in objects if obj is not None], np.float64)
        columns = ~np.isnan(points).all(0)
        measured, points = measured[:, columns], points[:, columns]
        if not aspect.has_unit:
            measured = scaled(measured, points)
        out[is_found] = np.nanmean((measured[:, None] - points) ** 2, -1).argmin(1)
    return out


def grounding_accuracy(
    draw: Callable[[list[str]], torch.Tensor], grounded_words: dict[str, dict], seed: int, n: int = 300
) -> dict[str, dict]:
    """Share of pictures in which the reader reads the grounded word, for each aspect with two or more values.

    draw: sentences -> pictures (n, 3, 64, 64) in [0, 1] on the CPU; grounded_words: {word: parts}; n: the least number
    of pictures of an aspect, equally many for each word. Only words of an object are read. -> {aspect: {"n",
    "accuracy": in [0, 1], "chance": one over the number of different values}}. Words with equal values count as one.
    """
    class_of = {word: word_class for word_class, words in OBJECT_PARTS.items() for word in words}
    grounded_words = {word: parts for word, parts in grounded_words.items() if word in class_of}
    rng = np.random.default_rng(seed)
    out = {}
    for name in ASPECTS:
        words, points = points_of(name, grounded_words)
        different = len({tuple(row) for row in np.nan_to_num(points, nan=-1.0).tolist()})
        if different < 2:
            continue
        each = -(-n // len(words))
        sentences = [render(s) for word in words for s in sentences_with(class_of[word], word, each, rng)]
        found = read(name, draw(sentences), points)
        wanted = np.repeat(np.arange(len(words)), each)
        is_equal = (points[wanted] == points[found]) | np.isnan(points[wanted]) & np.isnan(points[found])
        right = (found >= 0) & is_equal.all(1)
        out[name] = {"n": len(right), "accuracy": float(right.mean()), "chance": 1 / different}
    return out
