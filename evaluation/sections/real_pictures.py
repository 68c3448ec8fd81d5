"""The section about real pictures: how scenes differ from them, and whether a model knows that they are no scenes of its own."""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import metrics
from evaluation.measures import picture_statistics, robustness
from evaluation.measures.features import random_features
from evaluation.metric import OWN, metric
from evaluation.sections.real_captions import like_pictures_like_scenes
from pictures import read_pictures
from scene_check import unexplained

BLOCK = 16  # px, the side of the squares of a scene that are shuffled
CORRUPTED = {
    id: robustness.STANDARD[id] for id in ("jpeg_50", "blur_1", "noise_0.1")
}  # scenes that must still count as scenes
AT = (0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 1.0)  # quantiles of a distribution that are told

STATISTICS = {  # id: (label, lowest, highest)
    "spectral_slope": ("spectral slope", None, None),
    "total_variation": ("total variation", 0.0, 1.0),
    "colors": ("effective number of colors", 1.0, 512.0),
    "regions": ("regions of 8 px or more", 0.0, 512.0),
    "edges": ("neighboring pixels with an edge between them (ΔE > 10)", 0.0, 1.0),
    "figure": ("share of the picture that is figure", 0.0, 1.0),
    "things": ("things that stand out from the border's tones", 0.0, 200.0),
    "contrast": ("figure against ground, ΔE", 0.0, 250.0),
}
SETS = {  # pictures beside the model's own scenes
    "real_pictures": "real pictures",
    "white_noise": "white noise",
    "shuffled_blocks": "own scenes, cut into squares of 16 px and shuffled",
    "random_decoder": "scenes of a random scene decoder",
    "hand_made": "pictures of the hand-made renderer",
    "other_models": "scenes of the other checkpoints",
}


def shuffled_blocks(pictures, rng, side=BLOCK):
    """Pictures (n, 3, h, w) cut into squares of `side` px that are put together in another order; rng: torch Generator."""
    squares = pictures.unfold(2, side, side).unfold(3, side, side)  # (n, 3, rows, columns, side, side)
    rows, columns = squares.shape[2:4]
    orders = [torch.randperm(rows * columns, generator=rng) for _ in pictures]
    mixed = torch.stack([one.flatten(1, 2)[:, order] for one, order in zip(squares, orders)])
    return mixed.unflatten(2, (rows, columns)).transpose(3, 4).reshape(pictures.shape)


def statistics_of(pictures):
    """Pictures (n, 3, 64, 64) in [0, 1] -> {id of STATISTICS: mean over the pictures}."""
    figure, things, contrast = picture_statistics.figure_and_ground(pictures)
    return {
        "spectral_slope": metrics.spectral_slope(pictures.numpy()),
        "total_variation": metrics.total_variation(pictures.numpy()),
        "colors": float(picture_statistics.number_of_colors(pictures).mean()),
        "regions": float(picture_statistics.number_of_regions(pictures).mean()),
        "edges": float(picture_statistics.edge_density(pictures).mean()),
        "figure": float(figure.mean()),
        "things": float(things.mean()),
        "contrast": float(contrast.mean()),
    }


def pictures_beside(model, sentences, own, seed):
    """{id of SETS: pictures (n, 3, 64, 64) in [0, 1]}, and the model's own scenes first, under OWN."""
    rng = torch.Generator().manual_seed(seed)
    drawn = model.draw_with_baselines(sentences, seed)
    out = {
        OWN: own,
        "real_pictures": model.real.crops,
        "white_noise": (torch.rand(own.shape, generator=rng) * 255).round() / 255,
        "shuffled_blocks": shuffled_blocks(own, rng),
        "random_decoder": drawn["random_decoder"],
    }
    if "hand_made" in drawn:
        out["hand_made"] = drawn["hand_made"]
    if model.others:
        out["other_models"] = torch.cat([other.draw(sentences) for other in model.others])
    return out


def kernel_distances(pictures, picture_of_crop):
    """{id: pictures}, which picture each real crop is of -> {id: squared distance of a set from the real pictures; "real_halves",
    "own_halves": of two halves of one set}. Halves of the real pictures have no picture in common."""
    features = {name: random_features(some) for name, some in pictures.items()}
    real = features["real_pictures"]
    odd = picture_of_crop % 2 == 1
    out = {name: metrics.kernel_distance(real, some) for name, some in features.items() if name != "real_pictures"}
    out["real_halves"] = metrics.kernel_distance(real[odd], real[~odd])
    out["own_halves"] = metrics.kernel_distance(features[OWN][::2], features[OWN][1::2])
    return out


def readings_of(model, pictures):
    """What the model says of pictures (n, 3, 64, 64), and how sure it is -> {"log_prob", "log_prob_per_word", "unexplained",
    "probability": each (n,)}."""
    captions, log_probs = read_pictures(model.cycle, model.vocab, pictures, model.device)
    words = np.array([len(row) + 1 for row in map(model.vocab.encode_known, captions)])  # the end mark counts
    left = unexplained(pictures, model.draw(captions)).numpy()
    return {
        "log_prob": np.array(log_probs),
        "log_prob_per_word": np.array(log_probs) / words,
        "unexplained": left,
        "probability": model.scene_check.probability(torch.from_numpy(left)).numpy(),
    }


def area(own, others):
    """Area under the ROC curve (Hanley & McNeil 1982): how often one of its own has a higher value than one of the others."""
    return float(roc_auc_score(np.repeat([1, 0], [len(own), len(others)]), np.concatenate([own, others])))


def told_apart(own, readings, corrupted, seed):
    """Readings of own scenes, {id of SETS: readings}, {corruption: readings of own scenes after it} -> metrics."""
    found = {}
    pairs = [(name, OWN, name, own) for name in readings]
    pairs += [(f"real_pictures/{kind}", f"{OWN}/{kind}", "real_pictures", scenes) for kind, scenes in corrupted.items()]
    for id, subject, group, scenes in pairs:
        others = readings[group]
        found |= metric(
            f"real/auroc/{id}",
            f"AUROC, {name_of(subject)} against {name_of(group)}",
            area(-scenes["unexplained"], -others["unexplained"]),
            len(scenes["log_prob"]) + len(others["log_prob"]),
            seed,
            baselines={
                "chance": 0.5,
                "log_prob": area(scenes["log_prob"], others["log_prob"]),
                "log_prob_per_word": area(scenes["log_prob_per_word"], others["log_prob_per_word"]),
            },
            better="high",
            group=group,
        )
    return found


def taken_for_scenes(own, readings, corrupted, seed):
    """As `told_apart`: the share of each set whose scene probability is at least 1 / 2 -> metrics."""
    shares = {OWN: own, **{f"{OWN}/{kind}": r for kind, r in corrupted.items()}, **readings}
    shares = {name: (float((r["probability"] >= 0.5).mean()), len(r["probability"])) for name, r in shares.items()}
    found = {}
    for name, (value, n) in shares.items():
        is_own = name.startswith(OWN)
        found |= metric(
            f"real/taken_for_scene/{name}",
            f"taken for a scene: {name_of(name)}",
            value,
            n,
            seed,
            baselines={"real_pictures": shares["real_pictures"][0]} if is_own else {"own_scenes": shares[OWN][0]},
            better="high" if is_own else "low",
            group=name,
        )
    return found


def real_pictures_section(model, protocol, seed, advance):
    """The section of an evaluation; see `evaluation.reading` for what a section is."""
    sentences = model.sentences(protocol.real, "test", seed + 11)
    own = model.draw(sentences)
    pictures = pictures_beside(model, sentences, own, seed)
    found = {}
    values = {name: statistics_of(some) for name, some in pictures.items() if name != "other_models"}
    advance(0.3)
    for id, (label, low, high) in STATISTICS.items():
        beside = {name: value[id] for name, value in values.items() if name != OWN}
        found |= metric(f"real/{id}", label, values[OWN][id], len(own), seed, baselines=beside, low=low, high=high)
    apart = kernel_distances(pictures, model.real.picture_of_crop)
    label, n = "kernel distance from real pictures, random features", len(own) + len(model.real)
    distance = apart.pop(OWN)
    found |= metric(
        "real/kernel_distance", label, distance, n, seed, baselines=apart, low=None, high=None, better="low"
    )
    advance(0.1)
    readings = {}
    for name, some in pictures.items():
        readings[name] = readings_of(model, some)
        advance(0.5 / len(pictures))
    own_readings = readings.pop(OWN)
    corrupted = {id: readings_of(model, robustness.corrupt(own, *c, seed)) for id, c in CORRUPTED.items()}
    found |= told_apart(own_readings, readings, corrupted, seed)
    found |= taken_for_scenes(own_readings, readings, corrupted, seed)
    if model.lines is not None and model.real.folder:
        found |= like_pictures_like_scenes(model, model.real.folder, protocol, seed)
    quantiles = {}
    for name, r in {OWN: own_readings, **{f"{OWN}/{kind}": r for kind, r in corrupted.items()}, **readings}.items():
        quantiles[name] = {id: np.quantile(v, AT).tolist() for id, v in r.items()}
    return {"metrics": found, "details": {"at": list(AT), "quantiles": quantiles, "source": model.real.source}}


# ---------------------------------------------------------------------------------------------
# What people see of it
# ---------------------------------------------------------------------------------------------


def name_of(id):
    """What people call a set of pictures, by its id in the section's details.

    >>> name_of("this_model/jpeg_50"), name_of("white_noise")
    ('own scenes after jpeg 50', 'white noise')
    """
    name, _, corruption = id.partition("/")
    return SETS.get(name, "own scenes") + (f" after {corruption.replace('_', ' ')}" if corruption else "")
