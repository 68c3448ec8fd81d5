"""Write the table of flags into docs/flags.md from `settings.py`: python -m scripts.flags_table"""

import dataclasses
from pathlib import Path

from runtime.command_line import Parser
from settings import PRESETS, Settings, show_default

ROOT = Path(__file__).resolve().parent.parent


def table() -> list[str]:
    """The lines of the table, in Markdown."""
    lines = ["| flag | default | quick | full | what it does |", "|---|---|---|---|---|"]
    for f in dataclasses.fields(Settings):
        presets = [str(show_default(p[f.name])) if f.name in p else "" for p in (PRESETS["quick"], PRESETS["full"])]
        cells = [f"`--{f.name}`", str(show_default(f.default)), *presets, f.metadata["help"]]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write(path: Path) -> None:
    """Replace the text between the two markers of a page by the table."""
    before, marker, rest = path.read_text(encoding="utf-8").partition("<!-- flags -->\n")
    _, end, after = rest.partition("<!-- end of flags -->\n")
    if not (marker and end):
        raise SystemExit(f"{path} lacks the markers <!-- flags --> and <!-- end of flags -->")
    path.write_text(before + marker + "\n".join(table()) + "\n" + end + after, encoding="utf-8")


if __name__ == "__main__":
    Parser("scripts/flags_table.py", __doc__).parse_args()
    write(ROOT / "docs" / "flags.md")
