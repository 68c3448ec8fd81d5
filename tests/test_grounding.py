"""--grounding: what a user says some words look like is drawn so; bad files are one line."""

import pytest
import torch
from conftest import ROOT, TINY, run_forked

from data_utils import GrammarData, pad
from decoders.properties import LARGEST, PROPERTIES, SMALLEST
from models import Cycle
from settings import Settings
from text.grounding import GroundingError, load_grounding
from text.word_classes import find_word_classes
from training.trainer import learn_word_classes

ENGLISH = str(ROOT / "groundings" / "english.toml")


def test_the_shipped_file_names_words_of_the_grammar():
    words = load_grounding(ENGLISH)
    assert words["red"]["color"] == pytest.approx([230 / 255, 25 / 255, 75 / 255]) and words["left"] == {
        "x": 0.0,
        "y": 0.5,
    }
    learn_word_classes(Settings(grounding=ENGLISH), GrammarData(1000, 0))


def test_classes_set_what_is_grounded_and_words_are_drawn_so():
    data = GrammarData(1000, 0)
    classes = learn_word_classes(Settings(grounding=ENGLISH), data)
    cycle = Cycle(
        Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=66), len(data.vocab), data.max_tokens, classes
    )
    decoder = cycle.scene_decoder
    sets = {
        word: PROPERTIES[decoder.slots.property_of_word[data.vocab.index[word]]]
        for word in ("red", "left", "huge", "ball")
    }
    assert sets == {"red": "color", "left": "place", "huge": "size", "ball": "shape"}
    found = {name: dict(zip(words.tolist(), values)) for name, (words, values) in decoder.values_of_words(
        cycle.language_model.embedding.weight).items()}  # fmt: skip
    index = data.vocab.index
    assert found["color"][index["white"]].tolist() == [1, 1, 1]
    assert found["place"][index["left"]].tolist() == [-1, 0] and found["place"][index["middle"]].tolist() != [0, 0]
    assert found["size"][index["huge"]].item() == pytest.approx(LARGEST)
    assert found["size"][index["tiny"]].item() == pytest.approx(SMALLEST)
    ids = pad([data.vocab.encode(s) for s in ("a white ball in the left", "a white ball in the right")])
    bare = cycle.draw(ids)
    background = decoder.layers(bare, ids, 0)[0][0].detach()
    left, right = (bare.picture - background).abs().sum(1)
    across = torch.arange(64.0)
    assert (right.sum(0) @ across / right.sum()) - (left.sum(0) @ across / left.sum()) == pytest.approx(25, abs=1)


def test_without_a_file_nothing_is_given():
    data = GrammarData(1000, 0)
    assert learn_word_classes(Settings(), data) == find_word_classes(data.some_sentences(5000), len(data.vocab))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no word"),
        ("red = ", "a line is, for instance"),
        ("red = 3", "sets nothing"),
        ("red = {}", "sets nothing"),
        ('red = {hue = "x"}', "hue is none of color, x, y, size"),
        ('red = {color = "reddish"}', "'reddish' is no color"),
        ("red = {color = 3}", "3 is no color"),
        ("left = {x = 2}", "x = 2 is not from 0 to 1"),
        ("left = {x = true}", "x = True is not from 0 to 1"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, text, says):
    path = tmp_path / "g.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GroundingError) as error:
        load_grounding(str(path))
    assert says in str(error.value) and "g.toml" in str(error.value) and "\n" not in str(error.value)


def test_a_word_that_no_sentence_has_is_named(tmp_path):
    path = tmp_path / "g.toml"
    path.write_text('zebra = {color = "black"}', encoding="utf-8")
    with pytest.raises(GroundingError, match="no sentence has the word 'zebra'"):
        learn_word_classes(Settings(grounding=str(path)), GrammarData(1000, 0))


@pytest.mark.slow
def test_a_run_takes_the_file_and_its_checkpoint_needs_it_no_more(tmp_path):
    (tmp_path / "g.toml").write_text('red = {color = "#ff0000"}', encoding="utf-8")
    done = run_forked("train.py", *TINY, "--epochs", 1, "--num_samples", 64, "--grounding", "g.toml", cwd=tmp_path)
    line = "given, not emerged (g.toml): color of red"
    assert done.returncode == 0 and f"note: {line}\n" in done.stderr, done.stderr
    assert f"\n{line}\n" in (tmp_path / "logs/training_summary.txt").read_text(encoding="utf-8")
    (tmp_path / "g.toml").unlink()
    done = run_forked("train.py", "--resume", "auto", "--epochs", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"note: {line}\n" in done.stderr
    done = run_forked("generate.py", "--text", "a red ball", "--out_dir", "o", cwd=tmp_path)
    assert done.returncode == 0 and f"note: {line}\n" in done.stderr, done.stderr
    done = run_forked("train.py", *TINY, "--decoder", "glyphs", "--grounding", "g.toml", cwd=tmp_path)
    assert done.returncode == 2 and "--grounding needs --decoder objects" in done.stderr
