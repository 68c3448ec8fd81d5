"""The algorithm on one screen: text -> embedding -> latent -> scene -> channel -> caption -> losses -> step.

Shapes: B sentences of the batch, T words, V words of vocabulary, D = d_model. Where several processes share a batch, each
has `local` sentences of it, and `group.gather` lets the losses that compare sentences see the global batch. A single
process has all of them, and `gather` changes nothing.
"""

import torch
import torch.nn.functional as F

import losses
from channel import CORRUPTIONS, transmit
from imaging.color import srgb_to_lab
from text.padding import targets_of
from text.vocabulary import PAD


def training_step(networks, optimizer, settings, ids, severity, rng, host_rng, group):
    """Learn from one batch of sentences, word numbers (B, T) -> what `Optimizer.step` returns: losses by name, and whether the
    step was skipped because a number was not finite."""
    s, vocab_size, local = settings, networks.vocab_size, group.local_rows(ids)

    text = networks.language_model(local, rng)  # roles, words (B, T, D), sentence (B, D), logits (B, T + 1, V)
    scene = networks.scene_decoder(text, local != PAD, rng)  # mu, logvar (B, z_dim) -> picture (B, 3, 64, 64) in [0, 1]
    corruptions = CORRUPTIONS if s.channel else ("none",)
    arrived = transmit(scene, severity, rng, host_rng, corruptions, group.first_row(ids))  # (B, 3, 64, 64)
    caption, seen = networks.caption_network(arrived, local, s.word_dropout, rng, scene.lost)  # logits (B, T + 1, V), (B, D)

    batch = group.gather(
        seen=seen,  # (B, D)
        sentence=text.sentence,  # (B, D)
        thumbnails=losses.thumbnails(scene.picture),  # (B, 768)
        edges=losses.edge_maps(scene.picture),  # (B, 256)
        **features_of_words(scene, local, vocab_size),
    )
    targets, distance = targets_of(local), losses.word_distance(ids, vocab_size)  # (B, T + 1), (B, B)
    per_target, per_word = group.share_of_words(targets, targets_of(ids)), group.share_of_words(local, ids)
    parts = {
        "caption": losses.word_loss(caption, told_by(scene, targets)) * per_target,
        "language": losses.word_loss(text.logits, targets) * per_target,
        "cloze": losses.word_loss(text.cloze, local) * per_word,
        "consistency": losses.consistency_loss(batch["seen"], batch["sentence"]),
        "kl": losses.kl_loss(scene.kl),
        "spatial": losses.spatial_loss(scene.picture),
        "diversity": losses.diversity_loss(batch["thumbnails"], distance),
        "perceptual": losses.perceptual_loss(batch["edges"], distance),
        **losses_of_words(networks, batch, ids, scene.ground),  # layout, color, shape, repulsion
    }
    loss = sum(getattr(s, f"lambda_{name}") * value for name, value in parts.items())
    return optimizer.step(loss, parts)  # backward, clip, AdamW


def told_by(scene, targets):
    """Words to predict (B, T + 1), without those that the picture does not tell."""
    return targets if scene.lost is None else targets.masked_fill(F.pad(scene.lost, (0, 1)), PAD)


# ---------------------------------------------------------------------------------------------
# What a word looks like, for decoders that draw marks and for the plain one
# ---------------------------------------------------------------------------------------------


def features_of_words(scene, ids, vocab_size):
    """What `losses_of_words` needs of a scene, as rows that processes can gather."""
    if scene.things is not None:  # what a word sets follows from the word alone
        return {}
    if scene.masks is None:
        return {"mean_color": scene.picture.float().mean((2, 3))}  # (B, 3)
    word, _, weight = losses.shown_words(scene.attention, scene.presence, ids)  # (B K,)
    masks = losses.word_sums(scene.masks.flatten(0, 1) * weight[:, None, None], word, vocab_size)  # (V, side, side)
    return {
        "attention": scene.attention,  # (B, K, T)
        "preference": scene.preference,  # (B, K, T)
        "presence": scene.presence,  # (B, K)
        "colors": scene.colors,  # (B, K, 3)
        "masks": masks[None],  # (1, V, side, side), one row for each process
    }


def losses_of_words(networks, batch, ids, ground):
    """Losses of what words look like in the global batch: {name: 0-dim tensor}."""
    vocab_size = networks.vocab_size
    if networks.values_of_words is not None:
        return losses_of_properties(*networks.values_of_words())
    if "mean_color" in batch:  # a picture's mean color stands for each of its words
        words = ids.flatten()
        lab = srgb_to_lab(batch["mean_color"].repeat_interleave(ids.shape[1], 0))  # (B T, 3)
        return {"color": losses.color_loss(lab, words, (words != PAD).float(), None, vocab_size)}
    attention, preference, colors = batch["attention"], batch["preference"], batch["colors"]
    word, place, weight = losses.shown_words(attention, batch["presence"], ids)  # (B K,)
    competing = losses.competition(word, place, weight, vocab_size, attention.shape[1])  # (V, V)
    layout = losses.layout_loss(torch.stack([attention, preference]), ids, vocab_size).sum()
    lab, ground = srgb_to_lab(torch.cat([colors.flatten(0, 1), ground[None]])).split([len(word), 1])  # (B K, 3), (1, 3)
    color = losses.color_loss(lab, word, weight, ground, vocab_size, competing)
    total = losses.word_sums(weight, word, vocab_size)  # (V,)
    silhouettes = losses.silhouettes_of_words(batch["masks"].sum(0), total)  # (V, side^2)
    return {
        "layout": layout,
        "color": color,
        "shape": losses.shape_loss(silhouettes, total, competing),
        "repulsion": losses.repulsion_loss(lab, silhouettes, word, weight, vocab_size, competing),
    }


def losses_of_properties(values, features):
    """Losses of what words set: {property: values (n, numbers)}, {property: points (n, F), 1 apart where clearly different}."""
    lab = {name: srgb_to_lab(values[name][:, :3]) for name in ("color", "rim", "dot", "ground") if name in values}
    color = losses.visibility_loss(lab["color"], lab["ground"]) if lab.keys() >= {"color", "ground"} else 0.0
    for name, around in (("rim", "color"), ("rim", "ground"), ("dot", "ground")):  # a hole around a dot is dark, as the ground
        if lab.keys() >= {name, around}:  # a body has any color; the last value of a rim or a dot is that of no word
            contrast = (45.0, 25.0) if around == "ground" else (25.0, -100.0)
            color = color + losses.visibility_loss(lab[name][:-1], lab[around], *contrast)
    return {"color": color, "repulsion": sum(losses.value_repulsion(points) for points in features.values())}
