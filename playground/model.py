"""A trained model to try out by hand: draw, read word by word, swap a word, corrupt a picture, invent a sentence.

A `Playground` keeps no state between two calls and writes nothing, so that several people can share one. A picture is
(3, 64, 64) in [0, 1], rounded to 8 bits. An error that the user can correct is a ValueError with a message of one line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from channel import round_8bit
from checkpoints import load_model
from evaluation.measures.color_difference import VISIBLE, color_difference
from evaluation.measures.robustness import corrupt
from metrics import exact_match
from models import Cycle
from pictures import INVENTION, PictureError, from_image, open_picture, printable
from text.bpe import BpeVocabulary, split_text
from text.padding import pad
from text.vocabulary import BOS, EOS, PAD, Vocabulary

EXAMPLE = "a large red ball in the left"
MAX_BYTES = 8_000_000  # of an uploaded file
MAX_PIXELS = 16_000_000
MIN_PROBABILITY = 0.01  # of a word without a word class that is offered as a replacement
END = "(end)"  # the name of the end of a sentence
MAX_REPLACEMENTS = 24  # offered for one word
# What `damage` can do, in the order in which it is done: name: (range, value that changes nothing, unit)
DAMAGE = {
    "rotation": ((-30, 30), 0, "°"),
    "blur": ((0.0, 3.0), 0.0, "σ, px"),
    "noise": ((0.0, 0.5), 0.0, "σ"),
    "jpeg": ((1, 100), 100, "quality"),
}


@dataclass
class Word:
    """A token that the captioner read."""

    word: str
    probability: float  # in [0, 1], given the tokens before it
    second: str  # the most probable other token
    second_probability: float


@dataclass
class Reading:
    """What the captioner reads in a picture."""

    caption: str
    probability: float  # of the whole caption, in [0, 1]
    words: list[Word]  # the last one is the end of the sentence, unless the caption has no end


@dataclass
class Swap:
    """A word of a sentence, and the words that can replace it."""

    place: int  # of the word among `Playground.words`, from 0
    word: str
    others: list[str]


@dataclass
class Drawn:
    """A sentence, its picture, and the caption that is read back from it."""

    text: str  # as the vocabulary writes it
    picture: torch.Tensor  # (3, 64, 64) in [0, 1]
    layers: list[tuple[str, torch.Tensor]]  # (words, picture), the background first; empty without layers
    reading: Reading

    @property
    def is_exact(self) -> bool:
        """Whether every word came back, as `metrics.exact_match` counts it."""
        return exact_match([self.text], [self.reading.caption]) == 1


class Playground:
    """A model and what one can do with it, whatever its decoder and vocabulary."""

    def __init__(self, cycle: Cycle, vocab: Vocabulary | BpeVocabulary, device: torch.device):
        self.cycle, self.vocab, self.device = cycle.eval(), vocab, device

    @classmethod
    def open(cls, checkpoint: Path | str, device: torch.device = torch.device("cpu")) -> Playground:  # noqa: B008
        """The Playground of a checkpoint or a folder of weights. Raises CheckpointError."""
        cycle, vocab, _ = load_model(checkpoint, device)
        return cls(cycle, vocab, device)

    # ---- sentences ------------------------------------------------------------------------------

    def ids(self, text: str) -> list[int]:
        """The token ids of a sentence. Raises ValueError, UnknownWord."""
        ids = self.vocab.encode(text)
        if not ids:
            raise ValueError("the sentence is empty; type one")
        if len(ids) > self.cycle.max_tokens:
            unit = "tokens" if self.vocab.is_bpe else "words"
            raise ValueError(f"the sentence has {len(ids)} {unit}; this model draws at most {self.cycle.max_tokens}")
        return ids

    def example(self) -> str:
        """A sentence to begin with: EXAMPLE, or an invented one if the model cannot draw it."""
        try:
            self.ids(EXAMPLE)
            return EXAMPLE
        except ValueError:
            return self.invented(0)

    def words(self, text: str) -> list[str]:
        """The words and punctuation marks of a sentence, as `swapped` counts them. Raises ValueError, UnknownWord."""
        return [unit.strip() for unit in self._units(text)]

    def _units(self, text: str) -> list[str]:
        """As `words`, each with the space before it if the vocabulary keeps spaces."""
        ids = self.ids(text)
        return split_text(text.strip()) if self.vocab.is_bpe else self.vocab.names(ids)

    @torch.no_grad()
    def swaps(self, text: str) -> list[Swap]:
        """The words of a sentence that can be replaced. Raises ValueError, UnknownWord.

        Words of one class can replace one another. A word without a class can be replaced by the tokens that the
        language model expects after the words before it.
        """
        ids, classes = self.ids(text), self.cycle.word_classes
        language_model = self.cycle.language_model
        hidden = language_model(torch.tensor([ids], device=self.device)).hidden[0]  # (T + 1, D)
        expected = language_model.logits(hidden).softmax(-1)  # (T + 1, V)
        swaps = []
        token = 0  # the place of a word's first token
        for place, unit in enumerate(self._units(text)):
            others = self._words_of_class(ids[token]) if classes and not self.vocab.is_bpe else []
            others = others or self._expected_words(expected[token])
            others = [other for other in others if other != unit.strip()][:MAX_REPLACEMENTS]
            if others:
                swaps.append(Swap(place, unit.strip(), others))
            token += len(self.vocab.encode_unit(unit)) if self.vocab.is_bpe else 1
        return swaps

    def _words_of_class(self, token: int) -> list[str]:
        """All words of a token's word class; an empty list for a token without one."""
        class_of = self.cycle.word_classes.class_of
        return [self.vocab.words[i] for i, number in enumerate(class_of) if number == class_of[token] >= 0]

    def _expected_words(self, probabilities: torch.Tensor) -> list[str]:
        """The words that a distribution over the next token (V,) makes probable, the most probable first."""
        tokens = [i for i in probabilities.argsort(descending=True).tolist() if probabilities[i] >= MIN_PROBABILITY]
        words = [self.vocab.decode([i]).strip() for i in tokens if i not in (PAD, BOS, EOS)]
        return [word for word in dict.fromkeys(words) if word and "\ufffd" not in word]

    def swapped(self, text: str, place: int, word: str) -> str:
        """The sentence with another word in a place of `words`. Raises ValueError, UnknownWord."""
        units = self._units(text)
        if not 0 <= place < len(units):
            raise ValueError(f"the sentence has no word {place + 1}")
        if not self.vocab.is_bpe:
            ids = self.ids(text)
            return self.vocab.decode([*ids[:place], *self.vocab.encode(word), *ids[place + 1 :]])
        word = word.strip()
        joins = place == 0 or units[place][:1].isalnum() or not word[:1].isalnum()
        return "".join([*units[:place], word if joins else f" {word}", *units[place + 1 :]])

    def invented(self, seed: int) -> str:
        """A sentence that the language model invents and the model can draw; another seed gives another one."""
        rng = torch.Generator(self.device).manual_seed(seed)
        ids = self.cycle.language_model.sample(1, rng, INVENTION)[0].tolist()
        # Bytes that are no character become a character of three bytes: the text can have more tokens than were drawn
        while len(self.vocab.encode(self.vocab.decode(ids))) > self.cycle.max_tokens:
            ids = ids[:-1]
        return self.vocab.decode(ids)

    # ---- pictures -------------------------------------------------------------------------------

    @torch.no_grad()
    def draw(self, text: str) -> Drawn:
        """Draw a sentence, and read the picture. Raises ValueError, UnknownWord."""
        ids, decoder = self.ids(text), self.cycle.scene_decoder
        rows = pad([ids]).to(self.device)  # (1, T)
        scene, names = self.cycle.draw(rows), self.vocab.names(ids)
        picture = round_8bit(scene.picture[0].float().cpu())
        layers = []
        for layer, places in decoder.layers(scene, rows, 0) if decoder.has_layers else ():
            layers.append((" ".join(names[i] for i in places) or "background", round_8bit(layer.float().cpu())))
        return Drawn(self.vocab.decode(ids), picture, layers, self.read(picture))

    @torch.no_grad()
    def read(self, picture: torch.Tensor) -> Reading:
        """Read a picture (3, 64, 64) in [0, 1]."""
        captioner = self.cycle.caption_network
        pictures = picture[None].to(self.device)
        ids = [i for i in captioner.read(pictures).ids[0].tolist() if i not in (PAD, EOS)]
        caption = captioner(pictures, torch.tensor([ids], dtype=torch.int64, device=self.device))
        logits = captioner.logits(caption.hidden[0])  # (T + 1, V)
        logits[:, [PAD, BOS]] = float("-inf")
        probabilities = logits.softmax(-1)  # (T + 1, V)
        words, probability = [], 1.0
        for token, name, row in zip([*ids, EOS], [*self.vocab.names(ids), END], probabilities):
            other = next(i for i in row.topk(2).indices.tolist() if i != token)
            second = END if other == EOS else self.vocab.names([other])[0]
            words.append(Word(name, float(row[token]), second, float(row[other])))
            probability *= float(row[token])
        return Reading(self.vocab.decode(ids), probability, words)

    def opened(self, path: Path | str) -> torch.Tensor:
        """The picture in a user's file of any size and format. Its size is checked before it is decoded.

        Raises PictureError, which names the file without its folder.
        """
        name = printable(os.path.basename(path))
        if os.path.isfile(path) and os.path.getsize(path) > MAX_BYTES:
            raise PictureError(f"{name} has more than {MAX_BYTES // 10**6} MB; make it smaller")
        return from_image(open_picture(path, name, MAX_PIXELS))


def changed(a: torch.Tensor, b: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Where two pictures differ visibly: the share of pixels in [0, 1], and a picture that is bright there."""
    difference = color_difference(a[None], b[None])[0]  # (64, 64)
    return float((difference > VISIBLE).float().mean()), (difference / 100).clamp(0, 1).expand(3, -1, -1)


def damage(
    picture: torch.Tensor, rotation: int = 0, blur: float = 0.0, noise: float = 0.0, jpeg: int = 100, seed: int = 0
) -> torch.Tensor:
    """A picture after each kind of DAMAGE, in its order. Raises ValueError for a strength out of range."""
    strengths = {"rotation": rotation, "blur": blur, "noise": noise, "jpeg": jpeg}
    for kind, ((low, high), neutral, _) in DAMAGE.items():
        if not low <= strengths[kind] <= high:
            raise ValueError(f"{kind} {strengths[kind]} is out of range; it must be from {low} to {high}")
        if strengths[kind] != neutral:
            picture = corrupt(picture[None], kind, strengths[kind], seed)[0]
    return picture
