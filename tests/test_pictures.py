"""From sentences to PNG files and back."""

import numpy as np
import pytest
import torch
from parrot import KNOWN, parrot
from PIL import Image

from checkpoints import load_model
from data_utils import UnknownWord
from pictures import draw_sentences, from_image, load_pngs, read_pictures, save_pngs, through_png, to_image


@pytest.fixture(scope="module")
def model():
    return load_model(parrot(), "cpu")


def test_drawn_pictures_are_what_a_png_holds(model, tmp_path):
    cycle, vocab, _ = model
    pictures = draw_sentences(cycle, vocab, KNOWN, "cpu")
    assert pictures.shape == (4, 3, 64, 64) and pictures.dtype == torch.float32
    assert 0 <= pictures.min() and pictures.max() <= 1 and not pictures.requires_grad
    assert torch.equal(load_pngs(save_pngs(pictures, str(tmp_path))), pictures)


def test_every_8_bit_level_survives_a_file(tmp_path):
    levels = torch.arange(256).repeat(48).reshape(1, 3, 64, 64) / 255
    assert torch.equal(load_pngs(save_pngs(levels, str(tmp_path))), levels)


def test_images_keep_rows_columns_and_channels_apart():
    picture = torch.zeros(3, 64, 64)
    picture[1, 2, 5] = 1  # green, third row, sixth column
    image = to_image(picture)
    assert image.getpixel((5, 2)) == (0, 255, 0)
    assert torch.equal(from_image(image), picture)


def test_values_outside_the_range_do_not_wrap_around():
    assert to_image(torch.full((3, 64, 64), 1.2)).getpixel((0, 0)) == (255, 255, 255)
    assert to_image(torch.full((3, 64, 64), -0.2)).getpixel((0, 0)) == (0, 0, 0)


def test_files_are_numbered_and_leave_nothing_beside(tmp_path):
    paths = save_pngs(torch.rand(3, 3, 64, 64), str(tmp_path), start=99_999)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["100000.png", "100001.png", "99999.png"]
    assert [p.rsplit("/", 1)[1] for p in paths] == ["99999.png", "100000.png", "100001.png"]


def test_nothing_in_nothing_out(model, tmp_path):
    cycle, vocab, _ = model
    pictures = draw_sentences(cycle, vocab, [], "cpu")
    assert pictures.shape == (0, 3, 64, 64)
    assert load_pngs([]).shape == (0, 3, 64, 64)
    assert through_png(cycle, vocab, [], "cpu", str(tmp_path))[1] == []


def test_blocks_do_not_change_the_result(model, monkeypatch):
    cycle, vocab, _ = model
    sentences = KNOWN * 3
    pictures = draw_sentences(cycle, vocab, sentences, "cpu")
    captions, log_probs = read_pictures(cycle, vocab, pictures, "cpu")
    monkeypatch.setattr("pictures.BATCH", 5)
    assert (draw_sentences(cycle, vocab, sentences, "cpu") - pictures).abs().max() < 2 / 255
    again, log_probs2 = read_pictures(cycle, vocab, pictures, "cpu")
    assert again == captions == sentences and np.allclose(log_probs, log_probs2, atol=1e-4)


def test_through_png_reads_the_files(model, tmp_path, monkeypatch):
    cycle, vocab, _ = model
    assert through_png(cycle, vocab, KNOWN, "cpu", str(tmp_path))[1] == KNOWN
    gray = Image.new("RGB", (64, 64), "gray")
    monkeypatch.setattr("pictures.to_image", lambda _: gray)  # what is in the files decides
    pictures, captions = through_png(cycle, vocab, KNOWN, "cpu", str(tmp_path))
    assert len(set(captions)) == 1 and pictures.std() < 1e-6


def test_temperature_draws_words_from_the_generator(model):
    cycle, vocab, _ = model
    pictures = draw_sentences(cycle, vocab, KNOWN * 5, "cpu")

    def read(seed):
        return read_pictures(cycle, vocab, pictures, "cpu", 5.0, torch.Generator().manual_seed(seed))[0]

    assert read(1) == read(1) != read(2)


def test_unknown_words_are_left_out_of_pictures(model):
    """They are refused where a user types them; unseen sentences of a captions file may have some."""
    cycle, vocab, _ = model
    with pytest.raises(UnknownWord, match="'zebra'"):
        vocab.encode("a red zebra")
    with_one, without = draw_sentences(cycle, vocab, ["a red zebra", "a red"], "cpu")
    assert torch.equal(with_one, without)
