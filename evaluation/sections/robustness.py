"""The section about robustness: exact match after the picture was corrupted."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch

import metrics
from evaluation.measures import unseen_corruptions
from evaluation.measures.robustness import corruption_curves, low_frequency_share, middle_strength
from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, Protocol


def robustness_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Exact match after corruption; `add_trained_baselines` adds other scene decoders."""
    sentences = model.sentences(protocol.corrupted, "test", seed)
    n = len(sentences)
    pictures = model.draw(sentences)
    clean = metrics.exact_match(sentences, model.read(pictures))
    curves = corruption_curves(model.read, sentences, pictures, seed)
    found = Metrics(seed)
    for kind, curve in curves.items():
        curve["trained_on"] = bool(curve["trained_on"] and model.settings.channel)
        strength, value = middle_strength(curve)
        trained = "trained on" if curve["trained_on"] else "not trained on"
        note = f"{trained}; halves at {curve['halves_at'] or 'none of the strengths'}"
        interval = metrics.bootstrap_interval(np.arange(n) < round(value * n), seed)
        about = {"interval": interval, "better": "high", "group": kind, "note": note}
        values = {OWN: value, "uncorrupted": clean}
        found.add(f"corruption/{kind}_{strength}", f"{kind} {strength}", values, n, **about)
    unseen, reason = unseen_corruptions.available()
    if reason:
        print(f"warning: {reason}", file=sys.stderr, flush=True)
    for name, corrupt in unseen.items():
        exact = metrics.exact_match(sentences, model.read(corrupt(pictures, seed)))
        id = f"unseen_corruption/{name.replace(' ', '_')}"
        label = f"{name}, never trained on"
        found.add(id, label, {OWN: exact, "uncorrupted": clean}, n, better="high", group=name)
    noise = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    shares = {OWN: low_frequency_share(pictures), "white_noise": low_frequency_share(noise)}
    found.add("coarse_variance", "variance that 16x16 pixels hold", shares, n, better="high")
    return {"metrics": found, "details": {"clean": clean, "curves": curves, "unseen_left_out": reason}}
