"""What a run tells its user: a progress bar on a terminal, plain lines elsewhere, and a warning for a file that fails."""

import contextlib
import os
import sys

from tqdm import tqdm

from runtime.command_line import in_one_line


class Console:
    """Progress and warnings on standard error. With `writes` False (all processes but rank 0) no file is written."""

    # The bar shrinks to the width of the terminal, and what does not fit is cut at the right: the most important stands left.
    BAR = "{desc}{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} steps, {remaining} left{postfix}"

    def __init__(self, total_steps, step, writes=True):
        self.writes, self.warned = writes, set()
        self.is_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=total_steps, initial=step, bar_format=self.BAR, disable=not self.is_terminal, dynamic_ncols=True
        )

    def say(self, line):
        with contextlib.suppress(OSError):  # a closed terminal or pipe is no reason to lose a run
            if self.is_terminal:
                self.bar.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)

    def progress(self, before, behind):
        """What stands before and behind the bar."""
        self.bar.set_description(before)
        self.bar.set_postfix_str(behind, refresh=False)

    def try_to_write(self, what, path, write):
        """Call write(); whether it succeeded. A failure is said once per path, until it succeeds again, and never stops the
        run."""
        if not self.writes:
            return True
        try:
            write()
            self.warned.discard(path)
            return True
        except Exception as error:
            reason = getattr(error, "strerror", None) or in_one_line(error)
            if path not in self.warned:
                self.say(f"warning: {what} {path} could not be written ({reason}); training goes on")
                self.warned.add(path)
            return False

    def is_written(self, path):
        """Whether a file that the run wants to write is there, and not an earlier one that could not be replaced."""
        return path not in self.warned and os.path.exists(path)

    def close(self):
        self.bar.close()
