"""Where a run starts: anew, or from a checkpoint."""

import argparse
import sys
from typing import Any

from checkpoints import load, newest_valid, settings_of
from runtime.command_line import UserError
from settings import FIXED_ON_RESUME, PRESETS, Settings, resolve

FILES = ("captions_file", "val_file", "test_file")  # may have moved or changed format; a digest checks their sentences


def find_start(command: argparse.Namespace) -> tuple[str | None, dict[str, Any] | None, Settings]:
    """The checkpoint to continue from (its path and state, or None) and the settings of this run.

    command: of `train.parse_arguments`. Raises CheckpointError, UserError.
    """
    typed = command.typed
    if command.resume == "auto":
        folder = command.settings.checkpoint_dir
        typed = {**typed, "checkpoint_dir": folder}  # it may have been renamed since
        path, state = newest_valid(folder, lambda line: print(line, file=sys.stderr))
        if state is None:
            print(f"nothing to resume in {folder}; starting fresh", file=sys.stderr)
    else:
        path = command.resume
        state = load(path) if path else None
    if state is None:
        return None, None, command.settings
    old = settings_of(state, path)
    for name in FIXED_ON_RESUME:
        had = getattr(old, name)
        may_change = name in ("captions_column", "captions_format") or name in FILES and typed.get(name) and had
        if name in typed and typed[name] != had and not may_change:
            raise UserError(
                f"--{name} {typed[name]} contradicts {path}, which has {had}; leave the flag out or start a new run"
            )
    preset = PRESETS.get(command.preset, {})
    if any(getattr(old, name) != value for name, value in preset.items() if name not in typed):
        print(f"--preset {command.preset} is left aside: the settings come from {path}", file=sys.stderr)
    return path, state, resolve(typed, base=old)
