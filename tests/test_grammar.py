"""The promises of the splits: on every sentence of one object, and on many that are drawn."""

import itertools

import numpy as np
import pytest

from data_utils import EOS, GrammarData
from text import grammar
from text.grammar import (
    COLORS,
    COLUMN,
    HELD_OUT_PAIRS,
    OBJECTS,
    PART_SHARES,
    RARE_COLOR,
    RARE_COLOR_PARTNERS,
    RARE_OBJECT,
    RARE_OBJECT_PARTNERS,
    SLOT_SIZES,
    SLOTS,
    SPLITS,
    SUFFIXES,
    frames_of,
    in_split,
    is_held_out_frame,
    parse,
    render,
    sample_rows,
    sample_sentences,
    to_dict,
    to_row,
)

UNSEEN_PAIRS = {(RARE_COLOR, o) for o in OBJECTS if o not in RARE_COLOR_PARTNERS} | {
    (c, RARE_OBJECT) for c in COLORS if c not in RARE_OBJECT_PARTNERS
}
TEN_FRAMES = [  # of the first version, each with words whose pair is common
    "a red ball",
    "a huge red ball",
    "a red ball in the left",
    "a huge red ball in the left",
    "a red ball on a plain background",
    "a red ball glowing in the left",
    "a huge red ball glowing on a plain background",
    "a red ball next to a blue box",
    "a huge red ball and a tiny blue box",
    "red ball on the left and blue box on the top",
]


def all_of_one_thing():
    """Every sentence of one object, as rows (n, 19)."""
    names = ["size", "color", "object", "action", "position", "background"]
    choices = [range(0 if name == "object" else -1, SLOT_SIZES[COLUMN[name]]) for name in names]
    values = np.stack([g.ravel() for g in np.meshgrid(*choices, indexing="ij")], 1)
    rows = np.full((len(values), len(SLOTS) + 1), -1)
    rows[:, [COLUMN[name] for name in names]] = values
    rows[:, -1] = 0
    return rows


@pytest.fixture(scope="module")
def one_thing():
    return all_of_one_thing()


@pytest.fixture(scope="module")
def drawn():
    """{split: 20,000 rows}."""
    return {split: sample_rows(20_000, split, np.random.default_rng(3)) for split in SPLITS}


def has(rows, slot, word, words):
    return rows[:, COLUMN[slot]] == words.index(word)


def together(rows, color, obj, one_thing_only=False):
    """(n,) bool: a color and an object stand in a sentence, in one object or anywhere."""
    met = np.zeros(len(rows), bool)
    for a, b in itertools.product(SUFFIXES, SUFFIXES):
        if a == b or not one_thing_only:
            met |= has(rows, "color" + a, color, COLORS) & has(rows, "object" + b, obj, OBJECTS)
    return met


def test_sentences_parse_back_to_their_slots(drawn):
    data = GrammarData(1, 0)
    for rows in drawn.values():
        for row, ids in zip(rows[:2000], data.to_ids(rows[:2000]), strict=True):
            text = render(to_dict(row))
            assert parse(text) == to_dict(row) and (to_row(parse(text)) == row).all()
            assert data.vocab.encode(text) == ids and data.vocab.decode([*ids, EOS]) == text


@pytest.mark.parametrize(
    "text",
    ["", "a", "red ball", "an red ball", "a orange ball", "a red  ball", "a red ball ball", "a red ball in the red", "A red box",
     "a ball and", "a ball next a cube", "a ball on a plain", "a ball on the left", "red ball on the left above blue box on the top",
     "a ball and a cube and a box and a star"],
)  # fmt: skip
def test_what_is_no_sentence_of_the_grammar(text):
    assert parse(text) is None


@pytest.mark.parametrize("text", TEN_FRAMES)
def test_the_ten_frames_of_the_first_version_are_trained_on(text):
    row = to_row(parse(text))[None]
    assert not is_held_out_frame(frames_of(row)).any()
    assert in_split(row, "train") | in_split(row, "val") | in_split(row, "test")


def test_different_sentences_have_different_rows_and_each_has_one_split(one_thing, drawn):
    assert len({render(to_dict(row)) for row in one_thing[::7]}) == len(one_thing[::7])
    for rows in (one_thing, *drawn.values()):
        member = np.stack([in_split(rows, split) for split in SPLITS])
        assert member.sum(0).max() == 1  # a few have none: a held-out pair across two objects, or in a held-out frame
    for split, rows in drawn.items():
        assert in_split(rows, split).all()


def test_no_training_sentence_brings_together_a_held_out_pair(one_thing, drawn):
    """In any frame and any role: not even as the color of one object and the name of another."""
    for rows in (one_thing[in_split(one_thing, "train")], drawn["train"], drawn["val"], drawn["test"]):
        for color, obj in {*HELD_OUT_PAIRS, *UNSEEN_PAIRS}:
            assert not together(rows, color, obj).any(), (color, obj)


def test_val_and_test_are_shares_of_what_training_is_made_of(one_thing):
    of = {split: in_split(one_thing, split) for split in ("train", "val", "test")}
    total = sum(of.values())
    for split, share in (("val", 0.05), ("test", 0.1)):
        assert abs((of[split].sum() / total.sum()) - share) < 0.01
        frames = frames_of(one_thing)
        for frame in np.unique(frames[total > 0]):
            here = frames == frame
            assert here.sum() < 3000 or abs((of[split] & here).sum() / (total.astype(bool) & here).sum() - share) < 0.02


def test_test_pairs_has_a_held_out_pair_in_each_sentence(drawn):
    rows = drawn["test_pairs"]
    assert np.logical_or.reduce([together(rows, c, o, True) for c, o in HELD_OUT_PAIRS]).all()
    assert not np.logical_or.reduce([together(rows, c, o) for c, o in UNSEEN_PAIRS]).any()
    assert all(together(rows, c, o, True).any() for c, o in HELD_OUT_PAIRS)


def test_test_ood_has_an_unseen_partner_of_a_rare_word_in_each_sentence(drawn):
    rows, train = drawn["test_ood"], drawn["train"]
    assert np.logical_or.reduce([together(rows, c, o, True) for c, o in UNSEEN_PAIRS]).all()
    assert not np.logical_or.reduce([together(rows, c, o) for c, o in HELD_OUT_PAIRS]).any()
    assert all(together(rows, c, o, True).any() for c, o in UNSEEN_PAIRS)
    assert {o for o in OBJECTS if together(train, RARE_COLOR, o, True).any()} == set(RARE_COLOR_PARTNERS)
    assert {c for c in COLORS if together(train, c, RARE_OBJECT, True).any()} == set(RARE_OBJECT_PARTNERS)


def test_test_frames_has_frames_that_no_other_split_has_and_each_part_alone_is_common(drawn):
    frames = {split: set(frames_of(rows).tolist()) for split, rows in drawn.items()}
    for split in SPLITS[:-1]:
        assert not frames["test_frames"] & frames[split]
    assert len(frames["test_frames"]) > 100 and len(frames["train"]) > 500
    for name in PART_SHARES:  # of any object
        columns = [COLUMN[slot] for slot in SLOTS if slot.rstrip("23") == name]
        assert (drawn["train"][:, columns] >= 0).any(1).mean() > 0.1, name


def test_each_word_is_common_in_training(drawn):
    train = drawn["train"]
    for i, name in enumerate(SLOTS):
        assert set(train[:, i]) - {-1} == set(range(SLOT_SIZES[i])), name
    sentences = sample_sentences(5000, "train", 0)
    for word in {w for pair in HELD_OUT_PAIRS for w in pair}:
        assert sum(word in s.split() for s in sentences) > 0.05 * len(sentences), word
    for word in (RARE_COLOR, RARE_OBJECT):
        assert sum(word in s.split() for s in sentences) > 0.01 * len(sentences), word


def test_parts_are_about_as_common_as_asked(drawn):
    alone = drawn["train"][(drawn["train"][:, COLUMN["object2"]] < 0)]
    for name, share in PART_SHARES.items():
        assert abs((alone[:, COLUMN[name]] >= 0).mean() - share) < 0.1, name


def test_no_sentence_is_longer_than_promised(drawn):
    data = GrammarData(1, 0)
    longest = max(len(ids) for rows in drawn.values() for ids in data.to_ids(rows))
    assert 18 <= longest <= grammar.MOST_WORDS


def test_training_batches_belong_to_train():
    for fixed in (False, True):
        data = GrammarData(2000, 5, fixed)
        for number in range(4):
            rows = [to_row(parse(data.vocab.decode(ids))) for ids in data.batch(0, number, 500).tolist()]
            assert in_split(np.stack(rows), "train").all()


@pytest.mark.parametrize("text", TEN_FRAMES)
def test_what_is_like_training(text):
    assert grammar.is_like_training(text)
    assert not grammar.is_like_training(text + " ball") and not grammar.is_like_training("the " + text)
    assert not any(grammar.is_like_training(s) for s in sample_sentences(20, "test_frames", 0))


def test_probabilities_of_draws_add_up(one_thing):
    """Each sentence of one object by itself, and a sentence of two by hand."""
    bits = grammar.log2_of_draw(one_thing)
    assert (2.0**bits).sum() == pytest.approx(grammar.OBJECT_COUNT_SHARES[0] * (1 - grammar.WITHOUT_ARTICLES_SHARE))
    absent = [1 - share for part, share in PART_SHARES.items() if part != "background"]
    wanted = 0.95 * 0.35 * np.prod(absent) ** 2 * 0.75 / (10 * 4 * 10)
    assert grammar.log2_of_draw(to_row(parse("a ball above a cube"))[None])[0] == pytest.approx(np.log2(wanted))


def test_the_entropy_of_a_split_hardly_depends_on_its_seed():
    few, more = (grammar.entropy_of_split("test", 5000, seed) for seed in (0, 1))
    assert few == pytest.approx(more, abs=0.3) and 15 < few < 17


def test_bits_of_a_sentence_know_all_but_the_hash():
    rows = grammar.sample_rows(40_000, "train", np.random.default_rng(3))
    kept = 1 - 1 / grammar.TEST_SHARE - 1 / grammar.VAL_SHARE  # of sentences whose pairs and frame training shows
    wanted = grammar.entropy_of_split("train", 10_000) - np.log2(kept)
    assert grammar.bits_of(rows, 40_000).mean() == pytest.approx(wanted, abs=0.12)


def test_unknown_split():
    with pytest.raises(ValueError, match="'valid' is none of train, val, test"):
        sample_sentences(1, "valid", 0)


@pytest.mark.parametrize("split", SPLITS)
def test_numbered_sentences_follow_from_their_number_and_belong_to_their_split(split):
    rows = grammar.numbered_rows(np.arange(5000), split, 3)
    assert in_split(rows, split).all()
    some = np.random.default_rng(0).choice(5000, 500)
    assert (grammar.numbered_rows(some, split, 3) == rows[some]).all()
    assert (grammar.numbered_rows(some, split, 4) != rows[some]).any()
