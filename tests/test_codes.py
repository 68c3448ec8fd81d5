"""Scenes as lists of codes: how they are written, what a word has, and what is drawn from them."""

import doctest

import pytest
import torch
from parrot import tiny_cycle

from data_utils import pad
from decoders import DECODERS, codes
from models import Cycle
from pictures import codes_of_sentences, draw_sentences
from settings import resolve

CPU = torch.device("cpu")
TEXTS = ["a red ball in the left above a huge blue cube on a dotted background", "a red cube", "a tiny ball glowing"]


def reading_order_cycle():
    typed = {"captions_file": "x", "d_model": 32, "n_heads": 2, "n_layers": 1, "hidden_dim": 64, "use_vq": True}
    settings = resolve(typed)
    settings = DECODERS[settings.decoder].fit(settings, [12])
    torch.manual_seed(0)
    return Cycle(settings, 60, settings.n_cells)


def test_examples_in_its_docstrings():
    done = doctest.testmod(codes)
    assert done.attempted and not done.failed


@pytest.mark.parametrize("decoder", ["objects", "glyphs"])
def test_what_is_written_is_drawn_as_its_sentence(decoder):
    cycle, vocab, _ = tiny_cycle(decoder, use_vq=True)
    written = codes_of_sentences(cycle, vocab, TEXTS, CPU)
    pictures, again = cycle.scene_decoder.draw_codes(written)
    assert again == written
    drawn = draw_sentences(cycle, vocab, TEXTS, CPU)
    assert (pictures - drawn).abs().max() < 0.01  # 8 bits
    assert (pictures[1] - pictures[2]).abs().max() > 0.1


def test_glyphs_in_reading_order_are_drawn_as_their_tokens():
    cycle = reading_order_cycle()
    ids = pad([[7, 8, 9, 10, 7], [20, 7]])
    scene, decoder = cycle.draw(ids), cycle.scene_decoder
    written = [decoder.write_codes(scene, ids, row) for row in range(2)]
    assert torch.allclose(decoder.draw_codes(written)[0], scene.picture, atol=1e-5)
    first, second = (text.split() for text in written)
    assert first[0] == first[4] == second[1] and len(second) == 2


def test_a_word_has_one_code_whatever_its_company():
    cycle, vocab, _ = tiny_cycle(use_vq=True)
    one, two, three = codes_of_sentences(cycle, vocab, TEXTS, CPU)
    red, cube = next(w for w in one.split() if w in two.split()), two.split()
    assert red in cube and len(cube) == 2 and set(cube) <= set(one.split()) and three.count("=") == 3


@pytest.mark.parametrize("decoder", ["objects", "glyphs", "reading order"])
def test_codes_move_only_by_whole_codes_and_the_kl_is_none(decoder):
    cycle = reading_order_cycle() if decoder == "reading order" else tiny_cycle(decoder, use_vq=True)[0]
    ids = pad([[5, 7, 8], [9, 10, 11]])
    scene = cycle.scene_decoder(cycle.language_model(ids), torch.Generator().manual_seed(0))
    assert not scene.kl.any() and scene.codes.dtype == torch.int64
    sizes = [cycle.scene_decoder.alphabets[name].n_codes for name in set(cycle.scene_decoder.alphabets)]
    assert -1 <= scene.codes.min() and scene.codes.max() < max(sizes)


def test_a_shape_that_nothing_moves_is_pulled_back_and_others_are_left_alone():
    """Two discs that the sigmoids cannot tell apart: the repulsion of outlines has no gradient there, the pull back has."""
    outline = tiny_cycle(use_vq=True)[0].scene_decoder.properties.outline
    numbers = torch.zeros(2, 14)
    numbers[:, 0] = torch.tensor([-30.0, -34.0])
    numbers.requires_grad_()
    forms = outline.form(numbers)
    assert torch.equal(forms[0], forms[1]) and torch.autograd.grad(forms.sum(), numbers)[0][:, 0].abs().max() < 1e-9
    pull = torch.autograd.grad(outline.saturation(numbers), numbers)[0]
    assert (pull[:, 0] < 0).all() and not pull[:, 1:].any()
    assert outline.saturation(torch.full((2, 14), 3.9)) == 0


def test_a_dropped_word_shows_a_code_at_random():
    cycle, vocab, _ = tiny_cycle(use_vq=True)
    decoder = cycle.scene_decoder
    decoder.latent_dropout = 1.0 - 1e-7
    ids = pad([vocab.encode("a ball")] * 64)
    with torch.no_grad():
        pictures = decoder(cycle.language_model(ids), torch.Generator().manual_seed(0)).picture
    shapes = decoder.alphabets["shape"].n_codes
    different = {tuple((p * 255).round().int().flatten().tolist()) for p in pictures}
    assert shapes // 2 < len(different) <= shapes


SIZES = {"color": 5, "background": 3}


@pytest.mark.parametrize(
    "text, named",
    [
        ("colour=3", "'colour=3' is no code; the codes of this model are color=0...4 background=0...2"),
        ("color", "'color' is no code"),
        ("color=5", "'color=5': color is a whole number from 0 to 4"),
        ("color=-1", "from 0 to 4"),
        ("color=1 color=2", "'color=2' is the second color; put / between two objects"),
        ("background=1 / background=2 / -", "is the second background"),
        ("ground=1 / background=2 / -", "is the second background"),
        ("color=1 //", "has an object without a code"),
        ("ground=1", "has 0 objects; this model draws 1 to 3"),
        (" / ".join(["color=1"] * 4), "has 4 objects"),
    ],
)
def test_bad_codes_of_objects_are_named(text, named):
    with pytest.raises(ValueError) as error:
        codes.read_objects(text, SIZES, 3)
    assert named in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, named",
    [("1 x", "'x'"), ("7", "from 0 to 6"), ("- -", "has no code"), ("1 1 1", "has 3 cells; this model has 2")],
)
def test_bad_codes_of_glyphs_are_named(text, named):
    with pytest.raises(ValueError) as error:
        codes.read_glyphs(text, 7, 2)
    assert named in str(error.value)
