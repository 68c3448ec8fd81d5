"""metrics.jsonl: the history of a run, one JSON object a line."""

import json
import os

from runtime.files import write_atomically

NAME = "metrics.jsonl"


class MetricsLog:
    """Appends rows to a history (which checkpoints keep, too) and to the file of a log folder.

    The file is first written from the history: rows of steps that a resumed run repeats are gone. mirror: another log, whose
    `add` gets every row.
    """

    def __init__(self, folder, history, console, mirror=None):
        self.path = os.path.join(folder, NAME)
        self.history, self.console, self.mirror = history, console, mirror
        self.is_complete = self._try(self._rewrite)

    def add(self, row):
        self.history.append(row)
        self.is_complete = self._try(self._append if self.is_complete else self._rewrite)
        if self.mirror:
            self.mirror.add(row)

    def _try(self, write):
        return self.console.try_to_write("metrics", self.path, write)

    def _rewrite(self):
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in self.history).encode())

    def _append(self):
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(self.history[-1]) + "\n")
