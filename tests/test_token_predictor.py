"""The cost of a step follows the batch, and its losses stay what they are."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import losses
from algorithm import training_step
from data_utils import GrammarData
from models import Cycle
from runtime.devices import Precision
from settings import resolve
from text.padding import count_batch_tokens, pad, targets_of
from text.token_predictor import SAMPLED, WHOLE, TokenPredictor
from text.vocabulary import PAD
from training.distributed import SINGLE_PROCESS
from training.optimizer import Optimizer

CPU = torch.device("cpu")


def zipf_batch(vocab_size, size=(64, 12), seed=0):
    share = 1 / np.arange(1, vocab_size - 2)
    ids = np.random.default_rng(seed).choice(vocab_size - 3, size=size, p=share / share.sum()) + 3
    ids[::2, 9:] = 0
    return torch.from_numpy(ids)


def test_tokens_of_a_batch_are_renumbered_and_distances_stay():
    data = GrammarData(64, 0)
    ids, vocab_size = data.batch(0, 0, 12), len(data.vocab)
    numbers, count = count_batch_tokens(ids, vocab_size)
    assert ((numbers == 0) == (ids == 0)).all() and len(numbers.unique()) == len(ids.unique()) < vocab_size
    torch.testing.assert_close(losses.sentence_distance(numbers, count), losses.sentence_distance(ids, vocab_size))


def test_rows_of_padding_change_neither_loss_nor_gradient():
    ids = pad([[5, 6, 7, 8, 9], [7]])
    hidden = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight, bias = torch.randn(20, 8), torch.randn(20)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 2] = False
    predictor = TokenPredictor(ids, ids, 20, None)  # draws no random number for a small vocabulary
    ours = predictor.loss(hidden, weight, bias, mask)
    targets = targets_of(ids).masked_fill(~mask, PAD)
    plain = losses.token_loss(F.linear(hidden, weight, bias), targets)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()))
    for a, b in zip(torch.autograd.grad(ours, hidden), torch.autograd.grad(plain, hidden)):
        torch.testing.assert_close(a, b)


def test_a_sampled_softmax_is_right_on_average():
    vocab_size, ids = 6000, zipf_batch(6000)
    assert vocab_size > WHOLE
    weight, hidden = torch.randn(vocab_size, 8) / 2, torch.randn(*targets_of(ids).shape, 8) / 2
    mask = torch.ones_like(targets_of(ids), dtype=torch.bool)
    whole = losses.token_loss(hidden @ weight.T, targets_of(ids))
    found = []
    for seed in range(30):
        predictor = TokenPredictor(ids, ids, vocab_size, np.random.default_rng(seed))
        assert len(predictor.tokens) == SAMPLED and (predictor.tokens[predictor.index[ids]] == ids).all()
        found.append(predictor.loss(hidden, weight, None, mask))
    assert float(torch.stack(found).mean()) == pytest.approx(float(whole), rel=0.01)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation made."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            self.most = max(self.most, t.numel() if torch.is_tensor(t) else 0)
        return out


@pytest.mark.parametrize("decoder", ["glyphs", "conv"])
def test_no_tensor_of_a_step_grows_with_the_vocabulary_but_its_tables(decoder):
    sizes = []
    for vocab_size in (6000, 24000):
        model = {"d_model": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32, "z_dim": 72, "n_cells": 12}
        settings = resolve({**model, "decoder": decoder, "captions_file": "x"})
        cycle = Cycle(settings, vocab_size, 12)
        optimizer = Optimizer(cycle, settings, 10, CPU, None)
        ids, rng, strength = zipf_batch(vocab_size), torch.Generator().manual_seed(0), torch.tensor(0.5)
        with Largest() as largest:
            training_step(
                cycle, optimizer, settings, ids, strength, rng, np.random.default_rng(0), Precision(CPU), SINGLE_PROCESS
            )
        sizes.append(largest.most)
    assert sizes[1] < 2 * sizes[0]
