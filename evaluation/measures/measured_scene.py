"""Measure a picture from its pixels alone: a background, and objects with position, color, outline, rim and more.

Nothing here depends on the scene decoder. The border of the frame shows the background; connected pixels that differ
from the background are an object. The model of a pixel is a mixture, in sRGB, of the body of an object, its rim, and
the background; light on a body adds the same value to its three channels, up to 1. Arrays are numpy float64; positions
are (x, y) px from the upper left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from imaging.color import srgb_to_lab

BORDER = 2  # px at the frame that show the background
LEAST_SHARE = 0.04  # of the border within SAME_TONE of a tone of the background
SAME_TONE = 6.0  # CIE76
TONES = 24  # of the background, at most
TONE_STEP = 2.5  # CIE76, the least distance of two of them
UNLIKE_BACKGROUND = 12.0  # CIE76 from every tone of the background, from which a pixel belongs to an object
LEAST_AREA = 12  # px of an object
GAP = 2  # px; parts at this distance or less are one object
CORE_DEPTH = 0.7  # of the core of an object, as a share of the depth nearby
FULL = 0.02  # distance from 0 or 1 within which a channel may be clipped
IS_BODY = 0.5  # share of a pixel from which it counts as the body
CLEARLY_BODY = 0.8
ROUNDS = 4  # of a fit
RIM_RESIDUAL = (0.06, 0.2)  # sRGB distance from mixtures of body and background: a rim is possible, certain
MIXED = 0.1  # sRGB distance from a mixture of rim and background below which a body looks like one
OUTLINE_SIDE = 24  # of the mask of an outline
OUTLINE_AREA = 160.0  # px, to which an outline is scaled
NEIGHBORS = np.ones((3, 3), bool)
MIDDLE = 0.3  # radius of the middle of an object, as a share of the object's
AROUND_DOT = 0.62  # radius of the area that a dot and its hole may fill, as a share of the object's
INNERMOST = 0.5  # radius of the inner part of that area, as a share of it
HAS_DOT = 0.25  # sRGB distance of the innermost pixels from the body from which there is a dot
LEAST_CORE = 6  # px from which the color of a body can be measured


@dataclass
class MeasuredBackground:
    """The background of a scene, from the pixels that no object is near."""

    lab: np.ndarray  # (3,) mean color, CIELAB
    strength: float  # amplitude of the strongest wave of lightness, L*; about 0 for a background of one tone
    frequency: np.ndarray  # (2,) of that wave across and down, radians a px, in [-pi, pi]; across is not negative


@dataclass
class MeasuredObject:
    """An object. Its body lies within the rim; area, center and outline include a hole or a dot in the body."""

    area: float  # px
    center: np.ndarray  # (2,) px, the centroid
    lab: np.ndarray  # (3,) color of the body at its center, where light adds nothing, CIELAB
    outline: np.ndarray  # (24, 24) bool, the body moved to its center and scaled to one area
    rim: np.ndarray  # (3,) rim minus background, sRGB in [-1, 1], mean over 2 px; about 0 without a rim
    shading: np.ndarray  # (2,) gradient of the light to the right and down, sRGB in [0, 1] a radius sqrt(area / pi)
    dot: np.ndarray  # (4,) mean sRGB color of the middle, and a 1, if it is unlike the body (a dot or a hole); else 0

    @property
    def rim_strength(self) -> float:
        """sRGB distance of the rim from the background, in [0, sqrt(3)]."""
        return float(np.linalg.norm(self.rim))


@dataclass
class MeasuredScene:
    """A picture: its background and its objects, in the order of `in_order`."""

    background: MeasuredBackground
    objects: list[MeasuredObject]


def measure_scene(picture: torch.Tensor | np.ndarray) -> MeasuredScene:
    """A picture (3, 64, 64) in [0, 1], tensor or array -> MeasuredScene. About 12 ms."""
    rgb = np.moveaxis(np.asarray(picture, np.float64), 0, -1)
    lab = to_lab(rgb)
    tones = background_colors(rgb, lab)  # (k, 3) sRGB
    masks = find_objects(lab, to_lab(tones))
    near = ndimage.binary_dilation(np.any([np.zeros(rgb.shape[:2], bool), *masks], 0), NEIGHBORS, 2)
    others = [np.any([mask & False, *(m for m in masks if m is not mask)], 0) for mask in masks]
    objects = [measure_object(rgb, mask, tones, other) for mask, other in zip(masks, others)]
    return MeasuredScene(measure_background(lab, ~near), in_order(objects))


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in [0, 1] -> CIELAB (..., 3)."""
    return srgb_to_lab(torch.from_numpy(np.ascontiguousarray(rgb, np.float32))).numpy().astype(np.float64)


def in_order(objects: list[MeasuredObject]) -> list[MeasuredObject]:
    """One object; two: left, right; three: upper left, upper right, lowest; more: from the top."""
    if len(objects) == 3:
        *upper, lowest = sorted(objects, key=lambda t: t.center[1])
        return [*sorted(upper, key=lambda t: t.center[0]), lowest]
    return sorted(objects, key=lambda t: t.center[0 if len(objects) == 2 else 1])


# ---------------------------------------------------------------------------------------------
# Background and objects
# ---------------------------------------------------------------------------------------------


def background_colors(rgb: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """Picture (h, w, 3) as sRGB and as CIELAB -> up to 24 tones of its border that are common there, (k, 3) sRGB."""
    inner = np.zeros(rgb.shape[:2], bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    rgb, lab = rgb[~inner][::2], lab[~inner][::2]  # half of them: the cost is quadratic
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)  # (n, n)
    share = (apart < SAME_TONE).mean(1)
    chosen = [int(share.argmax())]
    nearest = np.where(share >= LEAST_SHARE, apart[chosen[0]], 0)
    while len(chosen) < TONES and nearest.max() > TONE_STEP:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, apart[chosen[-1]])
    return rgb[chosen]


def find_objects(lab: np.ndarray, tones: np.ndarray) -> list[np.ndarray]:
    """Picture (h, w, 3) and tones of its background (k, 3), both CIELAB -> masks (h, w) bool, one an object."""
    distance = np.linalg.norm(lab[:, :, None] - tones, axis=-1).min(-1)
    parts, _ = ndimage.label(distance > UNLIKE_BACKGROUND, NEIGHBORS)
    big = np.bincount(parts.ravel()) >= LEAST_AREA
    big[0] = False
    mask = big[parts]
    joined, n = ndimage.label(ndimage.binary_dilation(mask, NEIGHBORS, GAP // 2), NEIGHBORS)
    return [mask & (joined == i + 1) for i in range(n)]


def measure_background(lab: np.ndarray, where: np.ndarray) -> MeasuredBackground:
    """Picture (h, w, 3) CIELAB, (h, w) bool where only the background shows -> MeasuredBackground."""
    if not where.any():
        where = np.ones_like(where)
    mean = lab[where].mean(0)
    wave = np.where(where, lab[..., 0] - mean[0], 0)
    side = 128
    spectrum = np.abs(np.fft.fft2(wave, (side, side)))[:, : side // 2 + 1]  # rows: down, columns: across
    down, across = np.unravel_index(spectrum.argmax(), spectrum.shape)
    frequency = 2 * np.pi * np.array([across, down - side if down > side // 2 else down]) / side
    if across == 0 and down > side // 2:
        frequency = -frequency
    return MeasuredBackground(mean, float(2 * spectrum.max() / where.sum()), frequency)


# ---------------------------------------------------------------------------------------------
# An object
# ---------------------------------------------------------------------------------------------


def measure_object(rgb: np.ndarray, mask: np.ndarray, tones: np.ndarray, others: np.ndarray) -> MeasuredObject:
    """Picture (h, w, 3) sRGB, masks of the object and of others (h, w), tones of the background (k, 3)."""
    crop = _crop(mask, 7)
    origin = np.array([crop[1].start, crop[0].start], np.float64)
    rgb, mask, others = rgb[crop], mask[crop], others[crop]
    core, middle = core_of(mask), middle_of(mask)
    if has_dot(rgb, core, middle):
        core = core & ~middle if (core & ~middle).sum() >= LEAST_CORE else core
    else:
        middle = np.zeros_like(middle)
    for _ in range(2):  # the second time with a better core
        light = BodyColor(rgb, core)
        rim, sure = rim_color(rgb, ndimage.binary_fill_holes(mask), light.picture, tones)
        coverage = np.where(others, 0, body_coverage(rgb, light.picture, rim, sure, tones))  # (h, w) in [0, 1]
        coverage = np.where(middle, 1, coverage)
        body = _parts_with(coverage > IS_BODY, core)
        clear = body & (coverage > CLEARLY_BODY) & ~middle
        core = clear if clear.sum() >= LEAST_CORE else core
    filled = ndimage.binary_fill_holes(body)
    inner = ndimage.binary_erosion(filled, NEIGHBORS)
    edge = ndimage.binary_dilation(filled, NEIGHBORS) & ~inner
    whole = np.where(inner, 1, np.where(edge, coverage, 0))
    area = float(filled.sum())
    y, x = np.nonzero(filled)
    center = np.array([x.mean(), y.mean()])
    radius = np.sqrt(area / np.pi)
    inmost = _disc(filled, center, MIDDLE * radius)
    lab = to_lab(light.at(center))
    background, rim = _ring(rgb, filled, coverage, light.picture, tones, others)
    return MeasuredObject(
        area=area,
        center=center + origin,
        lab=lab,
        outline=normalized_outline(whole, center, area),
        rim=rim - background,
        shading=light.slope * radius,
        dot=np.append(rgb[inmost].mean(0), 1.0) if middle.any() else np.zeros(4),
    )


def _disc(mask, center, radius):
    """Which pixels of a mask (h, w) lie within a radius, px, of a center (x, y); at least the nearest one."""
    y, x = np.indices(mask.shape)
    distance = np.hypot(x - center[0], y - center[1])
    return distance <= max(radius, distance.min())


def _crop(mask, margin):
    """Slices of the box around a mask and a margin, inside the frame."""
    box = ndimage.find_objects(mask.astype(int))[0]
    return tuple(slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, n in zip(box, mask.shape))


def core_of(mask: np.ndarray) -> np.ndarray:
    """Pixels along the middle of an object's parts: nearly as deep in the mask as the deepest ones nearby. Thin gaps,
    where a rim turns into a body through a tone of the background, are closed."""
    depth = ndimage.distance_transform_edt(ndimage.binary_closing(np.pad(mask, 2), NEIGHBORS))[2:-2, 2:-2]
    core = mask & (depth >= CORE_DEPTH * ndimage.maximum_filter(depth, 7))
    return core if core.any() else mask


def middle_of(mask: np.ndarray) -> np.ndarray:
    """Which pixels of the mask of an object, its holes filled, lie where a dot and the hole around it may be."""
    filled = ndimage.binary_fill_holes(mask)
    y, x = np.nonzero(filled)
    return _disc(filled, (x.mean(), y.mean()), AROUND_DOT * np.sqrt(filled.sum() / np.pi)) & filled


def has_dot(rgb: np.ndarray, core: np.ndarray, middle: np.ndarray) -> bool:
    """Whether the innermost pixels are unlike the body around them: crop (h, w, 3) sRGB, its core and its middle."""
    around = core & ~middle
    if around.sum() < LEAST_CORE or not middle.any():
        return False
    y, x = np.nonzero(middle)
    center = (x.mean(), y.mean())
    inner = _disc(middle, center, INNERMOST * np.sqrt(middle.sum() / np.pi)) & middle
    return inner.any() and float(np.linalg.norm((rgb - BodyColor(rgb, around).picture)[inner].mean(0))) > HAS_DOT


class BodyColor:
    """The color of a body and the light on it, fitted to the pixels of its core: sRGB = color + s(place), the same s
    for each channel that is not full. s is linear, or with enough pixels a cubic along the direction of the light."""

    def __init__(self, rgb: np.ndarray, core: np.ndarray):
        y, x = np.nonzero(core)
        self.middle = np.array([x.mean(), y.mean()])
        self.scale = max(1.0, np.sqrt(len(x) / np.pi))
        place = (np.stack([x, y], 1) - self.middle) / self.scale  # (n, 2)
        values = rgb[core]  # (n, 3)
        keep = np.ones(len(values), bool)
        for _ in range(3):
            self._fit(place[keep], values[keep])
            miss = np.abs(self._of(place) - values).max(1)
            keep = miss <= max(0.04, 3 * np.median(miss))
        y, x = np.indices(rgb.shape[:2])
        self.picture = self.at(np.stack([x, y], -1))  # (h, w, 3)

    def _fit(self, place, values):
        """Least squares over the values that are not full, or that the last round takes for not full."""
        self.color = np.median(values, 0)
        self.gradient = np.zeros(2)
        self.along = self.cubic = 0.0
        count = np.ones_like(values, bool)
        for _ in range(ROUNDS):
            usable = count.sum(0) >= 4  # channels
            rows, channels = np.nonzero(count & usable)
            if len(rows) < 12:
                return
            one_hot, wanted = np.eye(3)[channels][:, usable], values[rows, channels]
            fit = np.linalg.lstsq(np.concatenate([one_hot, place[rows]], 1), wanted, rcond=None)[0]
            self.color[usable], self.gradient = fit[:-2], fit[-2:]
            self.along = np.linalg.norm(self.gradient)
            predicted = self.color + (place @ self.gradient)[:, None]
            count = ((values > FULL) | (predicted > FULL)) & ((values < 1 - FULL) | (predicted < 1 - FULL))
        if len(place) >= 20 and self.along > 0.02:
            self._bend(place @ self.gradient / self.along, rows, one_hot, wanted, usable)

    def _bend(self, along, rows, one_hot, wanted, usable):
        """The fit with a cubic along the direction of the light, (n,), if it brightens everywhere."""
        design = np.concatenate([one_hot, along[rows, None], along[rows, None] ** 3], 1)
        fit = np.linalg.lstsq(design, wanted, rcond=None)[0]
        if -fit[-2] / 3 <= fit[-1] * np.abs(along).max() ** 2 <= fit[-2]:
            self.color[usable], self.along, self.cubic = fit[:-2], fit[-2], fit[-1]

    def _of(self, place):
        along = place @ self.gradient / max(np.linalg.norm(self.gradient), 1e-9)  # (...)
        return np.clip(self.color + (self.along * along + self.cubic * along**3)[..., None], 0, 1)

    def at(self, places: np.ndarray) -> np.ndarray:
        """Places (..., 2) px -> the color of a body there, (..., 3) sRGB."""
        return self._of(np.clip((np.asarray(places) - self.middle) / self.scale, -2, 2))

    @property
    def slope(self) -> np.ndarray:
        """(2,) sRGB a px."""
        return self.gradient / self.scale


def rim_color(rgb: np.ndarray, mask: np.ndarray, body: np.ndarray, tones: np.ndarray) -> tuple[np.ndarray, float]:
    """Crop (h, w, 3), mask of an object without holes (h, w), color of its body everywhere (h, w, 3), tones of the
    background (k, 3), all sRGB -> color of its rim (3,), and how sure it is that there is one, in [0, 1]: how unlike
    every mixture of body and background a quarter of the pixels along the edge are."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    edge = (depth > 0) & (depth < 4)
    residual = _from_segments(rgb[edge][:, None], tones, body[edge][:, None]).min(1)
    most = residual >= np.quantile(residual, 0.75)
    low, high = RIM_RESIDUAL
    return rgb[edge][most].mean(0), float(np.clip((residual[most].mean() - low) / (high - low), 0, 1))


def body_coverage(rgb: np.ndarray, body: np.ndarray, rim: np.ndarray, sure: float, tones: np.ndarray) -> np.ndarray:
    """How much of each pixel is body: crop (h, w, 3), color of the body everywhere (h, w, 3), color of the rim (3,) and
    how sure it is, tones of the background (k, 3), all sRGB -> (h, w) in [0, 1]."""
    from_body = np.linalg.norm(rgb - body, axis=-1)
    from_rest = np.linalg.norm(rgb[:, :, None] - tones, axis=-1).min(-1)
    mixed = _from_segments(rgb[:, :, None], tones, rim).min(-1)
    apart = np.minimum(from_rest, np.linalg.norm(rgb - rim, axis=-1))
    # a body that looks like a mixture of rim and background is compared with both, not with their mixtures
    with_rim = np.where(_from_segments(body[:, :, None], tones, rim).min(-1) > MIXED, mixed, apart)
    from_rest = sure * with_rim + (1 - sure) * from_rest
    return from_rest / np.maximum(from_rest + from_body, 1e-6)


def _from_segments(points, start, end):
    """Distance of points from segments; all (..., 3) that broadcast -> (...)."""
    along = end - start
    share = ((points - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9)
    return np.linalg.norm(points - start - np.clip(share, 0, 1)[..., None] * along, axis=-1)


def _parts_with(mask, core):
    """The connected parts of a mask that meet the core; the core itself if none does."""
    parts, _ = ndimage.label(mask, NEIGHBORS)
    met = np.unique(parts[core & mask])
    return np.isin(parts, met) & mask if len(met) else core


def _ring(rgb, filled, coverage, body, tones, others):
    """The background beyond a body, and the mean of 2 px around it less what bleeds from the body; (3,) sRGB each.

    An edge bleeds outwards as much as it lacks inside, at the same distance from it.
    """
    outside = ndimage.distance_transform_edt(~filled)
    inside = ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1]
    free = ~ndimage.binary_dilation(others, NEIGHBORS)
    beyond = (outside > 5) & free
    background = rgb[beyond].mean(0) if beyond.any() else tones.mean(0)
    ring = (outside > 0) & (outside < 2.5) & free
    within = (inside > 0) & (inside < 2.5)
    if not ring.any():
        return background, background
    bleeds = (1 - coverage[within]).mean()
    bled = bleeds * body[within].mean(0) + (1 - bleeds) * background
    return background, np.clip(background + rgb[ring].mean(0) - bled, 0, 1)


def normalized_outline(coverage: np.ndarray, center: np.ndarray, area: float) -> np.ndarray:
    """Coverage (h, w) in [0, 1] of a body without holes, its center (x, y) and area, px -> (24, 24) bool."""
    axis = (np.arange(OUTLINE_SIDE) - (OUTLINE_SIDE - 1) / 2) * np.sqrt(area / OUTLINE_AREA)
    y, x = np.meshgrid(axis + center[1], axis + center[0], indexing="ij")
    return ndimage.map_coordinates(coverage.astype(np.float64), [y, x], order=1, cval=0.0) > IS_BODY
