"""Codes of latent factors: the grid, bf16, a code for every word."""

import doctest
import math

import pytest
import torch

from decoders import quantizer
from decoders.quantizer import Quantizer, choose_levels, parse_levels, spread


def test_examples_in_its_docstrings():
    done = doctest.testmod(quantizer)
    assert done.attempted and not done.failed


@pytest.mark.parametrize("levels", [(2,), (3,), (11,), (2, 2), (5, 2), (8, 7), (13, 13, 12)])
@pytest.mark.parametrize("amp", [False, True])
def test_every_code_can_be_chosen_and_is_drawn_as_when_it_is_named(levels, amp):
    """The middle of each code chooses it, also under bf16, whose eight bits do not tell two thousand codes apart."""
    q = Quantizer(levels, 5)
    codes = torch.arange(math.prod(levels))
    place = torch.stack(
        [codes // math.prod(levels[:i]) % n for i, n in enumerate(levels)], 1
    )  # the formula: mixed radix
    z = torch.zeros(len(codes), 5)
    z[:, : len(levels)] = torch.atanh(quantizer.OUTERMOST * (2 * place / (torch.tensor(levels) - 1) - 1))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        values, chosen = q(z.bfloat16() if amp and max(levels) < 9 else z)
    assert torch.equal(chosen, codes) and values.dtype == torch.float32
    assert torch.allclose(values, q.values(codes), atol=1e-5)
    assert len(torch.unique(values, dim=0)) == len(codes)


def test_gradients_pass_the_rounding():
    z = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    Quantizer((5, 3), 3)(z)[0].square().sum().backward()
    assert (z.grad[..., :2] != 0).all() and not z.grad[..., 2].any()


@pytest.mark.parametrize(
    "n, levels", [(11, (11,)), (10, (12,)), (10, (4, 3)), (52, (8, 7)), (40, (9, 8)), (300, (7, 7, 7))]
)
def test_every_point_gets_a_place_of_its_own(n, levels):
    points = torch.randn(n, len(levels), generator=torch.Generator().manual_seed(n)).round(decimals=1)  # with ties
    places = spread(points, levels)
    assert len(torch.unique(places, dim=0)) == n and (places >= 0).all() and (places < torch.tensor(levels)).all()
    first = points[:, 0].argsort(stable=True)
    assert (places[first, 0].diff() >= 0).all()  # the order of the first number stays


def test_words_on_one_spot_come_to_have_codes_of_their_own():
    """What the loss is for: without it words with one code look alike, and no other loss could part them."""
    q = Quantizer((7,), 2)
    z = (0.01 * torch.randn(7, 2, generator=torch.Generator().manual_seed(0))).requires_grad_()
    assert len(q(z)[1].unique()) == 1
    optimizer = torch.optim.Adam([z], 0.05)
    for _ in range(80):
        optimizer.zero_grad()
        q.commitment(z).backward()
        optimizer.step()
    assert len(q(z)[1].unique()) == 7


def test_levels_fit_the_words_and_bad_ones_are_refused():
    for n in [*range(2, 200), 1999, 2000, 5000]:
        assert n <= math.prod(choose_levels(n)) <= 1.25 * n
    assert math.prod(choose_levels(1000, 2)) >= 1000 and len(choose_levels(1000, 2)) == 2
    for text in ("", "8,", "x", "-3", "2.5", "1", "²"):
        with pytest.raises(ValueError, match="no list of whole numbers"):
            parse_levels(text)
    with pytest.raises(ValueError, match="has 2"):
        Quantizer((3, 3, 3), 2)


def test_random_codes_are_all_codes():
    codes = Quantizer((3, 2), 4).random_codes((50, 20), torch.Generator().manual_seed(0))
    assert codes.unique().tolist() == list(range(6)) and codes.unique(return_counts=True)[1].min() > 100
