"""--tensorboard: what metrics.jsonl holds, and the scene sheets, where TensorBoard can show them."""

import os
import re
import shutil

import numpy as np
from PIL import Image

from runtime.command_line import UserError

NAME = "tensorboard"  # of the folder, in the log folder


def check_installed():
    """Raise UserError unless TensorBoard can be written to."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except Exception as error:  # ImportError; a broken installation raises others
        reason = (
            ""
            if isinstance(error, ModuleNotFoundError)
            else f" ({(str(error).splitlines() or [type(error).__name__])[0]})"
        )
        raise UserError(
            f"--tensorboard needs the package tensorboard{reason}: pip install tensorboard; or leave it out"
        ) from None


class TensorBoardLog:
    """Scalars and scene sheets of a run, in log_dir/tensorboard.

    Like metrics.jsonl it is first written from the history, so that steps that a resumed run repeats are there once. A failure
    to write is said once and never stops the run.
    """

    def __init__(self, log_dir, history, console):
        self.log_dir, self.console = log_dir, console
        self.path = os.path.join(log_dir, NAME)
        self.writer = None
        self._try(lambda: self._begin(history))

    def _begin(self, history):
        from torch.utils.tensorboard import SummaryWriter

        if os.path.isdir(self.path):
            shutil.rmtree(self.path)
        self.writer = SummaryWriter(self.path)
        for row in history:
            self._add(row)
        steps = {row["epoch"]: row["step"] for row in history if row["kind"] == "validation"}
        for name in os.listdir(self.log_dir):
            if (match := re.fullmatch(r"scenes_epoch_(\d+)\.png", name)) and int(match[1]) in steps:
                self._add_scenes(os.path.join(self.log_dir, name), steps[int(match[1])])

    def _try(self, write):
        return self.console.try_to_write("TensorBoard's log", self.path, write)

    def add(self, row):
        """A row of the history."""
        if self.writer:
            self._try(lambda: self._add(row))

    def _add(self, row):
        for name, value in row.items():
            if name not in ("kind", "step") and isinstance(value, (int, float)):
                self.writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])
        if row["kind"] == "validation":
            self.writer.flush()

    def add_scenes(self, path, step):
        """The scene sheet in a PNG file."""
        if self.writer:
            self._try(lambda: self._add_scenes(path, step))

    def _add_scenes(self, path, step):
        with Image.open(path) as sheet:
            self.writer.add_image("scenes", np.array(sheet.convert("RGB")), step, dataformats="HWC")
        self.writer.flush()
