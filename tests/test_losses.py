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


def test_word_loss_ignores_padding():
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


def test_word_distance_counts_words_not_in_common():
    ids = torch.tensor([[3, 4, 5, PAD], [3, 4, 6, PAD], [7, 8, 9, 10]])
    d = losses.word_distance(ids, 11)
    assert d[0, 0] == pytest.approx(0, abs=1e-5)
    assert d[0, 1] == pytest.approx(1 / 3, abs=1e-4) and d[0, 2] == pytest.approx(1, abs=1e-5)


def test_color_loss_pulls_within_and_pushes_between_words():
    word, weight, ground = torch.tensor([3, 3, 4, 4]), torch.ones(4), torch.tensor([0.1, 0.1, 0.1])
    far = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    near = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0.1], [1, 0, 0.1]])
    spread = torch.tensor([[1.0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0]])
    invisible = far * 0 + 0.1
    navy = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 0.5], [0, 0, 0.5]])

    def loss(colors):
        return losses.color_loss(srgb_to_lab(colors), word, weight, srgb_to_lab(ground), 6)

    best = loss(far)
    for worse in (near, spread, invisible, navy):
        assert loss(worse) > best


def test_shape_loss_tells_silhouettes_apart():
    masks = torch.zeros(2, 24, 24)
    masks[0, :12] = masks[1, 12:] = 1
    word, weight = torch.tensor([3, 4]), torch.ones(2)
    total = losses.word_sums(weight, word, 6)
    unlike, alike = (
        losses.silhouettes_of_words(losses.word_sums(m, word, 6), total) for m in (masks, masks[:1].expand(2, -1, -1))
    )
    assert losses.shape_loss(unlike, total) < losses.shape_loss(alike, total)


def test_shape_loss_of_two_words_by_hand():
    """Two silhouettes without a common pixel are sqrt(2) apart, where the Gaussian of sigma 0.7 is exp(-2 / 0.98) = 0.1299."""
    silhouettes, total = torch.zeros(6, 2), torch.tensor([0.0, 0, 0, 1, 1, 0])
    silhouettes[3, 0] = silhouettes[4, 1] = 1
    near = np.exp(-2 / 0.98)
    # both pairs compete: 2 x 1.1 near of 2 x 1.1; none does: 2 x 0.1 near of 2 x 0.1, which is less than one pair
    assert losses.shape_loss(silhouettes, total, competing=1.0) == pytest.approx(np.log(near + 1e-3), abs=1e-4)
    assert losses.shape_loss(silhouettes, total) == pytest.approx(np.log(0.2 * near + 1e-3), abs=1e-4)


def test_marks_lie_as_far_apart_as_their_pictures():
    """Of three marks of 4 pixels, one differs in color alone, one in shape alone; nothing lies near a border."""
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


def test_color_loss_of_two_words_by_hand():
    """A word that is red and less red, another that is green: pull, push and contrast to a black ground."""
    lab, word, weight = torch.tensor([[60.0, 40, 0], [60, 20, 0], [50, -70, 0]]), torch.tensor([3, 3, 4]), torch.ones(3)
    pull = (10**2 + 10**2 + 0) / 3 / 1000  # each of the first two is 10 from their mean
    distance = np.hypot(60 - 50, 30 + 70)
    push = np.log(2 * 0.3 * np.exp(-np.sqrt(distance**2 + 1) / 10) + 1e-3)
    color = losses.color_loss(lab, word, weight, None, 6)
    assert color == pytest.approx(pull + push, abs=1e-3)
    unseen = (
        max(0, 70 - np.hypot(60, 40)) ** 2 + max(0, 70 - np.hypot(60, 20)) ** 2 + max(0, 70 - np.hypot(50, 70)) ** 2
    ) / 3
    black = losses.color_loss(lab, word, weight, torch.zeros(3), 6)
    assert black - color == pytest.approx(losses.VISIBILITY * unseen / 1000, rel=1e-2) and losses.VISIBILITY == 30


def nothing(square):
    return 0 * square


def test_repulsion_is_for_words_that_are_alike_in_both():
    ring, disc = torch.zeros(2, 24, 24)
    ring[2:22, 2:22], ring[7:17, 7:17], disc[7:17, 7:17] = 1, 0, 1
    red, green, word, weight = [1.0, 0, 0], [0.0, 1, 0], torch.tensor([3, 4]), torch.ones(2)

    def repulsion(first, second, *masks):
        total = losses.word_sums(weight, word, 6)
        silhouettes = losses.silhouettes_of_words(losses.word_sums(torch.stack(masks), word, 6), total)
        return losses.repulsion_loss(
            srgb_to_lab(torch.tensor([first, second])), silhouettes, word, weight, 6, competing=1.0
        )

    both = repulsion(red, red, ring, ring)
    assert both == pytest.approx(-2 * 1e-3**0.5, abs=0.01)
    assert repulsion(red, red, ring, disc) < both - 1 and repulsion(red, green, ring, ring) < both - 2
    assert repulsion(red, green, ring, disc) < repulsion(red, green, ring, ring)


def test_repulsion_parts_marks_that_all_but_coincide():
    """The gradient on the color of one of two like marks does not fade as they come together, as a Gaussian's does."""
    silhouettes, word, weight = torch.zeros(6, 4), torch.tensor([3, 4]), torch.ones(2)

    def force(apart):  # dE
        lab = torch.tensor([[50.0, 0, 0], [50.0 + apart, 0, 0]], requires_grad=True)
        losses.repulsion_loss(lab, silhouettes, word, weight, 6, competing=1.0).backward()
        return lab.grad[0, 0].abs()

    assert force(2) > 0.5 * force(40)  # 0.05 of it with a Gaussian alone


def test_the_potential_spreads_points_instead_of_driving_them_into_corners():
    """Sixteen words on a line of room for them all: a gradient on their potential ends with all of them apart."""
    room = torch.linspace(0.45, 0.55, 16).logit().requires_grad_()
    optimizer = torch.optim.Adam([room], 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        losses.log_potential(
            room.sigmoid()[:, None] * 15, torch.ones(16), 1.0, losses.gaussian(0.7), nothing
        ).backward()
        optimizer.step()
    gaps = (room.sigmoid() * 15).sort().values.diff()
    assert gaps.min() > 0.4  # evenly spread they would be 1 apart


def test_the_potential_counts_competing_and_other_words_and_only_those_present():
    means, total = torch.tensor([[0.0], [0], [9]]), torch.ones(3)
    competing = torch.zeros(3, 3)
    competing[0, 1] = competing[1, 0] = 1
    near = losses.gaussian(1.0)

    def others(square):
        return 0.1 * torch.exp(-square)

    # two competing words of three coincide: 2 x 1.1 of 2 x 1.1 + 4 x 0.1; without competition 2 of 6 pairs do; without the second word none
    assert losses.log_potential(means, total, competing, near, others).exp() == pytest.approx(
        2.2 / 2.6 + 1e-3, abs=1e-4
    )
    assert losses.log_potential(means, total, 0.0, near, others).exp() == pytest.approx(0.2 / 1.0 + 1e-3, abs=1e-4)
    assert losses.log_potential(means, torch.tensor([1.0, 0, 1]), competing, near, others).exp() == pytest.approx(
        1e-3, abs=1e-4
    )


def test_color_loss_parts_words_that_do_not_compete_too():
    word, weight, ground = torch.tensor([3, 4]), torch.ones(2), torch.zeros(3)
    alike, unlike = torch.tensor([[1.0, 0, 0], [1, 0, 0.02]]), torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    loss = [losses.color_loss(srgb_to_lab(rgb), word, weight, srgb_to_lab(ground), 6) for rgb in (unlike, alike)]
    assert loss[0] < loss[1] - 1


def test_words_of_one_place_compete():
    word, place = torch.tensor([3, 4, 5]), torch.tensor([0, 0, 1])
    r = losses.competition(word, place, torch.ones(3), 6, 2)
    assert r[3, 4] == pytest.approx(1, abs=1e-4) and r[3, 5] == 0


def test_layout_loss_prefers_one_word_a_sprite_and_one_kind_a_place():
    ids = torch.tensor([[3, 4], [5, 6]])
    tidy = torch.eye(2).expand(2, 2, 2)
    mixed = torch.full((2, 2, 2), 0.5)
    crowded = torch.tensor([[1.0, 1], [0, 0]]).expand(2, 2, 2)
    best = losses.layout_loss(tidy, ids, 8)
    assert best < losses.layout_loss(mixed, ids, 8) and best < losses.layout_loss(crowded, ids, 8)


def test_layout_loss_of_words_that_are_everywhere_by_hand():
    """Two words, each half in both of two sprites: every entropy is ln 2, and each sprite has one collision of 1/2 x 1/2."""
    attention = torch.full((1, 2, 2), 0.5)
    wanted = (1 + losses.SPREAD_OF_WORDS + losses.INDECISION) * np.log(2) + losses.COLLISIONS * 2 * 0.25
    assert losses.layout_loss(attention, torch.tensor([[3, 4]]), 8) == pytest.approx(wanted, abs=1e-4)
    assert (losses.SPREAD_OF_WORDS, losses.COLLISIONS, losses.INDECISION) == (0.5, 3, 0.4)


def test_layout_loss_wants_a_word_in_one_place_in_all_sentences():
    ids = torch.tensor([[3, 4], [3, 4]])
    steady = torch.eye(2).expand(2, 2, 2)
    wandering = torch.stack([torch.eye(2), torch.eye(2).flip(0)])
    assert losses.layout_loss(steady, ids, 8) < losses.layout_loss(wandering, ids, 8)


def test_kl_is_not_clamped():
    kl = torch.tensor([1e4, 1e4], requires_grad=True)
    losses.kl_loss(kl).backward()
    assert (kl.grad == 0.5).all()


def test_special_words():
    assert (PAD, BOS, EOS) == (0, 1, 2)
