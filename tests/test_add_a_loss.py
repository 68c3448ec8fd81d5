"""docs/add_a_loss.md, carried out on a copy of the repository."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, TINY, script_env

BLOCKS = re.findall(
    r"^```(\w+) ?(\S*)\n(.*?)^```$", (ROOT / "docs" / "add_a_loss.md").read_text(encoding="utf-8"), re.M | re.S
)


def apply(kind, path, block):
    """Append a block of Python to a file, or insert the + lines of a diff behind its line of context, which stands there once."""
    text = path.read_text(encoding="utf-8")
    if kind == "python":
        path.write_text(text + block, encoding="utf-8")
        return
    context, *added = block.splitlines()
    assert context.startswith(" ") and all(line.startswith("+") for line in added)
    assert text.splitlines().count(context[1:]) == 1, f"{path.name} no longer has the line {context[1:]!r}"
    with_added = "\n".join([context[1:], *(line[1:] for line in added)])
    path.write_text(text.replace(context[1:] + "\n", with_added + "\n"), encoding="utf-8")


@pytest.mark.slow
def test_every_block_applies_and_every_command_runs(tmp_path):
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", "checkpoints", "logs", "pretrained", ".ruff_cache")
    shutil.copytree(ROOT, copy, ignore=ignored)
    commands = []
    for kind, name, block in BLOCKS:
        if kind != "sh":
            apply(kind, copy / name, block)
            continue
        for line in block.splitlines():
            python, *arguments = shlex.split(line)
            assert python == "python"
            tiny = [*TINY, "--epochs", "1", "--log_interval", "2"] if "train.py" in arguments else []
            command = [sys.executable, *arguments, *tiny]
            done = subprocess.run(
                command, cwd=copy, env=script_env(), capture_output=True, encoding="utf-8", timeout=300
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            commands.append(line)
            if "pytest" in arguments:
                assert "1 passed" in done.stdout
    assert len(commands) == 3 and "`--lambda_contrast`" in (copy / "docs" / "flags.md").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (copy / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(0 <= r["loss_contrast"] <= 1 for r in rows if r["kind"] == "train")
    assert "contrast loss" in (copy / "scripts" / "ablations.py").read_text(encoding="utf-8")
