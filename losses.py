"""The losses of the cycle, each a small function in float32 with its formula and what it prevents.

`algorithm.py` shows where each is used; its weight is `--lambda_NAME`. Pictures are (B, 3, 64, 64) in [0, 1]; `ids` are
word numbers (B, T) padded with PAD. Every loss returns a scalar in nats or in the squared unit that its docstring names.
"""

import torch
import torch.nn.functional as F

from imaging.filters import smooth
from text.padding import PackedRows
from text.vocabulary import PAD

# ---------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------


def word_loss(logits, targets):
    """Mean cross-entropy of the next word, nats; logits (B, T + 1, V) or PackedRows of them, targets (B, T + 1).

    For the language model it prevents a text embedding without grammar. For the captioner it is the
    teacher itself: the sentence must come back. Position t is predicted from words before t only,
    in training as in decoding. 0 if there is no target.
    """
    if isinstance(logits, PackedRows):
        rows, targets = logits.rows, logits.packing.pack(targets)
    else:
        rows, targets = logits.flatten(0, 1), targets.flatten()
    total = F.cross_entropy(rows.float(), targets, ignore_index=PAD, reduction="sum")
    return total / (targets != PAD).sum().clamp(min=1)


def consistency_loss(picture_embedding, sentence_embedding, sharpness=10.0):
    """Symmetric InfoNCE (van den Oord et al. 2018) over cosines, nats; both (B, D).

    The picture's embedding comes from the picture alone, so that this falls only if pictures tell
    sentences apart. Equal sentences in a batch count as each other's positives. Prevents a captioner
    that guesses from grammar.
    """
    picture = F.normalize(picture_embedding.float(), dim=-1)
    sentence = F.normalize(sentence_embedding.float(), dim=-1)
    logits = sharpness * picture @ sentence.T
    same = (sentence @ sentence.T > 1 - 1e-4).float().detach()
    same = same / same.sum(1, keepdim=True)
    forth = -(same * logits.log_softmax(1)).sum(1).mean()
    return (forth - (same * logits.T.log_softmax(1)).sum(1).mean()) / 2


# ---------------------------------------------------------------------------------------------
# Latents and layout
# ---------------------------------------------------------------------------------------------


def kl_loss(kl):
    """Mean of the posterior's KL to N(0, 1) (B,), nats, never clamped: a maximum would stop the
    pull just when it is needed. Prevents a latent that stores a sentence in distant numbers."""
    return kl.float().mean()


# Weights inside the layout loss, chosen on the quick preset (docs/experiments.md)
SPREAD_OF_WORDS, COLLISIONS, INDECISION = 0.5, 3.0, 0.4


def layout_loss(attention, ids, vocab_size, eps=1e-6):
    """Few words per sprite, and one kind of word per place; attention (..., B, K, T) -> (...), nats.

    H(word | place) over the batch, so that a place keeps to one kind of word,
    + SPREAD_OF_WORDS x H(place | word), so that a word keeps to few places,
    + COLLISIONS x sum over pairs t < t' of a_t a_t' per sprite, so that two words of a sentence never share a sprite,
    + INDECISION x H(place | this word), so that a word stands in one place.
    Prevents the stall in which every sprite shows a little of everything. It is applied to the preference of words, too
    (`Layout`): words that all prefer one place push one another aside, and none stands where its kind stands.
    """
    share = attention.float()  # (..., B, K, T)
    rows = share.transpose(-3, -2).flatten(-2)  # (..., K, B T)
    words = rows @ F.one_hot(ids.flatten(), vocab_size).float()  # (..., K, V)
    of_place, of_word = words.sum(-1, keepdim=True), words.sum(-2, keepdim=True)
    total = of_place.sum(-2, keepdim=True) + eps
    given = words / (of_place + eps)
    kinds = -(of_place / total * given * (given + eps).log()).sum((-2, -1))
    places_of_word = words / (of_word + eps)  # (..., K, V)
    spread = -(of_word / total * places_of_word * (places_of_word + eps).log()).sum((-2, -1))
    collisions = 0.5 * (share.sum(-1).square() - share.square().sum(-1)).sum(-1).mean(-1)
    mass = share.sum(-2, keepdim=True)  # (..., B, 1, T)
    where = share / (mass + eps)
    undecided = -(where * mass * (where + eps).log()).sum((-3, -2, -1)) / (mass.sum((-3, -2, -1)) + eps)
    return kinds + SPREAD_OF_WORDS * spread + COLLISIONS * collisions + INDECISION * undecided


# ---------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------


def spatial_loss(picture):
    """Mean square of what a 5x5 mean takes away from the picture, x 100. Prevents fine texture, in
    which a message can hide from the eye."""
    return 100 * F.mse_loss(smooth(picture, (0.2,) * 5), picture.float())


def word_distance(ids, vocab_size):
    """Share of words that two sentences of a batch do not have in common: (B, T) -> (B, B) in [0, 1]."""
    bag = torch.zeros(len(ids), vocab_size, device=ids.device).scatter(1, ids, 1.0)
    bag[:, PAD] = 0
    both = bag @ bag.T
    size = bag.sum(1)
    return 1 - 2 * both / (size[:, None] + size[None] + 1e-6)


def squared_distances(rows):
    """Squared Euclidean distances between all rows: (N, F) -> (N, N); rounding may leave a 0 a little below it."""
    square = (rows**2).sum(1)
    return square[:, None] + square[None] - 2 * rows @ rows.T


def pair_hinge(features, wanted, eps=1e-6):
    """Mean of relu(wanted - d)^2 over pairs, d the root mean square distance of feature rows (B, F)."""
    features = features.float()
    mean_square = squared_distances(features) / features.shape[1]
    distance = torch.sqrt(mean_square.clamp(min=0) + eps)  # the clamp only takes rounding below 0
    off = 1 - torch.eye(len(features), device=features.device)
    return (torch.relu(wanted - distance) ** 2 * off).sum() / off.sum().clamp(min=1)


def thumbnails(picture):
    """16x16 pictures: (B, 3, 64, 64) -> (B, 768)."""
    return F.avg_pool2d(picture.float(), 4).flatten(1)


def diversity_loss(thumbnails, distance, spread=0.3):
    """Pictures differ as much as their sentences do: hinge on the RMSE of `thumbnails`, x 100, wanted to be at least
    spread x sqrt(word distance). Prevents one scene for all."""
    return 100 * pair_hinge(thumbnails, spread * torch.sqrt(distance + 1e-6))


def edges(picture, eps=1e-4):
    """Sobel edge strength of the luminance, (B, 3, 64, 64) -> (B, 1, 64, 64); epsilon under the root,
    because the gradient of a flat patch is NaN without it."""
    gray = F.pad(picture.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across, down = (
        gray[..., 2:] - gray[..., :-2],
        gray[:, :, 2:] - gray[:, :, :-2],
    )  # slices: ten times as fast as conv2d
    across = (across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]) / 4
    down = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 4
    return torch.sqrt(across * across + down * down + eps)


def edge_maps(picture):
    """Edge strengths at 16x16 pixels: (B, 3, 64, 64) -> (B, 256)."""
    return F.avg_pool2d(edges(picture), 4).flatten(1)


def perceptual_loss(edge_maps, distance, spread=0.06):
    """The hinge of `diversity_loss` on `edge_maps`, x 1000: edges differ too, not only colors. Prevents a code of colored
    blots that all have one form."""
    return 1000 * pair_hinge(edge_maps, spread * torch.sqrt(distance + 1e-6))


# ---------------------------------------------------------------------------------------------
# Marks: what a word looks like
# ---------------------------------------------------------------------------------------------


def shown_words(attention, presence, ids):
    """The word that each sprite shows most of, and how visibly.

    attention (B, K, T), presence (B, K), ids (B, T) -> word, place, weight, each (B K,).
    """
    share, at = attention.detach().max(2)  # (B, K)
    weight = (share > 0.5).float() * presence.detach()
    place = torch.arange(share.shape[1], device=ids.device).expand_as(share)
    return ids.gather(1, at).flatten(), place.flatten(), weight.flatten()


def word_sums(features, word, vocab_size):
    """Sums of features (N, ...) per word number (N,) -> (V, ...)."""
    return features.new_zeros(vocab_size, *features.shape[1:]).index_add(0, word, features)


def word_means(features, word, weight, vocab_size, eps=1e-6):
    """Weighted means of features (N, F) per word number (N,) -> means (V, F), total weight (V,)."""
    total = word_sums(weight, word, vocab_size)
    return word_sums(features * weight[:, None], word, vocab_size) / (total[:, None] + eps), total


def competition(word, place, weight, vocab_size, n_places, eps=1e-6):
    """How much two words compete for the same places: cosine of their counts over places, detached.

    word, place, weight (N,) of the marks of a batch -> (V, V) in [0, 1]. Red and blue compete, red
    and left do not. The layout says so, not a list.
    """
    counts = torch.zeros(vocab_size, n_places, device=word.device)
    counts = counts.index_put((word, place), weight, accumulate=True)
    counts = counts / (counts.norm(dim=1, keepdim=True) + eps)
    return (counts @ counts.T).detach()


def gaussian(sigma):
    """d^2 -> exp(-d^2 / 2 sigma^2)."""
    return lambda square: torch.exp(-square / (2 * sigma**2))


def log_potential(means, total, competing, near, others):
    """How close words that are present (total weight > 0.5) look: log of 0.001 + a mean over pairs, which is 1 where all
    look alike, of competing x near(d^2) between words that compete and others(d^2) between all.

    means (V, F), total (V,), competing a number or (V, V), near and others functions of the squared distances (V, V),
    near at most 1 -> 0-dim tensor. A Gaussian potential spreads points evenly over the room there is, and its logarithm
    follows the closest pairs however many are far apart (Wang & Isola 2020). A margin wider than that room would drive
    the points into its corners.
    """
    present = (total > 0.5).float()
    pair = present[:, None] * present[None] * (1 - torch.eye(len(means), device=means.device))
    square = squared_distances(means)
    potential = competing * near(square) + others(square)
    most = competing + others(torch.zeros_like(square))  # if all looked alike
    return torch.log((potential * pair).sum() / (most * pair).sum().clamp(min=1) + 1e-3)


VISIBILITY = 30.0  # weight of the contrast to the ground inside the color loss


def color_loss(lab, word, weight, ground, vocab_size, competing=0.0, near=25.0, contrast=70.0, lighter=30.0):
    """Colors of the marks of words (N,), lab (N, 3), and of the ground, (3,) or None, all in CIELAB.

    Pull: the variance of a word's color over its occurrences, dE^2 / 1000 (CIE76). Push: `log_potential` with sigma `near`
    (dE) among competing words and 0.3 exp(-d / 10) among all words, whose force does not fade as two colors come close: a
    color tells its word in any company. Contrast to the ground: VISIBILITY x relu(contrast - dE)^2 / 1000 and, because a
    deep blue on black is far away in dE and yet hard to see, VISIBILITY x relu(lighter - dL*)^2 / 1000; the ground is dark.
    Nobody says which color belongs to which word. Prevents words that look alike, or that cannot be seen.
    """
    means, total = word_means(lab, word, weight, vocab_size)
    mean_over = weight.sum() + 1e-6
    loss = (weight * ((lab - means[word]) ** 2).sum(1)).sum() / mean_over
    if ground is not None:
        apart = lab - ground
        away = torch.sqrt(apart.square().sum(1) + 1e-3)
        unseen = torch.relu(contrast - away) ** 2 + torch.relu(lighter - apart[:, 0]) ** 2
        loss = loss + VISIBILITY * (weight * unseen).sum() / mean_over

    def among_all(square):
        return 0.3 * torch.exp(-torch.sqrt(square.relu() + 1) / 10)

    return loss / 1000 + log_potential(means, total, competing, gaussian(near), among_all)


def silhouettes_of_words(masks, total, eps=1e-6):
    """Weighted sums of masks per word (N, side, side), total weight (V,) -> each word's mean silhouette after a 3x3 mean, of
    length 1 (N, side^2). From sums, so that processes need not exchange every mask."""
    means = smooth(masks, (1 / 3,) * 3, repeat=False).flatten(1) / (total[:, None] + eps)
    return means / torch.sqrt(means.square().sum(1, keepdim=True) + 1e-2)  # a thin mark is not yet a different one


def shape_loss(silhouettes, total, competing=0.0, near=0.7):
    """Silhouettes of different words differ: what `silhouettes_of_words` returns (N, side^2), total weight (V,).

    `log_potential` with sigma `near`; two silhouettes that share nothing are sqrt(2) apart. A tenth of the potential holds
    among words that do not compete. Prevents marks that differ in color alone.
    """
    near = gaussian(near)
    return log_potential(silhouettes, total, competing, near, lambda square: 0.1 * near(square))


def repulsion_loss(lab, silhouettes, word, weight, vocab_size, competing=0.0, color=40.0, shape=0.9):
    """No two competing words are alike in color and in silhouette at once: `log_potential` of both by exp(-d^2 / 2 - 2 d).

    lab (N, 3) CIELAB of the marks of words (N,), silhouettes (V, F) of `silhouettes_of_words`. Distances count in units of
    `color` (dE, CIE76) and `shape` (as in `shape_loss`). Prevents two rings of which one is a little greener. The force of a
    Gaussian alone is 0 where two marks coincide, and some words never parted: this one grows as they come together.
    """
    means, total = word_means(lab, word, weight, vocab_size)
    together = torch.cat([means / color, silhouettes / shape], 1)

    def near(square):
        return torch.exp(-square / 2 - 2 * torch.sqrt(square.relu() + 1e-3))

    return log_potential(together, total, competing, near, torch.zeros_like)


def glyph_points(masks, colors, ground, unit=0.9):
    """Pictures of marks as points for `value_repulsion`: masks (n, side, side), colors (n, 3), ground (3,) -> (n, 3 side^2).

    The channel's noise confuses two pictures by how far apart they are pixel by pixel, whether it is shape or color that differs.
    `unit` (root of the sum of squares, in [0, 1] a channel) is nine times the deviation of noise 0.1; a 1-2-1 mean first, because
    blur takes finer differences away.
    """
    pictures = (colors - ground)[:, :, None, None] * masks[:, None]  # beside the ground
    return smooth(pictures, (0.25, 0.5, 0.25), repeat=False).flatten(1) / unit


# ---------------------------------------------------------------------------------------------
# Properties: what a word sets
# ---------------------------------------------------------------------------------------------


def value_repulsion(points, scale=0.3):
    """No two values of a property are alike: points (n, F), 1 apart where clearly different -> 0-dim.

    scale x log of 0.001 + the mean over pairs of exp(-d^2 / 2 - 2 d): near 0 where all values coincide, and without end of its force
    where two do (see `repulsion_loss`). Prevents words whose values nobody can tell apart.
    """
    square = squared_distances(points)
    off = 1 - torch.eye(len(points), device=points.device)
    near = torch.exp(-square / 2 - 2 * torch.sqrt(square.relu() + 1e-3))
    return scale * torch.log((near * off).sum() / off.sum().clamp(min=1) + 1e-3)


def visibility_loss(lab, ground, contrast=45.0, lighter=25.0):
    """Every color stands out from every ground: lab (n, 3), ground (m, 3), CIELAB -> 0-dim.

    VISIBILITY x (relu(contrast - dE)^2 + relu(lighter - dL*)^2) / 1000 (CIE76) of the worst ground of each color, the mean over
    colors: a mean over pairs hardly feels the one pair that cannot be told apart. Prevents things that cannot be seen.
    """
    apart = lab[:, None] - ground[None]
    away = torch.sqrt(apart.square().sum(-1) + 1e-3)
    unseen = torch.relu(contrast - away) ** 2 + torch.relu(lighter - apart[..., 0]) ** 2
    return VISIBILITY * unseen.amax(1).mean() / 1000
