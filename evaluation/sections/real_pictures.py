"""The section about real pictures: how scenes differ from them, and whether a model tells them from its scenes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import metrics
from evaluation.measures import picture_statistics, robustness
from evaluation.measures.features import random_features
from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, Protocol
from evaluation.sections.real_captions import like_pictures_like_scenes
from scene_check import unexplained

Readings = dict[str, np.ndarray]

BLOCK = 16  # px, the side of the squares of a scene that are shuffled
CORRUPTED = {id: robustness.STANDARD[id] for id in ("jpeg_50", "blur_1", "noise_0.1")}  # of scenes that must still pass
AT = (0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 1.0)  # quantiles of a distribution

STATISTICS = {  # id: (label, lowest, highest)
    "spectral_slope": ("spectral slope", None, None),
    "total_variation": ("total variation", 0.0, 1.0),
    "colors": ("effective number of colors", 1.0, 512.0),
    "regions": ("regions of 8 px or more", 0.0, 512.0),
    "edges": ("neighboring pixels with an edge between them (ΔE > 10)", 0.0, 1.0),
    "foreground": ("share of the picture that is foreground", 0.0, 1.0),
    "objects": ("objects that differ from the border's colors", 0.0, 200.0),
    "contrast": ("foreground against background, ΔE", 0.0, 250.0),
}
SETS = {  # pictures beside the model's own scenes
    "real_pictures": "real pictures",
    "white_noise": "white noise",
    "shuffled_blocks": "own scenes, cut into squares of 16 px and shuffled",
    "random_decoder": "scenes of a random scene decoder",
    "hand_made": "pictures of the hand-made renderer",
    "other_models": "scenes of the other checkpoints",
}


def name_of(id: str) -> str:
    """The label of a set of pictures, by its id in the section's details.

    >>> name_of("this_model/jpeg_50"), name_of("white_noise")
    ('own scenes after jpeg 50', 'white noise')
    """
    name, _, corruption = id.partition("/")
    return SETS.get(name, "own scenes") + (f" after {corruption.replace('_', ' ')}" if corruption else "")


def shuffled_blocks(pictures: torch.Tensor, rng: torch.Generator, side: int = BLOCK) -> torch.Tensor:
    """Pictures (n, 3, h, w) cut into squares of `side` px that are put together in another order."""
    squares = pictures.unfold(2, side, side).unfold(3, side, side)  # (n, 3, rows, columns, side, side)
    rows, columns = squares.shape[2:4]
    orders = [torch.randperm(rows * columns, generator=rng) for _ in pictures]
    mixed = torch.stack([one.flatten(1, 2)[:, order] for one, order in zip(squares, orders)])
    return mixed.unflatten(2, (rows, columns)).transpose(3, 4).reshape(pictures.shape)


def statistics_of(pictures: torch.Tensor) -> dict[str, float]:
    """Pictures (n, 3, 64, 64) in [0, 1] -> {id of STATISTICS: mean over the pictures}."""
    foreground, objects, contrast = picture_statistics.foreground_and_background(pictures)
    of_each = {
        "colors": picture_statistics.number_of_colors(pictures),
        "regions": picture_statistics.number_of_regions(pictures),
        "edges": picture_statistics.edge_density(pictures),
        "foreground": foreground,
        "objects": objects,
        "contrast": contrast,
    }
    of_all = {"spectral_slope": metrics.spectral_slope, "total_variation": metrics.total_variation}
    out = {id: statistic(pictures.numpy()) for id, statistic in of_all.items()}
    return out | {id: float(values.mean()) for id, values in of_each.items()}


def pictures_beside(
    model: ModelUnderTest, sentences: list[str], own: torch.Tensor, seed: int
) -> dict[str, torch.Tensor]:
    """{id of SETS: pictures (n, 3, 64, 64) in [0, 1]}, and the model's own scenes first, under OWN."""
    rng = torch.Generator().manual_seed(seed)
    out = {
        OWN: own,
        "real_pictures": model.real.crops,
        "white_noise": (torch.rand(own.shape, generator=rng) * 255).round() / 255,
        "shuffled_blocks": shuffled_blocks(own, rng),
    }
    out |= {name: baseline.draw(sentences) for name, baseline in model.baselines(seed).items()}
    if model.others:
        out["other_models"] = torch.cat([other.draw(sentences) for other in model.others])
    return out


def kernel_distances(pictures: dict[str, torch.Tensor], picture_of_crop: np.ndarray) -> dict[str, float]:
    """{id: pictures}, which picture each real crop is of -> {id: squared distance of a set from the real pictures;
    "real_halves", "own_halves": of two halves of one set}. Halves of the real pictures have no picture in common."""
    features = {name: random_features(some) for name, some in pictures.items()}
    real = features["real_pictures"]
    odd = picture_of_crop % 2 == 1
    out = {name: metrics.kernel_distance(real, some) for name, some in features.items() if name != "real_pictures"}
    out["real_halves"] = metrics.kernel_distance(real[odd], real[~odd])
    out["own_halves"] = metrics.kernel_distance(features[OWN][::2], features[OWN][1::2])
    return out


def readings_of(model: ModelUnderTest, pictures: torch.Tensor) -> Readings:
    """Pictures (n, 3, 64, 64) -> {"log_prob", "log_prob_per_word", "unexplained", "probability": each (n,)}."""
    captions, log_probs = model.read_with_log_probs(pictures)
    words = np.array([len(row) + 1 for row in map(model.vocab.encode_known, captions)])  # the end token counts
    left = unexplained(pictures, model.draw(captions)).numpy()
    return {
        "log_prob": np.array(log_probs),
        "log_prob_per_word": np.array(log_probs) / words,
        "unexplained": left,
        "probability": model.scene_check.probability(torch.from_numpy(left)).numpy(),
    }


def area(own: np.ndarray, others: np.ndarray) -> float:
    """Area under the ROC curve (Hanley & McNeil 1982): how often a value of `own` is above one of `others`."""
    return float(roc_auc_score(np.repeat([1, 0], [len(own), len(others)]), np.concatenate([own, others])))


def _add_auroc(found, own, corrupted, readings):
    """Add how well own scenes, also {corruption: corrupted ones}, differ from {id of SETS: others}, all Readings."""
    pairs = [(name, OWN, name, own) for name in readings]
    pairs += [(f"real_pictures/{kind}", f"{OWN}/{kind}", "real_pictures", scenes) for kind, scenes in corrupted.items()]
    for id, of_scenes, group, scenes in pairs:
        others = readings[group]
        values = {OWN: area(-scenes["unexplained"], -others["unexplained"]), "chance": 0.5}
        values |= {name: area(scenes[name], others[name]) for name in ("log_prob", "log_prob_per_word")}
        label = f"AUROC, {name_of(of_scenes)} against {name_of(group)}"
        n = len(scenes["log_prob"]) + len(others["log_prob"])
        found.add(f"real/auroc/{id}", label, values, n, better="high", group=group)


def _add_taken_for_scenes(found, readings):
    """Add the share of each set, {id: Readings}, whose scene probability is at least 1 / 2."""
    shares = {name: float((r["probability"] >= 0.5).mean()) for name, r in readings.items()}
    for name, value in shares.items():
        is_own = name.startswith(OWN)
        beside = {"real_pictures": shares["real_pictures"]} if is_own else {"own_scenes": shares[OWN]}
        label = f"taken for a scene: {name_of(name)}"
        better = "high" if is_own else "low"
        n = len(readings[name]["probability"])
        found.add(f"real/taken_for_scene/{name}", label, {OWN: value, **beside}, n, better=better, group=name)


def real_pictures_section(
    model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]
) -> dict:
    """Statistics of scenes and of real pictures, and how well the model tells its scenes from other pictures."""
    found = Metrics(seed)
    sentences = model.sentences(protocol.real, "test", seed + 11)
    own = model.draw(sentences)
    n = len(own)
    pictures = pictures_beside(model, sentences, own, seed)
    values = {name: statistics_of(some) for name, some in pictures.items() if name != "other_models"}
    advance(0.3)
    for id, (label, low, high) in STATISTICS.items():
        found.add(f"real/{id}", label, {name: value[id] for name, value in values.items()}, n, low=low, high=high)
    apart = kernel_distances(pictures, model.real.picture_of_crop)
    label = "kernel distance from real pictures, random features"
    found.add("real/kernel_distance", label, apart, n + len(model.real), low=None, high=None, better="low")
    advance(0.1)
    readings = {}
    for name, some in pictures.items():
        readings[name] = readings_of(model, some)
        advance(0.5 / len(pictures))
    own_readings = readings.pop(OWN)
    corrupted = {id: readings_of(model, robustness.corrupt(own, *c, seed)) for id, c in CORRUPTED.items()}
    _add_auroc(found, own_readings, corrupted, readings)
    of_sets = {OWN: own_readings, **{f"{OWN}/{kind}": r for kind, r in corrupted.items()}, **readings}
    _add_taken_for_scenes(found, of_sets)
    if model.lines is not None and model.real.folder:
        found |= like_pictures_like_scenes(model, model.real.folder, protocol, seed)
    quantiles = {name: {id: np.quantile(v, AT).tolist() for id, v in r.items()} for name, r in of_sets.items()}
    names = {name: name_of(name) for name in quantiles}
    details = {"at": list(AT), "quantiles": quantiles, "names": names, "source": model.real.source}
    return {"metrics": found, "details": details}
