"""What every script does with a wrong flag, without memory, and with what a console cannot show."""

import ast
import functools
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, run_forked, run_here, run_script, script_command, script_env
from forked import Process
from parrot import KNOWN, blank, parrot
from PIL import Image

from checkpoints import PRETRAINED, CheckpointError, load
from runtime import command_line, devices
from runtime.command_line import UserError, exit_code, failure, in_one_line, is_out_of_memory
from runtime.files import whole_file
from version import __version__

# ---------------------------------------------------------------------------------------------
# Wrong flags
# ---------------------------------------------------------------------------------------------

WRONG = {
    "train.py": ["--seed", "9" * 20],
    "generate.py": ["--sample", "3"],
    "caption.py": ["--checkpoint", "", "x.png"],
    "export.py": ["--out_dir", ""],
    "data_utils.py": ["--seed", "9" * 20],
    "benchmark.py": ["--repeats", "0"],
    "colab_train.py": ["huge"],
    "scripts/faults.py": ["--kills", "-1"],
    "scripts/processes.py": ["--processes", "none"],
    "scripts/readme_pictures.py": [],
    "scripts/flags_table.py": ["two\nlines"],
    "scripts/make_pretrained.py": [],
    "scripts/measure_pretrained.py": ["--n", "0"],
    "scripts/mutual_intelligibility.py": ["--out_dir", "o", "--seeds", "-1"],
    "scripts/expected.py": [],
    "scripts/relatedness.py": ["--pairs_file", ""],
    "demo.py": ["--port", "0"],
}


@pytest.mark.parametrize("script", WRONG)
def test_a_wrong_flag_is_one_line_with_a_pointer_to_help(script, tmp_path):
    run = run_script if script == "train.py" else run_here  # one as a real process
    done = run(script, *WRONG[script], cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.startswith(f"{script}: ") and done.stderr.endswith(" --help\n")
    command = f"-m {script[:-3].replace('/', '.')}" if "/" in script else script
    assert f"; see python {command} --help" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("generate.py", ["--sample", "1", "--out_dir", "o", "--checkpoint", "none.pt"]),
        ("export.py", ["--out_dir", "o", "--checkpoint", "none.pt"]),
        ("scripts/readme_pictures.py", ["none.pt"]),
        pytest.param(
            "scripts/processes.py", ["--device", "meta", "--rounds", "1"], marks=pytest.mark.slow
        ),  # starts two more
        ("scripts/faults.py", ["--kills", "0", "--terms", "0", "--disks", "0", "--matrix", "none", "--out", "none/x"]),
    ],
)
def test_what_is_not_there_is_one_line(script, flags, tmp_path):
    done = run_here(script, *flags, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f"{script}: ") and done.stderr.count("\n") == 1
    assert "none" in done.stderr or "--device meta" in done.stderr


def test_devices_without_numbers_and_names_of_the_cpu():
    for name in ("meta", "hpu", "mkldnn", "cuda:99", "", "cpu:x"):
        with pytest.raises(ValueError, match="is not available here; use --device auto"):
            devices.choose_device(name)
    assert devices.choose_device("cpu:1") == torch.device("cpu")  # equal to the device that its tensors say they are on


# ---------------------------------------------------------------------------------------------
# No --checkpoint
# ---------------------------------------------------------------------------------------------

USES = {
    "generate.py": ["--text", "a red ball", "--out_dir", "o"],
    "caption.py": ["picture.png"],
    "export.py": ["--out_dir", "o"],
}


@pytest.mark.slow
@pytest.mark.parametrize("script", USES)
def test_without_a_checkpoint_the_best_one_is_taken_and_named_or_one_line_says_what_to_do(script, tmp_path):
    best = os.path.join("checkpoints", "best.pt")
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    done = run_here(script, *USES[script], cwd=tmp_path)
    if os.path.exists(PRETRAINED):
        assert done.returncode == 0
        assert done.stderr == f"using the pretrained model, {PRETRAINED}, as there is no {best} here\n"
        shutil.rmtree(tmp_path / "o", ignore_errors=True)
    else:
        assert done.returncode == 1 and [p.name for p in tmp_path.iterdir()] == ["picture.png"]
        cure = "name a --checkpoint, or train one: python train.py --preset quick"
        assert done.stderr == f"{script}: there is no {best} here; {cure}\n"
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(parrot(), tmp_path / best)
    shutil.copy(blank(), tmp_path / "checkpoints" / "last.pt")
    taken = run_forked(script, *USES[script], cwd=tmp_path)
    assert taken.returncode == 0 and taken.stderr == f"using {best}\n"
    shutil.rmtree(tmp_path / "o", ignore_errors=True)
    named = run_here(script, "--checkpoint", best, *USES[script], cwd=tmp_path)
    assert named.stderr == "" and named.stdout == taken.stdout


# ---------------------------------------------------------------------------------------------
# Names of files
# ---------------------------------------------------------------------------------------------

NAMES = {  # flags of each script that name files, with what else it needs
    "train": (["--checkpoint_dir", "--log_dir", "--captions_file", "--resume"], []),
    "generate": (["--checkpoint", "--out_dir", "--texts_file"], ["--out_dir", "o", "--texts_file", "t"]),
    "caption": (["--checkpoint"], ["x.png"]),
    "evaluate": (["--checkpoint", "--out_dir", "--captions_file", "--val_file", "--test_file"], ["--checkpoint", "c", "--out_dir", "o"]),
    "export": (["--checkpoint", "--out_dir"], ["--out_dir", "o"]),
    "benchmark": (["--json", "--compare"], []),
    "colab_train": (["--checkpoint_dir", "--log_dir", "--drive_dir"], ["quick"]),
}  # fmt: skip


@pytest.mark.parametrize("script", NAMES)
def test_a_tilde_is_the_home_folder_and_no_name_an_error(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    parse = importlib.import_module(script).parse_arguments
    flags, needed = NAMES[script]
    for flag in flags:
        options = parse([*needed, f"{flag}=~/x"])
        assert str(tmp_path / "x") in str(options if script in ("train", "colab_train") else vars(options))
        if flag == "--drive_dir":  # none is asked for
            continue
        with pytest.raises(SystemExit) as usage:
            parse([*needed, f"{flag}="])
        assert usage.value.code == 2 and f"{flag}: no name is given" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------
# Signals
# ---------------------------------------------------------------------------------------------


def test_the_version_is_the_same_everywhere(capsys):
    with pytest.raises(SystemExit):
        command_line.Parser("x.py").parse_args(["--version"])
    assert capsys.readouterr().out == f"x.py {__version__}\n"
    newest = re.search(r"(?m)^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))[1]
    cited = re.search(r"(?m)^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))[1]
    assert newest == cited == __version__ and re.fullmatch(r"\d+\.\d+\.\d+", __version__)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_reported_removes_what_is_half_written_and_hands_handlers_back(number, tmp_path, capsys, request):
    request.addfinalizer(functools.partial(signal.signal, number, signal.getsignal(number)))
    if number == signal.SIGINT:  # a shell's jobs in the background ignore it, and so would this process
        signal.signal(number, signal.default_int_handler)
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def action():
        with whole_file(tmp_path / "x"):
            signal.raise_signal(number)

    assert exit_code("x.py", action, left="o/partial.json is left") == 128 + number
    assert capsys.readouterr().err == "x.py: interrupted; o/partial.json is left\n"
    assert list(tmp_path.iterdir()) == []
    assert {n: signal.getsignal(n) for n in before} == before


# ---------------------------------------------------------------------------------------------
# Out of memory
# ---------------------------------------------------------------------------------------------


def raised(action):
    with pytest.raises(Exception) as caught:
        action()
    return caught.value


GPU = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.74 GiB of which 1.06 GiB is free."
)
APPLE = "MPS backend out of memory (MPS allocated: 8.00 GB). Tried to allocate 512.00 MB on private pool."
MEMORY = [
    (raised(lambda: torch.empty(10**12, 100)), "out of memory (400000.0 GB at once)"),
    (raised(lambda: torch.empty(10**18, 100)), "out of memory"),
    (raised(lambda: torch.empty(10**20, 100)), "out of memory"),
    (raised(lambda: np.empty((10**12, 100))), "out of memory (728. TiB at once)"),
    (raised(lambda: np.empty((10**18, 100))), "out of memory"),
    (torch.OutOfMemoryError(GPU), "out of memory (2.00 GiB at once)"),
    (RuntimeError(APPLE), "out of memory (512.00 MB at once)"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory"),
    (MemoryError(), "out of memory"),
    (OSError(12, "Cannot allocate memory"), "out of memory"),
]


@pytest.mark.parametrize(("error", "line"), MEMORY, ids=lambda x: type(x).__name__ if isinstance(x, Exception) else "")
def test_memory_that_runs_out_is_one_line_whatever_raises_it(error, line, capsys):
    def action():
        raise error

    assert is_out_of_memory(error) and in_one_line(error) == line
    assert exit_code("x.py", action, "make --batch_size smaller") == 1
    assert capsys.readouterr().err == f"x.py: {line}; make --batch_size smaller\n"


def test_other_errors_of_the_program_keep_their_traceback():
    for error in (RuntimeError("shapes do not fit"), UserError("out of memory, as said before"), TypeError("a fault")):
        assert not is_out_of_memory(error)
    with pytest.raises(RuntimeError, match="shapes"):
        failure("x.py", RuntimeError("shapes do not fit"))


# Runs a script's `main` in a process that, from a call on, may take no more memory than it has and 64 MB.
LIMITED = """
import importlib, resource, sys
name, where, what, call, *flags = sys.argv[1:]
module, place = importlib.import_module(name), importlib.import_module(where)
*path, attribute = what.split(".")
for part in path:
    place = getattr(place, part)
clean, calls = getattr(place, attribute), iter(range(10**6))

def limited(*a, **k):
    if next(calls) == int(call):
        pages = int(open("/proc/self/statm", encoding="ascii").read().split()[0])
        most = pages * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        import torch
        torch.ones(10**8)
    return clean(*a, **k)

setattr(place, attribute, limited)
sys.exit(module.main(flags))
"""


def run_limited(name, place, call, *flags, cwd):
    """A script in a process whose memory ends at the given call of `module:attribute`."""
    command = ["-c", LIMITED, name, *place.split(":"), call, *flags]
    return Process(command, cwd, script_env({"PYTHONPATH": str(ROOT)})).finish(timeout=120)


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.pt")}


def test_a_model_too_large_for_any_memory_is_one_line_and_an_earlier_run_stays_where_it_is(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "checkpoints", tmp_path / "checkpoints")
    before = digests(tmp_path / "checkpoints")
    done = run_here("train.py", *TINY, "--z_dim", 10**12, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("train.py: out of memory (") and "--z_dim 1000000000000" in done.stderr
    assert "--batch_size 32" in done.stderr and "make the largest of them smaller" in done.stderr
    assert digests(tmp_path / "checkpoints") == before and not (tmp_path / "checkpoints" / "earlier_1").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_memory_that_runs_out_in_the_middle_of_a_run_leaves_its_last_checkpoint(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path, dirs_exist_ok=True)
    before = digests(tmp_path / "checkpoints")
    done = run_limited(
        "train", "training.trainer:Trainer.train_step", 3, "--resume", "auto", "--epochs", 4, cwd=tmp_path
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert last.startswith("train.py: out of memory (0.4 GB at once); asked for --batch_size 32 --d_model 32"), last
    assert last.endswith(f"{os.path.join('checkpoints', 'last.pt')} of step 16 is whole")
    assert (
        digests(tmp_path / "checkpoints") == before
        and load(tmp_path / "checkpoints" / "last.pt")["position"]["step"] == 16
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place", "flags"),
    [
        ("generate", "generate:draw_sentences", ["--text", "a red ball", "--out_dir", "o"]),
        ("generate", "torch:load", ["--text", "a red ball", "--out_dir", "o"]),  # not a damaged file
        (
            "generate",
            "checkpoints:Cycle.load_state_dict",
            ["--text", "a red ball", "--out_dir", "o"],
        ),  # nor another program's
        ("caption", "caption:read_pictures", ["picture.png"]),
        ("export", "checkpoints:Cycle.load_state_dict", ["--out_dir", "o"]),
    ],
)
def test_memory_that_runs_out_where_a_model_is_used_is_one_line(name, place, flags, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    done = run_limited(name, place, 0, "--checkpoint", parrot(), *flags, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"{name}.py: out of memory (0.4 GB at once); ") and "--checkpoint" in done.stderr
    assert list(tmp_path.glob("o/*")) == []


def test_a_checkpoint_is_not_called_damaged_for_want_of_memory(tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError(GPU)

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(torch.OutOfMemoryError):
        load(parrot())
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError):
        load(tmp_path / "x.pt")


# ---------------------------------------------------------------------------------------------
# Locales and consoles
# ---------------------------------------------------------------------------------------------


def text_files_without_an_encoding(path):
    """Lines of a Python file on which text is read, written or taken from a process in whatever encoding the locale has."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        call, keywords = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
        if "encoding" in keywords or None in keywords:
            continue
        method = call.rpartition(".")[2]
        given = [*node.args, *([keywords["mode"]] if "mode" in keywords else [])]
        modes = [
            a.value for a in given if isinstance(a, ast.Constant) and re.fullmatch(r"[rwaxbt+]{1,3}", str(a.value))
        ]
        text = not any("b" in mode for mode in modes)
        opened = call in ("open", "io.open", "builtins.open", "os.fdopen") or (method == "open" and modes)
        temporary = method in ("NamedTemporaryFile", "TemporaryFile") and modes
        if (
            (opened or temporary)
            and text
            or method in ("read_text", "write_text")
            or keywords.keys() & {"text", "universal_newlines"}
        ):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {call}"


NOT_YET = {
    ROOT / name for name in ("evaluate.py", "scripts/ablations.py", "tests/test_evaluate.py", "tests/test_page.py")
}


def test_every_text_file_and_every_process_names_its_encoding():
    files = [
        p for p in ROOT.rglob("*.py") if not {".venv", ".git"} & set(p.relative_to(ROOT).parts) and p not in NOT_YET
    ]
    assert len(files) > 50
    assert [line for path in files for line in text_files_without_an_encoding(path)] == []


def test_what_a_console_cannot_show_is_replaced(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    command_line.prepare_streams()
    print("100 % – снег", flush=True)
    assert console.buffer.getvalue().decode("cp1252").split() == ["100", "%", "–", "????"]
    monkeypatch.setattr(sys, "stdout", object())  # a notebook's stream
    command_line.prepare_streams()


CLOSED = [  # streams, script, what it needs, and what it leaves
    (
        "2>&-",
        "train.py",
        [*TINY, "--num_samples", 32, "--epochs", 1],
        "logs/training_summary.txt",
    ),  # warns of a short run
    (">&-", "train.py", [*TINY, "--num_samples", 32, "--epochs", 1], "logs/training_summary.txt"),
    (">&-", "generate.py", ["--text", *KNOWN, "--out_dir", "o", "--checkpoint", "parrot.pt"], "o/captions.jsonl"),
    (">&- 2>&-", "data_utils.py", ["--num", 3], "parrot.pt"),
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(("closed", "script", "flags", "leaves"), CLOSED)
def test_a_closed_stream_ends_nothing(closed, script, flags, leaves, tmp_path):
    shutil.copy(parrot(), tmp_path / "parrot.pt")
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *script_command(script, *flags)]
    done = subprocess.run(shell, cwd=tmp_path, env=script_env(), capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / leaves).exists()


# ---------------------------------------------------------------------------------------------
# The environment of Python and OpenMP
# ---------------------------------------------------------------------------------------------


# Runs scripts one after the other as `python -P` would: their folder is not in sys.path, nor are their modules loaded.
WITH_SAFE_PATH = """
import os, runpy, sys
root, *scripts = sys.argv[1:]
before = sys.path[:]
for script in scripts:
    sys.path[:] = before
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(root + os.sep) and "site-packages" not in module.__file__:
            del sys.modules[name]
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(os.path.join(root, script), run_name="__main__")
    except SystemExit as end:
        assert end.code == 0
"""


@pytest.mark.slow
def test_scripts_find_their_modules_where_python_does_not_look_beside_them(tmp_path):
    scripts = [s for s in WRONG if "/" not in s] + ["evaluate.py"]
    env = {k: v for k, v in script_env({"PYTHONSAFEPATH": "1"}).items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", WITH_SAFE_PATH, str(ROOT), *scripts]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"(?m)^usage: (\S+)", done.stdout) == scripts


def test_without_docstrings_a_script_has_less_help(tmp_path, monkeypatch, capsys):
    """As `python -OO`, which has no docstrings."""
    import colab_train

    monkeypatch.setattr(colab_train, "__doc__", None)
    with pytest.raises(SystemExit) as end:
        colab_train.main(["--help"])
    assert end.value.code == 0 and "usage: colab_train.py" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "count"), [("2,1", 2), (" 3 ", 3), ("1", 1), ("", 0), ("0", 0)])
def test_the_number_of_threads_is_the_first_of_the_variable(value, count, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert devices.threads_in_environment() == count


@pytest.mark.parametrize("value", ["-1", "two", "1.5", "9" * 20])
def test_a_bad_number_of_threads_is_one_line_that_names_the_variable(value, tmp_path):
    env = {"OMP_NUM_THREADS": value}
    done = run_forked("caption.py", "--checkpoint", parrot(), "x.png", cwd=tmp_path, env=env)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"caption.py: OMP_NUM_THREADS={value} in the environment is no number of threads")


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LANG": "C"}
OLD_WINDOWS = {"PYTHONIOENCODING": "cp437", "PYTHONUTF8": "0"}


@pytest.mark.slow
@pytest.mark.parametrize("locale", [C_LOCALE, OLD_WINDOWS], ids=["C", "cp437"])
def test_a_locale_that_knows_no_foreign_letters_ends_nothing(locale, tmp_path, monkeypatch):
    """Train, draw, read and print as real processes, with letters and names that the locale cannot encode."""
    if sys.platform == "win32" and locale is C_LOCALE:
        pytest.skip("the C locale is of Unix")
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    words = "кот пёс дом лес снег река 雪 café".split()
    lines = [f"{a} видит {b} – {c}" for a in words for b in words for c in words]
    (tmp_path / "мои фразы.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "фразы.txt").write_text(lines[7], encoding="utf-8")

    def run(*command):
        done = run_script(*command, cwd=tmp_path, env=locale)
        assert done.returncode == 0 and "Traceback" not in done.stderr and "could not be written" not in done.stderr, (
            done.stderr
        )
        return done.stdout

    flags = [f for f in TINY if f not in ("--num_samples", "256")]
    flags += ["--tokenizer", "words"]
    run(
        "train.py",
        "--captions_file",
        "мои фразы.txt",
        *flags,
        "--epochs",
        1,
        "--log_dir",
        "журнал",
        "--num_samples",
        64,
    )
    assert "café" in load(tmp_path / "checkpoints" / "last.pt")["vocabulary"]
    assert "captions_file" in (tmp_path / "журнал" / "training_summary.txt").read_text(encoding="utf-8")
    run("train.py", "--resume", "auto", "--epochs", 2)
    checkpoint = ["--checkpoint", "checkpoints/last.pt"]
    for folder, source in (("снег", ["--texts_file", "фразы.txt"]), ("café", ["--text", lines[7]])):
        run("generate.py", *checkpoint, *source, "--out_dir", folder)
        row = json.loads((tmp_path / folder / "captions.jsonl").read_text(encoding="utf-8"))
        assert row["text"] == lines[7]
    (tmp_path / "café" / "00000.png").rename(tmp_path / "снег 雪.png")
    assert json.loads(run("caption.py", *checkpoint, "снег 雪.png"))["image"] == "снег 雪.png"
    assert len(run("data_utils.py", "--num", 3).splitlines()) == 3
    run("export.py", *checkpoint, "--out_dir", "вывоз")
    said = run_script("generate.py", *checkpoint, "--text", "снег тигр", "--out_dir", "o", cwd=tmp_path, env=locale)
    assert said.returncode == 1 and "unknown word" in said.stderr and "Traceback" not in said.stderr
