"""Word classes and what they belong to, found in sentences alone."""

import numpy as np
import pytest

from data_utils import GrammarData, Vocabulary
from text.grammar import ACTIONS, BACKGROUNDS, COLORS, OBJECTS, POSITIONS, SIZES
from text.word_classes import BACKGROUND, NEXT, NOUN, PREVIOUS, WordClasses, find_word_classes


def words_of(classes, vocab):
    """{what a class belongs to: [its words]}, as sets."""
    kinds = [
        {vocab.words[w] for w, k in enumerate(classes.class_of) if k == number} for number in range(len(classes.size))
    ]
    assert [len(words) for words in kinds] == classes.size == sorted(classes.size, reverse=True)
    return list(zip(classes.belongs_to, kinds, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_the_word_classes_of_the_grammar_are_found(seed):
    data = GrammarData(10**6, seed)
    found = words_of(find_word_classes(data.some_sentences(5000), len(data.vocab)), data.vocab)
    for belongs_to, words in [
        (NEXT, COLORS), (NEXT, SIZES), (NOUN, OBJECTS), (PREVIOUS, ACTIONS), (PREVIOUS, POSITIONS), (BACKGROUND, BACKGROUNDS)
    ]:  # fmt: skip
        assert (belongs_to, set(words)) in found, words
    assert (PREVIOUS, {"above", "below", "next"}) in found


def test_another_language_with_the_noun_first():
    """Nothing is known of English: nouns first, then a color, and a time of day that a sentence has once."""
    rng, nouns, colors, times = (
        np.random.default_rng(0),
        ["kato", "hundo", "birdo"],
        ["ruĝa", "blua"],
        ["nokte", "tage", "vespere"],
    )
    sentences = []
    for _ in range(1000):
        words = []
        for _ in range(rng.integers(1, 3)):
            words += [str(rng.choice(nouns)), *([str(rng.choice(colors))] if rng.random() < 0.7 else []), "kaj"]
        sentences.append(" ".join(words[:-1] + ([str(rng.choice(times))] if rng.random() < 0.5 else [])))
    vocab = Vocabulary.of({w for s in sentences for w in s.split()})
    found = words_of(find_word_classes([vocab.encode(s) for s in sentences], len(vocab)), vocab)
    assert (NOUN, set(nouns)) in found and (PREVIOUS, set(colors)) in found and (BACKGROUND, set(times)) in found


@pytest.mark.parametrize("sentences", [[], [[]], [[3]], [[3, 4], [3, 4]]])
def test_next_to_nothing_has_no_classes(sentences):
    classes = find_word_classes(sentences, 6)
    assert classes.class_of == [-1] * 6 and classes.belongs_to == [] == classes.size


@pytest.mark.parametrize(
    "change", [{"class_of": [0, 5]}, {"class_of": [0]}, {"class_of": ["a", 0]}, {"belongs_to": ["moon"]}, {"size": []}]
)
def test_classes_that_do_not_fit_are_refused(change):
    whole = {"class_of": [-1, 0], "belongs_to": [NOUN], "size": [1]}
    assert WordClasses(**whole).checked(2).class_of == [-1, 0]
    with pytest.raises(ValueError, match="word classes"):
        WordClasses(**{**whole, **change}).checked(2)
