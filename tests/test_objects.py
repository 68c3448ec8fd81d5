"""The objects decoder: which word sets what, and what things look like."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from data_utils import PAD, GrammarData, pad
from decoders.objects import ObjectsSceneDecoder
from decoders.properties import LARGEST, PROPERTIES, SMALLEST
from decoders.renderer import TERRITORIES, shaded
from decoders.word_slots import NO_PROPERTY, OF_BACKGROUND, assign_properties
from models import Cycle
from settings import Settings
from text.word_classes import BACKGROUND, NEXT, NOUN, PREVIOUS, WordClasses, find_word_classes

DATA = GrammarData(10**6, 0)
CLASSES = find_word_classes(DATA.some_sentences(5000), len(DATA.vocab))
SMALL = dict(d_model=32, n_heads=2, n_layers=1, hidden_dim=64, z_dim=66, use_vae=True)


@pytest.fixture
def cycle():
    torch.manual_seed(0)
    return Cycle(Settings(**SMALL), len(DATA.vocab), DATA.max_tokens, CLASSES)


def ids_of(*sentences):
    return pad([DATA.vocab.encode(s) for s in sentences])


def words_of_factors(cycle, sentence):
    """{(object or "background", property): word}, number of objects."""
    slots = cycle.scene_decoder.slots(ids_of(sentence))
    words, out = sentence.replace("an ", "a ").split(), {}
    for factor, position in enumerate(slots.position[0].tolist()):
        if position >= 0:
            index, prop = divmod(factor, len(PROPERTIES))
            is_background = factor == cycle.scene_decoder.n_factors - 1
            out["background" if is_background else (index + 1, PROPERTIES[prop])] = words[position]
    return out, int(slots.count)


def bodies(decoder, z, n):
    """Masks of bodies (B, 64, 64) of scenes of n objects, white on black, that no word sets."""
    words = torch.full(z.shape[:2], -1)
    shape = (decoder.n_objects, len(PROPERTIES))
    z, words = z[:, :-1].unflatten(1, shape), words[:, :-1].unflatten(1, shape)
    values = {name: decoder.value(name, z[:, :, i], words[:, :, i]) for i, name in enumerate(PROPERTIES)}
    values["color"] = torch.ones_like(values["color"])
    return decoder.renderer(values, torch.zeros(len(z), 6), torch.full((len(z),), n))[:, 0]


def test_classes_with_most_words_set_the_properties_with_most_capacity():
    classes = WordClasses([], [NEXT, NOUN, BACKGROUND, PREVIOUS], [30, 9, 5, 2])
    assert assign_properties(classes) == [0, 1, OF_BACKGROUND, 2]
    many = WordClasses([], [NOUN] + [NEXT] * 9, [9] * 10)
    assert assign_properties(many)[-3:] == [NO_PROPERTY] * 3  # none is left


def test_words_belong_to_their_nouns(cycle):
    words, count = words_of_factors(cycle, "a ball in the left above a huge red cube glowing on a dotted background")
    assert count == 2 and words["background"] == "dotted"
    assert {v for k, v in words.items() if k[0] == 1} == {"ball", "left", "above"}
    assert {v for k, v in words.items() if k[0] == 2} == {"huge", "red", "cube", "glowing"}
    of = {v: k[1] for k, v in words.items() if k != "background"}
    assert of["ball"] == of["cube"] and len(set(of.values())) == len(of) - 1  # each class sets a property of its own


def test_a_class_sets_one_property_of_every_object(cycle):
    one, _ = words_of_factors(cycle, "a red ball and a blue cube")
    two, _ = words_of_factors(cycle, "a ball and a red cube")
    place = {v: k for k, v in {**one}.items()}
    assert place["red"][0] == 1 and place["blue"] == (2, place["red"][1])
    assert {v: k for k, v in two.items()}["red"] == (2, place["red"][1])


def test_more_nouns_than_objects_and_none_at_all(cycle):
    ids = ids_of("a red ball and a blue cube and a green box")
    four = torch.cat([ids, ids], 1)
    assert cycle.draw(four).picture.isfinite().all()
    nothing = ids_of("in the")
    assert cycle.draw(nothing).picture.shape == (1, 3, 64, 64)


def test_what_a_word_sets_is_drawn_from_the_word_alone(cycle):
    decoder = cycle.scene_decoder
    ids = ids_of("a red ball and a blue cube", "a huge blue cube above a red ball in the left")
    text = cycle.language_model(ids)
    mu, _, slots = decoder.encode(text.tokens, ids)
    color = PROPERTIES.index("color")
    first, second = color, len(PROPERTIES) + color
    assert torch.equal(mu[0, first], mu[1, second]) and torch.equal(mu[0, second], mu[1, first])
    assert (slots.word[:, [first, second]] >= 0).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_objects_are_whole_apart_and_inside_the_frame(n):
    """Whatever the latents: as many connected bodies as objects, none at the border."""
    torch.manual_seed(0)
    decoder = ObjectsSceneDecoder(CLASSES, 32, 64, 66)
    z = 2 * torch.randn(200, decoder.n_factors, decoder.factor_dim, generator=torch.Generator().manual_seed(n))
    with torch.no_grad():
        union = (bodies(decoder, z, n) > 0.5).numpy()
    assert not (union[:, [0, -1]].any() or union[:, :, [0, -1]].any())
    counts = [label(mask, structure=np.ones((3, 3)))[1] for mask in union]
    assert sum(c == n for c in counts) >= 196


def test_areas_follow_the_size_whatever_the_shape():
    torch.manual_seed(0)
    decoder = ObjectsSceneDecoder(CLASSES, 32, 64, 66)
    axis = torch.arange(64.0) - 31.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    values = 2 * torch.randn(100, 14, generator=torch.Generator().manual_seed(0))
    for radius in (SMALLEST * TERRITORIES[3][2], LARGEST * TERRITORIES[1][2]):
        inside, _ = decoder.properties.outline(values, x.reshape(1, -1), y.reshape(1, -1), torch.full((100, 1), radius))
        area = torch.sigmoid(1.5 * inside).sum(1) / (torch.pi * radius**2)
        assert 0.9 < area.min() and area.max() < 1.2


def test_dropped_words_leave_no_trace_in_the_picture_and_have_no_kl(cycle):
    """The picture does not depend on a word whose latent is drawn from the prior, and `dropped` marks it."""
    decoder = cycle.scene_decoder
    decoder.latent_dropout = 0.95
    first = ids_of("a red ball in the left above a huge blue cube")
    second = ids_of("a gray box in the top below a tiny pink star")
    setting = [1, 2, 5, 6, 8, 9, 10]  # positions of words that set something
    for seed in range(20):
        scenes = [decoder(cycle.language_model(ids), torch.Generator().manual_seed(seed)) for ids in (first, second)]
        dropped = scenes[0].dropped
        assert torch.equal(dropped, scenes[1].dropped) and not dropped[0, [0, 3, 4, 7]].any()  # "a", "in", "the"
        if dropped[0, setting].all():
            assert torch.equal(scenes[0].picture, scenes[1].picture)
            assert (scenes[0].kl == 0).all()
            return
    raise AssertionError("in 20 draws, no picture lost all of its words")


def test_a_vocabulary_without_word_classes_is_drawn_and_has_losses():
    """Free text may have no classes: the losses are 0 and have no gradient, instead of failing."""
    decoder = ObjectsSceneDecoder(WordClasses([-1] * 9, [], []), 32, 64, 66)
    parts = decoder.losses(torch.randn(9, 32), {}, torch.tensor([[3, 4]]), np.random.default_rng(0))
    assert {name: float(value) for name, value in parts.items()} == {"color": 0, "repulsion": 0}


def test_a_color_at_its_limit_keeps_its_gradient():
    color = torch.tensor([0.999, 0.001, 0.5], requires_grad=True)
    light = torch.tensor([[-0.4, 0.0, 0.4]], requires_grad=True)
    shown = shaded(color[:, None], light)
    assert shown.min() >= 0 and shown.max() <= 1
    shown.sum().backward()
    assert (color.grad > 1).all() and light.grad.abs().min() > 0


def test_a_word_that_no_sentence_has_leaves_the_default(cycle):
    picture = cycle.draw(ids_of("a ball", "a red ball")).picture
    assert (picture[0] - picture[1]).abs().max() > 0.02


def test_layers_are_the_background_and_one_object_each(cycle):
    sentence = "a red ball in the left above a huge blue cube on a dotted background"
    ids = ids_of("a ball", sentence)
    scene, words = cycle.draw(ids), sentence.split()
    with torch.no_grad():
        layers = cycle.scene_decoder.layers(scene, ids, 1)
    named = [" ".join(words[i] for i in positions) for _, positions in layers]
    assert named == ["dotted", "red ball left above", "huge blue cube"]
    ground, left, right = (picture for picture, _ in layers)
    for alone, side, other in ((left, slice(0, 26), slice(38, 64)), (right, slice(38, 64), slice(0, 26))):
        assert torch.allclose(alone[..., side], scene.picture[1][..., side], atol=1e-3)
        assert torch.allclose(alone[..., other], ground[..., other], atol=1e-3)
        assert (alone - ground).abs().max() > 0.1


def test_interpolation_leads_from_one_scene_to_the_other(cycle):
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
