"""Metrics of a visual language. Pure functions of strings and arrays.

Each docstring has the formula, the reference, the range and the cost, and a doctest. `docs/measures.md` explains what
a value means.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from text.vocabulary import normalized, tokenize

# ---------------------------------------------------------------------------------------------
# Reconstruction: lists of sentences and their captions, paired by position
# ---------------------------------------------------------------------------------------------


def is_exact(original: str, recovered: str) -> bool:
    """Whether a caption has the same words as a sentence; capitals, spaces and the style of quotation marks are
    ignored.

    >>> is_exact("A red ball.", "a red ball ."), is_exact("a blue box", "a blue ball")
    (True, False)
    """
    return normalized(original) == normalized(recovered)


def exact_match(originals: Sequence[str], recovered: Sequence[str]) -> float:
    """Share of sentences whose caption `is_exact`, in [0, 1].

    >>> exact_match(["A red ball.", "a blue box"], ["a red ball .", "a blue ball"])
    0.5
    """
    return sum(is_exact(a, b) for a, b in zip(originals, recovered, strict=True)) / max(1, len(originals))


def verbatim_match(originals: Sequence[str], recovered: Sequence[str]) -> float:
    """Share of sentences whose caption is the same text, character by character, in [0, 1].

    >>> verbatim_match(["A red ball.", "a blue box"], ["a red ball.", "a blue box"])
    0.5
    """
    return sum(a == b for a, b in zip(originals, recovered, strict=True)) / max(1, len(originals))


def word_accuracy(originals: Sequence[str], recovered: Sequence[str]) -> float:
    """Share of positions with the same word, in [0, 1]; a missing or extra word counts as wrong.

    >>> word_accuracy(["a red ball"], ["a red"])
    0.6666666666666666
    """
    right = places = 0
    for a, b in zip(originals, recovered, strict=True):
        a, b = tokenize(a), tokenize(b)
        right += sum(x == y for x, y in zip(a, b))
        places += max(len(a), len(b))
    return right / max(1, places)


def edit_distance(a: Sequence, b: Sequence) -> int:
    """Fewest insertions, deletions and substitutions that turn one sequence into the other (Levenshtein 1966): 0 ...
    the longer length. Cost O(len(a) len(b)).

    >>> edit_distance("a red ball".split(), "a big red box".split())
    2
    """
    return Levenshtein.distance(a, b)


def word_error_rate(originals: Sequence[str], recovered: Sequence[str]) -> float:
    """Edit distance in words over the words of the originals: 0 is perfect; above 1 is possible.

    >>> word_error_rate(["a red ball", "a box"], ["a blue ball", "a box"])
    0.2
    """
    pairs = [(tokenize(a), tokenize(b)) for a, b in zip(originals, recovered, strict=True)]
    return sum(edit_distance(a, b) for a, b in pairs) / max(1, sum(len(a) for a, _ in pairs))


def slot_hits(
    slots_of: Callable[[str], dict],
    originals: Sequence[str],
    recovered: Sequence[str],
    name_of: Callable[[str], str] = str,
) -> dict[str, list[tuple[str, str]]]:
    """For every slot, [(the original's word, the caption's word in it)]; "" if the caption lacks the slot.

    slots_of: sentence -> {slot: word}, empty for a sentence without slots; slots of one name_of(slot) count together.

    >>> slot_hits(lambda s: {"color": s.split()[1]}, ["a red ball"], ["a blue ball"])
    {'color': [('red', 'blue')]}
    """
    hits = {}
    for a, b in zip(originals, recovered, strict=True):
        got = slots_of(b)
        for slot, word in slots_of(a).items():
            hits.setdefault(name_of(slot), []).append((word, got.get(slot, "")))
    return hits


def slot_accuracies(hits: dict[str, list[tuple[str, str]]]) -> tuple[dict[str, float], float]:
    """`slot_hits` -> ({slot: accuracy}, Soft), each in [0, 1].

    Soft is the mean over slots: a slot of few sentences has the same weight as a slot of all sentences.

    >>> slot_accuracies({"color": [("red", "red"), ("red", "pink")], "object": [("box", "box")]})
    ({'color': 0.5, 'object': 1.0}, 0.75)
    """
    each = {slot: float(np.mean([a == b for a, b in pairs])) for slot, pairs in hits.items()}
    return each, float(np.mean(list(each.values()))) if each else 0.0


def hard_slots(slots_of: Callable[[str], dict], originals: Sequence[str], recovered: Sequence[str]) -> list[float]:
    """Per sentence: 1.0 if every slot is read right, else 0.0. The mean is Hard, in [0, 1], at least exact match.

    >>> hard_slots(lambda s: {"color": s.split()[1]}, ["a red ball", "a red box"], ["the red", "a pink box"])
    [1.0, 0.0]
    """
    return [float(slots_of(a).items() <= slots_of(b).items()) for a, b in zip(originals, recovered, strict=True)]


def confusion_matrix(pairs: Sequence[tuple[str, str]], words: Sequence[str]) -> np.ndarray:
    """Counts (len(words), len(words) + 1): row: the original's word; column: the word that was read, the last for any
    other.

    >>> confusion_matrix([("red", "red"), ("red", "ball"), ("pink", "red")], ["red", "pink"]).tolist()
    [[1, 0, 1], [1, 0, 0]]
    """
    out = np.zeros((len(words), len(words) + 1), int)
    for a, b in pairs:
        out[words.index(a), words.index(b) if b in words else len(words)] += 1
    return out


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    seed: int,
    weights: Sequence[float] | np.ndarray | None = None,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap (Efron 1979) of sum(values) / sum(weights): (low, high). Cost O(n resamples).

    values and weights (n,), or (n, columns) for the mean over columns of their ratios; weights default to 1,
    which makes it the mean. Rows are resampled. If the ratio is exactly 0 or 1, a bootstrap interval has no width;
    the interval is then Wilson's (1927) for shares.

    >>> low, high = bootstrap_interval([1.0] * 90 + [0.0] * 10, seed=0)
    >>> low < 0.9 < high, bootstrap_interval([1.0] * 100, seed=0)[0] < 0.97
    (True, True)
    """
    values = np.asarray(values, float)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, float)
    if values.ndim == 1:
        values, weights = values[:, None], weights[:, None]
    if len(values) == 0:
        return (0.0, 1.0)
    found = values.sum() / max(weights.sum(), 1e-12)
    if found in (0.0, 1.0):
        from scipy.stats import binomtest  # a second to import, and training has no use for it

        n = len(values)  # sentences are what is sampled, not words
        interval = binomtest(int(found * n), n).proportion_ci(level, "wilson")
        return float(interval.low), float(interval.high)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        pick = rng.integers(len(values), size=len(values))
        total = weights[pick].sum(0)
        means.append((values[pick].sum(0)[total > 0] / total[total > 0]).mean())
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# ---------------------------------------------------------------------------------------------
# Structure: do similar sentences have similar pictures, and do parts of sentences set parts of pictures?
# ---------------------------------------------------------------------------------------------


def pairwise_rmse(features: np.ndarray) -> np.ndarray:
    """Root mean square distance of rows (n, F) -> condensed (n (n - 1) / 2,), >= 0. Cost O(n^2 F).

    >>> pairwise_rmse(np.array([[0.0, 0.0], [1.0, 1.0]])).tolist()
    [1.0]
    """
    features = np.asarray(features, np.float64)
    features = features - features.mean(0)  # the same distances, without differences of large squares
    square = (features**2).sum(1)
    gram = square[:, None] + square[None] - 2 * features @ features.T
    return np.sqrt(np.maximum(gram, 0) / features.shape[1])[np.triu_indices(len(features), 1)]


def topographic_similarity(
    meaning: np.ndarray, form: np.ndarray, seed: int | np.random.Generator = 0, permutations: int = 999
) -> tuple[float, float]:
    """(rho, p): Spearman's rho in [-1, 1] between two condensed distance matrices (Brighton & Kirby 2006).

    p is Mantel's (1967): the share of `permutations` of the items with a rho at least as large. Pairs share items, so a
    test that treats pairs as independent gives a p that is far too small. rho is 0 if a matrix is constant. Cost O(n^2
    permutations).

    >>> x = pairwise_rmse(np.arange(12.0)[:, None])
    >>> rho, p = topographic_similarity(x, x, permutations=99)
    >>> round(rho, 6), p
    (1.0, 0.01)
    """
    from scipy.spatial.distance import squareform  # a second to import both, and training has no use for them
    from scipy.stats import rankdata

    meaning = rankdata(meaning)
    meaning = meaning - meaning.mean()
    form = rankdata(form)
    form = form - form.mean()
    scale = math.sqrt(float((meaning**2).sum() * (form**2).sum()))
    if scale == 0:
        return 0.0, 1.0
    found = float(meaning @ form) / scale
    square = squareform(form)
    n = len(square)
    rows, columns = np.triu_indices(n, 1)
    rng = np.random.default_rng(seed)
    at_least = 1
    for _ in range(permutations):
        order = rng.permutation(n)
        at_least += float(meaning @ square[order[rows], order[columns]]) / scale >= found - 1e-12
    return found, at_least / (permutations + 1)


def _joint_entropies(x, y):
    """Entropies in bits of two integer columns and of their pair."""

    def entropy(counts):
        p = counts / counts.sum()
        return float(-(p * np.log2(p)).sum())

    _, cx = np.unique(x, return_counts=True)
    _, cy = np.unique(y, return_counts=True)
    _, cxy = np.unique(np.stack([x, y], 1), axis=0, return_counts=True)
    return entropy(cx), entropy(cy), entropy(cxy)


def positional_disentanglement(meanings: np.ndarray, messages: np.ndarray) -> float:
    """posdis (Chaabouni et al. 2020): mean over positions j of (I1 - I2) / H(symbol at j), in [0, 1], where I1 and I2
    are the two largest mutual informations with an attribute. Positions that never vary are left out.

    meanings (n, attributes), messages (n, positions), integers. A language with one position for each attribute scores
    1. Small samples bias it: subtract `shuffled_null`. Cost O(n positions attributes).

    >>> m = np.array([[a, b] for a in range(3) for b in range(3)])
    >>> positional_disentanglement(m, m), positional_disentanglement(m, m.sum(1, keepdims=True) * 0)
    (1.0, 0.0)
    """
    gaps = []
    for symbols in np.asarray(messages).T:
        information, entropy = [], 0.0
        for attribute in np.asarray(meanings).T:
            hx, entropy, hxy = _joint_entropies(attribute, symbols)
            information.append(hx + entropy - hxy)
        if entropy > 1e-12:
            best = sorted(information + [0.0])[-2:]
            gaps.append((best[1] - best[0]) / entropy)
    return float(np.mean(gaps)) if gaps else 0.0


def bag_of_symbols_disentanglement(meanings: np.ndarray, messages: np.ndarray) -> float:
    """bosdis (Chaabouni et al. 2020): posdis of the number of times each symbol occurs in a message; in [0, 1].

    >>> m = np.array([[a, b] for a in range(3) for b in range(3)])
    >>> round(bag_of_symbols_disentanglement(m, m + [[0, 3]]), 6)
    1.0
    """
    messages = np.asarray(messages)
    counts = np.stack([(messages == symbol).sum(1) for symbol in np.unique(messages)], 1)
    return positional_disentanglement(meanings, counts)


def shuffled_null(
    metric: Callable[[np.ndarray, np.ndarray], float],
    meanings: np.ndarray,
    messages: np.ndarray,
    seed: int,
    rounds: int = 10,
) -> float:
    """Mean of metric(meanings, messages) over random permutations of the messages: its value under chance in a sample
    of this size.

    >>> m = np.array([[a, b] for a in range(5) for b in range(5)] * 8)
    >>> shuffled_null(positional_disentanglement, m, m, seed=0) < 0.1
    True
    """
    rng = np.random.default_rng(seed)
    messages = np.asarray(messages)
    return float(np.mean([metric(meanings, messages[rng.permutation(len(messages))]) for _ in range(rounds)]))


# ---------------------------------------------------------------------------------------------
# Diversity and bottleneck
# ---------------------------------------------------------------------------------------------


def vendi_score(distances: np.ndarray, scale: float, q: float = 1.0) -> float:
    """Effective number of different items (Friedman & Dieng 2023; order q: Pasarkar & Dieng 2024), in [1, n].

    exp of the Renyi entropy of order q of the eigenvalues of K / n, K = exp(-(d / scale)^2) on condensed distances d. q
    = 1 is Shannon's entropy; at infinity only the largest eigenvalue counts. Cost O(n^3).

    >>> round(vendi_score(np.zeros(6), 1.0), 3), round(vendi_score(np.full(6, 99.0), 1.0), 3)
    (1.0, 4.0)
    """
    from scipy.spatial.distance import squareform  # half a second to import, and training has no use for it

    kernel = np.exp(-((squareform(np.asarray(distances)) / scale) ** 2))
    values = np.clip(np.linalg.eigvalsh(kernel / len(kernel)), 0, None)
    values = values[values > 1e-12] / values[values > 1e-12].sum()
    if q == 1:
        return float(np.exp(-(values * np.log(values)).sum()))
    if math.isinf(q):
        return float(1 / values.max())
    return float((values**q).sum() ** (1 / (1 - q)))


def active_units(mu: np.ndarray, threshold: float = 0.01) -> int:
    """Number of latent dimensions whose posterior mean has a variance over sentences above `threshold` (Burda et al.
    2016), 0 ... z_dim; mu (n, z_dim).

    >>> active_units(np.array([[0.0, 1.0], [0.0, -1.0]]))
    1
    """
    return int((np.asarray(mu).var(0) > threshold).sum())


def bits_through(text_bits: float, captioner_nats: float) -> float:
    """I(text; picture) >= H(text) - cross-entropy of a captioner (Barber & Agakov 2003), in bits, at least 0.

    >>> bits_through(10.0, math.log(2))
    9.0
    """
    return max(0.0, text_bits - captioner_nats / math.log(2))


# ---------------------------------------------------------------------------------------------
# Sentences and pictures by themselves
# ---------------------------------------------------------------------------------------------


def majority_sentence(sentences: Sequence[str]) -> str:
    """The most common word at each position of the sentences of the most common length: a caption that needs no
    picture.

    >>> majority_sentence(["a red ball", "a red box", "a blue ball"])
    'a red ball'
    """
    rows = [s.split() for s in sentences]
    length = Counter(map(len, rows)).most_common(1)[0][0]
    rows = [r for r in rows if len(r) == length]
    return " ".join(Counter(column).most_common(1)[0][0] for column in zip(*rows))


def total_variation(pictures: np.ndarray) -> float:
    """Mean absolute difference of neighboring pixels, in [0, 1]; pictures (n, 3, h, w) in [0, 1] (Rudin et al. 1992).

    >>> total_variation(np.zeros((1, 3, 8, 8)))
    0.0
    """
    x = np.asarray(pictures, np.float64)
    return float((np.abs(np.diff(x, axis=2)).mean() + np.abs(np.diff(x, axis=3)).mean()) / 2)


def spectral_slope(pictures: np.ndarray) -> float:
    """Slope of log power against log frequency of the luminance, radially averaged (Field 1987): 0 for white noise,
    about -2 for photographs, lower for smoother pictures; 0 for flat pictures, which have no spectrum. Cost O(n h w
    log(h w)).

    >>> noise = np.random.default_rng(0).random((20, 3, 64, 64))
    >>> abs(spectral_slope(noise)) < 0.1
    True
    """
    gray = np.asarray(pictures, np.float64).mean(1)
    power = np.abs(np.fft.fft2(gray - gray.mean((1, 2), keepdims=True))) ** 2
    side = gray.shape[-1]
    f = np.fft.fftfreq(side) * side
    radius = np.rint(np.hypot(f[:, None], f[None])).astype(int)
    rings = np.arange(1, side // 2)
    mean = np.array([power[:, radius == r].mean() for r in rings])
    if mean.max() < 1e-9:
        return 0.0
    return float(np.polyfit(np.log(rings), np.log(mean + 1e-9 * mean.max()), 1)[0])


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of features (n, F) and (m, F) under the kernel (x y / F + 1)^3
    (Binkowski et al. 2018, who use Inception features). Its expectation is 0 for equal distributions; estimates may be
    negative. Cost O((n + m)^2 F).

    >>> rng = np.random.default_rng(0)
    >>> a, b, far = rng.random((200, 8)), rng.random((200, 8)), 1 + rng.random((200, 8))
    >>> abs(kernel_distance(a, b)) < 0.05 < 1 < kernel_distance(a, far)
    True
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_of_pairs(x):
        k = kernel(x, x)
        return (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))

    return float(mean_of_pairs(a) + mean_of_pairs(b) - 2 * kernel(a, b).mean())
