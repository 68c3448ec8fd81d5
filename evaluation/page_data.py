"""What the page shows of a model: its words, sheets, round trips, growth and insides, as plain dicts.

A picture is a data URI of its PNG, so that the page is one file.
"""

import difflib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from channel import round_8bit
from checkpoints import CheckpointError, build, load, settings_of
from data_utils import PAD, pad
from evaluation.color_difference import VISIBLE, color_difference
from evaluation.language import word_scenes
from pictures import draw_sentences, read_pictures
from text.grammar import COLORS, OBJECTS, POSITIONS, SIZES, SLOT_WORDS, render
from training import snapshots
from training.snapshots import data_uri
from visualization import gaze_picture, project

TEMPLATE_OF = {"size": 3, "color": 3, "object": 3, "position": 3, "background": 4, "action": 5}
CONTEXTS = 12
MAX_WORDS = 60  # words of a captions file that get an entry


# ---------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------


def typical(scenes, sentences, n=3):
    """The n scenes (of (c, 3, 64, 64)) that are nearest to the mean of all."""
    order = ((scenes - scenes.mean(0)) ** 2).sum((1, 2, 3)).argsort()[:n]
    return [{"picture": data_uri(scenes[i]), "text": sentences[i]} for i in order.tolist()]


def change(a, b):
    """(share of pixels that change by more than dE 10, mean dE) between pictures (n, 3, 64, 64) pairwise."""
    difference = color_difference(a, b)
    return float((difference > VISIBLE).float().mean()), float(difference.mean())


def readings(confusion):
    """{slot: {"words", "counts"}} of all splits -> {(slot, word): (n, right, Counter of other words)}; the second
    thing of a sentence counts with the first."""
    out = {}
    for split in confusion.values():
        for slot, matrix in split.items():
            for word, row in zip(matrix["words"], matrix["counts"]):
                n, right, others = out.setdefault((slot.rstrip("2"), word), [0, 0, Counter()])
                mistaken = {w: c for w, c in zip([*matrix["words"], "another kind of word"], row) if w != word and c}
                out[slot.rstrip("2"), word] = [n + sum(row), right + row[matrix["words"].index(word)], others + Counter(mistaken)]
    return out


def grammar_words(subject, seed, confusion):
    """An entry for every word of the grammar's slots, and their mean scenes (n, 3, 64, 64)."""
    read, out, means = readings(confusion), [], []
    for slot, template in TEMPLATE_OF.items():
        scenes, sentences = word_scenes(subject.draw, slot, seed, CONTEXTS, template)
        words = SLOT_WORDS[slot]
        for i, word in enumerate(words):
            others = [j for j in range(len(words)) if j != i]
            kept = scenes[i].repeat(len(others), 1, 1, 1)
            share, far = change(kept, scenes[others].flatten(0, 1))
            n, right, mistaken = read.get((slot, word), (0, 0, Counter()))
            nearest = [i, *(others[(i + k) % len(others)] for k in range(min(7, len(others))))]
            out.append({
                "word": word, "slot": slot, "mean": data_uri(scenes[i].mean(0)), "typical": typical(scenes[i], sentences[i]),
                "swaps": [{"picture": data_uri(scenes[j, 0]), "word": words[j], "text": sentences[j][0]} for j in nearest],
                "share": share, "far": far, "n": n, "accuracy": right / n if n else None, "confused": mistaken.most_common(3),
            })  # fmt: skip
            means.append(scenes[i].mean(0))
    return out, torch.stack(means)


def free_words(subject, sentences, captions, pictures):
    """An entry for each of the most common words of a captions file's unseen lines, and their mean scenes."""
    rows = [s.split() for s in sentences]
    common = [w for w, _ in Counter(w for r in rows for w in set(r)).most_common(MAX_WORDS)]
    out, means = [], []
    for word in common:
        have = [i for i, r in enumerate(rows) if word in r]
        read = Counter()
        for i in have:
            got = captions[i].split()
            read.update(got[k] if k < len(got) else "(nothing)" for k, w in enumerate(rows[i]) if w == word)
        n, right = sum(read.values()), read.pop(word, 0)
        mean = pictures[have].mean(0)
        share, far = change(mean[None], pictures.mean(0)[None])
        out.append({
            "word": word, "slot": "word", "mean": data_uri(mean), "swaps": [],
            "typical": typical(pictures[have], [sentences[i] for i in have]),
            "share": share, "far": far, "n": n, "accuracy": right / n if n else None, "confused": read.most_common(3),
        })  # fmt: skip
        means.append(mean)
    return out, torch.stack(means)


# ---------------------------------------------------------------------------------------------
# Sheets and round trips
# ---------------------------------------------------------------------------------------------


def sheet(subject, title, rows, columns, text_of):
    texts = [[text_of(r, c) for c in columns] for r in rows]
    pictures = subject.draw(sum(texts, []))
    cells = [
        [{"picture": data_uri(pictures[i * len(columns) + j]), "text": t} for j, t in enumerate(row)] for i, row in enumerate(texts)
    ]
    return {"title": title, "columns": columns, "rows": [{"name": r, "cells": c} for r, c in zip(rows, cells)]}


def grammar_sheets(subject):
    """Colours x objects, positions x sizes, and strips in which one word at a time is swapped."""
    base = {"size": "large", "color": "blue", "object": "ball", "position": "left"}
    sheets = [
        sheet(subject, "Colors × objects: “a COLOR OBJECT”", OBJECTS, COLORS, lambda o, c: render(0, {"color": c, "object": o})),
        sheet(
            subject, "Positions × sizes: “a SIZE blue ball in the POSITION”", SIZES, POSITIONS,
            lambda s, p: render(3, {**base, "size": s, "position": p}),
        ),
    ]  # fmt: skip
    strips = []
    for slot in base:
        texts = [render(3, {**base, slot: w}) for w in SLOT_WORDS[slot]]
        pictures = subject.draw(texts)
        strips.append(
            {
                "slot": slot,
                "cells": [{"word": w, "text": t, "picture": data_uri(p)} for w, t, p in zip(SLOT_WORDS[slot], texts, pictures)],
            }
        )
    return sheets, strips


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


def round_trips(subject, plan, seed, shown=48):
    """Sentences of every split there and back, worst first: the wrong ones, then those the reader was least sure of."""
    rows = []
    for split in subject.splits:
        sentences = list(dict.fromkeys(subject.sentences(min(plan.sentences, 300), split, seed)))
        pictures = subject.draw(sentences)
        captions, log_probs = read_pictures(subject.circle, subject.vocab, pictures, subject.device)
        rows += [(a == b, lp, split, a, b, p) for a, b, lp, p in zip(sentences, captions, log_probs, pictures)]
    wrong = sum(not r[0] for r in rows)
    rows.sort(key=lambda r: (r[0], r[1]))
    kept = rows[: shown - 12] + rows[max(shown - 12, len(rows) - 12) :]  # the worst, and a few of the best
    out = [
        {
            "right": r[0],
            "sure": float(np.exp(r[1])),
            "split": r[2],
            "text": r[3],
            "words": marked(r[3], r[4]),
            "picture": data_uri(r[5]),
        }
        for r in kept
    ]
    return out, wrong, len(rows)


# ---------------------------------------------------------------------------------------------
# Growth
# ---------------------------------------------------------------------------------------------


def growth(subject, seed, most=24, size=3_000_000):
    """The same sentences at earlier epochs -> (frames, sentences, why there are none).

    From what the run kept of every epoch; where that is missing, drawn by the checkpoints that lie beside this one.
    Without noise in both cases. At most `most` frames, and about `size` bytes of pictures.
    """
    try:
        kept = snapshots.find(subject.name, load(subject.name, whole=False))
    except CheckpointError:  # a folder that export.py wrote
        kept = None
    texts, frames = (kept["texts"], kept["frames"]) if kept else _drawn_again(subject, seed)
    if len(frames) < 2:
        why = f"Neither {snapshots.NAME} of this run's log folder nor two checkpoint_epoch_N.pt of it beside this checkpoint"
        return [], texts, f"{why} were found, so its growth cannot be shown."
    frames = snapshots.thin(frames, most)
    largest = max(sum(map(len, f["pictures"])) for f in frames)
    frames = snapshots.thin(frames, max(2, size // largest))
    return (
        [
            {
                "epoch": f["epoch"],
                "right": sum(t == c for t, c in zip(texts, f["captions"])),
                "cells": [
                    {"picture": p, "words": marked(t, c), "right": t == c} for t, c, p in zip(texts, f["captions"], f["pictures"])
                ],
            }
            for f in frames
        ],
        texts,
        "",
    )


def _drawn_again(subject, seed, shown=8, most=10):
    """(sentences, frames as `evolution` keeps them) from the run's earlier checkpoints beside this one."""
    folder = Path(subject.name).resolve().parent
    found = (re.fullmatch(r"checkpoint_epoch_(\d+)\.pt", p.name) for p in folder.glob("checkpoint_epoch_*.pt"))
    numbered = [{"epoch": int(m[1]), "path": folder / m[0]} for m in found if m]
    texts, out = list(dict.fromkeys(subject.sentences(2 * shown, "test", seed + 8)))[:shown], []
    for f in snapshots.thin(sorted(numbered, key=lambda f: f["epoch"]), most):
        try:
            state = load(f["path"])
            if settings_of(state, f["path"]) != subject.settings or state["vocabulary"] != subject.vocab.words:
                continue
            circle, vocab, _ = build(state, f["path"], subject.device)
        except (CheckpointError, OSError, KeyError):
            continue
        pictures = draw_sentences(circle, vocab, texts, subject.device)
        captions, _ = read_pictures(circle, vocab, pictures, subject.device)
        out.append({"epoch": f["epoch"], "captions": captions, "pictures": [data_uri(p) for p in pictures]})
    return texts, out


# ---------------------------------------------------------------------------------------------
# Inside
# ---------------------------------------------------------------------------------------------


def label(points, width=0.032, height=0.085):
    """Mark in place the points whose word has room beside it; width of a letter and height of a line, in the points' unit."""
    boxes = [(p["x"] - 0.03, p["x"] + 0.03, p["y"] - 0.04, p["y"] + 0.04) for p in points]
    for i, p in enumerate(points):
        box = (p["x"] + 0.035, p["x"] + 0.035 + width * len(p["word"]), p["y"] - height / 2, p["y"] + height / 2)
        others = boxes[:i] + boxes[i + 1 :]
        p["label"] = not any(box[0] < b[1] and b[0] < box[1] and box[2] < b[3] and b[2] < box[3] for b in others)
        if p["label"]:
            boxes.append(box)


def spaces(subject, words, pictures, seed):
    """PCA and t-SNE of words as the language model knows them, and of what they add to a scene -> a dict a plot.

    words: entries of the dictionary; pictures (n, 3, 64, 64): their mean scenes. The mean scene of a word's kind is taken
    off, because kinds stand in different sentences.
    """
    rows = [subject.vocab.index[w["word"]] for w in words]
    known = subject.circle.language_model.embedding.weight[rows].detach().float().cpu().numpy()
    kinds = list(dict.fromkeys(w["slot"] for w in words))
    seen = F.avg_pool2d(pictures, 4).flatten(1).numpy()
    kind = np.array([kinds.index(w["slot"]) for w in words])
    added = seen - np.stack([seen[kind == k].mean(0) for k in range(len(kinds))])[kind]
    out = []
    for what, vectors in (("the word embeddings of the language model", known), ("what each word adds to a scene", added)):
        for how, at in project(vectors, seed).items():
            points = [
                {"x": round(float(x), 3), "y": round(float(y), 3), "word": w["word"], "kind": kinds.index(w["slot"])}
                for (x, y), w in zip(at, words)
            ]
            label(points)
            out.append({"what": what, "how": how, "points": points})
    return out, kinds


def insides(subject, seed, shown=3):
    """For some sentences: attention of the language model, words on sprites, the reader's gaze, the layers."""
    circle, vocab, out = subject.circle, subject.vocab, []
    decoder = circle.scene_decoder
    for text in subject.sentences(40, "test", seed + 9):
        words = vocab.decode(vocab.encode(text)).split()
        if len(out) == shown or not 4 <= len(words) <= 9:
            continue
        ids = pad([vocab.encode(text)]).to(subject.device)
        with torch.no_grad():
            state = circle.language_model(ids)
            scene = circle.draw(ids)
        picture = round_8bit(scene.picture.float())
        read, _, gaze = circle.caption_network.read(picture)
        got = [w for w in read[0].tolist() if w not in (0, 2)]
        entry = {
            "text": text, "words": words, "picture": data_uri(picture[0].cpu()), "surprisal": state.surprisal[0].tolist(),
            "attention": state.attention[-1][0].mean(0).cpu().tolist(),
            "gaze": [{"word": vocab.words[w], "picture": data_uri(gaze_picture(picture[0], g).cpu())} for w, g in zip(got, gaze[0])],
            "layers": [],
        }  # fmt: skip
        if scene.masks is not None:
            for k in range(scene.masks.shape[1]):
                if float(scene.presence[0, k]) > 0.5:
                    alone = torch.zeros_like(scene.masks)
                    alone[:, k] = scene.masks[:, k]
                    with torch.no_grad():
                        layer = decoder.compose(alone, scene.colors)[0].cpu()
                    share = scene.attention[0, k]
                    entry["layers"].append(
                        {
                            "picture": data_uri(layer),
                            "word": words[int(share.argmax())],
                            "share": float(share.max()),
                            "sprite": k + 1,
                        }
                    )
        out.append(entry)
    return out


def interpolation(subject, seed, steps=9):
    """Scenes on the straight line between two sentences' latents, and what the reader reads there; [] for a
    decoder whose latents cannot be reached."""
    circle, decoder = subject.circle, subject.circle.scene_decoder
    sentences = subject.sentences(20, "test", seed + 10)
    pair = (
        sentences[0],
        next((s for s in sentences[1:] if len(s.split()) == len(sentences[0].split()) and s != sentences[0]), sentences[-1]),
    )
    if not hasattr(decoder, "encode") or not hasattr(decoder, "paint"):
        return []
    with torch.no_grad():
        ends = []
        for sentence in pair:
            ids = pad([subject.vocab.encode(sentence)]).to(subject.device)
            mu, _, _, presence, _ = decoder.encode(circle.language_model(ids), ids != PAD)
            ends.append((mu, presence))
        t = torch.linspace(0, 1, steps, device=subject.device)[:, None, None]
        mu = (1 - t) * ends[0][0] + t * ends[1][0]
        presence = (1 - t[..., 0]) * ends[0][1] + t[..., 0] * ends[1][1]
        pictures = round_8bit(decoder.compose(*decoder.paint(mu, presence)).float().cpu())
    captions, _ = read_pictures(circle, subject.vocab, pictures, subject.device)
    return [{"picture": data_uri(p), "caption": c, "at": round(float(v), 2)} for p, c, v in zip(pictures, captions, t.flatten())]


def collect(subject, plan, seed, confusion):
    """Everything of this file -> dict for the page's template."""
    grammar = subject.lines is None
    if grammar:
        words, means = grammar_words(subject, seed, confusion)
        sheets, strips = grammar_sheets(subject)
    else:
        sentences = subject.sentences(plan.sentences, "test", seed)
        pictures = subject.draw(sentences)
        captions, _ = read_pictures(subject.circle, subject.vocab, pictures, subject.device)
        words, means = free_words(subject, sentences, captions, pictures)
        sheets, strips = [], []
    trips, wrong, n = round_trips(subject, plan, seed)
    frames, texts, why = growth(subject, seed)
    plots, kinds = spaces(subject, words, means, seed)
    return {
        "words": words, "sheets": sheets, "strips": strips, "trips": trips, "wrong": wrong, "n_trips": n, "frames": frames,
        "frame_texts": texts, "no_frames": why, "insides": insides(subject, seed), "interpolation": interpolation(subject, seed),
        "spaces": plots, "kinds": kinds,
    }  # fmt: skip
