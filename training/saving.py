"""Which checkpoints a run writes, and when."""

import contextlib
import os
import time

import torch

from checkpoints import CheckpointError, age, all_finite, best_quality, load, model_of, prune, pt_bytes
from runtime.command_line import UserError
from runtime.files import write_atomically


class CheckpointWriter:
    """Writes the state of a trainer as last.pt, best.pt and checkpoint_epoch_N.pt."""

    def __init__(self, trainer, console):
        self.trainer, self.console, self.settings = trainer, console, trainer.settings
        self.folder = trainer.settings.checkpoint_dir
        self.steps_on_disk = {}  # name of a checkpoint -> its step
        self.best_on_disk = best_quality(self.folder)
        self.last_save = time.monotonic()

    def note_resumed(self, path):
        """A resumed run's checkpoint is on disk already, if it is of this folder."""
        if os.path.realpath(os.path.dirname(path)) != os.path.realpath(self.folder):
            return
        with contextlib.suppress(CheckpointError, KeyError):
            self.steps_on_disk["last.pt"] = age(load(os.path.join(self.folder, "last.pt"), whole=False))[1]
        self.steps_on_disk[os.path.basename(path)] = self.trainer.step

    def is_due(self):
        """Whether so much time has passed inside an epoch that last.pt shall be written."""
        minutes = self.settings.save_minutes
        return bool(minutes and time.monotonic() - self.last_save > 60 * minutes)

    def save(self, *names):
        """Write the state under each name; returns the names written. Raises UserError if a number is not finite."""
        state = self.trainer.state()
        if not all_finite([state["model"], state["optimizer"]]):
            cause = f"most likely because --lr {self.settings.lr:g} is too high; lower it"
            raise UserError(f"weights are no longer finite, {cause}; {self.newest_on_disk()}")
        data, written = pt_bytes(state), []
        for name in names:
            path = os.path.join(self.folder, name)
            if self.console.try_to_write("checkpoint", path, lambda: write_atomically(path, data)):  # noqa: B023 (called at once)
                self.steps_on_disk[name] = self.trainer.step
                written.append(name)
        self.last_save = time.monotonic()
        return written

    def save_epoch(self, quality):
        """Write the checkpoints of an epoch's end; quality: (exact match, log probability) on unseen sentences."""
        # last.pt comes last: a process killed between two of them is resumed from the newest, and writes what is missing
        names = [f"checkpoint_epoch_{self.trainer.epoch}.pt", "last.pt"]
        if quality > self.best_on_disk:
            names.insert(0, "best.pt")
        if "best.pt" in self.save(*names):
            self.best_on_disk = quality

    def remove_old(self):
        """Keep the newest `--keep_last` checkpoints of epochs, and landmarks."""
        keep, epoch = self.settings.keep_last, self.trainer.epoch
        self.console.try_to_write("old checkpoints in", self.folder, lambda: prune(self.folder, keep, epoch))

    def save_if_new(self):
        """Write last.pt unless it holds this step."""
        if self.steps_on_disk.get("last.pt", -1) < self.trainer.step:
            self.save("last.pt")

    def models_on_disk(self):
        """What a run that has ended leaves to use: {path: (Cycle on the run's device, Vocabulary)}, the one to take last.

        That is best.pt; before it stands last.pt, unless both hold the same weights. Where there is no best.pt that can be read,
        only last.pt is left.
        """
        t, last, best = self.trainer, os.path.join(self.folder, "last.pt"), os.path.join(self.folder, "best.pt")
        trained, weights = (t.cycle, t.data.vocab), t.cycle.state_dict()
        try:
            state = load(best)
            model = model_of(state, best, t.device)[:2]
        except CheckpointError:
            return {last: trained}
        same = all(torch.equal(value, weights[name].cpu()) for name, value in state["model"].items())
        return {best: trained} if same else {last: trained, best: model}

    def newest_on_disk(self):
        """Which checkpoint to go on from, for the last words of a run that fails."""
        if not self.steps_on_disk:
            return f"no checkpoint could be written to {self.folder}"
        name = max(self.steps_on_disk, key=self.steps_on_disk.get)
        return f"{os.path.join(self.folder, name)} of step {self.steps_on_disk[name]} is whole"
