"""Do pairs of sentences that people find related have similar pictures?"""

from __future__ import annotations

import csv
import math
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from captions.lines import CaptionsFileError, read_lines
from evaluation.measures.features import FEATURES
from evaluation.measures.legibility import as_seen
from evaluation.metric import OWN
from text.vocabulary import tokenize


def read_pairs(path: str, first: str, second: str, score: str) -> list[tuple[str, str, float]]:
    """A TSV file with these columns -> [(sentence, sentence, score)]. Raises CaptionsFileError, OSError."""
    rows = list(csv.reader((line for line, _ in read_lines(path)), delimiter="\t", quoting=csv.QUOTE_NONE))
    header = [name.strip() for name in rows[0]] if rows else []
    for name in (first, second, score):
        if name not in header:
            has = f"its columns are {', '.join(header)}" if len(header) > 1 else "it is no table separated by tabs"
            raise CaptionsFileError(f"{path} has no column {name!r}; {has}")
    out = []
    for number, row in enumerate(rows[1:], 2):
        try:
            a, b, value = (row[header.index(name)].strip() for name in (first, second, score))
            out.append((a, b, float(value)))
        except (IndexError, ValueError):
            if any(row):
                raise CaptionsFileError(f"{path}, line {number}: expected two sentences and a number") from None
    if len(out) < 3:
        raise CaptionsFileError(f"{path}: {len(out)} pair(s), at least 3 are needed")
    return out


def word_overlap(first: str, second: str) -> float:
    """Number of words that two sentences share, divided by the number of words in either (Jaccard 1912), in [0, 1].

    >>> word_overlap("A red ball.", "a red box")
    0.4
    """
    a, b = set(tokenize(first)), set(tokenize(second))
    return len(a & b) / max(1, len(a | b))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two arrays (n,), 0 if one is constant; to 12 digits, so that equal rankings give equal values."""
    scale = math.sqrt(a.var() * b.var())
    return round(float(((a - a.mean()) * (b - b.mean())).mean() / scale), 12) if scale else 0.0


def spearman(x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None) -> float:
    """Spearman's rho in [-1, 1] of two arrays (n,); with a third one the partial correlation of the ranks given it. 0
    if one is constant.

    >>> spearman([1, 2, 3], [1, 4, 9]), spearman([1, 2, 3, 4], [1, 2, 3, 4], given=[1, 2, 3, 4])
    (1.0, 0.0)
    """
    x, y = rankdata(x), rankdata(y)
    if given is None:
        return correlation(x, y)
    given = rankdata(given)
    with_x, with_y = correlation(x, given), correlation(y, given)
    scale = math.sqrt((1 - with_x**2) * (1 - with_y**2))
    return (correlation(x, y) - with_x * with_y) / scale if scale else 0.0


def permutation_p(x: np.ndarray, y: np.ndarray, seed: int, permutations: int) -> float:
    """Share of permutations under which Spearman's rho is at least as large, in (0, 1]. Mantel's test does not apply,
    since the pairs are independent."""
    rng = np.random.default_rng(seed)
    x, y = rankdata(x), rankdata(y)
    found = correlation(x, y)
    return (1 + sum(correlation(x, rng.permutation(y)) >= found for _ in range(permutations))) / (permutations + 1)


def closeness(drawn: tuple[dict[str, int], torch.Tensor], pairs: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Pictures {sentence: row}, (n, 3, 64, 64), and m pairs of sentences -> {id of FEATURES: minus RMSE (m,)}."""
    row, pictures = drawn
    seen = as_seen(pictures)
    out = {}
    for id, (_, features) in FEATURES.items():
        values = features(seen)
        apart = values[[row[a] for a, _ in pairs]] - values[[row[b] for _, b in pairs]]
        out[id] = -np.sqrt((apart**2).mean(1))
    return out


def relatedness(model: Any, pairs: list[tuple[str, str, float]], seed: int, permutations: int = 999) -> list[dict]:
    """A ModelUnderTest and n pairs (sentence, sentence, relatedness) -> rows {"what", "rho", "given_words", "p"}.

    rho is Spearman's of closeness and relatedness; given_words the partial correlation given `word_overlap`. Besides
    the model's pictures: the overlap, pictures of a random decoder of the same build, and the model's pictures of
    shuffled pairs.
    """
    sentences = [(first, second) for first, second, _ in pairs]
    scores = np.array([score for _, _, score in pairs])
    overlap = np.array([word_overlap(*pair) for pair in sentences])
    row = {s: i for i, s in enumerate(dict.fromkeys(s for pair in sentences for s in pair))}
    order = np.random.default_rng([seed, 29]).permutation(len(pairs))
    shuffled = [(a, sentences[i][1]) for (a, _), i in zip(sentences, order)]
    found = {("words", "overlap"): overlap}
    for decoder, pictures in model.draw_with_baselines(list(row), seed).items():
        found |= {(decoder, id): values for id, values in closeness((row, pictures), sentences).items()}
        if decoder == OWN:
            found |= {("shuffled_pictures", id): values for id, values in closeness((row, pictures), shuffled).items()}
    rows = []
    for what, values in found.items():
        given_words = None if what[0] == "words" else spearman(values, scores, overlap)
        p = permutation_p(values, scores, seed, permutations)
        rows.append({"what": what, "rho": spearman(values, scores), "given_words": given_words, "p": p})
    return rows
