"""Marks in line, and the captioner that looks at the place of each."""

import numpy as np
import pytest
import torch
from training.precision import TrainingNetworks

from algorithm import training_step, with_random_tokens
from captioners.grid import GlyphCaptionNetwork
from decoders.glyphs import grid, middles
from losses import word_loss
from models import Cycle
from settings import fit_to_text, resolve
from text.padding import pad, targets_of
from training.distributed import SINGLE_PROCESS
from training.optimizer import Optimizer

CPU, VOCAB = torch.device("cpu"), 60


def model(n_cells=12, **typed):
    settings = resolve({"captions_file": "x", "d_model": 32, "n_heads": 2, "n_layers": 1, "hidden_dim": 64, **typed})
    fit_to_text(settings, [n_cells])
    torch.manual_seed(0)
    return Cycle(settings, VOCAB, settings.n_cells), settings


def part(picture, place, n_places=12):
    """The middle of a place in a picture (3, 64, 64)."""
    x, y = (middles(n_places)[place] * 64).round().int().tolist()
    return picture[:, y - 5 : y + 5, x - 5 : x + 5]


def test_a_piece_looks_the_same_wherever_it_stands_and_whatever_its_company():
    cycle, _ = model(n_cells=16)  # places of whole pixels
    ids = pad([[7, 8, 9, 10, 11, 7], [20, 7]])
    one, two = cycle.draw(ids).picture
    assert torch.allclose(part(one, 0, 16), part(one, 5, 16), atol=1e-5)
    assert torch.allclose(part(one, 0, 16), part(two, 1, 16), atol=1e-5)
    assert not torch.allclose(part(one, 0, 16), part(one, 1, 16), atol=0.05)


def test_places_without_a_piece_show_the_ground():
    cycle, _ = model()
    picture = cycle.draw(pad([[7, 8, 9]])).picture[0]
    ground = torch.sigmoid(cycle.scene_decoder.ground_logit)[:, None, None].expand(3, 10, 10)
    assert torch.allclose(part(picture, 11), ground, atol=1e-4) and not torch.allclose(
        part(picture, 1), ground, atol=0.05
    )


@pytest.mark.parametrize("n", [4, 6, 9, 12, 16, 20, 25, 30, 36, 42, 49, 56, 64])
def test_places_fill_the_picture_row_by_row(n):
    rows, columns = grid(n)
    at = middles(n)
    assert (
        rows * columns == n
        and len({tuple(p) for p in at.tolist()}) == n
        and float(at.min()) > 0
        and float(at.max()) < 1
    )
    assert (at[1:columns, 0] > at[: columns - 1, 0]).all() and (at[columns:, 1] > at[:-columns, 1]).all()


def test_no_sentence_depends_on_its_neighbors_in_the_batch():
    cycle, _ = model()
    alone, together = pad([[7, 8, 9]]), pad([[7, 8, 9], [3, 4, 5, 6, 7, 8, 9, 10], [11]])
    pictures = cycle.draw(together).picture
    assert torch.allclose(cycle.draw(alone).picture[0], pictures[0], atol=1e-5)
    captioner = cycle.caption_network
    logits = captioner(pictures, together)[0]
    assert torch.allclose(captioner(pictures[:1], alone)[0][0], logits[0, :4], atol=1e-4)


def test_reading_step_by_step_is_what_was_trained():
    cycle, _ = model()
    ids = pad([[7, 8, 9], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    picture = cycle.draw(ids).picture
    words, log_prob, gaze = cycle.caption_network.read(picture)
    assert words.shape == (2, 13) and gaze.shape == (2, 13, 64)
    read = torch.where(words == 2, 0, words)[:, :12]
    logits = cycle.caption_network(picture, read)[0].index_fill(2, torch.tensor([0, 1]), float("-inf")).log_softmax(-1)
    for row, said, told in zip(logits, words, log_prob):
        n = int((said != 0).sum())
        assert n > 0 and float(row[range(n), said[:n]].sum().detach()) == pytest.approx(float(told), abs=1e-3)


def test_the_captioner_looks_at_the_place_of_each_word():
    torch.manual_seed(0)
    captioner = GlyphCaptionNetwork(VOCAB, 12, 32, 64, 12)
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    ids = torch.arange(3, 15)[None]
    captioner(picture, ids)[0][0, 7].square().sum().backward()
    at = middles(12)[7] * 64
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    weight = picture.grad.abs().sum((0, 1))
    near = ((x - at[0]).abs() < 12) & ((y - at[1]).abs() < 12)
    assert float(weight[near].mean()) > 3 * float(weight[~near].mean())


def test_random_tokens_replace_those_of_evenly_spaced_rows():
    ids = pad([[5, 6, 7]] * 8 + [[8]] * 2)
    changed, real = with_random_tokens(ids, 0.5, VOCAB, np.random.default_rng(0))
    assert [int(rows.sum()) for rows in real.chunk(5)] == [1] * 5
    assert ((changed == 0) == (ids == 0)).all() and (changed[real] == ids[real]).all()
    assert (changed[~real] != ids[~real]).any(1).all()
    assert int(changed[changed != 0].min()) >= 3
    assert with_random_tokens(ids, 0.0, VOCAB, None)[0] is ids
    assert int(with_random_tokens(ids, 0.999, VOCAB, np.random.default_rng(0))[1].sum()) == 1  # one row stays real


@pytest.mark.slow
def test_a_small_model_learns_to_write_and_read_random_pieces():
    cycle, settings = model(n_cells=6, lr=3e-3, use_vae=True, random_tokens=1.0 - 1e-9, warmup_steps=20, channel=False)
    networks, optimizer = TrainingNetworks(cycle, None, CPU), Optimizer(cycle, settings, 400, CPU, None)
    rng, host_rng = torch.Generator(), np.random.default_rng(0)
    ids = pad([[3] * (1 + i % 6) for i in range(48)])
    for step in range(400):
        optimizer.set_learning_rate(step)
        training_step(
            networks, optimizer, settings, ids, torch.zeros(()), rng.manual_seed(step), host_rng, SINGLE_PROCESS
        )
    unseen, _ = with_random_tokens(ids, 1.0, VOCAB, np.random.default_rng(1))
    with torch.no_grad():
        read = cycle.caption_network.read(cycle.draw(unseen).picture)[0]
    exact = (read[:, :7] == targets_of(unseen)).all(1).float().mean()
    blank = cycle.caption_network(torch.full((48, 3, 64, 64), 0.5), unseen)[0]
    assert float(exact) > 0.8 and float(word_loss(blank, targets_of(unseen))) > 2
