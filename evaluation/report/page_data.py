"""The content of the page as plain dicts for its template. A picture is a data URI of its PNG: the page is one file."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from checkpoints import CheckpointError, load, model_of, settings_of
from evaluation.measures.color_difference import VISIBLE, color_difference
from evaluation.measures.legibility import FOUR_SLOTS, word_scenes
from evaluation.protocol import ModelUnderTest, Protocol
from evaluation.report.page_glyphs import glyph_dictionary, mean_glyphs
from evaluation.report.page_inside import ids_of_word, insides, interpolation, word_maps
from evaluation.report.quiz import color_matrix, quiz
from metrics import is_exact
from scene_check import unexplained
from text.grammar import COLORS, OBJECTS, POSITIONS, SIZES, SLOT_WORDS, render
from text.vocabulary import tokenize
from training import snapshots
from training.snapshots import data_uri

# part: (the slot in which its words are shown, the slots of the sentences)
SHOWN_IN = {
    **{part: (part, FOUR_SLOTS) for part in FOUR_SLOTS},
    "background": ("background", ("color", "object", "background")),
    "action": ("action", ("color", "object", "action", "position")),
    "relation": ("relation2", ("color", "object", "relation2", "color2", "object2")),
}
CONTEXTS = 12
MAX_WORDS = 60  # words of a captions file on a map, and in the dictionary of a model without glyphs


# ---------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------


def typical_scenes(scenes: torch.Tensor, sentences: list[str], n: int = 3) -> list[dict]:
    """The n of some sentences' scenes (c, 3, 64, 64) that are nearest to the mean of all."""
    order = ((scenes - scenes.mean(0)) ** 2).sum((1, 2, 3)).argsort()[:n]
    return [{"picture": data_uri(scenes[i]), "text": sentences[i]} for i in order.tolist()]


def visible_change(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """Pairs of pictures (n, 3, 64, 64) -> share of pixels that change visibly, in [0, 1], and mean CIE76 difference."""
    difference = color_difference(a, b)
    return float((difference > VISIBLE).float().mean()), float(difference.mean())


def word_readings(confusion: dict) -> dict[tuple[str, str], list]:
    """{split: {slot: {"words", "counts"}}} -> {(slot, word): [n, right, Counter of other words]}."""
    out = {}
    for split in confusion.values():
        for slot, matrix in split.items():
            for word, row in zip(matrix["words"], matrix["counts"]):
                n, right, others = out.setdefault((slot, word), [0, 0, Counter()])
                mistaken = {w: c for w, c in zip([*matrix["words"], "a word of another class"], row) if w != word and c}
                out[slot, word] = [n + sum(row), right + row[matrix["words"].index(word)], others + Counter(mistaken)]
    return out


def _reading_of_word(n, right, mistaken):
    """How often a word occurs and is read right, and the most common words read instead -> part of an entry."""
    return {"n": n, "accuracy": right / n if n else None, "confused": mistaken.most_common(3)}


def grammar_words(model: ModelUnderTest, seed: int, confusion: dict) -> tuple[list[dict], torch.Tensor]:
    """An entry for every word of the grammar's slots, and their mean scenes (n, 3, 64, 64) in [0, 1]."""
    read = word_readings(confusion)
    out, means = [], []
    for part, (slot, slots) in SHOWN_IN.items():
        scenes, sentences = word_scenes(model.draw, slot, seed, CONTEXTS, slots)
        words = SLOT_WORDS[slot]
        for i, word in enumerate(words):
            others = [j for j in range(len(words)) if j != i]
            kept = scenes[i].repeat(len(others), 1, 1, 1)
            share, far = visible_change(kept, scenes[others].flatten(0, 1))
            n, right, mistaken = read.get((part, word), (0, 0, Counter()))
            nearest = [i, *(others[(i + k) % len(others)] for k in range(min(7, len(others))))]
            swaps = [{"picture": data_uri(scenes[j, 0]), "word": words[j], "text": sentences[j][0]} for j in nearest]
            entry = {"word": word, "slot": part, "mean": data_uri(scenes[i].mean(0)), "swaps": swaps}
            entry |= {"typical": typical_scenes(scenes[i], sentences[i]), "share": share, "far": far}
            out.append(entry | _reading_of_word(n, right, mistaken))
            means.append(scenes[i].mean(0))
    return out, torch.stack(means)


def readings_of_words(sentences: list[str], captions: list[str]) -> dict[str, tuple[int, int, Counter]]:
    """Sentences, captions -> {word: (its count, how often it is read right, Counter of the words read instead)}."""
    read = {}
    for sentence, caption in zip(sentences, captions):
        got = tokenize(caption)
        for k, word in enumerate(tokenize(sentence)):
            read.setdefault(word, Counter())[got[k] if k < len(got) else "(nothing)"] += 1
    return {word: (sum(counts.values()), counts.pop(word, 0), counts) for word, counts in read.items()}


def common_words(vocab: Any, sentences: list[str]) -> list[str]:
    """The words of the vocabulary that occur in the largest numbers of sentences, at most MAX_WORDS."""
    counts = Counter(w for s in sentences for w in dict.fromkeys(tokenize(s)))
    return [w for w, _ in counts.most_common() if ids_of_word(vocab, w)][:MAX_WORDS]


def free_words(
    common: list[str], sentences: list[str], readings: dict[str, tuple[int, int, Counter]], pictures: torch.Tensor
) -> tuple[list[dict], torch.Tensor]:
    """As `grammar_words` for `common_words` of a captions file's unseen lines; readings: of `readings_of_words`."""
    rows = [tokenize(s) for s in sentences]
    out, means = [], []
    for word in common:
        have = [i for i, r in enumerate(rows) if word in r]
        n, right, mistaken = readings[word]
        mean = pictures[have].mean(0)
        share, far = visible_change(mean[None], pictures.mean(0)[None])
        entry = {"word": word, "slot": "word", "mean": data_uri(mean), "swaps": []}
        typical = typical_scenes(pictures[have], [sentences[i] for i in have])
        entry |= {"typical": typical, "share": share, "far": far}
        out.append(entry | _reading_of_word(n, right, mistaken))
        means.append(mean)
    return out, torch.stack(means)


# ---------------------------------------------------------------------------------------------
# Sheets and round trips
# ---------------------------------------------------------------------------------------------


def sheet(
    model: ModelUnderTest, title: str, rows: Sequence[str], columns: Sequence[str], texts: list[list[str]]
) -> dict:
    """Scenes in a table; texts: a list of sentences for each row, one for each column."""
    pictures = iter(model.draw([text for row in texts for text in row]))
    cells = [[{"picture": data_uri(next(pictures)), "text": text} for text in row] for row in texts]
    return {"title": title, "columns": columns, "rows": [{"name": r, "cells": c} for r, c in zip(rows, cells)]}


def grammar_sheets(model: ModelUnderTest) -> tuple[list[dict], list[dict]]:
    """(sheets, strips): colors x objects, positions x sizes; scenes in which one word of a class varies."""
    base = {"size": "large", "color": "blue", "object": "ball", "position": "left"}
    texts = [[render({"color": color, "object": name}) for color in COLORS] for name in OBJECTS]
    colors = sheet(model, "Colors × objects: “a COLOR OBJECT”", OBJECTS, COLORS, texts)
    texts = [[render({**base, "size": size, "position": position}) for position in POSITIONS] for size in SIZES]
    positions = sheet(model, "Positions × sizes: “a SIZE blue ball in the POSITION”", SIZES, POSITIONS, texts)
    strips = []
    for part, (slot, _) in SHOWN_IN.items():
        others = {"object": "ball", **({"relation2": "and", "object2": "cube"} if part == "relation" else {})}
        texts = [render({**others, slot: word}) for word in SLOT_WORDS[slot]]
        cells = zip(SLOT_WORDS[slot], texts, model.draw(texts))
        strips.append({"slot": part, "cells": [{"word": w, "text": t, "picture": data_uri(p)} for w, t, p in cells]})
    return [colors, positions], strips


def marked(sentence: str, caption: str) -> list[tuple[str, str]]:
    """The caption's words as [(word, fault)]: "" for none, "wrong", or "missing" for a word left out.

    >>> marked("a red ball", "a pink ball")
    [('a', ''), ('pink', 'wrong'), ('ball', '')]
    """
    a, b = sentence.split(), caption.split()
    out = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        out += [(w, "" if kind == "equal" else "wrong") for w in b[k:m]]
        if kind == "delete":
            out += [(w, "missing") for w in a[i:j]]
    return out


def round_trips(model: ModelUnderTest, protocol: Protocol, seed: int, shown: int = 48) -> tuple[list[dict], int, int]:
    """Sentences of every split with their captions, wrong ones first, then those with the lowest probability.

    -> (the `shown` worst with a few of the best, the number of wrong captions, the number of sentences).
    """
    rows = []
    for split in model.splits:
        sentences = list(dict.fromkeys(model.sentences(min(protocol.sentences, 300), split, seed)))
        pictures = model.draw(sentences)
        captions, log_probs = model.read_with_log_probs(pictures)
        for sentence, caption, log_prob, picture in zip(sentences, captions, log_probs, pictures):
            row = {"split": split, "text": sentence, "words": marked(sentence, caption), "picture": picture}
            row |= {"right": is_exact(sentence, caption), "sure": float(np.exp(log_prob)), "log_prob": log_prob}
            rows.append(row)
    wrong = sum(not r["right"] for r in rows)
    rows.sort(key=lambda r: (r["right"], r["log_prob"]))
    kept = rows[: shown - 12] + rows[max(shown - 12, len(rows) - 12) :]
    return [{**r, "picture": data_uri(r["picture"])} for r in kept], wrong, len(rows)


# ---------------------------------------------------------------------------------------------
# Earlier epochs
# ---------------------------------------------------------------------------------------------


def growth(
    model: ModelUnderTest, seed: int, most: int = 24, size: int = 3_000_000
) -> tuple[list[dict], list[str], str]:
    """The same sentences at earlier epochs -> (frames, sentences, the reason if there are no frames).

    From the snapshots of the run, else from earlier checkpoints beside this one. At most `most` frames, and about
    `size` bytes of pictures.
    """
    try:
        kept = snapshots.find(model.name, load(model.name, whole=False))
    except CheckpointError:  # a folder that export.py wrote
        kept = None
    texts, frames = (kept["texts"], kept["frames"]) if kept else _drawn_again(model, seed)
    if len(frames) < 2:
        why = f"Neither {snapshots.NAME} in this run's log folder nor two checkpoint_epoch_N.pt beside this checkpoint"
        return [], texts, f"{why} were found, so earlier epochs cannot be shown."
    frames = snapshots.thin(frames, most)
    largest = max(sum(map(len, f["pictures"])) for f in frames)
    frames = snapshots.thin(frames, max(2, size // largest))
    return [_frame(f, texts) for f in frames], texts, ""


def _frame(kept, texts):
    """An epoch's captions and pictures -> a frame of the page."""
    cells = []
    for text, caption, picture in zip(texts, kept["captions"], kept["pictures"]):
        cells.append({"picture": picture, "words": marked(text, caption), "right": is_exact(text, caption)})
    return {"epoch": kept["epoch"], "right": sum(c["right"] for c in cells), "cells": cells}


def _drawn_again(model, seed, shown=8, most=10):
    """(sentences, frames as `training.snapshots` keeps them) from the run's earlier checkpoints beside this one."""
    folder = Path(model.name).resolve().parent
    found = (re.fullmatch(r"checkpoint_epoch_(\d+)\.pt", p.name) for p in folder.glob("checkpoint_epoch_*.pt"))
    numbered = [{"epoch": int(m[1]), "path": folder / m[0]} for m in found if m]
    texts = list(dict.fromkeys(model.sentences(2 * shown, "test", seed + 8)))[:shown]
    out = []
    for f in snapshots.thin(sorted(numbered, key=lambda f: f["epoch"]), most):
        try:
            state = load(f["path"])
            if settings_of(state, f["path"]) != model.settings or state["vocabulary"] != model.vocab.words:
                continue
            cycle, vocab, _ = model_of(state, f["path"], model.device)
        except (CheckpointError, OSError, KeyError):
            continue
        earlier = dataclasses.replace(model, cycle=cycle, vocab=vocab)
        pictures = earlier.draw(texts)
        captions = earlier.read(pictures)
        out.append({"epoch": f["epoch"], "captions": captions, "pictures": [data_uri(p) for p in pictures]})
    return texts, out


# ---------------------------------------------------------------------------------------------
# Real pictures
# ---------------------------------------------------------------------------------------------


def side_by_side(model: ModelUnderTest, seed: int, shown: int = 16) -> dict:
    """-> {"source", "rows": [(title, [{"picture": data URI, "caption", "probability": that it is a scene}])]}."""
    order = np.random.default_rng([seed, 42]).permutation(len(model.real))
    pictures_in_order = model.real.picture_of_crop[order]
    first = list(dict.fromkeys(pictures_in_order))[:shown]  # a crop of each picture before a second one of any
    crops = [int(order[np.flatnonzero(pictures_in_order == picture)[0]]) for picture in first]
    scenes = model.draw(model.sentences(shown, "test", seed + 12))
    rows = []
    for title, pictures in (("Real pictures", model.real.crops[crops]), ("Scenes", scenes)):
        captions = model.read(pictures)
        probabilities = model.scene_check.probability(unexplained(pictures, model.draw(captions))).tolist()
        cells = zip(pictures, captions, probabilities)
        rows.append((title, [{"picture": data_uri(p), "caption": c, "probability": v} for p, c, v in cells]))
    return {"source": model.real.source, "rows": rows}


# ---------------------------------------------------------------------------------------------
# The whole content
# ---------------------------------------------------------------------------------------------


def page_content(model: ModelUnderTest, protocol: Protocol, seed: int, confusion: dict) -> dict:
    """The pictures of the page, of a model -> a dict for the template.

    confusion: {split: {slot: {"words", "counts"}}}, empty for a captions file. Raises what drawing raises.
    """
    glyphs, sheets, strips = {}, [], []
    if model.lines is None:
        words, means = grammar_words(model, seed, confusion)
        mapped = words
        sheets, strips = grammar_sheets(model)
    else:
        sentences = model.sentences(protocol.sentences, "test", seed)
        pictures = model.draw(sentences)
        readings = readings_of_words(sentences, model.read(pictures))
        common = common_words(model.vocab, sentences)
        if model.cycle.scene_decoder.draws_glyphs:
            words, glyphs = glyph_dictionary(model, readings)
            means = mean_glyphs(model, common)
            mapped = [{"word": w, "slot": "word"} for w in common]
        else:
            words, means = free_words(common, sentences, readings, pictures)
            mapped = words
    trips, wrong, n = round_trips(model, protocol, seed)
    frames, texts, why = growth(model, seed)
    maps, word_classes = word_maps(model, mapped, means, seed)
    return {
        "words": words,
        "glyphs": glyphs,
        "sheets": sheets,
        "strips": strips,
        "trips": trips,
        "wrong": wrong,
        "n_trips": n,
        "frames": frames,
        "frame_texts": texts,
        "no_frames": why,
        "insides": insides(model, seed),
        "interpolation": interpolation(model, seed),
        "word_maps": maps,
        "word_classes": word_classes,
        "quiz": quiz(model, seed) if model.lines is None else None,
        "quiz_filter": color_matrix(),
        "real": side_by_side(model, seed) if model.real else None,
    }
