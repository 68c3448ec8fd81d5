"""What the scripts share: flags, bounds of numbers, streams, errors that a user can fix, exit codes."""

import argparse
import contextlib
import errno
import math
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from runtime.signals import Interrupted, stop_at_once
from version import __version__

LARGEST = 2**63 - 1  # whole number that torch takes as a seed or a size


class UserError(Exception):
    """An error that the user can fix, in one line."""


# ---------------------------------------------------------------------------------------------
# Flags
# ---------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """The flags of a script. A wrong one gets one line that points to --help, and exit code 2.

    program: the script, such as "train.py", or "scripts/results.py" for `python -m scripts.results`.
    """

    def __init__(self, program: str, description: str | None = None) -> None:
        self.program = program
        module = program.removesuffix(".py").replace("/", ".")
        prog = f"python -m {module}" if program.startswith("scripts/") else program
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")

    def parse_known_args(
        self, args: list[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's, which every way of parsing calls. Prepares the streams first."""
        prepare_streams()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> None:
        command = f"python {self.prog.removeprefix('python ')}"
        self.exit(2, f"{self.program}: {' '.join(message.split())}; see {command} --help\n")


def typed_text(text: str) -> str:
    """Text of the command line as the user typed it: in the C locale Python keeps the bytes of UTF-8 undecoded.

    >>> typed_text("caf\\udcc3\\udca9")
    'café'
    """
    with contextlib.suppress(UnicodeError):
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    return text


def path_name(text: str) -> str:
    """A file or folder for argparse. An empty name, which an unset variable of a shell leaves, is refused.

    A leading ~ is the home folder: shells leave it as it is in `--out_dir=~/x`.
    """
    if not text:
        raise argparse.ArgumentTypeError("no name is given")
    return os.path.expanduser(text)


def number(
    kind: type, low: float = -math.inf, high: float = math.inf, below: float = math.inf, above: float = -math.inf
) -> Callable[[str], float]:
    """A parser for argparse: finite numbers of a type (int or float), low <= value <= high, above < value < below.

    A whole number is at most 2**63 - 1 if `high` is not lower.
    """
    most = min(high, LARGEST) if kind is int else high
    if above > -math.inf:
        bounds = f"above {above}"
    elif below < math.inf:
        bounds = f"from {low} to below {below}"
    elif high < math.inf:
        bounds = f"from {low} to {high}"
    else:
        bounds = f"{low} or more"

    def convert(text: str) -> float:
        value = kind(text)
        if not (low <= value <= most and above < value < below):
            must_be = f"at most {most}" if most < value < high else bounds
            raise argparse.ArgumentTypeError(f"{text} is out of range; it must be {must_be}")
        return value

    convert.__name__ = {int: "whole number", float: "number"}[kind]  # argparse names it where `kind` fails
    return convert


# ---------------------------------------------------------------------------------------------
# Streams
# ---------------------------------------------------------------------------------------------


def prepare_streams() -> None:
    """Let no state of standard output or error end a program: closed, without a reader, or with a small character set.

    Python has None in the place of a stream that was closed at the start (`2>&-`, pythonw). Windows consoles and the C
    locale have few characters, and Python raises an exception for any other.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open to the end)
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # a notebook's streams have no encoding
            stream.reconfigure(errors="replace")
    if not isinstance(sys.stderr, _IgnoresLostReader):
        sys.stderr = _IgnoresLostReader(sys.stderr)


def print_result(*lines: str) -> None:
    """Lines on standard output after the work is done. A reader that has left is no error."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        _discard(sys.stdout)


class _IgnoresLostReader:
    """A text stream that discards output after its reader has left, as in `2>&1 | head`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable, *args: str) -> None:
        try:
            action(*args)
        except OSError:
            _discard(self._stream)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _discard(stream: TextIO) -> None:
    """Redirect a stream, and what it has buffered, to the null device."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


# ---------------------------------------------------------------------------------------------
# Errors and exit codes
# ---------------------------------------------------------------------------------------------

# Messages of torch (CPU, CUDA, cuDNN, cuBLAS, Apple GPUs) and numpy in errors without a class of their own. The last
# four are about sizes that no memory has.
OUT_OF_MEMORY = re.compile(
    "DefaultCPUAllocator|out of memory|ALLOC_FAILED|Storage size calculation overflowed|Overflow when unpacking"
    "|array is too big|Maximum allowed dimension exceeded",
    re.IGNORECASE,
)
REQUESTED = re.compile(r"to allocate ([\d.]+ ?(?:bytes|[KMGTP]?i?B))", re.IGNORECASE)
SMALLER_MODEL = "use --device cpu, or the --checkpoint of a smaller model"  # advice of scripts that use a trained one


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception reports that memory ran out, on any device."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, UserError):
        return False  # it is explained already
    types = (RuntimeError, TypeError, ValueError)
    return isinstance(error, MemoryError) or (isinstance(error, types) and bool(OUT_OF_MEMORY.search(str(error))))


def in_one_line(error: BaseException) -> str:
    """An exception as a line for the user."""
    if is_out_of_memory(error):
        size = REQUESTED.search(str(error))
        return "out of memory" + (f" ({with_unit(size[1])} at once)" if size else "")
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def with_unit(size: str) -> str:
    """A size as torch and numpy print it; many bytes become GB.

    >>> with_unit("768000000000 bytes"), with_unit("2.00 GiB")
    ('768.0 GB', '2.00 GiB')
    """
    count = size.split()[0]
    return f"{int(count) / 1e9:.1f} GB" if size.endswith("bytes") and len(count) > 8 else size


def failure(program: str, error: Exception, smaller: str = "") -> int:
    """Print an error that a user can fix in one line -> exit code 1. Raises any other error again.

    smaller: what to do if memory ran out, such as "make --batch_size smaller".
    """
    if is_out_of_memory(error):
        line = f"{in_one_line(error)}; {smaller or 'ask for less, or take a machine with more memory'}"
    elif isinstance(error, (UserError, ValueError, OSError)):
        line = in_one_line(error)
    else:
        raise error
    print(f"{program}: {line}", file=sys.stderr, flush=True)
    return 1


def exit_code(program: str, action: Callable[[], int], smaller: str = "", left: str = "") -> int:
    """Call action() -> its exit code; 1 after an error that a user can fix, 130 after Ctrl-C, 143 after SIGTERM.

    Each gets one line. `| head` closes the pipe when it has enough: that is no error. smaller: see `failure`.
    left: what an interrupted program leaves, and how to continue.
    """
    try:
        with stop_at_once():
            code = action()
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        _discard(sys.stdout)
        return 0
    except Exception as error:
        return failure(program, error, smaller)
    except KeyboardInterrupt as stop:
        print(f"{program}: interrupted{left and '; '}{left}", file=sys.stderr, flush=True)
        return 128 + (stop.args[0] if isinstance(stop, Interrupted) else signal.SIGINT)
