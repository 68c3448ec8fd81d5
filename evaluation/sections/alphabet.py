"""The section about codes, of models trained with --use_vq: how many are in use, which words they belong to, and the
length of scenes in bits. V words, K codes of an alphabet, F factors of a scene."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, Protocol
from evaluation.sections.information import grammar_bits, sentence_nats

Counts = dict[str, np.ndarray]  # {alphabet: how often each word has each code (V, K)}

SHOWN = 300  # codes of an alphabet that are listed at most, the most common ones


@torch.no_grad()
def letters_of(model: ModelUnderTest, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sentences -> the token id and the code of each factor of their scenes: (n, F) each, -1 where nothing is drawn."""
    words, codes = [], []
    decoder = model.cycle.scene_decoder
    for ids in model.ids(sentences):
        scene = model.cycle.draw(ids)
        for out, rows in ((words, decoder.token_of_factor(scene, ids)), (codes, scene.codes)):
            missing = len(decoder.alphabet_of_factor) - rows.shape[1]  # glyphs have as many as their batch needs
            out.append(np.pad(rows.cpu().numpy(), ((0, 0), (0, missing)), constant_values=-1))
    return np.concatenate(words), np.concatenate(codes)


def counts_of(model: ModelUnderTest, words: np.ndarray, codes: np.ndarray) -> Counts:
    """The arrays of `letters_of` -> {alphabet: how often each word has each code (V, K)}."""
    decoder = model.cycle.scene_decoder
    of_factor = np.array(decoder.alphabet_of_factor)
    out = {}
    for name, alphabet in decoder.alphabets.items():
        factors = of_factor == name
        drawn = codes[:, factors] >= 0
        out[name] = np.zeros((len(model.vocab), alphabet.n_codes), int)
        np.add.at(out[name], (words[:, factors][drawn], codes[:, factors][drawn]), 1)
    return out


def perplexity(counts: np.ndarray) -> float:
    """The number of equally common items with the same entropy: 2^H, in [1, n]; 1 for no counts."""
    share = counts[counts > 0] / max(1, counts.sum())
    return float(2 ** -(share * np.log2(share)).sum())


def purity(counts: Counts) -> float:
    """{alphabet: (V, K)} -> the share of drawn codes whose word is the most common one of the code, in [0, 1]; of
    {name: its transpose}, whose code is the most common one of the word (Manning et al. 2008, section 16.3)."""
    total = sum(c.sum() for c in counts.values())
    return float(sum(c.max(0).sum() for c in counts.values()) / max(1, total))


def share_with_several(counts: Counts) -> tuple[float, int, int]:
    """{alphabet: (V, K)} -> (share of codes in use that several words have, their number, number of codes in use)."""
    several = sum(int(((c > 0).sum(0) > 1).sum()) for c in counts.values())
    used = sum(int((c.sum(0) > 0).sum()) for c in counts.values())
    return several / max(1, used), several, used


def shuffled(counts: Counts, seed: int) -> Counts:
    """The same words and codes of each alphabet, put together at random."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, c in counts.items():
        words, codes = (np.repeat(np.arange(len(n)), n) for n in (c.sum(1), c.sum(0)))
        out[name] = np.zeros_like(c)
        np.add.at(out[name], (rng.permutation(words), codes), 1)
    return out


def bits_of_scenes(model: ModelUnderTest, codes: np.ndarray) -> tuple[float, float]:
    """Codes (n, F) -> mean bits of a scene: (with equally likely codes, with codes as likely as they are common).

    "No code" is one more code of a factor. Factors that are empty in every scene cost nothing.
    """
    sizes = {name: alphabet.n_codes for name, alphabet in model.cycle.scene_decoder.alphabets.items()}
    plain = ideal = 0.0
    for factor, name in enumerate(model.cycle.scene_decoder.alphabet_of_factor):
        if name in sizes and (codes[:, factor] >= 0).any():
            plain += math.log2(sizes[name] + 1)
            ideal += math.log2(perplexity(np.unique(codes[:, factor], return_counts=True)[1]))
    return plain, ideal


def alphabet_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Codes of the scenes of unseen sentences: use, purity, and length in bits beside the sentence's."""
    found = Metrics(seed)
    sentences = model.sentences(protocol.sentences, "test", seed + 11)
    words, codes = letters_of(model, sentences)
    counts = counts_of(model, words, codes)
    drawn = sum(int(c.sum()) for c in counts.values())
    _add_use(found, counts, drawn)
    advance(0.5)
    _add_purity(found, counts, drawn)
    equal, by_frequency = bits_of_scenes(model, codes)
    text = {"language_model": sentence_nats(model, sentences)[1] / math.log(2)}
    if model.lines is None:
        text["grammar"] = grammar_bits(sentences)
    n = len(sentences)
    found.add("alphabet/bits", "bits a scene, codes equally likely", {OWN: equal, **text}, n, high=None)
    label = "bits a scene, codes as likely as they are common"
    found.add("alphabet/bits_by_frequency", label, {OWN: by_frequency, **text}, n, high=None)
    return {"metrics": found, "details": {"letters": letters_in_use(model, counts)}}


def _add_use(found, counts, drawn):
    """Add how many codes are drawn at all, and how evenly."""

    def used(codes_of_alphabets):
        """Share of codes in use, beside the most that is possible with a code a word."""
        n_codes = sum(c.shape[1] for c in codes_of_alphabets)
        in_use = sum(int((c.sum(0) > 0).sum()) for c in codes_of_alphabets)
        words = sum(int((c.sum(1) > 0).sum()) for c in codes_of_alphabets)
        values = {OWN: in_use / max(1, n_codes), "code_a_word": min(1.0, words / max(1, n_codes))}
        return values, f"of {n_codes} codes"

    values, note = used(list(counts.values()))
    found.add("alphabet/used", "codes in use", values, drawn, better="high", note=note)
    in_use = {name: c for name, c in counts.items() if c.sum()}
    for name, c in in_use.items():
        values, note = used([c])
        found.add(f"alphabet/used/{name}", f"codes in use: {name}", values, int(c.sum()), group=name, note=note)
    for name, c in in_use.items():
        values = {OWN: perplexity(c.sum(0)), "words": perplexity(c.sum(1)), "all_codes": float(c.shape[1])}
        id, label = f"alphabet/perplexity/{name}", f"perplexity of codes: {name}"
        found.add(id, label, values, int(c.sum()), low=1.0, high=None, group=name)


def _add_purity(found, counts, drawn):
    """Add whether a code belongs to one word and a word to one code, beside words and codes put together at random."""
    at_random = shuffled(counts, found.seed)
    of_words, of_words_at_random = ({name: c.T for name, c in of.items()} for of in (counts, at_random))
    for id, label, own, other in (
        ("alphabet/purity", "purity: a code belongs to one word", counts, at_random),
        ("alphabet/purity_of_words", "purity: a word has one code", of_words, of_words_at_random),
    ):
        found.add(id, label, {OWN: purity(own), "shuffled_words": purity(other)}, drawn, better="high")
    for id, label, own, other in (
        ("alphabet/homonyms", "homonyms: codes that several words have", counts, at_random),
        ("alphabet/synonyms", "synonyms: words that have several codes", of_words, of_words_at_random),
    ):
        share, several, n = share_with_several(own)
        values = {OWN: share, "shuffled_words": share_with_several(other)[0]}
        found.add(id, label, values, max(1, n), better="low", note=f"{several} of {n}")


def letters_in_use(model: ModelUnderTest, counts: Counts) -> list[dict]:
    """The most common codes, by alphabet and code -> [{"alphabet", "code", "n", "words": [(word, n)]}]."""
    out = []
    for name, c in counts.items():
        of_codes = c.sum(0)
        for code in sorted(np.argsort(-of_codes, kind="stable")[:SHOWN].tolist()):
            if of_codes[code]:
                have = np.argsort(-c[:, code], kind="stable")[:4]
                words = [(model.vocab.names([int(w)])[0], int(c[w, code])) for w in have if c[w, code]]
                out.append({"alphabet": name, "code": code, "n": int(of_codes[code]), "words": words})
    return out
