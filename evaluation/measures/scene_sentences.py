"""Sentences whose pictures are measured. None has a pair of words or a frame that training never shows.

A slot dict is {slot: word} of a sentence.
"""

from __future__ import annotations

import numpy as np

from text.grammar import (
    BACKGROUNDS,
    COLORS,
    OBJECT_PARTS,
    OBJECTS,
    RELATIONS,
    SLOTS,
    SUFFIXES,
    WITHOUT_ARTICLES,
    in_split,
    render,
    sample_rows,
    to_dict,
    to_row,
)

Slots = dict[str, str]

WORD_CLASSES = {**OBJECT_PARTS, "background": BACKGROUNDS, "relation": RELATIONS}

SEEN_SPLITS = ("train", "val", "test")  # their pairs of words and frames are those of training


def objects_of(slots: Slots) -> int:
    """The number of objects in a slot dict."""
    return sum("object" + suffix in slots for suffix in SUFFIXES)


def is_seen(slots: Slots) -> bool:
    """Whether its pairs of words and its frame occur in training."""
    row = to_row(slots)[None]
    return any(in_split(row, split)[0] for split in SEEN_SPLITS)


def random_slots(
    n: int, rng: np.random.Generator, objects: tuple[int, ...] = (1, 2, 3), word_class: str | None = None
) -> list[Slots]:
    """n slot dicts of the grammar with one of these numbers of objects, and with a word of a class."""
    out = []
    while len(out) < n:
        some = [to_dict(row) for row in sample_rows(20 + 4 * n, "train", rng)]
        out += [s for s in some if objects_of(s) in objects and (word_class is None or slots_of_class(s, word_class))]
    return out[:n]


def slots_of_class(slots: Slots, word_class: str) -> list[str]:
    """Names of the slots of a dict whose word can be swapped for another of its class."""
    if word_class == "relation" and slots.get(WITHOUT_ARTICLES):
        return []  # that frame has "and" only
    return [name for name in SLOTS if name.rstrip("23") == word_class and name in slots]


def swapped(slots: Slots, name: str, rng: np.random.Generator, words: tuple[str, ...]) -> Slots | None:
    """A slot dict with another one of the words in a slot, or None if none of them `is_seen`."""
    others = [{**slots, name: str(w)} for w in rng.permutation([w for w in words if w != slots[name]])]
    return next((s for s in others if is_seen(s)), None)


def random_swaps(n: int, word_class: str, rng: np.random.Generator) -> list[tuple[Slots, Slots]]:
    """n pairs of slot dicts that differ in one word of a class."""
    out = []
    while len(out) < n:
        for slots in random_slots(n - len(out), rng, word_class=word_class):
            other = swapped(slots, str(rng.choice(slots_of_class(slots, word_class))), rng, WORD_CLASSES[word_class])
            out += [(slots, other)] if other else []
    return out


def sentences_with(word_class: str, word: str, n: int, rng: np.random.Generator) -> list[Slots]:
    """n slot dicts with a word in the first slot of its class: one object, or two for a relation."""
    out = []
    while len(out) < n:
        for slots in random_slots(n, rng, objects=(2,) if word_class == "relation" else (1,), word_class=word_class):
            out.append({**slots, slots_of_class(slots, word_class)[0]: word})
        out = [s for s in out if is_seen(s)]
    return out[:n]


def binding_pairs(n: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """n pairs of sentences "a C1 O1 and a C2 O2", "a C2 O1 and a C1 O2", all four pairs of words occur in training."""
    out = []
    while len(out) < n:
        c = rng.choice(len(COLORS), 2, replace=False)
        objects = [OBJECTS[i] for i in rng.choice(len(OBJECTS), 2, replace=False)]
        both = {"object": objects[0], "relation2": "and", "object2": objects[1]}
        first, second = ({**both, "color": COLORS[a], "color2": COLORS[b]} for a, b in (c, c[::-1]))
        if is_seen(first) and is_seen(second):
            out.append((render(first), render(second)))
    return out
