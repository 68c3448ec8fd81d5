"""The metrics of the README's table of results, which scripts/results.py and scripts/ablations.py print."""

import functools
from typing import NamedTuple

import numpy as np

from checkpoints import load_model
from evaluation.measures.legibility import legibility_metrics
from evaluation.measures.robustness import STANDARD, standard_conditions
from evaluation.report.markdown import short_names
from evaluation.sections.scenes import GIVEN, LABELS, OF_KIND, measured, told_as_given
from metrics import exact_match
from pictures import draw_sentences, read_pictures
from text.grammar import SPLITS, different_sentences
from text.grounding import given_line, grounded_words


class Row(NamedTuple):
    """How a metric is shown in the table."""

    label: str
    percent: bool = True  # a share, shown in percent
    digits: int = 2  # after the point
    worst: str = "low"  # which end is worse


CONDITIONS = {  # id of robustness.STANDARD: what is shown
    "jpeg_50": "jpeg 50",
    "blur_1": "blur 1 px",
    "noise_0.1": "noise 0.1",
    "half_size": "half size",
    "16x16": "16x16",
    "brighter_20": "brighter 20 %",
    "darker_20": "darker 20 %",
    "shift_2": "shift 2 px",
    "patch_8": "8x8 patch",
    "rotation_3": "rotation 3 deg",
}
ROWS = {  # id: how it is shown
    **{f"exact_match/{split}": Row(f"exact match, `{split}`") for split in SPLITS[1:]},
    **{f"corruption/{id}": Row(f"exact match, `test`, {CONDITIONS[id]}") for id in STANDARD},
    **{id: Row(label) for id, label in {**LABELS, **GIVEN, **OF_KIND}.items() if id != "scenes/topographic_similarity"},
    "scenes/topographic_similarity": Row(LABELS["scenes/topographic_similarity"], percent=False, digits=3),
    "legibility/naive_4_mean": Row("naive reader, 4 pictures a word, mean of 4 slots (5 draws)"),
    "legibility/color_histogram_64": Row("color word from the color histogram, 64 pictures a word"),
    "legibility/swap_changed_mean": Row("one word swapped: share of the picture that changes (ΔE > 10)", worst="high"),
    "legibility/swap_overlap_min": Row("overlap (IoU) of the changed regions, worst slot"),
    "legibility/silhouettes": Row("slots read from gray silhouettes alone"),
    "legibility/swap_visible_min": Row(
        "one word swapped: 99th percentile of ΔE, worst tenth of swaps, worst slot", percent=False, digits=1
    ),
    "legibility/topographic_similarity": Row("topographic similarity", percent=False, digits=3),
    "legibility/mantel_p": Row("its Mantel p", percent=False, digits=4, worst="high"),
}


def checkpoint_metrics(path, n, seed, device, splits=SPLITS[2:]):
    """The metrics of ROWS of one checkpoint -> {id: value}, shares in [0, 1]; without those that it cannot have.

    n: different sentences of each split; corruption is measured on the first one. Raises CheckpointError, OSError.
    """
    cycle, vocab, _ = load_model(path, device)
    out = {}
    for split in splits:
        sentences = different_sentences(n, split, seed)
        captions, _ = read_pictures(cycle, vocab, draw_sentences(cycle, vocab, sentences, device), device)
        out[f"exact_match/{split}"] = exact_match(sentences, captions)
    corrupted = standard_conditions(cycle, vocab, device, different_sentences(n, splits[0], seed + 1), seed)
    out.update({f"corruption/{id}": value for id, value in corrupted.items()})
    draw = functools.partial(draw_sentences, cycle, vocab, device=device)
    found, _ = measured(draw, seed, 1.0, lambda pictures: read_pictures(cycle, vocab, pictures, device)[0])
    out.update({id: value for id, (value, _) in found.items()})
    told = told_as_given(draw, grounded_words(cycle, vocab), seed, 1.0)
    out.update({id: found["accuracy"] for id, found in told.items()})
    legible = legibility_metrics(cycle, vocab, device, seed)
    out.update({id: legible[id] for id in ROWS if id in legible})
    return {id: out[id] for id in ROWS if out.get(id) is not None}


def lines_of_given(paths, device):
    """What was given to the models of some checkpoints -> lines, with the names of the checkpoints if there are several; [] if
    all emerged. Raises CheckpointError, OSError."""
    checkpoints = {}  # line: names
    for path, name in zip(paths, short_names([str(path) for path in paths])):
        cycle, vocab, settings = load_model(path, device)
        if line := given_line(grounded_words(cycle, vocab), settings.grounding):
            checkpoints.setdefault(line, []).append(name)
    return [f"{', '.join(names)}: {line}" if len(paths) > 1 else line for line, names in checkpoints.items()]


def results_table(checkpoints, n, seed):
    """[{id: value}] of each checkpoint -> a Markdown table of mean ± standard deviation (n - 1) and the worst.

    One checkpoint has no deviation.
    """
    lines = [
        f"| metric ({len(checkpoints)} checkpoint(s), n = {n}, seed {seed}) | mean ± sd | worst |",
        "|---|---|---|",
    ]
    for id, row in ROWS.items():
        scale, unit = (100, " %") if row.percent else (1, "")
        values = np.array([scale * c[id] for c in checkpoints if id in c])
        if len(values) == 0:
            continue
        deviation = f" ± {values.std(ddof=1):.{row.digits}f}" if len(values) > 1 else ""
        worst = values.max() if row.worst == "high" else values.min()
        lines.append(
            f"| {row.label} | {values.mean():.{row.digits}f}{deviation}{unit} | {worst:.{row.digits}f}{unit} |"
        )
    return "\n".join(lines)
