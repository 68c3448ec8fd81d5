"""What is measured of real sentences."""

import numpy as np
import pytest
import torch

from evaluation.measures.text_scores import corrupted_in_a_row, shuffled_words, text_scores
from evaluation.protocol import Protocol
from evaluation.sections.real_text import groups_of, real_text_section
from text.bpe import BpeVocabulary

TEXTS = ["A dog's ball.", "Two men — in blue hats — walk up the long and narrow street to the old market.", "A zebra."]


class Copier:
    """A model under test that hides a sentence's number in the color of its picture, and reads it there."""

    cycle = device = None
    vocab, max_tokens = BpeVocabulary.of(TEXTS, 300), 90

    def __init__(self, wrong=()):
        self.wrong, self.known = wrong, list(TEXTS)

    def sentences(self, n, split, seed):
        return TEXTS[:n]

    def draw(self, sentences):
        self.known += [s for s in sentences if s not in self.known]
        return torch.stack([torch.full((3, 64, 64), (1 + self.known.index(s)) / 10) for s in sentences])

    def draw_with_baselines(self, sentences, seed):
        return {"this_model": self.draw(sentences)}

    def read(self, pictures):
        numbers = [round(10 * float(p.mean())) - 1 for p in pictures]
        return ["a" if k in self.wrong or k >= len(self.known) else self.known[k] for k in numbers]

    class data:
        @staticmethod
        def has_trained_words(sentence):
            return "zebra" not in sentence


def section(model):
    """The metrics of the section for real sentences, without the prefix of their ids."""
    protocol = Protocol(sentences=3, corrupted=3)
    found = real_text_section(model, protocol, 0, lambda share: None)
    return {name.removeprefix("real_text/"): m for name, m in found["metrics"].items()}


def test_capitals_and_spaces_count_for_verbatim_alone():
    scores = text_scores(TEXTS, [TEXTS[0], TEXTS[1].upper().replace("—", "-"), "A zebra ."])
    assert (scores["exact_match"], scores["verbatim"], scores["word_error_rate"]) == (1.0, pytest.approx(1 / 3), 0.0)
    assert scores["character_error_rate"] > 0.5 and scores["chrf"] < 60
    perfect, wrong = text_scores(TEXTS, TEXTS), text_scores(TEXTS, ["x"] * 3)
    assert [perfect["chrf"], perfect["bleu"]] == pytest.approx([100, 100]) and perfect["character_error_rate"] == 0
    assert wrong["chrf"] < 5 and wrong["word_accuracy"] == 0


def test_sentences_are_grouped_by_words_and_by_what_training_shows():
    groups = groups_of(TEXTS, Copier.data.has_trained_words)
    found = {name: rows.tolist() for name, rows in groups.items()}
    assert found == {"short": [0, 2], "middle": [], "long": [1], "trained_words": [0, 1], "new_words": [2]}


def test_word_salad_has_the_same_words_as_they_are_typed():
    salad = shuffled_words(TEXTS[1], np.random.default_rng(0))
    assert salad != TEXTS[1] and sorted(salad.split()) == sorted(TEXTS[1].split())


def test_a_picture_goes_through_all_corruptions():
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    after = corrupted_in_a_row(picture, 0)
    assert after.shape == picture.shape and float((after - picture).abs().mean()) > 0.15
    assert torch.equal(after, corrupted_in_a_row(picture, 0))


def test_the_section_says_what_comes_back_and_what_a_blank_picture_gives():
    found = section(Copier(wrong=(2,)))
    assert found["exact_match"]["value"] == found["verbatim"]["value"] == pytest.approx(2 / 3)
    assert found["exact_match"]["baselines"]["other_picture"] == 0
    assert found["exact_match"]["baselines"]["binary_code"] == 1
    assert (
        found["of/new_words"]["value"] == 0
        and found["of/trained_words"]["value"] == 1
        and found["of/trained_words"]["n"] == 2
    )
    assert found["salad"]["baselines"] == {"uncorrupted": pytest.approx(2 / 3)}
    assert found["swap_changed"]["value"] == 1  # each word changes all of the picture
