"""Can a person see the words of real sentences? How a picture changes with one word, and how alike a word's glyphs are.

The metrics "swap" of `legibility`, for sentences without slots. They are computed from pictures alone, as in PNG files.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from evaluation.measures.color_difference import VISIBLE, color_difference
from text.vocabulary import tokenize

Place = tuple[str, int, str]  # a sentence, the index of a word, the word in lower case

LETTERS = 4  # of a content word, at least
COMMON = 100  # words that are no content words
TYPED = re.compile(r"(\W*)([^\W\d_]+)(\W*)")  # a word as it is typed: punctuation, letters, punctuation
FINER = 4  # glyphs lie between pixels, so they are compared on a finer grid
WORDS = 16  # whose glyphs are compared
CONTEXTS = 40  # in which each of them is drawn
LEAST = 4  # words; with fewer a glyph cannot be separated from its context


# ---------------------------------------------------------------------------------------------
# Words of sentences
# ---------------------------------------------------------------------------------------------


def letters_of(typed: str) -> str:
    """A word as it is typed -> its letters in lower case, without punctuation; "" if it is not a single run of letters.

    >>> [letters_of(word) for word in ("(Dogs),", "dog's", "x2")]
    ['dogs', '', '']
    """
    found = TYPED.fullmatch(typed)
    letters = found[2].lower() if found else ""
    return letters if letters in tokenize(typed) else ""  # parts of words of some scripts look like runs of letters


def content_places(sentences: list[str]) -> list[Place]:
    """The content words of sentences -> [(sentence, index of the word, the word in lower case)].

    Words are separated by spaces. A content word is a single run of at least 4 letters that is not among the 100 most
    common runs (the most common tenth if that is less). [] for languages without spaces.
    """
    rows = [(s, [letters_of(typed) for typed in s.split()]) for s in sentences]
    counts = Counter(word for _, words in rows for word in words if word)
    common = {word for word, _ in counts.most_common(min(COMMON, len(counts) // 10))}
    return [(s, i, w) for s, words in rows for i, w in enumerate(words) if len(w) >= LETTERS and w not in common]


def with_word(sentence: str, place: int, word: str) -> str:
    """A sentence with another word at an index; punctuation and a capital letter stay.

    >>> with_word("Two dogs, wet.", 1, "horses"), with_word("Dogs run.", 0, "horses")
    ('Two horses, wet.', 'Horses run.')
    """
    typed = sentence.split()
    before, own, after = TYPED.fullmatch(typed[place]).groups()
    typed[place] = before + (word[0].upper() + word[1:] if own[0].isupper() else word) + after
    return " ".join(typed)


# ---------------------------------------------------------------------------------------------
# One word swapped
# ---------------------------------------------------------------------------------------------


def word_swaps(places: list[Place], n: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """n pairs of sentences that differ in one content word -> (sentences, the same with the other word). Both words are
    drawn by their frequency in the sentences. places: of `content_places`, with at least two different words."""
    first, second = [], []
    for i in rng.integers(len(places), size=n):
        sentence, place, own = places[i]
        other = next(word for _, _, word in (places[j] for j in rng.permutation(len(places))) if word != own)
        first.append(with_word(sentence, place, own))
        second.append(with_word(sentence, place, other))
    return first, second


def changes(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Pictures (n, 3, 64, 64) in [0, 1] of `word_swaps` -> (shares of pixels that change visibly (n,), in [0, 1]; 99th
    percentile of the change over the picture, mean of the worst tenth of swaps, CIE76, as in `legibility.swaps`)."""
    change = color_difference(a, b).flatten(1)
    top = torch.quantile(change, 0.99, dim=1).sort().values
    return (change > VISIBLE).float().mean(1), float(top[: max(1, len(top) // 10)].mean())


# ---------------------------------------------------------------------------------------------
# The glyph of a word
# ---------------------------------------------------------------------------------------------


def words_in_contexts(places: list[Place], vocab: Any, rng: np.random.Generator) -> list[list[str]]:
    """Words in the same contexts -> sentences [word][context], at most WORDS times CONTEXTS; [] if there are too few.

    Only words of one token are used: the glyphs of several tokens may be in two rows. Contexts are content words that
    are not the first word of a sentence.
    """

    def is_one_token(word):
        return len(vocab.encode_known(f"- {word}")) == len(vocab.encode_known("-")) + 1

    within = [(s, place) for s, place, _ in places if place and s.split()[place].islower()]
    contexts = [within[i] for i in rng.permutation(len(within))[:CONTEXTS]]
    words = [str(w) for w in rng.permutation(sorted({word for _, _, word in places})) if is_one_token(str(w))][:WORDS]
    if len(words) < LEAST or len(contexts) < 2:
        return []
    return [[with_word(*c, word) for c in contexts] for word in words]


def visible_glyphs(pictures: torch.Tensor) -> torch.Tensor:
    """The regions of the glyphs of words: pictures (n, c, 3, 64, 64) in [0, 1] of n words in the same c contexts ->
    (n, c, 256, 256) in {0, 1}.

    The picture of a context without the glyph is estimated at each pixel as the value nearest to the background over
    the words; the background is the most common color of a picture. A glyph is the region in which the difference from
    that estimate is above half of its maximum.
    """
    background = pictures.flatten(-2).mode(-1).values[..., None, None]
    nearest = (pictures - background).abs().amax(2, keepdim=True).argmin(0, keepdim=True)  # (1, c, 1, 64, 64)
    without = pictures.gather(0, nearest.expand(-1, -1, 3, -1, -1))  # (1, c, 3, 64, 64)
    change = F.interpolate((pictures - without).abs().amax(2), scale_factor=FINER, mode="bilinear")
    return (change > change.amax((2, 3), keepdim=True) / 2).float()


def boxed(region: torch.Tensor) -> torch.Tensor:
    """A region (h, w) in {0, 1}, cropped to its bounding box."""
    y, x = (region.amax(axis).nonzero().flatten() for axis in (1, 0))
    return region[y[0] : y[-1] + 1, x[0] : x[-1] + 1] if len(y) else region[:1, :1]


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    """IoU in [0, 1] of two regions (h, w) in {0, 1} at the shift with the largest overlap; 0 for an empty region.

    >>> a = torch.zeros(8, 8)
    >>> a[1:3, 1:5] = 1
    >>> [round(x, 3) for x in (overlap(a, a.roll((4, 2), (0, 1))), overlap(a, a.T))]
    [1.0, 0.333]
    """
    a, b = boxed(a), boxed(b)
    size = [m + n for m, n in zip(a.shape, b.shape)]
    both = torch.fft.irfft2(torch.fft.rfft2(a, s=size) * torch.fft.rfft2(b, s=size).conj(), s=size).max().round()
    return float(both / (a.sum() + b.sum() - both).clamp(min=1))


def glyph_overlap(glyphs: torch.Tensor) -> tuple[float, float]:
    """Glyphs (words, contexts, h, w) in {0, 1} -> mean IoU of a word in two contexts, of two words in one context."""
    beside = (glyphs.roll(1, dim).flatten(0, 1) for dim in (1, 0))
    own, others = (np.mean([overlap(a, b) for a, b in zip(glyphs.flatten(0, 1), moved)]) for moved in beside)
    return float(own), float(others)


LEGIBILITY = {  # id: (label, highest value, better)
    "swap_changed": ("one content word swapped: share of the picture that changes", 1.0, "low"),
    "swap_changed_in_place": ("the same if the other word has as many glyphs", 1.0, "low"),
    "swap_visible": ("one content word swapped: visible change (ΔE)", None, "high"),
    "glyph_overlap": ("overlap (IoU) of the glyphs of a word in 40 contexts", 1.0, "high"),
}


def legibility_scores(model: Any, sentences: list[str], n: int, seed: int) -> dict[str, tuple[dict[str, float], int]]:
    """A ModelUnderTest, n swaps -> {id of LEGIBILITY that can be measured: ({decoder: value}, number of items)}.

    The values of `glyph_overlap` also have an entry for "other_words".
    """
    rng = np.random.default_rng([seed, 23])
    places = content_places(sentences)
    if len({word for _, _, word in places}) < 2:
        return {}
    first, second = word_swaps(places, n, rng)
    contexts = words_in_contexts(places, model.vocab, rng)
    drawn = model.draw_with_baselines([*first, *second, *(s for row in contexts for s in row)], seed)
    n_tokens = [[len(model.vocab.encode_known(s)) for s in some] for some in (first, second)]
    in_place = torch.tensor(n_tokens[0]) == torch.tensor(n_tokens[1])
    found = {id: ({}, n) for id in ("swap_changed", "swap_visible")}
    found |= {"swap_changed_in_place": ({}, int(in_place.sum()))} if in_place.any() else {}
    found |= {"glyph_overlap": ({}, len(contexts) * len(contexts[0]))} if contexts else {}
    for decoder, pictures in drawn.items():
        share, found["swap_visible"][0][decoder] = changes(pictures[:n], pictures[n : 2 * n])
        found["swap_changed"][0][decoder] = float(share.mean())
        if in_place.any():
            found["swap_changed_in_place"][0][decoder] = float(share[in_place].mean())
        if contexts:
            glyphs = visible_glyphs(pictures[2 * n :].unflatten(0, (len(contexts), -1)))
            found["glyph_overlap"][0][decoder], others = glyph_overlap(glyphs)
            found["glyph_overlap"][0].setdefault("other_words", others)
    return found
