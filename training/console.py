"""What a run tells its user: a progress bar on a terminal, plain lines elsewhere, and a warning for a file that fails."""

import contextlib
import sys

from tqdm import tqdm

from command_line import in_one_line


class Console:
    """Progress and warnings on standard error. With `writes` False (all processes but rank 0) no file is written."""

    def __init__(self, total_steps, step, writes=True):
        self.writes, self.warned = writes, set()
        self.is_terminal = sys.stderr.isatty()
        self.bar = tqdm(total=total_steps, initial=step, unit="step", disable=not self.is_terminal, dynamic_ncols=True)

    def say(self, line):
        with contextlib.suppress(OSError):  # a closed terminal or pipe is no reason to lose a run
            if self.is_terminal:
                self.bar.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)

    def progress(self, epoch, text):
        """What stands beside the bar."""
        self.bar.set_description(epoch)
        self.bar.set_postfix_str(text, refresh=False)

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

    def close(self):
        self.bar.close()
