"""A random scene decoder of the same build, and how a scene decoder alone stands in for a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from decoders.base import Scene
from models import Cycle
from settings import Settings


class BaselineModel:
    """What metrics use of a `models.Cycle`, with any scene decoder (`draw`: token ids (B, T) -> Scene) and captioner.

    max_tokens: of a sentence that can be drawn, None for any number.
    """

    def __init__(self, draw: Callable[[torch.Tensor], Scene], captioner: Any = None, max_tokens: int | None = None):
        self.draw = draw
        self.max_tokens = max_tokens
        self.caption_network = captioner
        self.scene_decoder = None  # has no parts to look into


def random_model(cycle: Cycle, vocab: Any, settings: Settings, seed: int, device: torch.device) -> Cycle:
    """A model of the same build with random, untrained weights. torch's own random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 7919)
        return Cycle(settings, len(vocab), cycle.max_tokens, cycle.word_classes).to(device).eval()
