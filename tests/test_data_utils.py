"""Sentences: the promises of the splits by counting every sentence there is, and files as users have them."""

import hashlib
import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from conftest import run_script
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import data_utils
from data_utils import (
    EOS,
    PAD,
    CaptionsData,
    CaptionsFileError,
    GrammarData,
    UnknownWord,
    Vocabulary,
    pad,
    read_lines,
    shuffled,
    tokenize,
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
        """(n,) bool: one word stands right before another, as a colour before its object."""
        return (self.pairs == (self.vocab.index[first] << 8 | self.vocab.index[second])).any(1)


@pytest.fixture(scope="module")
def everything():
    return Everything()


# ---------------------------------------------------------------------------------------------
# The grammar and its splits
# ---------------------------------------------------------------------------------------------


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
    """In any template and any role: not even as the colour of one thing and the name of the other."""
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


# ---------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------


def printed(capsys, *args):
    data_utils.main([str(a) for a in args])
    return capsys.readouterr().out


@pytest.mark.parametrize("split", SPLITS)
def test_same_seed_same_bytes_and_fewer_is_a_prefix(capsys, split):
    many = printed(capsys, "--split", split, "--num", 10_003, "--seed", 4)
    assert many == printed(capsys, "--split", split, "--num", 10_003, "--seed", 4)
    assert many.startswith(printed(capsys, "--split", split, "--num", 7, "--seed", 4))
    assert many != printed(capsys, "--split", split, "--num", 10_003, "--seed", 5)
    lines = many.splitlines()
    assert len(lines) == 10_003 and all(parse(s) for s in lines[:500]) and lines[10_000:] != lines[:3]


def test_sentences_do_not_depend_on_the_machine(capsys):
    text = "".join(printed(capsys, "--split", split, "--num", 50, "--seed", 0) for split in SPLITS)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "6127896e3e2cb978"


def test_real_command(tmp_path):
    done = run_script("data_utils.py", "--split", "test_pairs", "--num", 3, cwd=tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3
    with pytest.raises(SystemExit) as exit_:
        data_utils.main(["--num", "-1"])
    assert exit_.value.code == 2


# ---------------------------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------------------------


def test_batches_are_trimmed_to_their_longest_sentence():
    data = GrammarData(1000, 0)
    for number in range(1000):
        ids = data.batch(0, number, 1)
        assert ids.dtype == torch.int64 and (ids != PAD).all()
    ids = data.batch(0, 0, 64)
    assert (ids != PAD).sum(1).max() == ids.shape[1] and (ids == PAD).any()


def test_an_epoch_has_num_samples_sentences():
    for fixed in (False, True):
        data = GrammarData(100, 0, fixed)
        assert [len(data.batch(2, n, 32)) for n in range(4)] == [32, 32, 32, 4]


def rows_of(data, epoch, size=16):
    batches = [data.batch(epoch, n, size) for n in range(-(-data.num_samples // size))]
    return [tuple(k for k in row if k != PAD) for b in batches for row in b.tolist()]


def test_fixed_data_is_the_same_every_epoch_in_another_order():
    data = GrammarData(100, 0, fixed=True)
    first, second = rows_of(data, 0), rows_of(data, 1)
    assert first != second and sorted(first) == sorted(second) == sorted(rows_of(data, 7, size=33))
    assert sorted(first) == sorted(rows_of(GrammarData(100, 0, fixed=True), 0))
    assert sorted(first) != sorted(rows_of(GrammarData(100, 1, fixed=True), 0))


def test_fresh_data_is_new_every_epoch_and_follows_from_its_number():
    data = GrammarData(100, 0)
    assert len(set(rows_of(data, 0)) & set(rows_of(data, 1))) < 40  # the shortest templates come again
    assert rows_of(data, 1) == rows_of(GrammarData(100, 0), 1) != rows_of(GrammarData(100, 1), 1)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 100, 4097])
def test_shuffled_is_a_permutation_in_blocks_of_any_size(n):
    whole = shuffled(0, n, n, [0, 3])
    assert sorted(whole) == list(range(n))
    assert np.concatenate([shuffled(i, 7, n, [0, 3]) for i in range(0, n, 7)]).tolist() == whole.tolist()
    if n > 5:
        assert whole.tolist() != list(range(n)) and whole.tolist() != shuffled(0, n, n, [0, 4]).tolist()


def test_shuffled_needs_no_memory_for_a_long_epoch():
    part = shuffled(10**11, 1000, 10**12, [0, 0])
    assert len(set(part.tolist())) == 1000 and 0 <= part.min() and part.max() < 10**12
    assert part.std() > 10**11  # all over the range


def test_pad():
    assert pad([[5], [3, 4]]).tolist() == [[5, PAD], [3, 4]]
    assert pad([]).shape == (0, 0)


# ---------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------


def test_an_before_a_vowel():
    vocab = Vocabulary.of_grammar()
    assert vocab.encode("an orange ball") == vocab.encode("a orange ball") and "an" not in vocab.index
    assert vocab.decode(vocab.encode("a orange ball next to a red box")) == "an orange ball next to a red box"
    own = Vocabulary.of(["a", "an", "orange"])
    assert own.decode(own.encode("a orange an")) == "a orange an"  # a user's sentences are left as they are


@pytest.mark.parametrize(("word", "near"), [("bal", "ball"), ("pyramids", "pyramid"), ("grey", "gray"), ("Colour", "corner")])
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


# ---------------------------------------------------------------------------------------------
# A user's file
# ---------------------------------------------------------------------------------------------


def captions(tmp_path, content, **options):
    path = tmp_path / "captions.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CaptionsData(str(path), 0, **options)


def test_report_counts_what_was_left_out(tmp_path):
    lines = [b"One cat", b"", b"  \t", b"one  CAT", b"two cats", b"word " * 40, b"b\xffd", b"nul\x00nul", b"...", b"three cats"]
    report = captions(tmp_path, b"\n".join(lines)).report
    assert (report.lines, report.empty, report.duplicates, report.cut, report.damaged) == (10, 2, 1, 1, 2)
    for part in ("10 lines", "2 empty", "1 duplicates", "1 cut", "2 with"):
        assert part in str(report)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    lines = ["ein blaues Öl", "שלום עולם", "🙂 und 日本語", "rot"]
    data = captions(tmp_path, end.join(lines).encode(encoding))
    kept = [*data.test] + [data.vocab.decode(row) for row in data.batch(0, 0, 4).tolist()]
    assert sorted(kept) == sorted(" ".join(tokenize(x)) for x in lines)
    assert data.report.damaged == 0


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_utf_16_of_either_order(tmp_path, encoding):
    data = captions(tmp_path, "\ufeffrot\nblau\ngrün".encode(encoding))
    assert sorted(data.vocab.words[3:]) == ["blau", "grün", "rot"]


def test_train_and_test_share_nothing_and_do_not_depend_on_the_order(tmp_path):
    lines = [f"sentence number {i}" for i in range(100)]
    one, two = captions(tmp_path, "\n".join(lines)), captions(tmp_path, "\n".join(reversed(lines)) + "\n")
    assert [*one.test] == [*two.test] == one.test[:] and len(one.test) == 20 and one.num_samples == 80
    rows = rows_of(one, 0)
    assert rows == rows_of(two, 0) and sorted(rows) == sorted(rows_of(one, 1)) and rows != rows_of(one, 1)
    trained = {one.vocab.decode(row) for row in rows}
    assert trained | set(one.test) == set(lines) and not trained & set(one.test)


def test_train_split_leaves_at_least_one_on_each_side(tmp_path):
    for share in (0.01, 0.999):
        data = captions(tmp_path, "a\nb\nc\n", train_split=share)
        assert data.num_samples >= 1 and len(data.test) >= 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 usable"), (b"\n\n \n", "0 usable"), (b"\xff\xfe", "0 usable"), (b"one line\n", "1 usable"),
        (b"same\nSame\n", "1 usable"),
        (b"\x00" * 100, "no UTF-8 text"), (bytes(range(128, 256)) * 50 + b"\nx\xff\n", "no UTF-8 text"),
        ("grün\nblau über\nrötlich".encode("latin-1"), "no UTF-8 text"),
    ],
)  # fmt: skip
def test_nothing_to_learn_from_is_one_line(tmp_path, content, says):
    with pytest.raises(CaptionsFileError, match=says) as error:
        captions(tmp_path, content)
    assert "\n" not in str(error.value) and "captions.txt" in str(error.value)


@pytest.mark.parametrize("path", ["/dev/zero", "."])
def test_what_is_no_file_never_hangs(path):
    with pytest.raises(CaptionsFileError, match="not a regular file"):
        next(read_lines(path))


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        CaptionsData(str(tmp_path / "none.txt"), 0)


def test_words_outside_a_given_vocabulary_are_named(tmp_path):
    with pytest.raises(CaptionsFileError, match="does not know the word 'zebra'"):
        captions(tmp_path, "red\nzebra\n", vocab=Vocabulary.of(["red"]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_of_50_million_characters_takes_little_memory(tmp_path, encoding):
    path = tmp_path / "long.txt"
    part = "red ball " * 100_000
    with open(path, "w", encoding=encoding) as f:
        for _ in range(56):
            f.write(part)
        f.write("\nblue box\n")
    assert path.stat().st_size > 50e6
    tracemalloc.start()
    data = CaptionsData(str(path), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    assert data.report.lines == 2 and data.report.cut == 1 and data.max_words == data_utils.MAX_LINE_WORDS


def test_a_line_of_exactly_the_limit_is_not_cut(tmp_path):
    path = tmp_path / "a.txt"
    for extra, cut in ((0, False), (1, True)):
        for end in ("", "\n", "\r\n"):
            path.write_bytes((" " * (data_utils.LINE_CHARACTERS - 1 + extra) + "x" + end).encode())
            assert [c for _, c, _ in read_lines(path)] == [cut]


def test_duplicates_are_found_across_blocks_and_the_blocks_do_not_show(tmp_path, monkeypatch):
    lines = [f"sentence number {i % 70} of {i % 3}" for i in range(400)]
    whole = captions(tmp_path, "\n".join(lines))
    monkeypatch.setattr(data_utils._Rows, "BLOCK", 7)
    parts = captions(tmp_path, "\n".join(lines))
    assert str(whole.report) == str(parts.report) and whole.report.duplicates == 400 - 210
    assert rows_of(whole, 3) == rows_of(parts, 3) and [*whole.test] == [*parts.test] and whole.digest == parts.digest


def test_the_digest_knows_other_sentences_and_another_split_but_not_another_order(tmp_path):
    lines = [f"sentence number {i}" for i in range(50)]
    digest = captions(tmp_path, "\n".join(lines)).digest
    assert digest == captions(tmp_path, "\n".join(reversed(lines))).digest
    assert digest != captions(tmp_path, "\n".join(lines[1:])).digest
    assert digest != captions(tmp_path, "\n".join(lines), train_split=0.5).digest


def test_more_words_than_two_bytes_can_number(tmp_path):
    lines = [f"w{i} w{i + 1}" for i in range(0, 70_000, 2)]
    data = captions(tmp_path, "\n".join(lines))
    assert len(data.vocab) == 70_003 and {*data.test} <= {*lines}
    assert {data.vocab.decode(r) for r in data.batch(0, 0, 999).tolist()} <= {*lines}


@pytest.mark.slow
def test_a_file_costs_a_few_bytes_a_word(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "large.txt"
    words = np.array([f"word{i}" for i in range(5000)])
    with open(path, "w") as f:
        for _ in range(40):
            f.write("\n".join(map(" ".join, words[rng.integers(5000, size=(5000, 12))])) + "\n")
    tracemalloc.start()
    data = CaptionsData(str(path), 0)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.num_samples + len(data.test) == 200_000
    assert kept < 12e6 and peak < 40e6 and path.stat().st_size > 20e6  # 2 bytes a word, 16 a sentence, and the words


@pytest.mark.parametrize("fixed", [False, True])
def test_ten_million_sentences_cost_no_memory(fixed):
    tracemalloc.start()
    data = GrammarData(10_000_000, 0, fixed)
    for number in (0, 1, 156_249):
        assert data.batch(1, number, 64).shape[0] == 64
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize("split", SPLITS)
def test_numbered_sentences_belong_to_their_split_with_templates_even(split):
    template, slots = grammar.numbered_slots(np.arange(20_000), split, 3)
    assert np.abs(np.bincount(template, minlength=len(TEMPLATES)) - 2000).max() < 5 * np.sqrt(2000)
    assert grammar.in_split(template, slots, split).all()
    some = np.random.default_rng(0).choice(20_000, 500)
    again = grammar.numbered_slots(some, split, 3)
    assert (again[0] == template[some]).all() and (again[1] == slots[some]).all()
    assert (grammar.numbered_slots(some, split, 4)[0] != again[0]).any()
