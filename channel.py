"""The channel between drawer and reader: what happens to a picture on its way.

A PNG always rounds to 8 bits; other wear is drawn at random and grows with a severity in [0, 1].
Each picture of a batch is worn in one way. Hues are left alone: colour is the message.
"""

import functools
import math

import torch
import torch.nn.functional as F


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


def full_precision(wear):
    """For what is done to a picture: float32 under autocast, too, whose 8 significant bits would make other pictures."""

    @functools.wraps(wear)
    def done(picture, *arguments, **options):
        with torch.autocast(picture.device.type, enabled=False):
            return wear(picture.float(), *arguments, **options)

    return done


@full_precision
def blur(picture, sigma):
    """Gaussian blur, sigma in px (number or 0-dim tensor > 0), reaching 4 px."""
    at = torch.arange(-4, 5, device=picture.device)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(picture.dtype)
    x = F.pad(picture, (4, 4, 4, 4), mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 9, 1).expand(3, -1, -1, -1), groups=3)
    return F.conv2d(x, kernel.view(1, 1, 1, 9).expand(3, -1, -1, -1), groups=3)


@functools.lru_cache
def _band(side, taps, repeat, device):
    """(side, side) matrix that puts sum_i taps[i] x[n + i - half] in the place of x[n]; beyond the ends x repeats or is 0."""
    n, i = torch.arange(side, device=device)[:, None], torch.arange(len(taps), device=device) - len(taps) // 2
    weight = torch.tensor(taps, device=device) * (((n + i >= 0) & (n + i < side)) | repeat)
    return torch.zeros(side, side, device=device).scatter_add(1, (n + i).clamp(0, side - 1), weight)


@full_precision
def smooth(picture, taps, repeat=True):
    """Weighted means of neighbours, the same across and down: square pictures (..., side, side), a tuple of an odd number of
    weights -> the same shape. Beyond the border the picture repeats, or is 0.

    Two products with a band matrix: a convolution of one channel takes longer.
    """
    band = _band(picture.shape[-1], taps, repeat, picture.device)
    return band @ (picture @ band.T)


def resample(picture, size):
    """Down to size x size by area and back to 64x64, bilinear."""
    return F.interpolate(F.adaptive_avg_pool2d(picture, size), picture.shape[-1], mode="bilinear", align_corners=False)


def shift(picture, dx, dy):
    """Move by whole pixels, the border repeated."""
    x = F.pad(picture, (4, 4, 4, 4), mode="replicate")
    side = picture.shape[-1]
    return x[..., 4 - dy : 4 - dy + side, 4 - dx : 4 - dx + side]


# Quantisation tables of ITU-T T.81 (JPEG), annex K
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
    up = F.interpolate(torch.eye(side // 2, device=device)[None], scale_factor=2, mode="linear", align_corners=False)[0].T
    luma = torch.tensor([0.299, 0.587, 0.114], device=device)
    red, _, blue = torch.eye(3, device=device)
    ycc = torch.stack([luma, (blue - luma) / 1.772, (red - luma) / 1.402])
    return blocks, blocks.T, half_blocks @ down, up @ half_blocks.T, ycc, ycc.inverse()


@functools.lru_cache
def _jpeg_steps(table, quality, side, device):
    """The quantisation step of every coefficient of a plane, (side, side)."""
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


def silhouettes(scene, compose, rows):
    """Some scenes (row numbers) with every sprite in one mid gray: only shapes and places are left to read."""
    masks = scene.masks[rows]
    return compose(masks, masks.new_full((*masks.shape[:2], 3), 0.6))


class _Reorder(torch.autograd.Function):
    """x[order], where each row comes once and `back` is the inverse: the gradient is one copy, too."""

    @staticmethod
    def forward(ctx, x, order, back):
        ctx.back = back
        return x[order]

    @staticmethod
    def backward(ctx, gradient):
        return gradient[ctx.back], None, None


# The wear that training uses. Cut-out, rotation, brightness and hue are kept for the tests.
WEAR = ("none", "noise", "blur", "resample", "jpeg", "shift", "silhouettes", "silhouettes")


def transmit(scene, severity, rng, host_rng, compose=None, wear=WEAR, first=0):
    """Send a batch of scenes through the channel -> what arrives, (B, 3, 64, 64).

    severity: 0-dim tensor in [0, 1]; rng: generator on the pictures' device; host_rng: numpy
    Generator for choices that must not wait for the device. The batch is dealt out evenly over
    the kinds of wear, from a random start; `silhouettes` needs `compose` (the layered decoder). Of a
    batch that several processes share, these are the scenes from number `first` on.
    """
    lots = [w for w in wear if w != "silhouettes" or compose is not None]
    start = int(host_rng.integers(len(lots)))
    everyone = torch.arange(len(scene.picture), device=scene.picture.device)
    rows = {}  # of each kind of wear
    for i, kind in enumerate(lots):
        drawn = everyone[(start + i - first) % len(lots) :: len(lots)]
        rows[kind] = torch.cat([rows[kind], drawn]) if kind in rows else drawn
    order = torch.cat(list(rows.values()))
    back = torch.argsort(order)
    pictures = _Reorder.apply(scene.picture.float(), order, back).split([len(row) for row in rows.values()])
    parts = []
    for (kind, row), x in zip(rows.items(), pictures):
        here = len(row) > 0
        if not here:  # the same numbers are drawn whether or not a kind has a row here
            row, x = everyone[:1], scene.picture[:1].detach()
        if kind == "noise":
            x = add_noise(x, 0.03 + 0.12 * severity * float(host_rng.random()), rng)
        elif kind == "blur":
            x = blur(x, 0.3 + 1.2 * severity * float(host_rng.random()))
        elif kind == "resample":
            x = resample(x, 32) if host_rng.random() < 0.5 else torch.lerp(x, resample(x, 16), severity)
        elif kind == "jpeg":
            x = jpeg(x, int(host_rng.integers(30, 91)))
        elif kind == "shift":
            x = shift(x, *(int(d) for d in host_rng.integers(-3, 4, size=2)))
        elif kind == "silhouettes":
            x = torch.lerp(x, silhouettes(scene, compose, row), severity)
        if here:
            parts.append(x)
    arrived = _Reorder.apply(torch.cat(parts), back, order)
    return round_8bit(add_noise(arrived, 0.02, rng))
