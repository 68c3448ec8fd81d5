"""The algorithm on one screen: text -> embedding -> latent -> scene -> channel -> caption -> losses -> step.

Shapes: B sentences of the batch, T words, V words of vocabulary, C words that the next word is chosen from (all V of a small
vocabulary, see `WordSample`), N words that the batch can have at most, D = d_model. A step costs the same however large V is.
Where several processes share a batch, each has `local` sentences of it, and `group.gather` lets the losses that compare
sentences see the global batch. A single process has all of them, and `gather` changes nothing.
"""

import torch
import torch.nn.functional as F

import losses
from channel import CORRUPTIONS, transmit
from imaging.color import srgb_to_lab
from text.padding import targets_of
from text.vocabulary import PAD, SPECIALS
from text.word_sample import WordSample, words_of_batch


def training_step(networks, optimizer, settings, ids, strength, rng, host_rng, group):
    """Learn from one batch of sentences, word numbers (B, T) -> what `Optimizer.step` returns: losses by name, and whether the
    step was skipped because a number was not finite."""
    s = settings
    ids, real = with_random_tokens(ids, s.random_tokens, networks.vocab_size, host_rng)  # (B, T), (B,) bool
    local = group.local_rows(ids)
    sample = WordSample.for_batch(ids, networks.vocab_size, host_rng)
    numbers, count = words_of_batch(ids, networks.vocab_size)  # (B, T) in [0, N), N

    options = {"sample": sample} | (
        {"packed": True} if networks.glyphs_of_tokens else {}
    )  # packed where nobody needs surprisal

    text = networks.language_model(
        local, rng, **options
    )  # roles, words (B, T, D), sentence (B, D), logits (B, T + 1, C)
    scene = networks.scene_decoder(text, local != PAD, rng)  # mu, logvar (B, z_dim) -> picture (B, 3, 64, 64) in [0, 1]
    corruptions = CORRUPTIONS if s.channel else ("none",)
    received = transmit(scene, strength, rng, host_rng, corruptions, group.first_row(ids))  # (B, 3, 64, 64)
    caption, seen = networks.caption_network(
        received, local, s.word_dropout, rng, scene.dropped, **options
    )  # (B, T + 1, C), (B, D)

    batch = group.gather(
        seen=seen,  # (B, D)
        sentence=text.sentence,  # (B, D)
        thumbnails=losses.thumbnails(scene.picture),  # (B, 768)
        edges=losses.edge_maps(scene.picture),  # (B, 256)
        **features_of_words(scene, group.local_rows(numbers), count),
    )
    targets, distance = targets_of(local), losses.word_distance(numbers, count)  # (B, T + 1), (B, B)
    all_targets = targets_of(ids)
    all_real_targets = torch.where(real[:, None], all_targets, PAD)  # rows of random tokens have no language-model loss
    real_targets = group.local_rows(all_real_targets)
    per_target, per_word = group.share_of_words(targets, all_targets), group.share_of_words(local, ids)
    per_real_target = group.share_of_words(real_targets, all_real_targets)
    targets, real_targets, local = map(sample.numbers, (targets, real_targets, local))  # in [0, C)
    parts = {
        "caption": losses.word_loss(caption, told_by(scene, targets)) * per_target,
        "language": losses.word_loss(text.logits, real_targets) * per_real_target,
        **({} if text.cloze is None else {"cloze": losses.word_loss(text.cloze, local) * per_word}),
        "consistency": losses.consistency_loss(batch["seen"], batch["sentence"]),
        "kl": losses.kl_loss(scene.kl),
        "spatial": losses.spatial_loss(scene.picture),
        "diversity": losses.diversity_loss(batch["thumbnails"], distance),
        "perceptual": losses.perceptual_loss(batch["edges"], distance),
        **losses_of_words(networks, batch, numbers, count, scene.ground, host_rng),  # layout, color, shape, repulsion
        **losses_of_codes(networks.commitment()),
    }
    loss = sum(getattr(s, f"lambda_{name}") * value for name, value in parts.items())
    return optimizer.step(loss, parts)  # backward, clip, AdamW


def told_by(scene, targets):
    """Words to predict (B, T + 1), without those that the picture does not tell."""
    return targets if scene.dropped is None else targets.masked_fill(F.pad(scene.dropped, (0, 1)), PAD)


def with_random_tokens(ids, share, vocab_size, host_rng):
    """Replace the words of a share of the sentences (B, T) by random ones -> sentences, and which rows are real (B,).

    The random rows are evenly spaced, so that each process of a group has its share of them. All tokens are drawn and
    read equally often in them, and no grammar helps to predict them.
    """
    count = min(round(share * len(ids)), len(ids) - 1)  # at least one row is real
    row = torch.arange(len(ids), device=ids.device)
    is_random = (row + 1) * count // len(ids) > row * count // len(ids)  # (B,), `count` of them True
    if share == 0:
        return ids, ~is_random
    words = host_rng.integers(len(SPECIALS), vocab_size, size=tuple(ids.shape))
    words = torch.from_numpy(words).to(ids.device)
    return torch.where(is_random[:, None] & (ids != PAD), words, ids), ~is_random


# ---------------------------------------------------------------------------------------------
# What a word looks like, for decoders that draw marks and for the plain one
# ---------------------------------------------------------------------------------------------


def features_of_words(scene, numbers, count):
    """What `losses_of_words` needs of a scene, as rows that processes can gather. numbers, count: of `words_of_batch`."""
    if scene.object_masks is not None or scene.preference is None and scene.masks is not None:
        return {}  # what a word sets, or looks like, follows from the word alone
    if scene.masks is None:
        return {"mean_color": scene.picture.float().mean((2, 3))}  # (B, 3)
    word, _, weight = losses.shown_words(scene.attention, scene.presence, numbers)  # (B K,)
    masks = losses.word_sums(scene.masks.flatten(0, 1) * weight[:, None, None], word, count)  # (N, side, side)
    return {
        "attention": scene.attention,  # (B, K, T)
        "preference": scene.preference,  # (B, K, T)
        "presence": scene.presence,  # (B, K)
        "colors": scene.colors,  # (B, K, 3)
        "masks": masks[None],  # (1, N, side, side), one row for each process
    }


def losses_of_words(networks, batch, numbers, count, ground, host_rng):
    """Losses of what words look like in the global batch: {name: 0-dim tensor}. numbers, count: of `words_of_batch`."""
    if networks.values_of_words is not None:
        return losses_of_properties(*networks.values_of_words())
    if networks.glyphs_of_tokens is not None:
        words = host_rng.permutation(networks.vocab_size - len(SPECIALS))[:COMPARED] + len(SPECIALS)
        return glyph_losses(*networks.glyphs_of_tokens(torch.from_numpy(words).to(ground.device)), ground)
    if "mean_color" in batch:  # a picture's mean color stands for each of its words
        words = numbers.flatten()
        lab = srgb_to_lab(batch["mean_color"].repeat_interleave(numbers.shape[1], 0))  # (B T, 3)
        return {"color": losses.color_loss(lab, words, (words != PAD).float(), None, count)}
    attention, preference, colors = batch["attention"], batch["preference"], batch["colors"]
    word, place, weight = losses.shown_words(attention, batch["presence"], numbers)  # (B K,)
    competing = losses.competition(word, place, weight, count, attention.shape[1])  # (N, N)
    layout = losses.layout_loss(torch.stack([attention, preference]), numbers, count).sum()
    lab, ground = srgb_to_lab(torch.cat([colors.flatten(0, 1), ground[None]])).split([len(word), 1])  # (B K, 3), (1, 3)
    color = losses.color_loss(lab, word, weight, ground, count, competing)
    total = losses.word_sums(weight, word, count)  # (N,)
    silhouettes = losses.silhouettes_of_words(batch["masks"].sum(0), total)  # (N, side^2)
    return {
        "layout": layout,
        "color": color,
        "shape": losses.shape_loss(silhouettes, total, competing),
        "repulsion": losses.repulsion_loss(lab, silhouettes, word, weight, count, competing),
    }


COMPARED = 384  # words whose marks a step compares with one another


def glyph_losses(masks, colors, ground):
    """Losses of what different words look like: masks (n, side, side), colors (n, 3), ground (3,) -> {name: 0-dim tensor}."""
    lab, lab_of_ground = srgb_to_lab(torch.cat([colors, ground[None]])).split([len(colors), 1])  # (n, 3), (1, 3)
    return {
        "color": losses.visibility_loss(lab, lab_of_ground, contrast=70.0, lighter=30.0),
        "repulsion": losses.value_repulsion(losses.glyph_points(masks, colors, ground), scale=1.0),
    }


def losses_of_codes(commitment):
    """`Cycle.commitment` -> {name: 0-dim tensor}, empty without codes."""
    return {"codes": torch.stack(commitment).sum()} if commitment else {}


def losses_of_properties(values, features):
    """Losses of what words set: {property: values (n, numbers)}, {property: points (n, F), 1 apart where clearly different}."""
    lab = {name: srgb_to_lab(values[name][:, :3]) for name in ("color", "rim", "dot", "ground") if name in values}
    color = losses.visibility_loss(lab["color"], lab["ground"]) if lab.keys() >= {"color", "ground"} else 0.0
    for name, around in (
        ("rim", "color"),
        ("rim", "ground"),
        ("dot", "ground"),
    ):  # a hole around a dot is dark, as the ground
        if lab.keys() >= {name, around}:  # a body has any color; the last value of a rim or a dot is that of no word
            contrast = (45.0, 25.0) if around == "ground" else (35.0, -100.0)
            color = color + losses.visibility_loss(lab[name][:-1], lab[around], *contrast)
    return {"color": color, "repulsion": sum(losses.value_repulsion(points) for points in features.values())}
