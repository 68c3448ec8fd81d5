"""The networks of a cycle as a training step calls them: in half precision where that is fast."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from models import Cycle
from runtime.devices import tf32


class TrainingNetworks:
    """The three networks of a cycle, their forward passes under autocast to `dtype` (None: float32).

    Rendering, losses and sampling stay float32: they are outside, or disable autocast. The cycle itself is unchanged,
    so validation computes as the scripts do.
    """

    def __init__(self, cycle: Cycle, dtype: torch.dtype | None, device: torch.device) -> None:
        self.vocab_size = cycle.language_model.embedding.num_embeddings
        self.language_model = under_autocast(cycle.language_model, dtype, device, tf32)
        self.scene_decoder = under_autocast(cycle.scene_decoder, dtype, device)  # pictures are too fine for TF32
        self.caption_network = under_autocast(cycle.caption_network, dtype, device, tf32)
        self.glyphs_of_tokens = cycle.glyphs_of_tokens if hasattr(cycle.scene_decoder, "glyphs_of_tokens") else None
        self.commitment = cycle.commitment
        self.values_of_words = cycle.values_of_words if hasattr(cycle.scene_decoder, "values_of_words") else None


def under_autocast(
    network: torch.nn.Module,
    dtype: torch.dtype | None,
    device: torch.device,
    precision: Callable[[torch.device], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Callable[..., Any]:
    """A function that calls a network under autocast to `dtype`, and in a context `precision(device)`."""

    def forward(*inputs, **options):
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None), precision(device):
            return network(*inputs, **options)

    return forward
