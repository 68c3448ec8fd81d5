"""A trained model to play with: draw, read with how sure each word is, swap a word, damage a picture, invent a sentence.

Nothing is kept between two calls and nothing is written, so that several people can use one `Playground` at once. A picture is
(3, 64, 64) in [0, 1], at 8 bits. What a user can cause is a ValueError in one line.
"""

import os
from dataclasses import dataclass

import torch

from channel import round_8bit
from checkpoints import load_model
from evaluation.measures.color_difference import VISIBLE, color_difference
from evaluation.measures.robustness import corrupt
from pictures import INVENTION, PictureError, from_image, open_picture, printable
from text.padding import pad
from text.vocabulary import BOS, EOS, PAD

EXAMPLE = "a large red ball in the left"
MAX_BYTES = 8_000_000  # of a picture of a user
MAX_PIXELS = 16_000_000
OFTEN = 0.01  # a word that stands in a place at least so often is offered for it, where words have no kinds
OFFERED = 24  # words, at most
# What `damage` can do, in the order in which it is done: name: (range, value that changes nothing, unit)
DAMAGE = {
    "rotation": ((-30, 30), 0, "°"),
    "blur": ((0.0, 3.0), 0.0, "σ, px"),
    "noise": ((0.0, 0.5), 0.0, "σ"),
    "jpeg": ((1, 100), 100, "quality"),
}


@dataclass
class Word:
    """A word that the captioner read."""

    word: str
    probability: float  # in [0, 1], given the words before it
    second: str  # what it would have read instead
    second_probability: float


@dataclass
class Reading:
    """What the captioner reads in a picture."""

    caption: str
    probability: float  # of the whole caption, in [0, 1]
    words: list  # of Word, the last one for the end of the sentence


@dataclass
class Drawn:
    """A sentence, its picture, and what is read back from it."""

    text: str  # as the vocabulary writes it
    picture: torch.Tensor  # (3, 64, 64) in [0, 1]
    layers: list  # of (words, picture); the ground comes first
    reading: Reading

    @property
    def is_exact(self):
        """Whether every word came back."""
        return self.reading.caption == self.text


class Playground:
    """A model and what one can do with it."""

    def __init__(self, cycle, vocab, device):
        self.cycle, self.vocab, self.device = cycle.eval(), vocab, device

    @classmethod
    def open(cls, checkpoint, device=torch.device("cpu")):  # noqa: B008 (a device never changes)
        """The Playground of a checkpoint or a folder of weights. Raises CheckpointError."""
        cycle, vocab, _ = load_model(checkpoint, device)
        return cls(cycle, vocab, device)

    # ---- sentences ------------------------------------------------------------------------------

    def ids(self, text):
        """Word numbers of a sentence. Raises ValueError, UnknownWord."""
        ids = self.vocab.encode(text)
        most = self.cycle.language_model.max_words
        if not ids:
            raise ValueError("the sentence is empty; type one")
        if len(ids) > most:
            raise ValueError(f"the sentence has {len(ids)} words; this model draws at most {most}")
        return ids

    def example(self):
        """A sentence to begin with: EXAMPLE, or an invented one where the model does not know its words."""
        try:
            self.ids(EXAMPLE)
            return EXAMPLE
        except ValueError:
            return self.invented(0)

    def shown(self, ids):
        """Each of some word numbers as people read it: "an" before a vowel."""
        return self.vocab.names(ids)

    @torch.no_grad()
    def swaps(self, text):
        """The words of a sentence that can be swapped -> [(place, word, [other words])]. Raises ValueError.

        Words of one kind can replace one another; where a word has no kind, those that the language model expects in its place.
        """
        ids = self.ids(text)
        classes = self.cycle.word_classes
        cloze = self.cycle.language_model(torch.tensor([ids], device=self.device)).cloze[0].softmax(-1)  # (T, V)
        out = []
        for place, (i, word) in enumerate(zip(ids, self.shown(ids))):
            kind = classes.kind[i] if classes else -1
            if kind >= 0:
                others = [k for k, other in enumerate(classes.kind) if other == kind]
            else:
                others = [k for k in cloze[place].argsort(descending=True).tolist() if cloze[place, k] >= OFTEN]
            others = [self.vocab.words[k] for k in others if k != i and k not in (PAD, BOS, EOS)][:OFFERED]
            if others:
                out.append((place, word, others))
        return out

    def swapped(self, text, place, word):
        """The sentence with another word in a place. Raises ValueError, UnknownWord."""
        ids = self.ids(text)
        if not 0 <= place < len(ids):
            raise ValueError(f"the sentence has no word {place + 1}")
        return self.vocab.decode([*ids[:place], *self.vocab.encode(word), *ids[place + 1 :]])

    def invented(self, seed):
        """A sentence that the language model invents; another seed gives another one."""
        rng = torch.Generator(self.device).manual_seed(seed)
        return self.vocab.decode(self.cycle.language_model.sample(1, rng, INVENTION)[0].tolist())

    # ---- pictures -------------------------------------------------------------------------------

    @torch.no_grad()
    def draw(self, text):
        """A sentence -> Drawn. Raises ValueError, UnknownWord."""
        ids = self.ids(text)
        rows, decoder = pad([ids]).to(self.device), self.cycle.scene_decoder
        scene, words = self.cycle.draw(rows), self.shown(ids)
        picture = round_8bit(scene.picture[0].float().cpu())
        layers = decoder.layers(scene, rows, 0) if decoder.has_layers else []
        parts = [(" ".join(words[i] for i in at) or "ground", round_8bit(layer.float().cpu())) for layer, at in layers]
        return Drawn(self.vocab.decode(ids), picture, parts, self.read(picture))

    @torch.no_grad()
    def read(self, picture):
        """A picture -> Reading."""
        captioner = self.cycle.caption_network
        pictures = picture[None].to(self.device)
        ids = [i for i in captioner.read(pictures)[0][0].tolist() if i not in (PAD, EOS)]
        logits = captioner(pictures, torch.tensor([ids], dtype=torch.int64, device=self.device))[0][
            0
        ].float()  # (T + 1, V)
        logits[:, [PAD, BOS]] = float("-inf")
        share, best = logits.softmax(-1).topk(2)
        end = EOS if len(ids) < captioner.max_words + 1 else None
        words, probability = [], 1.0
        for k, (i, word) in enumerate(zip([*ids, end], [*self.shown(ids), "(end)"])):
            if i is None:
                break
            p = float(logits[k].softmax(-1)[i])
            other = int(best[k, 0]) if int(best[k, 0]) != i else int(best[k, 1])
            q = float(share[k, 0] if int(best[k, 0]) != i else share[k, 1])
            words.append(Word(word, p, "(end)" if other == EOS else self.vocab.words[other], q))
            probability *= p
        return Reading(self.vocab.decode(ids), probability, words)

    def opened(self, path):
        """A picture file of a user, of any size and format -> a picture. Its bytes and pixels are counted before it is decoded.

        Raises PictureError, which names the file without its folder.
        """
        name = printable(os.path.basename(path))
        if os.path.isfile(path) and os.path.getsize(path) > MAX_BYTES:
            raise PictureError(f"{name} has more than {MAX_BYTES // 10**6} MB; make it smaller")
        return from_image(open_picture(path, name, MAX_PIXELS))


def changed(a, b):
    """Where two pictures differ visibly: (share of pixels in [0, 1], a picture that is bright there)."""
    difference = color_difference(a[None], b[None])[0]  # (64, 64)
    return float((difference > VISIBLE).float().mean()), (difference / 100).clamp(0, 1).expand(3, -1, -1)


def damage(picture, rotation=0, blur=0.0, noise=0.0, jpeg=100, seed=0):
    """A picture after each kind of DAMAGE, in its order. Raises ValueError for a strength out of range."""
    strengths = {"rotation": rotation, "blur": blur, "noise": noise, "jpeg": jpeg}
    for kind, ((low, high), neutral, _) in DAMAGE.items():
        if not low <= strengths[kind] <= high:
            raise ValueError(f"{kind} {strengths[kind]} is out of range; it must be from {low} to {high}")
        if strengths[kind] != neutral:
            picture = corrupt(picture[None], kind, strengths[kind], seed)[0]
    return picture
