"""A model in training, and all state that a checkpoint needs for an exact resume.

One step is `algorithm.training_step`; a `Trainer` draws its sentences and random numbers, and counts.
"""

import time
from typing import Any

import numpy as np
import torch

from algorithm import training_step
from captions.dataset import CaptionsData
from checkpoints import CheckpointError, model_state
from data_utils import GrammarData
from decoders import DECODERS
from models import Cycle
from runtime.command_line import in_one_line, is_out_of_memory
from runtime.devices import Precision, amp_dtype, keep_memory
from settings import Settings
from text.grounding import GroundingError, load_grounding
from text.word_classes import WordClasses, find_word_classes
from training.distributed import SINGLE_PROCESS, ProcessGroup
from training.optimizer import Optimizer

# The corruption strength rises by STRENGTH_RATE a step if the captioner's loss (nats) is below READS_WELL.
STRENGTH_RATE, READS_WELL = 0.004, 0.3
CLASS_SENTENCES = 5000  # sentences in which word classes are found
CHANNEL_STREAM = 0xC4  # part of the seed of a step's noise, which differs from the seed of its sentences


class Trainer:
    """Model, optimizer and all state of a run. Raises ValueError if the processes cannot divide the batch evenly."""

    def __init__(
        self,
        settings: Settings,
        data: GrammarData | CaptionsData,
        device: torch.device,
        group: ProcessGroup = SINGLE_PROCESS,
        word_classes: WordClasses | None = None,
    ) -> None:
        if settings.batch_size % group.size:
            raise ValueError(
                f"--batch_size {settings.batch_size} cannot be divided evenly among {group.size} processes"
            )
        self.settings = settings
        self.data = data
        self.device = device
        self.group = group
        self.steps_per_epoch = -(-data.num_samples // settings.batch_size)
        self.total = self.steps_per_epoch * settings.epochs
        keep_memory()
        torch.manual_seed(settings.seed)  # for initial weights only; every later draw has its own generator
        if DECODERS[settings.decoder].needs_word_classes and word_classes is None:
            word_classes = learn_word_classes(settings, data)
        self.cycle = Cycle(settings, len(data.vocab), data.max_tokens, word_classes).to(device)
        self.precision = Precision(device, amp_dtype(device) if settings.use_amp else None)
        self.optimizer = Optimizer(self.cycle, settings, self.total, device, self.precision.dtype, group)
        self.rng = torch.Generator(device)
        self.strength = torch.zeros((), device=device)
        self.skipped_in_a_row = torch.zeros((), device=device)  # steps with a non-finite loss or gradient
        self.skipped = torch.zeros((), device=device)
        self.epoch = self.batch = self.step = 0
        self.loss_names = ()
        self.loss_sums = None  # (len(loss_names),): sums since the last report, the last one the number of steps
        self.best = -1.0  # exact match of the best validation
        self.seconds = 0.0  # of training
        self.saved_at = 0.0  # when `state` was last called
        self.history = []  # rows of metrics.jsonl

    def compile(self) -> str | None:
        """Compile the parts that consist of many small operations (--compile) -> None, or why nothing is compiled.

        The first steps wait for the compiler. A part that it does not support runs uncompiled.
        """
        try:
            torch.compile(torch.exp)(torch.ones(2, device=self.device))  # shows whether there is a compiler at all
        except Exception as error:  # torch has no common class for errors of its compilers
            return in_one_line(error)
        torch._dynamo.config.suppress_errors = True
        decoder = self.cycle.scene_decoder
        parts = [decoder.get_submodule(name) for name in decoder.compiled]
        if self.device.type == "cuda":  # on the CPU it gained nothing
            parts += self.cycle.language_model.blocks
        for part in parts:
            part.compile(dynamic=True)  # sentences differ in length

    def train_step(self) -> dict[str, torch.Tensor]:
        """One step on the next batch -> the unweighted losses by name, 0-dim, on the device."""
        s = self.settings
        ids = self.data.batch(self.epoch, self.batch, s.batch_size)  # (B, T)
        group = self.group if len(ids) % self.group.size == 0 else SINGLE_PROCESS  # a batch that cannot be divided
        ids = ids.to(self.device, non_blocking=True)
        host_rng = np.random.default_rng([s.seed, self.epoch, self.batch, CHANNEL_STREAM])
        noise_seed = int(host_rng.integers(1 << 62))  # depends on the position in the run only
        self.rng.manual_seed(noise_seed + group.rank)
        self.optimizer.set_learning_rate(self.step)
        parts, skipped = training_step(
            self.cycle, self.optimizer, s, ids, self.strength, self.rng, host_rng, self.precision, group
        )
        self._count(parts, skipped)
        return parts

    def _count(self, parts: dict[str, torch.Tensor], skipped: torch.Tensor) -> None:
        """Add up a step's losses, and move on to the next batch."""
        self.skipped_in_a_row = (self.skipped_in_a_row + 1) * skipped
        self.skipped = self.skipped + skipped
        counted = torch.where(skipped > 0, 0, torch.stack([*parts.values(), torch.ones_like(skipped)]))
        self.loss_names = (*parts, "steps")
        self.loss_sums = counted if self.loss_sums is None else self.loss_sums + counted
        self.strength = (self.strength + STRENGTH_RATE * (parts["caption"] < READS_WELL)).clamp(max=1)
        self.step += 1
        self.batch += 1
        if self.batch == self.steps_per_epoch:
            self.epoch += 1
            self.batch = 0

    def take_mean_losses(self) -> dict[str, float]:
        """The mean of each loss over the steps since the last call, without skipped ones; {} if there was none.

        Waits for the device.
        """
        sums = self._sums_by_name()
        self.loss_sums = None
        steps = sums.pop("steps", 0)
        return {name: value / steps for name, value in sums.items()} if steps else {}

    def _sums_by_name(self) -> dict[str, float]:
        return {} if self.loss_sums is None else dict(zip(self.loss_names, self.loss_sums.tolist()))

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs, in plain types and tensors."""
        self.saved_at = max(time.time(), self.saved_at + 1e-3)  # grows even if a clock was set back
        return {
            **model_state(self.cycle, self.data.vocab, self.settings),
            **self.optimizer.state_dict(),
            "data": data_digest(self.data),
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step},
            "corruption_strength": float(self.strength),
            "skipped": {"in_a_row": int(self.skipped_in_a_row), "in_all": int(self.skipped)},
            "loss_sums": self._sums_by_name(),
            "best": self.best,
            "seconds": self.seconds,
            "history": self.history,
            "saved_at": self.saved_at,
        }

    def restore(self, state: dict[str, Any], path: str) -> None:
        """Load a checkpoint's state. Raises CheckpointError."""
        if "upgraded_from" in state:
            line = f"{path} is of a former version of this program; it can be drawn with, but not resumed"
            raise CheckpointError(line)
        try:
            self.cycle.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state)
            self.epoch, self.batch, self.step = (int(state["position"][k]) for k in ("epoch", "batch", "step"))
            expected = self.epoch * self.steps_per_epoch + self.batch
            if self.step != expected or not 0 <= self.batch < self.steps_per_epoch:
                raise ValueError(f"step {self.step} is not batch {self.batch} of epoch {self.epoch}")
            self.strength.fill_(state["corruption_strength"])
            self.skipped_in_a_row.fill_(state["skipped"]["in_a_row"])
            self.skipped.fill_(state["skipped"]["in_all"])
            sums = state["loss_sums"]
            self.loss_names = tuple(sums)
            self.loss_sums = torch.tensor([*sums.values()], device=self.device) if sums else None
            self.best, self.seconds, self.saved_at = (float(state[k]) for k in ("best", "seconds", "saved_at"))
            self.history = [row for row in state["history"] if row["step"] <= self.step and row["kind"]]
        except Exception as error:  # a file of another program can raise any
            if is_out_of_memory(error):
                raise
            reason = in_one_line(error)[:120]
            line = f"{path} cannot be resumed ({reason}); take another checkpoint of its folder"
            raise CheckpointError(line) from None


def learn_word_classes(settings: Settings, data: GrammarData | CaptionsData) -> WordClasses:
    """The word classes of the training sentences, with what --grounding sets.

    Raises GroundingError, OSError.
    """
    classes = find_word_classes(data.some_sentences(CLASS_SENTENCES), len(data.vocab))
    if not settings.grounding:
        return classes
    grounded = load_grounding(settings.grounding)
    if unknown := [word for word in grounded if word not in data.vocab.index]:
        raise GroundingError(f"{settings.grounding}: no sentence has the word {unknown[0]!r}; leave it out")
    classes.grounding = {str(data.vocab.index[word]): parts for word, parts in grounded.items()}
    return classes


def data_digest(data: GrammarData | CaptionsData) -> str:
    """A hash of a captions file's sentences, so that a resumed run notices another file; "" for the grammar."""
    return data.digest if isinstance(data, CaptionsData) else ""
