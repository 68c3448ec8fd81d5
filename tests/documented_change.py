"""Carries out a page of the documentation that changes the code, on a copy of the repository."""

import re
import shlex
import shutil
import subprocess
import sys

from conftest import ROOT, TINY, script_env

IGNORED = shutil.ignore_patterns(".git", ".venv", "__pycache__", "checkpoints", "logs", "pretrained", ".ruff_cache")
TRAINING = [*TINY, "--epochs", "1", "--log_interval", "2"]


def blocks_of(page):
    """[(language, file name or "", text)] of the fenced blocks of a page of docs/."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", text, re.M | re.S)


def apply(language, path, block):
    """Append a block of Python to a file, new or not, or apply a diff whose context stands there once."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if language == "python":
        path.write_text(text + block, encoding="utf-8")
        return
    lines = block.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] == " ")
    assert before and ("\n" + text).count("\n" + before) == 1, f"{path.name} no longer has {before!r} once"
    path.write_text(text.replace(before, "".join(line[1:] for line in lines)), encoding="utf-8")


def carry_out(page, copy):
    """Apply each block that names a file, run each command. Returns {command: what it printed}."""
    shutil.copytree(ROOT, copy, ignore=IGNORED)
    printed = {}
    for language, name, block in blocks_of(page):
        if name:
            apply(language, copy / name, block)
        for line in block.splitlines() if language == "sh" else []:
            python, *arguments = shlex.split(line)
            assert python == "python"
            command = [sys.executable, *arguments, *(TRAINING if "train.py" in arguments else [])]
            done = subprocess.run(
                command, cwd=copy, env=script_env(), capture_output=True, encoding="utf-8", timeout=300
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            printed[line] = done.stdout
    return printed
