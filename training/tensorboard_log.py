"""--tensorboard: what metrics.jsonl holds, and the scene sheets, where TensorBoard can show them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from runtime.command_line import UserError, in_one_line
from runtime.outputs import Manifest

if TYPE_CHECKING:
    from training.console import Console

NAME = "tensorboard"  # of the folder, in the log folder


def check_installed() -> None:
    """Raise UserError unless TensorBoard can be written to."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except Exception as error:  # ImportError; a broken installation raises others
        reason = "" if isinstance(error, ModuleNotFoundError) else f" ({in_one_line(error)})"
        raise UserError(
            f"--tensorboard needs the package tensorboard{reason}: pip install tensorboard; or leave it out"
        ) from None


class TensorBoardLog:
    """Scalars and scene sheets of a run, in log_dir/tensorboard.

    Like metrics.jsonl it is first written from the history, so that steps that a resumed run repeats are there once. Of
    earlier event files only those that the manifest of log_dir lists are removed. A failure to write is reported once
    and never stops the run.
    """

    def __init__(self, log_dir: Path | str, history: list[dict], console: Console):
        self.log_dir = log_dir
        self.console = console
        self.path = os.path.join(log_dir, NAME)
        self.writer = None
        self._try(lambda: self._begin(history))

    def _begin(self, history: list[dict]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        manifest = Manifest(self.log_dir)
        for name in manifest.hashes:
            if name.startswith(f"{NAME}/"):
                manifest.remove(name)
        foreign = set(os.listdir(self.path)) if os.path.isdir(self.path) else set()
        self.writer = SummaryWriter(self.path)
        for name in set(os.listdir(self.path)) - foreign:
            manifest.add(f"{NAME}/{name}")
        for row in history:
            self._add(row)
        steps = {row["epoch"]: row["step"] for row in history if row["kind"] == "validation"}
        for name in os.listdir(self.log_dir):
            if (match := re.fullmatch(r"scenes_epoch_(\d+)\.png", name)) and int(match[1]) in steps:
                self._add_scenes(os.path.join(self.log_dir, name), steps[int(match[1])])

    def _try(self, write) -> bool:
        return self.console.try_to_write("TensorBoard's log", self.path, write)

    def add(self, row: dict) -> None:
        """A row of the history."""
        if self.writer:
            self._try(lambda: self._add(row))

    def _add(self, row: dict) -> None:
        for name, value in row.items():
            if name not in ("kind", "step") and isinstance(value, (int, float)):
                self.writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])
        if row["kind"] == "validation":
            self.writer.flush()

    def add_scenes(self, path: Path | str, step: int) -> None:
        """The scene sheet in a PNG file."""
        if self.writer:
            self._try(lambda: self._add_scenes(path, step))

    def _add_scenes(self, path: Path | str, step: int) -> None:
        with Image.open(path) as sheet:
            self.writer.add_image("scenes", np.array(sheet.convert("RGB")), step, dataformats="HWC")
        self.writer.flush()
