import pytest
import torch
from decoders.marks import sinkhorn

from data_utils import EOS, PAD, GrammarData
from losses import word_loss
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
    return Cycle(Settings(**{**SMALL, **changes}), len(DATA.vocab), DATA.max_words, CLASSES)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("decoder", ["objects", "glyphs", "conv"])
def test_scene_is_a_picture_and_kl_is_finite(decoder):
    c = cycle(decoder=decoder)
    scene = c.scene_decoder(c.language_model(IDS), rng())
    assert scene.picture.shape == (8, 3, 64, 64)
    assert scene.picture.min() >= 0 and scene.picture.max() <= 1
    assert scene.mu.shape == scene.logvar.shape == (8, 54)
    assert torch.isfinite(scene.kl).all() and (scene.kl > 0).all()


def test_without_generator_nothing_is_random_and_with_one_the_seed_decides():
    c = cycle()
    text = c.language_model(IDS)

    def draw(g):
        return c.scene_decoder(text, IDS != PAD, g).picture

    assert torch.equal(draw(None), draw(None))
    assert torch.equal(draw(rng(1)), draw(rng(1)))
    assert not torch.equal(draw(rng(1)), draw(rng(2)))


def test_without_vae_the_bottleneck_is_plain():
    c = cycle(use_vae=False)
    text = c.language_model(IDS)
    assert torch.equal(
        c.scene_decoder(text, IDS != PAD, rng(1)).picture, c.scene_decoder(text, IDS != PAD, None).picture
    )


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
    read_together = c.caption_network(picture, IDS)[0][0]
    assert torch.allclose(read_together, c.caption_network(picture[:1], IDS[:1])[0][0], atol=1e-4)


def test_language_model_is_causal():
    c = cycle().language_model
    changed = IDS.clone()
    changed[:, 2] = 3
    a, b = c(IDS).logits, c(changed).logits
    assert torch.allclose(a[:, :3], b[:, :3], atol=1e-6)  # positions that have not read word 2
    assert not torch.allclose(a[:, 3], b[:, 3], atol=1e-6)


def test_padding_that_is_not_computed_changes_nothing():
    model, here = cycle().language_model.double(), IDS != PAD
    assert not here.all()  # there is padding
    packed, padded = model(IDS), model(IDS, pack=False)
    for name in ("cloze", "roles", "words", "surprisal"):
        torch.testing.assert_close(getattr(packed, name)[here], getattr(padded, name)[here], msg=name)
    torch.testing.assert_close(packed.sentence, padded.sentence)
    targets = targets_of(IDS)
    torch.testing.assert_close(packed.logits[targets != PAD], padded.logits[targets != PAD])
    gradients = [
        torch.autograd.grad(
            word_loss(text.logits, targets) + word_loss(text.cloze, IDS) + text.roles[here].square().sum(),
            list(model.blocks.parameters()) + [model.embedding.weight, model.position.weight],
        )
        for text in (packed, padded)
    ]
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # losses are float32


def test_cloze_is_blind_to_the_word_that_it_guesses():
    c = cycle().language_model
    changed = IDS.clone()
    changed[:, 2] = 3
    a, b = c(IDS).cloze, c(changed).cloze
    assert torch.equal(a[:, 2], b[:, 2])
    assert not torch.allclose(a[:, 1], b[:, 1], atol=1e-6)  # sees the word behind it


def test_a_role_is_a_kind_and_how_many_of_it_came_before():
    """Two kinds of words, 3-6 and 7-10, known to the cloze: the second word of a kind differs from the first by number."""
    c = cycle().language_model
    with torch.no_grad():
        c.embedding.weight.normal_(std=0.1)
        c.embedding.weight[3:7, 0] += 3
        c.embedding.weight[7:11, 1] += 3
    cloze = torch.full((1, 4, len(DATA.vocab)), -20.0)
    for t, kind in enumerate(["a", "b", "a", "a"]):
        cloze[0, t, slice(3, 7) if kind == "a" else slice(7, 11)] = 0
    roles = c.roles(cloze, torch.ones(1, 4))[0]
    number = c.role_count.weight
    for t, before in ((2, 1), (3, 2)):
        want = number[before] - number[0]
        assert (roles[t] - roles[0] - want).norm() < 0.3 * want.norm()
    unknown = c.roles(torch.zeros(1, 4, len(DATA.vocab)), torch.ones(1, 4))[0]
    assert unknown.norm(dim=1).max() < 0.01 * roles.norm(dim=1).max()  # no kinds yet: next to no role


def test_captioner_sees_the_same_words_in_training_as_in_decoding():
    """The logits at step t of greedy decoding equal those of the training pass on the decoded words."""
    c = cycle()
    picture = torch.rand(4, 3, 64, 64, generator=rng())
    words, log_prob, _ = c.caption_network.read(picture)
    ids = torch.where(words == EOS, PAD, words)[:, : DATA.max_words]
    logits = c.caption_network(picture, ids)[0]
    logits[..., :EOS] = float("-inf")
    length = (words != PAD).sum(1)
    for i in range(4):
        steps = min(int(length[i]), logits.shape[1])
        assert torch.equal(logits[i, :steps].argmax(-1), words[i, :steps])
    targets = words[:, : logits.shape[1]]
    step = logits.log_softmax(-1).gather(2, targets[..., None])[..., 0].masked_fill(targets == PAD, 0)
    assert torch.allclose(step.sum(1), log_prob, atol=1e-3)


def test_embedding_of_a_picture_knows_no_words():
    c = cycle()
    picture = torch.rand(8, 3, 64, 64, generator=rng())
    assert torch.equal(c.caption_network(picture, IDS)[1], c.caption_network(picture, IDS.flip(0))[1])


def test_sinkhorn_shares_words_out():
    logits = torch.randn(5, 9, 11, generator=rng()) * 3
    mass = (torch.rand(5, 11, generator=rng()) > 0.4).float()
    share = sinkhorn(logits, mass, rounds=50)
    assert torch.allclose(share.sum(1), mass, atol=1e-3)
    assert share.sum(2).max() <= 1.01


def test_a_word_has_the_same_mark_at_every_place():
    """The drawing networks are common to all sprites: equal latents give equal masks and colors."""
    decoder = cycle(decoder="glyphs").scene_decoder
    z = torch.randn(1, 1, decoder.share, generator=rng()).expand(1, 9, -1)
    masks, colors = decoder.paint(z, torch.ones(1, 9))
    assert torch.allclose(masks, masks[:, :1].expand_as(masks)) and torch.allclose(
        colors, colors[:, :1].expand_as(colors)
    )


@pytest.mark.parametrize("n_cells", [4, 9, 16, 25])
def test_every_number_of_sprites_fills_the_canvas(n_cells):
    decoder = SceneDecoder(32, 32, 6 * n_cells, n_cells=n_cells)
    side = decoder.window
    full = decoder.compose(torch.ones(1, n_cells, side, side), torch.ones(1, n_cells, 3))
    assert torch.allclose(full, torch.ones_like(full), atol=1e-5)


def test_too_small_or_odd_sizes_are_refused_by_name():
    with pytest.raises(ValueError, match="z_dim 20 is too small"):
        SceneDecoder(32, 32, 20)
    with pytest.raises(ValueError, match="n_sprites 7"):
        SceneDecoder(32, 32, 200, n_cells=7)
    with pytest.raises(ValueError, match="n_heads"):
        AutoregressiveLanguageModel(10, 5, 30, 4, 1)
    with pytest.raises(ValueError, match="hidden_dim"):
        CaptionNetwork(10, 5, 32, 40)
    with pytest.raises(ValueError, match="at most 24"):
        cycle().language_model(torch.full((1, 25), 3))


def test_sampled_sentences_end_and_hold_no_special_words():
    ids = cycle().language_model.sample(50, rng())
    assert ids.shape[1] <= DATA.max_words and (ids[:, 0] > EOS).all()
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
    caption, seen = c.caption_network(picture, IDS[:4])
    (word_loss(caption, targets_of(IDS[:4])) + seen.mean()).backward()
    assert torch.isfinite(picture.grad).all()
