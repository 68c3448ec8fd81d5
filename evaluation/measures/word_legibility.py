"""Can a person see the words of real sentences? What one word changes in a picture, and whether it looks the same everywhere.

The metrics "swap" of `legibility`, for sentences without slots. They look at pictures alone, as PNG files would hold them.
"""

import re
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

from evaluation.measures.color_difference import VISIBLE, color_difference
from text.vocabulary import tokenize

LETTERS, COMMON = 4, 100
TYPED = re.compile(r"(\W*)([^\W\d_]+)(\W*)")  # a word as it is typed: signs, letters, signs
FINER = 4  # marks stand between pixels, so they are compared on a finer grid
WORDS, CONTEXTS = 16, 40  # marks are compared of so many words, in so many contexts each
LEAST = 4  # words; with fewer nothing tells a mark from what stands around it


# ---------------------------------------------------------------------------------------------
# Words of sentences
# ---------------------------------------------------------------------------------------------


def letters_of(typed):
    """A word as it is typed -> its letters in lower case, without the signs around them; "" where it is no single run of letters.

    >>> [letters_of(word) for word in ("(Dogs),", "dog's", "x2")]
    ['dogs', '', '']
    """
    found = TYPED.fullmatch(typed)
    letters = found[2].lower() if found else ""
    return letters if letters in tokenize(typed) else ""  # parts of words of some scripts look like runs of letters


def content_places(sentences):
    """Where content words stand -> [(sentence, number of the word, the word in lower case)].

    Words are what spaces part. A content word is a single run of at least 4 letters, and not among the 100 most common runs (the
    most common tenth where that is less). [] for languages that write no spaces.
    """
    rows = [(s, [letters_of(typed) for typed in s.split()]) for s in sentences]
    counts = Counter(word for _, words in rows for word in words if word)
    common = {word for word, _ in counts.most_common(min(COMMON, len(counts) // 10))}
    return [(s, i, w) for s, words in rows for i, w in enumerate(words) if len(w) >= LETTERS and w not in common]


def with_word(sentence, place, word):
    """A sentence with another word at a place, typed as the one before it: the signs around it stay, and a capital.

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


def word_swaps(places, n, rng):
    """n pairs of sentences that differ in one content word -> (sentences, the same with the other word). Both words are drawn as
    often as they stand in the sentences. places: of `content_places`, with at least two words."""
    first, second = [], []
    for i in rng.integers(len(places), size=n):
        sentence, place, own = places[i]
        other = next(word for _, _, word in (places[j] for j in rng.permutation(len(places))) if word != own)
        first.append(with_word(sentence, place, own))
        second.append(with_word(sentence, place, other))
    return first, second


def changes(a, b):
    """Pictures (n, 3, 64, 64) in [0, 1] of `word_swaps` -> shares of pixels that change visibly (n,), in [0, 1], and how visibly,
    CIE76, the worst tenth of swaps changes at its 99th percentile over the picture, as in `legibility.swaps`."""
    change = color_difference(a, b).flatten(1)
    top = torch.quantile(change, 0.99, dim=1).sort().values
    return (change > VISIBLE).float().mean(1), float(top[: max(1, len(top) // 10)].mean())


# ---------------------------------------------------------------------------------------------
# The mark of a word
# ---------------------------------------------------------------------------------------------


def words_in_contexts(places, vocab, rng):
    """Words in the same contexts -> sentences [word][context], at most WORDS times CONTEXTS; [] for too few.

    Only words of one number are taken: where a word has several marks, they may stand in two rows. Contexts are places of
    content words within a sentence.
    """

    def is_one_mark(word):
        return len(vocab.encode_known(f"- {word}")) == len(vocab.encode_known("-")) + 1

    within = [(s, place) for s, place, _ in places if place and s.split()[place].islower()]
    contexts = [within[i] for i in rng.permutation(len(within))[:CONTEXTS]]
    words = [str(w) for w in rng.permutation(sorted({word for _, _, word in places})) if is_one_mark(str(w))][:WORDS]
    return (
        [[with_word(*c, word) for c in contexts] for word in words] if len(words) >= LEAST and len(contexts) > 1 else []
    )


def glyphs_of_tokens(pictures):
    """Where the marks of words are seen: pictures (n, c, 3, 64, 64) in [0, 1] of n words in the same c contexts ->
    (n, c, 256, 256) in {0, 1}.

    What a context shows without a mark is, at each pixel, what is most like the ground with any of the words; the ground is the
    most common color of a picture. A mark is what differs from that by more than half of what differs most.
    """
    ground = pictures.flatten(-2).mode(-1).values[..., None, None]
    nearest = (pictures - ground).abs().amax(2, keepdim=True).argmin(0, keepdim=True)  # (1, c, 1, 64, 64)
    without = pictures.gather(0, nearest.expand(-1, -1, 3, -1, -1))  # (1, c, 3, 64, 64)
    change = F.interpolate((pictures - without).abs().amax(2), scale_factor=FINER, mode="bilinear")
    return (change > change.amax((2, 3), keepdim=True) / 2).float()


def boxed(region):
    """A region (h, w) in {0, 1}, cut to the box around it."""
    y, x = (region.amax(axis).nonzero().flatten() for axis in (1, 0))
    return region[y[0] : y[-1] + 1, x[0] : x[-1] + 1] if len(y) else region[:1, :1]


def overlap(a, b):
    """IoU in [0, 1] of two regions (h, w) in {0, 1}, moved to where they overlap most; 0 for an empty one.

    >>> a = torch.zeros(8, 8)
    >>> a[1:3, 1:5] = 1
    >>> [round(x, 3) for x in (overlap(a, a.roll((4, 2), (0, 1))), overlap(a, a.T))]
    [1.0, 0.333]
    """
    a, b = boxed(a), boxed(b)
    size = [m + n for m, n in zip(a.shape, b.shape)]
    both = torch.fft.irfft2(torch.fft.rfft2(a, s=size) * torch.fft.rfft2(b, s=size).conj(), s=size).max().round()
    return float(both / (a.sum() + b.sum() - both).clamp(min=1))


def glyph_overlap(glyphs):
    """Marks (n, c, h, w) in {0, 1} of n words in c contexts -> (mean IoU of a word's in one context and the next, the same of one
    word's and the next one's in a context)."""
    beside = (glyphs.roll(1, dim).flatten(0, 1) for dim in (1, 0))
    own, others = (np.mean([overlap(a, b) for a, b in zip(glyphs.flatten(0, 1), moved)]) for moved in beside)
    return float(own), float(others)


# ---------------------------------------------------------------------------------------------
# All of it
# ---------------------------------------------------------------------------------------------

LEGIBILITY = {  # id: (label, highest value, better)
    "swap_changed": ("one content word swapped: share of the picture that changes", 1.0, "low"),
    "swap_changed_in_place": ("the same where the other word has as many marks", 1.0, "low"),
    "swap_visible": ("one content word swapped: visible change (ΔE)", None, "high"),
    "mark_overlap": ("the same mark for a word in 40 contexts: overlap (IoU)", 1.0, "high"),
}


def legibility_scores(model, sentences, n, seed):
    """What can be measured of some sentences with n swaps -> {id of LEGIBILITY: ({decoder: value}, number of items)}.

    With the values of `mark_overlap` stands that of "other_words".
    """
    rng, places = np.random.default_rng([seed, 23]), content_places(sentences)
    if len({word for _, _, word in places}) < 2:
        return {}
    first, second = word_swaps(places, n, rng)
    contexts = words_in_contexts(places, model.vocab, rng)
    drawn = model.draw_with_baselines([*first, *second, *(s for row in contexts for s in row)], seed)
    in_place = torch.tensor(
        [len(model.vocab.encode_known(a)) == len(model.vocab.encode_known(b)) for a, b in zip(first, second)]
    )
    found = {id: ({}, n) for id in ("swap_changed", "swap_visible")}
    found |= {"swap_changed_in_place": ({}, int(in_place.sum()))} if in_place.any() else {}
    found |= {"mark_overlap": ({}, len(contexts) * len(contexts[0]))} if contexts else {}
    for decoder, pictures in drawn.items():
        share, found["swap_visible"][0][decoder] = changes(pictures[:n], pictures[n : 2 * n])
        found["swap_changed"][0][decoder] = float(share.mean())
        if in_place.any():
            found["swap_changed_in_place"][0][decoder] = float(share[in_place].mean())
        if contexts:
            glyphs = glyphs_of_tokens(pictures[2 * n :].unflatten(0, (len(contexts), -1)))
            found["mark_overlap"][0][decoder], others = glyph_overlap(glyphs)
            found["mark_overlap"][0].setdefault("other_words", others)
    return found
