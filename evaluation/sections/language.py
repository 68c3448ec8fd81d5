"""The sections about the language itself: its structure, and the meaning of its words."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch.nn.functional as F
from scipy.spatial.distance import squareform
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

import metrics
from evaluation.measures.color_difference import color_difference
from evaluation.measures.features import FEATURES, edit_distances, symbols_of
from evaluation.measures.legibility import FOUR_SLOTS, as_seen, random_slots, standardized, word_scenes
from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, Protocol
from imaging.color import srgb_to_lab
from text.grammar import SLOT_WORDS, render

SYNONYMS = {  # id: (slot, words)
    "ball_sphere_circle": ("object", ("ball", "sphere", "circle")),
    "cube_box_square": ("object", ("cube", "box", "square")),
    "center_middle": ("position", ("center", "middle")),
}


# ---------------------------------------------------------------------------------------------
# Structure
# ---------------------------------------------------------------------------------------------


def structure_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Topographic similarity, disentanglement and synonyms, beside other scene decoders and shuffled pictures."""
    of_words, found = Metrics(seed), Metrics(seed)
    free = model.sentences(protocol.structure, "test", seed + 3)
    drawn = model.draw_with_baselines(free, seed)
    _add_topographic_similarity(of_words, "words", drawn, edit_distances(free), protocol)
    advance(0.4)
    if model.lines is not None:
        return {"metrics": of_words, "details": {}}
    slots = random_slots(protocol.structure, np.random.default_rng(seed))
    pictures = model.draw_with_baselines([render(s) for s in slots], seed)
    codes = np.array([[SLOT_WORDS[k].index(s[k]) for k in FOUR_SLOTS] for s in slots])  # (n, 4)
    hamming = squareform((codes[:, None] != codes[None]).sum(2))
    _add_topographic_similarity(found, "slots", pictures, hamming, protocol)
    found |= of_words
    advance(0.4)
    _add_disentanglement(found, pictures, codes)
    _add_synonyms(found, model.draw, 4 if protocol.quick else 10)
    return {"metrics": found, "details": {}}


def _add_topographic_similarity(found, space, pictures, meaning, protocol):
    """Add metrics of pictures {decoder: (n, 3, 64, 64)} and condensed distances in a space, "slots" or "words"."""
    for name, (label, features) in FEATURES.items():
        similarity = {"shuffled_pictures": (0.0, None)}
        for decoder, drawn in pictures.items():
            form = metrics.pairwise_rmse(features(as_seen(drawn)))
            similarity[decoder] = metrics.topographic_similarity(meaning, form, found.seed, protocol.permutations)
        p = similarity[OWN][1]
        note = f"Mantel p = {p:.4g} ({protocol.permutations} permutations)"
        about = {"low": -1.0, "better": "high", "mantel_p": p, "note": note}
        values = {decoder: rho for decoder, (rho, _) in similarity.items()}
        id, label = f"topographic_similarity/{space}/{name}", f"topographic similarity · {space}, {label}"
        found.add(id, label, values, len(pictures[OWN]), **about)


def _add_disentanglement(found, pictures, codes):
    """Add metrics of pictures {decoder: (n, 3, 64, 64)} and the indices of the words in the slots (n, slots)."""
    symbols = {decoder: symbols_of(drawn, found.seed) for decoder, drawn in pictures.items()}
    of = {"posdis": metrics.positional_disentanglement, "bosdis": metrics.bag_of_symbols_disentanglement}
    for name, score in of.items():
        values = {
            decoder: score(codes, some) - metrics.shuffled_null(score, codes, some, found.seed, 3)
            for decoder, some in symbols.items()
        }
        found.add(name, f"{name}, shuffled null subtracted", values, len(codes), low=-1.0, better="high")


def _add_synonyms(found, draw, contexts):
    """Add the mean color difference (CIE76) of near-synonyms, beside that of all other pairs of words of the slot."""
    for name, (slot, group) in SYNONYMS.items():
        scenes, _ = word_scenes(draw, slot, found.seed, contexts)
        inside, rest = [], []
        words = SLOT_WORDS[slot]
        for i, first in enumerate(words):
            for j in range(i + 1, len(words)):
                distances = inside if first in group and words[j] in group else rest
                distances.append(float(color_difference(scenes[i], scenes[j]).mean()))
        label = f"distance of synonyms · {', '.join(group)} (ΔE)"
        values = {OWN: float(np.mean(inside)), "other_pairs": float(np.mean(rest))}
        found.add(f"synonym_distance/{name}", label, values, contexts, high=None, group=slot)


# ---------------------------------------------------------------------------------------------
# Meaning of words
# ---------------------------------------------------------------------------------------------


def meaning_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Linear probes slot <- picture; distances within a word and between words, in CIELAB."""
    found = Metrics(seed)
    rng = np.random.default_rng([seed, 5])
    train = random_slots(protocol.probe, rng)
    test = random_slots(max(200, protocol.probe // 3), rng)
    pictures = [model.draw([render(s) for s in slots]) for slots in (train, test)]
    _add_probes(found, train, test, pictures, rng)
    _add_word_distances(found, test[:200], pictures[1][:200], rng)
    return {"metrics": found, "details": {}}


def _add_probes(found, train, test, pictures, rng):
    """Add metrics of linear probes. train, test: dicts of slot words; pictures: of both, each (n, 3, 64, 64)."""
    small = [F.avg_pool2d(as_seen(p, i), 2).flatten(1).numpy() for i, p in enumerate(pictures)]  # (n, 3 32 32)
    reduce = PCA(min(100, len(train) // 2), random_state=found.seed).fit(small[0])
    x, y = standardized(*(reduce.transform(s) for s in small))
    for slot in FOUR_SLOTS:
        known = np.array([s[slot] for s in train])
        wanted = np.array([s[slot] for s in test])
        right = LogisticRegression(C=0.1, max_iter=300).fit(x, known).predict(y) == wanted
        by_chance = LogisticRegression(C=0.1, max_iter=300).fit(x, rng.permutation(known)).predict(y) == wanted
        common = max(SLOT_WORDS[slot], key=list(known).count)
        values = {OWN: right.mean(), "shuffled_words": by_chance.mean(), "majority": (wanted == common).mean()}
        interval = metrics.bootstrap_interval(right, found.seed)
        about = {"interval": interval, "better": "high", "group": slot}
        found.add(f"probe/{slot}", f"linear probe · {slot}", values, len(test), **about)


def _add_word_distances(found, slots, pictures, rng):
    """Add the mean color distance of pictures (n, 3, 64, 64) that share a word over that of those that do not."""
    lab = srgb_to_lab(F.avg_pool2d(pictures, 4), axis=1).flatten(1).numpy()
    apart = metrics.pairwise_rmse(lab) * math.sqrt(3)
    for slot in FOUR_SLOTS:
        words = np.array([s[slot] for s in slots])
        at_random = rng.permutation(words)
        values = {OWN: _within_over_between(apart, words), "shuffled_words": _within_over_between(apart, at_random)}
        label = f"distance within a word / between words · {slot}"
        id = f"word_distance_ratio/{slot}"
        found.add(id, label, values, len(slots), high=None, better="low", group=slot)


def _within_over_between(apart, words):
    """Condensed distances (n (n - 1) / 2,) and n words -> ratio of means >= 0; 1 where no two pictures differ."""
    same = squareform(words[:, None] == words[None], checks=False)
    between = apart[~same].mean()
    return float(apart[same].mean() / max(1e-9, between)) if between > 1e-6 else 1.0
