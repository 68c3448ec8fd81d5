"""What a user should know of a run before it starts: flags without effect, a run too short to learn, a changed schedule."""

from training.optimizer import warmup_cosine

WARM_SHARE = 0.5  # of a run; more of it in warm-up leaves too little to learn in
FEW = 0.05  # exact match that hardly shows that a run has learned
JUMP = 1.05  # ratio of two learning rates that is worth a line
SCHEDULE = ("epochs", "lr", "warmup_steps")  # settings from which the learning rate follows


def without_effect(settings, typed):
    """Lines about typed flags that change nothing in a run with these settings."""
    s = settings
    of_kinds = s.decoder == "glyphs" and s.layout == "kinds", "--decoder marks --layout kinds"
    is_split = s.fixed_data
    if s.captions_file:
        is_split = not (s.val_file and s.test_file)
    only = {  # flag -> (whether it has an effect, what it would need)
        "n_objects": (s.decoder == "objects", "--decoder objects"),
        "n_cells": (s.decoder == "glyphs", "--decoder marks"),
        "lambda_layout": of_kinds,
        "lambda_shape": of_kinds,
        "lambda_repulsion": (s.decoder != "conv", "--decoder objects or marks"),
        "lambda_kl": (s.use_vae, "--use_vae"),
        "vq_levels": (s.use_vq, "--use_vq"),
        "lambda_codes": (s.use_vq, "--use_vq"),
        "fixed_data": (not s.captions_file, "the grammar; a captions file has the same sentences in every epoch"),
        "train_split": (
            is_split,
            "--fixed_data, or a --captions_file without both --val_file and --test_file",
        ),
    }
    for flag, (has_effect, needs) in only.items():
        if flag in typed and not has_effect:
            yield f"note: --{flag} {typed[flag]} has no effect here; it needs {needs}"


def short_run(settings, total):
    """A line about a run of `total` steps that is mostly warm-up, in a list; or none."""
    if settings.warmup_steps <= WARM_SHARE * total:
        return []
    what = f"{settings.warmup_steps} of the {total} steps" if settings.warmup_steps < total else f"all {total} steps"
    return [
        f"warning: {what} are warm-up, so this run can hardly learn; give more --epochs {settings.epochs} or "
        f"--num_samples {settings.num_samples}, or fewer --warmup_steps {settings.warmup_steps}"
    ]


def poor_result(settings, match):
    """A line about a run of which few sentences come back, in a list; or none. match: the share that does."""
    if match >= FEW:
        return []
    longer = f"train longer with --resume auto --epochs {2 * settings.epochs}"
    return [f"note: less than {100 * FEW:.0f} % of unseen sentences come back; {longer}, or on more sentences"]


def changed_schedule(settings, before, steps_per_epoch, step):
    """A line about a learning rate that goes on elsewhere than it would have, in a list; or none. before: the settings of the
    checkpoint, as a dict."""
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
    why = "its schedule spans the whole run"
    return [
        f"note: the learning rate goes on at {now:.1e} instead of {then:.1e}, because of {', '.join(changed)}: {why}"
    ]
