"""colab_train.py and colab_setup.ipynb: a session on Colab, with a stand-in for its package."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import nbclient
import nbformat
import pytest
import torch
from conftest import ROOT, TINY, run_forked, run_here, run_script, script_env, start_forked
from forked import Process
from PIL import Image

from checkpoints import load
from settings import PRESETS

FAKE = Path(__file__).parent / "fake_colab"
NOTEBOOK = nbformat.read(ROOT / "colab_setup.ipynb", 4)
CODE_CELLS = {cell.id: cell.source for cell in NOTEBOOK.cells if cell.cell_type == "code"}


def names(folder):
    return sorted(p.name for p in Path(folder).iterdir())


# ---------------------------------------------------------------------------------------------
# The notebook as a file
# ---------------------------------------------------------------------------------------------


def test_the_notebook_is_valid_and_carries_no_results():
    nbformat.validate(NOTEBOOK)
    for cell in NOTEBOOK.cells:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None


def test_every_cell_is_plain_python_that_parses():
    """A line that starts with ! or % would go on after a failure."""
    for name, source in CODE_CELLS.items():
        ast.parse(source, filename=name)


def test_no_cell_holds_an_absolute_path_or_upgrades_a_package():
    for name, source in CODE_CELLS.items():
        tree = ast.parse(source)
        inner = {
            id(part) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for part in n.values[1:]
        }  # not its start
        constants = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in inner]
        texts = [n.value for n in constants if isinstance(n.value, str)]
        assert not [t for t in texts if t.startswith(("/", "~")) and len(t) > 1], name
        assert not [t for t in texts if t in ("-U", "--upgrade", "--force-reinstall") or "torch==" in t], name


def test_the_notebook_begins_with_badge_title_one_paragraph_and_one_form():
    first = NOTEBOOK.cells[0].source
    assert re.match(
        r"\[!\[[^\]]+\]\(https://colab\.research\.google\.com/assets/colab-badge\.svg\)\]\(https://colab\.", first
    )
    assert re.search(r"^# \w", first, re.M) and len(re.findall(r"\n\n[^#\[]", first)) == 1
    form = CODE_CELLS["settings"]
    assert NOTEBOOK.cells[1].id == "settings" and form.count("#@param") >= 6
    for name in ("PRESET", "USE_DRIVE", "REPO_URL", "BRANCH"):
        assert re.search(rf"(?m)^{name} = .*#@param", form), name


@pytest.mark.slow
def test_the_flags_that_cells_give_to_scripts_exist():
    nodes = [n for source in CODE_CELLS.values() for n in ast.walk(ast.parse(source))]
    calls = [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "run"]
    texts = [[a.value for a in call.args if isinstance(a, ast.Constant)] for call in calls]
    scripts = {t[0]: t[1:] for t in texts if t and str(t[0]).endswith(".py")}
    assert set(scripts) == {"evaluate.py", "export.py"}
    for script, flags in scripts.items():
        listed = run_here(script, "--help", cwd=ROOT).stdout
        assert all(flag in listed for flag in flags if flag.startswith("--")), script


# ---------------------------------------------------------------------------------------------
# The cell that gets the code
# ---------------------------------------------------------------------------------------------


def git(folder, *command):
    name = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *name, *command], check=True, capture_output=True)


def get_code(folder, url):
    """The settings cell and the cell that fetches, in a fresh Python."""
    source = CODE_CELLS["settings"] + f"\nREPO_URL = {str(url)!r}\n" + CODE_CELLS["code"] + "\nprint(os.getcwd())"
    return subprocess.run(
        [sys.executable, "-c", source], cwd=folder, env=script_env(), capture_output=True, encoding="utf-8", timeout=60
    )


def test_getting_the_code_clones_then_updates_and_keeps_results(tmp_path):
    origin, work = tmp_path / "origin" / "circle.git", tmp_path / "work"
    origin.mkdir(parents=True)
    work.mkdir()
    git(origin, "init")
    for text in ("one", "two"):
        (origin / "colab_train.py").write_text(text, encoding="utf-8")
        git(origin, "add", ".")
        git(origin, "commit", "-m", text)
        done = get_code(work, origin)
        assert done.returncode == 0, done.stderr
        assert (work / "circle" / "colab_train.py").read_text(encoding="utf-8") == text
        assert done.stdout.splitlines()[-1] == str(work / "circle")
        (work / "circle" / "result.pt").write_text("mine", encoding="utf-8")
    assert (work / "circle" / "result.pt").read_text(encoding="utf-8") == "mine"
    inside = get_code(work / "circle", "https://example.invalid/other.git")
    assert inside.returncode == 0 and "checkout already" in inside.stdout


def test_getting_the_code_fails_loudly(tmp_path):
    done = get_code(tmp_path, "nowhere/circle.git")
    assert done.returncode != 0 and "RuntimeError" in done.stderr


# ---------------------------------------------------------------------------------------------
# colab_train.py as a command
# ---------------------------------------------------------------------------------------------


def weights(folder, name="last.pt"):
    return load(Path(folder) / name)["model"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def wait_for(condition, process=None, timeout=180):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end and (process is None or process.poll() is None), "it did not come to that"
        time.sleep(0.05)


def step_reached(log_dir, step):
    """Whether metrics.jsonl of a run that is going on has come to a step."""
    try:
        return any(
            json.loads(line)["step"] >= step
            for line in (Path(log_dir) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        )
    except (OSError, ValueError):
        return False


def test_help_explains_both_presets_with_their_settings(tmp_path):
    done = run_here("colab_train.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for name, preset in PRESETS.items():
        assert f"\n  {name} " in done.stdout
        for key, value in preset.items():
            assert f"--{key}" + (f" {value}" if value is not True else "") in done.stdout, key
    assert "T4" in done.stdout and "train.py" in done.stdout


WRONG = [([], "quick or full"), (["quick", "--", "--resume", "x"], "--resume"), (["huge"], "huge")]


@pytest.mark.parametrize("arguments, word", WRONG)
def test_a_wrong_command_is_refused(tmp_path, arguments, word):
    done = run_here("colab_train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and word in done.stderr and names(tmp_path) == []


def test_the_device_is_found_among_the_flags_if_there_are_any():
    import colab_train

    flags = [[], ["--seed", "3"], ["--device", "cpu"], ["--seed", "3", "--device=cuda:1"], ["--device"]]
    assert [colab_train.device_of(f) for f in flags] == ["auto", "auto", "cpu", "cuda:1", ""]


def test_uploaded_files_are_found_although_the_notebook_has_changed_its_folder(tmp_path):
    import colab_train

    (tmp_path / "my file.txt").touch()
    for text in ("--seed 3 --captions_file 'my file.txt'", "--seed 3 --captions_file='my file.txt'"):
        flags = colab_train.flags_of_notebook(text, str(tmp_path))
        assert "=".join(flags).endswith(f"--captions_file={tmp_path / 'my file.txt'}") and flags[:2] == ["--seed", "3"]
    assert colab_train.flags_of_notebook("--captions_file none.txt", str(tmp_path))[1] == "none.txt"


def test_windows_gets_the_one_signal_that_it_can_pass_on(monkeypatch):
    import colab_train

    class Child:
        def send_signal(self, number):
            sent.append(number)

    sent, training = [], colab_train.Training.__new__(colab_train.Training)
    training.child = Child()
    training.pass_on(signal.SIGINT)
    monkeypatch.setattr(colab_train, "BREAK", 1)  # signal.CTRL_BREAK_EVENT, which only Windows has
    training.pass_on(signal.SIGINT)
    training.pass_on(signal.SIGTERM)  # would end the child at once
    assert sent == [signal.SIGINT, 1, 1]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="stands in for a signal of Windows")
def test_the_break_of_windows_counts_as_ctrl_c(monkeypatch):
    from runtime.signals import Interrupted, StopWhenSafe

    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    with StopWhenSafe() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_for(lambda: signals.number)
        with pytest.raises(Interrupted) as stopped:
            signals.check()
    assert stopped.value.args[0] == signal.SIGINT


def test_a_failed_training_is_a_failed_command(tmp_path):
    done = run_forked("colab_train.py", "quick", "--", "--d_model", "33", cwd=tmp_path)
    assert done.returncode != 0 and "--d_model 33" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_new_machine_goes_on_from_drive_past_a_cut_off_file(tmp_path):
    """Train with copies to Drive, lose the machine and the end of the newest copy, run again: same weights."""
    drive, first, second = tmp_path / "drive" / "circle", tmp_path / "first", tmp_path / "second"
    for folder in (drive, first, second):
        folder.mkdir(parents=True)
    command = [
        "colab_train.py",
        "quick",
        "--drive_dir",
        drive,
        "--drive_minutes",
        0,
        "--",
        *TINY,
        "--epochs",
        2,
        "--seed",
        5,
    ]
    done = run_forked(*command, cwd=first, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "not Colab" in done.stdout and "Drive has step 16" in done.stdout and "exact match on 256" in done.stdout
    folder = drive / "quick"
    assert {"metrics.jsonl", "training_curves.png", "sample_generations.png", "scenes_epoch_2.png"} <= set(
        names(folder)
    )
    os.truncate(folder / "last_step_000000016.pt", 5000)
    shutil.copy(first / "checkpoints" / "quick" / "checkpoint_epoch_1.pt", folder / "last_step_000000008.pt")
    again = run_forked(*command, cwd=second, timeout=300)
    assert again.returncode == 0 and "last_step_000000016.pt is cut off" in again.stdout, again.stdout + again.stderr
    assert "at epoch 1, step 8 of 16" in again.stderr
    assert same(weights(first / "checkpoints" / "quick"), weights(second / "checkpoints" / "quick"))
    assert {"scenes_epoch_1.png", "scenes_epoch_2.png", "training_curves.png"} <= set(names(second / "logs" / "quick"))


FULL_DRIVE = """
import builtins, sys
import colab_train, files
on_drive = lambda path, mode: "w" in mode and "/drive/" in str(path)
files.open = lambda path, mode="r", **k: builtins.open("/dev/full" if on_drive(path, mode) else path, mode, **k)
sys.exit(colab_train.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_with_a_full_drive_training_goes_on(tmp_path):
    (tmp_path / "drive").mkdir()
    flags = ["quick", "--drive_dir", tmp_path / "drive" / "circle", "--drive_minutes", 0, "--", *TINY, "--epochs", 2]
    done = Process(["-c", FULL_DRIVE, *flags], tmp_path, script_env({"PYTHONPATH": str(ROOT)})).finish(timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("Drive")]
    assert "No space left" in lines[0] and "training goes on" in lines[0]
    assert "nothing of this run" in lines[-1] and "download" in lines[-1] and len(lines) <= 4
    assert load(tmp_path / "checkpoints" / "quick" / "last.pt")["position"]["epoch"] == 2


@pytest.mark.slow
def test_without_a_usable_drive_training_goes_on(tmp_path):
    command = [
        "colab_train.py",
        "--preset",
        "quick",
        "--drive_dir",
        tmp_path / "not" / "mounted" / "circle",
        "--run_name",
        "mine",
    ]
    done = run_script(*command, "--", *TINY, "--epochs", 1, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if "training goes on" in line]) == 1
    assert (tmp_path / "checkpoints" / "mine" / "best.pt").exists() and not (tmp_path / "not").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_training_with_everything_saved(tmp_path, number):
    """SIGKILL cannot be passed on; the training notices all the same that it was left alone."""
    process = start_forked("colab_train.py", "quick", "--", *TINY, "--epochs", 40, "--log_interval", 1, cwd=tmp_path)
    wait_for(lambda: step_reached(tmp_path / "logs" / "quick", 3), process)
    process.send_signal(number)
    assert process.wait(180) == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    wait_for(lambda: "interrupted at epoch" in process.stderr)
    at = int(re.search(r"interrupted at epoch \d+, step (\d+)", process.stderr)[1])
    wait_for(lambda: load(tmp_path / "checkpoints" / "quick" / "last.pt")["position"]["step"] == at)


# ---------------------------------------------------------------------------------------------
# The notebook, run
# ---------------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path):
    """A checkout to run the notebook in, and the environment of its kernel: (folder, env)."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    for path in ROOT.glob("*/__init__.py"):
        shutil.copytree(path.parent, folder / path.parent.name)
    wanted = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").split() if installed(line)]
    (folder / "requirements.txt").write_text("\n".join(wanted), encoding="utf-8")
    (tmp_path / "downloads").mkdir()
    Image.linear_gradient("L").resize((300, 200)).convert("RGB").save(tmp_path / "photo.jpg")
    env = script_env({"DRIVE_MOUNT": str(tmp_path / "drive"), "FAKE_UPLOAD": str(tmp_path / "photo.jpg")})
    env.update(
        FAKE_DOWNLOADS=str(tmp_path / "downloads"), PYTHONPATH=str(FAKE), PIP_NO_INDEX="1"
    )  # pip may only find all in place
    return folder, env


def installed(requirement):
    try:
        return importlib.metadata.version(re.match(r"[\w-]+", requirement)[0]) != ""
    except importlib.metadata.PackageNotFoundError:
        return False


def notebook(flags, last=None, **values):
    """The notebook with other values in its forms, up to the cell `last`."""
    copy = nbformat.from_dict(NOTEBOOK)
    ids = [cell.id for cell in copy.cells]
    copy.cells = copy.cells[: ids.index(last) + 1] if last else copy.cells
    for name, value in {"MORE_FLAGS": " ".join(map(str, flags)), "DICTIONARY": False, **values}.items():
        for cell in copy.cells:
            cell.source = re.sub(rf"(?m)^{name} = [^#\n]*", lambda _, n=name, v=value: f"{n} = {v!r}  ", cell.source)
    return copy


def client(copy, folder):
    return nbclient.NotebookClient(copy, timeout=600, resources={"metadata": {"path": str(folder)}})


def output_of(copy, name):
    cell = next(c for c in copy.cells if c.id == name)
    return "".join(o.get("text", "") for o in cell.outputs), [t for o in cell.outputs for t in o.get("data", {})]


@pytest.mark.slow
def test_the_whole_notebook_from_first_to_last_cell(session, tmp_path):
    folder, env = session
    page = folder / "out" / "quick" / "dictionary" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>the dictionary</p>", encoding="utf-8")
    os.utime(page, (2**32, 2**32))  # newer than any model: evaluate.py, which takes minutes, is left out
    copy = notebook([*TINY, "--epochs", 2], UPLOAD=True, DICTIONARY=True)
    client(copy, folder).execute(env=env)
    text, kinds = output_of(copy, "train")
    assert "Google Colab" in text and "T4 GPU" in text and "exact match on 256" in text and "Drive has step 16" in text
    assert kinds.count("image/png") == 3  # curves, scenes, samples
    assert output_of(copy, "look")[1].count("image/png") == 3
    assert "the dictionary" in str([o.data for o in next(c for c in copy.cells if c.id == "dictionary").outputs])
    for name in ("sentence", "swap", "upload"):
        assert "text/html" in output_of(copy, name)[1]
    assert "photo.jpg" in output_of(copy, "upload")[0] and "it reads:" in output_of(copy, "upload")[0]
    for name in ("checkpoints/quick/best.pt", "checkpoints/quick/last.pt", "logs/quick/training_summary.txt"):
        assert (folder / name).stat().st_size > 0, name
    assert (
        load(tmp_path / "drive" / "MyDrive" / "circle" / "quick" / "last_step_000000016.pt")["position"]["epoch"] == 2
    )
    assert names(tmp_path / "downloads") == ["quick.zip"] and (tmp_path / "drive.flushed").exists()
    with zipfile.ZipFile(tmp_path / "downloads" / "quick.zip") as archive:
        assert {"model.safetensors", "model.json", "sample_generations.png"} <= set(archive.namelist())


@pytest.mark.slow
def test_a_killed_kernel_a_stopped_cell_and_a_drive_that_fails(session, tmp_path):
    """Stop the training cell, then kill the kernel in the middle, run all again: the same weights as in one go."""
    folder, env = session
    env["FAKE_DRIVE"] = "fails"
    flags = [*TINY, "--epochs", 4, "--log_interval", 2]
    for steps, end in ((6, "interrupt"), (14, "kill")):
        copy = notebook(flags, last="train")
        running = client(copy, folder)

        def disturb(running=running, steps=steps, end=end):
            wait_for(lambda: step_reached(folder / "logs" / "quick", steps))
            running.km.provisioner.process.send_signal(signal.SIGINT if end == "interrupt" else signal.SIGKILL)

        helper = threading.Thread(target=disturb)
        helper.start()
        with pytest.raises((nbclient.exceptions.CellExecutionError, nbclient.exceptions.DeadKernelError)) as stopped:
            running.execute(env=env)
        helper.join()
        assert ("exit code 130" in str(stopped.value)) == (end == "interrupt")
    copy = notebook(flags, last="train")
    client(copy, folder).execute(env=env)
    text, _ = output_of(copy, "train")
    assert "resuming" in text and "at epoch 0, step 0" not in text and "mount failed" in output_of(copy, "drive")[0]
    once = run_forked("train.py", "--preset", "quick", *flags, cwd=tmp_path, timeout=300)
    assert once.returncode == 0, once.stderr
    assert same(weights(folder / "checkpoints" / "quick"), weights(tmp_path / "checkpoints"))


@pytest.mark.slow
def test_a_training_that_fails_stops_the_notebook(session):
    folder, env = session
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="training ended with exit code 1"):
        client(notebook(["--d_model", 33], last="train", USE_DRIVE=False), folder).execute(env=env)
