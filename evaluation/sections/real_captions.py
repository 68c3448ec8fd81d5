"""Do captions of similar real pictures have similar scenes? For captions files that name pictures of a folder."""

from __future__ import annotations

import os
import re

import numpy as np
import torch

import metrics
from captions.reader import CaptionsReader
from evaluation.measures.features import FEATURES, edit_distances
from evaluation.metric import OWN, Metrics
from evaluation.picture_folder import files_of
from evaluation.protocol import ModelUnderTest, Protocol
from pictures import PictureError, from_image, open_picture
from text.vocabulary import normalized

LEAST = 10  # captions, for a correlation
NUMBER_AT_END = re.compile(r"(\d+)$")


def keys_of(path: str) -> list[str]:
    """What a captions file may call a picture file: its name, that without its ending, or the number at its end.

    >>> keys_of("val/COCO_val2014_000000000042.jpg")
    ['COCO_val2014_000000000042.jpg', 'COCO_val2014_000000000042', '42']
    """
    name = os.path.basename(path)
    stem = os.path.splitext(name)[0]
    number = NUMBER_AT_END.search(stem)
    return [name, stem, *([str(int(number[1]))] if number else [])]


def named_pictures(model: ModelUnderTest, folder: str) -> dict[str, str]:
    """{normalized sentence: path of its first picture} in a folder. Raises CaptionsFileError, OSError, UserError."""
    paths = {}
    for path in files_of(folder):
        for key in keys_of(path):
            paths.setdefault(key, path)
    out = {}
    data = model.data
    file = data.files["test"] or data.files["train"]
    for caption in CaptionsReader(file, data.column, data.file_format, or_none=True):
        name = os.path.basename(caption.picture or "")
        key = str(int(name)) if name.isdecimal() else name
        if path := paths.get(key) or paths.get(os.path.splitext(key)[0]):
            out.setdefault(normalized(caption.text), path)
    return out


def one_caption_a_picture(
    model: ModelUnderTest, folder: str, n: int, seed: int
) -> tuple[list[str], list[torch.Tensor]]:
    """At most n unseen sentences and their pictures (3, 64, 64) in [0, 1], each once, without unreadable pictures."""
    paths = named_pictures(model, folder)
    sentences, pictures, used = [], [], set()
    for sentence in model.sentences(len(model.lines), "test", seed):
        path = paths.get(normalized(sentence))
        if path is None or path in used or len(sentences) == n:
            continue
        used.add(path)
        try:
            pictures.append(from_image(open_picture(path)))
            sentences.append(sentence)
        except PictureError:
            continue
    return sentences, pictures


def like_pictures_like_scenes(model: ModelUnderTest, folder: str, protocol: Protocol, seed: int) -> Metrics:
    """Spearman correlation, over pairs of captions, between the distances of their real pictures and of their scenes.
    No metric if fewer than 10 captions have a picture. p is Mantel's."""
    found = Metrics(seed)
    sentences, pictures = one_caption_a_picture(model, folder, protocol.structure, seed)
    if len(sentences) < LEAST:
        return found
    pictures = torch.stack(pictures)
    scenes = model.draw(sentences)
    order = np.random.default_rng([seed, 43]).permutation(len(scenes))
    for id, (label, features) in FEATURES.items():
        real = metrics.pairwise_rmse(features(pictures))
        own = features(scenes)
        rho, p = metrics.topographic_similarity(real, metrics.pairwise_rmse(own), seed, protocol.permutations)
        shuffled = metrics.pairwise_rmse(own[order])
        values = {
            OWN: rho,
            "shuffled_pictures": metrics.topographic_similarity(real, shuffled, permutations=0)[0],
            "edit_distance": metrics.topographic_similarity(real, edit_distances(sentences), permutations=0)[0],
        }
        id = f"real/like_pictures_like_scenes/{id}"
        label = f"like real pictures, like scenes ({label})"
        found.add(id, label, values, len(sentences), low=-1.0, note=f"Mantel p = {p:.3g}")
    return found
