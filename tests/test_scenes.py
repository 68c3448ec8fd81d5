"""Metrics of scenes on pictures drawn by rule: what each must be is known from the rule."""

import numpy as np
import pytest
from drawings import compositional, holistic, only_the_first, without_binding

from evaluation.measures.scene_sentences import WORD_CLASSES, binding_pairs, is_seen, random_swaps, sentences_with
from evaluation.measures.scenes import (
    binding,
    count_accuracy,
    naive_reader_on_properties,
    one_word_one_property,
    topographic_similarity_measured,
)
from text.grammar import SLOTS, parse, render

MAIN = {
    "size": "shading", "color": "color", "object": "outline", "action": "rim", "position": "place", "background": "background",
    "relation": "size",
}  # fmt: skip


def test_count_accuracy():
    assert count_accuracy(compositional, 0, 8) == {"n": 24, "accuracy": 1.0}
    assert count_accuracy(only_the_first, 0, 8) == {"n": 24, "accuracy": pytest.approx(1 / 3)}


def test_binding_pairs_swap_the_colors_and_stay_within_training():
    for a, b in binding_pairs(50, np.random.default_rng(0)):
        first, second = parse(a), parse(b)
        assert (
            first == {**second, "color": second["color2"], "color2": second["color"]}
            and first["color"] != first["color2"]
        )
        assert is_seen(first) and is_seen(second)


def test_binding_needs_outlines_that_stay_and_colors_that_change_places():
    found = binding(compositional, 0, 12)
    assert found["outlines"] == found["colors"] == found["binding"] == 1.0
    found = binding(without_binding, 0, 12)
    assert found["outlines"] == 1.0 and found["colors"] == found["binding"] == 0.0
    found = binding(holistic, 0, 20)
    assert found["outlines"] <= 0.05 and found["colors"] <= 0.05
    assert binding(only_the_first, 0, 10) == {"n": 10, "outlines": 0.0, "colors": 0.0, "binding": 0.0}


def test_binding_needs_both_sentences_back():
    back = []

    def draw(sentences):
        back.append(list(sentences))
        return compositional(sentences)

    assert binding(draw, 0, 10, read=lambda pictures: back.pop(0))["binding"] == 1.0
    back.clear()
    found = binding(draw, 0, 10, read=lambda pictures: ["a ball", *back.pop(0)[1:]])
    assert found["binding"] == pytest.approx(0.9)


def test_swaps_and_given_words_stay_within_training():
    rng = np.random.default_rng(0)
    for kind, words in WORD_CLASSES.items():
        for a, b in random_swaps(20, kind, rng):
            (name,) = [k for k in SLOTS if a.get(k) != b.get(k)]
            assert name.rstrip("23") == kind and is_seen(a) and is_seen(b) and parse(render(b)) == b
        for slots in sentences_with(kind, words[1], 5, rng):
            assert words[1] in slots.values() and is_seen(slots)
            assert ("object2" in slots) == (kind == "relation") and "object3" not in slots


def test_one_word_changes_one_property_where_pictures_are_compositional():
    found = one_word_one_property(compositional, 0, 6)
    assert found["main"] == MAIN and found["share"] >= 0.9 and found["n"] == 6 * len(WORD_CLASSES)
    for kind, name in MAIN.items():
        assert found["table"][kind][name] >= 0.9
        assert max(v for k, v in found["table"][kind].items() if k != name) <= 0.2


def test_one_word_changes_much_where_pictures_are_holistic_and_nothing_where_a_word_is_not_drawn():
    assert one_word_one_property(holistic, 0, 4)["share"] <= 0.05
    found = one_word_one_property(only_the_first, 0, 4)
    assert found["by_class"]["background"] == 0 and found["by_class"]["relation"] > 0.5  # drawn on the first object
    assert not any(found["table"]["background"].values()) and found["main"]["background"] is None


@pytest.mark.slow
def test_naive_reader_learns_words_of_compositional_pictures_only():
    found = naive_reader_on_properties(compositional, 0, shots=2, n=6, repeats=1)
    assert found["accuracy"] >= 0.9 and found["n"] == 6 * len(WORD_CLASSES)
    assert naive_reader_on_properties(holistic, 0, shots=1, n=6, repeats=1)["accuracy"] <= 0.4  # chance is 0.18


def test_topographic_similarity():
    assert topographic_similarity_measured(compositional, 0, 60)["correlation"] >= 0.7
    found = topographic_similarity_measured(holistic, 0, 60)
    assert abs(found["correlation"]) <= 0.15
    assert topographic_similarity_measured(lambda s: compositional(["a ball"] * len(s)), 0, 10)["correlation"] is None
