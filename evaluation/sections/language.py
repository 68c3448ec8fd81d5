"""The sections of an evaluation about the language itself: its structure, and what its words mean.

Sections as in `reading`.
"""

import math

import numpy as np
import torch.nn.functional as F
from scipy.spatial.distance import squareform
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

import metrics
from evaluation.measures import legibility
from evaluation.measures.color_difference import color_difference
from evaluation.measures.features import FEATURES, edit_distances, symbols_of
from evaluation.measures.legibility import FOUR_SLOTS, as_seen, draw_slots, random_slots, word_scenes
from evaluation.metric import OWN, metric
from imaging.color import srgb_to_lab
from text import grammar
from text.grammar import SLOT_WORDS

SYNONYMS = {  # id: (slot, words)
    "ball_sphere_circle": ("object", ("ball", "sphere", "circle")),
    "cube_box_square": ("object", ("cube", "box", "square")),
    "center_middle": ("position", ("center", "middle")),
}


# ---------------------------------------------------------------------------------------------
# Structure
# ---------------------------------------------------------------------------------------------


def structure_section(model, protocol, seed, advance):
    """Topographic similarity, disentanglement and synonyms, beside other scene decoders and shuffled pictures."""
    free = model.sentences(protocol.structure, "test", seed + 3)
    words = _topographic_similarity(
        "words", model.draw_with_baselines(free, seed), edit_distances(free), protocol, seed
    )
    advance(0.4)
    if model.lines is not None:
        return {"metrics": words, "details": {}}
    slots = random_slots(protocol.structure, np.random.default_rng(seed))
    pictures = model.draw_with_baselines([grammar.render(s) for s in slots], seed)
    codes = np.array([[SLOT_WORDS[k].index(s[k]) for k in FOUR_SLOTS] for s in slots])  # (n, 4)
    hamming = squareform((codes[:, None] != codes[None]).sum(2))
    found = _topographic_similarity("slots", pictures, hamming, protocol, seed) | words
    advance(0.4)
    found |= _disentanglement(pictures, codes, seed)
    found |= _synonyms(model.draw, seed, 4 if protocol.quick else 10)
    return {"metrics": found, "details": {}}


def _topographic_similarity(space, pictures, meaning, protocol, seed):
    """Pictures {decoder: (n, 3, 64, 64)} and condensed distances of their meanings in a space, "slots" or "words" -> metrics."""
    found = {}
    for name, (label, features) in FEATURES.items():
        similarity = {}
        for decoder, drawn in pictures.items():
            form = metrics.pairwise_rmse(features(as_seen(drawn)))
            similarity[decoder] = metrics.topographic_similarity(meaning, form, seed, protocol.permutations)
        rho, p = similarity.pop(OWN)
        found |= metric(
            f"topographic_similarity/{space}/{name}",
            f"topographic similarity · {space}, {label}",
            rho,
            len(pictures[OWN]),
            seed,
            baselines={"shuffled_pictures": 0.0, **{decoder: rho for decoder, (rho, _) in similarity.items()}},
            low=-1.0,
            better="high",
            mantel_p=p,
            note=f"Mantel p = {p:.4g} ({protocol.permutations} permutations)",
        )
    return found


def _disentanglement(pictures, codes, seed):
    """Pictures {decoder: (n, 3, 64, 64)} and the words' numbers in the slots (n, slots) -> metrics."""
    found = {}
    measures = {"posdis": metrics.positional_disentanglement, "bosdis": metrics.bag_of_symbols_disentanglement}
    for name, measure in measures.items():
        values = {}
        for decoder, drawn in pictures.items():
            symbols = symbols_of(drawn, seed)
            values[decoder] = measure(codes, symbols) - metrics.shuffled_null(measure, codes, symbols, seed, 3)
        own = values.pop(OWN)
        label = f"{name}, shuffled null subtracted"
        found |= metric(name, label, own, len(codes), seed, baselines=values, low=-1.0, better="high")
    return found


def _synonyms(draw, seed, contexts):
    """How far apart near-synonyms are drawn (CIE76), beside all other pairs of words of the slot -> metrics."""
    found = {}
    for name, (slot, group) in SYNONYMS.items():
        scenes, _ = word_scenes(draw, slot, seed, contexts)
        inside, rest = [], []
        words = SLOT_WORDS[slot]
        for i, first in enumerate(words):
            for j in range(i + 1, len(words)):
                distances = inside if first in group and words[j] in group else rest
                distances.append(float(color_difference(scenes[i], scenes[j]).mean()))
        found |= metric(
            f"synonym_distance/{name}",
            f"distance of synonyms · {', '.join(group)} (ΔE)",
            float(np.mean(inside)),
            contexts,
            seed,
            baselines={"other_pairs": float(np.mean(rest))},
            high=None,
            group=slot,
        )
    return found


# ---------------------------------------------------------------------------------------------
# Meaning of words
# ---------------------------------------------------------------------------------------------


def meaning_section(model, protocol, seed, advance):
    """Linear probes slot <- picture; distances within a word and between words, in CIELAB."""
    rng = np.random.default_rng([seed, 5])
    train = random_slots(protocol.probe, rng)
    test = random_slots(max(200, protocol.probe // 3), rng)
    pictures = [draw_slots(model.cycle, model.vocab, model.device, slots) for slots in (train, test)]
    found = _probes(train, test, pictures, rng, seed)
    found |= _word_distances(test[:200], pictures[1][:200], rng, seed)
    return {"metrics": found, "details": {}}


def _probes(train, test, pictures, rng, seed):
    """Dicts of slot words and (training pictures, test pictures), each (n, 3, 64, 64) -> metrics of linear probes."""
    small = [F.avg_pool2d(as_seen(p, i), 2).flatten(1).numpy() for i, p in enumerate(pictures)]  # (n, 3 32 32)
    reduce = PCA(min(100, len(train) // 2), random_state=seed).fit(small[0])
    x, y = legibility.standardized(*(reduce.transform(s) for s in small))
    found = {}
    for slot in FOUR_SLOTS:
        known = np.array([s[slot] for s in train])
        wanted = np.array([s[slot] for s in test])
        right = LogisticRegression(C=0.1, max_iter=300).fit(x, known).predict(y) == wanted
        by_luck = LogisticRegression(C=0.1, max_iter=300).fit(x, rng.permutation(known)).predict(y) == wanted
        common = max(SLOT_WORDS[slot], key=list(known).count)
        found |= metric(
            f"probe/{slot}",
            f"linear probe · {slot}",
            float(right.mean()),
            len(test),
            seed,
            baselines={"shuffled_words": float(by_luck.mean()), "majority": float((wanted == common).mean())},
            interval=metrics.bootstrap_interval(right, seed),
            better="high",
            group=slot,
        )
    return found


def _word_distances(slots, pictures, rng, seed):
    """n dicts of slot words and their pictures (n, 3, 64, 64) -> metrics: mean color distance of pictures that share a word over
    that of those that do not."""
    lab = srgb_to_lab(F.avg_pool2d(pictures, 4), axis=1).flatten(1).numpy()
    apart = metrics.pairwise_rmse(lab) * math.sqrt(3)
    found = {}
    for slot in FOUR_SLOTS:
        words = np.array([s[slot] for s in slots])
        found |= metric(
            f"word_distance_ratio/{slot}",
            f"distance within a word / between words · {slot}",
            _within_over_between(apart, words),
            len(slots),
            seed,
            baselines={"shuffled_words": _within_over_between(apart, rng.permutation(words))},
            high=None,
            better="low",
            group=slot,
        )
    return found


def _within_over_between(apart, words):
    """Condensed distances (n (n - 1) / 2,) and n words -> ratio of means >= 0; 1 where no two pictures differ."""
    same = squareform(words[:, None] == words[None], checks=False)
    between = apart[~same].mean()
    return float(apart[same].mean() / max(1e-9, between)) if between > 1e-6 else 1.0
