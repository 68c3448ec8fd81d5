"""docs/tutorial.md: every block runs in an empty folder, and prints what the page says."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, TINY, run_forked
from evaluation_cases import measure_less

import evaluate

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"), re.M | re.S)


def output_of(done, what):
    assert done.returncode == 0, f"{what}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_rows(shown, printed):
    """Rows of JSON as the page shows them, perhaps with fewer keys and rounded, are among those that were printed."""
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    expected = [json.loads(line) for line in shown.splitlines()]
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected):
        assert {k: row[k] for k in wanted} == {
            k: pytest.approx(v, abs=0.01) if k == "scene_probability" else v for k, v in wanted.items()
        }


@pytest.mark.slow
def test_every_block_runs_and_prints_what_the_page_shows(tmp_path, monkeypatch):
    measure_less(monkeypatch)
    for name in [name for name, section in evaluate.SECTIONS.items() if section.needs_slots]:
        monkeypatch.delitem(evaluate.SECTIONS, name)  # these take longest; tests/test_evaluate.py has all sections
    drawn, trained = tmp_path / "drawn", tmp_path / "trained"  # the outputs are of the pretrained model
    drawn.mkdir()
    trained.mkdir()
    printed, scripts = "", []
    for kind, block in BLOCKS:
        if kind == "python":
            command = [sys.executable, "-c", block]
            printed = output_of(subprocess.run(command, cwd=drawn, capture_output=True, encoding="utf-8"), block)
        elif kind == "text":
            assert block == printed
        elif kind == "json":
            check_rows(block, printed)
        else:
            python, script, *arguments = shlex.split(block)
            assert python == "python" and kind == "sh"
            scripts.append(script)
            if script == "evaluate.py":
                monkeypatch.chdir(drawn)
                assert evaluate.main(arguments) == 0
                continue
            tiny = [*TINY, "--epochs", "1"] if script == "train.py" else []
            folder = trained if script == "train.py" else drawn
            printed = output_of(run_forked(script, *arguments, *tiny, cwd=folder), block)
            if script == "generate.py":
                printed = (drawn / arguments[-1] / "captions.jsonl").read_text(encoding="utf-8")
    assert scripts == ["train.py", "generate.py", "generate.py", "caption.py", "evaluate.py"]
    assert (trained / "checkpoints" / "best.pt").exists() and (drawn / "report" / "index.html").exists()
