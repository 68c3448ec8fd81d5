"""A training run around its trainer: steps, validation, logs, checkpoints, signals.

Of several processes, rank 0 validates, writes and prints; the others wait for it where it does.
"""

import dataclasses
import math
import os
import time
from collections.abc import Iterable
from typing import Any

import torch

from pictures import draw_sentences, read_pictures
from runtime.command_line import UserError
from runtime.outputs import write_output
from runtime.signals import Interrupted, StopWhenSafe
from text.grounding import grounded_words, grounding_line
from training import snapshots
from training.clock import TrainingClock
from training.console import Console
from training.metrics_log import MetricsLog
from training.saving import CheckpointWriter
from training.tensorboard_log import TensorBoardLog
from training.trainer import Trainer
from training.validation import RoundTrips, remarks, validate, validate_from_files
from visualization import round_trips, scene_sheet, training_curves

STOP_AFTER = 20  # non-finite steps in a row stop a run
DISTRUST_AFTER = 3  # non-finite steps in a row prevent a save: the weights may be bad, and better ones are on disk
ON_SHEET, IN_SAMPLES = 24, 16  # scenes on scenes_epoch_N.png and in sample_generations.png
SAMPLES = "sample_generations.png"
CURVES_EVERY = 10  # seconds: drawing the curves takes as long as a short epoch


class Run:
    """Runs a trainer through its epochs. `unseen` are sentences to validate on."""

    def __init__(self, trainer: Trainer, unseen: list[str], signals: StopWhenSafe) -> None:
        self.trainer = trainer
        self.settings = trainer.settings
        self.group = trainer.group
        self.unseen = unseen
        self.signals = signals
        self.clock = TrainingClock(trainer)
        self.console = Console(trainer.total, trainer.step, writes=self.group.is_rank_0)
        self.checkpoints = CheckpointWriter(trainer, self.console)
        has_board = self.settings.tensorboard and self.group.is_rank_0
        self.board = TensorBoardLog(self.settings.log_dir, trainer.history, self.console) if has_board else None
        self.log = MetricsLog(self.settings.log_dir, trainer.history, self.console, self.board)
        self.remarks = []  # lines on the result, at the end of a run on a captions file
        self.curves = os.path.join(self.settings.log_dir, "training_curves.png")
        self.curves_drawn = -math.inf  # when

    # ---- the loop -------------------------------------------------------------------------------

    def train(self) -> None:
        """All remaining epochs. Raises Interrupted, UserError, LostProcess."""
        t, on_rank_0 = self.trainer, self.group.on_rank_0
        with self.clock.paused():
            if not t.step:
                on_rank_0(self.begin)
            elif t.batch == 0 and not self.was_validated():  # interrupted at the end of an epoch
                on_rank_0(self.end_of_epoch)
        while t.epoch < self.settings.epochs:
            self.check_signals()
            t.train_step()
            self.console.bar.update()
            if t.step % self.settings.log_interval == 0 or t.batch == 0:
                self.report()
            if t.step % STOP_AFTER == 0 or t.batch == 0:
                self.check_finite(STOP_AFTER)
            if t.batch == 0:
                on_rank_0(self.end_of_epoch)
        self.check_finite(DISTRUST_AFTER)
        self.clock.count()
        on_rank_0(self.checkpoints.save_if_new)
        self.console.close()

    def begin(self) -> None:
        """Save and draw before the first step, so that a folder that cannot be written to is reported early."""
        self.checkpoints.save("last.pt")
        self.add_snapshot()

    def was_validated(self) -> bool:
        """Whether the history has a validation of this step."""
        return any(row["kind"] == "validation" and row["step"] == self.trainer.step for row in self.trainer.history)

    def check_signals(self) -> None:
        """Raise Interrupted if any process has received a signal; save last.pt if it is due on rank 0."""
        t = self.trainer
        due = self.group.is_rank_0 and t.batch > 0 and self.checkpoints.is_due() and t.skipped_in_a_row < DISTRUST_AFTER
        signal_number, save = self.group.maximum(self.signals.number, int(due))
        if signal_number:
            raise Interrupted(signal_number)
        if save:
            with self.clock.paused():
                self.group.on_rank_0(lambda: self.checkpoints.save("last.pt"))

    def check_finite(self, limit: int) -> None:
        """Raise UserError if the last `limit` steps all had a non-finite loss or gradient."""
        in_a_row = int(self.trainer.skipped_in_a_row)
        if in_a_row < limit:
            return
        cause, cure = f"--lr {self.settings.lr:g} is too high", "lower it"
        if self.trainer.precision.dtype is torch.float16:
            cause, cure = f"{cause} or half precision too narrow", f"{cure} or leave out --use_amp"
        line = f"{in_a_row} steps in a row had a non-finite loss or gradient, most likely because {cause}; {cure}"
        raise UserError(f"{line}; {self.checkpoints.newest_on_disk()}")

    # ---- what is logged -------------------------------------------------------------------------

    def row(self, kind: str) -> dict[str, Any]:
        """The start of a row of metrics.jsonl."""
        t = self.trainer
        return {"kind": kind, "step": t.step, "epoch": t.epoch, "seconds": round(t.seconds, 3)}

    def report(self) -> None:
        """Log the mean losses of the steps since the last report, without skipped ones."""
        t, s = self.trainer, self.settings
        means = t.take_mean_losses()  # the only wait for the device
        self.clock.count()
        if not means:
            return
        losses = {f"loss_{name}": value for name, value in means.items()}
        state = {
            "corruption_strength": float(t.strength),
            "lr": t.optimizer.learning_rate(t.step),
            "skipped_steps": int(t.skipped),
        }
        self.log.add({**self.row("train"), **losses, **state})
        match = next((row["exact_match"] for row in reversed(t.history) if row["kind"] == "validation"), None)
        exact = "exact -" if match is None else f"exact {100 * match:.1f}%"  # none before the first validation
        epoch = f"epoch {min(t.epoch + 1, s.epochs)}/{s.epochs}"
        text = f"caption {means['caption']:.3f} kl {means['kl']:.0f}"
        self.console.progress(f"{exact} {epoch}", text)
        if not self.console.is_terminal:
            self.console.log(f"{epoch} step {t.step}/{t.total} {exact} {text} {t.seconds:.0f} s")

    def log_validation(self, result: RoundTrips) -> None:
        """Log the metrics of a validation."""
        t = self.trainer
        metrics = {
            "exact_match": result.exact_match,
            "word_accuracy": result.word_accuracy,
            "log_prob": result.log_prob if math.isfinite(result.log_prob) else None,  # JSON has no NaN
            "n": len(result.captions),
        }
        self.log.add({**self.row("validation"), **metrics})
        t.best = max(t.best, result.exact_match)
        if not self.console.is_terminal:
            what = f"exact match on {len(result.captions)} unseen sentences {100 * result.exact_match:.1f} %"
            self.console.log(f"epoch {t.epoch}: {what} after {t.seconds:.0f} s")

    # ---- the end of an epoch, and of a run ------------------------------------------------------

    def end_of_epoch(self) -> None:
        """Validate, log, save, draw. Raises Interrupted, UserError."""
        with self.clock.paused():
            result = validate(self.trainer, self.unseen, self.signals)
            self.log_validation(result)
            self.save_epoch((result.exact_match, result.log_prob))
            self.checkpoints.remove_old()
            self.add_snapshot()
            self.draw(result)

    def save_epoch(self, quality: tuple[float, float]) -> None:
        """Save the checkpoints of an epoch, unless the last steps were not finite. quality: of `CheckpointWriter`."""
        in_a_row = int(self.trainer.skipped_in_a_row)
        if in_a_row >= DISTRUST_AFTER:
            what = f"{in_a_row} steps in a row had a non-finite loss or gradient"
            self.console.log(f"warning: {what}; epoch {self.trainer.epoch} is not saved")
        else:
            self.checkpoints.save_epoch(quality)

    def draw(self, result: RoundTrips) -> None:
        """Write scenes and curves to the log folder."""
        texts = [a if a == b else f"{a} -> {b}" for a, b in zip(result.sentences, result.captions)]
        scenes = os.path.join(self.settings.log_dir, f"scenes_epoch_{self.trainer.epoch}.png")
        drawn = self.console.try_to_write(
            "scenes", scenes, lambda: scene_sheet(result.pictures[:ON_SHEET], texts, scenes)
        )
        if self.board and drawn:
            self.board.add_scenes(scenes, self.trainer.step)
        last = self.trainer.epoch == self.settings.epochs
        if last or time.monotonic() - self.curves_drawn >= CURVES_EVERY:
            self.console.try_to_write("curves", self.curves, lambda: training_curves(self.trainer.history, self.curves))
            self.curves_drawn = time.monotonic()

    def add_snapshot(self) -> None:
        """Draw and caption a fixed set of unseen sentences, for evaluate.py's slider over epochs."""
        t, path = self.trainer, os.path.join(self.settings.log_dir, snapshots.NAME)

        def write() -> None:
            texts = list(dict.fromkeys(self.unseen))[: snapshots.SENTENCES]
            pictures = draw_sentences(t.cycle, t.data.vocab, texts, t.device)
            captions, _ = read_pictures(t.cycle, t.data.vocab, pictures, t.device)
            snapshots.add(path, t.epoch, texts, pictures, captions, t.history[0] if t.history else None)

        self.console.try_to_write("snapshots", path, write)

    def finish(self, sentences: list[str]) -> dict[str, float]:
        """Caption the PNG files of unseen sentences; write the samples and the summary -> {checkpoint: exact match}.

        The last one is the model to use (see `CheckpointWriter.models_on_disk`), and the one that the samples show.
        Raises Interrupted.
        """
        results = {}
        for path, (cycle, vocab) in self.checkpoints.models_on_disk().items():
            results[path] = validate_from_files(cycle, vocab, self.trainer.device, sentences, self.signals)
        result = results[path]
        self.remarks = remarks(result, self.trainer.data, self.trainer.step) if self.settings.captions_file else []
        shown = result.sentences[:IN_SAMPLES], result.pictures[:IN_SAMPLES], result.captions[:IN_SAMPLES]
        self.console.try_to_write("samples", SAMPLES, lambda: round_trips(*shown, SAMPLES))
        path = os.path.join(self.settings.log_dir, "training_summary.txt")
        text = "\n".join(self.summary(results)) + "\n"
        self.console.try_to_write("summary", path, lambda: write_output(path, text.encode("utf-8", "replace")))
        return {path: result.exact_match for path, result in results.items()}

    def summary(self, results: dict[str, RoundTrips]) -> Iterable[str]:
        """The lines of training_summary.txt; results: by checkpoint, the model to use last."""
        t = self.trainer
        for path, r in reversed(results.items()):
            match = f"{100 * r.exact_match:.2f} % with {path}"
            yield f"exact match on {len(r.sentences)} unseen sentences, read from PNG files: {match}"
        yield f"best exact match while training: {100 * t.best:.2f} %"
        yield f"seconds of training: {t.seconds:.0f}"
        yield f"steps: {t.step}"
        yield f"steps skipped for non-finite gradients: {int(t.skipped)}"
        if given := grounding_line(grounded_words(t.cycle, t.data.vocab), self.settings.grounding):
            yield given
        yield "\nsettings:"
        for name, value in dataclasses.asdict(self.settings).items():
            yield f"  {name} = {value}"
