"""README.md and docs/: links, tables and commands that must agree with the code, and the README's length."""

import importlib.util
import re
from pathlib import Path

import pytest
from conftest import run_here

from scripts import flags_table

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]


def linked_from(page):
    """The files that a page links to or names as a path of docs/."""
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text)]
    return links + [ROOT / path for path in re.findall(r"`(docs/[\w./]+)`", text)]


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_picture_page_and_heading_that_is_linked_exists(page):
    assert [str(link) for link in linked_from(page) if not link.exists()] == []
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        target = page.parent / link if link else page
        assert anchor in anchors(target), f"{target.name} has no heading for #{anchor}"


def test_the_index_links_to_every_page_and_the_readme_to_the_index():
    index = {link.resolve() for page in ("index.md", "lab/index.md") for link in linked_from(ROOT / "docs" / page)}
    assert [p.name for p in DOCS if p.resolve() not in index and p.name != "index.md"] == []
    assert "(docs/index.md)" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_script_and_module_of_a_command_exists(page):
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"python\s+-m\s+([\w.]+)", text)) - {"scripts.NAME"}
    assert [name for name in names if importlib.util.find_spec(name) is None] == []
    assert [name for name in re.findall(r"(?<!```)python\s+([\w/]+\.py)", text) if not (ROOT / name).exists()] == []


def test_every_flag_of_a_training_command_exists(tmp_path):
    known = set(re.findall(r"--\w+", run_here("train.py", "--help", cwd=tmp_path).stdout))
    for page in (p for p in PAGES if p.parent.name != "lab" and p.name != "add_a_loss.md"):
        commands = re.findall(r"train\.py((?:[ \n]+[\w./\[\]-]+)*)", page.read_text(encoding="utf-8"))
        assert {flag for command in commands for flag in re.findall(r"--\w+", command)} - known == set(), page.name


def test_the_readme_stays_short():
    lines = README.splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 120
    glossary = README.partition("## Words used here")[2].partition("\n## ")[0]
    assert glossary.count("\n|") - 2 <= 10
