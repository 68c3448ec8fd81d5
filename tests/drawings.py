"""Scenes drawn by rule, without a model: pictures whose content is known, for tests of what measures pictures."""

import zlib

import numpy as np
import torch

from text.grammar import ACTIONS, BACKGROUNDS, COLORS, OBJECTS, POSITIONS, RELATIONS, SIZES, SUFFIXES, parse

SIDE = 64
MIDDLES = {1: [(32, 32)], 2: [(16, 32), (48, 32)], 3: [(16, 16), (48, 16), (32, 48)]}

BODY_COLORS = dict(
    zip(
        COLORS,
        [(0.8, 0.2, 0.2), (0.3, 0.3, 0.9), (0.2, 0.5, 0.2), (0.9, 0.8, 0.2), (0.85, 0.5, 0.15), (0.5, 0.2, 0.6)]
        + [(0.95, 0.55, 0.75), (0.5, 0.35, 0.2), (0.2, 0.7, 0.7), (0.85, 0.85, 0.85), (0.55, 0.55, 0.55)],
    )
)  # fmt: skip
LOBES = dict(
    zip(OBJECTS, [(0, 0), (2, 0), (2, 45), (2, 90), (2, 135), (3, 0), (3, 180), (4, 0), (4, 45), (5, 0)])
)  # turn: degrees
PLACES = {w: (3 * np.cos(a), 3 * np.sin(a)) for w, a in zip(POSITIONS[:6], np.arange(6) * np.pi / 3)} | {
    POSITIONS[6]: (0, 0)
}
RIMS = dict(zip(ACTIONS, [(0.0, 0.9, 0.9), (0.9, 0.0, 0.9), (0.1, 1.0, 0.1), (1.0, 1.0, 1.0), (0.2, 0.2, 1.0)]))
LIGHTS = {w: (0.2 * np.cos(a), 0.2 * np.sin(a)) for w, a in zip(SIZES, np.arange(5) * 2 * np.pi / 5)}
RADII = dict(zip(RELATIONS, (4.4, 5.4, 6.5, 7.8)))
GROUNDS = dict(
    zip(BACKGROUNDS, [((0.2, 0.0, 0.1), 0, (0, 0)), ((0.0, 0.1, 0.25), 0, (0, 0))])
) | dict(zip(BACKGROUNDS[2:], [((0.1, 0.1, 0.1), 0.05, w) for w in ((0.7, 0), (0, 0.7), (0.5, 0.5))]))  # fmt: skip
PLAIN = ((0.06, 0.08, 0.12), 0, (0, 0))


def thing(center=(32, 32), color=(0.8, 0.8, 0.8), radius=6.4, lobes=(0, 0), light=(0, 0), rim=None, hole=0.0):
    """What `scene` draws; hole: its radius, px."""
    return {
        "center": center,
        "color": color,
        "radius": radius,
        "lobes": lobes,
        "light": light,
        "rim": rim,
        "hole": hole,
    }


def scene(things, ground=PLAIN):
    """Things, (color, amplitude, frequency) of a ground -> a picture (3, 64, 64) float32 in [0, 1] of 8-bit values."""
    color, amplitude, wave = ground
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    out = np.array(color) + (amplitude * np.sin(wave[0] * x + wave[1] * y))[..., None]
    for t in things:
        dx, dy = x - t["center"][0], y - t["center"][1]
        distance, (n, turn) = np.hypot(dx, dy), t["lobes"]
        swing = 0.35 if n else 0
        edge = t["radius"] / np.sqrt(1 + swing**2 / 2) * (1 + swing * np.cos(n * np.arctan2(dy, dx) - np.radians(turn)))
        body = np.clip(edge - distance + 0.5, 0, 1) * np.clip(distance - t["hole"] + 0.5, 0, 1)
        light = np.array(t["color"]) + ((t["light"][0] * dx + t["light"][1] * dy) / t["radius"])[..., None]
        if t["rim"] is not None:
            out = out + (np.array(t["rim"]) - out) * np.clip(edge + 2 - distance + 0.5, 0, 1)[..., None]
            body = np.where(distance > t["hole"] + 1, np.clip(edge - distance + 0.5, 0, 1), body)
        out = out + (np.clip(light, 0, 1) - out) * body[..., None]
    return torch.from_numpy((np.clip(out, 0, 1) * 255).round().astype(np.float32) / 255).permute(2, 0, 1)


def _things(slots):
    middles = MIDDLES[sum("object" + s in slots for s in SUFFIXES)]
    for suffix, middle in zip(SUFFIXES, middles):
        shift = PLACES.get(slots.get("position" + suffix), (1, 1))
        yield thing(
            center=(middle[0] + shift[0], middle[1] + shift[1]),
            color=BODY_COLORS.get(slots.get("color" + suffix), (0.7, 0.6, 0.4)),
            radius=RADII[slots.get({"": "relation2", "2": "relation3"}.get(suffix), RELATIONS[2])],
            lobes=LOBES[slots["object" + suffix]],
            light=LIGHTS.get(slots.get("size" + suffix), (0, 0)),
            rim=RIMS.get(slots.get("action" + suffix)),
        )


def compositional(sentences):
    """Each word sets one property of its own thing, as the tables above say."""
    parsed = [parse(s) for s in sentences]
    return torch.stack([scene(_things(p), GROUNDS.get(p.get("background"), PLAIN)) for p in parsed])


def holistic(sentences):
    """A random scene for each sentence, whatever its words are."""
    pictures = []
    for sentence in sentences:
        rng = np.random.default_rng(zlib.crc32(sentence.encode()))
        middles = MIDDLES[int(rng.integers(1, 4))]
        things = [
            thing(
                center=rng.uniform(-3, 3, 2) + m,
                color=rng.uniform(0.3, 1, 3),
                radius=rng.uniform(4.7, 7.4),
                lobes=list(LOBES.values())[rng.integers(10)],
                light=rng.uniform(-0.2, 0.2, 2),
            )
            for m in middles
        ]
        pictures.append(scene(things, (rng.uniform(0, 0.2, 3), 0, (0, 0))))
    return torch.stack(pictures)


def without_binding(sentences):
    """As `compositional`, but the colors of a sentence go to its things in alphabetical order."""
    pictures = []
    for slots in map(parse, sentences):
        names = ["color" + s for s in SUFFIXES if "color" + s in slots]
        slots |= dict(zip(names, sorted(slots[n] for n in names)))
        pictures.append(scene(_things(slots), GROUNDS.get(slots.get("background"), PLAIN)))
    return torch.stack(pictures)


def only_the_first(sentences):
    """As `compositional`, but only the first thing is drawn."""
    return torch.stack([scene(list(_things(parse(s)))[:1]) for s in sentences])
