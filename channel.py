"""The channel between scene decoder and captioner: what happens to a picture on its way.

A PNG always rounds to 8 bits; other corruptions are drawn at random and grow with a severity in [0, 1].
Each picture of a batch is corrupted in one way. Hues are left alone: color is part of the message.
"""

import functools
import math

import torch
import torch.nn.functional as F

from imaging.filters import blur, full_precision

MID_GRAY = 0.6  # of silhouettes, in [0, 1]


def straight_through(hard, soft):
    """`hard` on the way forth, the gradient of `soft` on the way back (Bengio et al. 2013)."""
    return soft + (hard - soft).detach()


def round_8bit(picture):
    """What a PNG stores of a picture in [0, 1], with a straight-through gradient."""
    with torch.no_grad():
        hard = (picture * 255).round_().div_(255)
    return straight_through(hard, picture)


def add_noise(picture, sigma, rng):
    """Gaussian noise of standard deviation sigma, in units of the range [0, 1]."""
    return picture + sigma * torch.randn(picture.shape, device=picture.device, generator=rng)


def resample(picture, size):
    """Down to size x size by area and back to 64x64, bilinear."""
    return F.interpolate(F.adaptive_avg_pool2d(picture, size), picture.shape[-1], mode="bilinear", align_corners=False)


def shift(picture, dx, dy):
    """Move by whole pixels, the border repeated."""
    x = F.pad(picture, (4, 4, 4, 4), mode="replicate")
    side = picture.shape[-1]
    return x[..., 4 - dy : 4 - dy + side, 4 - dx : 4 - dx + side]


# Quantization tables of ITU-T T.81 (JPEG), annex K
LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
) + (99,) * 32  # fmt: skip


@functools.lru_cache
def _jpeg_matrices(side, device):
    """What JPEG does to a plane, as products from the left (and, transposed, from the right): the cosine transform of all its
    8x8 blocks and back, and the same with half the resolution in between; RGB -> YCbCr and back. Each float32."""
    n = torch.arange(8, device=device, dtype=torch.float32)
    dct = torch.cos((2 * n[None] + 1) * n[:, None] * math.pi / 16) / 2
    dct[0] /= math.sqrt(2)
    blocks, half_blocks = (torch.block_diag(*[dct] * (k // 8)) for k in (side, side // 2))
    down = torch.eye(side // 2, device=device).repeat_interleave(2, 1) / 2  # (side / 2, side)
    up = F.interpolate(torch.eye(side // 2, device=device)[None], scale_factor=2, mode="linear", align_corners=False)[
        0
    ].T
    luma = torch.tensor([0.299, 0.587, 0.114], device=device)
    red, _, blue = torch.eye(3, device=device)
    ycc = torch.stack([luma, (blue - luma) / 1.772, (red - luma) / 1.402])
    return blocks, blocks.T, half_blocks @ down, up @ half_blocks.T, ycc, ycc.inverse()


@functools.lru_cache
def _jpeg_steps(table, quality, side, device):
    """The quantization step of every coefficient of a plane, (side, side)."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = ((torch.tensor(table, device=device) * scale + 50) / 100).floor().clamp(1, 255)
    return steps.view(8, 8).repeat(side // 8, side // 8)


@full_precision
def jpeg(picture, quality):
    """JPEG of a quality in [1, 100] with 4:2:0 chroma, rounding straight through (no Huffman code: it
    loses nothing). The side of a picture is a multiple of 16. Follows ITU-T T.81 and JFIF 1.02."""
    side, device = picture.shape[-1], picture.device
    into, out_of, half_into, half_out_of, to_ycc, to_rgb = _jpeg_matrices(side, device)

    def planes_through(planes, into, out_of, steps):
        coefficients = into @ planes @ into.T
        return out_of @ straight_through((coefficients / steps).round() * steps, coefficients) @ out_of.T

    luma, chroma = (to_ycc @ picture.mul(255).flatten(2)).unflatten(2, (side, side)).split([1, 2], 1)
    luma = planes_through(luma - 128, into, out_of, _jpeg_steps(LUMA, quality, side, device)) + 128
    chroma = planes_through(chroma, half_into, half_out_of, _jpeg_steps(CHROMA, quality, side // 2, device))
    rgb = (to_rgb @ torch.cat([luma, chroma], 1).flatten(2)).unflatten(2, (side, side)) / 255
    return straight_through(rgb.clamp(0, 1), rgb)


def silhouettes(scene, rows=slice(None)):
    """Some scenes (row numbers) with every sprite in one mid gray: only shapes and places are left to read."""
    masks = scene.masks[rows]
    return scene.compose(masks, masks.new_full((*masks.shape[:2], 3), MID_GRAY))


class _Reorder(torch.autograd.Function):
    """x[order], where each row comes once and `back` is the inverse: the gradient is one copy, too."""

    @staticmethod
    def forward(ctx, x, order, back):
        ctx.back = back
        return x[order]

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.back], None, None


# The corruptions that training uses; the hardest have two shares: noise, JPEG, silhouettes. The others that `evaluate.py`
# measures are never trained on.
CORRUPTIONS = ("none", "noise", "noise", "blur", "resample", "jpeg", "jpeg", "shift", "silhouettes", "silhouettes")


def corrupt(kind, picture, scene, rows, strength, rng, host_rng):
    """One kind of corruption for some pictures (b, 3, 64, 64), which are the given rows of a scene -> the same shape."""
    if kind == "noise":
        return add_noise(picture, 0.03 + 0.12 * strength * float(host_rng.random()), rng)
    if kind == "blur":
        return blur(picture, 0.3 + 1.2 * strength * float(host_rng.random()))
    if kind == "resample":
        return (
            resample(picture, 32) if host_rng.random() < 0.5 else torch.lerp(picture, resample(picture, 16), strength)
        )
    if kind == "jpeg":
        return jpeg(picture, int(host_rng.integers(30, 91)))
    if kind == "shift":
        return shift(picture, *(int(d) for d in host_rng.integers(-3, 4, size=2)))
    if kind == "silhouettes":
        return torch.lerp(picture, silhouettes(scene, rows), strength)
    return picture


def transmit(scene, strength, rng, host_rng, corruptions=CORRUPTIONS, first=0):
    """Send a batch of scenes through the channel -> what arrives, (B, 3, 64, 64).

    severity: 0-dim tensor in [0, 1]; rng: generator on the pictures' device; host_rng: numpy
    Generator for choices that must not wait for the device. The batch is dealt out evenly over
    the corruptions, from a random start; silhouettes need a scene in
    which shape and place alone tell the words. Of a
    batch that several processes share, these are the scenes from number `first` on.
    """
    kinds = [kind for kind in corruptions if kind != "silhouettes" or scene.preference is not None]
    start = int(host_rng.integers(len(kinds)))
    numbers = torch.arange(len(scene.picture), device=scene.picture.device)
    rows = {}  # of each kind
    for i, kind in enumerate(kinds):
        drawn = numbers[(start + i - first) % len(kinds) :: len(kinds)]
        rows[kind] = torch.cat([rows[kind], drawn]) if kind in rows else drawn
    order = torch.cat(list(rows.values()))
    back = torch.argsort(order)
    pictures = _Reorder.apply(scene.picture.float(), order, back).split([len(row) for row in rows.values()])
    parts = []
    for (kind, row), picture in zip(rows.items(), pictures):
        if len(row):
            parts.append(corrupt(kind, picture, scene, row, strength, rng, host_rng))
        else:  # the same numbers are drawn whether or not a kind has a row here
            corrupt(kind, scene.picture[:1].detach(), scene, numbers[:1], strength, rng, host_rng)
    received = _Reorder.apply(torch.cat(parts), back, order)
    return round_8bit(add_noise(received, 0.02, rng))
