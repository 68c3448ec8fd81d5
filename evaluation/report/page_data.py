"""What the page shows of a model: its words, sheets, round trips and growth, as plain dicts for its template.

A picture is a data URI of its PNG, so that the page is one file.
"""

import difflib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from checkpoints import CheckpointError, load, model_of, settings_of
from evaluation.measures.color_difference import VISIBLE, color_difference
from evaluation.measures.legibility import FOUR_SLOTS, word_scenes
from evaluation.report.page_glyphs import glyph_dictionary, has_glyphs, mean_glyphs
from evaluation.report.page_inside import insides, interpolation, numbers_of, word_maps
from evaluation.report.quiz import color_matrix, quiz
from pictures import draw_sentences, read_pictures
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
MAX_WORDS = 60  # words of a captions file that get a place on a map, and an entry where there are no marks


# ---------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------


def typical_scenes(scenes, sentences, n=3):
    """The n of some sentences' scenes (c, 3, 64, 64) that are nearest to the mean of all."""
    order = ((scenes - scenes.mean(0)) ** 2).sum((1, 2, 3)).argsort()[:n]
    return [{"picture": data_uri(scenes[i]), "text": sentences[i]} for i in order.tolist()]


def visible_change(a, b):
    """(share in [0, 1] of pixels that change visibly, mean CIE76 difference) between pictures (n, 3, 64, 64), pairwise."""
    difference = color_difference(a, b)
    return float((difference > VISIBLE).float().mean()), float(difference.mean())


def word_readings(confusion):
    """{split: {slot: {"words", "counts"}}} -> {(slot, word): [n, right, Counter of other words]}."""
    out = {}
    for split in confusion.values():
        for slot, matrix in split.items():
            for word, row in zip(matrix["words"], matrix["counts"]):
                n, right, others = out.setdefault((slot, word), [0, 0, Counter()])
                mistaken = {w: c for w, c in zip([*matrix["words"], "another kind of word"], row) if w != word and c}
                out[slot, word] = [n + sum(row), right + row[matrix["words"].index(word)], others + Counter(mistaken)]
    return out


def grammar_words(model, seed, confusion):
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
            out.append({
                "word": word, "slot": part, "mean": data_uri(scenes[i].mean(0)), "typical": typical_scenes(scenes[i], sentences[i]),
                "swaps": [{"picture": data_uri(scenes[j, 0]), "word": words[j], "text": sentences[j][0]} for j in nearest],
                "share": share, "far": far, "n": n, "accuracy": right / n if n else None, "confused": mistaken.most_common(3),
            })  # fmt: skip
            means.append(scenes[i].mean(0))
    return out, torch.stack(means)


def readings_of_words(sentences, captions):
    """Sentences and their captions -> {word: (how often it stands there, how often right, Counter of what else was read)}."""
    read = {}
    for sentence, caption in zip(sentences, captions):
        got = tokenize(caption)
        for k, word in enumerate(tokenize(sentence)):
            read.setdefault(word, Counter())[got[k] if k < len(got) else "(nothing)"] += 1
    return {word: (sum(counts.values()), counts.pop(word, 0), counts) for word, counts in read.items()}


def common_words(vocab, sentences):
    """The most common words of some sentences that the model knows, at most MAX_WORDS: those that stand in most sentences."""
    counts = Counter(w for s in sentences for w in dict.fromkeys(tokenize(s)))
    return [w for w, _ in counts.most_common() if numbers_of(vocab, w)][:MAX_WORDS]


def free_words(common, sentences, readings, pictures):
    """An entry for each of the most common words of a captions file's unseen lines, and their mean scenes. common: of
    `common_words`; readings: of `readings_of_words`."""
    rows = [tokenize(s) for s in sentences]
    out, means = [], []
    for word in common:
        have = [i for i, r in enumerate(rows) if word in r]
        n, right, mistaken = readings[word]
        mean = pictures[have].mean(0)
        share, far = visible_change(mean[None], pictures.mean(0)[None])
        out.append({
            "word": word, "slot": "word", "mean": data_uri(mean), "swaps": [],
            "typical": typical_scenes(pictures[have], [sentences[i] for i in have]),
            "share": share, "far": far, "n": n, "accuracy": right / n if n else None, "confused": mistaken.most_common(3),
        })  # fmt: skip
        means.append(mean)
    return out, torch.stack(means)


# ---------------------------------------------------------------------------------------------
# Sheets and round trips
# ---------------------------------------------------------------------------------------------


def sheet(model, title, rows, columns, texts):
    """Scenes in a table; texts: a list of sentences for each row, one for each column."""
    pictures = iter(model.draw([text for row in texts for text in row]))
    cells = [[{"picture": data_uri(next(pictures)), "text": text} for text in row] for row in texts]
    return {"title": title, "columns": columns, "rows": [{"name": r, "cells": c} for r, c in zip(rows, cells)]}


def grammar_sheets(model):
    """(sheets, strips): colors x objects, positions x sizes; and for each kind of word a strip of what its words set, alone."""
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


def marked(sentence, caption):
    """The caption's words as [(word, what is wrong with it)]: "" right, "wrong", or "missing" for a word left out.

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


def round_trips(model, protocol, seed, shown=48):
    """Sentences of every split there and back, worst first: the wrong ones, then those the captioner was least sure of.

    -> (the `shown` worst with a few of the best, how many were wrong, how many there were).
    """
    rows = []
    for split in model.splits:
        sentences = list(dict.fromkeys(model.sentences(min(protocol.sentences, 300), split, seed)))
        pictures = model.draw(sentences)
        captions, log_probs = read_pictures(model.cycle, model.vocab, pictures, model.device)
        for sentence, caption, log_prob, picture in zip(sentences, captions, log_probs, pictures):
            rows.append(
                {
                    "right": sentence == caption,
                    "sure": float(np.exp(log_prob)),
                    "log_prob": log_prob,
                    "split": split,
                    "text": sentence,
                    "words": marked(sentence, caption),
                    "picture": picture,
                }
            )
    wrong = sum(not r["right"] for r in rows)
    rows.sort(key=lambda r: (r["right"], r["log_prob"]))
    kept = rows[: shown - 12] + rows[max(shown - 12, len(rows) - 12) :]
    return [{**r, "picture": data_uri(r["picture"])} for r in kept], wrong, len(rows)


# ---------------------------------------------------------------------------------------------
# Growth
# ---------------------------------------------------------------------------------------------


def growth(model, seed, most=24, size=3_000_000):
    """The same sentences at earlier epochs -> (frames, sentences, why there are none).

    From what the run kept of every epoch; where that is missing, drawn by the checkpoints that lie beside this one.
    Without noise in both cases. At most `most` frames, and about `size` bytes of pictures.
    """
    try:
        kept = snapshots.find(model.name, load(model.name, whole=False))
    except CheckpointError:  # a folder that export.py wrote
        kept = None
    texts, frames = (kept["texts"], kept["frames"]) if kept else _drawn_again(model, seed)
    if len(frames) < 2:
        why = f"Neither {snapshots.NAME} of this run's log folder nor two checkpoint_epoch_N.pt of it beside this checkpoint"
        return [], texts, f"{why} were found, so its growth cannot be shown."
    frames = snapshots.thin(frames, most)
    largest = max(sum(map(len, f["pictures"])) for f in frames)
    frames = snapshots.thin(frames, max(2, size // largest))
    return [_frame(f, texts) for f in frames], texts, ""


def _frame(kept, texts):
    """An epoch's captions and pictures -> what the page shows of them."""
    cells = []
    for text, caption, picture in zip(texts, kept["captions"], kept["pictures"]):
        cells.append({"picture": picture, "words": marked(text, caption), "right": text == caption})
    return {"epoch": kept["epoch"], "right": sum(c["right"] for c in cells), "cells": cells}


def _drawn_again(model, seed, shown=8, most=10):
    """(sentences, frames as `evolution` keeps them) from the run's earlier checkpoints beside this one."""
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
        pictures = draw_sentences(cycle, vocab, texts, model.device)
        captions, _ = read_pictures(cycle, vocab, pictures, model.device)
        out.append({"epoch": f["epoch"], "captions": captions, "pictures": [data_uri(p) for p in pictures]})
    return texts, out


# ---------------------------------------------------------------------------------------------
# All of it
# ---------------------------------------------------------------------------------------------


def page_content(model, protocol, seed, confusion):
    """What the page's template shows of a ModelUnderTest -> dict.

    confusion: {split: {slot: {"words", "counts"}}}, empty for a captions file. Raises what drawing raises.
    """
    glyphs, sheets, strips = {}, [], []
    if model.lines is None:
        words, means = grammar_words(model, seed, confusion)
        sheets, strips = grammar_sheets(model)
    else:
        sentences = model.sentences(protocol.sentences, "test", seed)
        pictures = model.draw(sentences)
        readings = readings_of_words(sentences, read_pictures(model.cycle, model.vocab, pictures, model.device)[0])
        common = common_words(model.vocab, sentences)
        if has_glyphs(model):
            words, glyphs = glyph_dictionary(model, readings)
            means = mean_glyphs(model, common)
        else:
            words, means = free_words(common, sentences, readings, pictures)
    trips, wrong, n = round_trips(model, protocol, seed)
    frames, texts, why = growth(model, seed)
    mapped = [{"word": w, "slot": "word"} for w in common] if glyphs else words
    maps, kinds = word_maps(model, mapped, means, seed)
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
        "kinds": kinds,
        "quiz": quiz(model, seed) if model.lines is None else None,
        "quiz_filter": color_matrix(),
        "real": side_by_side(model, seed) if model.real else None,
    }


def side_by_side(model, seed, shown=16):
    """Real pictures and scenes with what the model reads in each -> {"source", "rows": [(title, [{"picture": data URI, "caption",
    "probability": that it is a scene}])]}."""
    order = np.random.default_rng([seed, 42]).permutation(len(model.real))
    first = list(dict.fromkeys(model.real.picture_of_crop[order]))[
        :shown
    ]  # a crop of each picture before a second one of any
    crops = [int(order[np.flatnonzero(model.real.picture_of_crop[order] == picture)[0]]) for picture in first]
    rows = []
    scenes = model.draw(model.sentences(shown, "test", seed + 12))
    for title, pictures in (("Real pictures", model.real.crops[crops]), ("Scenes", scenes)):
        captions, _ = read_pictures(model.cycle, model.vocab, pictures, model.device)
        probabilities = model.scene_check.probability(unexplained(pictures, model.draw(captions))).tolist()
        cells = zip(pictures, captions, probabilities)
        rows.append((title, [{"picture": data_uri(p), "caption": c, "probability": v} for p, c, v in cells]))
    return {"source": model.real.source, "rows": rows}
