"""The metrics: their own examples, hand-made languages that must score as theory says, and other implementations."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

import metrics
from evaluation.report import markdown as report
from metrics import bag_of_symbols_disentanglement, positional_disentanglement, shuffled_null, topographic_similarity

MEANINGS = np.array([[a, b, c] for a in range(6) for b in range(6) for c in range(6)])
PERFECT = MEANINGS + [0, 6, 12]  # one place and own symbols for each attribute


def holistic(seed=0):
    """Every meaning has its own message, and like meanings have unlike messages."""
    return PERFECT[np.random.default_rng(seed).permutation(len(PERFECT))]


def random_messages(seed=0):
    return np.random.default_rng(seed).integers(18, size=PERFECT.shape)


def distances(rows):
    a, b = np.triu_indices(len(rows), 1)
    return (rows[a] != rows[b]).sum(1)


@pytest.mark.parametrize("module", [metrics, report])
def test_examples_in_the_docstrings(module):
    done = doctest.testmod(module)
    assert done.attempted and not done.failed


def test_perfect_language_scores_one():
    assert positional_disentanglement(MEANINGS, PERFECT) == pytest.approx(1)
    assert bag_of_symbols_disentanglement(MEANINGS, PERFECT) == pytest.approx(1)
    rho, p = topographic_similarity(distances(MEANINGS), distances(PERFECT), permutations=99)
    assert rho == pytest.approx(1) and p == 0.01


@pytest.mark.parametrize("language", [holistic, random_messages])
def test_language_without_structure_scores_its_null(language):
    messages = language()
    for measure in (positional_disentanglement, bag_of_symbols_disentanglement):
        assert abs(measure(MEANINGS, messages) - shuffled_null(measure, MEANINGS, messages, seed=1)) < 0.03
    rho, p = topographic_similarity(distances(MEANINGS), distances(messages), permutations=199)
    assert abs(rho) < 0.05 and p > 0.01


def test_half_a_language_lies_between():
    half = PERFECT.copy()
    half[:, 1:] = holistic()[:, 1:]
    whole = topographic_similarity(distances(MEANINGS), distances(PERFECT), permutations=9)[0]
    rho, p = topographic_similarity(distances(MEANINGS), distances(half), permutations=99)
    assert 0.2 < rho < whole and p == 0.01
    assert 0.25 < positional_disentanglement(MEANINGS, half) < 0.5


def test_a_language_of_order_alone_is_not_a_bag():
    """With one alphabet for all places the place tells everything and the counts little."""
    assert positional_disentanglement(MEANINGS, MEANINGS) == pytest.approx(1)
    assert bag_of_symbols_disentanglement(MEANINGS, MEANINGS) < 0.1


def test_mantel_is_honest_where_pairs_are_dependent():
    """p is uniform under the null: small values must not crowd, as they do where pairs count as independent."""
    rng = np.random.default_rng(0)
    ps = []
    for _ in range(60):
        x, y = (metrics.pairwise_rmse(rng.random((20, 2))) for _ in range(2))
        ps.append(topographic_similarity(x, y, permutations=99)[1])
    assert np.mean(np.array(ps) < 0.1) < 0.25 and 0.3 < np.mean(ps) < 0.7


def test_similarity_agrees_with_scipy():
    rng = np.random.default_rng(1)
    x, y = rng.integers(4, size=190), rng.random(190)
    assert topographic_similarity(x, y, permutations=1)[0] == pytest.approx(spearmanr(x, y).statistic)


def test_agrees_with_emlangkit():
    """An implementation by others."""
    from emlangkit.metrics.bosdis import (
        compute_bosdis,  # a second to import, for every worker that only looks for tests
    )
    from emlangkit.metrics.posdis import compute_posdis

    for messages in (PERFECT, holistic(), random_messages()):
        assert positional_disentanglement(MEANINGS, messages) == pytest.approx(
            compute_posdis(messages, MEANINGS), abs=1e-6
        )
        assert bag_of_symbols_disentanglement(MEANINGS, messages) == pytest.approx(
            compute_bosdis(messages, MEANINGS), abs=1e-6
        )


words = st.lists(st.sampled_from("a red ball box".split()), max_size=6)


@given(words, words, words)
def test_edit_distance_is_a_distance(a, b, c):
    d = metrics.edit_distance
    assert d(a, a) == 0 and d(a, b) == d(b, a) and d(a, c) <= d(a, b) + d(b, c)
    assert abs(len(a) - len(b)) <= d(a, b) <= max(len(a), len(b))


def test_interval_holds_the_mean_in_most_samples():
    rng = np.random.default_rng(0)
    hits = 0
    for k in range(100):
        low, high = metrics.bootstrap_interval((rng.random(80) < 0.8).astype(float), seed=k, resamples=300)
        hits += low <= 0.8 <= high
    assert 85 <= hits <= 100


def test_at_the_ends_an_interval_counts_sentences_not_their_words():
    words = np.full(100, 5.0)
    assert metrics.bootstrap_interval(words, 0, words) == metrics.bootstrap_interval(np.ones(100), 0)


def test_vendi_counts_kinds():
    far = np.array([[0.0], [0.0], [50.0], [50.0], [99.0], [99.0]])
    apart = metrics.pairwise_rmse(far)
    for q in (1, 2, math.inf):
        assert metrics.vendi_score(apart, 1.0, q) == pytest.approx(3)
    uneven = metrics.pairwise_rmse(np.array([[0.0]] * 9 + [[50.0]]))
    assert metrics.vendi_score(uneven, 1.0, math.inf) == pytest.approx(10 / 9)
    assert 10 / 9 < metrics.vendi_score(uneven, 1.0, 1) < 2


def test_smooth_pictures_have_steeper_spectra():
    noise = np.random.default_rng(0).random((10, 3, 64, 64))
    smooth = (noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 3) + np.roll(noise, (1, 1), (2, 3))) / 4
    assert metrics.spectral_slope(smooth) < metrics.spectral_slope(noise) - 0.2
    assert metrics.total_variation(smooth) < metrics.total_variation(noise)
    assert metrics.spectral_slope(np.full((2, 3, 64, 64), 0.5)) == 0


def test_slots_are_compared_and_those_of_one_name_count_together():
    def slots(sentence):
        words = sentence.split()
        return {"color": words[1], "object": words[2], "object2": words[-1]} if len(words) >= 3 else {}

    originals, captions = ["a red ball box", "a red box star"], ["a pink ball box", "red"]
    hits = metrics.slot_hits(slots, originals, captions, lambda slot: slot.rstrip("2"))
    of_objects = [("ball", "ball"), ("box", "box"), ("box", ""), ("star", "")]
    assert hits == {"color": [("red", "pink"), ("red", "")], "object": of_objects}
    assert metrics.slot_accuracies(hits) == ({"color": 0.0, "object": 0.5}, 0.25)
    assert metrics.hard_slots(slots, originals, originals) == [1.0, 1.0] and metrics.hard_slots(
        slots, originals, captions
    ) == [
        0,
        0,
    ]
