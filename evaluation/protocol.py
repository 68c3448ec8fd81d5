"""What an evaluation works with: the model under test, and the protocol (how much is measured)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from checkpoints import load_model
from data_utils import CaptionsData, CaptionsFileError, GrammarData
from evaluation.baselines.captioners import CAPTIONERS
from evaluation.baselines.decoders import BaselineModel, random_model
from evaluation.baselines.renderer import HandMadeRenderer
from evaluation.metric import OWN
from pictures import batches_of_ids, draw_sentences, read_pictures
from scene_check import SceneCheck
from settings import Settings
from text.grammar import SPLITS, different_sentences
from text.grounding import grounded_words

CAPTIONER_BATCH = 64  # sentences in a training step of a fresh captioner


@dataclass(kw_only=True)
class Protocol:
    """How much is measured; the defaults are the whole evaluation."""

    sentences: int = 1000  # round trips of each split
    corrupted: int = 300  # sentences of the robustness section
    structure: int = 400  # sentences of the structure section
    permutations: int = 999  # of Mantel's test
    probe: int = 1500  # pictures that a linear probe is trained on
    steps: int = 600  # of each fresh captioner, in batches of 64
    every: int = 50  # steps between two checks of a fresh captioner
    checks: int = 200  # unseen sentences on which a fresh captioner is checked
    captioners: tuple[str, ...] = tuple(CAPTIONERS)
    vendi: int = 500  # sentences whose pictures are compared with one another
    invented: int = 500  # sentences that the language model invents
    scenes: float = 1.0  # share of the sentences whose scenes are measured
    real: int = 500  # scenes, and crops of real pictures, that are compared
    quick: bool = False


QUICK = Protocol(
    sentences=200, corrupted=80, structure=150, permutations=299, probe=300, steps=200, every=25, checks=100,
    captioners=("plain_convolutions",), vendi=200, invented=100, scenes=0.25, real=150, quick=True,
)  # fmt: skip


@dataclass(kw_only=True)
class ModelUnderTest:
    """The model that is evaluated, or a baseline of it."""

    cycle: Any  # models.Cycle, or a BaselineModel
    vocab: Any
    settings: Settings
    device: torch.device
    name: str = ""  # the checkpoint's path
    lines: list[str] | None = None  # the unseen lines of a --captions_file run, None for the grammar
    data: Any = None  # batches for fresh captioners
    real: Any = None  # RealPictures to compare with, if there are any
    others: list[ModelUnderTest] | tuple = ()  # the other models of the evaluation

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits whose sentences do not occur in training."""
        return SPLITS[2:] if self.lines is None else ("test",)

    @property
    def max_tokens(self) -> int | None:
        """Words or tokens of the longest sentence that can be drawn, None for any number."""
        return self.cycle.max_tokens

    @cached_property
    def scene_check(self) -> SceneCheck:
        """The `SceneCheck` of this model; calibrating it takes a second."""
        return SceneCheck.of(self.cycle, self.vocab, self.settings, self.device)

    @property
    def grounded_words(self) -> dict[str, dict]:
        """What the grounding file sets for words, {word: parts}; {} without a grounding file."""
        return grounded_words(self.cycle, self.vocab)

    def sentences(self, n: int, split: str, seed: int) -> list[str]:
        """n different unseen sentences, others for another seed; of a captions file at most as many as there are."""
        if self.lines is None:
            return different_sentences(n, split, seed)
        order = np.random.default_rng([seed, len(self.lines)]).permutation(len(self.lines))[:n]
        return [self.lines[int(i)] for i in order]

    def ids(self, sentences: list[str]) -> Iterator[torch.Tensor]:
        """The token ids of sentences on the model's device, (B, T) for at most `pictures.BATCH` of them at a time."""
        return batches_of_ids(self.vocab, sentences, self.device, self.max_tokens)

    def draw(self, sentences: list[str]) -> torch.Tensor:
        """Sentences -> pictures (n, 3, 64, 64) in [0, 1] on the CPU, at 8 bits. Raises UnknownWord."""
        return draw_sentences(self.cycle, self.vocab, sentences, self.device)

    def read(self, pictures: torch.Tensor) -> list[str]:
        """Pictures (n, 3, 64, 64) in [0, 1] -> captions by the model's own captioner."""
        return self.read_with_log_probs(pictures)[0]

    def read_with_log_probs(self, pictures: torch.Tensor) -> tuple[list[str], list[float]]:
        """Pictures (n, 3, 64, 64) in [0, 1] -> captions, and the log probability of each in nats."""
        return read_pictures(self.cycle, self.vocab, pictures, self.device)

    def baselines(self, seed: int) -> dict[str, ModelUnderTest]:
        """{id: baseline without a captioner}: a random model of the same build and, for the grammar, the renderer."""
        random = random_model(self.cycle, self.vocab, self.settings, seed, self.device)
        cycles = {"random_decoder": BaselineModel(random.draw, max_tokens=self.max_tokens)}
        if self.lines is None:
            cycles["hand_made"] = BaselineModel(HandMadeRenderer(self.vocab))
        return {name: dataclasses.replace(self, cycle=cycle) for name, cycle in cycles.items()}

    def draw_with_baselines(self, sentences: list[str], seed: int) -> dict[str, torch.Tensor]:
        """The same sentences drawn by this model and by its baselines -> {id: pictures (n, 3, 64, 64) in [0, 1]}."""
        baselines = {name: baseline.draw(sentences) for name, baseline in self.baselines(seed).items()}
        return {OWN: self.draw(sentences), **baselines}

    def batches(self, seed: int) -> Callable[[int], torch.Tensor]:
        """A function: step -> token ids (64, T) of 64 training sentences."""
        per_epoch = max(1, self.data.num_samples // CAPTIONER_BATCH)

        def batch(step):
            return self.data.batch(seed + step // per_epoch, step % per_epoch, CAPTIONER_BATCH)

        return batch


def open_model(path: Path | str, device: torch.device, files: dict | None = None) -> ModelUnderTest:
    """A checkpoint -> ModelUnderTest. files: as for `open_unseen`, which raises; also raises CheckpointError."""
    cycle, vocab, settings = load_model(path, device)
    lines, data = open_unseen(settings, vocab, files)
    data.max_tokens = min(data.max_tokens, cycle.max_tokens)  # longer sentences are cut where they are drawn
    of_file = {"name": str(path), "lines": lines, "data": data}
    return ModelUnderTest(cycle=cycle.eval(), vocab=vocab, settings=settings, device=device, **of_file)


def open_unseen(settings: Settings, vocab: Any, files: dict | None = None) -> tuple[list[str] | None, Any]:
    """(unseen lines or None for the grammar, training data) of a run with these settings.

    files: {"captions_file", "val_file", "test_file", "captions_column": ...}; those that are not None replace the run's
    own. Raises OSError, CaptionsFileError.
    """
    files = {name: file for name, file in (files or {}).items() if file is not None}
    if not settings.captions_file:
        if files:
            flag = f"--{next(iter(files))}"
            raise CaptionsFileError(f"{flag}: this checkpoint was trained on the grammar; leave the flag out")
        return None, GrammarData(settings.num_samples if settings.fixed_data else 1 << 20, settings.seed + 99, False)
    settings = dataclasses.replace(settings, **files)
    try:
        data = CaptionsData.of_run(settings, vocab)
    except FileNotFoundError as error:
        names = ("captions_file", "val_file", "test_file")
        flag = next(name for name in names if getattr(settings, name) == error.filename)
        where = f"{error.filename}, on which this checkpoint was trained, is missing"
        raise CaptionsFileError(f"{where}; name it with --{flag}") from None
    return data.test, data
