import numpy as np
import pytest
import torch

import losses
from data_utils import BOS, EOS, PAD
from imaging.color import srgb_to_lab
from text.padding import targets_of


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_targets_hold_the_words_and_one_end():
    ids = torch.tensor([[5, 6, PAD], [7, 8, 9]])
    assert targets_of(ids).tolist() == [[5, 6, EOS, PAD], [7, 8, 9, EOS]]


def test_token_loss_ignores_padding():
    logits = torch.randn(2, 4, 10, generator=rng())
    targets = torch.tensor([[5, 6, EOS, PAD], [7, 8, 9, EOS]])
    changed = logits.clone()
    changed[0, 3] += 100 * torch.randn(10, generator=rng(1))
    assert torch.equal(losses.token_loss(logits, targets), losses.token_loss(changed, targets))


def test_consistency_is_low_for_the_right_picture_and_high_for_another():
    sentence = torch.randn(8, 16, generator=rng())
    assert losses.consistency_loss(sentence, sentence) < losses.consistency_loss(sentence.roll(1, 0), sentence)


def test_consistency_does_not_punish_equal_sentences():
    sentence = torch.nn.functional.normalize(torch.randn(1, 16, generator=rng()), dim=1).expand(4, -1)
    assert losses.consistency_loss(sentence, sentence) == pytest.approx(np.log(4), abs=1e-4)  # as good as can be


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("loss", ["spatial", "diversity", "perceptual", "lab"])
def test_flat_pictures_have_finite_gradients(loss, value):
    """One saturated patch was enough to make the public attempts' gradients NaN."""
    picture = torch.full((3, 3, 64, 64), value, requires_grad=True)
    distance = torch.ones(3, 3)
    out = {
        "spatial": lambda: losses.spatial_loss(picture),
        "diversity": lambda: losses.diversity_loss(losses.thumbnails(picture), distance),
        "perceptual": lambda: losses.perceptual_loss(losses.edge_maps(picture), distance),
        "lab": lambda: srgb_to_lab(picture, axis=1).square().mean(),
    }[loss]()
    out.backward()
    assert torch.isfinite(picture.grad).all()


def test_diversity_reaches_the_pictures_and_falls_as_they_part():
    picture = (0.5 + 0.01 * torch.randn(4, 3, 64, 64, generator=rng())).requires_grad_()
    distance = 1 - torch.eye(4)
    loss = losses.diversity_loss(losses.thumbnails(picture), distance)
    loss.backward()
    assert picture.grad.abs().sum() > 0
    apart = torch.rand(4, 3, 1, 1, generator=rng()).expand(-1, -1, 64, 64)
    assert losses.diversity_loss(losses.thumbnails(apart), distance) < loss
    assert (
        losses.diversity_loss(losses.thumbnails(picture), torch.zeros(4, 4)) < 1e-3 < loss
    )  # equal sentences may look alike


def test_spatial_loss_prefers_large_things_to_texture():
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    half = torch.zeros(64, 64)
    half[:, :32] = 1
    fine, coarse = (p.float().expand(1, 3, 64, 64) for p in (board, half))
    assert losses.spatial_loss(fine) > 5 * losses.spatial_loss(coarse)


def test_lab_of_known_colors():
    """Reference values of CIE L*a*b* for sRGB, D65 (as in the usual tables, rounded)."""
    rgb = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    lab = torch.tensor(
        [[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
    )
    assert torch.allclose(srgb_to_lab(rgb), lab, atol=0.05)


def test_sentence_distance_counts_tokens_not_in_common():
    ids = torch.tensor([[3, 4, 5, PAD], [3, 4, 6, PAD], [7, 8, 9, 10]])
    d = losses.sentence_distance(ids, 11)
    assert d[0, 0] == pytest.approx(0, abs=1e-5)
    assert d[0, 1] == pytest.approx(1 / 3, abs=1e-4) and d[0, 2] == pytest.approx(1, abs=1e-5)


def test_glyph_points_lie_as_far_apart_as_their_pictures():
    """Of three glyphs of 4 pixels, one differs in color alone, one in shape alone; nothing lies near a border."""
    masks = torch.zeros(3, 8, 8)
    masks[:2, 3:5, 3:5] = 1
    masks[2, 3, 2:6] = 1
    colors, ground = torch.tensor([[0.8, 0.2, 0.2], [0.2, 0.2, 0.8], [0.8, 0.2, 0.2]]), torch.full((3,), 0.1)
    points = losses.glyph_points(masks, colors, ground)
    line = np.convolve([1, 1], [0.25, 0.5, 0.25])  # a row or column of the smoothed square
    square = np.outer(line, line)
    wide = np.outer([0.25, 0.5, 0.25, 0], np.convolve([1, 1, 1, 1], [0.25, 0.5, 0.25]))
    of_color = np.sqrt(2 * 0.6**2 * (square**2).sum()) / 0.9
    of_shape = np.sqrt((0.7**2 + 2 * 0.1**2) * ((wide - np.pad(square, ((0, 0), (1, 1)))) ** 2).sum()) / 0.9
    apart = torch.cdist(points, points)
    assert apart[0, 1] == pytest.approx(of_color, rel=1e-3) and apart[0, 2] == pytest.approx(of_shape, rel=1e-3)


def test_kl_is_not_clamped():
    kl = torch.tensor([1e4, 1e4], requires_grad=True)
    losses.kl_loss(kl).backward()
    assert (kl.grad == 0.5).all()


def test_special_tokens():
    assert (PAD, BOS, EOS) == (0, 1, 2)


def test_token_loss_of_padding_alone_is_zero():
    logits = torch.randn(2, 3, 10, generator=rng()).requires_grad_()
    loss = losses.token_loss(logits, torch.full((2, 3), PAD))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_color_loss_of_two_tokens_by_hand():
    """A token that is red and less red, another that is green: variance and repulsion."""
    lab, ids = torch.tensor([[60.0, 40, 0], [60, 20, 0], [50, -70, 0]]), torch.tensor([3, 3, 4])
    variance = (10**2 + 10**2 + 0) / 3 / 1000  # each of the first two is 10 from their mean
    distance = np.hypot(60 - 50, 30 + 70)
    potential = 2 * np.exp(-np.sqrt(distance**2 + 1) / 10) / (2 * np.exp(-0.1))
    loss = losses.color_loss(lab, ids, torch.ones(3), 6)
    assert loss == pytest.approx(variance + np.log(potential + 1e-3), abs=1e-3)


def test_repulsion_of_two_points_by_hand_and_its_force_where_they_almost_coincide():
    def loss(distance):
        points = torch.tensor([[0.0], [distance]], requires_grad=True)
        value = losses.repulsion_loss(points, scale=1.0)
        return float(value.detach()), float(torch.autograd.grad(value, points)[0][0].abs())

    assert loss(1.0)[0] == pytest.approx(np.log(np.exp(-0.5 - 2) + 1e-3), abs=2e-3)
    assert loss(0.1)[1] > 0.5 * loss(1.0)[1]  # a Gaussian alone has no gradient at distance 0


def test_repulsion_spreads_points_instead_of_driving_them_into_corners():
    """Sixteen points on a line with room for all: gradient descent leaves all of them apart."""
    room = torch.linspace(0.45, 0.55, 16).logit().requires_grad_()
    optimizer = torch.optim.Adam([room], 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        losses.repulsion_loss(room.sigmoid()[:, None] * 15).backward()
        optimizer.step()
    assert (room.sigmoid() * 15).sort().values.diff().min() > 0.4  # evenly spread they would be 1 apart


def test_visibility_counts_the_worst_background_of_each_color():
    white, gray, black = torch.tensor([[100.0, 0, 0], [60, 0, 0], [0, 0, 0]])
    alone = losses.visibility_loss(white[None], black[None])
    assert alone == 0
    hidden = losses.visibility_loss(gray[None], torch.stack([black, gray]))
    shortfall = (45 - 0.001**0.5) ** 2 + 25**2  # against itself
    assert hidden == pytest.approx(losses.VISIBILITY * shortfall / 1000, rel=1e-3)
