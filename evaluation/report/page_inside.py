"""The insides of a model on the page: maps of words, attention, layers, and interpolation between two sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from channel import round_8bit
from evaluation.protocol import ModelUnderTest
from text.vocabulary import EOS, PAD
from training.snapshots import data_uri
from visualization import gaze_picture, project


def place_labels(points: list[dict], width: float = 0.032, height: float = 0.085) -> None:
    """Set "label" of each point {"x", "y", "word"}: is there room for its word? width of a letter, height of a line."""
    boxes = [(p["x"] - 0.03, p["x"] + 0.03, p["y"] - 0.04, p["y"] + 0.04) for p in points]
    for i, p in enumerate(points):
        box = (p["x"] + 0.035, p["x"] + 0.035 + width * len(p["word"]), p["y"] - height / 2, p["y"] + height / 2)
        others = boxes[:i] + boxes[i + 1 :]
        p["label"] = not any(box[0] < b[1] and b[0] < box[1] and box[2] < b[3] and b[2] < box[3] for b in others)
        if p["label"]:
            boxes.append(box)


def ids_of_word(vocab: Any, word: str) -> list[int]:
    """The token ids of a word within a sentence."""
    return vocab.encode_unit(f" {word}" if vocab.is_bpe else word.split()[0])


def word_maps(
    model: ModelUnderTest, words: list[dict], pictures: torch.Tensor, seed: int
) -> tuple[list[dict], list[str]]:
    """PCA and t-SNE of the word embeddings of the language model, and of the effects of words on a scene -> (a dict a
    plot, word classes).

    words: n entries of the dictionary; pictures (n, 3, 64, 64) in [0, 1]: their mean scenes. The mean scene of a word's
    class is subtracted, because classes occur in different sentences.
    """
    table = model.cycle.language_model.embedding.weight.detach().float().cpu()
    ids = [ids_of_word(model.vocab, w["word"]) for w in words]
    embeddings = torch.stack([table[row].mean(0) for row in ids]).numpy()  # (n, d_model), the mean over tokens
    word_classes = list(dict.fromkeys(w["slot"] for w in words))
    class_of = np.array([word_classes.index(w["slot"]) for w in words])
    scenes = F.avg_pool2d(pictures, 4).flatten(1).numpy()  # (n, 768)
    effects = scenes - np.stack([scenes[class_of == k].mean(0) for k in range(len(word_classes))])[class_of]
    out = []
    of = {"the word embeddings of the language model": embeddings, "the effects of words on a scene": effects}
    for what, vectors in of.items():
        for how, at in project(vectors, seed).items():
            points = [
                {"x": round(float(x), 3), "y": round(float(y), 3), "word": w["word"], "word_class": int(k)}
                for (x, y), w, k in zip(at, words, class_of)
            ]
            place_labels(points)
            out.append({"what": what, "how": how, "points": points})
    return out, word_classes


def insides(model: ModelUnderTest, seed: int, shown: int = 3) -> list[dict]:
    """For sentences of 4 to 9 words: the language model's attention and surprisal, the captioner's gaze, layers."""
    out = []
    for text in model.sentences(40, "test", seed + 9):
        n_words = len(model.vocab.encode_known(text))
        if 4 <= n_words <= 9 and len(out) < shown:
            out.append(_inside(model, text))
    return out


def _inside(model, text):
    cycle = model.cycle
    vocab = model.vocab
    [ids] = model.ids([text])  # (1, T)
    words = vocab.names(ids[0].tolist())
    with torch.no_grad():
        state = cycle.language_model(ids)
        scene = cycle.draw(ids)
        log_probs = cycle.language_model.logits(state.hidden).log_softmax(-1)[0, :-1]  # (T, V)
    surprisal = -log_probs.gather(1, ids[0, :, None])[:, 0]  # (T,) nats
    picture = round_8bit(scene.picture.float())  # (1, 3, 64, 64) in [0, 1]
    reading = cycle.caption_network.read(picture)
    captioned = [w for w in reading.ids[0].tolist() if w not in (PAD, EOS)]
    return {
        "text": text,
        "words": words,
        "picture": data_uri(picture[0].cpu()),
        "surprisal": surprisal.tolist(),
        "attention": state.attention[-1][0].mean(0).cpu().tolist(),
        "gaze": [
            {"word": vocab.names([w])[0], "picture": data_uri(gaze_picture(picture[0], g).cpu())}
            for w, g in zip(captioned, reading.attention[0])
        ],
        "layers": _layers(cycle.scene_decoder, scene, ids, words),
    }


def _layers(decoder, scene, ids, words):
    """The parts of a scene of one sentence, each alone, with their words; [] for a decoder without layers."""
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


def interpolation(model: ModelUnderTest, seed: int, steps: int = 9) -> list[dict]:
    """Scenes between the latents of two sentences, and their captions; [] for a decoder without layers."""
    cycle, decoder = model.cycle, model.cycle.scene_decoder
    if not decoder.has_layers:
        return []
    t = torch.linspace(0, 1, steps, device=model.device)
    with torch.no_grad():
        ends = [(cycle.draw(ids), ids) for text in _two_sentences(model, seed) for ids in model.ids([text])]
        pictures = round_8bit(decoder.interpolate(*ends, t).float().cpu())
    captions = model.read(pictures)
    return [{"picture": data_uri(p), "caption": c, "at": round(float(v), 2)} for p, c, v in zip(pictures, captions, t)]
