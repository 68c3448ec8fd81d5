"""The cost of a step follows the batch, and losses do not change by it."""

import numpy as np
import pytest
import torch
from text.word_sample import SAMPLED, WHOLE, WordSample, words_of_batch
from torch.utils._python_dispatch import TorchDispatchMode
from training.precision import TrainingNetworks

import losses
from algorithm import training_step
from data_utils import GrammarData, targets_of
from models import Cycle
from settings import resolve
from training.distributed import SINGLE_PROCESS
from training.optimizer import Optimizer

CPU = torch.device("cpu")


def zipf_batch(vocab_size, size=(64, 12), seed=0):
    share = 1 / np.arange(1, vocab_size - 2)
    ids = np.random.default_rng(seed).choice(vocab_size - 3, size=size, p=share / share.sum()) + 3
    ids[::2, 9:] = 0
    return torch.from_numpy(ids)


def test_losses_over_the_words_of_the_batch_are_those_over_the_vocabulary():
    data = GrammarData(64, 0)
    ids, vocab_size = data.batch(0, 0, 12), len(data.vocab)
    numbers, count = words_of_batch(ids, vocab_size)
    assert ((numbers == 0) == (ids == 0)).all() and len(numbers.unique()) == len(ids.unique()) < vocab_size
    g = torch.Generator().manual_seed(0)
    B, T, K = *ids.shape, 9
    attention = (4 * torch.rand(B, K, T, generator=g)).softmax(1) * (ids != 0)[:, None]
    presence, lab = torch.rand(B, K, generator=g), 100 * torch.rand(B * K, 3, generator=g)
    masks = torch.rand(B * K, 24, 24, generator=g)

    def values(words, n):
        word, place, weight = losses.shown_words(attention * 3, presence, words)
        competing = losses.competition(word, place, weight, n, K)
        total = losses.word_sums(weight, word, n)
        silhouettes = losses.silhouettes_of_words(losses.word_sums(masks * weight[:, None, None], word, n), total)
        return [
            losses.word_distance(words, n),
            losses.layout_loss(attention, words, n),
            losses.color_loss(lab, word, weight, torch.zeros(1, 3), n, competing),
            losses.shape_loss(silhouettes, total, competing),
            losses.repulsion_loss(lab, silhouettes, word, weight, n, competing),
        ]

    for one, other in zip(values(numbers, count), values(ids, vocab_size), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_small_vocabulary_is_used_whole_and_asks_for_no_random_number():
    assert WordSample.for_batch(zipf_batch(WHOLE), WHOLE, None) == WordSample()


def test_a_sampled_softmax_is_right_on_average():
    vocab_size, ids = 6000, zipf_batch(6000)
    table, x = torch.randn(vocab_size, 8) / 2, torch.randn(*targets_of(ids).shape, 8) / 2
    whole = losses.token_loss(x @ table.T, targets_of(ids))
    found = []
    for seed in range(30):
        sample = WordSample.for_batch(ids, vocab_size, np.random.default_rng(seed))
        assert len(sample.words) == SAMPLED and sample.numbers(torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]
        assert (sample.words[sample.numbers(ids)] == ids).all()
        found.append(losses.token_loss(sample.weighted(x @ sample.rows(table).T), sample.numbers(targets_of(ids))))
    assert float(torch.stack(found).mean()) == pytest.approx(float(whole), rel=0.01)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation made."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            self.most = max(self.most, t.numel() if torch.is_tensor(t) else 0)
        return out


@pytest.mark.parametrize(
    "how", [{"layout": "kinds", "n_cells": 9}, {"layout": "line", "n_cells": 12}, {"decoder": "conv"}]
)
def test_no_tensor_of_a_step_grows_with_the_vocabulary_but_its_tables(how):
    sizes = []
    for vocab_size in (6000, 24000):
        width = 16
        model = dict(d_model=width, n_heads=2, n_layers=1, hidden_dim=32, z_dim=72, **how)
        settings = resolve({**model, "captions_file": "x"})
        cycle = Cycle(settings, vocab_size, 12)
        networks, optimizer = TrainingNetworks(cycle, None, CPU), Optimizer(cycle, settings, 10, CPU, None)
        ids, rng = zipf_batch(vocab_size), torch.Generator().manual_seed(0)
        with Largest() as largest:
            training_step(
                networks, optimizer, settings, ids, torch.tensor(0.5), rng, np.random.default_rng(0), SINGLE_PROCESS
            )
        sizes.append(largest.most)
    assert sizes[1] < 2 * sizes[0]
