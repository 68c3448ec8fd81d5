"""Notes for the user before and after a run: flags without effect, a run too short to learn, a changed schedule."""

from collections.abc import Iterator
from typing import Any

from settings import Settings
from training.optimizer import warmup_cosine

WARM_SHARE = 0.5  # of a run; a longer warm-up leaves too few steps to learn
FEW = 0.05  # exact match; a lower one suggests that a run has not learned
JUMP = 1.05  # ratio of two learning rates from which a line reports the change
SCHEDULE = ("epochs", "lr", "warmup_steps")  # the settings that determine the learning rate


def without_effect(settings: Settings, typed: dict[str, Any]) -> Iterator[str]:
    """Lines about typed flags that change nothing in a run with these settings."""
    s = settings
    only = {  # flag: (whether it has an effect, what it needs)
        "n_objects": (s.decoder == "objects", "--decoder objects"),
        "latent_dropout": (s.decoder == "objects", "--decoder objects"),
        "n_cells": (s.decoder == "glyphs", "--decoder glyphs"),
        "lambda_repulsion": (s.decoder != "conv", "--decoder objects or glyphs"),
        "lambda_kl": (s.use_vae, "--use_vae"),
        "vq_levels": (s.use_vq, "--use_vq"),
        "lambda_codes": (s.use_vq, "--use_vq"),
        "fixed_data": (not s.captions_file, "the grammar; a captions file is fixed as it is"),
        "train_split": (
            bool(s.captions_file and not (s.val_file and s.test_file)) or s.fixed_data and not s.captions_file,
            "--fixed_data, or a --captions_file without both --val_file and --test_file",
        ),
    }
    for flag, (has_effect, needs) in only.items():
        if flag in typed and not has_effect:
            yield f"note: --{flag} {typed[flag]} has no effect here; it needs {needs}"


def short_run(settings: Settings, total: int) -> list[str]:
    """At most one line, about a run of `total` steps that is mostly warm-up."""
    if settings.warmup_steps <= WARM_SHARE * total:
        return []
    what = f"{settings.warmup_steps} of the {total} steps" if settings.warmup_steps < total else f"all {total} steps"
    return [
        f"warning: {what} are warm-up, so this run can hardly learn; give more --epochs {settings.epochs} or "
        f"--num_samples {settings.num_samples}, or fewer --warmup_steps {settings.warmup_steps}"
    ]


def poor_result(settings: Settings, match: float) -> list[str]:
    """At most one line, about a run with a low exact match (0 to 1)."""
    if match >= FEW:
        return []
    longer = f"train longer with --resume auto --epochs {2 * settings.epochs}"
    return [f"note: less than {100 * FEW:.0f} % of unseen sentences come back; {longer}, or on more sentences"]


def changed_schedule(settings: Settings, before: dict[str, Any], steps_per_epoch: int, step: int) -> list[str]:
    """At most one line, about a learning rate that jumps at a resume. before: the settings of the checkpoint."""
    had = {name: before.get(name, getattr(settings, name)) for name in SCHEDULE}
    changed = [
        f"--{name} {getattr(settings, name)} instead of {old}"
        for name, old in had.items()
        if getattr(settings, name) != old
    ]
    then = had["lr"] * warmup_cosine(step, steps_per_epoch * had["epochs"], had["warmup_steps"])
    now = settings.lr * warmup_cosine(step, steps_per_epoch * settings.epochs, settings.warmup_steps)
    if not changed or max(then, now) <= JUMP * min(then, now):
        return []
    line = f"note: the learning rate goes on at {now:.1e} instead of {then:.1e}, because of {', '.join(changed)}"
    return [f"{line}: its schedule spans the whole run"]
