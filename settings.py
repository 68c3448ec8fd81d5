"""Every setting of a run, once: its default, its help text, and the presets that change it.

`train.py --help`, the checkpoint and the table of flags in docs/flags.md are all made from here.
"""

import argparse
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from captions import FORMATS
from decoders import DECODERS
from decoders.glyphs import GRID_SIZES
from decoders.quantizer import parse_levels
from runtime.command_line import number, path_name


def _flag(default, group, text, **options):
    return field(default=default, metadata={"group": group, "help": text, **options})


@dataclass
class Settings:
    """The settings of a run, as `train.py` takes them."""

    d_model: int = _flag(512, "model", "width of the language model and of sentence embeddings", low=1)
    n_heads: int = _flag(8, "model", "attention heads of the language model; must divide d_model", low=1)
    n_layers: int = _flag(6, "model", "layers of the language model", low=1, high=1000)
    hidden_dim: int = _flag(256, "model", "width of scene decoder and captioner; a multiple of 32", low=32)
    z_dim: int = _flag(
        128, "model", "numbers in the latent of a whole scene; 0 takes what the places for marks need", low=0
    )
    use_vae: bool = _flag(False, "model", "noise in the bottleneck and its KL term; a plain bottleneck without")
    use_vq: bool = _flag(
        False,
        "model",
        "a finite alphabet instead: each property or glyph takes one of its codes (FSQ); turns a preset's VAE off",
    )
    vq_levels: str = _flag(
        "auto",
        "model",
        "with --use_vq, levels of the dimensions of a code, such as 8,5,5; auto: just enough codes for the words",
    )
    dropout: float = _flag(0.0, "model", "dropout of the language model; fresh sentences need none", low=0, below=1)
    decoder: str = _flag(
        "objects",
        "model",
        "objects draws objects with properties, glyphs a glyph for each token in reading order, conv is the plain one",
        choices=tuple(DECODERS),
    )
    n_objects: int = _flag(3, "model", "objects that a scene of the objects decoder may have", choices=(1, 2, 3))
    n_cells: int = _flag(
        0, "model", "cells for glyphs in a scene; 0 takes as many as the sentences need", choices=(0, *GRID_SIZES)
    )

    epochs: int = _flag(50, "training", "epochs in all, those before a resume included", low=1)
    batch_size: int = _flag(64, "training", "sentences in a step", low=1)
    lr: float = _flag(3e-4, "training", "highest learning rate, after warm-up and before the cosine", low=0)
    warmup_steps: int = _flag(100, "training", "steps of linear warm-up", low=0)
    clip: float = _flag(1.0, "training", "largest norm of the gradient", low=0)
    word_dropout: float = _flag(
        0.5, "training", "share of the true words hidden from the captioner while it trains", low=0, below=1
    )
    latent_dropout: float = _flag(
        0.1,
        "training",
        "share of words whose latents the objects decoder draws from the prior, and that the captioner need not read",
        low=0,
        below=1,
    )
    use_amp: bool = _flag(False, "training", "bf16 arithmetic where the processor has it, fp16 on older GPUs")
    compile: bool = _flag(
        False,
        "training",
        "compile the drawing of marks, and on a GPU the transformer's layers, where there is a compiler",
    )
    seed: int = _flag(0, "training", "seed of weights, sentences and noise", low=0)
    device: str = _flag("auto", "training", "auto, cpu, cuda, cuda:1, mps ...")
    threads: int = _flag(0, "training", "CPU threads; 0 takes what the machine has", low=0, high=1024)

    lambda_caption: float = _flag(1.0, "loss weights", "the captioner's next token", low=0)
    lambda_language: float = _flag(0.3, "loss weights", "the language model's next token", low=0)
    lambda_consistency: float = _flag(1.0, "loss weights", "picture embedding against sentence embedding", low=0)
    lambda_kl: float = _flag(0.001, "loss weights", "KL of the latent, with --use_vae", low=0)
    lambda_spatial: float = _flag(0.1, "loss weights", "cost of fine texture", low=0)
    lambda_diversity: float = _flag(0.1, "loss weights", "pictures differ as their sentences do", low=0)
    lambda_perceptual: float = _flag(0.1, "loss weights", "edges of pictures differ as their sentences do", low=0)
    lambda_color: float = _flag(0.2, "loss weights", "colors are visible; with --decoder conv, one color a word", low=0)
    lambda_repulsion: float = _flag(1.0, "loss weights", "no two words look alike", low=0)
    lambda_codes: float = _flag(3.0, "loss weights", "each word has a code of its own, with --use_vq", low=0)
    random_tokens: float = _flag(
        0.0,
        "training",
        "random-token augmentation: share of the sentences of a step whose tokens are replaced by random ones",
        low=0,
        below=1,
    )
    channel: bool = _flag(
        True,
        "training",
        "noise, blur, resampling, JPEG and shifts before the captioner",
    )

    num_samples: int = _flag(10000, "data", "sentences in an epoch; a captions file is repeated in new orders", low=1)
    fixed_data: bool = _flag(False, "data", "the same sentences every epoch instead of fresh ones")
    train_split: float = _flag(
        0.8, "data", "share of a captions file, or of fixed data, that is trained on", low=0.01, below=1
    )
    captions_file: str = _flag(
        "",
        "data",
        "train on this file instead of the grammar: text with one description a line, CSV, TSV, JSON, JSONL or a "
        "Flickr8k token file, each also as .gz",
        path=True,
    )
    captions_column: str = _flag(
        "",
        "data",
        "name (or number, from 1) of the column, or JSON key, that holds the captions, where there are several",
    )
    captions_format: str = _flag(
        "auto",
        "data",
        "format of the captions files; auto follows the endings of their names, text reads each line as it stands",
        choices=FORMATS,
    )
    val_file: str = _flag("", "data", "captions to validate on, instead of a share of --captions_file", path=True)
    test_file: str = _flag(
        "", "data", "captions to test on at the end, instead of a share of --captions_file", path=True
    )

    tokenizer: str = _flag(
        "words",
        "data",
        "how a captions file is divided: bpe, its default, draws any text as typed; words draws the words of the file",
        choices=("words", "bpe"),
    )
    vocab_size: int = _flag(0, "data", "most tokens of a captions file; 0: all words, or 2000 byte-pair tokens", low=0)

    grounding: str = _flag("", "data", "a TOML file that sets what some words look like (objects decoder)", path=True)

    checkpoint_dir: str = _flag("checkpoints", "output", "where checkpoints go", path=True)
    log_dir: str = _flag("logs", "output", "where curves, scene sheets, metrics and the summary go", path=True)
    log_interval: int = _flag(50, "output", "steps between two lines of metrics", low=1)
    tensorboard: bool = _flag(False, "output", "also log to log_dir/tensorboard, which needs: pip install tensorboard")
    keep_last: int = _flag(5, "output", "checkpoint_epoch_N.pt to keep, every 25th always; 0 keeps all", low=0)
    save_minutes: float = _flag(10.0, "output", "minutes between saves of last.pt inside an epoch", low=0)


# What a resumed run may not change: it would be another model, or other data.
FIXED_ON_RESUME = [f.name for f in dataclasses.fields(Settings) if f.metadata["group"] in ("model", "data")] + [
    "seed",
    "batch_size",
]

PRESETS = {
    # two CPU cores, ten minutes
    "quick": dict(
        d_model=192, n_heads=6, n_layers=3, hidden_dim=192, z_dim=154, use_vae=True, epochs=24, num_samples=10048,
        batch_size=64, lr=1.5e-3, use_amp=True,
    ),
    # one GPU
    "full": dict(epochs=50, num_samples=40960, batch_size=256, lr=8e-4, use_vae=True, use_amp=True, warmup_steps=400),
}  # fmt: skip


# What a captions file changes in the defaults, and in a preset
FREE_TEXT = {"decoder": "glyphs", "tokenizer": "bpe", "random_tokens": 0.2}
FREE_TEXT_PRESETS = {"quick": {"n_layers": 2}}

# Former names, which stand for today's
FORMER_FLAGS = {"n_cells": "n_sprites", "random_tokens": "drills"}
FORMER_CHOICES = {("decoder", "layers"): "glyphs", ("decoder", "marks"): "glyphs"}
RETIRED_FLAGS = {
    "layout": "--decoder glyphs draws in reading order, --decoder objects draws scenes",
    "lambda_cloze": "the language model has only --lambda_language",
    "lambda_layout": "--decoder objects needs no layout loss",
    "lambda_shape": "--lambda_repulsion keeps shapes apart",
}


def add_arguments(parser):
    """A flag for each setting. Defaults are left out of the namespace, so that what a user typed is known."""
    groups = {}
    for f in dataclasses.fields(Settings):
        meta = f.metadata
        if meta["group"] not in groups:
            groups[meta["group"]] = parser.add_argument_group(meta["group"])
        options = dict(
            default=argparse.SUPPRESS, help=f"{meta['help']} (default: {show_default(f.default)})".replace("%", "%%")
        )
        if f.type is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            bounds = {name: meta[name] for name in ("low", "high", "below") if name in meta}
            text = path_name if meta.get("path") else choice(f.name)
            options["type"] = text if f.type is str else number(f.type, **bounds)
            options["choices"] = meta.get("choices")
            options["metavar"] = None if meta.get("choices") else {int: "N", float: "X", str: "TEXT"}[f.type]
        former = [f"--{FORMER_FLAGS[f.name]}"] if f.name in FORMER_FLAGS else []
        groups[meta["group"]].add_argument(f"--{f.name}", *former, dest=f.name, **options)
    for name, instead in RETIRED_FLAGS.items():
        parser.add_argument(f"--{name}", type=retired(name, instead), help=argparse.SUPPRESS, default=argparse.SUPPRESS)


def show_default(default: Any) -> Any:
    """A default as help texts and tables print it."""
    return {True: "on", False: "off", "": "none"}.get(default, default) if isinstance(default, (bool, str)) else default


def choice(name: str) -> Callable[[str], str]:
    """A parser for argparse of a setting with choices; former names stand for today's."""
    return lambda text: FORMER_CHOICES.get((name, text), text)


def retired(name: str, instead: str) -> Callable[[str], str]:
    """A parser for argparse of a retired flag, which names what to use instead."""

    def refuse(text: str) -> str:
        raise argparse.ArgumentTypeError(f"retired; {instead}")

    return refuse


def resolve(typed: dict[str, Any], preset: str | None = None, base: Settings | None = None) -> Settings:
    """Settings from what was typed, over a preset, over a checkpoint's (base) or the default ones.

    A captions file has too many word classes for objects with properties: its default is the glyphs decoder. --use_vq
    turns off a preset's VAE, unless --use_vae is typed too.
    """
    values = dataclasses.asdict(base) if base else {}
    if not base:
        values.update(PRESETS[preset] if preset else {})
        if typed.get("captions_file"):
            values.update(FREE_TEXT)
            values.update(FREE_TEXT_PRESETS.get(preset or "", {}))
        values.update(DECODERS[typed.get("decoder", values.get("decoder", Settings.decoder))].defaults)
        if typed.get("use_vq"):
            values["use_vae"] = False
    known = {f.name for f in dataclasses.fields(Settings)}
    values.update({name: value for name, value in typed.items() if name in known})
    return Settings(**values)


def check(settings: Settings) -> None:
    """Raise ValueError, in one line that names the flag, for settings that contradict each other."""
    s = settings
    decoder = DECODERS[s.decoder]
    if s.d_model % s.n_heads:
        raise ValueError(f"--d_model {s.d_model} is not a multiple of --n_heads {s.n_heads}")
    for name in ("captions_column", "captions_format", "val_file", "test_file"):
        if getattr(s, name) not in ("", "auto") and not s.captions_file:
            raise ValueError(f"--{name} needs --captions_file")
    if s.hidden_dim % 32:
        raise ValueError(f"--hidden_dim {s.hidden_dim} is not a multiple of 32")
    if not s.z_dim and "z_dim" not in decoder.defaults:
        able = " or ".join(name for name, other in DECODERS.items() if "z_dim" in other.defaults)
        raise ValueError(f"--z_dim 0 needs --decoder {able}, not {s.decoder}")
    if s.grounding and not decoder.supports_grounding:
        raise ValueError(f"--grounding needs --decoder {_that('supports_grounding')}, not {s.decoder}")
    if not s.captions_file and s.tokenizer == "bpe":
        raise ValueError("--tokenizer bpe needs --captions_file; every word of the grammar is known")
    try:
        parse_levels(s.vq_levels)
    except ValueError as error:
        raise ValueError(f"--vq_levels {s.vq_levels} {error}") from None
    if s.use_vq and s.use_vae:
        raise ValueError("--use_vq and --use_vae exclude each other: a latent is a code or has noise; give one of them")
    if s.use_vq and not decoder.supports_vq:
        raise ValueError(f"--use_vq needs --decoder {_that('supports_vq')}, not {s.decoder}")
    if s.use_vq and s.grounding:
        raise ValueError(
            "--use_vq and --grounding exclude each other: what a code looks like must not depend on its word"
        )
    decoder.check(s)


def _that(capability: str) -> str:
    return " or ".join(name for name, decoder in DECODERS.items() if getattr(decoder, capability))
