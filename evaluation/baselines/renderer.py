"""The hand-made renderer: pictures that a programmer might draw for sentences of the grammar. Nothing is trained."""

from __future__ import annotations

import math
from typing import Any

import torch
from PIL import Image, ImageDraw

from decoders.base import Scene
from pictures import from_image
from text.grammar import SUFFIXES, WITHOUT_ARTICLES, parse

RGB = {
    "red": (214, 39, 40), "blue": (31, 80, 200), "green": (40, 150, 60), "yellow": (250, 215, 40),
    "orange": (255, 140, 20), "purple": (130, 50, 170), "pink": (255, 140, 190), "brown": (125, 75, 40),
    "black": (20, 20, 20), "white": (255, 255, 255),
    "gray": (140, 140, 140),
}  # fmt: skip
RADIUS = {"tiny": 0.10, "small": 0.15, "medium": 0.21, "large": 0.28, "huge": 0.36}
CENTERS = {"left": (0.25, 0.5), "right": (0.75, 0.5), "top": (0.5, 0.28), "bottom": (0.5, 0.7), "corner": (0.78, 0.25)}
NO_COLOR = (180, 230, 225)  # of an object without a color word
OUTLINE_COLOR = (60, 60, 60)


def _polygon(x, y, r, corners, turn=0.0, inner=None):
    """Corner points of a regular polygon, or of a star where `inner` gives the smaller radius."""
    steps = corners * (2 if inner else 1)
    radii = [inner * r if inner and i % 2 else r for i in range(steps)]
    return [
        (x + k * math.sin(2 * math.pi * i / steps + turn), y - k * math.cos(2 * math.pi * i / steps + turn))
        for i, k in enumerate(radii)
    ]


def _draw_object(draw, name, x, y, r, fill):
    """One object, with a detail that distinguishes it from its synonyms."""
    disc = (x - r, y - r, x + r, y + r)
    if name in ("ball", "sphere"):
        draw.ellipse(disc, fill=fill, outline=OUTLINE_COLOR)
        if name == "ball":
            draw.line((x - r, y, x + r, y), fill=OUTLINE_COLOR, width=3)
        else:
            draw.ellipse((x - 0.6 * r, y - 0.6 * r, x, y), fill="white")
    elif name == "circle":
        draw.ellipse(disc, outline=OUTLINE_COLOR, width=1)
        draw.ellipse((x - r + 1, y - r + 1, x + r - 1, y + r - 1), outline=fill, width=max(3, int(r * 0.4)))
    elif name in ("cube", "box", "square"):
        draw.rectangle(disc, fill=fill, outline=OUTLINE_COLOR)
        if name == "cube":
            top = [(x - r, y - r), (x - 0.5 * r, y - 1.5 * r), (x + 1.5 * r, y - 1.5 * r), (x + r, y - r)]
            side = [(x + r, y - r), (x + 1.5 * r, y - 1.5 * r), (x + 1.5 * r, y + 0.5 * r), (x + r, y + r)]
            for face in (top, side):
                draw.polygon(face, fill=fill, outline=OUTLINE_COLOR)
        if name == "box":
            draw.rectangle((x - 1.3 * r, y - r, x + 1.3 * r, y - 0.5 * r), fill=OUTLINE_COLOR)
    elif name == "cylinder":
        draw.rectangle((x - 0.5 * r, y - r, x + 0.5 * r, y + r), fill=fill, outline=OUTLINE_COLOR)
        draw.ellipse((x - 0.5 * r, y - 1.3 * r, x + 0.5 * r, y - 0.7 * r), fill="white", outline=OUTLINE_COLOR)
    elif name == "pyramid":
        draw.polygon(_polygon(x, y, 1.2 * r, 3), fill=fill, outline=OUTLINE_COLOR)
        draw.line((x, y - 1.2 * r, x, y + 0.6 * r), fill=OUTLINE_COLOR, width=3)
    elif name == "triangle":
        draw.polygon(_polygon(x, y, 1.2 * r, 3, math.pi), fill=fill, outline=OUTLINE_COLOR)
    else:  # star
        draw.polygon(_polygon(x, y, 1.2 * r, 5, inner=0.45), fill=fill, outline=OUTLINE_COLOR)


def _draw_background(draw, side, kind):
    if kind == "plain":
        draw.rectangle((0, 0, side, side), fill=(190, 215, 235))
    elif kind == "gradient":
        for y in range(side):
            draw.line((0, y, side, y), fill=(255 - 110 * y // side,) * 3)
    elif kind == "striped":
        for x in range(0, side, side // 6):
            draw.rectangle((x, 0, x + side // 14, side), fill=(200, 225, 200))
    elif kind == "dotted":
        for x in range(0, side, side // 6):
            for y in range(0, side, side // 6):
                draw.ellipse((x, y, x + side // 16, y + side // 16), fill=(150, 160, 220))
    elif kind == "textured":
        for k in range(-side, side, side // 8):
            draw.line((k, 0, k + side, side), fill=(225, 200, 170), width=3)
            draw.line((k + side, 0, k, side), fill=(225, 200, 170), width=3)


def _draw_action(draw, action, x, y, r):
    """The action of an object, in the signs of comics."""
    if action == "sitting":
        draw.rectangle((x - 1.6 * r, y + 1.25 * r, x + 1.6 * r, y + 1.25 * r + 5), fill=OUTLINE_COLOR)
    elif action == "floating":
        for k in (-1.2, 0, 1.2):
            wave = (x + k * r - 0.6 * r, y + 1.3 * r, x + k * r + 0.6 * r, y + 1.9 * r)
            draw.arc(wave, 180, 360, fill=(40, 90, 200), width=3)
    elif action == "rotating":
        for start in (20, 200):
            around = (x - 1.6 * r, y - 1.6 * r, x + 1.6 * r, y + 1.6 * r)
            draw.arc(around, start, start + 120, fill=(180, 30, 120), width=4)
    elif action == "glowing":
        for p, q in zip(_polygon(x, y, 1.4 * r, 10), _polygon(x, y, 1.8 * r, 10)):
            draw.line((*p, *q), fill=(235, 170, 0), width=4)
    elif action == "pulsing":
        for k in (1.45, 1.75):
            draw.ellipse((x - k * r, y - k * r, x + k * r, y + k * r), outline=(220, 40, 40), width=2)


def _panel(slots, number, side):
    """One object with its size, position and action: a square Pillow image of `side` px; number: "" for the first
    object, "2", "3". A missing slot differs from each of its words: without a size the object has a dark frame, without
    a position the picture has no ticks, without a color the object is pale."""
    image = Image.new("RGB", (side, side), (245, 243, 238))
    draw = ImageDraw.Draw(image)
    _draw_background(draw, side, slots.get("background"))
    position = slots.get("position" + number)
    x, y = (v * side for v in CENTERS.get(position, (0.5, 0.5)))
    r = RADIUS.get(slots.get("size" + number), 0.18) * side
    _draw_action(draw, slots.get("action" + number), x, y, r)
    _draw_object(draw, slots["object" + number], x, y, r, RGB.get(slots.get("color" + number), NO_COLOR))
    if not slots.get("size" + number):
        draw.rectangle((x - 1.5 * r, y - 1.5 * r, x + 1.5 * r, y + 1.5 * r), outline=OUTLINE_COLOR, width=2)
    if position == "center":
        draw.line((0, side / 2, side / 8, side / 2), fill=OUTLINE_COLOR, width=4)
        draw.line((side * 7 / 8, side / 2, side, side / 2), fill=OUTLINE_COLOR, width=4)
    elif position == "middle":
        draw.line((side / 2, 0, side / 2, side / 8), fill=OUTLINE_COLOR, width=4)
        draw.line((side / 2, side * 7 / 8, side / 2, side), fill=OUTLINE_COLOR, width=4)
    elif position:
        draw.rectangle((0, 0, side - 1, side - 1), outline=(120, 160, 120), width=2)
    return image


def _relation_sign(draw, relation, x, y):
    """A small sign for the words between two objects, centered at x, y."""
    if relation == "and":
        draw.rectangle((x - 2, y - 8, x + 2, y + 8), fill=OUTLINE_COLOR)
        draw.rectangle((x - 8, y - 2, x + 8, y + 2), fill=OUTLINE_COLOR)
    elif relation in ("above", "below"):
        tip = -8 if relation == "above" else 8
        draw.polygon([(x - 8, y - tip), (x + 8, y - tip), (x, y + tip)], fill=(180, 30, 120))


def hand_made_picture(sentence: str) -> Image.Image:
    """A sentence of the grammar -> 64x64 RGB Pillow image; gray for any other sentence. Two or three objects have
    panels of their own, with a sign for the words between them."""
    slots = parse(sentence)
    if slots is None:
        return Image.new("RGB", (64, 64), (128, 128, 128))
    numbers = [number for number in SUFFIXES if "object" + number in slots]
    if len(numbers) == 1:
        return _panel(slots, "", 128).reduce(2)
    image = Image.new("RGB", (128, 128), (225, 225, 225))
    draw = ImageDraw.Draw(image)
    corners = {2: [(0, 24), (64, 24)], 3: [(0, 0), (64, 0), (32, 64)]}[len(numbers)]
    for number, corner in zip(numbers, corners):
        image.paste(_panel(slots, number, 64), corner)
    _relation_sign(draw, slots["relation2"], 64, 110 if len(numbers) == 2 else 40)
    if len(numbers) == 3:
        _relation_sign(draw, slots["relation3"], 112, 96)
    if slots.get(WITHOUT_ARTICLES):
        draw.rectangle((0, 0, 128, 14), fill=(120, 160, 120))
    return image.reduce(2)


class HandMadeRenderer:
    """`hand_made_picture` as a scene decoder: word ids (B, T) -> Scene with pictures (B, 3, 64, 64) in [0, 1]."""

    def __init__(self, vocab: Any):
        self.vocab = vocab

    def __call__(self, ids: torch.Tensor) -> Scene:
        pictures = torch.stack([from_image(hand_made_picture(self.vocab.decode(row))) for row in ids.tolist()])
        none = torch.zeros(len(ids), 1, device=ids.device)
        no_codes = ids.new_zeros(len(ids), 0)
        return Scene(pictures.to(ids.device), none, none, none[:, 0], torch.zeros_like(ids, dtype=torch.bool), no_codes)
