import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import flags_table  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_flags_is_the_one_of_the_settings():
    assert "\n".join(flags_table.table()) in README, "run: python scripts/flags_table.py"


def test_every_file_at_the_root_has_a_job_in_the_list():
    listed = README[README.index("## Files") :]
    assert [p.name for p in ROOT.glob("*.py") if f"`{p.name}`" not in listed] == []


def test_every_picture_and_document_it_shows_exists():
    import re

    links = re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r"`(docs/[\w./]+)`", README)
    assert len(links) > 4
    assert [x for x in links if not (ROOT / x).exists()] == []
