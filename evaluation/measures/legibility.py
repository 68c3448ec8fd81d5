"""Can a person read it? Metrics on sentences "a SIZE COLOR OBJECT in the POSITION".

Every metric is computed from pictures alone, as in PNG files, and depends on a seed. `legibility_metrics` puts them
into one dict; each function documents its metrics and their ranges. The naive reader is a simple classifier that stands
for a person who sees the pictures for the first time (`few_shot_accuracy`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

import metrics
from evaluation.measures.color_difference import VISIBLE, color_difference
from text.grammar import SLOT_WORDS, SLOTS, render

Draw = Callable[[list[str]], torch.Tensor]  # sentences -> pictures (n, 3, 64, 64) in [0, 1]
DrawSlots = Callable[[list[dict]], torch.Tensor]  # dicts of slot words -> the same

FOUR_SLOTS = ("size", "color", "object", "position")
SEEN_NOISE = 0.02  # standard deviation, in units of [0, 1]
CONTEXTS = 40  # sentences in which the regions of a swapped word are compared


def random_slots(n: int, rng: np.random.Generator, **fixed: str) -> list[dict[str, str]]:
    """n dicts of words of the four slots, drawn uniformly, some of them fixed."""
    return [{s: fixed.get(s) or str(rng.choice(SLOT_WORDS[s])) for s in FOUR_SLOTS} for _ in range(n)]


def as_seen(pictures: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Pictures (n, 3, 64, 64) in [0, 1] with seeded noise of sigma 0.02, not clamped.

    Cameras have about that much noise; one 8-bit level is 0.004. Without it, metrics that standardize or rank would
    amplify invisible differences, and a code hidden in the lowest bit would count as legible.
    """
    return pictures + SEEN_NOISE * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))


def standardized(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, F), (m, F), standardized by the first; SEEN_NOISE is added to its scale, in squares."""
    mean = train.mean(0)
    scale = np.sqrt(train.var(0) + SEEN_NOISE**2)
    return (train - mean) / scale, (test - mean) / scale


def _pixels(pictures):
    """16x16 pixels: (n, 3, 64, 64) -> (n, 768)."""
    return F.avg_pool2d(pictures, 4).flatten(1).numpy()


def _histogram(pictures):
    """Square roots of the shares of 8x8x8 color bins: (n, 3, 64, 64) -> (n, 512)."""
    bins = (pictures.clamp(0, 1) * 7.999).long()
    flat = (bins[:, 0] * 64 + bins[:, 1] * 8 + bins[:, 2]).flatten(1)
    counts = torch.zeros(len(pictures), 512).scatter_add_(1, flat, torch.ones(flat.shape))
    return (counts / flat.shape[1]).sqrt().numpy()


def naive_reading(
    train: torch.Tensor, words: list[str], test: torch.Tensor, features: Callable[[torch.Tensor], np.ndarray] = _pixels
) -> np.ndarray:
    """The naive reader's words for pictures after training on others -> a word a picture, (m,).

    train (n, 3, 64, 64), n words, test (m, 3, 64, 64). The reader is standardized multinomial logistic regression (C =
    0.1) on `features` of pictures `as_seen`.
    """
    x, y = standardized(features(as_seen(train, 1)), features(as_seen(test, 2)))
    return LogisticRegression(C=0.1, max_iter=500).fit(x, words).predict(y)


def few_shot_accuracy(
    draw: DrawSlots,
    slot: str,
    shots: int,
    features: Callable[[torch.Tensor], np.ndarray],
    rng: np.random.Generator,
    tests: int = 500,
) -> float:
    """Accuracy in [0, 1] of `naive_reading` for the word of a slot, after `shots` examples of each word."""
    words = SLOT_WORDS[slot]
    train = [s for w in words for s in random_slots(shots, rng, **{slot: w})]
    test = random_slots(tests, rng)
    answers = naive_reading(draw(train), [s[slot] for s in train], draw(test), features)
    return float(np.mean(answers == np.array([s[slot] for s in test])))


def swaps(
    draw: DrawSlots, slot: str, rng: np.random.Generator, contexts: int = CONTEXTS, pairs: int = 120
) -> dict[str, float]:
    """One word swapped, the rest kept -> dict with
    changed: mean share of pixels that change visibly (CIE76 above 10), in [0, 1];
    visible: 99th percentile of the change over the picture, mean of the worst tenth of swaps (CIE76, >= 0);
    overlap: mean pairwise IoU over contexts of the region (change > 0.08 in some channel) between the
    first and last word of the slot, in [0, 1]."""
    base = random_slots(pairs, rng)
    words = SLOT_WORDS[slot]
    other = [{**s, slot: str(rng.choice([w for w in words if w != s[slot]]))} for s in base]
    change = color_difference(draw(base), draw(other))
    top = torch.quantile(change.flatten(1), 0.99, dim=1).sort().values
    frames = random_slots(contexts, rng)
    first, last = (draw([{**s, slot: w} for s in frames]) for w in (words[0], words[-1]))
    region = ((first - last).abs().amax(1) > 0.08).flatten(1).float()
    both = region @ region.T
    area = region.sum(1)
    either = (area[:, None] + area[None] - both).clamp(min=1)
    rows, columns = torch.triu_indices(contexts, contexts, 1)
    return {
        "changed": float((change > VISIBLE).float().mean()),
        "visible": float(top[: max(1, pairs // 10)].mean()),
        "overlap": float((both / either)[rows, columns].mean()),
    }


def topographic_similarity(
    draw: DrawSlots, rng: np.random.Generator, n: int = 300, permutations: int = 999
) -> tuple[float, float]:
    """Spearman correlation in [-1, 1] between the slots' Hamming distance and the RMSE of 16x16 pictures
    (Brighton & Kirby 2006), with the p of a Mantel permutation test, because pairs share sentences."""
    slots = random_slots(n, rng)
    codes = np.array([[SLOT_WORDS[k].index(s[k]) for k in FOUR_SLOTS] for s in slots])
    rows, columns = np.triu_indices(n, 1)
    form = metrics.pairwise_rmse(_pixels(as_seen(draw(slots))))
    return metrics.topographic_similarity((codes[rows] != codes[columns]).sum(1), form, rng, permutations)


def word_scenes(
    draw: Draw, slot: str, seed: int, contexts: int, slots: tuple[str, ...] = FOUR_SLOTS
) -> tuple[torch.Tensor, list[list[str]]]:
    """Words of a slot in the same contexts -> pictures (words, contexts, 3, 64, 64), sentences [words][contexts]."""
    rng = np.random.default_rng([seed, SLOTS.index(slot)])
    frames = [{s: str(rng.choice(SLOT_WORDS[s])) for s in slots} for _ in range(contexts)]
    sentences = [[render({**f, slot: w}) for f in frames] for w in SLOT_WORDS[slot]]
    return draw([s for row in sentences for s in row]).unflatten(0, (len(sentences), contexts)), sentences


def numbers_of_pictures(quick: bool) -> tuple[int, int]:
    """(test pictures of the naive reader, pairs of pictures with a swapped word)."""
    return (200, 60) if quick else (500, 120)


def legibility_metrics(draw: Draw, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Every metric of this file -> {id: value}.

    An id that ends in a slot is of that slot; `_mean` and `_min` are over the four slots. About a minute on two cores;
    a third of that with `quick`, which draws fewer test pictures. Raises UnknownWord.
    """
    rng = np.random.default_rng(seed)

    def draw_slots(slots):
        return draw([render(s) for s in slots])

    tests, pairs = numbers_of_pictures(quick)
    naive = {}
    for slot in FOUR_SLOTS:  # the accuracy depends on the four examples of a word; a mean is steadier
        drawn = [few_shot_accuracy(draw_slots, slot, 4, _pixels, rng, tests) for _ in range(2 if quick else 5)]
        naive[slot] = float(np.mean(drawn))
    swapped = {slot: swaps(draw_slots, slot, rng, pairs=pairs) for slot in FOUR_SLOTS}
    similarity, p = topographic_similarity(draw_slots, rng, permutations=1000 if quick else 1999)
    random_slots(tests, rng)  # keeps the values of a seed comparable with those of earlier versions, which drew these
    out = {f"legibility/naive_4/{slot}": value for slot, value in naive.items()}
    out["legibility/naive_4_mean"] = float(np.mean(list(naive.values())))
    out["legibility/color_histogram_64"] = few_shot_accuracy(draw_slots, "color", 64, _histogram, rng, tests)
    for slot, values in swapped.items():
        out |= {f"legibility/swap_{name}/{slot}": value for name, value in values.items()}
    out["legibility/swap_changed_mean"] = float(np.mean([values["changed"] for values in swapped.values()]))
    out["legibility/swap_visible_min"] = min(values["visible"] for values in swapped.values())
    out["legibility/swap_overlap_min"] = min(values["overlap"] for values in swapped.values())
    out["legibility/topographic_similarity"] = similarity
    out["legibility/mantel_p"] = p
    return out
