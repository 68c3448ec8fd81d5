"""The model card of a folder of weights: the model, its training, and metrics measured on this machine."""

from __future__ import annotations

import dataclasses
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from jinja2 import Environment, FileSystemLoader

from checkpoints import EXPORT_FILES, load_export, load_model, settings_of
from evaluation.protocol import ModelUnderTest, open_model
from evaluation.report.markdown import markdown_table
from evaluation.report.page import TEMPLATES
from evaluation.report.results_table import checkpoint_metrics, results_table
from metrics import exact_match, verbatim_match, word_accuracy
from settings import PRESETS, Settings, resolve
from text.grounding import grounded_words, grounding_line
from text.vocabulary import SPECIALS

ROOT = Path(__file__).resolve().parents[2]
NAME = "README.md"  # of a card, beside the weights
EXAMPLE = "a large red ball in the left"
EXAMPLE_OF_TEXT = "Two dogs' toys lie in the snow."
CPU = torch.device("cpu")
LOADS = 5  # of which the card has the median time


def training_command(settings: Settings) -> str:
    """The shortest `train.py` command for these Settings, with a preset if that shortens it.

    >>> training_command(Settings(seed=3, use_vae=True))
    'python train.py --use_vae --seed 3'
    >>> training_command(resolve({"captions_file": "my.txt"}, "quick"))
    'python train.py --preset quick --captions_file my.txt'
    """

    def flags(preset):
        typed = {"captions_file": settings.captions_file} if settings.captions_file else {}
        base = dataclasses.asdict(resolve(typed, preset)) | {"captions_file": ""}
        chosen = {name for name in ("n_cells", "z_dim") if not base[name]}  # by the run, from its sentences
        out = ["--preset", preset] if preset else []
        for f in dataclasses.fields(Settings):
            value = getattr(settings, f.name)
            if value == base[f.name] or f.metadata["group"] == "output" or f.name in {"device", "threads", *chosen}:
                continue
            if f.type is bool:
                out.append(f"--{'' if value else 'no-'}{f.name}")
            else:
                out += [f"--{f.name}", str(value)]
        return out

    return shlex.join(["python", "train.py", *min(map(flags, ["", *PRESETS]), key=len)])


def without_paths(state: dict) -> dict:
    """A `model_state` without paths of the machine on which it was trained."""
    s = Settings()
    own = {name: os.path.basename(state["settings"].get(name) or "") for name in ("captions_file", "grounding")}
    neutral = {name: getattr(s, name) for name in ("checkpoint_dir", "log_dir", "device", "threads")}
    return {**state, "settings": {**state["settings"], **own, **neutral}}


def cost_of_rounding(path: Path | str, folder: Path | str, sentences: list[str], seed: int) -> dict:
    """How the rounded weights of `folder` differ from the checkpoint at `path`. Raises CheckpointError."""
    pictures, captions = [], []
    for where in (path, folder):
        cycle, vocab, settings = load_model(str(where), CPU)
        model = ModelUnderTest(cycle=cycle, vocab=vocab, settings=settings, device=CPU)
        pictures.append(model.draw(sentences))
        captions.append(model.read(pictures[-1]))
    largest = int(((pictures[0] - pictures[1]).abs() * 255).round().max())
    changed = sum(a != b for a, b in zip(*captions))
    return {"n": len(sentences), "seed": seed, "captions_changed": changed, "largest_change": largest}


def metrics_of_captions(folder: Path | str, n: int, seed: int, captions_file: str | None) -> str:
    """The table of a model of a captions file. Raises CheckpointError, CaptionsFileError, OSError."""
    model = open_model(str(folder), CPU, {"captions_file": captions_file})
    sentences = model.sentences(n, "test", seed)
    captions = model.read(model.draw(sentences))
    scores = {"exact match": exact_match, "verbatim: as it was typed": verbatim_match, "word accuracy": word_accuracy}
    rows = [[f"{name}, `test`", f"{100 * score(sentences, captions):.2f} %"] for name, score in scores.items()]
    return markdown_table([f"metric (n = {len(sentences)} unseen lines, seed {seed})", "value"], rows)


def seconds_to_load(folder: Path | str) -> float:
    """Median seconds to load the model of a folder, in a process that has imported torch."""
    taken = []
    for _ in range(LOADS):
        began = time.perf_counter()
        load_model(str(folder), CPU)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def seconds_of_command(folder: Path | str, text: str) -> float:
    """Seconds of generate.py from start to end, for one sentence. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as out:
        flags = ["--checkpoint", str(folder), "--text", text, "--out_dir", out]
        command = [sys.executable, str(ROOT / "generate.py"), *flags]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began


def machine() -> str:
    """This machine in a few words."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, torch {torch.__version__}"


def model_card(folder: Path | str, n: int, seed: int, captions_file: str | None = None) -> str:
    """Measure the model of a folder that `save_export` wrote -> its card, Markdown. Minutes.

    n: different sentences of each split. Raises CheckpointError, CaptionsFileError, OSError.
    """
    folder = Path(folder)
    state = load_export(str(folder))
    settings = settings_of(state, str(folder))
    if settings.captions_file:
        table = metrics_of_captions(folder, n, seed, captions_file)
        is_open = settings.tokenizer == "bpe"
        example = EXAMPLE_OF_TEXT if is_open else " ".join(state["vocabulary"][len(SPECIALS) :][:3])
    else:
        table = results_table([checkpoint_metrics(str(folder), n, seed, CPU)], n, seed)
        example = EXAMPLE
    cycle, vocab, _ = load_model(str(folder), CPU)
    shown = os.path.relpath(folder, ROOT) if ROOT in folder.resolve().parents else folder.name
    blocks = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = Environment(loader=FileSystemLoader(TEMPLATES), **blocks)
    return environment.get_template("model_card.md.j2").render(
        folder=shown.replace(os.sep, "/"),
        settings=settings,
        n=n,
        seed=seed,
        parameters=sum(t.numel() for t in state["model"].values()),
        files={name: (folder / name).stat().st_size for name in EXPORT_FILES},
        words=len(state["vocabulary"]) - len(SPECIALS),
        max_tokens=state["max_tokens"],
        load_seconds=seconds_to_load(folder),
        loads=LOADS,
        command_seconds=seconds_of_command(folder, example),
        machine=machine(),
        example=example,
        command=training_command(settings),
        training=state.get("training"),
        grounding=grounding_line(grounded_words(cycle, vocab), settings.grounding),
        half=state.get("half_precision"),
        table=table,
    )
