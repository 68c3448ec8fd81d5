"""An open vocabulary: every text has tokens, and comes back as it was typed."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checkpoints import model_of, model_state
from data_utils import CaptionsData
from decoders import DECODERS
from models import Cycle
from settings import check, resolve
from text.bpe import BpeVocabulary, split_text
from text.vocabulary import EOS, PAD, normalized, tokenize, vocabulary_in
from training.validation import RoundTrips, remarks

LINES = [
    f"A {color} dog's {noun}, in the park." for color in ("red", "blue", "green") for noun in ("ball", "house", "hat")
]
VOCAB = BpeVocabulary.of(LINES, 320)


@given(st.text(max_size=40))
@hypothesis_settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_every_text_comes_back_as_it_was_typed(text):
    assert "".join(split_text(text)) == text
    assert VOCAB.decode([*VOCAB.encode(text), EOS, PAD]) == text.strip()
    assert [i for unit in split_text(text.strip()) for i in VOCAB.encode_unit(unit)] == VOCAB.encode(text)


def test_a_vocabulary_does_not_depend_on_the_order_of_lines_and_keeps_to_its_size():
    again = BpeVocabulary.of(LINES[::-1], 320)
    assert (again.words, again.merges) == (VOCAB.words, VOCAB.merges) and len(VOCAB) <= 320
    assert len(VOCAB.encode("A red dog")) < len("A red dog") / 2 and len(VOCAB.encode("你好")) == 6
    with pytest.raises(ValueError, match="--vocab_size 200 .* at least 259"):
        BpeVocabulary.of(LINES, 200)


def test_half_a_character_is_shown_as_its_bytes_and_a_space_can_be_seen():
    assert VOCAB.names(VOCAB.encode("é")) == ["<C3>", "<A9>"]
    assert "".join(VOCAB.names(VOCAB.encode("A red dog"))) == "A␣red␣dog"


def test_exact_match_looks_at_words_whatever_signs_and_capitals_are_typed():
    assert normalized("A dog’s “ball” – red!") == normalized('a dog\'s "ball" - red !')
    assert normalized("a red ball") != normalized("a red bell")


@pytest.mark.parametrize("line", ["日本語の文です", "ข้าวผัดไข่", "我喜欢红色的球"])
def test_a_clause_without_spaces_is_many_words(line):
    assert len(tokenize(line)) > 3 and "".join(tokenize(line)) == line


def open_captions(tmp_path, tokenizer, lines=LINES, **options):
    (tmp_path / "c.txt").write_text("\n".join(lines), encoding="utf-8")
    return CaptionsData(str(tmp_path / "c.txt"), 0, tokenizer=tokenizer, **options)


def test_sentences_of_a_file_stay_as_typed_and_batches_hold_their_tokens(tmp_path):
    data = open_captions(tmp_path, "bpe")
    assert {*data.train, *data.val, *data.test} == {*LINES}
    batch = data.batch(0, 0, 100).tolist()
    assert {data.vocab.decode(row) for row in batch} == {*data.train}
    assert sorted(data.lengths()) == sorted(sum(i != PAD for i in row) for row in batch)
    again = open_captions(
        tmp_path, "bpe", vocab=vocabulary_in({"vocabulary": data.vocab.words, "merges": data.vocab.merges})
    )
    assert again.digest == data.digest and again.batch(0, 0, 100).tolist() == batch
    assert open_captions(tmp_path, "bpe", LINES[::-1]).digest == data.digest


@pytest.mark.parametrize("tokenizer", ["words", "bpe"])
def test_a_vocabulary_is_made_of_the_sentences_to_train_on(tmp_path, tokenizer):
    words = ["".join(random.Random(i).choices("abcdefghij", k=7)) for i in range(40)]
    lines = [f"sentence {w} {w} {w}" for w in words]
    data = open_captions(tmp_path, tokenizer, lines)
    new = {word for s in data.test for word in tokenize(s)} - data.trained_words
    tokens = {token.lstrip("Ġ") for token in data.vocab.words}
    assert new and not new & tokens and data.trained_words <= tokens
    assert [data.has_trained_words(s) for s in data.test] == [False] * len(data.test)
    if tokenizer == "words":
        assert data.vocab.encode_known(data.test[0]) == data.vocab.encode("sentence")


def test_a_model_carries_its_tokens_in_plain_types(tmp_path):
    data = open_captions(tmp_path, "bpe")
    settings = resolve({"captions_file": "c.txt", "d_model": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32})
    settings = DECODERS[settings.decoder].fit(settings, data.lengths())
    check(settings)
    state = model_state(Cycle(settings, len(data.vocab), settings.n_cells), data.vocab, settings)
    assert all(type(pair) is list and all(type(p) is str for p in pair) for pair in state["merges"])
    _, vocab, _ = model_of(state, "x.pt", "cpu")
    text = "Ünseen — “text” 🙂 हिन्दी"
    assert vocab.encode(text) == data.vocab.encode(text) and vocab.decode(vocab.encode(text)) == text
    state["merges"][0] = ["q", "no such token"]
    with pytest.raises(Exception, match="merges do not fit"):
        model_of(state, "x.pt", "cpu")


def test_sizes_follow_the_text():
    for longest, n_cells in ((3, 4), (11, 12), (25, 25), (27, 30), (500, 64)):
        settings = resolve({"captions_file": "x"}, "quick")
        settings = DECODERS[settings.decoder].fit(settings, [longest] * 50 + [900])
        assert (settings.n_cells, settings.z_dim) == (n_cells, 12 * n_cells)
        check(settings)
    settings = resolve({"captions_file": "x"}, "quick")
    settings = DECODERS[settings.decoder].fit(
        settings, [16] * 200 + [19]
    )  # a few more cells, and no sentence is left out
    assert settings.n_cells == 20
    typed = resolve({"captions_file": "x", "n_cells": 36, "z_dim": 360}, "quick")
    typed = DECODERS[typed.decoder].fit(typed, [5])
    assert (typed.n_cells, typed.z_dim) == (36, 360)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"tokenizer": "bpe"}, "--tokenizer bpe needs --captions_file"),
        ({"z_dim": 0}, "z_dim 0"),
        ({"decoder": "glyphs", "n_cells": 30, "z_dim": 54}, "--z_dim 54 is too small: 30 cells"),
    ],
)
def test_settings_that_contradict_each_other_are_named(typed, says):
    with pytest.raises(ValueError, match=says):
        check(resolve(typed))


def test_a_run_says_what_its_exact_match_leaves_out(tmp_path):
    data = open_captions(tmp_path, "bpe", [*LINES, "A zebra."] * 2)
    sentences = [data.train[0], f"{data.train[1]} Unheard-of!"]
    result = RoundTrips(sentences, torch.zeros(2, 3, 64, 64), [sentences[0].upper(), "a"])
    said = " / ".join(remarks(result, data, 100))
    assert "on the 1 of 2 unseen sentences with only words that occur in the training set: 100.00 %" in said
    assert "as they were typed: 0.00 %" in said and "100 steps are few" not in said
    result = RoundTrips(sentences, torch.zeros(2, 3, 64, 64), ["a", "a"])
    assert "100 steps are few" in " / ".join(remarks(result, data, 100))
