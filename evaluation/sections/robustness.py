"""The section about robustness: exact match after the picture was corrupted."""

import sys

import numpy as np
import torch

import metrics
from evaluation.measures import robustness, unseen_corruptions
from evaluation.metric import metric
from pictures import read_pictures


def middle_strength(curve):
    """(strength, exact match there) of the middle strength of one of `robustness.corruption_curves`."""
    i = (len(curve["strengths"]) - 1) // 2
    return curve["strengths"][i], curve["exact_match"][i]


def robustness_section(model, protocol, seed, advance):
    """Exact match after corruption, beside the uncorrupted pictures (and, from `add_trained_baselines`, other decoders)."""
    sentences = model.sentences(protocol.corrupted, "test", seed)
    pictures = model.draw(sentences)
    clean = metrics.exact_match(sentences, read_pictures(model.cycle, model.vocab, pictures, model.device)[0])
    curves = robustness.corruption_curves(model.cycle, model.vocab, model.device, sentences, seed)
    found = {}
    n = len(sentences)
    for kind, curve in curves.items():
        curve["trained_on"] = bool(curve["trained_on"] and model.settings.channel)
        strength, value = middle_strength(curve)
        found |= metric(
            f"corruption/{kind}_{strength}",
            f"{kind} {strength}",
            value,
            n,
            seed,
            baselines={"uncorrupted": clean},
            interval=metrics.bootstrap_interval(np.arange(n) < round(value * n), seed),
            better="high",
            group=kind,
            note=("" if curve["trained_on"] else "not ")
            + f"trained on; halves at {curve['halves_at'] or 'none of the strengths'}",
        )
    unseen, reason = _unseen_corruptions(model, sentences, pictures, clean, seed)
    found |= unseen
    noise = torch.rand(len(pictures), 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    found |= metric(
        "coarse_variance",
        "variance that 16x16 pixels hold",
        robustness.low_frequency_share(pictures),
        len(pictures),
        seed,
        baselines={"white_noise": robustness.low_frequency_share(noise)},
        better="high",
    )
    return {"metrics": found, "details": {"clean": clean, "curves": curves, "unseen_left_out": reason}}


def _unseen_corruptions(model, sentences, pictures, clean, seed):
    """Exact match after corruptions that no training uses, in torchvision's implementation -> metrics, and why there are none."""
    kinds, reason = unseen_corruptions.available()
    if reason:
        print(f"warning: {reason}", file=sys.stderr, flush=True)
    found = {}
    for name, corrupt in kinds.items():
        captions, _ = read_pictures(model.cycle, model.vocab, corrupt(pictures, seed), model.device)
        found |= metric(
            f"unseen_corruption/{name.replace(' ', '_')}",
            f"{name}, never trained on",
            metrics.exact_match(sentences, captions),
            len(sentences),
            seed,
            baselines={"uncorrupted": clean},
            better="high",
            group=name,
        )
    return found, reason
