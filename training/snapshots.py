"""How a run's pictures came to be what they are: the same few unseen sentences at the end of every epoch.

train.py keeps them in `evolution.json` of its log folder; evaluate.py shows them behind a slider. One file, bounded:
at most FRAMES epochs of SENTENCES pictures, about 2 MB, written whole or not at all.
"""

import base64
import io
import json
import os

from pictures import to_image
from runtime.files import write_atomically

NAME = "evolution.json"
SENTENCES, FRAMES = 8, 50
MAX_BYTES = 1 << 26  # a larger file was not written here


def data_uri(picture):
    """A picture (3, h, w) in [0, 1] -> data URI of its PNG."""
    buffer = io.BytesIO()
    to_image(picture).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def thin(frames, most=FRAMES):
    """At most `most` frames: again and again the one goes whose neighbors lie closest; first and last stay.

    >>> [f["epoch"] for f in thin([{"epoch": n} for n in (0, 1, 2, 4, 8)], 4)]
    [0, 2, 4, 8]
    """
    frames = list(frames)
    while len(frames) > max(2, most):
        gaps = [b["epoch"] - a["epoch"] for a, b in zip(frames, frames[2:])]
        del frames[1 + gaps.index(min(gaps))]
    return frames


def read(path, first_row):
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


def add(path, epoch, texts, pictures, captions, first_row=None):
    """Put an epoch's pictures (n, 3, 64, 64) and captions into the file. Raises OSError.

    Frames of this epoch and of later ones belong to a branch that a resumed run has left: they go.
    """
    kept = read(path, first_row)
    frames = kept["frames"] if kept and kept["texts"] == texts else []
    frames = [f for f in frames if f["epoch"] < epoch]
    frames.append({"epoch": epoch, "captions": captions, "pictures": [data_uri(p) for p in pictures]})
    write_atomically(path, json.dumps({"run": first_row, "texts": texts, "frames": thin(frames)}).encode())


def find(checkpoint, state):
    """The file of a checkpoint's run, wherever the run was moved to as a whole -> {"texts", "frames"} up to that
    checkpoint's epoch, or None. state: what the checkpoint holds."""
    try:
        settings, history, epoch = state["settings"], state["history"], state["position"]["epoch"]
        logs, folder = settings["log_dir"], os.path.dirname(os.path.abspath(checkpoint))
        beside = os.path.normpath(os.path.join(folder, os.path.relpath(logs, settings["checkpoint_dir"])))
        for place in dict.fromkeys([beside, folder, logs]):
            kept = read(os.path.join(place, NAME), history[0])
            if kept:
                return {**kept, "frames": [f for f in kept["frames"] if f["epoch"] <= epoch]}
    except (KeyError, IndexError, TypeError, ValueError):
        pass
    return None
