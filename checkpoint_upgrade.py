"""Checkpoints of former formats: their settings, weights and word classes under today's names."""

from __future__ import annotations

import re
from typing import Any

from settings import FORMER_CHOICES, FORMER_FLAGS, RETIRED_FLAGS

FORMAT = 3
RETIRED = "was trained with --decoder marks --layout kinds, which is retired; train with --decoder objects instead"

SETTINGS = {former: name for name, former in FORMER_FLAGS.items()}
RETIRED_WEIGHTS = ("language_model.cloze", "language_model.role_count")
WEIGHTS = (
    (r"^language_model\.alone\.", "language_model.token_embedding."),
    (r"^scene_decoder\.alphabet\.", "scene_decoder.alphabets.glyph."),
    (r"^scene_decoder\.alphabets\.ground\.", "scene_decoder.alphabets.background."),
    (r"^scene_decoder\.properties\.networks\.ground\.", "scene_decoder.properties.networks.background."),
    (r"\.ground_logit$", ".background_logit"),
    (r"^caption_network\.place$", "caption_network.position"),
    (r"^caption_network\.middles$", "caption_network.centers"),
)


class RetiredModel(ValueError):
    """A checkpoint of a kind of model that this program no longer has."""


def upgrade(state: dict[str, Any]) -> dict[str, Any]:
    """A state of format 1 or 2 -> one of format 3, which can be drawn with but not resumed. Raises RetiredModel."""
    state = {**state, "format": FORMAT, "upgraded_from": state["format"]}
    settings = dict(state["settings"])
    former = settings.get("decoder")
    settings["decoder"] = FORMER_CHOICES.get(("decoder", former), former)
    if settings["decoder"] != former and settings.get("layout", "kinds") == "kinds":
        raise RetiredModel(RETIRED)
    settings = {SETTINGS.get(name, name): v for name, v in settings.items() if name not in RETIRED_FLAGS}
    state["settings"] = settings
    if isinstance(state.get("model"), dict):
        state["model"] = {_weight(k): v for k, v in state["model"].items() if not k.startswith(RETIRED_WEIGHTS)}
    if isinstance(state.get("word_classes"), dict):
        state["word_classes"] = _word_classes(state["word_classes"])
    if "max_words" in state:
        state["max_tokens"] = state.pop("max_words")
    if "severity" in state:
        state["corruption_strength"] = state.pop("severity")
    return state


def _weight(name: str) -> str:
    for pattern, new in WEIGHTS:
        name = re.sub(pattern, new, name)
    return name


def _word_classes(former: dict[str, Any]) -> dict[str, Any]:
    belongs_to = ["background" if b == "ground" else b for b in former["belongs_to"]]
    return {
        "class_of": former["kind"],
        "belongs_to": belongs_to,
        "size": former["size"],
        "grounding": former.get("given", {}),
    }
