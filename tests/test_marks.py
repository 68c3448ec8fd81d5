"""The parts of the scene decoder by themselves."""

import torch
from decoders.marks import Shapes


def glyphs(n=400):
    torch.manual_seed(0)
    shapes = Shapes(9, 2, 24, 48)
    with torch.no_grad():
        return shapes, shapes(torch.randn(1, n, 9), torch.randn(1, n, 2))[0]


def test_marks_of_all_forms_cover_the_same_area():
    shapes, masks = glyphs()
    area = masks.sum((1, 2)) / (shapes.AREA * 24 * 24)
    assert 0.9 < area.min() and area.max() < 1.1
    assert masks.flatten(1).std(0).max() > 0.3  # and they do differ


def test_marks_stay_inside_their_window():
    """What the border of a window shows is the soft edge of the longest lobes at most."""
    _, masks = glyphs()
    border = torch.cat([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], 1)
    assert border.max() < 0.9 and border.amax(1).quantile(0.9) < 0.5


def test_a_mark_can_be_moved_by_its_layout_alone():
    torch.manual_seed(0)
    shapes = Shapes(9, 2, 24, 48)
    with torch.no_grad():
        shapes.place[2].weight.zero_()
        shapes.place[2].bias.copy_(torch.tensor([9.0, 0.0]))
        right = shapes(torch.zeros(1, 1, 9), torch.zeros(1, 1, 2))[0, 0]
        shapes.place[2].bias.zero_()
        middle = shapes(torch.zeros(1, 1, 9), torch.zeros(1, 1, 2))[0, 0]
    assert torch.allclose(right[:, 3:], middle[:, :-3], atol=1e-3)
