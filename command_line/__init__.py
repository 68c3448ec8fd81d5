"""What the scripts share at the command line: errors that a user can mend, numbers within bounds, exit codes."""

import argparse
import math
import os
import sys


class UserError(Exception):
    """Something that the user can mend, said in one line."""


def in_one_line(error):
    """An exception as a line for the user."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return (str(error).splitlines() or [type(error).__name__])[0]


def exit_code(program, action):
    """Call action() -> its exit code; 1 after an error that a user can mend, which is printed in one line; 130 after Ctrl-C.

    `| head` closes the pipe when it has enough: that is no error.
    """
    try:
        code = action()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (UserError, ValueError, OSError) as error:
        print(f"{program}: {in_one_line(error)}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130


def number(kind, low=-math.inf, high=math.inf, below=math.inf, above=-math.inf):
    """A parser for argparse: finite numbers of a kind (int or float), low <= value <= high, above < value < below."""
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
        if not (low <= value <= high and above < value < below):
            raise argparse.ArgumentTypeError(f"{text} is out of range; it must be {bounds}")
        return value

    convert.__name__ = {int: "whole number", float: "number"}[kind]  # argparse names it where `kind` fails
    return convert
