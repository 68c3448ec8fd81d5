"""The networks of a circle as a training step calls them: in half precision where that is fast."""

import contextlib

import torch

from devices import tf32


class TrainingNetworks:
    """The three networks of a circle, their forward passes under autocast to `dtype` (None: float32).

    Scene parts, losses and sampling stay float32: they are outside, or turn autocast off. The circle itself is unchanged,
    so whatever else uses it computes as the scripts do.
    """

    def __init__(self, circle, dtype, device):
        self.vocab_size = circle.language_model.embedding.num_embeddings
        self.language_model = under_autocast(circle.language_model, dtype, device, tf32)
        self.scene_decoder = under_autocast(circle.scene_decoder, dtype, device)  # pictures are too fine for TF32
        self.caption_network = under_autocast(circle.caption_network, dtype, device, tf32)
        self.marks_of_words = circle.marks_of_words if hasattr(circle.scene_decoder, "marks_of_words") else None
        self.commitment = circle.commitment
        self.values_of_words = circle.values_of_words if hasattr(circle.scene_decoder, "values_of_words") else None


def under_autocast(network, dtype, device, precision=contextlib.nullcontext):
    """A function that calls a network under autocast to `dtype`, and in a context `precision(device)`."""

    def forward(*inputs, **options):
        with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None), precision(device):
            return network(*inputs, **options)

    return forward
