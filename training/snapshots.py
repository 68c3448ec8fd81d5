"""How the scenes of a run develop: those of the same few unseen sentences at the end of every epoch.

train.py keeps them in `evolution.json` of its log folder; evaluate.py shows them with a slider over epochs. The file
holds at most FRAMES epochs of SENTENCES scenes, about 2 MB.
"""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import torch

from pictures import to_image
from runtime.outputs import write_output

NAME = "evolution.json"
SENTENCES, FRAMES = 8, 50
MAX_BYTES = 1 << 26  # a larger file is not of this program


def data_uri(picture: torch.Tensor) -> str:
    """A picture (3, h, w) in [0, 1] -> data URI of its PNG."""
    buffer = io.BytesIO()
    to_image(picture).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def thin(frames: list[dict], most: int = FRAMES) -> list[dict]:
    """At most `most` frames: repeatedly removes the frame whose neighbors are closest; the first and the last stay.

    >>> [f["epoch"] for f in thin([{"epoch": n} for n in (0, 1, 2, 4, 8)], 4)]
    [0, 2, 4, 8]
    """
    frames = list(frames)
    while len(frames) > max(2, most):
        gaps = [b["epoch"] - a["epoch"] for a, b in zip(frames, frames[2:])]
        del frames[1 + gaps.index(min(gaps))]
    return frames


def read(path: Path | str, first_row: dict | None) -> dict | None:
    """The {"texts", "frames"} of a run, or None if the file is missing, damaged or another run's.

    first_row: the first row of the run's history, by which it is known; None while it has none.
    """
    try:
        if os.path.getsize(path) > MAX_BYTES:
            return None
        with open(path, encoding="utf-8") as f:
            kept = json.load(f)
        texts, frames = kept["texts"], kept["frames"]
        whole = all(
            isinstance(f["epoch"], int)
            and len(f["captions"]) == len(f["pictures"]) == len(texts)
            and all(isinstance(c, str) for c in f["captions"])
            and all(isinstance(p, str) and p.startswith("data:image/png;base64,") for p in f["pictures"])
            for f in frames
        )
        same = kept["run"] is None or kept["run"] == first_row
        return kept if whole and same and all(isinstance(t, str) for t in texts) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def add(
    path: Path | str,
    epoch: int,
    texts: list[str],
    pictures: torch.Tensor,
    captions: list[str],
    first_row: dict | None = None,
) -> None:
    """Put an epoch's pictures (n, 3, 64, 64) and captions into the file. Raises OSError, also for a foreign file.

    Frames of this epoch and of later ones are removed: a resumed run has left the branch that they belong to.
    """
    kept = read(path, first_row)
    frames = kept["frames"] if kept and kept["texts"] == texts else []
    frames = [f for f in frames if f["epoch"] < epoch]
    frames.append({"epoch": epoch, "captions": captions, "pictures": [data_uri(p) for p in pictures]})
    write_output(path, json.dumps({"run": first_row, "texts": texts, "frames": thin(frames)}).encode())


def find(checkpoint: Path | str, state: dict) -> dict | None:
    """The {"texts", "frames"} of a checkpoint's run up to its epoch, or None. The run may have been moved as a whole.

    state: what the checkpoint holds.
    """
    try:
        settings, history, epoch = state["settings"], state["history"], state["position"]["epoch"]
        logs, folder = settings["log_dir"], os.path.dirname(os.path.abspath(checkpoint))
        beside = os.path.normpath(os.path.join(folder, os.path.relpath(logs, settings["checkpoint_dir"])))
        for candidate in dict.fromkeys([beside, folder, logs]):
            kept = read(os.path.join(candidate, NAME), history[0])
            if kept:
                return {**kept, "frames": [f for f in kept["frames"] if f["epoch"] <= epoch]}
    except (KeyError, IndexError, TypeError, ValueError):
        pass
    return None
