"""Is what a user said drawn so? A reader that never saw the model reads given words from the pixels of pictures.

It knows what the user said (`text/grounding.py`) and nothing else: no picture, no sentence, no weights. Colors are the nearest
ones in CIELAB. Of places and areas it knows no units: over all pictures in which it is asked for a place, it takes the range of
centroids that it sees for the range of places that the user gave, and so with the logarithms of areas. A few things may be
measured wrong, so the ends of a range are where the middle of the outmost word is if all words are as common.

The sentences speak of one thing. The territories of scenes with more things are smaller, so a place there is less far from the
middle, and every thing is smaller; the reader would have to be told where the territories are.
"""

from typing import NamedTuple

import numpy as np

from evaluation.measures.measured_scene import to_lab
from evaluation.measures.scenes import measure, sentences_with
from text.grammar import OF_A_THING, render


class Aspect(NamedTuple):
    """What the reader is asked for: the parts of a grounding that say it, what is measured of a thing, and in which unit."""

    parts: tuple
    measured: object  # MeasuredThing -> (k,) array, as many as the parts have numbers
    has_unit: bool  # the same as the user's, so that nothing must be scaled


ASPECTS = {
    "color": Aspect(("color",), lambda thing: thing.lab, True),
    "position": Aspect(("x", "y"), lambda thing: thing.center, False),
    "size": Aspect(("size",), lambda thing: np.log([thing.area]), False),
}


def points_of(name, given):
    """What a user said of an aspect, {word: parts} -> words, (n, k) numbers, NaN where nothing is said: CIELAB, or [0, 1]."""
    parts = ASPECTS[name].parts
    words = [word for word, said in given.items() if any(part in said for part in parts)]
    numbers = [np.concatenate([np.atleast_1d(given[word].get(part, np.nan)) for part in parts]) for word in words]
    return words, to_lab(np.array(numbers)) if name == "color" and words else np.array(numbers, np.float64)


def scaled(measured, points):
    """Measured numbers (n, k), and what a user said (words, k), NaN where nothing -> the measured ones so that, in each column,
    the range that is seen is the range that the user gave."""
    share = 50 / len(points)
    low, high = np.percentile(measured, (share, 100 - share), axis=0)
    least, most = np.nanmin(points, 0), np.nanmax(points, 0)
    return least + (measured - low) / np.maximum(high - low, 1e-9) * (most - least)


def read(name, pictures, points):
    """Pictures (n, 3, 64, 64) and what a user said of an aspect (words, k) -> the number of the nearest word for each picture,
    -1 for one that shows nothing. Of a word, only what is said of it counts, mean of squares. The largest thing is asked."""
    aspect = ASPECTS[name]
    things = [max(scene.things, key=lambda thing: thing.area, default=None) for scene in measure(pictures)]
    there = np.array([thing is not None for thing in things])
    out = np.full(len(things), -1)
    if there.any():
        measured = np.array([aspect.measured(thing) for thing in things if thing is not None], np.float64)
        spoken_of = ~np.isnan(points).all(0)
        measured, points = measured[:, spoken_of], points[:, spoken_of]
        if not aspect.has_unit:
            measured = scaled(measured, points)
        out[there] = np.nanmean((measured[:, None] - points) ** 2, -1).argmin(1)
    return out


def given_accuracy(draw, given, seed, n=300):
    """Share of pictures in which the reader names what the user said, for each aspect of which the user told at least two words
    apart.

    draw: sentences -> pictures (n, 3, 64, 64) in [0, 1] on the CPU; given: {word: parts}, of `given_words`; n: the least number
    of pictures for an aspect, as many for each word. Only words that the grammar says of a thing are asked.
    -> {aspect: {"n", "accuracy": in [0, 1], "chance": one over the number of different values, "by_word": {word: accuracy},
    "mistaken": {word: {the word read instead, or "": count}}}}. Words of which the same is said count as one.
    """
    kind_of = {word: kind for kind, words in OF_A_THING.items() for word in words}
    given = {word: said for word, said in given.items() if word in kind_of}
    rng = np.random.default_rng(seed)
    out = {}
    for name in ASPECTS:
        words, points = points_of(name, given)
        different = len({tuple(row) for row in np.nan_to_num(points, nan=-1.0).tolist()})
        if different < 2:
            continue
        each = -(-n // len(words))
        sentences = [render(s) for word in words for s in sentences_with(kind_of[word], word, each, rng)]
        found = read(name, draw(sentences), points)
        asked = np.repeat(np.arange(len(words)), each)
        right = (found >= 0) & np.all(
            (points[asked] == points[found]) | np.isnan(points[asked]) & np.isnan(points[found]), 1
        )
        mistaken = {}
        for word, answer in zip(asked[~right], found[~right]):
            wrong = mistaken.setdefault(words[word], {})
            read_as = words[answer] if answer >= 0 else ""
            wrong[read_as] = wrong.get(read_as, 0) + 1
        by_word = dict(zip(words, right.reshape(len(words), each).mean(1).tolist()))
        accuracy = float(right.mean())
        out[name] = {
            "n": len(right),
            "accuracy": accuracy,
            "chance": 1 / different,
            "by_word": by_word,
            "mistaken": mistaken,
        }
    return out
