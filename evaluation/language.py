"""The sections of an evaluation about the language itself: its structure, and what its words mean.

Sections as in `reading`.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

import metrics
from channel import blur
from evaluation import legibility
from evaluation.color_difference import color_difference
from evaluation.legibility import FOUR_SLOTS, as_seen, draw_slots, random_slots
from evaluation.protocol import OWN, metric
from imaging.color import srgb_to_lab
from text import grammar
from text.grammar import SLOT_WORDS, SLOTS

SYNONYMS = {  # id: (slot, words)
    "ball_sphere_circle": ("object", ("ball", "sphere", "circle")),
    "cube_box_square": ("object", ("cube", "box", "square")),
    "center_middle": ("position", ("center", "middle")),
}


# ---------------------------------------------------------------------------------------------
# Structure
# ---------------------------------------------------------------------------------------------


def small_pixels(pictures):
    """16x16 pixels after a 1 px blur: (n, 3, 64, 64) in [0, 1] -> (n, 768) in [0, 1]."""
    return F.avg_pool2d(blur(pictures, 1.0), 4).flatten(1).numpy()


def random_features(pictures, seed=0):
    """Two layers of fixed random convolutions, pooled to 4x4: (n, 3, 64, 64) in [0, 1] -> (n, 512) >= 0. The same for every
    model."""
    rng = torch.Generator().manual_seed(seed)
    x = pictures * 2 - 1
    for a, b, stride in ((3, 16, 2), (16, 32, 2)):
        x = torch.relu(
            F.conv2d(x, torch.randn(b, a, 5, 5, generator=rng) / math.sqrt(25 * a), stride=stride, padding=2)
        )
    return F.adaptive_avg_pool2d(x, 4).flatten(1).numpy()


FEATURES = {
    "pixels": ("pixels", small_pixels),
    "random_features": ("random features", random_features),
}  # id: (label, function)


def symbols_of(pictures, seed, kinds=24):
    """A picture as a message: 8x8 places, each with one of `kinds` symbols found by k-means over all places'
    2x2 pixels: (n, 3, 64, 64) -> (n, 64) integers in [0, kinds)."""
    cells = F.unfold(F.avg_pool2d(pictures, 4), 2, stride=2).transpose(1, 2).reshape(-1, 12).numpy()  # (n 64, 12)
    rng = np.random.default_rng(seed)
    examples = cells[rng.permutation(len(cells))[:5000]] + rng.normal(0, 1e-4, (min(5000, len(cells)), 12))
    clusters = KMeans(min(kinds, len(examples)), n_init=1, random_state=seed).fit(examples.astype(np.float32))
    return clusters.predict(cells.astype(np.float32)).reshape(len(pictures), -1)


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


def edit_distances(sentences):
    """Word edit distance of all pairs of n sentences -> condensed (n (n - 1) / 2,)."""
    rows = [s.split() for s in sentences]
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    return np.array([metrics.edit_distance(rows[i], rows[j]) for i, j in pairs], float)


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


def word_scenes(draw, slot, seed, contexts, slots=FOUR_SLOTS):
    """Every word of a slot in the same contexts, sentences that have `slots` -> pictures (words, contexts, 3, 64, 64),
    sentences [words][contexts]."""
    rng = np.random.default_rng([seed, SLOTS.index(slot)])
    frames = [{s: str(rng.choice(SLOT_WORDS[s])) for s in slots} for _ in range(contexts)]
    sentences = [[grammar.render({**f, slot: w}) for f in frames] for w in SLOT_WORDS[slot]]
    return draw([s for row in sentences for s in row]).unflatten(0, (len(sentences), contexts)), sentences


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
