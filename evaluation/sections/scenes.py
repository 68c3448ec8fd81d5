"""The section about scenes: objects, which properties words set, and of which object. Measured from pixels alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from evaluation.measures import scenes
from evaluation.measures.grounding import ASPECTS, grounding_accuracy
from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, Protocol

Draw = Callable[[list[str]], torch.Tensor]
Read = Callable[[torch.Tensor], list[str]]

SHARE_OF_BASELINES = 0.25  # of the sentences, on which baselines are measured
LABELS = {  # of metrics by id, beside one for each word class
    "scenes/count": "number of objects = objects in the sentence",
    "scenes/binding": "binding: both captions exact, outlines stay, colors change places",
    "scenes/binding_outlines": "of these: outlines stay (IoU ≥ 0.9)",
    "scenes/binding_colors": "of these: colors change places (ΔE ≤ 6)",
    "scenes/one_property": "one word swapped: one property of one object changes",
    "scenes/naive_reader": "naive reader on measured properties, 4 examples a word",
    "scenes/topographic_similarity": "topographic similarity on measured properties",
}
GROUNDING = {f"scenes/grounding_{name}": f"grounded {name}, read with the grounding file alone" for name in ASPECTS}
OF_CLASS = {f"scenes/one_property/{name}": f"one word swapped, one property: {name}" for name in scenes.WORD_CLASSES}


def scene_metrics(
    draw: Draw, seed: int, scale: float, read: Read | None = None
) -> tuple[dict[str, tuple[float, int]], dict]:
    """Scenes of a decoder -> ({id of LABELS or OF_CLASS: (value, n)}, the result of `scenes.one_word_one_property`).

    draw: sentences -> pictures (n, 3, 64, 64); read: pictures -> captions, without which binding ignores captions;
    scale: share of the whole number of sentences.
    """

    def n(whole):
        return max(4, int(whole * scale))

    count = scenes.count_accuracy(draw, seed, n(100))
    binding = scenes.binding(draw, seed, n(500), read)
    swaps = scenes.one_word_one_property(draw, seed, n(60))
    reader = scenes.naive_reader_on_properties(draw, seed, n=n(60), repeats=3 if scale == 1 else 1)
    similarity = scenes.topographic_similarity_measured(draw, seed, n(150))
    out = {
        "scenes/count": (count["accuracy"], count["n"]),
        "scenes/binding": (binding["binding"], binding["n"]),
        "scenes/binding_outlines": (binding["outlines"], binding["n"]),
        "scenes/binding_colors": (binding["colors"], binding["n"]),
        "scenes/one_property": (swaps["share"], swaps["n"]),
        "scenes/naive_reader": (reader["accuracy"], reader["n"]),
        "scenes/topographic_similarity": (similarity["correlation"], similarity["n"]),
    }
    of_each = swaps["n"] // len(swaps["by_class"])
    out |= {f"scenes/one_property/{name}": (share, of_each) for name, share in swaps["by_class"].items()}
    return out, swaps


def grounding_metrics(draw: Draw, grounded_words: dict, seed: int, scale: float) -> dict[str, dict]:
    """-> {id of GROUNDING: an aspect of `grounding_accuracy`}, {} without a grounding; scale: of `scene_metrics`."""
    if not grounded_words:
        return {}
    found = grounding_accuracy(draw, grounded_words, seed, max(4, int(300 * scale)))
    return {f"scenes/grounding_{name}": of for name, of in found.items()}


def scenes_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Objects of scenes, beside a random scene decoder and the hand-made renderer."""
    found = Metrics(seed)
    own, swaps = scene_metrics(model.draw, seed, protocol.scenes, model.read)
    grounding = {OWN: grounding_metrics(model.draw, model.grounded_words, seed, protocol.scenes)}
    values = {OWN: own}
    advance(0.6)
    for name, baseline in model.baselines(seed).items():
        scale = SHARE_OF_BASELINES * protocol.scenes
        values[name] = scene_metrics(baseline.draw, seed, scale)[0]
        grounding[name] = grounding_metrics(baseline.draw, model.grounded_words, seed, scale)
        advance(0.2)
    for id, (_, n) in own.items():
        low = -1.0 if id == "scenes/topographic_similarity" else 0.0
        group = id.split("/")[2] if id in OF_CLASS else ""
        of_id = {name: of[id][0] for name, of in values.items()}
        found.add(id, {**LABELS, **OF_CLASS}[id], of_id, n, low=low, better="high", group=group)
    for id, of in grounding[OWN].items():
        accuracies = {"chance": of["chance"], **{name: some[id]["accuracy"] for name, some in grounding.items()}}
        note = "the random scene decoder has the same grounding"
        found.add(id, GROUNDING[id], accuracies, of["n"], better="high", note=note)
    return {"metrics": found, "details": {"sets": swaps["main"], "table": swaps["table"]}}
