"""Checkpoints: what they hold, how they load safely, which is the newest and the best; exported folders."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from checkpoint_upgrade import FORMAT, RetiredModel, upgrade
from models import Cycle
from runtime.command_line import LARGEST, UserError, is_out_of_memory, path_name
from runtime.files import is_lfs_pointer, write_atomically
from settings import Settings, check
from text.vocabulary import SPECIALS, Vocabulary, vocabulary_in
from text.word_classes import WordClasses

if TYPE_CHECKING:
    from text.bpe import BpeVocabulary

DEFAULT = os.path.join("checkpoints", "best.pt")  # what scripts take where none is named
PRETRAINED = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "pretrained", "grammar"
)  # and where that is missing
CHECKPOINT_NAME = r"(?:last|best|checkpoint_epoch_\d+)\.pt"


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message is one line that names the file and the cure."""


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------


def pt_bytes(state: dict[str, Any]) -> memoryview:
    """A state of plain types and tensors as the bytes of a .pt file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def save(path: Path | str, state: dict[str, Any]) -> None:
    """Write a state of plain types and tensors. Raises OSError."""
    write_atomically(path, pt_bytes(state))


def all_finite(value: Any) -> bool:
    """Whether every number in nested dicts, lists and tensors is finite."""
    if torch.is_tensor(value):
        return not value.is_floating_point() or bool(value.isfinite().all())
    if isinstance(value, dict):
        return all(all_finite(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return all(all_finite(v) for v in value)
    return not isinstance(value, float) or math.isfinite(value)


# ---------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------


def load(path: Path | str, device: torch.device | str = "cpu", whole: bool = True) -> dict[str, Any]:
    """The state in a checkpoint; runs no code of the file. Raises CheckpointError.

    With whole=False tensors stay on disk until they are used and are not checked for damage: a quick look.
    """
    try:
        size = os.path.getsize(path)
        if not os.path.isfile(path):
            raise CheckpointError(f"{path} is not a file; name a .pt file")
        if size == 0:
            raise CheckpointError(f"{path} is empty; use another checkpoint of the folder")
        check_is_no_pointer(path)
        with zipfile.ZipFile(path) as archive:
            if (
                sum(record.file_size for record in archive.infolist()) > size
            ):  # torch packs nothing: this would swell in memory
                raise CheckpointError(f"{path} is a checkpoint of another program")
            if whole and (bad := archive.testzip()) is not None:
                raise CheckpointError(f"{path} is damaged (record {bad}); use another checkpoint of the folder")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other programs: they are refused in one line below
            state = torch.load(path, map_location=device, weights_only=True, mmap=not whole)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; see which checkpoints are in its folder") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from None
    except CheckpointError:
        raise
    except Exception as error:  # zipfile, pickle and torch raise many kinds for damaged or foreign files
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"{path} is no checkpoint, or is damaged ({size} bytes); use another one of the folder"
        ) from None
    return check_format(state, path)


def check_is_no_pointer(path: str) -> None:
    """Raise CheckpointError for a Git LFS pointer."""
    if is_lfs_pointer(path):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file itself; run git lfs pull")


def check_format(state: Any, path: Path | str) -> dict[str, Any]:
    """The state, if this program can read it. Raises CheckpointError."""
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise CheckpointError(f"{path} is a checkpoint of another program")
    if state["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {state['format']}, this program reads up to {FORMAT}; update the program"
        )
    if state["format"] == FORMAT:
        return state
    try:
        return upgrade(state)
    except RetiredModel as error:
        raise CheckpointError(f"{path} {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError):
        raise CheckpointError(f"{path} is a checkpoint of another program") from None


def model_state(cycle: Cycle, vocab: Vocabulary | BpeVocabulary, settings: Settings) -> dict[str, Any]:
    """What every script needs to rebuild a model."""
    return {
        "format": FORMAT,
        "settings": dataclasses.asdict(settings),
        "vocabulary": list(vocab.words),
        "articles": vocab.articles,
        "merges": [list(pair) for pair in vocab.merges] if vocab.is_bpe else None,
        "word_classes": dataclasses.asdict(cycle.word_classes) if cycle.word_classes else None,
        "max_tokens": cycle.max_tokens,
        "model": cycle.state_dict(),
    }


def settings_of(state: dict[str, Any], path: Path | str) -> Settings:
    """The Settings in a state. Raises CheckpointError."""
    try:
        settings = Settings(**state["settings"])
        for f in dataclasses.fields(Settings):
            value, meta = getattr(settings, f.name), f.metadata
            kind = (int, float) if f.type is float else f.type
            if not isinstance(value, kind) or isinstance(value, bool) != (f.type is bool):
                raise ValueError(f"{f.name} is {str(value)[:40]!r}")
            low, high, below = (
                meta.get("low", -math.inf),
                meta.get("high", LARGEST if f.type is int else math.inf),
                meta.get("below", math.inf),
            )
            if (
                f.type in (int, float)
                and not (low <= value <= high and value < below)
                or value not in (meta.get("choices") or [value])
            ):
                raise ValueError(f"{f.name} is {str(value)[:40]}")
        check(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit this version of the program ({error})") from None
    return settings


def model_of(
    state: dict[str, Any], path: Path | str, device: torch.device | str
) -> tuple[Cycle, Vocabulary | BpeVocabulary, Settings]:
    """A state -> (Cycle in its weights, Vocabulary, Settings). Raises CheckpointError."""
    settings = settings_of(state, path)
    try:
        vocab = vocabulary_in(state)
        _check_fit(state, settings, vocab)
        cycle = Cycle(settings, len(vocab), state["max_tokens"], word_classes_in(state)).to(device)
        cycle.load_state_dict(state["model"])
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(f"{path} does not fit this version of the program ({reason})") from None
    return cycle, vocab, settings


def word_classes_in(state: dict[str, Any]) -> WordClasses | None:
    """The WordClasses in a state, or None. Raises CheckpointError, ValueError for what cannot be some."""
    classes = state.get("word_classes")
    try:
        return None if classes is None else WordClasses(**classes).checked(len(state["vocabulary"]))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"its word classes cannot be read ({error})") from None


def _check_fit(state: dict[str, Any], settings: Settings, vocab: Vocabulary | BpeVocabulary) -> None:
    """Raise ValueError unless vocabulary, settings and weights belong together.

    Shapes are compared before memory is taken: settings may ask for more than the weights hold.
    """
    words, weights = vocab.words, state["model"]
    strings = all(isinstance(w, str) and w for w in words)
    if not strings or tuple(words[: len(SPECIALS)]) != SPECIALS or len(set(words)) != len(words):
        raise ValueError("its vocabulary is no list of different words")
    if settings.n_layers > len(weights):
        raise ValueError(f"n_layers is {settings.n_layers}")
    try:
        with torch.device("meta"):  # shapes without memory
            cycle = Cycle(settings, len(vocab), state["max_tokens"], word_classes_in(state))
            want = {name: t.shape for name, t in cycle.state_dict().items()}
    except (RuntimeError, TypeError):
        raise ValueError("its settings ask for weights of impossible sizes") from None
    have = {name: t.shape for name, t in weights.items()}
    if wrong := sorted(name for name in want.keys() | have.keys() if have.get(name) != want.get(name)):
        raise ValueError(f"{wrong[0]} is missing, foreign or of another shape")
    if wrong := [name for name, t in weights.items() if not (t.is_floating_point() and t.isfinite().all())]:
        raise ValueError(f"{wrong[0]} holds values that are no numbers")


def load_model(path: Path | str, device: torch.device | str) -> tuple[Cycle, Vocabulary | BpeVocabulary, Settings]:
    """The (Cycle, Vocabulary, Settings) of a checkpoint or an exported folder, ready to draw and read.
    Raises CheckpointError."""
    return model_of(load_export(path) if os.path.isdir(path) else load(path, device), path, device)


def add_checkpoint_flag(parser: argparse.ArgumentParser, **options: Any) -> None:
    """--checkpoint of the scripts that use a trained model; `chosen_checkpoint` finds the file. Options are those of
    `add_argument`."""
    text = f"a .pt file, or a folder that export.py made (default: {DEFAULT}, else the pretrained model)"
    parser.add_argument("--checkpoint", type=path_name, metavar="C", help=text, **options)


def chosen_checkpoint(path: str | None) -> str:
    """What --checkpoint names; without it (None) checkpoints/best.pt, else the pretrained model, which a line on
    standard error names. A file of an exported folder stands for the folder. Raises CheckpointError."""
    if path is not None:
        is_exported = os.path.basename(path) in EXPORT_FILES and os.path.isfile(path)
        return os.path.dirname(path) or "." if is_exported else path
    if os.path.exists(DEFAULT):
        print(f"using {DEFAULT}", file=sys.stderr, flush=True)
        return DEFAULT
    if not os.path.exists(PRETRAINED):
        raise CheckpointError(
            f"there is no {DEFAULT} here; name a --checkpoint, or train one: python train.py --preset quick"
        )
    print(f"using the pretrained model, {PRETRAINED}, as there is no {DEFAULT} here", file=sys.stderr, flush=True)
    return PRETRAINED


def best_quality(folder: Path | str) -> tuple[float, float]:
    """What a better checkpoint than a folder's best.pt must exceed: (exact match, log probability of the captions).

    The second decides between equals: long after every sentence comes back, the captioner still grows surer and
    the marks clearer. (-1, -inf) if there is none that can be read.
    """
    with contextlib.suppress(CheckpointError, KeyError, TypeError, IndexError, ValueError):
        history = load(os.path.join(folder, "best.pt"), whole=False)["history"]
        row = [r for r in history if r["kind"] == "validation"][-1]
        log_prob = row.get("log_prob")  # a captioner whose weights are ruined has none
        return float(row["exact_match"]), float("-inf") if log_prob is None else float(log_prob)
    return -1.0, float("-inf")


def age(state: dict[str, Any]) -> tuple[float, int]:
    """What tells the newer of two states of a run: the moment of saving, then the step."""
    return float(state.get("saved_at", 0)), int(state["position"]["step"])


def newest_valid(
    folder: Path | str, report: Callable[[str], None] = print
) -> tuple[str, dict[str, Any]] | tuple[None, None]:
    """The newest checkpoint of a folder that loads, as (path, state); (None, None) if there is none.

    A damaged one is named through `report` and left in place. `best.pt` counts too: it is as good as the others.
    """
    names = [n for n in (os.listdir(folder) if os.path.isdir(folder) else []) if re.fullmatch(CHECKPOINT_NAME, n)]
    names.sort(key=lambda n: (n == "last.pt", n != "best.pt", len(n), n), reverse=True)
    found = []
    for path in (os.path.join(folder, n) for n in names):
        try:
            found.append((age(load(path, whole=False)), path))
        except (CheckpointError, KeyError, TypeError, ValueError, AttributeError):
            found.append(((math.inf, 0), path))  # is read in full, to say what is wrong with it
    for _, path in sorted(found, key=lambda f: f[0], reverse=True):  # stable: last.pt comes before its equals
        try:
            state = load(path)
            age(state)
            return path, state
        except CheckpointError as error:
            report(f"skipped: {error}")
        except (KeyError, TypeError, ValueError, AttributeError):
            report(f"skipped: {path} does not say how far its run had come")
    return None, None


# ---------------------------------------------------------------------------------------------
# Exported folders
# ---------------------------------------------------------------------------------------------

EXPORT_FILES = ("model.safetensors", "model.json")
MAX_JSON_BYTES = 1 << 28


def halved(name: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight as float16 where that does no harm, else as it is.

    The matrices of the language model and the captioner are nearly all of a model's size. The scene decoder and the
    biases stay whole: they are small, and a picture shows the least change. What float16 cannot hold stays whole, too.
    """
    if name.startswith("scene_decoder.") or weight.dim() < 2:
        return weight
    half = weight.half()
    return half if half.isfinite().all() else weight


def save_export(folder, state, half=False):
    """`model_state` -> weights as safetensors and the rest as JSON, with a hash that ties the two. Raises OSError.

    half: weights that `halved` makes float16 take half the room.
    """
    from safetensors.torch import save as to_bytes

    weights, about = (os.path.join(folder, name) for name in EXPORT_FILES)
    model = {name: halved(name, t) if half else t for name, t in state["model"].items()}
    data = to_bytes({name: t.detach().cpu().contiguous() for name, t in model.items()})
    rest = {k: v for k, v in state.items() if k != "model"}
    write_atomically(weights, data)
    write_atomically(about, json.dumps({**rest, "sha256": hashlib.sha256(data).hexdigest()}, indent=1).encode())


def load_export(folder: Path | str) -> dict[str, Any]:
    """The `model_state` in an exported folder. Raises CheckpointError."""
    weights, about = (os.path.join(folder, name) for name in EXPORT_FILES)
    for path in (weights, about):
        if not os.path.isfile(path):
            raise CheckpointError(f"{path} is missing; name a .pt file, or a folder that export.py wrote")
        check_is_no_pointer(path)
    try:
        from safetensors.torch import load as from_bytes

        if os.path.getsize(about) > MAX_JSON_BYTES:
            raise CheckpointError(f"{about} is too large to be the description of a model")
        with open(weights, "rb") as f, open(about, "rb") as g:
            data, state = f.read(), json.loads(g.read())
        if state["sha256"] != hashlib.sha256(data).hexdigest():
            raise CheckpointError(f"{weights} is damaged or does not belong to its model.json; export it again")
        state["model"] = {name: t.float() if t.dtype == torch.float16 else t for name, t in from_bytes(data).items()}
    except CheckpointError:
        raise
    except ImportError:
        raise CheckpointError(
            f"{folder}: reading an exported model needs safetensors; pip install safetensors"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder} cannot be read ({error.strerror or error})") from None
    except Exception as error:  # json and safetensors raise many kinds for damaged files
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{about} is damaged or of another program; export the model again") from None
    return check_format(state, folder)
