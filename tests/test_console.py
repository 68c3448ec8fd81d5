"""What a run shows on a terminal, and what it does when nobody listens any more."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest
from conftest import ROOT, TINY, run_forked, run_unheard, script_command, script_env
from parrot import KNOWN, parrot
from PIL import Image

pty = pytest.importorskip("pty", reason="pseudo-terminals are of Unix")


def on_terminal(command, columns, cwd):
    """A command on a terminal of so many columns -> all that it showed there."""
    import fcntl
    import struct
    import termios

    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        command, cwd=cwd, env=script_env({"TERM": "xterm"}), stdout=subprocess.DEVNULL, stderr=inside
    )
    os.close(inside)
    shown = []

    def read():
        try:
            while data := os.read(outside, 1 << 16):
                shown.append(data)
        except OSError:  # how Linux says that the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(timeout=300) == 0
    reader.join()
    os.close(outside)
    return b"".join(shown).decode("utf-8", "replace")


BAR = """
import sys
sys.path.insert(0, {root!r})
from training.console import Console
console = Console(3768, 0)
console.progress("exact 12.3% epoch 12/24", "caption 0.123 kl 1234")
console.bar.update(1884)
console.bar.refresh()
console.close()
"""


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_exact_match_is_seen_on_a_terminal_of_any_width(columns, tmp_path):
    shown = on_terminal([sys.executable, "-c", BAR.format(root=str(ROOT))], columns, tmp_path)
    frames = [frame for frame in re.split(r"[\r\n]", shown) if "12/24" in frame]
    assert frames and all(frame.startswith("exact 12.3% epoch 12/24") and len(frame) <= columns for frame in frames)
    if columns >= 80:
        assert "50%" in frames[-1] and "caption 0.1" in frames[-1]
    if columns == 200:
        assert "caption 0.123 kl 1234" in frames[-1] and "1884/3768 steps" in frames[-1]


@pytest.mark.slow
def test_a_training_in_80_columns_shows_exact_match_and_epoch(tmp_path):
    shown = on_terminal(script_command("train.py", *TINY, "--epochs", 2, "--log_interval", 2), 80, tmp_path)
    frames = re.split(r"[\r\n]", shown)
    assert any(re.match(r"exact - epoch 1/2", f) for f in frames) and any(
        re.match(r"exact \d+\.\d% epoch 2/2", f) for f in frames
    )


# ---------------------------------------------------------------------------------------------
# `| true`: readers that leave
# ---------------------------------------------------------------------------------------------

EVALUATION = """
import sys
sys.path.insert(0, {root!r})
import evaluate

def done(args):
    progress = evaluate.Progress(2)
    progress.start("cycle", 1)
    progress.end()
    metrics = {{"exact_match/test": {{"value": 1.0, "n": 1}}}}
    open("reached", "w", encoding="utf-8").close()
    return {{"models": [{{"sections": {{"cycle": {{"metrics": metrics}}}}}}], "seconds": 1.0}}

evaluate.evaluate = done
sys.exit(evaluate.main(["--checkpoint", "c", "--out_dir", "o"]))
"""

LISTENED_TO = {
    "generate.py": (["--checkpoint", "parrot.pt", "--text", *KNOWN, "--out_dir", "o"], "o/captions.jsonl"),
    "export.py": (["--checkpoint", "parrot.pt", "--out_dir", "o"], "o/model.json"),
    "caption.py": (["--checkpoint", "parrot.pt", "x.png"], None),
    "data_utils.py": (["--num", "100000"], None),
    "evaluate.py": (None, "reached"),
}


def to_nobody(command, cwd, both):
    """Run a command whose output, or both streams of it, nobody reads -> (exit code, what standard error got otherwise).

    It writes without a buffer, so that it learns of this while it runs."""
    reader, writer = os.pipe()
    os.close(reader)
    env = script_env({"PYTHONUNBUFFERED": "1"})
    errors = writer if both else subprocess.PIPE
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=writer, stderr=errors, encoding="utf-8")
    os.close(writer)
    said = process.communicate(timeout=120)[1] or ""
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize("script", LISTENED_TO)
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "both"])
def test_a_reader_that_leaves_ends_nothing_and_is_no_error(script, both, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "x.png")
    shutil.copy(parrot(), tmp_path / "parrot.pt")
    flags, leaves = LISTENED_TO[script]
    if flags:
        done = run_unheard(script, *flags, cwd=tmp_path, both=both)
        code, said = done.returncode, done.stderr
    else:
        code, said = to_nobody([sys.executable, "-c", EVALUATION.format(root=str(ROOT))], tmp_path, both)
    assert code == 0 and "Traceback" not in said and "Broken pipe" not in said and "Exception" not in said, said
    assert leaves is None or (tmp_path / leaves).exists()


@pytest.mark.slow
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "both"])
def test_a_training_that_nobody_listens_to_reaches_its_end(both, tmp_path):
    code, said = to_nobody(script_command("train.py", *TINY, "--epochs", 1, "--log_interval", 1), tmp_path, both)
    assert code == 0 and "Traceback" not in said and "Broken pipe" not in said
    assert (tmp_path / "logs" / "training_summary.txt").exists() and (tmp_path / "sample_generations.png").exists()


# ---------------------------------------------------------------------------------------------
# The last lines of a run
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pictures_that_could_not_be_written_are_not_named_at_the_end(tmp_path):
    (tmp_path / "sample_generations.png").mkdir()
    done = run_forked("train.py", *TINY, "--epochs", 1, cwd=tmp_path)
    assert done.returncode == 0 and "warning: samples sample_generations.png could not be written" in done.stderr
    first, last = done.stdout.splitlines()
    assert (
        first
        == f"pictures: {os.path.join('logs', 'training_curves.png')}; model: {os.path.join('checkpoints', 'best.pt')}"
    )
    assert last.startswith("exact match on 256 unseen sentences")
    rows = (tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(rows[-1])["kind"] == "validation"
