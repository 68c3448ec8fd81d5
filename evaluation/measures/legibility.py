"""Can a person read it? Metrics on sentences "a SIZE COLOR OBJECT in the POSITION".

Every metric looks at pictures alone, as PNG files would hold them, and is seeded. `legibility_metrics` puts
them into one dict; what each means and its range stands with its function. The naive reader is a simple classifier that
stands for a person who sees the pictures for the first time (`few_shot_accuracy`).
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

import metrics
from channel import round_8bit
from data_utils import pad
from evaluation.measures.color_difference import VISIBLE, color_difference
from pictures import BATCH, draw_sentences, read_pictures
from text.grammar import SLOT_WORDS, SLOTS, parse, render

FOUR_SLOTS = ("size", "color", "object", "position")
SEEN_NOISE = 0.02


def random_slots(n, rng, **fixed):
    """n dicts of slot words drawn evenly, some of them fixed."""
    return [{s: fixed.get(s) or str(rng.choice(SLOT_WORDS[s])) for s in FOUR_SLOTS} for _ in range(n)]


def draw_slots(cycle, vocab, device, slots):
    """Dicts of slot words -> pictures (n, 3, 64, 64) in [0, 1] of their sentences. Raises UnknownWord."""
    return draw_sentences(cycle, vocab, [render(s) for s in slots], device)


def as_seen(pictures, seed=0):
    """Pictures (n, 3, 64, 64) in [0, 1] with seeded noise of sigma 0.02, not clamped.

    A camera has about that much noise and an eye sees no less (a difference of one 8-bit step is 0.004). Measures that
    standardize or rank would otherwise blow up differences that nobody could see, and take a code hidden in the lowest bit
    for something legible.
    """
    return pictures + SEEN_NOISE * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))


def standardized(train, test):
    """Features (n, F) and (m, F) less the mean of the first, divided by its standard deviation. What hardly varies is mostly
    noise: SEEN_NOISE, the least that it is divided by, keeps it from counting like a mark."""
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


def naive_reading(train, words, test, features=_pixels):
    """What the naive reader reads in pictures after it saw others with their words -> a word a picture, (m,).

    train (n, 3, 64, 64), n words, test (m, 3, 64, 64). The reader is standardized multinomial logistic regression (C = 0.1) on
    `features` of pictures `as_seen`.
    """
    x, y = standardized(features(as_seen(train, 1)), features(as_seen(test, 2)))
    return LogisticRegression(C=0.1, max_iter=500).fit(x, words).predict(y)


def few_shot_accuracy(draw, slot, shots, features, rng, tests=500):
    """The naive reader's accuracy in [0, 1]: of `naive_reading` of a slot's word after `shots` examples a word whose other slots
    are random."""
    words = SLOT_WORDS[slot]
    train = [s for w in words for s in random_slots(shots, rng, **{slot: w})]
    test = random_slots(tests, rng)
    answers = naive_reading(draw(train), [s[slot] for s in train], draw(test), features)
    return float(np.mean(answers == np.array([s[slot] for s in test])))


def swaps(draw, slot, rng, contexts=40, pairs=120):
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


def topographic_similarity(draw, rng, n=300, permutations=999):
    """Spearman correlation in [-1, 1] between the slots' Hamming distance and the RMSE of 16x16 pictures
    (Brighton & Kirby 2006), with the p of a Mantel permutation test, because pairs share sentences."""
    slots = random_slots(n, rng)
    codes = np.array([[SLOT_WORDS[k].index(s[k]) for k in FOUR_SLOTS] for s in slots])
    rows, columns = np.triu_indices(n, 1)
    form = metrics.pairwise_rmse(_pixels(as_seen(draw(slots))))
    return metrics.topographic_similarity((codes[rows] != codes[columns]).sum(1), form, rng, permutations)


def legibility_metrics(cycle, vocab, device, seed=0, quick=False):
    """Every metric of this file -> {id: float, or None where it cannot be measured}.

    An id that ends in a slot is of that slot; `_mean` and `_min` are over the four slots. About a minute on two cores; a
    third of that with `quick`, which draws fewer test pictures. Raises UnknownWord.
    """
    rng = np.random.default_rng(seed)

    def draw(slots):
        return draw_slots(cycle, vocab, device, slots)

    tests = 200 if quick else 500
    draws = 2 if quick else 5  # which four examples a word gets is luck; the mean over draws is steadier
    naive = [
        float(np.mean([few_shot_accuracy(draw, s, 4, _pixels, rng, tests) for _ in range(draws)])) for s in FOUR_SLOTS
    ]
    swapped = [swaps(draw, s, rng, pairs=60 if quick else 120) for s in FOUR_SLOTS]
    similarity, p = topographic_similarity(draw, rng, permutations=1000 if quick else 1999)
    sentences = [render(s) for s in random_slots(tests, rng)]
    out = {f"legibility/naive_4/{slot}": value for slot, value in zip(FOUR_SLOTS, naive)}
    out["legibility/naive_4_mean"] = float(np.mean(naive))
    out["legibility/color_histogram_64"] = few_shot_accuracy(draw, "color", 64, _histogram, rng, tests)
    for slot, values in zip(FOUR_SLOTS, swapped):
        out |= {f"legibility/swap_{name}/{slot}": value for name, value in values.items()}
    out["legibility/swap_changed_mean"] = float(np.mean([values["changed"] for values in swapped]))
    out["legibility/swap_visible_min"] = min(values["visible"] for values in swapped)
    out["legibility/swap_overlap_min"] = min(values["overlap"] for values in swapped)
    out["legibility/topographic_similarity"] = similarity
    out["legibility/mantel_p"] = p
    return out


def word_scenes(draw, slot, seed, contexts, slots=FOUR_SLOTS):
    """Every word of a slot in the same contexts, sentences that have `slots` -> pictures (words, contexts, 3, 64, 64),
    sentences [words][contexts]."""
    rng = np.random.default_rng([seed, SLOTS.index(slot)])
    frames = [{s: str(rng.choice(SLOT_WORDS[s])) for s in slots} for _ in range(contexts)]
    sentences = [[render({**f, slot: w}) for f in frames] for w in SLOT_WORDS[slot]]
    return draw([s for row in sentences for s in row]).unflatten(0, (len(sentences), contexts)), sentences
