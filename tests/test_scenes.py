"""Metrics of scenes on pictures drawn by rule: what each must be is known from the rule."""

from itertools import pairwise

import numpy as np
import pytest
from drawings import BODY_COLORS, RADII, compositional, holistic, only_the_first, without_binding

from evaluation.measures.measured_scene import to_lab
from evaluation.measures.scenes import (
    WORD_CLASSES,
    binding,
    binding_pairs,
    count_accuracy,
    is_seen,
    naive_reader_on_properties,
    one_word_one_property,
    random_swaps,
    sentences_with,
    topographic_similarity_measured,
    value_distances,
)
from text.grammar import SLOTS, parse, render

MAIN = {
    "size": "shading", "color": "color", "object": "outline", "action": "rim", "position": "place", "background": "background",
    "relation": "size",
}  # fmt: skip


def test_count_accuracy():
    assert count_accuracy(compositional, 0, 8) == {
        "n": 24,
        "accuracy": 1.0,
        "by_objects": {1: 1.0, 2: 1.0, 3: 1.0},
        "read": None,
    }
    found = count_accuracy(only_the_first, 0, 8, read=lambda pictures: ["a ball and a cube"] * len(pictures))
    assert found == {
        "n": 24,
        "accuracy": pytest.approx(1 / 3),
        "by_objects": {1: 1.0, 2: 0.0, 3: 0.0},
        "read": pytest.approx(1 / 3),
    }


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
    assert found["outlines"] == found["colors"] == found["binding"] == 1.0 and found["read"] is None
    assert found["median_iou"] > 0.95 and found["median_color_error"] < 2
    found = binding(without_binding, 0, 12)
    assert found["outlines"] == 1.0 and found["colors"] == found["binding"] == 0.0
    found = binding(holistic, 0, 20)
    assert found["outlines"] <= 0.05 and found["colors"] <= 0.05
    assert binding(only_the_first, 0, 10)["median_iou"] is None


def test_binding_needs_both_sentences_back():
    back = []

    def draw(sentences):
        back.append(list(sentences))
        return compositional(sentences)

    assert binding(draw, 0, 10, read=lambda pictures: back.pop(0))["binding"] == 1.0
    back.clear()
    found = binding(draw, 0, 10, read=lambda pictures: ["a ball", *back.pop(0)[1:]])
    assert found["read"] == found["binding"] == pytest.approx(0.9)


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
        assert found["by_class"][kind] + found["unchanged"][kind] + found["count_differs"][kind] <= 1 + 1e-9


def test_one_word_changes_much_where_pictures_are_holistic_and_nothing_where_a_word_is_not_drawn():
    assert one_word_one_property(holistic, 0, 4)["share"] <= 0.05
    found = one_word_one_property(only_the_first, 0, 4)
    assert found["by_class"]["background"] == 0 and found["by_class"]["relation"] > 0.5  # drawn on the first thing
    assert found["unchanged"]["background"] == 1 and found["main"]["background"] is None


def test_value_distances_are_those_of_the_tables():
    found = value_distances(compositional, 0, {**MAIN, "action": None}, 4)
    assert found["action"] is None
    lab = to_lab(np.array(list(BODY_COLORS.values())))
    apart = np.linalg.norm(lab[:, None] - lab, axis=-1) + 1e9 * np.eye(len(lab))
    assert found["color"]["words"] == ["white", "gray"] and found["color"]["distance"] == pytest.approx(
        apart.min(), abs=2
    )
    assert found["position"]["distance"] == pytest.approx(3, abs=0.3) and found["position"]["unit"] == "px"
    assert found["size"]["distance"] == pytest.approx(0.4 * np.sin(np.pi / 5), abs=0.04)  # neighbors of five directions
    assert found["relation"]["distance"] == pytest.approx(min(b / a for a, b in pairwise(RADII.values())) ** 2, abs=0.1)
    assert 0.5 < found["object"]["distance"] < 0.85 and found["object"]["unit"] == "IoU"


@pytest.mark.slow
def test_naive_reader_learns_words_of_compositional_pictures_only():
    found = naive_reader_on_properties(compositional, 0, shots=2, n=6, repeats=1)
    assert found["accuracy"] >= 0.9 and found["n"] == 6 * len(WORD_CLASSES)
    assert found["chance"]["color"] == pytest.approx(1 / 11)
    assert naive_reader_on_properties(holistic, 0, shots=1, n=6, repeats=1)["accuracy"] <= 0.4  # chance is 0.18


def test_topographic_similarity():
    assert topographic_similarity_measured(compositional, 0, 60)["correlation"] >= 0.7
    found = topographic_similarity_measured(holistic, 0, 60)
    assert abs(found["correlation"]) <= 0.15 and found["pairs"] == 60 * 59 // 2
    assert topographic_similarity_measured(lambda s: compositional(["a ball"] * len(s)), 0, 10)["correlation"] is None
