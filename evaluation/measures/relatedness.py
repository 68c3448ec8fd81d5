"""Do pictures mean something? Whether pairs of sentences that people find related have pictures that are alike."""

import csv
import math

import numpy as np
from scipy.stats import rankdata

from captions.lines import CaptionsFileError, read_lines
from evaluation.measures.features import FEATURES
from evaluation.measures.legibility import as_seen
from evaluation.metric import OWN
from text.vocabulary import tokenize


def read_pairs(path, first, second, score):
    """A table separated by tabs, with a header -> [(sentence, sentence, score)]; the names of three columns.
    Raises CaptionsFileError, OSError."""
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


def word_overlap(first, second):
    """Words that two sentences share, divided by the words of both (Jaccard 1912), in [0, 1].

    >>> word_overlap("A red ball.", "a red box")
    0.4
    """
    a, b = set(tokenize(first)), set(tokenize(second))
    return len(a & b) / max(1, len(a | b))


def correlation(a, b):
    """Pearson's r in [-1, 1] of two arrays (n,), to 12 places, so that equal orders are equal; 0 where one is constant."""
    scale = math.sqrt(a.var() * b.var())
    return round(float(((a - a.mean()) * (b - b.mean())).mean() / scale), 12) if scale else 0.0


def spearman(x, y, given=None):
    """Spearman's rho in [-1, 1] of two lists of numbers; with a third one the partial correlation of their ranks. 0 where one is
    constant.

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


def permutation_p(x, y, seed, permutations):
    """Share of permutations of pairs under which Spearman's rho is at least as large, in (0, 1]. Mantel's test does not apply: each
    number is of a pair of its own."""
    rng, x, y = np.random.default_rng(seed), rankdata(x), rankdata(y)
    found = correlation(x, y)
    return (1 + sum(correlation(x, rng.permutation(y)) >= found for _ in range(permutations))) / (permutations + 1)


def closeness(drawn, pairs):
    """Pictures {sentence: its row}, (n, 3, 64, 64) in [0, 1], and pairs (sentence, sentence) -> {id of FEATURES: minus RMSE (m,)}."""
    row, pictures = drawn
    seen, out = as_seen(pictures), {}
    for id, (_, features) in FEATURES.items():
        values = features(seen)
        apart = values[[row[a] for a, _ in pairs]] - values[[row[b] for _, b in pairs]]
        out[id] = -np.sqrt((apart**2).mean(1))
    return out


def relatedness(model, pairs, seed, permutations=999):
    """A ModelUnderTest and n pairs (sentence, sentence, how related people find them) -> rows {"what", "rho", "given_words", "p"}.

    rho is Spearman's between closeness and relatedness; given_words the partial correlation given `word_overlap`. Besides the
    model's pictures: the overlap, pictures of a random decoder of the same build, and the model's pictures of shuffled pairs.
    """
    *sentences, scores = zip(*pairs)
    sentences, scores = list(zip(*sentences)), np.array(scores)
    overlap = np.array([word_overlap(*pair) for pair in sentences])
    row = {s: i for i, s in enumerate(dict.fromkeys(s for pair in sentences for s in pair))}
    order = np.random.default_rng([seed, 29]).permutation(len(pairs))
    shuffled = [(a, sentences[i][1]) for (a, _), i in zip(sentences, order)]
    found = {("words", "overlap"): overlap}
    for decoder, pictures in model.draw_with_baselines(list(row), seed).items():
        found |= {(decoder, id): values for id, values in closeness((row, pictures), sentences).items()}
        if decoder == OWN:
            found |= {("shuffled_pictures", id): values for id, values in closeness((row, pictures), shuffled).items()}
    return [
        {
            "what": what,
            "rho": spearman(values, scores),
            "given_words": None if what[0] == "words" else spearman(values, scores, overlap),
            "p": permutation_p(values, scores, seed, permutations),
        }
        for what, values in found.items()
    ]
