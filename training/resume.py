"""Where a run starts: anew, or from a checkpoint."""

import sys

from checkpoints import load, newest_valid, settings_of
from runtime.command_line import UserError
from settings import FIXED_ON_RESUME, PRESETS, resolve

FILES = (
    "captions_file",
    "val_file",
    "test_file",
)  # may be elsewhere now, in another format; they are known by their sentences


def find_start(settings, typed, preset, resume):
    """The checkpoint to go on from, or None, and the settings of this run. Raises CheckpointError, UserError."""
    if resume == "auto":
        typed = {**typed, "checkpoint_dir": settings.checkpoint_dir}  # a folder may have been renamed since
        path, state = newest_valid(settings.checkpoint_dir, lambda m: print(m, file=sys.stderr))
        if state is None:
            print(f"nothing to resume in {settings.checkpoint_dir}; starting fresh", file=sys.stderr)
    else:
        path, state = resume, load(resume) if resume else None
    if state is None:
        return None, None, settings
    old = settings_of(state, path)
    for name in FIXED_ON_RESUME:
        had = getattr(old, name)
        moved = name in ("captions_column", "captions_format") or name in FILES and typed.get(name) and had
        if name in typed and typed[name] != had and not moved:
            raise UserError(
                f"--{name} {typed[name]} contradicts {path}, which has {had}; leave the flag out or start a new run"
            )
    if preset and any(getattr(old, name) != value for name, value in PRESETS[preset].items() if name not in typed):
        print(f"--preset {preset} is left aside: the settings come from {path}", file=sys.stderr)
    return path, state, resolve(typed, base=old)
