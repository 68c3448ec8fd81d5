"""From sentences to PNG files and back: what generate.py, caption.py, train.py and evaluate.py share."""

import os

import numpy as np
import torch
from PIL import Image

from channel import round_8bit
from data_utils import pad
from models import PICTURE_SIZE

BATCH = 250  # sentences drawn or read at once: memory stays flat however many there are


def draw_sentences(circle, vocab, sentences, device):
    """Sentences -> pictures (n, 3, 64, 64) in [0, 1] as a PNG would hold them, on the CPU. Raises UnknownWord."""
    rows = [vocab.encode(s) for s in sentences]
    parts = [circle.draw(pad(rows[i : i + BATCH]).to(device)).picture for i in range(0, len(rows), BATCH)]
    return round_8bit(torch.cat([p.float().cpu() for p in parts])) if parts else torch.zeros(0, 3, PICTURE_SIZE, PICTURE_SIZE)


def read_pictures(circle, vocab, pictures, device, temperature=0.0, rng=None):
    """Pictures (n, 3, 64, 64) in [0, 1] -> captions, log probabilities (n,)."""
    captions, log_probs = [], []
    for part in pictures.split(BATCH) if len(pictures) else ():
        words, log_prob, _ = circle.caption_network.read(part.to(device), temperature, rng)
        captions += [vocab.decode(row) for row in words.tolist()]
        log_probs += log_prob.tolist()
    return captions, log_probs


def to_image(picture):
    """A picture (3, h, w) in [0, 1] -> an 8-bit RGB Pillow image."""
    array = (picture.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(array.permute(1, 2, 0).numpy()))


def from_image(image):
    """An 8-bit RGB Pillow image of 64x64 -> (3, 64, 64) in [0, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"), np.float32)).permute(2, 0, 1) / 255


def save_pngs(pictures, folder, start=0):
    """Pictures -> folder/00000.png ..., numbered from `start`; returns the paths."""
    paths = [os.path.join(folder, f"{start + i:05d}.png") for i in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        beside = f"{path}.{os.getpid()}.tmp"  # a file takes its name only when it is whole
        to_image(picture).save(beside, "PNG")
        os.replace(beside, path)
    return paths


def load_pngs(paths):
    """Files of 64x64 pictures -> (n, 3, 64, 64) in [0, 1]."""
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(from_image(image))
    return torch.stack(pictures) if pictures else torch.zeros(0, 3, PICTURE_SIZE, PICTURE_SIZE)


def through_png(circle, vocab, sentences, device, folder):
    """Sentences -> PNG files in `folder` -> captions read from the files; returns pictures, captions."""
    paths = save_pngs(draw_sentences(circle, vocab, sentences, device), folder)
    pictures = load_pngs(paths)
    return pictures, read_pictures(circle, vocab, pictures, device)[0]
