"""Seconds of training, without those that validation, saving and drawing take."""

import contextlib
import time
from collections.abc import Iterator

from training.trainer import Trainer


class TrainingClock:
    """Adds elapsed time to `trainer.seconds`, except inside `paused`."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.since = time.monotonic()
        self.pauses = 0  # how many `paused` blocks are open

    def count(self) -> None:
        """Add the time since the last call."""
        now = time.monotonic()
        if not self.pauses:
            self.trainer.seconds += now - self.since
        self.since = now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The time inside this block does not count."""
        self.count()
        self.pauses += 1
        try:
            yield
        finally:
            self.pauses -= 1
            self.since = time.monotonic()
