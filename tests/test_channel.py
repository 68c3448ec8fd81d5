import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import channel
from imaging.filters import smooth
from pictures import from_image, to_image


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_picture(n=3):
    return torch.nn.functional.interpolate(torch.rand(n, 3, 6, 6, generator=rng()), 64, mode="bicubic").clamp(0, 1)


def test_rounding_is_what_a_png_stores_and_lets_gradients_through():
    picture = torch.rand(2, 3, 64, 64, generator=rng()).requires_grad_()
    rounded = channel.round_8bit(picture)
    for got, want in zip(rounded, picture):
        buffer = io.BytesIO()
        to_image(want).save(buffer, "PNG")
        assert torch.equal(from_image(Image.open(buffer)), got.detach())
    rounded.sum().backward()
    assert (picture.grad == 1).all()


@pytest.mark.parametrize("quality", [30, 50, 90])
def test_jpeg_is_close_to_libjpeg(quality):
    pictures = smooth_picture()
    ours = channel.jpeg(pictures, quality)
    for got, picture in zip(ours, pictures):
        buffer = io.BytesIO()
        to_image(picture).save(buffer, "JPEG", quality=quality, subsampling=2)
        libjpeg = from_image(Image.open(buffer))
        assert (got - libjpeg).abs().mean() < 0.3 * (picture - libjpeg).abs().mean() + 0.004


def test_jpeg_lets_gradients_through():
    picture = smooth_picture().requires_grad_()
    channel.jpeg(picture, 40).square().mean().backward()
    assert torch.isfinite(picture.grad).all() and picture.grad.abs().sum() > 0


def test_blur_keeps_the_mean_and_takes_away_detail():
    picture = torch.rand(2, 3, 64, 64, generator=rng())
    blurred = channel.blur(picture, 1.5)
    assert blurred.mean() == pytest.approx(float(picture.mean()), abs=0.01) and blurred.std() < 0.4 * picture.std()


def test_shift_moves_by_whole_pixels():
    picture = torch.rand(1, 3, 64, 64, generator=rng())
    assert torch.equal(channel.shift(picture, 2, -3)[..., :-3, 2:], picture[..., 3:, :-2])


@pytest.mark.parametrize("size", [1, 4, 7, 64])
def test_transmit_keeps_order_for_any_batch_and_repeats_with_its_seeds(size):
    picture = smooth_picture(size)

    def send(corruptions=channel.CORRUPTIONS, strength=1.0):
        return channel.transmit(picture, torch.tensor(strength), rng(), np.random.default_rng(0), corruptions)

    assert send().shape == picture.shape and torch.equal(send(), send())
    assert (send(("none",)) - picture).abs().max() < 0.15  # light noise only: nothing was permuted
    mild = send(tuple(k for k in channel.CORRUPTIONS if k not in ("shift", "jpeg")), 0.0)
    assert (mild - picture).abs().mean() < 0.1


def test_received_pictures_are_those_of_a_png_and_keep_their_gradient():
    picture = torch.tensor([0.0, 0.5, 1.0]).repeat(64, 1)[:, :, None, None].expand(-1, -1, 64, 64).clone()
    picture.requires_grad_()
    received = channel.transmit(picture, torch.tensor(1.0), rng(), np.random.default_rng(0), ("noise",))
    assert received.min() == 0 and received.max() == 1
    assert torch.allclose((received * 255).round(), received * 255, atol=1e-3)
    received.sum().backward()
    assert (picture.grad == 1).all()  # also where noise left [0, 1]


@pytest.mark.parametrize("kind", sorted(set(channel.CORRUPTIONS)))
def test_corruptions_are_full_precision_under_autocast(kind):
    def send():
        return channel.transmit(smooth_picture(), torch.tensor(0.9), rng(), np.random.default_rng(0), (kind,))

    with torch.autocast("cpu", torch.bfloat16):
        under = send()
    assert torch.equal(under, send())


@pytest.mark.parametrize("repeat", [True, False])
def test_smooth_is_a_convolution_with_a_border(repeat):
    picture = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    taps = (0.5, 0.2, 0.1, 0.15, 0.05)
    padded = F.pad(picture, (2, 2, 2, 2), mode="replicate" if repeat else "constant")
    kernel = torch.tensor(taps)[:, None] * torch.tensor(taps)
    wanted = F.conv2d(padded, kernel.expand(3, 1, 5, 5), groups=3)
    assert torch.allclose(smooth(picture, taps, repeat), wanted, atol=1e-6)
