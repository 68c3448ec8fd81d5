"""Write the table of flags into docs/flags.md from `settings.py`: python -m scripts.flags_table"""

import dataclasses
from pathlib import Path

from runtime.command_line import Parser
from settings import PRESETS, Settings, show_default

ROOT = Path(__file__).resolve().parent.parent


def table():
    """The table as a list of Markdown lines."""
    lines = ["| flag | default | quick | full | what it does |", "|---|---|---|---|---|"]
    for f in dataclasses.fields(Settings):
        presets = [str(show_default(p[f.name])) if f.name in p else "" for p in (PRESETS["quick"], PRESETS["full"])]
        lines.append(
            f"| `--{f.name}` | {show_default(f.default)} | {presets[0]} | {presets[1]} | {f.metadata['help']} |"
        )
    return lines


def write(path):
    """Replace what stands between the two markers of a page by the table."""
    before, marker, rest = path.read_text(encoding="utf-8").partition("<!-- flags -->\n")
    _, end, after = rest.partition("<!-- end of flags -->\n")
    if not (marker and end):
        raise SystemExit(f"{path} lacks the markers <!-- flags --> and <!-- end of flags -->")
    path.write_text(before + marker + "\n".join(table()) + "\n" + end + after, encoding="utf-8")


if __name__ == "__main__":
    Parser("scripts/flags_table.py", __doc__).parse_args()
    write(ROOT / "docs" / "flags.md")
