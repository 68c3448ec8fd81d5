"""A training run around its trainer: steps, validation, logs, checkpoints, signals.

Of several processes, rank 0 validates, writes and prints; the others wait for it where it does.
"""

import dataclasses
import math
import os
import time

import torch

from decoders.objects import grounded_words
from pictures import draw_sentences, read_pictures
from runtime.command_line import UserError
from runtime.outputs import write_output
from runtime.signals import Interrupted
from text.grounding import given_line
from training import snapshots
from training.clock import TrainingClock
from training.console import Console
from training.metrics_log import MetricsLog
from training.saving import CheckpointWriter
from training.tensorboard_log import TensorBoardLog
from training.validation import remarks, validate, validate_from_files
from visualization import round_trips, scene_sheet, training_curves

STOP_AFTER = 20  # non-finite steps in a row stop a run
DISTRUST_AFTER = (
    3  # and so many hold back its saves: the weights may be ruined already, and must not replace better ones
)
ON_SHEET, IN_SAMPLES = 24, 16  # scenes on scenes_epoch_N.png and in sample_generations.png
SAMPLES = "sample_generations.png"
CURVES_EVERY = 10  # seconds, at least: drawing them takes as long as a short epoch


class Run:
    """Drives a trainer through its epochs. `unseen` are sentences to validate on."""

    def __init__(self, trainer, unseen, signals):
        self.trainer, self.settings, self.group = trainer, trainer.settings, trainer.group
        self.unseen, self.signals = unseen, signals
        self.clock = TrainingClock(trainer)
        self.console = Console(trainer.total, trainer.step, writes=self.group.is_rank_0)
        self.checkpoints = CheckpointWriter(trainer, self.console)
        has_board = self.settings.tensorboard and self.group.is_rank_0
        self.board = TensorBoardLog(self.settings.log_dir, trainer.history, self.console) if has_board else None
        self.log = MetricsLog(self.settings.log_dir, trainer.history, self.console, self.board)
        self.remarks = []  # on what came back, at the end of a run on a captions file
        self.curves = os.path.join(self.settings.log_dir, "training_curves.png")
        self.curves_drawn = -math.inf  # when

    # ---- the loop -------------------------------------------------------------------------------

    def train(self):
        """All epochs that are left. Raises Interrupted, UserError, LostProcess."""
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
                self.check_numbers(STOP_AFTER)
            if t.batch == 0:
                on_rank_0(self.end_of_epoch)
        self.check_numbers(DISTRUST_AFTER)
        self.clock.count()
        on_rank_0(self.checkpoints.save_if_new)
        self.console.close()

    def begin(self):
        """Shows before the first hour, not after it, whether the folders can be written to."""
        self.checkpoints.save("last.pt")
        self.add_snapshot()

    def was_validated(self):
        """Whether the history holds a validation of this step."""
        return any(row["kind"] == "validation" and row["step"] == self.trainer.step for row in self.trainer.history)

    def check_signals(self):
        """Raise Interrupted if any process has received a signal; save last.pt if rank 0 wants to."""
        t = self.trainer
        due = self.group.is_rank_0 and t.batch > 0 and self.checkpoints.is_due() and t.skipped_in_a_row < DISTRUST_AFTER
        signal_number, save = self.group.maximum(self.signals.number, int(due))
        if signal_number:
            raise Interrupted(signal_number)
        if save:
            with self.clock.paused():
                self.group.on_rank_0(lambda: self.checkpoints.save("last.pt"))

    def check_numbers(self, limit):
        """Raise UserError if the numbers of the last `limit` steps were all not finite."""
        in_a_row = int(self.trainer.skipped_in_a_row)
        if in_a_row < limit:
            return
        cause = f"--lr {self.settings.lr:g} is too high; lower it"
        if self.trainer.dtype is torch.float16:
            cause = (
                f"--lr {self.settings.lr:g} is too high or half precision too narrow; lower it or leave out --use_amp"
            )
        what = f"{in_a_row} steps in a row had a non-finite loss or gradient, most likely because {cause}"
        raise UserError(f"{what}; {self.checkpoints.newest_on_disk()}")

    # ---- what is logged -------------------------------------------------------------------------

    def row(self, kind):
        """The start of a row of metrics.jsonl."""
        t = self.trainer
        return {"kind": kind, "step": t.step, "epoch": t.epoch, "seconds": round(t.seconds, 3)}

    def report(self):
        """Log the mean losses of the good steps since the last report."""
        t, s = self.trainer, self.settings
        means = t.take_mean_losses()  # the one wait for the device
        self.clock.count()
        if not means:
            return
        losses = {f"loss_{name}": value for name, value in means.items()}
        rate = t.optimizer.learning_rate(t.step)
        self.log.add(
            {
                **self.row("train"),
                **losses,
                "corruption_strength": float(t.strength),
                "lr": rate,
                "skipped_steps": int(t.skipped),
            }
        )
        match = next((row["exact_match"] for row in reversed(t.history) if row["kind"] == "validation"), None)
        exact = "exact -" if match is None else f"exact {100 * match:.1f}%"  # before the first validation nobody knows
        epoch, text = (
            f"epoch {min(t.epoch + 1, s.epochs)}/{s.epochs}",
            f"caption {means['caption']:.3f} kl {means['kl']:.0f}",
        )
        self.console.progress(f"{exact} {epoch}", text)
        if not self.console.is_terminal:
            self.console.say(f"{epoch} step {t.step}/{t.total} {exact} {text} {t.seconds:.0f} s")

    def log_validation(self, result):
        match, t = result.exact_match, self.trainer
        log_prob = result.log_prob if math.isfinite(result.log_prob) else None  # JSON has no NaN
        metrics = {
            "exact_match": match,
            "word_accuracy": result.word_accuracy,
            "log_prob": log_prob,
            "n": len(result.captions),
        }
        self.log.add({**self.row("validation"), **metrics})
        t.best = max(t.best, match)
        if not self.console.is_terminal:
            what = f"exact match on {len(result.captions)} unseen sentences {100 * match:.1f} %"
            self.console.say(f"epoch {t.epoch}: {what} after {t.seconds:.0f} s")

    # ---- the end of an epoch, and of a run ------------------------------------------------------

    def end_of_epoch(self):
        """Validate, log, save, draw. Raises Interrupted, UserError."""
        with self.clock.paused():
            result = validate(self.trainer, self.unseen, self.signals)
            self.log_validation(result)
            self.save_epoch((result.exact_match, result.log_prob))
            self.checkpoints.remove_old()
            self.add_snapshot()
            self.draw(result)

    def save_epoch(self, quality):
        in_a_row = int(self.trainer.skipped_in_a_row)
        if in_a_row >= DISTRUST_AFTER:
            what = f"{in_a_row} steps in a row had a non-finite loss or gradient"
            self.console.say(f"warning: {what}; epoch {self.trainer.epoch} is not saved")
        else:
            self.checkpoints.save_epoch(quality)

    def draw(self, result):
        """Scenes and curves in the log folder."""
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

    def add_snapshot(self):
        """Draw and read the same few unseen sentences again, for evaluate.py's slider over epochs."""
        t, path = self.trainer, os.path.join(self.settings.log_dir, snapshots.NAME)

        def write():
            texts = list(dict.fromkeys(self.unseen))[: snapshots.SENTENCES]
            pictures = draw_sentences(t.cycle, t.data.vocab, texts, t.device)
            captions, _ = read_pictures(t.cycle, t.data.vocab, pictures, t.device)
            snapshots.add(path, t.epoch, texts, pictures, captions, t.history[0] if t.history else None)

        self.console.try_to_write("snapshots", path, write)

    def finish(self, sentences):
        """Read unseen sentences back from PNG files, write the samples and the summary -> {path of a checkpoint: exact match}.

        The last of them is the model to use (see `CheckpointWriter.models_on_disk`), of which are samples and summary. Raises
        Interrupted.
        """
        results = {}
        for path, (cycle, vocab) in self.checkpoints.models_on_disk().items():
            results[path] = validate_from_files(cycle, vocab, self.trainer.device, sentences, self.signals)
        result = results[path]
        self.remarks = remarks(result, self.trainer.data, self.trainer.step) if self.settings.captions_file else []
        shown = result.sentences[:IN_SAMPLES], result.pictures[:IN_SAMPLES], result.captions[:IN_SAMPLES]
        self.console.try_to_write("samples", SAMPLES, lambda: round_trips(*shown, SAMPLES))
        summary = os.path.join(self.settings.log_dir, "training_summary.txt")
        self.console.try_to_write(
            "summary", summary, lambda: write_output(summary, self.summary(results).encode("utf-8", "replace"))
        )
        return {path: result.exact_match for path, result in results.items()}

    def summary(self, results):
        """What training_summary.txt says; results: {path of a checkpoint: RoundTrips}, the model to use last."""
        t, what = self.trainer, "unseen sentences, read from PNG files"
        given = given_line(grounded_words(t.cycle, t.data.vocab), self.settings.grounding)
        lines = [
            *(
                f"exact match on {len(r.sentences)} {what}: {100 * r.exact_match:.2f} % with {p}"
                for p, r in reversed(results.items())
            ),
            f"best exact match while training: {100 * t.best:.2f} %",
            f"seconds of training: {t.seconds:.0f}",
            f"steps: {t.step}",
            f"steps skipped for non-finite gradients: {int(t.skipped)}",
            *([given] if given else []),
            "",
            "settings:",
            *(f"  {name} = {value}" for name, value in dataclasses.asdict(self.settings).items()),
        ]
        return "\n".join(lines) + "\n"
