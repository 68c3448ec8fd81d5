"""The losses of the cycle, each a small function in float32 with its formula and what it prevents.

`algorithm.py` shows where each is used; its weight is `--lambda_NAME`. Pictures are (B, 3, 64, 64) in [0, 1]; `ids` are
token ids (B, T), padded with PAD. Every loss is a 0-dim tensor, in nats or in the squared unit that its docstring
names.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from imaging.filters import smooth
from text.vocabulary import PAD

# ---------------------------------------------------------------------------------------------
# Tokens
# ---------------------------------------------------------------------------------------------


def token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of targets (...), PAD ignored, under logits (..., V), nats; 0 where all targets are PAD.

    For the language model it prevents a text embedding without grammar. For the captioner it is the main loss: the
    sentence must come back. In training as in decoding, a token is predicted from the tokens before it only.
    """
    total = F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), ignore_index=PAD, reduction="sum")
    return total / (targets != PAD).sum().clamp(min=1)


def consistency_loss(
    picture_embedding: torch.Tensor, sentence_embedding: torch.Tensor, sharpness: float = 10.0
) -> torch.Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018) over cosines, nats; both (B, D).

    The picture embedding is computed from the picture alone, so this loss falls only if pictures differ as sentences
    do. Equal sentences of a batch are positives of each other. Prevents a captioner that guesses from grammar.
    """
    picture = F.normalize(picture_embedding.float(), dim=-1)
    sentence = F.normalize(sentence_embedding.float(), dim=-1)
    logits = sharpness * picture @ sentence.T
    same = (sentence @ sentence.T > 1 - 1e-4).float().detach()
    same = same / same.sum(1, keepdim=True)
    forth = -(same * logits.log_softmax(1)).sum(1).mean()
    return (forth - (same * logits.T.log_softmax(1)).sum(1).mean()) / 2


def kl_loss(kl: torch.Tensor) -> torch.Tensor:
    """Mean over sentences of the posterior's KL divergence from N(0, 1), (B,) nats.

    It is never clamped, since a clamp has no gradient where the KL is largest. Prevents latents with distant values.
    """
    return kl.float().mean()


# ---------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------


def spatial_loss(picture: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of a picture and its 5x5 mean, x 100. Prevents fine texture, in which a message can
    hide."""
    return 100 * F.mse_loss(smooth(picture, (0.2,) * 5), picture.float())


def sentence_distance(ids: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """Share of tokens that two sentences do not have in common: ids (B, T) below n_tokens -> (B, B) in [0, 1]."""
    bag = torch.zeros(len(ids), n_tokens, device=ids.device).scatter(1, ids, 1.0)
    bag[:, PAD] = 0
    both = bag @ bag.T
    size = bag.sum(1)
    return 1 - 2 * both / (size[:, None] + size[None] + 1e-6)


def squared_distances(rows: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances of all pairs of rows: (N, F) -> (N, N). Rounding may leave a 0 slightly negative."""
    square = (rows**2).sum(1)
    return square[:, None] + square[None] - 2 * rows @ rows.T


def pair_hinge(features: torch.Tensor, margin: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """Mean of relu(margin - d)^2 over pairs, d the root mean square distance of rows (B, F); margin (B, B)."""
    features = features.float()
    mean_square = squared_distances(features) / features.shape[1]
    distance = torch.sqrt(mean_square.clamp(min=0) + eps)  # the clamp only removes negative rounding errors
    off = 1 - torch.eye(len(features), device=features.device)
    return (torch.relu(margin - distance) ** 2 * off).sum() / off.sum().clamp(min=1)


def thumbnails(picture: torch.Tensor) -> torch.Tensor:
    """16x16 pictures: (B, 3, 64, 64) -> (B, 768)."""
    return F.avg_pool2d(picture.float(), 4).flatten(1)


def diversity_loss(thumbnails: torch.Tensor, distance: torch.Tensor, spread: float = 0.3) -> torch.Tensor:
    """`pair_hinge` on `thumbnails` with the margin spread x sqrt(sentence distance), x 100.

    Pictures differ at least as much as their sentences do. Prevents one scene for all sentences.
    """
    return 100 * pair_hinge(thumbnails, spread * torch.sqrt(distance + 1e-6))


def edges(picture: torch.Tensor, eps: float = 1e-4) -> torch.Tensor:
    """Sobel edge strength of the luminance, (B, 3, 64, 64) -> (B, 1, 64, 64).

    eps keeps the gradient of the square root finite on flat patches.
    """
    gray = F.pad(picture.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = gray[..., 2:] - gray[..., :-2]  # slices are ten times as fast as conv2d
    down = gray[:, :, 2:] - gray[:, :, :-2]
    across = (across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]) / 4
    down = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 4
    return torch.sqrt(across * across + down * down + eps)


def edge_maps(picture: torch.Tensor) -> torch.Tensor:
    """Edge strengths at 16x16 pixels: (B, 3, 64, 64) -> (B, 256)."""
    return F.avg_pool2d(edges(picture), 4).flatten(1)


def perceptual_loss(edge_maps: torch.Tensor, distance: torch.Tensor, spread: float = 0.06) -> torch.Tensor:
    """`pair_hinge` on `edge_maps` with the margin spread x sqrt(sentence distance), x 1000.

    Edges differ too, not only colors. Prevents colored blots that all have one form.
    """
    return 1000 * pair_hinge(edge_maps, spread * torch.sqrt(distance + 1e-6))


# ---------------------------------------------------------------------------------------------
# What tokens look like
# ---------------------------------------------------------------------------------------------


def repulsion_loss(points: torch.Tensor, scale: float = 0.3) -> torch.Tensor:
    """No two tokens look alike: points (n, F), of which two at distance 1 are clearly different -> 0-dim.

    scale x log(0.001 + mean over pairs of exp(-d^2 / 2 - 2 d)). The potential spreads points over the room there is,
    and its logarithm follows the closest pairs (Wang & Isola 2020). A Gaussian alone has no gradient at distance 0,
    where some tokens stayed together; the term 2 d has one.
    """
    square = squared_distances(points)
    off = 1 - torch.eye(len(points), device=points.device)
    near = torch.exp(-square / 2 - 2 * torch.sqrt(square.relu() + 1e-3))
    return scale * torch.log((near * off).sum() / off.sum().clamp(min=1) + 1e-3)


VISIBILITY = 30.0  # weight of the contrast to the background inside the color loss


def visibility_loss(
    lab: torch.Tensor, background: torch.Tensor, contrast: float = 45.0, lighter: float = 25.0
) -> torch.Tensor:
    """Every color stands out from every background: lab (n, 3), background (m, 3), CIELAB -> 0-dim.

    VISIBILITY x (relu(contrast - dE)^2 + relu(lighter - dL*)^2) / 1000 (CIE76) of each color's worst background,
    averaged over colors. A mean over all pairs would hardly change with the one pair that cannot be distinguished.
    Prevents objects and glyphs that cannot be seen.
    """
    difference = lab[:, None] - background[None]
    distance = torch.sqrt(difference.square().sum(-1) + 1e-3)
    shortfall = torch.relu(contrast - distance) ** 2 + torch.relu(lighter - difference[..., 0]) ** 2
    return VISIBILITY * shortfall.amax(1).mean() / 1000


def glyph_points(
    coverage: torch.Tensor, colors: torch.Tensor, background: torch.Tensor, unit: float = 0.9
) -> torch.Tensor:
    """Pictures of glyphs as points for `repulsion_loss`.

    coverage (n, side, side) in [0, 1], colors (n, 3) and background (3,) sRGB in [0, 1] -> (n, 3 side^2).

    Noise confuses two pictures by their pixel-wise distance, whether shape or color differs. `unit` (root of the sum of
    squares, in [0, 1] a channel) is nine times the deviation of noise 0.1. A 1-2-1 mean comes first, because blur
    removes finer differences.
    """
    pictures = (colors - background)[:, :, None, None] * coverage[:, None]  # difference from the background
    return smooth(pictures, (0.25, 0.5, 0.25), repeat=False).flatten(1) / unit


def color_loss(lab: torch.Tensor, ids: torch.Tensor, weight: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """A token has one color wherever it occurs, and different tokens have different colors: lab (N, 3) CIELAB of the
    occurrences of tokens ids (N,) below n_tokens, weight (N,) -> 0-dim.

    Pull: the variance of a token's color over its occurrences, dE^2 / 1000 (CIE76). Push: log(0.001 + mean over pairs
    of tokens of exp(-d / 10)), d the distance of their mean colors, dE. Prevents tokens of one color.
    """
    total = torch.zeros(n_tokens, device=lab.device).index_add(0, ids, weight)  # (n_tokens,)
    sums = torch.zeros(n_tokens, 3, device=lab.device).index_add(0, ids, lab * weight[:, None])
    means = sums / (total[:, None] + 1e-6)  # (n_tokens, 3)
    variance = (weight * ((lab - means[ids]) ** 2).sum(1)).sum() / (weight.sum() + 1e-6)

    present = (total > 0.5).float()
    pair = present[:, None] * present[None] * (1 - torch.eye(n_tokens, device=lab.device))
    square = squared_distances(means)
    near = torch.exp(-torch.sqrt(square.relu() + 1) / 10)
    at_zero = torch.exp(-torch.sqrt(torch.ones_like(square)) / 10)  # if all colors were equal
    potential = (near * pair).sum() / (at_zero * pair).sum().clamp(min=1)
    return variance / 1000 + torch.log(potential + 1e-3)
