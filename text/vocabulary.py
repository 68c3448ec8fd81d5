"""Words and their numbers: how a line is cut into words, and a vocabulary that encodes and decodes sentences."""

import difflib
import functools
import re
import unicodedata
from dataclasses import dataclass, field

from text.grammar import WORDS, with_articles

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<bos>", "<eos>")
SENTENCE_MARKS = (".", ",", ";", ":", "!", "?")


class UnknownWord(ValueError):
    """A word outside the vocabulary; the message names it and the nearest known word."""


@dataclass
class Vocabulary:
    """Words and their numbers; 0, 1, 2 are padding, start and end of a sentence."""

    words: list
    articles: bool = False  # English "an" is written for "a" before a vowel, outside the model
    index: dict = field(init=False, repr=False)

    def __post_init__(self):
        self.index = {w: i for i, w in enumerate(self.words)}

    @classmethod
    def of(cls, words, articles=False):
        return cls(list(SPECIALS) + sorted(set(words)), articles)

    @classmethod
    def of_grammar(cls):
        return cls.of(WORDS, articles=True)

    def __len__(self):
        return len(self.words)

    def encode(self, sentence):
        """Word numbers of a sentence, without start and end. Raises UnknownWord."""
        ids = []
        for word in tokenize(sentence):
            word = "a" if self.articles and word == "an" else word
            if word not in self.index and word in SENTENCE_MARKS:
                continue  # of no account to a model that never saw one
            if word not in self.index or word in SPECIALS:
                near = difflib.get_close_matches(word[:100], self.words[len(SPECIALS) :], n=1, cutoff=0.0)
                hint = f"; the nearest known word is {near[0]!r}" if near else ""
                raise UnknownWord(f"unknown word {word[:100]!r}{hint}")
            ids.append(self.index[word])
        return ids

    def decode(self, ids):
        """The sentence of word numbers, up to the first end mark."""
        words = []
        for i in ids:
            if i == EOS:
                break
            if i not in (PAD, BOS):
                words.append(self.words[i])
        return " ".join(with_articles(words) if self.articles else words)


# Signs of direction and of line breaking are no part of a word; a space of no width parts two.
_INVISIBLE = dict.fromkeys([0xAD, 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]) | {0x200B: " "}


@functools.cache
def _words_of_any_script():
    """Like the pattern in `tokenize`, with the marks that Python's \\w leaves out (vowels of Hindi, points of
    Hebrew), the joiners of Persian, and emoji of several characters in one piece."""
    planes = [*range(0x300, 0x20000), *range(0xE0100, 0xE01F0), *range(0x1F3FB, 0x1F400)]
    marks = "".join(chr(c) for c in planes if unicodedata.category(chr(c))[0] == "M" or 0x1F3FB <= c <= 0x1F3FF)
    letter, sign = f"[^\\W_][{marks}\u200c\u200d]*", f"[^\\w\\s][{marks}]*"
    return re.compile(f"(?:{letter})+(?:['’\\-](?:{letter})+)*|{sign}(?:\u200d{sign})*|_")


def tokenize(line):
    """The words of a line: lower case, punctuation apart, any script.

    >>> tokenize("A red ball, in the LEFT.")
    ['a', 'red', 'ball', ',', 'in', 'the', 'left', '.']
    """
    if line.isascii():
        return re.findall(r"[^\W_]+(?:['\-][^\W_]+)*|[^\w\s]|_", line.lower())
    return _words_of_any_script().findall(unicodedata.normalize("NFC", line.translate(_INVISIBLE).lower()))
