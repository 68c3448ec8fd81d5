"""What a run prints: a progress bar on a terminal, plain lines elsewhere, and a warning for a file that fails."""

import contextlib
import os
import sys
from collections.abc import Callable

from tqdm import tqdm

from runtime.command_line import in_one_line


class Console:
    """Progress and warnings on standard error. With `writes` False (all processes but rank 0) no file is written."""

    # The bar shrinks to the width of the terminal, and is cut at the right: the most important values stand left.
    BAR = "{desc}{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} steps, {remaining} left{postfix}"

    def __init__(self, total_steps: int, step: int, writes: bool = True) -> None:
        self.writes = writes
        self.failed = set()  # paths that could not be written
        self.is_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total_steps, initial=step, bar_format=self.BAR, disable=not self.is_terminal, dynamic_ncols=True
        )

    def log(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        with contextlib.suppress(OSError):  # a closed terminal or pipe is no reason to lose a run
            if self.is_terminal:
                self.bar.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)

    def progress(self, left: str, right: str) -> None:
        """The text at the left and at the right of the bar."""
        self.bar.set_description(left)
        self.bar.set_postfix_str(right, refresh=False)

    def try_to_write(self, what: str, path: str, write: Callable[[], object]) -> bool:
        """Call write() -> whether it succeeded. A failure never stops the run.

        It is reported once per path, until a write to that path succeeds again.
        """
        if not self.writes:
            return True
        try:
            write()
            self.failed.discard(path)
            return True
        except Exception as error:
            reason = getattr(error, "strerror", None) or in_one_line(error)
            if path not in self.failed:
                self.log(f"warning: {what} {path} could not be written ({reason}); training goes on")
                self.failed.add(path)
            return False

    def is_written(self, path: str) -> bool:
        """Whether a file that the run writes exists, and is not an earlier one that could not be replaced."""
        return path not in self.failed and os.path.exists(path)

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()
