"""The sections about information: bottleneck, diversity of pictures, the language model, coherence."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

import losses
import metrics
from evaluation.measures.features import small_pixels
from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, Protocol
from text import grammar
from text.grammar import parse, sample_sentences
from text.padding import targets_of
from text.vocabulary import PAD, SPECIALS

# ---------------------------------------------------------------------------------------------
# Bottleneck
# ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def text_entropy(split: str) -> float:
    """Entropy of a split's sentences, bits (`grammar.entropy_of_split`)."""
    return grammar.entropy_of_split(split)


def grammar_bits(sentences: list[str]) -> float:
    """Mean bits of sentences under the true distribution (`grammar.bits_of`): the optimum of a language model."""
    return float(grammar.bits_of(np.array([grammar.to_row(parse(s)) for s in sentences])).mean())


@torch.no_grad()
def sentence_nats(model: ModelUnderTest, sentences: list[str]) -> tuple[float, float]:
    """Mean cross-entropy of whole sentences, nats: (the captioner's given the picture, the language model's)."""
    networks = model.cycle
    captioner = language_model = 0.0
    pictures = model.draw(sentences)
    done = 0
    for ids in model.ids(sentences):  # (B, T)
        picture = pictures[done : done + len(ids)].to(model.device)
        done += len(ids)
        targets = targets_of(ids)  # (B, T + 1)
        n_tokens = (targets != PAD).sum()
        for_captions = networks.caption_network.logits(networks.caption_network(picture, ids).hidden)
        for_text = networks.language_model.logits(networks.language_model(ids).hidden)
        captioner += float(losses.token_loss(for_captions, targets) * n_tokens)
        language_model += float(losses.token_loss(for_text, targets) * n_tokens)
    return captioner / len(sentences), language_model / len(sentences)


def bottleneck_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Bits through the picture, active latent dimensions, and the number of different pictures."""
    found = Metrics(seed)
    sentences = model.sentences(protocol.sentences, "test", seed + 4)
    captioner_nats, language_nats = sentence_nats(model, sentences)
    if model.lines is None:
        bits = text_entropy("test")
        id, label = "bits_through_picture", "bits through the picture (at least)"
        note = "H(text) of the grammar, estimated to 0.1 bits from its probabilities"
    else:
        bits = language_nats / math.log(2)
        id, label = "bits_through_picture/estimate", "bits through the picture (estimate)"
        note = "H(text) is the language model's estimate"
    values = {OWN: metrics.bits_through(bits, captioner_nats), "blank_picture": 0.0, "whole_text": bits}
    found.add(id, label, values, len(sentences), high=bits, better="high", note=note)
    mu, kl = _latents(model, sentences)
    _add_latents(found, mu, kl, bits, model.settings.use_vae)
    _add_diversity(found, model, list(dict.fromkeys(sentences))[: protocol.vendi])
    return {"metrics": found, "details": {"text_bits": bits, "latent_variance": mu.numpy().var(0).tolist()}}


@torch.no_grad()
def _latents(model, sentences):
    """n sentences -> posterior means (n, z_dim), and KL in nats (n,)."""
    scenes = [model.cycle.draw(ids) for ids in model.ids(sentences)]
    return torch.cat([s.mu.cpu() for s in scenes]), torch.cat([s.kl.cpu() for s in scenes])


def _add_latents(found, mu, kl, bits, use_vae):
    """Add metrics of posterior means (n, z_dim) and KL in nats (n,); bits: of the text."""
    n, z_dim = mu.shape
    active = {OWN: metrics.active_units(mu.numpy()), "all_latents": z_dim}
    found.add("active_latents", "active latent dimensions", active, n, high=z_dim)
    if use_vae:
        total = float(kl.mean()) / math.log(2)
        text = {OWN: total, "whole_text": bits}
        found.add("latent_kl", "KL of the latent (bits a sentence)", text, n, high=None)
        text = {OWN: total / z_dim, "whole_text": bits / z_dim}
        found.add("kl_per_latent", "KL per latent dimension (bits)", text, n, high=None)


# ---------------------------------------------------------------------------------------------
# Diversity and coherence of pictures
# ---------------------------------------------------------------------------------------------


def _add_diversity(found, model, sentences):
    """Add metrics of how many different pictures different sentences have."""
    pictures = model.draw_with_baselines(sentences, found.seed)
    n = len(sentences)
    apart = {decoder: metrics.pairwise_rmse(small_pixels(drawn)) for decoder, drawn in pictures.items()}
    for name, symbol, q in (("1", "1", 1), ("2", "2", 2), ("inf", "∞", math.inf)):
        scores = {decoder: metrics.vendi_score(distances, 0.1, q) for decoder, distances in apart.items()}
        label = f"Vendi score, q = {symbol}"
        found.add(f"vendi/{name}", label, {"one_picture": 1.0, **scores}, n, low=1.0, high=n, better="high")
    levels = {decoder: (drawn * 255).round().byte().numpy() for decoder, drawn in pictures.items()}
    distinct = {decoder: len({p.tobytes() for p in some}) / n for decoder, some in levels.items()}
    found.add("distinct_pictures", "distinct pictures at 8 bit", distinct, n, better="high")
    alike = {"mode_collapse": 1.0, **{decoder: float((d < 0.01).mean()) for decoder, d in apart.items()}}
    label = "pairs of sentences with one picture (RMSE < 0.01)"
    found.add("same_picture_pairs", label, alike, n, better="low")


def coherence_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Total variation and spectral slope, beside white noise and other scene decoders."""
    found = Metrics(seed)
    sentences = model.sentences(min(protocol.vendi, 200), "test", seed + 6)
    n = len(sentences)
    noise = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    pictures = {"white_noise": noise, **model.draw_with_baselines(sentences, seed)}
    variation = {name: metrics.total_variation(p.numpy()) for name, p in pictures.items()}
    found.add("total_variation", "total variation", variation, n)
    slope = {name: metrics.spectral_slope(p.numpy()) for name, p in pictures.items()}
    found.add("spectral_slope", "spectral slope", slope, n, low=None, high=None)
    return {"metrics": found, "details": {}}


# ---------------------------------------------------------------------------------------------
# The language model
# ---------------------------------------------------------------------------------------------


def language_model_section(
    model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]
) -> dict:
    """Perplexity on unseen sentences, and metrics of the sentences that the language model invents."""
    found = Metrics(seed)
    _add_perplexity(found, model, model.sentences(protocol.sentences, "test", seed + 5))
    rng = torch.Generator(model.device).manual_seed(seed)
    with torch.no_grad():
        rows = model.cycle.language_model.sample(protocol.invented, rng).tolist()
    invented = [model.vocab.decode(row) for row in rows]
    n = len(invented)
    if model.lines is None:
        _add_invented_of_grammar(found, model, invented)
    else:
        values = {OWN: _share_not_in_file(model, invented), "captions_file": 0.0}
        found.add("invented_not_in_file", "invented sentences that are not in the file's training part", values, n)
    different = {OWN: len(set(invented)) / n, "one_sentence": 1 / n}
    found.add("invented_different", "different ones among the invented", different, n, better="high")
    return {"metrics": found, "details": {"invented": invented[:40]}}


def _add_perplexity(found, model, sentences):
    """Add the language model's perplexity of a word, in [1, inf)."""
    n = len(sentences)
    n_words = sum(len(s.split()) + 1 for s in sentences)  # the end token counts
    _, nats = sentence_nats(model, sentences)
    values = {OWN: math.exp(min(50, nats * n / n_words)), "chance": float(len(model.vocab) - len(SPECIALS) + 1)}
    if model.lines is None:
        values["grammar"] = 2 ** (grammar_bits(sentences) * n / n_words)
    found.add("perplexity", "perplexity of a word", values, n, low=1.0, high=None, better="low")


def _add_invented_of_grammar(found, model, invented):
    """Add the shares of invented sentences that are in the grammar, and that are in none of training's."""
    n = len(invented)
    rng = np.random.default_rng(found.seed)
    random_words = [" ".join(rng.choice(model.vocab.words[3:], len(s.split()))) for s in invented]
    parsed = {OWN: _share_parsed(invented), "random_words": _share_parsed(random_words), "grammar": 1.0}
    found.add("invented_parse", "invented sentences that parse", parsed, n, better="high")
    of_grammar = [not _trainable(s) for s in sample_sentences(n, "train", found.seed)]
    new = float(np.mean([parse(s) is not None and not _trainable(s) for s in invented]))
    label = "invented sentences that parse and that do not occur in training"
    found.add("invented_new", label, {OWN: new, "grammar": float(np.mean(of_grammar))}, n)


def _share_parsed(sentences):
    return float(np.mean([parse(s) is not None for s in sentences]))


def _share_not_in_file(model, invented):
    """Share of invented sentences that are not in the training part of the captions file."""
    seen = set()
    for k in range(-(-model.data.num_samples // 64)):
        seen.update(model.vocab.decode(row) for row in model.data.batch(0, k, 64).tolist())
    return float(np.mean([s not in seen for s in invented]))


def _trainable(sentence):
    return bool(grammar.in_split(grammar.to_row(parse(sentence))[None], "train")[0])
