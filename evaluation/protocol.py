"""What an evaluation works with: the model under test, the protocol (how much is measured), and what a metric is."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from checkpoints import load_model
from data_utils import CaptionsData, CaptionsFileError, GrammarData
from evaluation.baselines.captioners import CAPTIONERS, BaselineModel, random_model
from evaluation.baselines.renderer import HandMadeRenderer
from evaluation.metric import OWN
from pictures import draw_sentences
from scene_check import SceneCheck
from text.grammar import SPLITS, different_sentences
from text.grounding import grounded_words


@dataclass(kw_only=True)
class Protocol:
    """How much is measured; the defaults are the whole evaluation."""

    sentences: int = 1000  # round trips of each split
    corrupted: int = 300  # sentences of the robustness section
    structure: int = 400  # sentences of the structure section
    permutations: int = 999  # of Mantel's test
    probe: int = 1500  # pictures that a linear probe learns from
    steps: int = 600  # of each fresh captioner, in batches of 64
    every: int = 50  # steps between two checks of a fresh captioner
    checks: int = 200  # unseen sentences on which a fresh captioner is checked
    captioners: tuple = tuple(CAPTIONERS)
    vendi: int = 500  # sentences whose pictures are compared with one another
    invented: int = 500  # sentences that the language model invents
    scenes: float = 1.0  # share of the sentences whose scenes are measured
    real: int = 500  # scenes, and crops of real pictures, that are compared
    quick: bool = False


QUICK = Protocol(
    sentences=200,
    corrupted=80,
    structure=150,
    permutations=299,
    probe=300,
    steps=200,
    every=25,
    checks=100,
    captioners=("plain_convolutions",),
    vendi=200,
    invented=100,
    scenes=0.25,
    real=150,
    quick=True,
)


@dataclass(kw_only=True)
class ModelUnderTest:
    """The model that is evaluated. `lines` are the unseen lines of a --captions_file run, None for the grammar."""

    cycle: object  # models.Cycle or what can do as much
    vocab: object
    settings: object
    device: torch.device
    name: str = ""  # the checkpoint's path
    lines: list = None
    data: object = None  # batches for fresh captioners
    real: object = None  # RealPictures to compare with, if there are any
    others: list = ()  # the other ModelsUnderTest of the evaluation

    @property
    def splits(self):
        """The splits whose sentences training never shows."""
        return SPLITS[2:] if self.lines is None else ("test",)

    @property
    def max_words(self):
        """Words or pieces of the longest sentence that the model draws."""
        return self.cycle.language_model.max_words

    @cached_property
    def scene_check(self):
        """The `SceneCheck` of this model; calibrating it takes a second."""
        return SceneCheck.of(self.cycle, self.vocab, self.settings, self.device)

    @property
    def given(self):
        """What a user said some words look like, as `given_words` tells it; {} if all emerged."""
        return grounded_words(self.cycle, self.vocab)

    def sentences(self, n, split, seed):
        """n different unseen sentences, others for another seed; of a captions file as many as there are."""
        if self.lines is None:
            return different_sentences(n, split, seed)
        order = np.random.default_rng([seed, len(self.lines)]).permutation(len(self.lines))[:n]
        return [self.lines[int(i)] for i in order]

    def draw(self, sentences):
        """Sentences -> pictures (n, 3, 64, 64) in [0, 1] on the CPU, at 8 bits. Raises UnknownWord."""
        return draw_sentences(self.cycle, self.vocab, sentences, self.device)

    def baselines(self, seed):
        """{id: BaselineModel without a captioner}: a random model of the same build and, for the grammar, the renderer."""
        random = random_model(self.cycle, self.vocab, self.settings, seed, self.device)
        out = {"random_decoder": BaselineModel(random.draw, max_words=self.max_words)}
        if self.lines is None:
            out["hand_made"] = BaselineModel(HandMadeRenderer(self.vocab))
        return out

    def draw_with_baselines(self, sentences, seed):
        """The same sentences drawn by this model and by its baselines -> {id: pictures (n, 3, 64, 64) in [0, 1]}."""
        pictures = {OWN: self.draw(sentences)}
        for name, baseline in self.baselines(seed).items():
            pictures[name] = draw_sentences(baseline, self.vocab, sentences, self.device)
        return pictures

    def batches(self, seed):
        """A function: step -> word ids (64, T) of 64 training sentences."""
        per_epoch = max(1, self.data.num_samples // 64)

        def batch(step):
            return self.data.batch(seed + step // per_epoch, step % per_epoch, 64)

        return batch


def open_model(path, device, files=None):
    """A checkpoint -> ModelUnderTest. files: as `open_unseen` says. Raises CheckpointError, CaptionsFileError, OSError."""
    cycle, vocab, settings = load_model(path, device)
    lines, data = open_unseen(settings, vocab, files)
    data.max_words = min(
        data.max_words, cycle.language_model.max_words
    )  # longer sentences are cut where they are drawn
    return ModelUnderTest(
        cycle=cycle.eval(), vocab=vocab, settings=settings, device=device, name=str(path), lines=lines, data=data
    )


def open_unseen(settings, vocab, files=None):
    """(unseen lines or None for the grammar, training data) of a run with these settings.

    files: {"captions_file", "val_file", "test_file", "captions_column": ...} that are to be used instead of the run's own,
    where they are not None. Raises OSError, CaptionsFileError.
    """
    files = {name: file for name, file in (files or {}).items() if file is not None}
    if not settings.captions_file:
        if files:
            raise CaptionsFileError(
                f"--{next(iter(files))}: this checkpoint was trained on the grammar; leave the flag out"
            )
        return None, GrammarData(settings.num_samples if settings.fixed_data else 1 << 20, settings.seed + 99, False)
    settings = dataclasses.replace(settings, **files)
    try:
        data = CaptionsData.of_run(settings, vocab)
    except FileNotFoundError as error:
        flag = next(
            name for name in ("captions_file", "val_file", "test_file") if getattr(settings, name) == error.filename
        )
        where = f"{error.filename}, on which this checkpoint was trained, is missing"
        raise CaptionsFileError(f"{where}; name it with --{flag}") from None
    return data.test, data
