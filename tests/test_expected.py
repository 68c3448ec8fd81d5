"""scripts/expected.py: the page of a run's logs has the numbers of the logs, and no others."""

import json
import shutil
import sys

import pytest
from conftest import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT / "scripts"))
import expected


@pytest.fixture
def logs(tiny_run, tmp_path):
    """The logs of the tiny run, as if its epochs had taken 50 and 110 s -> (folder, rows)."""
    folder = tmp_path / "logs"
    shutil.copytree(tiny_run / "logs", folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["seconds"] = 50.0 if row["epoch"] == 1 else 125.0
    evolution = json.loads((folder / "evolution.json").read_text(encoding="utf-8"))
    for key, value in evolution.items():  # a run is known by its first row
        if isinstance(value, dict) and value.get("kind"):
            evolution[key] = rows[0]
    (folder / "evolution.json").write_text(json.dumps(evolution), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return folder, rows


def test_the_page_tells_what_the_logs_hold(logs, tmp_path, capsys):
    folder, rows = logs
    out = tmp_path / "docs" / "expected.md"
    assert expected.main([str(folder), "--out", str(out), "--about", "a tiny run"]) == 0
    text = out.read_text(encoding="utf-8")
    first = next(r for r in rows if r["kind"] == "validation" and r["epoch"] == 1)
    row = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert f"{100 * first['word_accuracy']:.1f} %" in row and f"{100 * first['exact_match']:.1f} %" in row
    assert "| 2 |" in text and "| 5 |" not in text  # the run ended before
    assert "a tiny run. Seeds: 0." in text and "not healthy" in text
    assert "After 1 minute (epoch 1)" in text and "After 5" not in text
    for name in ("expected_curves.png", "expected_1_minutes.png"):
        assert f"pictures/{name}" in text and Image.open(out.parent / "pictures" / name).width > 500
    assert str(out) in capsys.readouterr().out


def test_folders_that_are_no_logs_are_one_line(tmp_path, capsys):
    out = ["--out", str(tmp_path / "e.md")]
    for content in (None, "", "{}\n", "not json\n"):
        if content is not None:
            (tmp_path / "metrics.jsonl").write_text(content, encoding="utf-8")
        assert expected.main([str(tmp_path), *out]) == 1
        error = capsys.readouterr().err
        assert error.startswith("scripts/expected.py: ") and "metrics.jsonl" in error and error.count("\n") == 1
    assert not (tmp_path / "e.md").exists()
