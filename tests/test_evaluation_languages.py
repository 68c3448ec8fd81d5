"""The evaluation tells a language from none, and from a trick: a cheat, and languages painted by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_cases import run_section

from captioners.base import Reading
from data_utils import EOS, GrammarData, Vocabulary
from decoders.base import Scene
from evaluation.baselines.decoders import BaselineModel
from evaluation.measures import legibility
from evaluation.measures.legibility import FOUR_SLOTS
from evaluation.protocol import ModelUnderTest
from settings import Settings
from text.grammar import SLOT_WORDS, parse, render
from text.word_classes import find_word_classes


class LowestBit:
    """The cheat: every sentence is the same gray to the eye; its words hide in the lowest bit of the first pixels."""

    def __init__(self, max_tokens):
        self.places = max_tokens + 1

    def draw(self, ids):
        words = F.pad(ids, (0, self.places - ids.shape[1]))
        bits = (words[..., None] >> torch.arange(8)) & 1
        pixels = torch.full((len(ids), 3 * 64 * 64), 128)
        pixels[:, : self.places * 8] += bits.flatten(1)
        none = torch.zeros(len(ids), 1)
        return Scene(pixels.view(-1, 3, 64, 64) / 255, none, none, none[:, 0], ids < 0, ids[:, :0])

    def read(self, picture, temperature=0.0, rng=None):
        bits = (picture * 255).round().long().flatten(1)[:, : self.places * 8].view(len(picture), self.places, 8) & 1
        words = (bits << torch.arange(8)).sum(2)
        words = torch.where(words < len(Vocabulary.of_grammar()), words, 3)
        zero = torch.zeros(words.shape)
        return Reading(torch.where(words == 0, EOS, words), zero[:, 0], zero, torch.full((*words.shape, 64), 1 / 64))


@pytest.fixture(scope="module")
def cheat():
    vocab, trick = Vocabulary.of_grammar(), LowestBit(24)
    cycle = BaselineModel(trick.draw, trick, 24)
    cycle.word_classes = find_word_classes(GrammarData(1000, 0).some_sentences(2000), len(vocab))
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, channel=False)
    return ModelUnderTest(cycle=cycle, vocab=vocab, settings=settings, device=torch.device("cpu"), name="cheat")


def test_cheat_comes_back_whole_and_is_caught_by_corruption(cheat):
    metrics = run_section("cycle", cheat, sentences=60)["metrics"]
    assert metrics["exact_match/test"]["value"] == 1.0 and metrics["exact_match/test_ood"]["value"] == 1.0
    curves = run_section("robustness", cheat, corrupted=30)["details"]["curves"]
    for kind in ("jpeg", "blur", "noise", "resample", "low_pass"):
        assert max(curves[kind]["exact_match"][1:]) < 0.2, kind  # the mildest blur rounds back to the same bits
    assert not any(c["trained_on"] for c in curves.values())


def test_cheat_cannot_be_read_by_a_person(cheat):
    own = legibility.legibility_metrics(cheat.draw, 0, True)
    assert own["legibility/color_histogram_64"] < 0.25
    assert own["legibility/swap_changed_mean"] == 0 and own["legibility/swap_visible_min"] < 1
    assert own["legibility/naive_4_mean"] < 0.2  # chance is 0.134
    assert abs(own["legibility/topographic_similarity"]) < 0.1


def test_cheat_leaves_no_trace_in_structure_and_probes(cheat):
    metrics = run_section("structure", cheat, structure=80)["metrics"]
    assert abs(metrics["topographic_similarity/slots/pixels"]["value"]) < 0.1
    probes = run_section("meaning", cheat, probe=300)["metrics"]
    for slot, words in (("size", 5), ("color", 11), ("object", 10), ("position", 7)):
        assert probes[f"probe/{slot}"]["value"] < 1 / words + 0.15, slot


class Painted:
    """A language made by hand: a quarter of the picture for each slot, in a color for each word.

    `message`: (sentence, its four words' numbers) -> the four numbers that are painted.
    """

    # Twelve colors on a sphere (a spiral of the golden angle): none lies between others, so each can be found by a linear rule
    HEIGHT, TURN = (torch.arange(12) + 0.5) / 6 - 1, torch.arange(12) * math.pi * (3 - 5**0.5)
    WIDTH = (1 - HEIGHT**2).sqrt()
    PALETTE = 0.5 + 0.45 * torch.stack([WIDTH * TURN.cos(), WIDTH * TURN.sin(), HEIGHT], 1)

    def __init__(self, message):
        self.message = message

    def __call__(self, ids):
        pictures = torch.full((len(ids), 3, 64, 64), 0.5)
        vocab = Vocabulary.of_grammar()
        for picture, row in zip(pictures, ids.tolist()):
            sentence = vocab.decode(row)
            slots = parse(sentence)
            numbers = [SLOT_WORDS[s].index(slots[s]) if s in slots else 11 for s in FOUR_SLOTS]
            for k, number in enumerate(self.message(sentence, numbers)):
                y, x = 32 * (k // 2), 32 * (k % 2)
                picture[:, y : y + 32, x : x + 32] = self.PALETTE[number % 12, :, None, None]
        none = torch.zeros(len(ids), 1)
        return Scene(pictures, none, none, none[:, 0], ids < 0, ids[:, :0])


def painted(message):
    cycle = BaselineModel(Painted(message), max_tokens=24)
    cycle.word_classes = find_word_classes(GrammarData(1000, 0).some_sentences(2000), len(Vocabulary.of_grammar()))
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54)
    vocab = Vocabulary.of_grammar()
    return ModelUnderTest(cycle=cycle, vocab=vocab, settings=settings, device=torch.device("cpu"), name="painted")


def scrambled(sentence, _numbers):
    """Every sentence has its own picture, and similar sentences have dissimilar ones."""
    return np.random.default_rng(list(sentence.encode())).integers(12, size=4).tolist()


def unrelated():
    rng = np.random.default_rng(3)
    return lambda _sentence, _numbers: rng.integers(12, size=4).tolist()


LANGUAGES = {"perfect": lambda _, numbers: numbers, "holistic": scrambled, "random": unrelated()}


@pytest.fixture(scope="module")
def languages():
    out = {}
    for name, message in LANGUAGES.items():
        model = painted(message)
        out[name] = {k: run_section(k, model, structure=120, probe=1200)["metrics"] for k in ("structure", "meaning")}
        rng = np.random.default_rng(0)

        def draw(slots, model=model):
            return model.draw([render(s) for s in slots])

        out[name]["naive"] = legibility.few_shot_accuracy(draw, "color", 4, legibility._pixels, rng, 150)
        out[name]["swaps"] = legibility.swaps(draw, "color", rng, pairs=30)
        out[name]["topsim"] = legibility.topographic_similarity(draw, rng, 100, 199)
    return out


@pytest.mark.slow
def test_perfect_language_scores_as_theory_says_in_every_structural_measure(languages):
    scores = languages["perfect"]
    structure = {id: metric["value"] for id, metric in scores["structure"].items()}
    assert structure["topographic_similarity/slots/pixels"] > 0.5
    assert structure["topographic_similarity/slots/random_features"] > 0.4
    assert structure["posdis"] > 0.6  # of 1, less what the null of 120 sentences takes off
    assert all(m["mantel_p"] <= 0.05 for m in scores["structure"].values() if "mantel_p" in m)
    # 44 pictures with three other slots at random teach about half of the colors; the other languages stay below a quarter
    assert scores["naive"] > 0.5 and scores["topsim"][0] > 0.5 and scores["topsim"][1] == 1 / 200
    assert 0.2 < scores["swaps"]["changed"] < 0.35 and scores["swaps"]["overlap"] == 1.0  # one quarter, always the same
    for slot in FOUR_SLOTS:
        assert scores["meaning"][f"probe/{slot}"]["value"] > 0.9
        assert scores["meaning"][f"word_distance_ratio/{slot}"]["value"] < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", ["holistic", "random"])
def test_language_without_parts_scores_nothing_in_every_structural_measure(languages, name):
    scores = languages[name]
    for id, metric in scores["structure"].items():
        if "mantel_p" in metric:
            assert abs(metric["value"]) < 0.12, id
    for id in ("posdis", "bosdis"):
        assert abs(scores["structure"][id]["value"]) < 0.1, id
    assert scores["naive"] < 0.25 and abs(scores["topsim"][0]) < 0.1
    assert scores["swaps"]["changed"] > 0.6  # one word swapped, and all of the picture is another
    for slot in FOUR_SLOTS:
        assert scores["meaning"][f"probe/{slot}"]["value"] < 1 / len(SLOT_WORDS[slot]) + 0.15
        assert scores["meaning"][f"word_distance_ratio/{slot}"]["value"] == pytest.approx(1, abs=0.06)
