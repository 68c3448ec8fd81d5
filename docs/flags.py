"""Print the README's table of flags from `settings.py`: python docs/flags.py"""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from settings import PRESETS, Settings, show_default  # noqa: E402


def table():
    """The table as a list of Markdown lines."""
    lines = ["| flag | default | quick | full | what it does |", "|---|---|---|---|---|"]
    for f in dataclasses.fields(Settings):
        presets = [str(show_default(p[f.name])) if f.name in p else "" for p in (PRESETS["quick"], PRESETS["full"])]
        lines.append(f"| `--{f.name}` | {show_default(f.default)} | {presets[0]} | {presets[1]} | {f.metadata['help']} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
