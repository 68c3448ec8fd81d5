"""What a person could see of the words of real sentences."""

import numpy as np
import pytest
import torch

from evaluation.measures import word_legibility as real_legibility
from evaluation.measures.word_legibility import (
    LEGIBILITY,
    changes,
    content_places,
    glyph_overlap,
    legibility_scores,
    visible_glyphs,
    word_swaps,
    words_in_contexts,
)
from evaluation.metric import OWN
from text.vocabulary import Vocabulary, tokenize

ANIMALS = ["horse", "tiger", "zebra", "whale", "camel", "otter"]
TEXTS = [f"The {a}, wet and cold, looks at the {b}." for a in ANIMALS for b in ANIMALS if a != b]


@pytest.fixture(autouse=True)
def few_contexts(monkeypatch):
    monkeypatch.setattr(real_legibility, "CONTEXTS", 5)


class InPlaces:
    """A model under test: the word number t of a sentence is a bar in place t of a grid, turned as the word is numbered; `shaky` ones
    are turned as the sentence is numbered, too."""

    vocab = Vocabulary.of(word for s in TEXTS for word in tokenize(s))

    def __init__(self, shaky=False):
        self.shaky = shaky

    def draw_with_baselines(self, sentences, seed):
        return {
            OWN: torch.stack([self.picture(s, i) for i, s in enumerate(sentences)]),
            "random_decoder": torch.zeros(len(sentences), 3, 64, 64),
        }

    def picture(self, sentence, number):
        y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        out = torch.zeros(64, 64)
        for t, word in enumerate(self.vocab.encode_known(sentence)):
            angle = 0.7 * word + (number if self.shaky else 0)
            u, v = x - 6 - 10.67 * (t % 6), y - 6 - 10.67 * (t // 6)
            u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
            out += torch.sigmoid(2 * (1.4 - v.abs())) * torch.sigmoid(2 * (4 - u.abs()))
        return out.clamp(max=1).expand(3, 64, 64)


def test_content_words_are_long_and_rare_runs_of_letters():
    places = content_places([*TEXTS, "A dog's tiger-like coat, in 2024; one-eyed."])
    assert {word for _, _, word in places} == {*ANIMALS, "looks", "cold", "coat"}  # "the" is common, "wet" short
    assert places[0] == (TEXTS[0], 1, "horse")
    assert content_places(["一个男人在街上走路。", "两只狗在水里跑步。"] * 20) == []


def test_swaps_differ_in_one_word_and_keep_signs():
    for a, b in zip(*word_swaps(content_places(TEXTS), 40, np.random.default_rng(0))):
        assert a in TEXTS and sum(x != y for x, y in zip(a.split(), b.split(), strict=True)) == 1
        assert [w.strip("abcdefghijklmnopqrstuvwxyzT") for w in a.split()] == [
            w.strip("abcdefghijklmnopqrstuvwxyzT") for w in b.split()
        ]


def test_change_of_half_of_the_picture_is_a_half():
    a, b = torch.zeros(2, 20, 3, 64, 64)
    b[..., :32] = 1
    share, visible = changes(a, b)
    assert share.mean() == pytest.approx(0.5, abs=0.06) and visible > 90  # with what a blur adds
    b[:2] = 0  # the worst tenth
    assert changes(a, b)[1] == 0


def test_a_mark_is_found_again_in_any_place_and_among_any_marks():
    model = InPlaces()
    rows = words_in_contexts(content_places(TEXTS), model.vocab, np.random.default_rng(0))
    assert len(rows) == 8 and len({len(row) for row in rows}) == 1
    values, _ = legibility_scores(model, TEXTS, 12, 0)["glyph_overlap"]
    shaky, _ = legibility_scores(InPlaces(shaky=True), TEXTS, 12, 0)["glyph_overlap"]
    assert values[OWN] > 0.93 and values["other_words"] < 0.75 and shaky[OWN] < 0.75


def test_marks_that_move_between_pixels_stay_the_same():
    glyphs = torch.zeros(2, 3, 3, 64, 64)
    for i, shift in enumerate((0.0, 0.25, 0.5)):
        ramp = (torch.arange(64.0) - 20 - shift).abs()
        glyphs[0, i] = torch.sigmoid(2 * (3 - ramp))[None, :, None] * torch.sigmoid(2 * (3 - ramp))[None, None]
    assert glyph_overlap(visible_glyphs(glyphs)[:1])[0] > 0.93


def test_values_are_beside_baselines_and_are_left_out_if_nothing_can_be_swapped():
    found = legibility_scores(InPlaces(), TEXTS, 12, 0)
    assert set(found) == set(LEGIBILITY)
    changed, n = found["swap_changed"]
    assert n == 12 and changed["random_decoder"] == 0 and 0 < changed[OWN] < 0.1
    assert set(found["glyph_overlap"][0]) == {OWN, "random_decoder", "other_words"}
    assert legibility_scores(InPlaces(), ["to be or not to be"] * 3, 12, 0) == {}
