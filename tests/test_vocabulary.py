"""Words of any script, known and unknown."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from data_utils import (
    UnknownWord,
    Vocabulary,
    tokenize,
)


def test_an_before_a_vowel():
    vocab = Vocabulary.of_grammar()
    assert vocab.encode("an orange ball") == vocab.encode("a orange ball") and "an" not in vocab.index
    assert vocab.decode(vocab.encode("a orange ball next to a red box")) == "an orange ball next to a red box"
    own = Vocabulary.of(["a", "an", "orange"])
    assert own.decode(own.encode("a orange an")) == "a orange an"  # a user's sentences are left as they are


@pytest.mark.parametrize(
    ("word", "near"), [("bal", "ball"), ("pyramids", "pyramid"), ("grey", "gray"), ("Colour", "corner")]
)
def test_unknown_words_are_named_with_the_nearest(word, near):
    with pytest.raises(UnknownWord, match=f"unknown word '{word.lower()}'; the nearest known word is '{near}'"):
        Vocabulary.of_grammar().encode(f"a red {word}")


@pytest.mark.parametrize("word", ["<pad>", "<eos>", "🙂", "x" * 10**6, "\ufffd", "_"])
def test_strange_words_are_named_briefly(word):
    with pytest.raises(UnknownWord) as error:
        Vocabulary.of_grammar().encode(f"a red {word}")
    assert len(str(error.value)) < 250


def test_marks_of_a_sentence_are_passed_over_unless_they_were_learned():
    grammar, own = Vocabulary.of_grammar(), Vocabulary.of([".", "a"])
    assert grammar.encode("A red, red ball!") == grammar.encode("a red red ball")
    assert own.decode(own.encode("a.")) == "a ."


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("it's a well-known CAFÉ_bar", ["it's", "a", "well-known", "café", "_", "bar"]),
        ("cafe\u0301 \u212b", ["café", "å"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया", "।"]),
        ("\u202bשָׁלוֹם, עולם\u202c", ["שָׁלוֹם", ",", "עולם"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("👨‍👩‍👧👍🏽 ok", ["👨‍👩‍👧", "👍🏽", "ok"]),
        ("one\u200btwo\u00a0three\u2028four", ["one", "two", "three", "four"]),
        ("", []),
    ],
)
def test_words_of_any_script(line, words):
    assert tokenize(line) == words


@given(st.text(max_size=40))
@hypothesis_settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_words_joined_by_spaces_are_the_same_words(text):
    words = tokenize(text)
    assert tokenize(" ".join(words)) == words and all(w and not w.isspace() for w in words)


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("doesn´t", "doesn't"),
        ("‹ja›", "'ja'"),
        ("5′ 3″", "5' 3\""),
        ("so…", "so..."),
        ("a－b", "a-b"),
        ("« oui »", '" oui "'),
    ],
)
def test_more_kinds_of_apostrophes_quotation_marks_dashes_and_ellipses_are_the_same_words(typed, plain):
    assert tokenize(typed) == tokenize(plain)
