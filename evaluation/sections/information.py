"""The sections of an evaluation about how much is said: bottleneck, diversity of pictures, the language model, coherence.

Sections as in `reading`.
"""

import math
from functools import lru_cache

import numpy as np
import torch

import data_utils
import losses
import metrics
from data_utils import PAD, pad
from evaluation.measures.features import small_pixels
from evaluation.metric import OWN, metric
from pictures import BATCH, rows_of
from text import grammar
from text.grammar import parse, sample_sentences
from text.padding import targets_of

# ---------------------------------------------------------------------------------------------
# Bottleneck
# ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def text_entropy(split):
    """Entropy of a split's sentences, bits (`grammar.entropy_of_split`)."""
    return grammar.entropy_of_split(split)


def grammar_bits(sentences):
    """Mean bits of sentences of the grammar to who knows it (`grammar.bits_of`): what a language model of it can reach."""
    return float(grammar.bits_of(np.array([grammar.to_row(parse(s)) for s in sentences])).mean())


def sentence_nats(model, sentences):
    """Mean cross-entropy of whole sentences, nats: (the captioner's given the picture, the language model's)."""
    cycle = model.cycle
    captioner = language_model = 0.0
    for i in range(0, len(sentences), BATCH):
        ids = pad(rows_of(model.vocab, sentences[i : i + BATCH], model.max_words)).to(model.device)  # (B, T)
        targets = targets_of(ids)  # (B, T + 1)
        with torch.no_grad():
            pictures = model.draw(sentences[i : i + BATCH]).to(model.device)
            n_words = (targets != PAD).sum()
            captioner += float(losses.token_loss(cycle.caption_network(pictures, ids)[0], targets) * n_words)
            language_model += float(losses.token_loss(cycle.language_model(ids).logits, targets) * n_words)
    return captioner / len(sentences), language_model / len(sentences)


def bottleneck_section(model, protocol, seed, advance):
    """Bits through the picture, latents in use, and how many different pictures there are."""
    sentences = model.sentences(protocol.sentences, "test", seed + 4)
    captioner_nats, language_nats = sentence_nats(model, sentences)
    estimated = model.lines is not None
    bits = language_nats / math.log(2) if estimated else text_entropy("test")
    found = metric(
        "bits_through_picture/estimate" if estimated else "bits_through_picture",
        "bits through the picture" + (" (estimate)" if estimated else " (at least)"),
        metrics.bits_through(bits, captioner_nats),
        len(sentences),
        seed,
        baselines={"blank_picture": 0.0, "whole_text": bits},
        high=bits,
        better="high",
        note="H(text) is the language model's estimate"
        if estimated
        else "H(text) of the grammar, estimated to 0.1 bits from its probabilities",
    )
    mu, kl = _latents(model, sentences)
    found |= _latent_metrics(mu, kl, bits, model.settings.use_vae, seed)
    found |= _diversity(model, seed, list(dict.fromkeys(sentences))[: protocol.vendi])
    return {"metrics": found, "details": {"text_bits": bits, "latent_variance": mu.numpy().var(0).tolist()}}


@torch.no_grad()
def _latents(model, sentences):
    """n sentences -> posterior means (n, z_dim), and KL in nats (n,)."""
    mu, kl = [], []
    for i in range(0, len(sentences), BATCH):
        ids = pad(rows_of(model.vocab, sentences[i : i + BATCH], model.max_words)).to(model.device)
        scene = model.cycle.draw(ids)
        mu.append(scene.mu.cpu())
        kl.append(scene.kl.cpu())
    return torch.cat(mu), torch.cat(kl)


def _latent_metrics(mu, kl, bits, use_vae, seed):
    """Posterior means (n, z_dim), KL in nats (n,), bits of the text -> metrics."""
    n, latents = mu.shape
    active = metrics.active_units(mu.numpy())
    found = metric(
        "active_latents", "active latents", active, n, seed, baselines={"all_latents": latents}, high=latents
    )
    if use_vae:
        total = float(kl.mean()) / math.log(2)
        text = {"whole_text": bits}
        found |= metric("latent_kl", "KL of the latent (bits a sentence)", total, n, seed, baselines=text, high=None)
        text = {"whole_text": bits / latents}
        found |= metric("kl_per_latent", "KL per latent (bits)", total / latents, n, seed, baselines=text, high=None)
    return found


# ---------------------------------------------------------------------------------------------
# Diversity and coherence of pictures
# ---------------------------------------------------------------------------------------------


def _diversity(model, seed, sentences):
    """How many different pictures different sentences have -> metrics."""
    pictures = model.draw_with_baselines(sentences, seed)
    n = len(sentences)
    apart = {decoder: metrics.pairwise_rmse(small_pixels(drawn)) for decoder, drawn in pictures.items()}
    found = {}
    for name, symbol, q in (("1", "1", 1), ("2", "2", 2), ("inf", "∞", math.inf)):
        score = {decoder: metrics.vendi_score(distances, 0.1, q) for decoder, distances in apart.items()}
        own = score.pop(OWN)
        found |= metric(
            f"vendi/{name}",
            f"Vendi score, q = {symbol}",
            own,
            n,
            seed,
            baselines={"one_picture": 1.0, **score},
            low=1.0,
            high=n,
            better="high",
        )
    distinct = {}
    for decoder, drawn in pictures.items():
        distinct[decoder] = len({(p * 255).round().byte().numpy().tobytes() for p in drawn}) / n
    own = distinct.pop(OWN)
    found |= metric("distinct_pictures", "distinct pictures at 8 bit", own, n, seed, baselines=distinct, better="high")
    alike = {decoder: float((distances < 0.01).mean()) for decoder, distances in apart.items()}
    own = alike.pop(OWN)
    found |= metric(
        "same_picture_pairs",
        "pairs of sentences with one picture (RMSE < 0.01)",
        own,
        n,
        seed,
        baselines={"mode_collapse": 1.0, **alike},
        better="low",
    )
    return found


def coherence_section(model, protocol, seed, advance):
    """Total variation and spectral slope, beside white noise and other scene decoders."""
    sentences = model.sentences(min(protocol.vendi, 200), "test", seed + 6)
    noise = torch.rand(len(sentences), 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    pictures = {"white_noise": noise, **model.draw_with_baselines(sentences, seed)}
    variation = {name: metrics.total_variation(p.numpy()) for name, p in pictures.items()}
    slope = {name: metrics.spectral_slope(p.numpy()) for name, p in pictures.items()}
    n = len(sentences)
    found = metric("total_variation", "total variation", variation.pop(OWN), n, seed, baselines=variation)
    found |= metric("spectral_slope", "spectral slope", slope.pop(OWN), n, seed, baselines=slope, low=None, high=None)
    return {"metrics": found, "details": {}}


# ---------------------------------------------------------------------------------------------
# The language model
# ---------------------------------------------------------------------------------------------


def language_model_section(model, protocol, seed, advance):
    """Perplexity on unseen sentences; what the model invents."""
    found = _perplexity(model, model.sentences(protocol.sentences, "test", seed + 5), seed)
    rng = torch.Generator(model.device).manual_seed(seed)
    with torch.no_grad():
        invented = [
            model.vocab.decode(row) for row in model.cycle.language_model.sample(protocol.invented, rng).tolist()
        ]
    if model.lines is None:
        found |= _invented_of_grammar(model, invented, seed)
    else:
        found |= _invented_of_file(model, invented, seed)
    n = len(invented)
    found |= metric(
        "invented_different",
        "different ones among the invented",
        len(set(invented)) / n,
        n,
        seed,
        baselines={"one_sentence": 1 / n},
        better="high",
    )
    return {"metrics": found, "details": {"invented": invented[:40]}}


def _perplexity(model, sentences, seed):
    """The language model's perplexity of a word, in [1, inf) -> a metric."""
    n = len(sentences)
    n_words = sum(len(s.split()) + 1 for s in sentences)  # the end mark counts
    _, nats = sentence_nats(model, sentences)
    baselines = {"chance": float(len(model.vocab) - len(data_utils.SPECIALS) + 1)}
    if model.lines is None:
        baselines["grammar"] = 2 ** (grammar_bits(sentences) * n / n_words)
    value = math.exp(min(50, nats * n / n_words))
    return metric(
        "perplexity", "perplexity of a word", value, n, seed, baselines=baselines, low=1.0, high=None, better="low"
    )


def _invented_of_grammar(model, invented, seed):
    """What share of invented sentences is in the grammar, and in none of training's -> metrics."""
    n = len(invented)
    rng = np.random.default_rng(seed)
    random_words = [" ".join(rng.choice(model.vocab.words[3:], len(s.split()))) for s in invented]
    found = metric(
        "invented_parse",
        "invented sentences that parse",
        float(np.mean([parse(s) is not None for s in invented])),
        n,
        seed,
        baselines={"random_words": float(np.mean([parse(s) is not None for s in random_words])), "grammar": 1.0},
        better="high",
    )
    of_grammar = [not _trainable(s) for s in sample_sentences(n, "train", seed)]
    found |= metric(
        "invented_new",
        "invented sentences that parse and that training never shows",
        float(np.mean([parse(s) is not None and not _trainable(s) for s in invented])),
        n,
        seed,
        baselines={"grammar": float(np.mean(of_grammar))},
    )
    return found


def _invented_of_file(model, invented, seed):
    """What share of invented sentences is not in the training part of the captions file -> metrics."""
    seen = set()
    for k in range(-(-model.data.num_samples // 64)):
        seen.update(model.vocab.decode(row) for row in model.data.batch(0, k, 64).tolist())
    return metric(
        "invented_not_in_file",
        "invented sentences that are not in the file's training part",
        float(np.mean([s not in seen for s in invented])),
        len(invented),
        seed,
        baselines={"captions_file": 0.0},
    )


def _trainable(sentence):
    return bool(grammar.in_split(grammar.to_row(parse(sentence))[None], "train")[0])
