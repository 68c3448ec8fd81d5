"""Glyphs in reading order, and the captioner that looks at the cell of each."""

import numpy as np
import pytest
import torch

from algorithm import randomize_tokens, training_step
from captioners.glyphs import GlyphCaptionNetwork
from decoders.glyph_shapes import Shapes
from decoders.glyphs import GRID_SIZES, GlyphSceneDecoder
from imaging.cells import cell_centers, grid_shape
from losses import token_loss
from models import Cycle
from runtime.devices import Precision
from settings import resolve
from text.padding import pad, targets_of
from training.distributed import SINGLE_PROCESS
from training.optimizer import Optimizer

CPU, VOCAB = torch.device("cpu"), 60


def model(n_cells=12, **typed):
    settings = resolve({"captions_file": "x", "d_model": 32, "n_heads": 2, "n_layers": 1, "hidden_dim": 64, **typed})
    settings = GlyphSceneDecoder.fit(settings, [n_cells])
    torch.manual_seed(0)
    return Cycle(settings, VOCAB, settings.n_cells), settings


def part(picture, cell, n_cells=12):
    """The center of a cell in a picture (3, 64, 64)."""
    x, y = (cell_centers(n_cells)[cell] * 64).round().int().tolist()
    return picture[:, y - 5 : y + 5, x - 5 : x + 5]


def test_a_token_looks_the_same_in_every_cell_and_sentence():
    cycle, _ = model(n_cells=16)  # cells of whole pixels
    ids = pad([[7, 8, 9, 10, 11, 7], [20, 7]])
    one, two = cycle.draw(ids).picture
    assert torch.allclose(part(one, 0, 16), part(one, 5, 16), atol=1e-5)
    assert torch.allclose(part(one, 0, 16), part(two, 1, 16), atol=1e-5)
    assert not torch.allclose(part(one, 0, 16), part(one, 1, 16), atol=0.05)


def test_empty_cells_show_the_background():
    cycle, _ = model()
    picture = cycle.draw(pad([[7, 8, 9]])).picture[0]
    background = torch.sigmoid(cycle.scene_decoder.background_logit)[:, None, None].expand(3, 10, 10)
    assert torch.allclose(part(picture, 11), background, atol=1e-4) and not torch.allclose(
        part(picture, 1), background, atol=0.05
    )


@pytest.mark.parametrize("n", GRID_SIZES)
def test_cells_fill_the_picture_row_by_row(n):
    rows, columns = grid_shape(n)
    at = cell_centers(n)
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
    hidden = captioner(pictures, together).hidden
    assert torch.allclose(captioner(pictures[:1], alone).hidden[0], hidden[0, :4], atol=1e-4)


def test_reading_step_by_step_is_what_was_trained():
    cycle, _ = model()
    ids = pad([[7, 8, 9], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    picture = cycle.draw(ids).picture
    reading = cycle.caption_network.read(picture)
    assert reading.ids.shape == (2, 13) and reading.attention.shape == (2, 13, 64)
    read = torch.where(reading.ids == 2, 0, reading.ids)[:, :12]
    logits = cycle.caption_network.logits(cycle.caption_network(picture, read).hidden)
    log_probs = logits.index_fill(2, torch.tensor([0, 1]), float("-inf")).log_softmax(-1)
    for row, tokens, log_prob in zip(log_probs, reading.ids, reading.log_prob):
        n = int((tokens != 0).sum())
        assert n > 0 and float(row[range(n), tokens[:n]].sum().detach()) == pytest.approx(float(log_prob), abs=1e-3)


def test_interpolation_leads_from_one_text_to_the_other_and_layers_add_up():
    cycle, _ = model()
    ends = [(cycle.draw(ids), ids) for ids in (pad([[7, 8, 9]]), pad([[20, 8]]))]
    with torch.no_grad():
        pictures = cycle.scene_decoder.interpolate(*ends, torch.tensor([0.0, 0.5, 1.0]))
        layers = cycle.scene_decoder.layers(*ends[0], 0)
    assert torch.allclose(pictures[0], ends[0][0].picture[0], atol=1e-5)
    assert torch.allclose(pictures[2], ends[1][0].picture[0], atol=1e-5)
    assert [positions for _, positions in layers] == [[0], [1], [2]]
    background = torch.sigmoid(cycle.scene_decoder.background_logit.detach())[:, None, None]
    together = sum(picture - background for picture, _ in layers) + background
    assert torch.allclose(together, ends[0][0].picture[0], atol=1e-4)


def glyph_masks(n=400):
    torch.manual_seed(0)
    shapes = Shapes(9, 24, 48)
    with torch.no_grad():
        return shapes, shapes(torch.randn(n, 9), shapes.x, shapes.y).unflatten(1, (24, 24))


def test_glyphs_of_all_shapes_cover_the_same_area():
    shapes, masks = glyph_masks()
    area = masks.sum((1, 2)) / (shapes.AREA * 24 * 24)
    assert 0.9 < area.min() and area.max() < 1.1
    assert masks.flatten(1).std(0).max() > 0.3  # and they do differ


def test_cells_and_dimensions_are_chosen_by_the_texts():
    settings = resolve({"captions_file": "x"})
    assert GlyphSceneDecoder.fit(settings, [16] * 200 + [19]).n_cells == 20  # a few more cells, and no text is cut
    assert GlyphSceneDecoder.fit(settings, [16] * 200 + [60]).n_cells == 16
    fitted = GlyphSceneDecoder.fit(settings, [5])
    assert (fitted.n_cells, fitted.z_dim, settings.n_cells) == (6, 72, 0)
    with pytest.raises(ValueError, match="z_dim 20 is too small"):
        GlyphSceneDecoder(32, 32, 20, n_cells=9)


def test_the_captioner_looks_at_the_cell_of_each_token():
    torch.manual_seed(0)
    captioner = GlyphCaptionNetwork(VOCAB, 12, 32, 64, 12)
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    ids = torch.arange(3, 15)[None]
    captioner(picture, ids).hidden[0, 7].square().sum().backward()
    at = cell_centers(12)[7] * 64
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    weight = picture.grad.abs().sum((0, 1))
    near = ((x - at[0]).abs() < 12) & ((y - at[1]).abs() < 12)
    assert float(weight[near].mean()) > 3 * float(weight[~near].mean())


def test_random_tokens_replace_those_of_evenly_spaced_rows():
    ids = pad([[5, 6, 7]] * 8 + [[8]] * 2)
    changed, is_random = randomize_tokens(ids, 0.5, VOCAB, np.random.default_rng(0))
    assert [int(rows.sum()) for rows in is_random.chunk(5)] == [1] * 5
    assert ((changed == 0) == (ids == 0)).all() and (changed[~is_random] == ids[~is_random]).all()
    assert (changed[is_random] != ids[is_random]).any(1).all()
    assert int(changed[changed != 0].min()) >= 3
    assert randomize_tokens(ids, 0.0, VOCAB, None)[0] is ids
    is_random = randomize_tokens(ids, 0.999, VOCAB, np.random.default_rng(0))[1]
    assert int((~is_random).sum()) == 1  # one row stays real


@pytest.mark.slow
def test_a_small_model_learns_to_draw_and_read_random_tokens():
    cycle, settings = model(n_cells=6, lr=3e-3, use_vae=True, random_tokens=1.0 - 1e-9, warmup_steps=20, channel=False)
    optimizer = Optimizer(cycle, settings, 400, CPU, None)
    rng, host_rng = torch.Generator(), np.random.default_rng(0)
    ids, strength, precision = pad([[3] * (1 + i % 6) for i in range(48)]), torch.zeros(()), Precision(CPU)
    for step in range(400):
        optimizer.set_learning_rate(step)
        rng.manual_seed(step)
        training_step(cycle, optimizer, settings, ids, strength, rng, host_rng, precision, SINGLE_PROCESS)
    unseen, _ = randomize_tokens(ids, 1.0, VOCAB, np.random.default_rng(1))
    with torch.no_grad():
        read = cycle.caption_network.read(cycle.draw(unseen).picture).ids
    exact = (read[:, :7] == targets_of(unseen)).all(1).float().mean()
    captioner = cycle.caption_network
    blank = captioner.logits(captioner(torch.full((48, 3, 64, 64), 0.5), unseen).hidden)
    assert float(exact) > 0.8 and float(token_loss(blank, targets_of(unseen))) > 2
