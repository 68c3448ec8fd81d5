"""What a picture holds, measured from its pixels alone: a ground, and things with a place, a color, an outline, a rim and so on.

Nothing here knows the scene decoder. The border of the frame shows the ground; what is unlike the ground, and hangs together,
is a thing. A pixel is taken for a mixture, in sRGB, of the body of a thing, its rim, and the ground; light on a body is taken
to add the same to its three channels, until they are full. Arrays are numpy float64, places are (x, y) px from the upper left.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from imaging.color import srgb_to_lab

BORDER = 2  # px at the frame that show the ground
LEAST_SHARE, SAME_TONE = 0.04, 6.0  # a tone of the ground has this share of the border within this distance (CIE76)
TONES, TONE_STEP = 24, 2.5  # the most tones of the ground, and how near to each other they are taken (CIE76)
UNLIKE_GROUND = 12.0  # a pixel further from every tone of the ground belongs to a thing (CIE76)
LEAST_AREA = 12  # px; smaller specks are no things
GAP = 2  # px; parts no further apart than this, as after a step of one pixel from each, are one thing
CORE_DEPTH = 0.7  # the core of a thing is as deep as this share of the depth nearby
FULL = 0.02  # a channel this near to 0 or 1 may be cut off
IS_BODY, CLEARLY_BODY = 0.5, 0.8  # a pixel is the body's if so much of it is
ROUNDS = 4  # of a fit
RIM_RESIDUAL = (
    0.06,
    0.2,
)  # sRGB distance from every mixture of body and ground: from here a rim may be, from here it is
MIXED = 0.1  # sRGB distance from a mixture of rim and ground below which a body looks like one
OUTLINE_SIDE, OUTLINE_AREA = 24, 160.0  # an outline is a mask of this side, scaled to this area, px
NEIGHBORS = np.ones((3, 3), bool)
MIDDLE = 0.3  # radius of the middle of a thing, as a share of the thing's
AROUND_DOT, INNERMOST = (
    0.62,
    0.5,
)  # radius of what a dot and its hole may fill, as a share of the thing's; of its inner part, of that
HAS_DOT = 0.25  # sRGB distance of the innermost pixels from the body from which on there is a dot
LEAST_CORE = 6  # px from which a body's color can be told


@dataclass
class MeasuredGround:
    """The ground of a scene, from the pixels that no thing is near."""

    lab: np.ndarray  # (3,) mean color, CIELAB
    strength: float  # amplitude of the strongest wave of lightness, L*; about 0 for a ground of one tone
    frequency: np.ndarray  # (2,) of that wave across and down, radians a px, in [-pi, pi]; across is not negative


@dataclass
class MeasuredThing:
    """A thing. Its body is what lies within the rim; a hole or a dot in a body counts for area, center and outline."""

    area: float  # px
    center: np.ndarray  # (2,) px: the centroid
    lab: np.ndarray  # (3,) color of the body at its center, where light neither adds nor takes away, CIELAB
    outline: np.ndarray  # (24, 24) bool: the body moved to its center and scaled to one area
    rim_lab: np.ndarray  # (3,) mean color of the pixels around the body, less what bleeds from the body, CIELAB
    rim: np.ndarray  # (3,) what the rim adds to the ground, sRGB in [-1, 1], mean over 2 px; about 0 if there is no rim
    shading: (
        np.ndarray
    )  # (2,) how fast the body brightens to the right and down, sRGB in [0, 1] a radius sqrt(area / pi)
    dot: (
        np.ndarray
    )  # (4,) mean color of the middle, sRGB, and a 1, where it is unlike the body: a dot or a hole; else 0

    @property
    def rim_strength(self):
        """sRGB distance of the rim from the ground, in [0, sqrt(3)]."""
        return float(np.linalg.norm(self.rim))


@dataclass
class MeasuredScene:
    """A picture: its ground and its things, ordered by `in_order`."""

    ground: MeasuredGround
    things: list


def measure_scene(picture):
    """A picture (3, 64, 64) in [0, 1], tensor or array -> MeasuredScene. About 12 ms."""
    rgb = np.moveaxis(np.asarray(picture, np.float64), 0, -1)
    lab = to_lab(rgb)
    tones = ground_tones(rgb, lab)  # (k, 3) sRGB
    masks = find_things(lab, to_lab(tones))
    near = ndimage.binary_dilation(np.any([np.zeros(rgb.shape[:2], bool), *masks], 0), NEIGHBORS, 2)
    things = [
        measure_thing(rgb, mask, tones, np.any([m for m in masks if m is not mask] or [mask & False], 0))
        for mask in masks
    ]
    return MeasuredScene(measure_ground(lab, ~near), in_order(things))


def to_lab(rgb):
    """sRGB (..., 3) in [0, 1] -> CIELAB (..., 3)."""
    return srgb_to_lab(torch.from_numpy(np.ascontiguousarray(rgb, np.float32))).numpy().astype(np.float64)


def in_order(things):
    """One thing; two: left, right; three: upper left, upper right, lowest; more: from the top."""
    if len(things) == 3:
        *upper, lowest = sorted(things, key=lambda t: t.center[1])
        return [*sorted(upper, key=lambda t: t.center[0]), lowest]
    return sorted(things, key=lambda t: t.center[0 if len(things) == 2 else 1])


# ---------------------------------------------------------------------------------------------
# Ground and things
# ---------------------------------------------------------------------------------------------


def ground_tones(rgb, lab):
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


def find_things(lab, tones):
    """Picture (h, w, 3) and tones of its ground (k, 3), both CIELAB -> a list of masks (h, w) bool, one a thing."""
    distance = np.linalg.norm(lab[:, :, None] - tones, axis=-1).min(-1)
    parts, _ = ndimage.label(distance > UNLIKE_GROUND, NEIGHBORS)
    big = np.bincount(parts.ravel()) >= LEAST_AREA
    big[0] = False
    mask = big[parts]
    joined, n = ndimage.label(ndimage.binary_dilation(mask, NEIGHBORS, GAP // 2), NEIGHBORS)
    return [mask & (joined == i + 1) for i in range(n)]


def measure_ground(lab, where):
    """Picture (h, w, 3) CIELAB, (h, w) bool where only the ground shows -> MeasuredGround."""
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
    return MeasuredGround(mean, float(2 * spectrum.max() / where.sum()), frequency)


# ---------------------------------------------------------------------------------------------
# A thing
# ---------------------------------------------------------------------------------------------


def measure_thing(rgb, mask, tones, others):
    """Picture (h, w, 3) sRGB, mask of a thing (h, w), tones of the ground (k, 3), mask of other things -> MeasuredThing."""
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
    ground, rim = _ring(rgb, filled, coverage, light.picture, tones, others)
    return MeasuredThing(
        area=area,
        center=center + origin,
        lab=lab,
        outline=normalized_outline(whole, center, area),
        rim_lab=to_lab(rim),
        rim=rim - ground,
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


def core_of(mask):
    """Pixels along the middle of a thing's parts: as deep in the mask as the deepest ones nearby, or nearly so. Thin lines
    without mask, where a rim turns into a body through a tone of the ground, are closed."""
    depth = ndimage.distance_transform_edt(ndimage.binary_closing(np.pad(mask, 2), NEIGHBORS))[2:-2, 2:-2]
    core = mask & (depth >= CORE_DEPTH * ndimage.maximum_filter(depth, 7))
    return core if core.any() else mask


def middle_of(mask):
    """Which pixels of the mask of a thing, its holes filled, lie where a dot and the hole around it may be."""
    filled = ndimage.binary_fill_holes(mask)
    y, x = np.nonzero(filled)
    return _disc(filled, (x.mean(), y.mean()), AROUND_DOT * np.sqrt(filled.sum() / np.pi)) & filled


def has_dot(rgb, core, middle):
    """Whether the innermost pixels of a thing are unlike the body around them: crop (h, w, 3) sRGB, its core and its middle."""
    around = core & ~middle
    if around.sum() < LEAST_CORE or not middle.any():
        return False
    y, x = np.nonzero(middle)
    center = (x.mean(), y.mean())
    inner = _disc(middle, center, INNERMOST * np.sqrt(middle.sum() / np.pi)) & middle
    return inner.any() and float(np.linalg.norm((rgb - BodyColor(rgb, around).picture)[inner].mean(0))) > HAS_DOT


class BodyColor:
    """The color of a body and the light on it, fitted to the pixels of its core: sRGB = color + s(place), the same s for each
    channel that is not full. s is linear, or with enough pixels a cubic along the direction of the light."""

    def __init__(self, rgb, core):
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
        self.color, self.gradient, self.along, self.cubic = np.median(values, 0), np.zeros(2), 0.0, 0.0
        count = np.ones_like(values, bool)
        for _ in range(ROUNDS):
            told = count.sum(0) >= 4  # channels
            rows, channels = np.nonzero(count & told)
            if len(rows) < 12:
                return
            one_hot, wanted = np.eye(3)[channels][:, told], values[rows, channels]
            fit = np.linalg.lstsq(np.concatenate([one_hot, place[rows]], 1), wanted, rcond=None)[0]
            self.color[told], self.gradient = fit[:-2], fit[-2:]
            self.along = np.linalg.norm(self.gradient)
            predicted = self.color + (place @ self.gradient)[:, None]
            count = ((values > FULL) | (predicted > FULL)) & ((values < 1 - FULL) | (predicted < 1 - FULL))
        if len(place) >= 20 and self.along > 0.02:
            self._bend(place @ self.gradient / self.along, rows, one_hot, wanted, told)

    def _bend(self, along, rows, one_hot, wanted, told):
        """The fit with a cubic along the direction of the light, (n,), if it brightens everywhere."""
        design = np.concatenate([one_hot, along[rows, None], along[rows, None] ** 3], 1)
        fit = np.linalg.lstsq(design, wanted, rcond=None)[0]
        if -fit[-2] / 3 <= fit[-1] * np.abs(along).max() ** 2 <= fit[-2]:
            self.color[told], self.along, self.cubic = fit[:-2], fit[-2], fit[-1]

    def _of(self, place):
        along = place @ self.gradient / max(np.linalg.norm(self.gradient), 1e-9)  # (...)
        return np.clip(self.color + (self.along * along + self.cubic * along**3)[..., None], 0, 1)

    def at(self, places):
        """Places (..., 2) px -> the color of a body there, (..., 3) sRGB."""
        return self._of(np.clip((np.asarray(places) - self.middle) / self.scale, -2, 2))

    @property
    def slope(self):
        """(2,) sRGB a px."""
        return self.gradient / self.scale


def rim_color(rgb, mask, body, tones):
    """Crop (h, w, 3), mask of a thing without holes (h, w), color of its body everywhere (h, w, 3), tones of the ground (k, 3),
    all sRGB -> color of its rim (3,), and how sure it is that there is one, in [0, 1]: how unlike every mixture of body and
    ground a quarter of the pixels along the edge are."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    edge = (depth > 0) & (depth < 4)
    residual = _from_segments(rgb[edge][:, None], tones, body[edge][:, None]).min(1)
    most = residual >= np.quantile(residual, 0.75)
    low, high = RIM_RESIDUAL
    return rgb[edge][most].mean(0), float(np.clip((residual[most].mean() - low) / (high - low), 0, 1))


def body_coverage(rgb, body, rim, sure, tones):
    """How much of each pixel is body: crop (h, w, 3), color of the body everywhere (h, w, 3), color of the rim (3,) and
    how sure it is, tones of the ground (k, 3), all sRGB -> (h, w) in [0, 1]."""
    from_body = np.linalg.norm(rgb - body, axis=-1)
    from_rest = np.linalg.norm(rgb[:, :, None] - tones, axis=-1).min(-1)
    mixed = _from_segments(rgb[:, :, None], tones, rim).min(-1)
    apart = np.minimum(from_rest, np.linalg.norm(rgb - rim, axis=-1))
    # a body that looks like a mixture of rim and ground is told from the rim and from the ground, not from mixtures
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
    """The ground beyond a body and the mean color of the 2 px around it, less what bleeds from the body; (3,) sRGB each.

    An edge bleeds outwards as much as it lacks inside, at the same distance from it.
    """
    outside, inside = (
        ndimage.distance_transform_edt(~filled),
        ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1],
    )
    free = ~ndimage.binary_dilation(others, NEIGHBORS)
    beyond = (outside > 5) & free
    ground = rgb[beyond].mean(0) if beyond.any() else tones.mean(0)
    ring, within = (outside > 0) & (outside < 2.5) & free, (inside > 0) & (inside < 2.5)
    if not ring.any():
        return ground, ground
    bleeds = (1 - coverage[within]).mean()
    return ground, np.clip(ground + rgb[ring].mean(0) - bleeds * body[within].mean(0) - (1 - bleeds) * ground, 0, 1)


def normalized_outline(coverage, center, area):
    """Coverage (h, w) in [0, 1] of a body without holes, its center (x, y) and area, px -> (24, 24) bool."""
    axis = (np.arange(OUTLINE_SIDE) - (OUTLINE_SIDE - 1) / 2) * np.sqrt(area / OUTLINE_AREA)
    y, x = np.meshgrid(axis + center[1], axis + center[0], indexing="ij")
    return ndimage.map_coordinates(coverage.astype(np.float64), [y, x], order=1, cval=0.0) > IS_BODY
