"""What one can do with a model by hand: the functions of demo.py and of the notebook."""

import io
import struct
import zipfile
import zlib

import pytest
import torch
from parrot import KNOWN, blank, parrot
from PIL import Image

from models import Cycle
from pictures import PictureError, draw_sentences, from_image, read_pictures
from playground import fragments, model
from playground.model import DAMAGE, Playground, changed, damage
from settings import Settings
from text.bpe import BpeVocabulary
from text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def play():
    return Playground.open(parrot())


def tiny_bpe_model(lines, max_tokens):
    """A Playground of an untrained model of captions that draws at most `max_tokens` tokens."""
    vocab = BpeVocabulary.of(lines)
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, decoder="glyphs", n_cells=25, z_dim=150)
    return Playground(Cycle(settings, len(vocab), max_tokens), vocab, torch.device("cpu"))


def test_a_sentence_is_drawn_and_read_as_everywhere(play):
    pictures = draw_sentences(play.cycle, play.vocab, KNOWN, torch.device("cpu"))
    captions, log_probs = read_pictures(play.cycle, play.vocab, pictures, torch.device("cpu"))
    for text, picture, caption, log_prob in zip(KNOWN, pictures, captions, log_probs):
        drawn = play.draw(text)
        assert torch.equal(drawn.picture, picture) and drawn.reading.caption == caption == text and drawn.is_exact
        assert drawn.reading.probability == pytest.approx(torch.tensor(log_prob).exp().item(), rel=1e-3)
        assert [w.word for w in drawn.reading.words] == [*text.split(), "(end)"]
        assert all(w.second != w.word and w.second_probability <= w.probability for w in drawn.reading.words)


def test_the_same_sentence_in_other_letters(play):
    assert play.draw("  A RED, ball.").text == "a red ball"


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "empty"), ("a red bal", "nearest known word is 'ball'"), (" ".join(["red"] * 27), "27 words")],
)
def test_sentences_that_cannot_be_drawn(play, text, says):
    with pytest.raises(ValueError, match=says):
        play.draw(text)


def test_layers_are_the_objects_or_the_glyphs(play):
    two = play.draw("an orange box next to a pink cube")
    assert [name for name, _ in two.layers] == ["background", "orange box next", "pink cube"]
    background = two.layers[0][1]
    for _, layer in two.layers[1:]:
        assert 0.02 < float((layer - background).abs().amax(0).gt(0.05).float().mean()) < 0.6
    glyphs = tiny_bpe_model(["a red ball"] * 9, 9).draw("a red ball")
    assert [name for name, _ in glyphs.layers] == ["a", "␣red", "␣ball"]
    assert Playground.open(blank("conv")).draw("a red ball").layers == []


def test_words_that_can_be_swapped_are_those_of_one_class(play):
    swap = next(swap for swap in play.swaps("a huge blue star in the left") if swap.word == "blue")
    assert swap.place == 2 and {"red", "green", "gray"} <= set(swap.others) and not {"blue", "ball"} & set(swap.others)
    text = play.swapped("an orange box", 1, "red")
    assert text == "a red box" and play.draw(text).text == text
    with pytest.raises(ValueError, match="no word 9"):
        play.swapped("an orange box", 8, "red")


def test_a_model_without_word_classes_offers_the_tokens_that_its_language_model_expects():
    swaps = Playground.open(blank("conv")).swaps("a red ball")
    assert swaps and all(0 < len(s.others) <= model.MAX_REPLACEMENTS and s.word not in s.others for s in swaps)


def test_words_of_a_model_of_captions_are_swapped_in_the_text():
    play = tiny_bpe_model(["A dog, running fast, catches the ball."] * 9, 9)
    text = "A dog, running"
    assert play.words(text) == ["A", "dog", ",", "running"]
    assert [play.swapped(text, i, "is") for i in range(4)] == [
        "is dog, running",
        "A is, running",
        "A dog is running",
        "A dog, is",
    ]
    assert play.swapped(text, 3, "!") == "A dog,!"


def test_a_caption_without_an_end_stops_at_the_last_cell():
    """An untrained captioner does not end its caption, which then has as many tokens as cells."""
    torch.manual_seed(1)
    play = tiny_bpe_model(["a red ball"] * 9, 9)
    play.cycle.caption_network.out[-1].bias.data[2] = -1e9  # never the end
    read = play.read(torch.zeros(3, 64, 64))
    assert len(read.words) == 10 and read.words[-1].word == "(end)"


@pytest.mark.parametrize("seed", range(5))
def test_an_invented_text_can_be_drawn_although_its_bytes_are_no_characters(seed):
    play = tiny_bpe_model(["a red ball"] * 9, 9)
    text = play.invented(seed)
    assert len(play.vocab.encode(text)) <= 9


def test_inventions_follow_from_their_seed(play):
    texts = [play.invented(seed) for seed in (0, 0, 1, 2)]
    assert texts[0] == texts[1] and len(set(texts)) == 3
    for text in texts:
        play.draw(text)


def test_the_first_sentence_is_one_that_the_model_knows(play):
    assert play.example() == model.EXAMPLE
    words = Vocabulary.of(["ein", "ball"])
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, decoder="conv")
    other = Playground(Cycle(settings, len(words), 4), words, torch.device("cpu"))
    assert set(other.example().split()) <= {"ein", "ball"} and other.draw(other.example()).text == other.example()


def test_damage(play):
    picture = play.draw("a red ball").picture
    assert torch.equal(damage(picture), picture)
    for kind, ((low, high), neutral, _) in DAMAGE.items():
        worst = damage(picture, **{kind: low if neutral == high else high})
        assert not torch.equal(worst, picture) and torch.equal(
            worst, damage(picture, **{kind: low if neutral == high else high})
        )
        assert torch.equal(worst, (worst * 255).round() / 255)
        with pytest.raises(ValueError, match=kind):
            damage(picture, **{kind: high + 1})


def test_what_changes_is_where_the_pictures_differ():
    a = torch.zeros(3, 64, 64)
    b = a.clone()
    b[:, :32] = 1
    share, where = changed(a, b)
    assert share == pytest.approx(0.5, abs=0.05) and where[:, :24].min() > 0.5 > 0.1 > where[:, 40:].max()


# ---------------------------------------------------------------------------------------------
# Files of users
# ---------------------------------------------------------------------------------------------


def png_with_text(size):
    """A PNG of a few bytes whose text chunk swells to `size` bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    data = b"zTXt" + b"k\0\0" + zlib.compress(b"x" * size)
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return buffer.getvalue()[:33] + chunk + buffer.getvalue()[33:]


def bad_files(folder):
    """Files that no page should choke on -> {name: what is said of it}."""
    Image.new("L", (10000, 10000)).save(folder / "hundred.png")
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 50_000_000)
    (folder / "text_bomb.png").write_bytes(png_with_text(100_000_000))
    (folder / "empty.png").write_bytes(b"")
    return {
        "hundred.png": "more than 16 million",
        "notes.txt": "no picture format",
        "bomb.zip": "no picture format",
        "text_bomb.png": "damaged|cannot be read",
        "empty.png": "empty",
    }


def test_files_that_are_refused(play, tmp_path):
    for name, says in bad_files(tmp_path).items():
        with pytest.raises(PictureError, match=says) as error:
            play.opened(tmp_path / name)
        assert (
            str(error.value).startswith(name) and str(tmp_path) not in str(error.value) and "\n" not in str(error.value)
        )
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * model.MAX_BYTES)
    with pytest.raises(PictureError, match="more than 8 MB"):
        play.opened(tmp_path / "large.png")


def test_an_enlarged_scene_comes_back_as_it_was(play, tmp_path):
    picture = play.draw(KNOWN[0]).picture
    from pictures import to_image

    to_image(picture).resize((384, 384), Image.NEAREST).save(tmp_path / "large.png")
    assert torch.equal(play.opened(tmp_path / "large.png"), picture)
    assert torch.equal(from_image(to_image(picture)), picture)


# ---------------------------------------------------------------------------------------------
# What is shown
# ---------------------------------------------------------------------------------------------


def test_whatever_a_user_types_is_escaped(play):
    bad = '<img src=x onerror="alert(1)">'
    for piece in (fragments.problem(ValueError(bad)), fragments.figure(torch.zeros(3, 64, 64), bad)):
        assert "<img src=x" not in piece and "&lt;img" in piece
    assert "<img src=x" not in fragments.reading(play.draw("a red ball").reading, bad)


def test_fragments_show_words_verdict_and_pictures(play):
    before, after = play.draw("a red ball"), play.draw("a blue ball")
    one, two = fragments.round_trip(before), fragments.comparison(before, after)
    assert "✓ word for word" in one and one.count("<meter") == 4 and one.count("<img") == 1
    assert two.count("<img") == 3 and "a blue ball" in two and "changes visibly" in two
    assert fragments.parts(before).count("<img") == 2  # the background and an object
