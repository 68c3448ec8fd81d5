"""The objects decoder: which word sets what, and what things look like."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from data_utils import PAD, GrammarData, pad
from decoders.objects import TERRITORIES, ObjectsSceneDecoder, assign_properties, lit
from decoders.properties import LARGEST, PROPERTIES, SMALLEST
from models import Cycle
from settings import Settings
from text.word_classes import GROUND, NEXT, NOUN, PREVIOUS, WordClasses, find_word_classes

DATA = GrammarData(10**6, 0)
CLASSES = find_word_classes(DATA.some_sentences(5000), len(DATA.vocab))
SMALL = dict(d_model=32, n_heads=2, n_layers=1, hidden_dim=64, z_dim=66, use_vae=True)


@pytest.fixture
def cycle():
    torch.manual_seed(0)
    return Cycle(Settings(**SMALL), len(DATA.vocab), DATA.max_words, CLASSES)


def ids_of(*sentences):
    return pad([DATA.vocab.encode(s) for s in sentences])


def shown(cycle, sentence):
    """{(thing or "ground", property): word}."""
    at, there, count = cycle.scene_decoder.cells_of(ids_of(sentence))
    words, out = sentence.replace("an ", "a ").split(), {}
    for cell in there[0].nonzero()[:, 0].tolist():
        thing, number = divmod(cell, len(PROPERTIES))
        key = "ground" if cell == cycle.scene_decoder.n_cells - 1 else (thing + 1, PROPERTIES[number])
        out[key] = words[at[0, cell]]
    return out, int(count[0])


def test_kinds_with_most_words_take_the_roomiest_properties():
    classes = WordClasses([], [NEXT, NOUN, GROUND, PREVIOUS], [30, 9, 5, 2])
    assert assign_properties(classes) == [0, 1, len(PROPERTIES), 2]
    many = WordClasses([], [NOUN] + [NEXT] * 9, [9] * 10)
    assert assign_properties(many)[-3:] == [-1] * 3  # no room is left


def test_words_belong_to_their_nouns(cycle):
    words, count = shown(cycle, "a ball in the left above a huge red cube glowing on a dotted background")
    assert count == 2 and words["ground"] == "dotted"
    assert {v for k, v in words.items() if k[0] == 1} == {"ball", "left", "above"}
    assert {v for k, v in words.items() if k[0] == 2} == {"huge", "red", "cube", "glowing"}
    of = {v: k[1] for k, v in words.items() if k != "ground"}
    assert of["ball"] == of["cube"] and len(set(of.values())) == len(of) - 1  # each kind its own property


def test_a_kind_sets_one_property_of_whichever_thing(cycle):
    one, _ = shown(cycle, "a red ball and a blue cube")
    two, _ = shown(cycle, "a ball and a red cube")
    place = {v: k for k, v in {**one}.items()}
    assert place["red"][0] == 1 and place["blue"] == (2, place["red"][1])
    assert {v: k for k, v in two.items()}["red"] == (2, place["red"][1])


def test_more_nouns_than_things_and_none_at_all(cycle):
    ids = ids_of("a red ball and a blue cube and a green box")
    four = torch.cat([ids, ids], 1)
    assert cycle.draw(four).picture.isfinite().all()
    nothing = ids_of("in the")
    assert cycle.draw(nothing).picture.shape == (1, 3, 64, 64)


def test_what_a_word_sets_is_drawn_from_the_word_alone(cycle):
    decoder = cycle.scene_decoder
    ids = ids_of("a red ball and a blue cube", "a huge blue cube above a red ball in the left")
    text = cycle.language_model(ids)
    mu, _, words, _, _ = decoder.encode(text.words, ids)
    color = PROPERTIES.index("color")
    first, second = color, len(PROPERTIES) + color
    assert torch.equal(mu[0, first], mu[1, second]) and torch.equal(mu[0, second], mu[1, first])
    assert (words[:, [first, second]] >= 0).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_things_are_whole_apart_and_inside_the_frame(n):
    """Whatever the latents: as many connected bodies as things, none at the border."""
    torch.manual_seed(0)
    decoder = ObjectsSceneDecoder(CLASSES, 32, 64, 66)
    z = 2 * torch.randn(200, decoder.n_cells, decoder.share, generator=torch.Generator().manual_seed(n))
    with torch.no_grad():
        _, things = decoder.compose(z, torch.full((200, decoder.n_cells), -1), torch.full((200,), n))
    union = (things.sum(1) > 0.5).numpy()
    assert not (union[:, [0, -1]].any() or union[:, :, [0, -1]].any())
    counts = [label(mask, structure=np.ones((3, 3)))[1] for mask in union]
    assert sum(c == n for c in counts) >= 196


def test_areas_follow_the_size_whatever_the_shape():
    torch.manual_seed(0)
    decoder = ObjectsSceneDecoder(CLASSES, 32, 64, 66)
    axis = torch.arange(64.0) - 31.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    numbers = 2 * torch.randn(100, 14, generator=torch.Generator().manual_seed(0))
    for radius in (SMALLEST * TERRITORIES[3][2], LARGEST * TERRITORIES[1][2]):
        inside, _ = decoder.properties.outline(
            numbers, x.reshape(1, -1), y.reshape(1, -1), torch.full((100, 1), radius)
        )
        area = torch.sigmoid(1.5 * inside).sum(1) / (torch.pi * radius**2)
        assert 0.9 < area.min() and area.max() < 1.2


def test_dropped_words_leave_no_trace_in_the_picture(cycle):
    """A word whose latent was drawn from the prior cannot be told from the picture, and is reported as lost."""
    decoder = cycle.scene_decoder
    decoder.latent_dropout = 0.95
    ids, other = (
        ids_of("a red ball in the left above a huge blue cube"),
        ids_of("a gray box in the top below a tiny pink star"),
    )
    drop = [1, 2, 5, 6, 8, 9, 10]  # places of words that set something
    for seed in range(20):
        (first, lost), (second, lost_too) = (
            (scene.picture, scene.lost)
            for text in (ids, other)
            for scene in [decoder(cycle.language_model(text), text != PAD, torch.Generator().manual_seed(seed))]
        )
        assert (
            torch.equal(lost, lost_too) and not lost[0, [0, 3, 4, 7]].any()
        )  # "a", "in" and "the" tell nothing anyway
        if lost[0, drop].all():
            assert torch.equal(first, second)
            return
    raise AssertionError("in 20 draws, no picture lost all of its words")


def test_a_color_at_its_limit_keeps_its_gradient():
    color = torch.tensor([0.999, 0.001, 0.5], requires_grad=True)
    light = torch.tensor([[-0.4, 0.0, 0.4]], requires_grad=True)
    shown = lit(color[:, None], light)
    assert shown.min() >= 0 and shown.max() <= 1
    shown.sum().backward()
    assert (color.grad > 1).all() and light.grad.abs().min() > 0


def test_a_word_that_no_sentence_has_leaves_the_default(cycle):
    picture = cycle.draw(ids_of("a ball", "a red ball")).picture
    assert (picture[0] - picture[1]).abs().max() > 0.02
    scene = cycle.draw(ids_of("a ball"))
    assert scene.things[0, 1:].abs().max() == 0 and scene.things[0, 0].max() > 0.9


def test_layers_are_the_ground_and_one_thing_each(cycle):
    sentence = "a red ball in the left above a huge blue cube on a dotted background"
    ids = ids_of("a ball", sentence)
    scene, words = cycle.draw(ids), sentence.split()
    with torch.no_grad():
        layers = cycle.scene_decoder.layers(scene, ids, 1)
    told = [" ".join(words[i] for i in places) for _, places in layers]
    assert told == ["dotted", "red ball left above", "huge blue cube"]
    ground, left, right = (picture for picture, _ in layers)
    for alone, side, other in ((left, slice(0, 26), slice(38, 64)), (right, slice(38, 64), slice(0, 26))):
        assert torch.allclose(alone[..., side], scene.picture[1][..., side], atol=1e-3)
        assert torch.allclose(alone[..., other], ground[..., other], atol=1e-3)
        assert (alone - ground).abs().max() > 0.1


def test_between_two_sentences_lies_a_way_from_one_scene_to_the_other(cycle):
    ends = [(cycle.draw(ids), ids) for ids in (ids_of("a red ball in the left"), ids_of("a blue cube"))]
    with torch.no_grad():
        pictures = cycle.scene_decoder.interpolate(*ends, torch.tensor([0.0, 0.3, 1.0]))
    assert torch.allclose(pictures[0], ends[0][0].picture[0], atol=1e-5)
    assert torch.allclose(pictures[2], ends[1][0].picture[0], atol=1e-5)
    assert (pictures[1] - pictures[0]).abs().max() > 0.02


def test_padding_changes_no_scene(cycle):
    alone, longer = ids_of("a red ball"), ids_of("a red ball", "a huge red ball in the left next to a tiny blue box")
    assert longer[0, -1] == PAD
    assert torch.allclose(cycle.draw(alone).picture, cycle.draw(longer).picture[:1], atol=1e-5)


def test_sizes_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match="z_dim 30 is too small"):
        ObjectsSceneDecoder(CLASSES, 32, 64, 30)
