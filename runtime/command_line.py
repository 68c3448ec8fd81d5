"""What the scripts share at the command line: flags, numbers within bounds, errors that a user can mend, exit codes."""

import argparse
import contextlib
import errno
import math
import os
import re
import signal
import sys
import threading

LARGEST = 2**63 - 1  # of whole numbers: torch takes no larger seed, and no larger size


class UserError(Exception):
    """Something that the user can mend, said in one line."""


# ---------------------------------------------------------------------------------------------
# Flags
# ---------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """The flags of a script. A wrong one is said in one line that points to --help, and ends the program with exit code 2.

    program: the script, such as "train.py", or "scripts/results.py" for `python -m scripts.results`.
    """

    def __init__(self, program, description=None):
        self.program = program
        module = program.removesuffix(".py").replace("/", ".")
        prog = f"python -m {module}" if program.startswith("scripts/") else program
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_known_args(self, args=None, namespace=None):
        print_whatever_comes()
        survive_lost_readers()
        return super().parse_known_args(args, namespace)

    def error(self, message):
        command = f"python {self.prog.removeprefix('python ')}"
        self.exit(2, f"{self.program}: {' '.join(message.split())}; see {command} --help\n")


def print_whatever_comes():
    """Let standard output and error replace what they cannot encode: a character is no reason to end a run.

    Windows consoles and the C locale know few characters, and Python's own answer is an exception.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's streams have no encoding
            stream.reconfigure(errors="replace")


def _abandon(stream):
    """What a stream still holds in memory, and all that follows, goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _KeepsGoing:
    """A text stream that drops what nobody can read any more: a closed pipe or terminal is no reason to lose a run."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self):
        self._attempt(self._stream.flush)

    def _attempt(self, action, *args):
        try:
            action(*args)
        except OSError:
            _abandon(self._stream)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def survive_lost_readers():
    """Let standard error keep going where its reader has left, as in `2>&1 | head`."""
    if not isinstance(sys.stderr, _KeepsGoing):
        sys.stderr = _KeepsGoing(sys.stderr)


def print_to_whoever_listens(*lines):
    """Lines on standard output that come when the work is done: without a reader they are not missed."""
    with contextlib.suppress(BrokenPipeError):
        print(*lines, sep="\n", flush=True)
        return
    _abandon(sys.stdout)


def typed_text(text):
    """Text of the command line as the user typed it: in the C locale Python does not understand UTF-8, and keeps its bytes.

    >>> typed_text("caf\\udcc3\\udca9")
    'café'
    """
    with contextlib.suppress(UnicodeError):
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    return text


def path_name(text):
    """A file or folder for argparse: any name but none at all, which an unset variable of a shell leaves.

    A leading ~ is the home folder: shells leave it as it is in `--out_dir=~/x`.
    """
    if not text:
        raise argparse.ArgumentTypeError("no name is given")
    return os.path.expanduser(text)


def number(kind, low=-math.inf, high=math.inf, below=math.inf, above=-math.inf):
    """A parser for argparse: finite numbers of a kind (int or float), low <= value <= high, above < value < below.

    A whole number is at most 2**63 - 1 where `high` does not say less.
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

    def convert(text):
        value = kind(text)
        if not (low <= value <= most and above < value < below):
            must_be = f"at most {most}" if most < value < high else bounds
            raise argparse.ArgumentTypeError(f"{text} is out of range; it must be {must_be}")
        return value

    convert.__name__ = {int: "whole number", float: "number"}[kind]  # argparse names it where `kind` fails
    return convert


# ---------------------------------------------------------------------------------------------
# Errors and exit codes
# ---------------------------------------------------------------------------------------------

# What torch (CPU, CUDA, cuDNN, cuBLAS, Apple GPUs) and numpy say in errors of no class of their own; the second half is of sizes
# that no memory has.
OUT_OF_MEMORY = re.compile(
    "DefaultCPUAllocator|out of memory|ALLOC_FAILED|Storage size calculation overflowed|Overflow when unpacking|array is too big"
    "|Maximum allowed dimension exceeded",
    re.I,
)
ASKED_FOR = re.compile(r"to allocate ([\d.]+ ?(?:bytes|[KMGTP]?i?B))", re.I)


SMALLER_MODEL = "use --device cpu, or the --checkpoint of a smaller model"  # what helps scripts that use a trained one


def is_out_of_memory(error):
    """Whether an exception says that memory ran out, on whatever device."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, UserError):
        return False  # it is explained already
    kinds = (RuntimeError, TypeError, ValueError)
    return isinstance(error, MemoryError) or (isinstance(error, kinds) and bool(OUT_OF_MEMORY.search(str(error))))


def in_one_line(error):
    """An exception as a line for the user."""
    if is_out_of_memory(error):
        asked = ASKED_FOR.search(str(error))
        return "out of memory" + (f" ({with_unit(asked[1])} at once)" if asked else "")
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def with_unit(size):
    """A size as torch and numpy tell it, large numbers of bytes as GB.

    >>> with_unit("768000000000 bytes"), with_unit("2.00 GiB")
    ('768.0 GB', '2.00 GiB')
    """
    count = size.split()[0]
    return f"{int(count) / 1e9:.1f} GB" if size.endswith("bytes") and len(count) > 8 else size


def failure(program, error, smaller=""):
    """Print an error that a user can mend in one line -> exit code 1. Raises any other error again.

    smaller: what to do where memory ran out, such as "make --batch_size smaller".
    """
    if is_out_of_memory(error):
        line = f"{in_one_line(error)}; {smaller or 'ask for less, or take a machine with more memory'}"
    elif isinstance(error, (UserError, ValueError, OSError)):
        line = in_one_line(error)
    else:
        raise error
    print(f"{program}: {line}", file=sys.stderr, flush=True)
    return 1


class Terminated(BaseException):
    """SIGTERM asked the program to stop."""


@contextlib.contextmanager
def _sigterm_raises():
    """SIGTERM raises Terminated meanwhile, so that half-written files are removed."""

    def stop(*_):
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # no other thread may set handlers
        yield
        return
    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if former is None else former)


def exit_code(program, action, smaller="", left=""):
    """Call action() -> its exit code; 1 after an error that a user can mend, 130 after Ctrl-C, 143 after SIGTERM, each said in
    one line.

    `| head` closes the pipe when it has enough: that is no error. smaller: see `failure`. left: what an interrupted program
    leaves, and how it goes on.
    """
    try:
        with _sigterm_raises():
            code = action()
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        _abandon(sys.stdout)
        return 0
    except Exception as error:
        return failure(program, error, smaller)
    except (KeyboardInterrupt, Terminated) as stop:
        print(f"{program}: interrupted{left and '; '}{left}", file=sys.stderr, flush=True)
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
