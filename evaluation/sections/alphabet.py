"""The section about codes, of models trained with --use_vq: how many are in use, which words they belong to, how long scenes are.

Sections as in `reading`. V words, K codes of an alphabet.
"""

import math

import numpy as np
import torch

from channel import round_8bit
from data_utils import pad
from evaluation.metric import metric
from evaluation.sections.information import grammar_bits, sentence_nats
from pictures import BATCH, rows_of
from training.snapshots import data_uri

SHOWN = 300  # codes on the page's sheet at most, the most common ones


@torch.no_grad()
def letters_of(model, sentences):
    """Sentences -> the word and the code of each part of their scenes: (n, C) each, -1 where nothing is drawn."""
    words, codes = [], []
    for i in range(0, len(sentences), BATCH):
        ids = pad(rows_of(model.vocab, sentences[i : i + BATCH], model.max_words)).to(model.device)
        of_words, of_codes = model.cycle.scene_decoder.letters(model.cycle.draw(ids), ids)
        width = len(
            model.cycle.scene_decoder.alphabet_of_cell
        )  # marks in line have as many places as their batch needs
        for out, rows in ((words, of_words), (codes, of_codes)):
            rows = rows.cpu().numpy()
            out.append(np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=-1))
    return np.concatenate(words), np.concatenate(codes)


def counts_of(model, words, codes):
    """What `letters_of` returns -> {alphabet: how often each word has each code (V, K)}."""
    decoder, out = model.cycle.scene_decoder, {}
    of_cell = np.array(decoder.alphabet_of_cell)
    for name, alphabet in decoder.alphabets.items():
        cells = of_cell == name
        drawn = codes[:, cells] >= 0
        out[name] = np.zeros((len(model.vocab), alphabet.n_codes), int)
        np.add.at(out[name], (words[:, cells][drawn], codes[:, cells][drawn]), 1)
    return out


def perplexity(counts):
    """How many equally common things have the entropy of some counts: 2^H, in [1, n]; 1 for no counts."""
    share = counts[counts > 0] / max(1, counts.sum())
    return float(2 ** -(share * np.log2(share)).sum())


def purity(counts):
    """{alphabet: (V, K)} -> the share of drawn codes whose word is the most common one of the code, in [0, 1]; of {name: its
    transpose}, whose code is the most common one of the word (Manning et al. 2008, section 16.3)."""
    total = sum(c.sum() for c in counts.values())
    return float(sum(c.max(0).sum() for c in counts.values()) / max(1, total))


def share_with_several(counts):
    """{alphabet: (V, K)} -> (share of the codes in use that several words have, their number, how many codes are in use)."""
    several = sum(int(((c > 0).sum(0) > 1).sum()) for c in counts.values())
    used = sum(int((c.sum(0) > 0).sum()) for c in counts.values())
    return several / max(1, used), several, used


def shuffled(counts, seed):
    """The same words and codes of each alphabet, put together at random."""
    rng, out = np.random.default_rng(seed), {}
    for name, c in counts.items():
        words, codes = (np.repeat(np.arange(len(n)), n) for n in (c.sum(1), c.sum(0)))
        out[name] = np.zeros_like(c)
        np.add.at(out[name], (rng.permutation(words), codes), 1)
    return out


def bits_of_scenes(model, codes):
    """Codes (n, C) -> mean bits of a scene (if all letters of a part are equally likely, if each is as likely as it is common).

    A part that no word sets is one more letter. Parts that no scene of the sample has cost nothing.
    """
    sizes = {name: alphabet.n_codes for name, alphabet in model.cycle.scene_decoder.alphabets.items()}
    plain = ideal = 0.0
    for cell, name in enumerate(model.cycle.scene_decoder.alphabet_of_cell):
        if name in sizes and (codes[:, cell] >= 0).any():
            plain += math.log2(sizes[name] + 1)
            ideal += math.log2(perplexity(np.unique(codes[:, cell], return_counts=True)[1]))
    return plain, ideal


def alphabet_section(model, protocol, seed, advance):
    """Codes of the scenes of unseen sentences: use, purity, and length beside the sentence's."""
    sentences = model.sentences(protocol.sentences, "test", seed + 11)
    words, codes = letters_of(model, sentences)
    counts = counts_of(model, words, codes)
    drawn = sum(int(c.sum()) for c in counts.values())
    found = _use(counts, drawn, seed)
    advance(0.5)
    found |= _belonging(counts, drawn, seed)
    plain, ideal = bits_of_scenes(model, codes)
    text = {"language_model": sentence_nats(model, sentences)[1] / math.log(2)}
    if model.lines is None:
        text["grammar"] = grammar_bits(sentences)
    for id, label, bits in (
        ("alphabet/bits", "bits a scene, every letter equally likely", plain),
        ("alphabet/bits_by_frequency", "bits a scene, letters as likely as they are common", ideal),
    ):
        found |= metric(id, label, bits, len(sentences), seed, baselines=text, high=None)
    return {"metrics": found, "details": {"letters": letters_in_use(model, counts)}}


def _use(counts, drawn, seed):
    """How many codes are drawn at all, and how evenly -> metrics."""
    found = {}
    used = {name: float((c.sum(0) > 0).mean()) for name, c in counts.items()}
    n_codes = sum(c.shape[1] for c in counts.values())
    in_all = sum(int((c.sum(0) > 0).sum()) for c in counts.values()) / max(1, n_codes)
    words = sum(int((c.sum(1) > 0).sum()) for c in counts.values())
    most = {"code_a_word": min(1.0, words / max(1, n_codes))}
    found |= metric(
        "alphabet/used", "codes in use", in_all, drawn, seed, baselines=most, better="high", note=f"of {n_codes} codes"
    )
    for name, c in counts.items():
        n, n_words = int(c.sum()), int((c.sum(1) > 0).sum())
        most = {"code_a_word": min(1.0, n_words / c.shape[1])}
        note = f"of {c.shape[1]} codes"
        if n:
            found |= metric(
                f"alphabet/used/{name}",
                f"codes in use: {name}",
                used[name],
                n,
                seed,
                baselines=most,
                group=name,
                note=note,
            )
    for name, c in counts.items():
        if n := int(c.sum()):
            beside = {"words": perplexity(c.sum(1)), "all_codes": float(c.shape[1])}
            found |= metric(
                f"alphabet/perplexity/{name}",
                f"perplexity of codes: {name}",
                perplexity(c.sum(0)),
                n,
                seed,
                baselines=beside,
                low=1.0,
                high=None,
                group=name,
            )
    return found


def _belonging(counts, drawn, seed):
    """Whether a code belongs to one word and a word to one code -> metrics, beside words and codes put together at random."""
    of_words, at_random = {name: c.T for name, c in counts.items()}, shuffled(counts, seed)
    of_words_at_random = {name: c.T for name, c in at_random.items()}
    found = {}
    for id, label, measure, own, other, better in (
        ("alphabet/purity", "purity: a code belongs to one word", purity, counts, at_random, "high"),
        ("alphabet/purity_of_words", "purity: a word has one code", purity, of_words, of_words_at_random, "high"),
    ):
        found |= metric(
            id, label, measure(own), drawn, seed, baselines={"shuffled_words": measure(other)}, better=better
        )
    for id, label, own, other in (
        ("alphabet/homonyms", "homonyms: codes that several words have", counts, at_random),
        ("alphabet/synonyms", "synonyms: words that have several codes", of_words, of_words_at_random),
    ):
        share, several, n = share_with_several(own)
        beside = {"shuffled_words": share_with_several(other)[0]}
        found |= metric(id, label, share, max(1, n), seed, baselines=beside, better="low", note=f"{several} of {n}")
    return found


def letters_in_use(model, counts):
    """The most common codes of each alphabet -> [{"alphabet", "code", "n", "words": [(word, n)]}], by alphabet and number."""
    out = []
    for name, c in counts.items():
        of_codes = c.sum(0)
        for code in sorted(np.argsort(-of_codes, kind="stable")[:SHOWN].tolist()):
            if of_codes[code]:
                have = np.argsort(-c[:, code], kind="stable")[:4]
                words = [(model.vocab.names([int(w)])[0], int(c[w, code])) for w in have if c[w, code]]
                out.append({"alphabet": name, "code": code, "n": int(of_codes[code]), "words": words})
    return out


def alphabet_sheet(model, letters):
    """The page's sheet: what `letters_in_use` returns, each with its picture -> [(alphabet, [letter])]."""
    decoder = model.cycle.scene_decoder
    texts = [decoder.write_letter(letter["alphabet"], letter["code"]) for letter in letters]
    pictures = []
    for i in range(0, len(texts), BATCH):
        pictures += list(round_8bit(decoder.draw_codes(texts[i : i + BATCH])[0].cpu()))
    sheet = {}
    for letter, text, picture in zip(letters, texts, pictures):
        sheet.setdefault(letter["alphabet"], []).append({**letter, "text": text, "picture": data_uri(picture)})
    return list(sheet.items())
