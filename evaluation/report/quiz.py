"""The quiz on the page: can a person who never saw the language learn ten of its words, and then read twenty scenes?

A person and the naive reader (`legibility.naive_reading`) learn from the same pictures and answer the same questions.
The scenes to learn from and the scenes to read are disjoint. In the scenes to learn from, the other words are any of
the language: if they were among the ten words, a combination missing from the examples would be more likely in the
questions. The page needs no server.
"""

from __future__ import annotations

import itertools

import numpy as np

from evaluation.measures.legibility import FOUR_SLOTS, naive_reading, random_slots
from evaluation.protocol import ModelUnderTest
from text.grammar import RARE_COLOR, RARE_OBJECT, SLOT_WORDS, render
from training.snapshots import data_uri

FORMAT = 1  # of the answers that a person downloads
WORDS = {"size": 2, "color": 3, "object": 3, "position": 2}  # ten words
EXAMPLES = 4  # pictures a word to learn from
SCENES = 20  # to read

# Linear RGB as seen with deuteranopia (Machado, Oliveira & Fernandes 2009, severity 1)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
# Shifts the invisible part from red to green and blue (Fidaner, Lin & Ozguven 2005)
MOVED_TO = np.array([[0.0, 0.0, 0.0], [0.7, 1.0, 0.0], [0.7, 0.0, 1.0]])


def color_blind_filter() -> np.ndarray:
    """The matrix of linear RGB that shifts differences of red and green to visible colors -> (3, 3)."""
    return np.eye(3) + MOVED_TO @ (np.eye(3) - DEUTERANOPIA)


def color_matrix() -> str:
    """`color_blind_filter` as the values of an SVG feColorMatrix, which works in linear RGB."""
    return " ".join(f"{v:.4f}" for row in color_blind_filter() for v in (*row, 0, 0)) + " 0 0 0 1 0"


def ten_words(rng: np.random.Generator) -> dict[str, list[str]]:
    """Words of WORDS, without those that are rare in training -> {slot: [words]}."""
    rare = (RARE_COLOR, RARE_OBJECT)
    common = {slot: [w for w in SLOT_WORDS[slot] if w not in rare] for slot in FOUR_SLOTS}
    chosen = {slot: sorted(rng.choice(len(words), WORDS[slot], False)) for slot, words in common.items()}
    return {slot: [common[slot][i] for i in rows] for slot, rows in chosen.items()}


def scenes_to_read(words: dict[str, list[str]], rng: np.random.Generator) -> list[dict[str, str]]:
    """SCENES different combinations of the words, as slot dicts."""
    every = [dict(zip(words, combination)) for combination in itertools.product(*words.values())]
    return [every[i] for i in rng.permutation(len(every))[:SCENES]]


def examples(slot: str, word: str, unseen: list[dict], rng: np.random.Generator) -> list[dict[str, str]]:
    """EXAMPLES different slot dicts with a word and any other words; none of them is in `unseen`."""
    found = []
    while len(found) < EXAMPLES:
        [slots] = random_slots(1, rng, **{slot: word})
        if slots not in unseen and slots not in found:
            found.append(slots)
    return found


def quiz(model: ModelUnderTest, seed: int) -> dict:
    """The quiz of a model of the grammar -> a dict for JSON."""
    rng = np.random.default_rng([seed, 20])
    words = ten_words(rng)
    read = scenes_to_read(words, rng)
    to_read = model.draw([render(s) for s in read])
    pictures, entries, naive = [], [], {}
    for slot in words:
        labels = [word for word in words[slot] for _ in range(EXAMPLES)]
        seen = model.draw([render(s) for word in words[slot] for s in examples(slot, word, read, rng)])
        for k, word in enumerate(words[slot]):
            start = len(pictures) + k * EXAMPLES
            entries.append({"word": word, "slot": slot, "pictures": list(range(start, start + EXAMPLES))})
        pictures += [data_uri(p) for p in seen]
        answers = naive_reading(seen, labels, to_read)
        naive[slot] = sum(str(a) == s[slot] for a, s in zip(answers, read))
    return {
        "format": FORMAT,
        "seed": seed,
        "slots": [{"slot": slot, "words": words[slot]} for slot in words],
        "words": entries,
        "pictures": pictures,
        "scenes": [{"picture": data_uri(p), "text": render(s), "answers": s} for p, s in zip(to_read, read)],
        "naive": naive,
    }
