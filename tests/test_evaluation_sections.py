"""Parts of the evaluation: the hand-made renderer, fresh captioners, round-trip scores, the table of results."""

import dataclasses

import pytest
import torch
from conftest import run_here
from evaluation_cases import SMALL, ignore, measure_less

from data_utils import GrammarData
from evaluation.baselines.renderer import hand_made_picture
from evaluation.measures import round_trip
from evaluation.measures.color_difference import color_difference
from evaluation.protocol import open_model
from evaluation.report.results_table import ROWS, results_table
from evaluation.sections import captioners
from evaluation.sections.scenes import GROUNDING, scene_metrics
from text.grammar import sample_sentences


def test_hand_made_renderer_draws_every_sentence_differently():
    texts = sorted({s for split in ("test", "test_pairs", "test_ood") for s in sample_sentences(400, split, 3)})
    assert len({hand_made_picture(t).tobytes() for t in texts}) == len(texts)


@pytest.mark.slow
def test_fresh_captioners_learn_a_scene_decoder(tiny_run):
    """The plain captioner gets somewhere on the hand-made renderer within 150 steps, and the curve shows it."""
    model = open_model(tiny_run / "checkpoints/last.pt", torch.device("cpu"))
    model.data = GrammarData(1 << 20, 5)
    protocol = dataclasses.replace(SMALL, steps=150, every=75, sentences=40)
    details = captioners.captioners_section(model, protocol, 0, ignore)["details"]
    assert details["scores"]["hand_made"]["word_accuracy/test"] > 0.3
    assert len(details["curves"]["hand_made"]["plain_convolutions"]) == 2


def test_soft_interval_holds_its_value():
    """A slot that few sentences have weighs as much as the others, in the interval too."""
    originals = ["a red ball", "a huge red ball", "a blue box", "a tiny pink star"]
    captions = ["a red box", "a huge red ball", "a blue box", "a small pink star"]
    values, weights = round_trip.per_sentence("slots_soft", "", originals, captions)
    soft = round_trip.round_trip_scores(originals, captions)["slots_soft", ""]
    assert (values.sum(0) / weights.sum(0)).mean() == pytest.approx(soft)


def test_every_round_trip_metric_is_the_ratio_of_its_sentences():
    originals, captions = (
        ["a red ball", "a huge red ball", "a tiny pink star"],
        ["a red box", "a huge red ball", "a small star"],
    )
    for (name, slot), value in round_trip.round_trip_scores(originals, captions).items():
        values, weights = round_trip.per_sentence(name, slot, originals, captions)
        assert (values.sum(0) / weights.sum(0)).mean() == pytest.approx(value), (name, slot)


def test_black_and_white_are_a_hundred_apart():
    black, white = torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64)
    assert torch.allclose(color_difference(black, white), torch.full((2, 64, 64), 100.0), atol=0.01)
    assert not color_difference(white, white).any()


def test_table_of_results_has_the_deviation_of_a_sample():
    table = results_table([{"exact_match/test": 0.9}, {"exact_match/test": 1.0}], 10, 0)
    assert "| exact match, `test` | 95.00 ± 7.07 % | 90.00 % |" in table  # n - 1: 0.0707, not 0.05
    assert "| exact match, `test` | 90.00 % | 90.00 % |" in results_table([{"exact_match/test": 0.9}], 10, 0)


@pytest.mark.slow
def test_table_of_results_from_the_command_line(tiny_run, monkeypatch):
    measure_less(monkeypatch)
    few = SMALL.scenes
    monkeypatch.setattr(
        "evaluation.report.results_table.scene_metrics",
        lambda draw, seed, scale, read: scene_metrics(draw, seed, few, read),
    )
    done = run_here("scripts/results.py", "checkpoints/last.pt", "--n", 8, cwd=tiny_run)
    assert done.returncode == 0, done.stderr
    labels = [row.label for id, row in ROWS.items() if id not in ("exact_match/val", *GROUNDING)]
    assert all(label in done.stdout for label in labels)  # no results of val; objects have no cells to turn gray
