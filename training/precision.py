"""The networks of a circle as a training step calls them: in half precision where that is fast."""

import contextlib

import torch

from runtime.devices import tf32


class TrainingNetworks:
    """The three networks of a circle, their forward passes under autocast to `dtype` (None: float32).

    Scene parts, losses and sampling stay float32: they are outside, or turn autocast off. The cycle itself is unchanged,
    so whatever else uses it computes as the scripts do.
    """

    def __init__(self, cycle, dtype, device):
        self.vocab_size = cycle.language_model.embedding.num_embeddings
        self.language_model = under_autocast(cycle.language_model, dtype, device, tf32)
        self.scene_decoder = under_autocast(cycle.scene_decoder, dtype, device)  # pictures are too fine for TF32
        self.caption_network = under_autocast(cycle.caption_network, dtype, device, tf32)
        self.glyphs_of_tokens = cycle.glyphs_of_tokens if cycle.scene_decoder.draws_glyphs else None
        self.commitment = cycle.commitment
        self.values_of_words = cycle.values_of_words if hasattr(cycle.scene_decoder, "values_of_words") else None


def under_autocast(network, dtype, device, precision=contextlib.nullcontext):
    """A function that calls a network under autocast to `dtype`, and in a context `precision(device)`."""

    def forward(*inputs, **options):
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None), precision(device):
            return network(*inputs, **options)

    return forward
