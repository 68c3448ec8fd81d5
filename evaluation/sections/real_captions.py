"""Do captions whose real pictures are alike get scenes that are alike? For captions files that name pictures of a folder."""

import os
import re

import numpy as np
import torch

import metrics
from captions.reader import CaptionsReader
from evaluation.measures.features import FEATURES, edit_distances
from evaluation.metric import metric
from evaluation.picture_folder import files_of
from pictures import PictureError, from_image, open_picture
from text.vocabulary import normalized

LEAST = 10  # captions; a correlation of fewer says nothing
NUMBER_AT_END = re.compile(r"(\d+)$")


def keys_of(path):
    """What a captions file may call a picture file: its name, that without its ending, or the number at its end.

    >>> keys_of("val/COCO_val2014_000000000042.jpg")
    ['COCO_val2014_000000000042.jpg', 'COCO_val2014_000000000042', '42']
    """
    name = os.path.basename(path)
    stem = os.path.splitext(name)[0]
    number = NUMBER_AT_END.search(stem)
    return [name, stem, *([str(int(number[1]))] if number else [])]


def named_pictures(model, folder):
    """{normalized sentence: path of its picture} of a model's captions file and the pictures of a folder; the first of several.
    Raises CaptionsFileError, OSError, UserError."""
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


def one_caption_a_picture(model, folder, n, seed):
    """At most n unseen sentences and their pictures (n, 3, 64, 64) in [0, 1], no picture twice; what cannot be read is left out."""
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


def like_pictures_like_scenes(model, folder, protocol, seed):
    """Spearman correlation, over pairs of captions, of how far apart their real pictures and their scenes are -> metrics; {} for
    fewer than 10 captions with a picture. p is Mantel's."""
    sentences, pictures = one_caption_a_picture(model, folder, protocol.structure, seed)
    if len(sentences) < LEAST:
        return {}
    pictures, scenes = torch.stack(pictures), model.draw(sentences)
    words = edit_distances(sentences)
    order = np.random.default_rng([seed, 43]).permutation(len(scenes))
    found = {}
    for id, (label, features) in FEATURES.items():
        real, own = metrics.pairwise_rmse(features(pictures)), features(scenes)
        rho, p = metrics.topographic_similarity(real, metrics.pairwise_rmse(own), seed, protocol.permutations)
        found |= metric(
            f"real/like_pictures_like_scenes/{id}",
            f"like real pictures, like scenes ({label})",
            rho,
            len(sentences),
            seed,
            baselines={
                "shuffled_pictures": metrics.topographic_similarity(
                    real, metrics.pairwise_rmse(own[order]), permutations=0
                )[0],
                "edit_distance": metrics.topographic_similarity(real, words, permutations=0)[0],
            },
            low=-1.0,
            note=f"Mantel p = {p:.3g}",
        )
    return found
