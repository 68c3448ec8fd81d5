"""A tiny model that reads back a handful of sentences exactly, made in seconds: real weights for the scripts to load."""

import functools
import os
import tempfile

import torch
from shared import made_once

from channel import round_8bit
from checkpoints import model_state, save
from data_utils import GrammarData, pad
from losses import token_loss
from models import Cycle
from settings import Settings
from text.padding import targets_of
from text.word_classes import find_word_classes

KNOWN = [
    "a red ball",
    "a huge blue star in the left",
    "an orange box next to a pink cube",
    "green circle on the top and black box on the left",
]


def tiny_cycle(decoder="objects", use_vq=False):
    """An untrained (Cycle, Vocabulary, Settings) of a few thousand weights."""
    torch.manual_seed(0)
    tiny = dict(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54)
    data = GrammarData(8, 0)
    n_cells = 25 if decoder != "glyphs" else 36
    z_dim = 54 if decoder != "glyphs" else 216
    settings = Settings(**{**tiny, "z_dim": z_dim}, n_cells=n_cells, use_vae=not use_vq, use_vq=use_vq, decoder=decoder)
    classes = find_word_classes(GrammarData(8, 0).some_sentences(2000), len(data.vocab))
    return Cycle(settings, len(data.vocab), data.max_tokens, classes), data.vocab, settings


def parrot():
    """A checkpoint of a model whose caption network has learned the pictures of KNOWN by heart -> its path."""
    return str(made_once("parrot.pt", train_parrot))


def train_parrot(path):
    cycle, vocab, settings = tiny_cycle()
    ids = pad([vocab.encode(s) for s in KNOWN])
    pictures = round_8bit(cycle.draw(ids).picture)
    optimizer = torch.optim.Adam(cycle.caption_network.parameters(), lr=5e-3)
    for _ in range(500):
        hidden = cycle.caption_network(pictures, ids).hidden
        loss = token_loss(cycle.caption_network.logits(hidden), targets_of(ids))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 1e-3:
            break
    save(path, model_state(cycle, vocab, settings))


@functools.cache
def blank(decoder="objects", use_vq=False):
    """A checkpoint of an untrained model -> its path."""
    path = os.path.join(tempfile.mkdtemp(), f"blank_{decoder}.pt")
    save(path, model_state(*tiny_cycle(decoder, use_vq)))
    return path
