import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import flags_table  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_table_of_flags_is_the_one_of_the_settings():
    text = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
    between = text.partition("<!-- flags -->\n")[2].partition("<!-- end of flags -->\n")[0]
    assert between.splitlines() == flags_table.table(), "run: python -m scripts.flags_table"


def test_the_table_is_replaced_and_the_text_around_it_kept(tmp_path):
    page = tmp_path / "flags.md"
    page.write_text("above\n<!-- flags -->\nan old row\n<!-- end of flags -->\nbelow\n", encoding="utf-8")
    flags_table.write(page)
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines == ["above", "<!-- flags -->", *flags_table.table(), "<!-- end of flags -->", "below"]


def test_every_file_at_the_root_is_named_in_the_list_of_files():
    listed = README[README.index("## Files") :]
    assert [p.name for p in ROOT.glob("*.py") if p.name not in re.findall(r"\w+\.py", listed)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_picture_and_page_that_is_linked_exists(page):
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text)]
    links += [ROOT / path for path in re.findall(r"`(docs/[\w./]+)`", text)]
    assert [str(link) for link in links if not link.exists()] == []


def test_the_readme_links_to_every_page_of_the_docs():
    assert [p.name for p in (ROOT / "docs").glob("*.md") if f"(docs/{p.name})" not in README] == []


def test_the_readme_stays_short():
    assert len(README.splitlines()) <= 150
