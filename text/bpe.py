"""An open vocabulary by byte-pair encoding: every text of every script can be encoded, and is decoded as it was typed.

Sennrich et al. 2016; on bytes, so that nothing is unknown (Radford et al. 2019). It uses the `tokenizers` library.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

# One thread is fast enough here. The library reads this when it is loaded.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from text.vocabulary import BOS, EOS, PAD, SPECIALS

MOST_TOKENS = 2000  # tokens of a vocabulary by default
SEEN = 2  # least count of a pair in the training sentences that is merged into a token
SHOWN_SPACE = "\N{OPEN BOX}"  # stands for a space in the name of a token


def _with_bytes(model: models.BPE) -> Tokenizer:
    """A tokenizer on bytes, each a printable character, which splits a text into words, numbers and signs."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split_text(line: str) -> list[str]:
    """The units of a line, whose borders no token crosses; joined they are the line.

    >>> split_text("It's a red ball.")
    ['It', "'s", ' a', ' red', ' ball', '.']
    """
    parts = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(line)
    return [line[start:end] for _, (start, end) in parts]


class BpeVocabulary:
    """Tokens of text and their ids, with the interface of `Vocabulary`. Raises ValueError for inconsistent merges.

    words: the special tokens, then the tokens in characters that stand for bytes, all 256 bytes among them;
    merges: pairs of tokens that become one, in order of priority.
    """

    is_bpe = True
    articles = False

    def __init__(self, words: Iterable[str], merges: Iterable[Sequence[str]]) -> None:
        self.words = list(words)
        self.merges: list[Any] = [tuple(pair) for pair in merges]
        self.index = {w: i for i, w in enumerate(self.words)}
        if missing := [b for b in pre_tokenizers.ByteLevel.alphabet() if b not in self.index]:
            raise ValueError(f"{len(missing)} of the 256 bytes have no token")
        if any(len(pair) != 2 or not {*pair, "".join(pair)} <= self.index.keys() for pair in self.merges):
            raise ValueError("its merges do not fit its tokens")
        self.tokenizer = _with_bytes(models.BPE(vocab=self.index, merges=self.merges))

    @classmethod
    def of(cls, lines: Iterable[str], size: int = 0) -> BpeVocabulary:
        """Train on lines of text; at most `size` tokens, or `MOST_TOKENS` for 0. The order of lines does not matter.

        Raises ValueError for a size below that of the 256 bytes and the special tokens.
        """
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        least = len(SPECIALS) + len(alphabet)
        if 0 < size < least:
            raise ValueError(f"--vocab_size {size} has no room for the {len(alphabet)} bytes; give at least {least}")
        tokenizer = _with_bytes(models.BPE())
        size = (size or MOST_TOKENS) - len(SPECIALS)
        trainer = trainers.BpeTrainer(
            vocab_size=size, min_frequency=SEEN, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(lines, trainer)
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        return cls([*SPECIALS, *alphabet, *dict.fromkeys("".join(pair) for pair in merges)], merges)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """The token ids of any text, without start and end; spaces at its ends are left out."""
        text = text.strip().encode("utf-8", "replace").decode()  # half of a surrogate pair is no character
        return self.tokenizer.encode(text).ids

    encode_known = encode

    def encode_unit(self, unit: str) -> list[int]:
        """The token ids of one unit of `split_text`."""
        return self.tokenizer.encode(unit).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, up to the first EOS. Bytes that are no UTF-8 become U+FFFD."""
        ids = list(ids)
        ids = ids[: ids.index(EOS)] if EOS in ids else ids
        return self.tokenizer.decode([i for i in ids if i not in (PAD, BOS)], skip_special_tokens=False)

    def names(self, ids: Iterable[int]) -> list[str]:
        """Each token as people can read it: a space is an open box, a part of a character its bytes."""
        return [_readable(self.tokenizer.decoder.decode([self.words[i]]), self.words[i]) for i in ids]


def _readable(text: str, token: str) -> str:
    if "\ufffd" in text:
        alphabet = {c: b for b, c in _byte_characters().items()}
        return "".join(f"<{alphabet[c]:02X}>" for c in token)
    shown = (c if unicodedata.category(c)[0] != "C" else f"<{ord(c):02X}>" for c in text)
    return "".join(shown).replace(" ", SHOWN_SPACE)


def _byte_characters() -> dict[int, str]:
    """{byte: its character}, as in GPT-2: printable bytes stand for themselves, the others start at 256."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
