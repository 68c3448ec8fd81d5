"""How a line is split into words, and a vocabulary of words that encodes and decodes sentences."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from text.grammar import WORDS, with_articles

if TYPE_CHECKING:
    from text.bpe import BpeVocabulary

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<bos>", "<eos>")
PUNCTUATION = (".", ",", ";", ":", "!", "?")


class UnknownWord(ValueError):
    """A word outside the vocabulary; the message names it and the nearest known word."""


@dataclass
class Vocabulary:
    """Words and their token ids; 0, 1, 2 are padding, start and end of a sentence."""

    is_bpe: ClassVar[bool] = False
    words: list[str]
    articles: bool = False  # English "an" is written for "a" before a vowel, outside the model
    index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.index = {w: i for i, w in enumerate(self.words)}

    @classmethod
    def of(cls, words: Iterable[str], articles: bool = False) -> Vocabulary:
        """The vocabulary of some words, sorted."""
        return cls(list(SPECIALS) + sorted(set(words)), articles)

    @classmethod
    def of_grammar(cls) -> Vocabulary:
        """The vocabulary of the grammar."""
        return cls.of(WORDS, articles=True)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: str) -> list[int]:
        """The token ids of a sentence, without start and end. Raises UnknownWord."""
        ids = []
        for word in tokenize(sentence):
            word = "a" if self.articles and word == "an" else word
            if word not in self.index and word in PUNCTUATION:
                continue  # ignored by a model that was trained without punctuation
            if word not in self.index or word in SPECIALS:
                near = difflib.get_close_matches(word[:100], self.words[len(SPECIALS) :], n=1, cutoff=0.0)
                hint = f"; the nearest known word is {near[0]!r}" if near else ""
                raise UnknownWord(f"unknown word {word[:100]!r}{hint}")
            ids.append(self.index[word])
        return ids

    def encode_known(self, sentence: str) -> list[int]:
        """The token ids of a sentence, without its unknown words."""
        words = ("a" if self.articles and word == "an" else word for word in tokenize(sentence))
        return [self.index[word] for word in words if word in self.index and word not in SPECIALS]

    def encode_unit(self, word: str) -> list[int]:
        """The token id of one word of `tokenize`, as a list; an empty list for an unknown word."""
        return [self.index[word]] if word in self.index else []

    def names(self, ids: Sequence[int]) -> list[str]:
        """The word of each token id, as people read it: "an" before a vowel if `articles` is set."""
        words = [self.words[i] for i in ids]
        return with_articles(words) if self.articles else words

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence of token ids, up to the first EOS; PAD and BOS are left out."""
        before_end = itertools.takewhile(lambda i: i != EOS, ids)
        return " ".join(self.names([i for i in before_end if i not in (PAD, BOS)]))


# Signs of direction and of line breaking are no part of a word; a space of no width parts two.
_REMOVED = [0xAD, 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]
_INVISIBLE = dict.fromkeys(_REMOVED) | {0x200B: " "}
# Typographic and plain apostrophes, quotation marks, dashes and ellipses are the same words.
_PLAIN_OF = {"'": "‘’‚‛ʼ＇´′‹›", '"': "“”„‟«»＂″", "-": "‐‑‒–—―−－", "...": "…"}
_PLAIN = str.maketrans({sign: plain for plain, signs in _PLAIN_OF.items() for sign in signs})
# Scripts without spaces between words: each of their letters is a word. Thai, Lao, Khmer, Burmese; kana; Chinese.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003134f"
)


@functools.cache
def _words_of_any_script():
    """Like the pattern in `tokenize`, with the marks that Python's \\w leaves out (vowels of Hindi, points of
    Hebrew), the joiners of Persian, and emoji of several characters in one word."""
    planes = [*range(0x300, 0x20000), *range(0xE0100, 0xE01F0), *range(0x1F3FB, 0x1F400)]
    marks = "".join(chr(c) for c in planes if unicodedata.category(chr(c))[0] == "M" or 0x1F3FB <= c <= 0x1F3FF)
    letter, sign = f"[^\\W_{_UNSPACED}][{marks}\u200c\u200d]*", f"[^\\w\\s][{marks}]*"
    unspaced = f"[{_UNSPACED}][{marks}\u200c\u200d]*"
    return re.compile(f"{unspaced}|(?:{letter})+(?:['\\-](?:{letter})+)*|{sign}(?:\u200d{sign})*|_")


def tokenize(line: str) -> list[str]:
    """The words of a line: lower case, punctuation apart, any script; a letter of a script without spaces is a word.

    >>> tokenize("A red ball, in the LEFT.")
    ['a', 'red', 'ball', ',', 'in', 'the', 'left', '.']
    """
    if line.isascii():
        return re.findall(r"[^\W_]+(?:['\-][^\W_]+)*|[^\w\s]|_", line.lower())
    line = line.translate(_INVISIBLE).lower().translate(_PLAIN)
    return _words_of_any_script().findall(unicodedata.normalize("NFC", line))


def normalized(text: str) -> str:
    """A text as `exact_match` compares it: its words, without regard to capitals, spaces and styles of quotation marks.

    >>> normalized("A red ball,  in the LEFT.") == normalized("a red ball , in the left .")
    True
    """
    return " ".join(tokenize(text))


def vocabulary_in(state: dict) -> Vocabulary | BpeVocabulary:
    """The vocabulary in a checkpoint's state, of words or of byte pairs. Raises KeyError, TypeError, ValueError."""
    if state.get("merges") is None:
        return Vocabulary(state["vocabulary"], bool(state["articles"]))
    from text.bpe import BpeVocabulary  # the library takes a moment to load, and the grammar has no use for it

    return BpeVocabulary(state["vocabulary"], state["merges"])
