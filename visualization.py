"""Figures of a run: training curves, scene sheets, round trips, layers, the gaze of the captioner, projections.

Most functions write one PNG, which a notebook shows with `IPython.display.Image(path)`. They raise OSError if the file
cannot be written, or if a file that this program did not make has its name.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from imaging.fonts import LINE_SPACING, draw_paragraph, draw_text, warn_of_missing, wrap
from pictures import png_bytes, to_image
from runtime.outputs import write_output

TEXT_SIZE = 12  # px, under a scene
MOST_LINES = 16  # under a scene: a real sentence and its caption must fit
BLACK = (30, 30, 30)
GRAY = (120, 120, 120)
WRONG = (190, 30, 30)


def scene_sheet(
    pictures: Sequence[torch.Tensor], texts: Sequence[str], path: Path | str, columns: int = 6, zoom: int = 2
) -> None:
    """Write pictures (n, 3, 64, 64) with a text under each."""
    write_output(path, png_bytes(draw_scene_sheet(pictures, texts, columns, zoom)))


def draw_scene_sheet(
    pictures: Sequence[torch.Tensor], texts: Sequence[str], columns: int = 6, zoom: int = 2
) -> Image.Image:
    """Pictures (n, 3, 64, 64) with a text under each -> a Pillow image."""
    warn_of_missing(texts)
    side = 64 * zoom
    lines = max((len(wrap(text, side, TEXT_SIZE, MOST_LINES)) for text in texts), default=0)
    cell_w, cell_h = side + 16, side + 10 + max(4, lines) * round(TEXT_SIZE * LINE_SPACING)
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell_w + 8, rows * cell_h + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, text) in enumerate(zip(pictures, texts)):
        x, y = 8 + i % columns * cell_w, 8 + i // columns * cell_h
        sheet.paste(to_image(picture).resize((side, side), Image.NEAREST), (x, y))
        draw_paragraph(draw, (x, y + side + 3), text, side, TEXT_SIZE, BLACK, MOST_LINES)
    return sheet


def grid_sheet(
    pictures: Iterable[torch.Tensor],
    row_names: Sequence[str],
    column_names: Sequence[str],
    path: Path | str,
    zoom: int = 1,
) -> None:
    """Write pictures (3, 64, 64), row by row, with a name at each row and above each column."""
    side = 64 * zoom + 4
    left = 84
    top = 24
    sheet = Image.new("RGB", (left + side * len(column_names), top + side * len(row_names)), "white")
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(column_names):
        draw_text(draw, (left + c * side + 2, 6), name, fill=BLACK)
    for r, name in enumerate(row_names):
        draw_text(draw, (6, top + r * side + side // 2 - 8), name, fill=BLACK)
    for i, picture in enumerate(pictures):
        at = (left + i % len(column_names) * side, top + i // len(column_names) * side)
        sheet.paste(to_image(picture).resize((64 * zoom, 64 * zoom), Image.NEAREST), at)
    write_output(path, png_bytes(sheet))


def round_trips(
    texts: Sequence[str],
    pictures: Sequence[torch.Tensor],
    captions: Sequence[str],
    path: Path | str,
    columns: int = 2,
    zoom: int = 2,
) -> None:
    """Write original texts, scenes (n, 3, 64, 64) and captions side by side; wrong captions are red."""
    warn_of_missing([*texts, *captions])
    side = 64 * zoom
    text_w, cell_h = 200, side + 14
    cell_w = 2 * text_w + side + 30
    rows = -(-len(texts) // columns)
    sheet = Image.new("RGB", (columns * cell_w, rows * cell_h + 30), "white")
    draw = ImageDraw.Draw(sheet)
    for c in range(columns):
        for x, title in ((10, "sentence"), (text_w + 10, "scene"), (text_w + side + 20, "read back")):
            draw_text(draw, (c * cell_w + x, 8), title, fill=GRAY)
    for i, (text, picture, caption) in enumerate(zip(texts, pictures, captions)):
        x, y = i % columns * cell_w, 30 + i // columns * cell_h
        middle = y + side // 2 - 22
        draw_paragraph(draw, (x + 10, middle), text, text_w - 20, 13, BLACK, most=6)
        sheet.paste(to_image(picture).resize((side, side), Image.NEAREST), (x + text_w + 10, y))
        color = BLACK if text == caption else WRONG
        draw_paragraph(draw, (x + text_w + side + 20, middle), caption or "(nothing)", text_w - 20, 13, color, most=6)
    write_output(path, png_bytes(sheet))


def draw_layer_sheet(
    sentences: Sequence[Sequence[str]], pictures: Sequence[torch.Tensor], layers: Sequence[list], zoom: int = 2
) -> Image.Image:
    """One row a sentence -> a Pillow image: the sentence, its scene, then each part of the scene above the words it
    shows.

    sentences: the words of each; pictures (n, 3, 64, 64); layers: of each what `layers` of its scene decoder returns.
    """
    warn_of_missing(word for words in sentences for word in words)
    side = 64 * zoom
    step, text_w, cell_h = side + 10, 210, side + 44
    sheet = Image.new(
        "RGB", (text_w + step * (1 + max(map(len, layers), default=0)), 26 + cell_h * len(sentences)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, (text_w, 6), "scene", fill=GRAY)
    draw_text(draw, (text_w + step, 6), "part by part", fill=GRAY)
    for i, (words, scene, parts) in enumerate(zip(sentences, pictures, layers)):
        y = 26 + i * cell_h
        draw_paragraph(draw, (10, y + side // 2 - 20), " ".join(words), text_w - 20, 13, BLACK)
        for k, (picture, positions) in enumerate([(scene, []), *parts]):
            sheet.paste(to_image(picture).resize((side, side), Image.NEAREST), (text_w + k * step, y))
            below = " ".join(words[i] for i in positions)
            draw_paragraph(draw, (text_w + k * step + 2, y + side + 4), below, side, TEXT_SIZE, BLACK)
    return sheet


def training_curves(history: list[dict], path: Path | str) -> None:
    """Plot losses against steps, and exact match against seconds of training.

    history: the rows of metrics.jsonl.
    """
    from matplotlib.figure import Figure  # takes most of a second

    train = [r for r in history if r["kind"] == "train"]
    val = [r for r in history if r["kind"] == "validation"]
    figure = Figure(figsize=(11, 4))
    left, right = figure.subplots(1, 2)
    names = [k for k in (train[0] if train else {}) if k.startswith("loss_")]
    for name in names:
        left.plot([r["step"] for r in train], [max(r[name], 1e-4) for r in train], label=name[5:], linewidth=1.2)
    left.set(xlabel="step", ylabel="loss (unweighted)", yscale="log", title="Losses")
    if names:
        left.legend(fontsize=7, ncol=2)
    for key, label in (("exact_match", "exact match"), ("word_accuracy", "word accuracy")):
        right.plot([r["seconds"] for r in val], [100 * r[key] for r in val], marker="o", markersize=3, label=label)
    right.set(xlabel="seconds of training", ylabel="%", ylim=(0, 102), title="Unseen sentences read back")
    right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_output(path, buffer.getvalue())


def gaze_picture(picture: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """A picture (3, 64, 64) -> the same, darker where the captioner did not look; weights (64,) >= 0 over its 8x8
    grid."""
    light = F.interpolate((weights / weights.max().clamp(min=1e-9)).view(1, 1, 8, 8), 64, mode="bilinear")[0]
    return picture * (0.25 + 0.75 * light)


def project(vectors: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Vectors (n, D) -> {"PCA": (n, 2), "t-SNE": (n, 2)}, centered, the largest coordinate 1.

    PCA preserves distances as far as two axes can; t-SNE (van der Maaten & Hinton 2008) preserves neighbors, and its
    large distances mean nothing. Fewer than five vectors, or equal ones, give zeros for t-SNE. Cost O(n^2).
    """
    from sklearn.manifold import TSNE  # takes a second, and training does not use it

    x = np.asarray(vectors, np.float64).reshape(len(vectors), -1)
    x = x - x.mean(0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    flat = np.zeros((len(x), 2))
    flat[:, : min(2, len(s))] = (u * s)[:, :2]
    out = {"PCA": flat, "t-SNE": np.zeros_like(flat)}
    if len(x) >= 5 and flat.std() > 1e-6:
        start = (1e-4 * flat / flat[:, 0].std()).astype(np.float32)
        model = TSNE(2, perplexity=min(30.0, (len(x) - 1) / 3), init=start, learning_rate="auto", random_state=seed)
        out["t-SNE"] = model.fit_transform((x / x.std()).astype(np.float32)).astype(np.float64)
    return {name: (v - v.mean(0)) / max(1e-9, np.abs(v - v.mean(0)).max()) for name, v in out.items()}
