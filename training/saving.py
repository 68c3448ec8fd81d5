"""Which checkpoints a run writes, and when."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING

import torch

from checkpoints import CheckpointError, age, all_finite, best_quality, load, model_of, pt_bytes
from runtime.command_line import UserError
from runtime.outputs import Manifest

if TYPE_CHECKING:
    from models import Cycle
    from text.vocabulary import Vocabulary
    from training.console import Console
    from training.trainer import Trainer

EPOCH_NAME = re.compile(r"checkpoint_epoch_(\d+)\.pt")
LANDMARK = 25  # every 25th checkpoint of an epoch is kept


class CheckpointWriter:
    """Writes the state of a trainer as last.pt, best.pt and checkpoint_epoch_N.pt."""

    def __init__(self, trainer: Trainer, console: Console):
        self.trainer = trainer
        self.console = console
        self.settings = trainer.settings
        self.folder = trainer.settings.checkpoint_dir
        self.manifest = Manifest(self.folder)
        self.steps_on_disk: dict[str, int] = {}  # name of a checkpoint -> its step
        self.best_on_disk = best_quality(self.folder)
        self.last_save = time.monotonic()

    def note_resumed(self, path: str) -> None:
        """Note that the checkpoint of a resumed run is on disk already, if it is in this folder."""
        if os.path.realpath(os.path.dirname(path)) != os.path.realpath(self.folder):
            return
        with contextlib.suppress(CheckpointError, KeyError):
            self.steps_on_disk["last.pt"] = age(load(os.path.join(self.folder, "last.pt"), whole=False))[1]
        self.steps_on_disk[os.path.basename(path)] = self.trainer.step

    def is_due(self) -> bool:
        """Whether `--save_minutes` have passed since the last save."""
        minutes = self.settings.save_minutes
        return bool(minutes and time.monotonic() - self.last_save > 60 * minutes)

    def save(self, *names: str) -> list[str]:
        """Write the state under each name -> the names written. Raises UserError if a weight is not finite."""
        state = self.trainer.state()
        if not all_finite([state["model"], state["optimizer"]]):
            cause = f"most likely because --lr {self.settings.lr:g} is too high; lower it"
            raise UserError(f"weights are no longer finite, {cause}; {self.newest_on_disk()}")
        data = pt_bytes(state)
        written = []
        for name in names:
            path = os.path.join(self.folder, name)
            if self.console.try_to_write("checkpoint", path, lambda: self.manifest.write(name, data)):  # noqa: B023 (called at once)
                self.steps_on_disk[name] = self.trainer.step
                written.append(name)
        self.last_save = time.monotonic()
        return written

    def save_epoch(self, quality: tuple[float, float]) -> None:
        """Write the checkpoints of an epoch's end; quality: (exact match, log probability) on unseen sentences."""
        # last.pt comes last: a process killed between two of them is resumed from the newest, and writes what is
        # missing
        names = [f"checkpoint_epoch_{self.trainer.epoch}.pt", "last.pt"]
        if quality > self.best_on_disk:
            names.insert(0, "best.pt")
        if "best.pt" in self.save(*names):
            self.best_on_disk = quality

    def remove_old(self) -> None:
        """Remove the checkpoints of epochs up to this one, but for the newest `--keep_last` (0 keeps all) and every
        25th."""
        keep = self.settings.keep_last
        if keep:
            self.console.try_to_write("old checkpoints in", self.folder, lambda: self._prune(keep))

    def _prune(self, keep: int) -> None:
        epochs = {int(m[1]): m[0] for m in map(EPOCH_NAME.fullmatch, os.listdir(self.folder)) if m}
        for epoch in sorted(n for n in epochs if n <= self.trainer.epoch)[:-keep]:
            if epoch % LANDMARK:
                self.manifest.remove(epochs[epoch])  # unless this program did not write it here

    def save_if_new(self) -> None:
        """Write last.pt unless it holds this step."""
        if self.steps_on_disk.get("last.pt", -1) < self.trainer.step:
            self.save("last.pt")

    def models_on_disk(self) -> dict[str, tuple[Cycle, Vocabulary]]:
        """The models that a finished run leaves: {path: (Cycle on the run's device, Vocabulary)}, the recommended one
        last.

        These are last.pt and best.pt; best.pt alone if both have the same weights; last.pt alone if best.pt cannot be
        read.
        """
        t = self.trainer
        last = os.path.join(self.folder, "last.pt")
        best = os.path.join(self.folder, "best.pt")
        trained = (t.cycle, t.data.vocab)
        weights = t.cycle.state_dict()
        try:
            state = load(best)
            model = model_of(state, best, t.device)[:2]
        except CheckpointError:
            return {last: trained}
        same = all(torch.equal(value, weights[name].cpu()) for name, value in state["model"].items())
        return {best: trained} if same else {last: trained, best: model}

    def newest_on_disk(self) -> str:
        """The checkpoint to resume from, for the message of a run that fails."""
        if not self.steps_on_disk:
            return f"no checkpoint could be written to {self.folder}"
        name = max(self.steps_on_disk, key=self.steps_on_disk.get)
        return f"{os.path.join(self.folder, name)} of step {self.steps_on_disk[name]} is whole"
