"""What the tests of the evaluation share: a small protocol, and what must hold of metrics whatever the model."""

import dataclasses
import math

import evaluate
from evaluation.measures import legibility, scenes
from evaluation.protocol import Protocol
from evaluation.report.markdown import all_metrics

SMALL = Protocol(
    sentences=24,
    corrupted=12,
    structure=30,
    permutations=19,
    probe=40,
    steps=3,
    every=2,
    checks=8,
    captioners=("plain_convolutions",),
    vendi=20,
    invented=10,
    scenes=0.02,
    real=12,
    quick=True,
)


def measure_less(patch):
    """Make `--quick` use the small protocol, and the real metrics of fewer pictures where a protocol has no number for that."""
    patch.setattr(evaluate, "QUICK", SMALL)
    reader, few_shot, swaps = scenes.naive_reader_on_properties, legibility.few_shot_accuracy, legibility.swaps
    patch.setattr(scenes, "naive_reader_on_properties", lambda *a, **k: reader(*a, **{**k, "shots": 1}))
    patch.setattr(
        legibility,
        "few_shot_accuracy",
        lambda draw, slot, shots, features, rng, _: few_shot(draw, slot, min(shots, 8), features, rng, 40),
    )
    patch.setattr(legibility, "swaps", lambda draw, slot, rng, pairs: swaps(draw, slot, rng, contexts=10, pairs=10))


def ignore(_share):
    """Nobody watches the progress."""


def run_section(name, model, **protocol):
    """A section of a ModelUnderTest with the small protocol, in parts changed, and seed 0."""
    return evaluate.SECTIONS[name].run(model, dataclasses.replace(SMALL, **protocol), 0, ignore)


def metrics_of(result):
    """metrics.json's content -> (id, metric) of all models."""
    for model in result["models"]:
        yield from all_metrics(model).items()


def check_metrics(result):
    """Every metric is finite, in its range, and has n, a seed and baselines -> how many there are."""
    count = 0
    for id, metric in metrics_of(result):
        low, high = metric["range"]
        assert metric["n"] > 0 and isinstance(metric["seed"], int), id
        assert metric["baselines"], f"{id} has no baseline"
        for value in [metric["value"], *metric["baselines"].values(), *(metric["interval"] or [])]:
            if value is None:  # steps to 95 % that were never reached
                assert id.endswith("/steps_to_95")
                continue
            assert math.isfinite(value), id
            assert (low is None or value >= low - 1e-9) and (high is None or value <= high + 1e-9), (
                id,
                value,
                low,
                high,
            )
        if metric["interval"]:
            assert metric["interval"][0] - 1e-9 <= metric["value"] <= metric["interval"][1] + 1e-9, id
        count += 1
    return count


def check_order(result):
    """What must hold between metrics, whatever the model."""
    for model in result["models"]:
        at = all_metrics(model)
        value = {id: metric["value"] for id, metric in at.items()}
        for split in ("test", "test_pairs", "test_ood"):
            exact, hard, words = (value[f"{name}/{split}"] for name in ("exact_match", "slots_hard", "word_accuracy"))
            assert exact <= hard + 1e-9 and exact <= words + 1e-9
            colors = [v for id, v in value.items() if id.startswith(f"slot_accuracy/{split}/color")]
            assert colors and hard <= min(colors) + 1e-9
        scores = [value[f"vendi/{q}"] for q in ("1", "2", "inf")]
        assert scores == sorted(scores, reverse=True)
        bits = at["bits_through_picture"]
        assert bits["value"] <= bits["baselines"]["whole_text"] + 1e-9
        assert value["perplexity"] > 0.95 * at["perplexity"]["baselines"]["grammar"]
        assert value["invented_new"] <= value["invented_parse"]
        for id in ("total_variation", "spectral_slope"):
            assert value[id] < at[id]["baselines"]["white_noise"]
        curves = model["sections"]["robustness"]["details"]["curves"]
        assert all(len(c["exact_match"]) == len(c["strengths"]) for c in curves.values())
        builds = {metric["group"] for id, metric in at.items() if id.startswith("captioner/")}
        assert builds
        for build in builds:
            area, end = value[f"captioner/{build}/area_under_curve"], value[f"captioner/{build}/final_exact_match"]
            learned = model["sections"]["captioners"]["details"]["curves"].values()
            assert area <= max(1e-9, max(v for by_captioner in learned for c in by_captioner.values() for _, v in c)), (
                end
            )
