import pytest
import torch

from captioners.base import sample_tokens
from data_utils import EOS, PAD, GrammarData
from decoders.objects import ObjectsSceneDecoder
from losses import token_loss
from models import AutoregressiveLanguageModel, CaptionNetwork, Cycle, SceneDecoder, attend, join_heads, split_heads
from settings import Settings
from text.padding import targets_of
from text.word_classes import find_word_classes

DATA = GrammarData(1000, 0)
IDS = DATA.batch(0, 0, 8)
CLASSES = find_word_classes(DATA.some_sentences(2000), len(DATA.vocab))
SMALL = dict(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, use_vae=True)


def cycle(**changes):
    torch.manual_seed(0)
    return Cycle(Settings(**{**SMALL, **changes}), len(DATA.vocab), DATA.max_tokens, CLASSES)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("decoder", ["objects", "glyphs", "conv"])
def test_scene_is_a_picture_and_kl_is_finite(decoder):
    z_dim = 6 * 25 if decoder == "glyphs" else 54
    c = cycle(decoder=decoder, n_cells=25, z_dim=z_dim)
    scene = c.scene_decoder(c.language_model(IDS), rng())
    assert scene.picture.shape == (8, 3, 64, 64)
    assert scene.picture.min() >= 0 and scene.picture.max() <= 1
    assert scene.mu.shape == scene.logvar.shape == (8, z_dim)
    assert torch.isfinite(scene.kl).all() and (scene.kl > 0).all()


def test_without_generator_nothing_is_random_and_with_one_the_seed_decides():
    c = cycle()
    text = c.language_model(IDS)

    def draw(g):
        return c.scene_decoder(text, g).picture

    assert torch.equal(draw(None), draw(None))
    assert torch.equal(draw(rng(1)), draw(rng(1)))
    assert not torch.equal(draw(rng(1)), draw(rng(2)))


def test_without_vae_the_bottleneck_is_plain():
    c = cycle(use_vae=False)
    text = c.language_model(IDS)
    assert torch.equal(c.scene_decoder(text, rng(1)).picture, c.scene_decoder(text, None).picture)


def test_padding_does_not_change_a_sentence():
    c = cycle()
    alone = c.draw(IDS[:1, : int((IDS[0] != PAD).sum())]).picture
    assert torch.allclose(alone, c.draw(IDS).picture[:1], atol=1e-5)


def test_one_sentence_does_not_leak_into_another():
    c = cycle()
    other = IDS.clone()
    other[1:] = IDS[0]
    assert torch.allclose(c.draw(IDS).picture[0], c.draw(other).picture[0], atol=1e-5)
    picture = c.draw(IDS).picture
    together = c.caption_network(picture, IDS).hidden[0]
    assert torch.allclose(together, c.caption_network(picture[:1], IDS[:1]).hidden[0], atol=1e-4)


def test_language_model_is_causal():
    c = cycle().language_model
    changed = IDS.clone()
    changed[:, 2] = 3
    a, b = c(IDS).hidden, c(changed).hidden
    assert torch.allclose(a[:, :3], b[:, :3], atol=1e-6)  # positions that have not read word 2
    assert not torch.allclose(a[:, 3], b[:, 3], atol=1e-6)


def test_captioner_sees_the_same_words_in_training_as_in_decoding():
    """The logits at step t of greedy decoding equal those of the training pass on the decoded words."""
    c = cycle()
    picture = torch.rand(4, 3, 64, 64, generator=rng())
    reading = c.caption_network.read(picture)
    words, log_prob = reading.ids, reading.log_prob
    ids = torch.where(words == EOS, PAD, words)[:, : DATA.max_tokens]
    logits = c.caption_network.logits(c.caption_network(picture, ids).hidden)
    logits[..., :EOS] = float("-inf")
    length = (words != PAD).sum(1)
    for i in range(4):
        steps = min(int(length[i]), DATA.max_tokens)  # EOS may be forced behind the last token
        assert torch.equal(logits[i, :steps].argmax(-1), words[i, :steps])
    targets = words[:, : logits.shape[1]]
    step = logits.log_softmax(-1).gather(2, targets[..., None])[..., 0].masked_fill(targets == PAD, 0)
    assert torch.allclose(step.sum(1), log_prob, atol=1e-3)


def test_embedding_of_a_picture_does_not_depend_on_tokens():
    c = cycle()
    picture = torch.rand(8, 3, 64, 64, generator=rng())
    embedding = c.caption_network(picture, IDS).embedding
    assert torch.equal(embedding, c.caption_network(picture, IDS.flip(0)).embedding)


def test_too_small_or_odd_sizes_are_refused_by_name():
    with pytest.raises(ValueError, match="n_heads"):
        AutoregressiveLanguageModel(10, 5, 30, 4, 1)
    with pytest.raises(ValueError, match="hidden_dim"):
        CaptionNetwork(10, 5, 32, 40)
    with pytest.raises(ValueError, match="at most 24"):
        cycle().language_model(torch.full((1, 25), 3))


def test_sampled_sentences_end_and_hold_no_special_words():
    ids = cycle().language_model.sample(50, rng())
    assert ids.shape[1] <= DATA.max_tokens and (ids[:, 0] > EOS).all()
    ended = (ids == PAD).cumsum(1).bool()
    assert ((ids == PAD) == ended).all()  # after the end only padding


def test_attention_matches_the_library():
    x = torch.randn(2, 6, 3 * 4 * 8, generator=rng())
    theirs = [part.unflatten(2, (4, 8)).transpose(1, 2) for part in x.chunk(3, 2)]  # each (2, heads, 6, 8)
    causal = torch.full((6, 6), float("-inf")).tril(-1)  # (keys, queries)
    for mask in (None, causal):
        ours = join_heads(attend(*split_heads(x, heads=4, parts=3), mask)[0], heads=4)
        library = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=mask is not None)
        assert torch.allclose(ours, library.transpose(1, 2).flatten(2), atol=1e-5)


@pytest.mark.parametrize("flat", [0.0, 0.5, 1.0])
def test_flat_pictures_give_finite_gradients(flat):
    c = cycle()
    picture = torch.full((4, 3, 64, 64), flat, requires_grad=True)
    caption = c.caption_network(picture, IDS[:4])
    logits = c.caption_network.logits(caption.hidden)
    (token_loss(logits, targets_of(IDS[:4])) + caption.embedding.mean()).backward()
    assert torch.isfinite(picture.grad).all()


def test_the_public_names_are_the_networks_of_the_default_preset():
    c = cycle()
    assert type(c.scene_decoder) is SceneDecoder is ObjectsSceneDecoder
    assert type(c.caption_network) is CaptionNetwork


def test_a_caption_that_does_not_end_is_cut_and_can_be_read_again():
    c = cycle()
    with torch.no_grad():
        c.caption_network.output.bias[EOS] = -1e4
    reading = c.caption_network.read(torch.rand(2, 3, 64, 64, generator=rng()))
    assert (reading.ids[:, -1] == EOS).all() and (reading.ids[:, :-1] > EOS).all()
    assert c.draw(reading.ids[:, :-1]).picture.isfinite().all()
    assert torch.allclose(reading.token_log_probs.sum(1), reading.log_prob)


@pytest.mark.parametrize("temperature", [1e-39, 1e-6, 1.0, 1e38])
def test_tokens_are_drawn_at_every_temperature(temperature):
    logits = torch.tensor([[1.0, 3.0, float("-inf")]]).expand(400, -1)
    drawn = sample_tokens(logits, temperature, rng())
    share = float((drawn == 1).float().mean())
    assert drawn.max() == 1
    assert share == 1 if temperature < 1e-3 else 0.4 < share < 0.95
