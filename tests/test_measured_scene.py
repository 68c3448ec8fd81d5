"""What pictures hold is measured from pixels: scenes drawn by rule, whose content is known."""

import io

import numpy as np
import pytest
import torch
from drawings import LOBES, PLAIN, scene, thing
from PIL import Image

from evaluation.measures.measured_scene import measure_scene, to_lab
from pictures import from_image, to_image

STAR = (4, 0)


def only(picture):
    (found,) = measure_scene(picture).objects
    return found


def iou(a, b):
    return (a.outline & b.outline).sum() / (a.outline | b.outline).sum()


@pytest.mark.parametrize("lobes", LOBES.values())
def test_a_thing_has_the_place_size_and_color_it_was_drawn_with(lobes):
    found = only(scene([thing((20.5, 41), (0.9, 0.5, 0.2), 8, lobes)]))
    assert found.center == pytest.approx([20.5, 41], abs=0.3)
    assert found.area == pytest.approx(np.pi * 8**2, rel=0.06)
    assert np.linalg.norm(found.lab - to_lab(np.array([0.9, 0.5, 0.2]))) < 2
    assert np.linalg.norm(found.shading) < 0.03 and not found.dot.any() and found.rim_strength < 0.1


@pytest.mark.parametrize("light", [(0.3, 0), (-0.3, 0), (0, 0.3), (0.2, -0.2)])
@pytest.mark.parametrize("color", [(0.5, 0.5, 0.5), (0.95, 0.3, 0.3), (0.1, 0.1, 0.9)])
def test_light_is_told_apart_from_color_even_where_channels_are_full(light, color):
    found = only(scene([thing(color=color, radius=9, light=light)]))
    assert found.shading == pytest.approx(light, abs=0.06)
    assert np.linalg.norm(found.lab - to_lab(np.array(color))) < 5


def test_a_rim_is_no_part_of_the_body():
    bare, rimmed = (
        only(scene([thing(color=(0.9, 0.4, 0.3), radius=8, lobes=STAR, rim=r)])) for r in (None, (0.1, 0.9, 0.9))
    )
    added = np.array([0.1, 0.9, 0.9]) - PLAIN[0]
    assert rimmed.rim @ added > 0.98 * rimmed.rim_strength * np.linalg.norm(added)  # its color
    assert 1.2 > rimmed.rim_strength > 0.6 > 0.1 > bare.rim_strength
    assert iou(bare, rimmed) > 0.9 and rimmed.area == pytest.approx(bare.area, rel=0.08)


def test_a_hole_counts_for_the_area_but_not_for_the_body():
    whole, holed = (only(scene([thing(radius=10, hole=h)])) for h in (0.0, 5.0))
    assert not whole.dot.any() and holed.dot[3] == 1 and holed.dot[:3].max() < 0.3  # down to the dark ground
    assert holed.area == pytest.approx(whole.area, rel=0.03) and iou(whole, holed) > 0.95


def test_an_outline_does_not_depend_on_place_size_or_color():
    base = only(scene([thing(radius=9, lobes=STAR)]))
    assert iou(base, only(scene([thing((25.4, 38.2), radius=9, lobes=STAR)]))) > 0.9
    assert iou(base, only(scene([thing(radius=6, lobes=STAR)]))) > 0.85
    assert iou(base, only(scene([thing(color=(0.3, 0.3, 0.9), radius=9, lobes=STAR)]))) > 0.9
    assert iou(base, only(scene([thing(radius=9, lobes=(4, 180))]))) < 0.7  # turned by half a lobe


@pytest.mark.parametrize("wave", [(0.6, 0.0), (0.0, 0.6), (0.5, 0.5), (0.5, -0.5)])
def test_stripes_are_ground_and_their_wave_is_measured(wave):
    found = measure_scene(scene([thing(radius=8)], ((0.2, 0.2, 0.2), 0.08, wave)))
    assert len(found.objects) == 1
    assert found.background.frequency == pytest.approx(wave, abs=0.06)
    tones = to_lab(np.array([[0.28] * 3, [0.12] * 3]))[:, 0]
    assert found.background.strength == pytest.approx(np.ptp(tones) / 2, rel=0.15)
    assert np.linalg.norm(found.background.lab - to_lab(np.array([0.2] * 3))) < 2


def test_an_empty_ground_has_no_things_and_no_stripes():
    found = measure_scene(scene([]))
    assert found.objects == [] and found.background.strength < 0.1
    assert np.linalg.norm(found.background.lab - to_lab(np.array(PLAIN[0]))) < 1


@pytest.mark.parametrize("centers", [[(14, 50), (48, 12)], [(16, 14), (48, 18), (32, 48)]])
def test_things_come_in_the_order_of_sentences(centers):
    shuffled = [centers[i] for i in (1, 0, 2) if i < len(centers)]
    found = measure_scene(scene([thing(c) for c in shuffled]))
    assert np.stack([t.center for t in found.objects]) == pytest.approx(np.array(centers), abs=0.3)


def test_specks_are_no_things_and_near_parts_are_one():
    assert len(measure_scene(scene([thing(radius=8), thing((8, 8), radius=1.2)])).objects) == 1
    halves = scene([thing(radius=8)])
    halves[:, :, 32:34] = torch.tensor(PLAIN[0])[:, None, None]
    assert len(measure_scene(halves).objects) == 1
    halves[:, :, 30:36] = torch.tensor(PLAIN[0])[:, None, None]
    assert len(measure_scene(halves).objects) == 2


def test_noise_and_jpeg_change_little():
    picture = scene([thing((16, 30), (0.8, 0.3, 0.2), 7, STAR, (0.2, 0)), thing((48, 34), (0.3, 0.4, 0.9), 7)])
    noisy = (picture + 0.01 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    file = io.BytesIO()
    to_image(picture).save(file, "JPEG", quality=85)
    for changed in (noisy, from_image(Image.open(file))):
        found = measure_scene(changed)
        assert len(found.objects) == 2
        for a, b in zip(measure_scene(picture).objects, found.objects):
            assert np.linalg.norm(a.lab - b.lab) < 12 and np.linalg.norm(a.center - b.center) < 0.5
            assert a.area == pytest.approx(b.area, rel=0.12) and iou(a, b) > 0.8
            assert np.linalg.norm(a.shading - b.shading) < 0.1


def test_a_picture_without_a_ground_is_measured_all_the_same():
    rng = torch.Generator().manual_seed(0)
    found = measure_scene(torch.rand(3, 64, 64, generator=rng))
    assert np.isfinite(found.background.lab).all()
    measure_scene(torch.zeros(3, 64, 64))
