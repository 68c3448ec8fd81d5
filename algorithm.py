"""The algorithm on one screen: text -> embedding -> latent -> scene -> channel -> caption -> losses -> step.

Shapes: B sentences of the batch, T tokens, D = d_model, H = hidden_dim. Where several processes share a batch, each
draws and reads its own sentences, `local`, and `group.gather` collects the features that losses compare across
sentences. In a single process `local` is the whole batch, and `gather` changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import losses
from channel import CORRUPTIONS, transmit
from models import Cycle
from runtime.devices import Precision
from text.padding import count_batch_tokens, targets_of
from text.token_predictor import TokenPredictor
from text.vocabulary import PAD, SPECIALS


def training_step(
    cycle: Cycle,
    optimizer: Any,
    settings: Any,
    ids: torch.Tensor,
    strength: torch.Tensor,
    rng: torch.Generator,
    host_rng: np.random.Generator,
    precision: Precision,
    group: Any,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Learn from one batch of sentences, token ids (B, T); strength: of corruptions, 0-dim in [0, 1].

    Returns what `Optimizer.step` returns: losses by name, and whether the step was skipped for a non-finite value.
    """
    s = settings
    ids, is_random = randomize_tokens(ids, s.random_tokens, cycle.vocab_size, host_rng)  # (B, T), (B,) bool
    local = group.local_rows(ids)
    predictor = TokenPredictor(ids, local, cycle.vocab_size, host_rng)
    language_model, scene_decoder, captioner = cycle.language_model, cycle.scene_decoder, cycle.caption_network

    with precision.of_networks():
        text = language_model(local, rng)  # hidden (B, T + 1, D), tokens (B, T, D), sentence (B, D)
    with precision.of_pictures():
        scene = scene_decoder(text, rng)  # mu, logvar (B, z_dim) -> picture (B, 3, 64, 64) in [0, 1]
    corruptions = CORRUPTIONS if s.channel else ("none",)
    received = transmit(scene.picture, strength, rng, host_rng, corruptions, group.first_row(ids))  # (B, 3, 64, 64)
    with precision.of_networks():
        # hidden (B, T + 1, H), embedding (B, D)
        caption = captioner(received, local, s.word_dropout, rng, scene.dropped)
        # The mean over local tokens, weighted so that every token of the global batch counts the same
        loss_mask = ~F.pad(scene.dropped, (0, 1))  # tokens that the picture shows, and EOS
        caption_loss = predictor.loss(caption.hidden, captioner.output.weight, captioner.output.bias, loss_mask)
        is_real = group.local_rows(~is_random)[:, None].expand_as(loss_mask)  # random tokens follow no grammar
        language_loss = predictor.loss(text.hidden, language_model.embedding.weight, None, is_real)
    targets = targets_of(ids)

    batch = group.gather(
        picture_embedding=caption.embedding,  # (B, D)
        sentence_embedding=text.sentence,  # (B, D)
        thumbnails=losses.thumbnails(scene.picture),  # (B, 768)
        edges=losses.edge_maps(scene.picture),  # (B, 256)
        **scene_decoder.features(scene),
    )
    distance = losses.sentence_distance(*count_batch_tokens(ids, cycle.vocab_size))  # (B, B)
    parts = {
        "caption": caption_loss * group.share_of_targets(targets),
        "language": language_loss * group.share_of_targets(targets.masked_fill(is_random[:, None], PAD)),
        "consistency": losses.consistency_loss(batch["picture_embedding"], batch["sentence_embedding"]),
        "kl": losses.kl_loss(scene.kl),
        "spatial": losses.spatial_loss(scene.picture),
        "diversity": losses.diversity_loss(batch["thumbnails"], distance),
        "perceptual": losses.perceptual_loss(batch["edges"], distance),
        **scene_decoder.losses(language_model.drawn_embedding, batch, ids, host_rng),  # color, repulsion, codes
    }
    loss = sum(getattr(s, f"lambda_{name}") * value for name, value in parts.items())
    return optimizer.step(loss, parts)  # backward, clip, AdamW


def randomize_tokens(
    ids: torch.Tensor, share: float, vocab_size: int, host_rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random-token augmentation: replace all tokens of a share of the sentences -> ids (B, T), is_random (B,) bool.

    In these sentences all tokens are equally frequent, and grammar does not help to predict them. They are spread
    evenly over the batch, so that each process of a group has its share of them.
    """
    count = min(round(share * len(ids)), len(ids) - 1)  # at least one row is real
    row = torch.arange(len(ids), device=ids.device)
    is_random = (row + 1) * count // len(ids) > row * count // len(ids)  # (B,), `count` of them True
    if share == 0:
        return ids, is_random
    tokens = torch.from_numpy(host_rng.integers(len(SPECIALS), vocab_size, size=tuple(ids.shape))).to(ids.device)
    return torch.where(is_random[:, None] & (ids != PAD), tokens, ids), is_random
