"""The interface of scene decoders: every entry of the registry keeps what it declares."""

import dataclasses

import numpy as np
import pytest
import torch

from captioners import CAPTIONERS
from data_utils import GrammarData
from decoders import DECODERS
from decoders.base import Decoder
from models import Cycle
from settings import Settings, check
from text.vocabulary import PAD
from text.word_classes import find_word_classes

DATA = GrammarData(64, 0)
CLASSES = find_word_classes(DATA.some_sentences(2000), len(DATA.vocab))
# Attribute -> the methods that a decoder which sets it overrides
METHODS = {
    "has_layers": ("layers", "interpolate"),
    "draws_glyphs": ("glyphs_of",),
    "supports_vq": ("token_of_factor", "write_codes", "write_code", "draw_codes"),
    "supports_grounding": ("grounded_tokens",),
}


def model(name, use_vq=False):
    small = {"d_model": 32, "n_heads": 2, "n_layers": 1, "hidden_dim": 32, "z_dim": 6 * 25, "n_cells": 25}
    settings = Settings(**small, decoder=name, use_vae=not use_vq, use_vq=use_vq)
    check(settings)
    torch.manual_seed(0)
    return Cycle(settings, len(DATA.vocab), DATA.max_tokens, CLASSES), settings


@pytest.mark.parametrize("name", DECODERS)
def test_a_declared_capability_is_defined(name):
    decoder = DECODERS[name]
    assert decoder.captioner in CAPTIONERS
    for attribute, methods in METHODS.items():
        for method in methods:
            is_overridden = getattr(decoder, method) is not getattr(Decoder, method)
            assert is_overridden == getattr(decoder, attribute), f"{name}.{method} and {attribute}"


@pytest.mark.parametrize("use_vq", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_scenes_have_the_shapes_that_the_interface_names(name, use_vq):
    if use_vq and not DECODERS[name].supports_vq:
        with pytest.raises(ValueError, match="--use_vq needs --decoder objects or glyphs"):
            model(name, use_vq)
        return
    cycle, settings = model(name, use_vq)
    ids = DATA.batch(0, 0, 5)
    scene = cycle.scene_decoder(cycle.language_model(ids), torch.Generator().manual_seed(0))
    shapes = {f.name: tuple(getattr(scene, f.name).shape) for f in dataclasses.fields(scene)}
    n_factors = shapes["codes"][1]
    assert shapes["picture"] == (5, 3, 64, 64) and shapes["kl"] == (5,) and shapes["dropped"] == tuple(ids.shape)
    assert shapes["mu"] == shapes["logvar"] == (5, settings.z_dim)
    assert (n_factors > 0) == use_vq == cycle.has_codes
    assert not scene.dropped[ids == PAD].any()
    if use_vq:
        tokens = cycle.scene_decoder.token_of_factor(scene, ids)
        assert ((tokens >= 0) == (scene.codes >= 0)).all()


@pytest.mark.parametrize("name", DECODERS)
def test_losses_have_weights_and_finite_gradients(name):
    cycle, settings = model(name)
    ids = DATA.batch(0, 0, 5)
    scene = cycle.scene_decoder(cycle.language_model(ids), torch.Generator().manual_seed(0))
    embedding = cycle.language_model.drawn_embedding
    features = cycle.scene_decoder.features(scene)
    parts = cycle.scene_decoder.losses(embedding, features, ids, np.random.default_rng(0))
    assert parts and all(hasattr(settings, f"lambda_{part}") for part in parts)
    sum(parts.values()).backward()
    gradients = [p.grad for p in cycle.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)
