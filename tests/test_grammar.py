"""The promises of the splits, by counting every sentence there is."""

import itertools

import numpy as np
import pytest

from data_utils import (
    EOS,
    PAD,
    GrammarData,
)
from text import grammar
from text.grammar import (
    COLORS,
    HELD_OUT_PAIRS,
    OBJECTS,
    RARE_COLOR,
    RARE_COLOR_PARTNERS,
    RARE_OBJECT,
    RARE_OBJECT_PARTNERS,
    SLOT_WORDS,
    SLOTS,
    SPLITS,
    TEMPLATES,
    count_sentences,
    parse,
    render,
    sample_sentences,
)

UNSEEN_PAIRS = {(RARE_COLOR, o) for o in OBJECTS if o not in RARE_COLOR_PARTNERS} | {
    (c, RARE_OBJECT) for c in COLORS if c not in RARE_OBJECT_PARTNERS
}


class Everything:
    """Every sentence of the grammar: template (n,), slots (n, 10), word numbers (n, words), members {split: (n,) bool}."""

    def __init__(self):
        template, slots = [], []
        for number, text in enumerate(TEMPLATES):
            used = [i for i, s in enumerate(SLOTS) if "{" + s + "}" in text]
            grid = np.indices([len(SLOT_WORDS[SLOTS[i]]) for i in used]).reshape(len(used), -1).T
            rows = np.full((len(grid), len(SLOTS)), -1, np.int64)
            rows[:, used] = grid
            template.append(np.full(len(grid), number))
            slots.append(rows)
        self.template, self.slots = np.concatenate(template), np.concatenate(slots)
        data = GrammarData(1, 0)
        self.vocab, self.ids = data.vocab, data.to_ids(self.template, self.slots).astype(np.uint8)
        self.pairs = self.ids[:, :-1].astype(np.uint16) << 8 | self.ids[:, 1:]  # each word with the next
        self.members = {split: grammar.in_split(self.template, self.slots, split) for split in SPLITS}

    def sentence(self, i):
        return render(self.template[i], {s: SLOT_WORDS[s][k] for s, k in zip(SLOTS, self.slots[i], strict=True) if k >= 0})

    def has(self, word):
        """(n,) bool: the word stands somewhere in the sentence."""
        return (self.ids == self.vocab.index[word]).any(1)

    def says(self, first, second):
        """(n,) bool: one word stands right before another, as a color before its object."""
        return (self.pairs == (self.vocab.index[first] << 8 | self.vocab.index[second])).any(1)


@pytest.fixture(scope="module")
def everything():
    return Everything()


def test_about_900_000_different_sentences(everything):
    rows = np.ascontiguousarray(everything.ids).view(f"V{everything.ids.shape[1]}").ravel()
    assert len(np.unique(rows)) == len(rows) == count_sentences() > 900_000


def test_sentences_parse_back_to_their_slots(everything):
    for i in np.random.default_rng(0).choice(len(everything.ids), 20_000, replace=False):
        text = everything.sentence(i)
        number, slots = parse(text)
        assert number == everything.template[i]
        assert [SLOT_WORDS[s].index(slots[s]) if s in slots else -1 for s in SLOTS] == everything.slots[i].tolist()
        ids = everything.vocab.encode(text)
        assert ids == [k for k in everything.ids[i].tolist() if k != PAD] and everything.vocab.decode([*ids, EOS]) == text


@pytest.mark.parametrize(
    "text",
    ["", "a", "red ball", "an red ball", "a orange ball", "a red  ball", "a red ball ball", "a red ball in the red", "A red box"],
)
def test_what_is_no_sentence_of_the_grammar(text):
    assert parse(text) is None


def test_splits_share_no_sentence(everything):
    for one, two in itertools.combinations(SPLITS, 2):
        assert not (everything.members[one] & everything.members[two]).any()
    assert all(m.any() for m in everything.members.values())


def test_no_training_sentence_brings_together_a_held_out_pair(everything):
    """In any template and any role: not even as the color of one thing and the name of the other."""
    train = everything.members["train"]
    for color, obj in {*HELD_OUT_PAIRS, *UNSEEN_PAIRS}:
        assert not (train & everything.has(color) & everything.has(obj)).any(), (color, obj)


def test_test_is_a_tenth_of_what_training_is_made_of(everything):
    train, test = everything.members["train"], everything.members["test"]
    for number in range(len(TEMPLATES)):
        here = everything.template == number
        share = (test & here).sum() / ((train | test) & here).sum()
        assert 0.02 < share < 0.2 and (abs(share - 0.1) < 0.01 or here.sum() < 20_000)
    held_out = {*HELD_OUT_PAIRS, *UNSEEN_PAIRS}
    assert not any((test & everything.has(c) & everything.has(o)).any() for c, o in held_out)


def test_test_pairs_has_a_held_out_pair_in_each_sentence(everything):
    member = everything.members["test_pairs"]
    assert np.logical_or.reduce([everything.says(c, o) for c, o in HELD_OUT_PAIRS])[member].all()
    assert not np.logical_or.reduce([everything.says(c, o) for c, o in UNSEEN_PAIRS])[member].any()
    assert all((member & everything.says(c, o)).any() for c, o in HELD_OUT_PAIRS)
    assert set(everything.template[member]) == set(range(len(TEMPLATES)))


def test_test_ood_has_an_unseen_partner_of_a_rare_word_in_each_sentence(everything):
    member, train = everything.members["test_ood"], everything.members["train"]
    assert np.logical_or.reduce([everything.says(c, o) for c, o in UNSEEN_PAIRS])[member].all()
    assert not np.logical_or.reduce([everything.says(c, o) for c, o in HELD_OUT_PAIRS])[member].any()
    assert all((member & everything.says(c, o)).any() for c, o in UNSEEN_PAIRS)
    assert {o for o in OBJECTS if (train & everything.says(RARE_COLOR, o)).any()} == set(RARE_COLOR_PARTNERS)
    assert {c for c in COLORS if (train & everything.says(c, RARE_OBJECT)).any()} == set(RARE_OBJECT_PARTNERS)


def test_each_word_of_a_held_out_pair_is_common_in_training():
    sentences = sample_sentences(5000, "train", 0)
    for word in {w for pair in HELD_OUT_PAIRS for w in pair}:
        assert sum(word in s.split() for s in sentences) > 0.05 * len(sentences), word
    for word in (RARE_COLOR, RARE_OBJECT):
        assert sum(word in s.split() for s in sentences) > 0.01 * len(sentences), word


def test_training_shows_every_word_in_every_slot(everything):
    train = everything.slots[everything.members["train"]]
    for i, name in enumerate(SLOTS):
        assert set(train[:, i]) - {-1} == set(range(len(SLOT_WORDS[name])))


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_drawn_belongs_to_its_split_with_templates_even(everything, split):
    members = everything.members[split]
    rows = {everything.ids[i].tobytes() for i in np.flatnonzero(members)} if split == "test" else None
    template, slots = grammar.sample_slots(20_000, split, np.random.default_rng(3))
    counts = np.bincount(template, minlength=len(TEMPLATES))
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)
    assert grammar.in_split(template, slots, split).all()
    if rows:
        drawn = GrammarData(1, 0).to_ids(template, slots).astype(np.uint8)
        assert all(row.tobytes() in rows for row in drawn[:2000])


def test_training_batches_belong_to_train(everything):
    known = {everything.ids[i].tobytes() for i in np.flatnonzero(~everything.members["train"])}
    for fixed in (False, True):
        data = GrammarData(2000, 5, fixed)
        for number in range(4):
            rows = data.batch(0, number, 500).numpy().astype(np.uint8)
            rows = np.pad(rows, [(0, 0), (0, everything.ids.shape[1] - rows.shape[1])])
            assert not any(row.tobytes() in known for row in rows)


def test_unknown_split():
    with pytest.raises(ValueError, match="'valid' is none of train, test"):
        sample_sentences(1, "valid", 0)


@pytest.mark.parametrize("split", SPLITS)
def test_numbered_sentences_belong_to_their_split_with_templates_even(split):
    template, slots = grammar.numbered_slots(np.arange(20_000), split, 3)
    assert np.abs(np.bincount(template, minlength=len(TEMPLATES)) - 2000).max() < 5 * np.sqrt(2000)
    assert grammar.in_split(template, slots, split).all()
    some = np.random.default_rng(0).choice(20_000, 500)
    again = grammar.numbered_slots(some, split, 3)
    assert (again[0] == template[some]).all() and (again[1] == slots[some]).all()
    assert (grammar.numbered_slots(some, split, 4)[0] != again[0]).any()
