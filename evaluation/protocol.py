"""What an evaluation studies: the model under study, how much of it is measured, and what a figure is."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from data_utils import CaptionsData, CaptionsFileError, GrammarData
from evaluation.baselines import READERS, HandMade, Pair, random_drawer
from pictures import draw_sentences
from text.grammar import SPLITS, TEMPLATES, parse, sample_sentences


@dataclass
class Plan:
    """How much is measured; the whole, or `--quick`."""

    sentences: int = 1000  # round trips of each split
    worn: int = 300  # sentences of the robustness section
    structure: int = 400  # sentences of the structure section
    permutations: int = 999
    probe: int = 1500  # pictures that a linear probe learns from
    steps: int = 600  # of each fresh reader, batches of 64
    every: int = 50
    checks: int = 200  # unseen sentences a fresh reader is checked on
    readers: tuple = tuple(READERS)
    vendi: int = 500
    invented: int = 500
    quick: bool = False


QUICK = Plan(200, 80, 150, 299, 300, 200, 25, 100, ("plain convolutions",), 200, 100, True)


@dataclass
class Subject:
    """A model under study. `lines` are the unseen lines of a --captions_file run, None for the grammar."""

    circle: object
    vocab: object
    settings: object
    device: torch.device
    name: str = ""
    lines: list = None
    data: object = None  # batches for fresh readers

    @property
    def splits(self):
        return SPLITS[1:] if self.lines is None else ("test",)

    def sentences(self, n, split, seed):
        return sample_sentences(n, split, seed) if self.lines is None else self.lines[:n]

    def draw(self, sentences):
        return draw_sentences(self.circle, self.vocab, sentences, self.device)

    def drawn_by_others(self, sentences, seed):
        """The sentences as drawn by what never learned -> {name: pictures}. The drawing program knows the grammar only."""
        return {name: draw_sentences(pair, self.vocab, sentences, self.device) for name, pair in self.others(seed).items()}

    def others(self, seed):
        """{name: Pair without a reader}: a random drawer of the same build and, for the grammar, the drawing program."""
        out = {"random drawer": Pair(random_drawer(self.circle, self.vocab, self.settings, seed, self.device).draw)}
        if self.lines is None:
            out["hand-made"] = Pair(HandMade(self.vocab))
        return out

    def batches(self, seed):
        """step -> 64 sentences' word numbers."""
        per_epoch = max(1, self.data.num_samples // 64)
        return lambda step: self.data.batch(seed + step // per_epoch, step % per_epoch, 64)


def figure(value, n, seed, baselines=None, interval=None, low=0.0, high=1.0, better="", **more):
    """One number with all that is needed to judge it. better: "high", "low" or "" where neither is."""
    return {
        "value": value,
        "n": n,
        "seed": seed,
        "range": [low, high],
        "interval": interval,
        "baselines": baselines or {},
        "better": better,
        **more,
    }


@lru_cache(maxsize=20000)
def _places(sentence):
    found = parse(sentence)
    if found is None:
        return ()
    words = TEMPLATES[found[0]].split()
    return tuple((slot, words.index("{" + slot + "}")) for slot in found[1])


def slots_of(sentence):
    """{slot: place of its word in the sentence}; empty for a sentence that is none of the grammar."""
    return dict(_places(sentence))


def open_data(settings, vocab, captions_file=None):
    """(unseen lines or None, batches) as the settings of a run say. Raises OSError, CaptionsFileError."""
    if not settings.captions_file:
        return None, GrammarData(settings.num_samples if settings.fixed_data else 1 << 20, settings.seed + 99, False)
    path = captions_file or settings.captions_file
    try:
        data = CaptionsData(path, settings.seed, settings.train_split, vocab)
    except FileNotFoundError:
        raise CaptionsFileError(
            f"{path}, on which this checkpoint was trained, is not here; name it with --captions_file"
        ) from None
    return data.test, data
