"""Write the table of flags into the README from `settings.py`: python scripts/flags_table.py"""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from command_line import Parser  # noqa: E402
from settings import PRESETS, Settings, show_default  # noqa: E402


def table():
    """The table as a list of Markdown lines."""
    lines = ["| flag | default | quick | full | what it does |", "|---|---|---|---|---|"]
    for f in dataclasses.fields(Settings):
        presets = [str(show_default(p[f.name])) if f.name in p else "" for p in (PRESETS["quick"], PRESETS["full"])]
        lines.append(f"| `--{f.name}` | {show_default(f.default)} | {presets[0]} | {presets[1]} | {f.metadata['help']} |")
    return lines


if __name__ == "__main__":
    Parser("scripts/flags_table.py", __doc__).parse_args()
    path = Path(__file__).resolve().parent.parent / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition("<!-- flags -->\n")
    after = rest.partition("<!-- end of flags -->\n")[2]
    path.write_text(f"{before}<!-- flags -->\n" + "\n".join(table()) + f"\n<!-- end of flags -->\n{after}", encoding="utf-8")
