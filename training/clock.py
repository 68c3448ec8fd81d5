"""Seconds of training, without those that validation, saving and drawing take."""

import contextlib
import time


class TrainingClock:
    """Adds the time that passes to `trainer.seconds`, except inside `paused`."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.since = time.monotonic()
        self.pauses = 0  # how many `paused` blocks are open

    def count(self):
        """Add what has passed since the last call."""
        now = time.monotonic()
        if not self.pauses:
            self.trainer.seconds += now - self.since
        self.since = now

    @contextlib.contextmanager
    def paused(self):
        """What happens in this block is not training."""
        self.count()
        self.pauses += 1
        try:
            yield
        finally:
            self.pauses -= 1
            self.since = time.monotonic()
