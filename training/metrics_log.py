"""metrics.jsonl: the history of a run, one JSON object a line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.files import write_atomically

if TYPE_CHECKING:
    from training.console import Console
    from training.tensorboard_log import TensorBoardLog

NAME = "metrics.jsonl"


def is_history(path: Path | str) -> bool:
    """Whether a file is the history of a run, by its first line."""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            row = json.loads(f.readline(1 << 20))
        return {"kind", "step", "epoch"} <= row.keys() and not os.path.islink(path)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


class MetricsLog:
    """Appends rows to a history (which checkpoints keep, too) and to the file of a log folder.

    The file is first written from the history, without the steps that a resumed run repeats. mirror: another log, whose
    `add` gets every row.
    """

    def __init__(self, folder: Path | str, history: list[dict], console: Console, mirror: TensorBoardLog | None = None):
        self.path = os.path.join(folder, NAME)
        self.history = history
        self.console = console
        self.mirror = mirror
        self.is_complete = self._try(self._rewrite)

    def add(self, row: dict) -> None:
        """Add a row to the history and to the file."""
        self.history.append(row)
        self.is_complete = self._try(self._append if self.is_complete else self._rewrite)
        if self.mirror:
            self.mirror.add(row)

    def _try(self, write) -> bool:
        return self.console.try_to_write("metrics", self.path, write)

    def _rewrite(self) -> None:
        if os.path.lexists(self.path) and os.path.getsize(self.path) and not is_history(self.path):
            raise OSError(errno.EEXIST, "it is not the history of a run; move it away", self.path)
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in self.history).encode())

    def _append(self) -> None:
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(self.history[-1]) + "\n")
