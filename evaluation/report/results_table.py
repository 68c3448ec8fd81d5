"""The metrics of the README's table of results, which scripts/results.py and scripts/ablations.py print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from checkpoints import load_model
from evaluation.measures.legibility import legibility_metrics
from evaluation.measures.robustness import STANDARD, exact_match_after
from evaluation.protocol import ModelUnderTest
from evaluation.report.markdown import markdown_table, short_names
from evaluation.sections.scenes import GROUNDING, LABELS, OF_CLASS, grounding_metrics, scene_metrics
from metrics import exact_match
from text.grammar import SPLITS, different_sentences
from text.grounding import grounded_words, grounding_line


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    label: str
    percent: bool = True  # a share, in percent
    digits: int = 2  # after the point
    worst: str = "low"  # the worse end


CONDITIONS = {  # id of robustness.STANDARD: label
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
ROWS = {  # by id of the metric
    **{f"exact_match/{split}": Row(f"exact match, `{split}`") for split in SPLITS[1:]},
    **{f"corruption/{id}": Row(f"exact match, `test`, {CONDITIONS[id]}") for id in STANDARD},
    **{id: Row(label) for id, label in {**LABELS, **GROUNDING, **OF_CLASS}.items() if "topographic" not in id},
    "scenes/topographic_similarity": Row(LABELS["scenes/topographic_similarity"], percent=False, digits=3),
    "legibility/naive_4_mean": Row("naive reader, 4 pictures a word, mean of 4 slots (5 draws)"),
    "legibility/color_histogram_64": Row("color word from the color histogram, 64 pictures a word"),
    "legibility/swap_changed_mean": Row("one word swapped: share of the picture that changes (ΔE > 10)", worst="high"),
    "legibility/swap_overlap_min": Row("overlap (IoU) of the changed regions, worst slot"),
    "legibility/swap_visible_min": Row(
        "one word swapped: 99th percentile of ΔE, worst tenth of swaps, worst slot", percent=False, digits=1
    ),
    "legibility/topographic_similarity": Row("topographic similarity", percent=False, digits=3),
    "legibility/mantel_p": Row("its Mantel p", percent=False, digits=4, worst="high"),
}


def checkpoint_metrics(
    path: Path | str, n: int, seed: int, device: torch.device, splits: tuple[str, ...] = SPLITS[2:]
) -> dict[str, float]:
    """The metrics of ROWS of one checkpoint -> {id: value}, shares in [0, 1], without metrics that it does not have.

    n: different sentences of each split; corruption is measured on the first split. Raises CheckpointError, OSError.
    """
    cycle, vocab, settings = load_model(path, device)
    model = ModelUnderTest(cycle=cycle, vocab=vocab, settings=settings, device=device, name=str(path))
    out = {}
    for split in splits:
        sentences = different_sentences(n, split, seed)
        out[f"exact_match/{split}"] = exact_match(sentences, model.read(model.draw(sentences)))
    sentences = different_sentences(n, splits[0], seed + 1)
    pictures = model.draw(sentences)
    for id, (kind, strength) in STANDARD.items():
        out[f"corruption/{id}"] = exact_match_after(model.read, sentences, pictures, kind, strength, seed)
    found, _ = scene_metrics(model.draw, seed, 1.0, model.read)
    out |= {id: value for id, (value, _) in found.items()}
    grounding = grounding_metrics(model.draw, model.grounded_words, seed, 1.0)
    out |= {id: of["accuracy"] for id, of in grounding.items()}
    out |= legibility_metrics(model.draw, seed)
    return {id: out[id] for id in ROWS if out.get(id) is not None}


def grounding_lines_of(paths: list[Path | str], device: torch.device) -> list[str]:
    """Grounded words of checkpoints -> lines, which name several checkpoints. Raises CheckpointError, OSError."""
    checkpoints = {}  # line: names
    for path, name in zip(paths, short_names([str(path) for path in paths])):
        cycle, vocab, settings = load_model(path, device)
        if line := grounding_line(grounded_words(cycle, vocab), settings.grounding):
            checkpoints.setdefault(line, []).append(name)
    return [f"{', '.join(names)}: {line}" if len(paths) > 1 else line for line, names in checkpoints.items()]


def results_table(checkpoints: list[dict[str, float]], n: int, seed: int) -> str:
    """[{id: value}] of each checkpoint -> a Markdown table of mean ± standard deviation (n - 1) and the worst value."""
    rows = []
    for id, row in ROWS.items():
        scale, unit = (100, " %") if row.percent else (1, "")
        values = np.array([scale * c[id] for c in checkpoints if id in c])
        if len(values) == 0:
            continue
        deviation = f" ± {values.std(ddof=1):.{row.digits}f}" if len(values) > 1 else ""
        worst = values.max() if row.worst == "high" else values.min()
        mean = f"{values.mean():.{row.digits}f}{deviation}{unit}"
        rows.append([row.label, mean, f"{worst:.{row.digits}f}{unit}"])
    about = f"metric ({len(checkpoints)} checkpoint(s), n = {n}, seed {seed})"
    return markdown_table([about, "mean ± sd", "worst"], rows)
