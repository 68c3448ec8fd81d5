"""What the page shows of a model's insides: where words lie, attention, layers, and the way between two sentences.

Plain dicts for the page's template; a picture is a data URI of its PNG.
"""

import numpy as np
import torch
import torch.nn.functional as F

from channel import round_8bit
from data_utils import EOS, PAD, pad
from pictures import read_pictures, rows_of
from training.snapshots import data_uri
from visualization import gaze_picture, project


def place_labels(points, width=0.032, height=0.085):
    """Set "label" of each point {"x", "y", "word"} in place: whether its word has room beside it.

    width of a letter, height of a line: in the points' unit.
    """
    boxes = [(p["x"] - 0.03, p["x"] + 0.03, p["y"] - 0.04, p["y"] + 0.04) for p in points]
    for i, p in enumerate(points):
        box = (p["x"] + 0.035, p["x"] + 0.035 + width * len(p["word"]), p["y"] - height / 2, p["y"] + height / 2)
        others = boxes[:i] + boxes[i + 1 :]
        p["label"] = not any(box[0] < b[1] and b[0] < box[1] and box[2] < b[3] and b[2] < box[3] for b in others)
        if p["label"]:
            boxes.append(box)


def numbers_of(vocab, word):
    """The numbers of a word as it stands within a sentence."""
    return vocab.encode_unit(f" {word}" if vocab.is_bpe else word.split()[0])


def word_maps(model, words, pictures, seed):
    """PCA and t-SNE of words as the language model knows them, and of what they add to a scene -> (a dict a plot, kinds of words).

    words: n entries of the dictionary; pictures (n, 3, 64, 64) in [0, 1]: their mean scenes. The mean scene of a word's kind
    is subtracted, because kinds stand in different sentences.
    """
    table = model.cycle.language_model.embedding.weight.detach().float().cpu()
    known = torch.stack(
        [table[numbers_of(model.vocab, w["word"])].mean(0) for w in words]
    ).numpy()  # (n, d_model); of a word of several pieces their mean
    kinds = list(dict.fromkeys(w["slot"] for w in words))
    scenes = F.avg_pool2d(pictures, 4).flatten(1).numpy()  # (n, 768)
    kind = np.array([kinds.index(w["slot"]) for w in words])
    added = scenes - np.stack([scenes[kind == k].mean(0) for k in range(len(kinds))])[kind]
    out = []
    for what, vectors in (
        ("the word embeddings of the language model", known),
        ("what each word adds to a scene", added),
    ):
        for how, at in project(vectors, seed).items():
            points = [
                {"x": round(float(x), 3), "y": round(float(y), 3), "word": w["word"], "kind": kinds.index(w["slot"])}
                for (x, y), w in zip(at, words)
            ]
            place_labels(points)
            out.append({"what": what, "how": how, "points": points})
    return out, kinds


def insides(model, seed, shown=3):
    """For a few sentences of 4 to 9 words: the language model's attention and surprisal, the captioner's gaze, the layers."""
    out = []
    for text in model.sentences(40, "test", seed + 9):
        n_words = len(model.vocab.encode_known(text))
        if 4 <= n_words <= 9 and len(out) < shown:
            out.append(_inside(model, text))
    return out


def _inside(model, text):
    cycle = model.cycle
    vocab = model.vocab
    ids = pad(rows_of(vocab, [text], model.max_words)).to(model.device)  # (1, T)
    words = vocab.names(ids[0].tolist())
    with torch.no_grad():
        state = cycle.language_model(ids)
        scene = cycle.draw(ids)
    picture = round_8bit(scene.picture.float())  # (1, 3, 64, 64) in [0, 1]
    read, _, gaze = cycle.caption_network.read(picture)
    captioned = [w for w in read[0].tolist() if w not in (PAD, EOS)]
    return {
        "text": text,
        "words": words,
        "picture": data_uri(picture[0].cpu()),
        "surprisal": state.surprisal[0].tolist(),
        "attention": state.attention[-1][0].mean(0).cpu().tolist(),
        "gaze": [
            {"word": vocab.names([w])[0], "picture": data_uri(gaze_picture(picture[0], g).cpu())}
            for w, g in zip(captioned, gaze[0])
        ],
        "layers": _layers(cycle.scene_decoder, scene, ids, words),
    }


def _layers(decoder, scene, ids, words):
    """The parts of a scene of one sentence, each drawn without the others, with the words that they show; [] for a decoder that
    draws in one piece."""
    if not decoder.has_layers:
        return []
    with torch.no_grad():
        layers = decoder.layers(scene, ids, 0)
    return [{"picture": data_uri(p.cpu()), "words": " ".join(words[i] for i in places)} for p, places in layers]


def _two_sentences(model, seed):
    """A sentence, and the first other one of the same length where there is one."""
    first, *rest = model.sentences(20, "test", seed + 10)
    alike = (s for s in rest if len(s.split()) == len(first.split()) and s != first)
    return first, next(alike, rest[-1] if rest else first)


def interpolation(model, seed, steps=9):
    """Scenes on the straight line between two sentences' latents, and what the captioner reads there; [] for a
    decoder whose latents cannot be reached."""
    cycle, decoder = model.cycle, model.cycle.scene_decoder
    if not decoder.has_layers:
        return []
    t = torch.linspace(0, 1, steps, device=model.device)
    with torch.no_grad():
        rows = (
            pad(rows_of(model.vocab, [sentence], model.max_words)).to(model.device)
            for sentence in _two_sentences(model, seed)
        )
        pictures = round_8bit(decoder.interpolate(*((cycle.draw(ids), ids) for ids in rows), t).float().cpu())
    captions, _ = read_pictures(cycle, model.vocab, pictures, model.device)
    return [{"picture": data_uri(p), "caption": c, "at": round(float(v), 2)} for p, c, v in zip(pictures, captions, t)]
