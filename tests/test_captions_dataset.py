"""A training set made from a file of captions: what is left out, splits, epochs, and what a run prints of it."""

import tracemalloc

import numpy as np
import pytest
from conftest import TINY

import train
from captions.dataset import MAX_WORDS
from data_utils import PAD, CaptionsData, CaptionsFileError, Vocabulary
from runtime.command_line import UserError
from settings import resolve
from training.data import open_data


def rows_of(data, epoch, size=16):
    batches = [data.batch(epoch, n, size) for n in range(-(-data.num_samples // size))]
    return [tuple(k for k in row if k != PAD) for b in batches for row in b.tolist()]


def captions(tmp_path, content, **options):
    path = tmp_path / "captions.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CaptionsData(str(path), 0, **options)


def test_report_counts_what_was_left_out(tmp_path):
    lines = ["One cat", "", "  \t", "one  CAT", "two cats", "word " * 40, "...", "three cats"]
    report = captions(tmp_path, "\n".join(lines)).report
    assert (report.lines, report.empty, report.duplicates, report.long) == (8, 2, 1, 1)
    for part in ("8 lines", "2 empty", "1 duplicates", "1 longer than 32 words left out (the first is line 6)"):
        assert part in str(report)


def test_a_sentence_that_is_too_long_is_left_out_and_never_cut(tmp_path):
    words = [f"w{i}" for i in range(MAX_WORDS + 1)]
    long, longest = " ".join(words), " ".join(words[:-1])
    data = captions(tmp_path, f"{long}\na cat\na dog\na bird\n{longest}\n")
    assert data.report.long == 1 and data.max_tokens == MAX_WORDS
    assert "w32" not in data.vocab.index and "w31" in data.vocab.index
    with pytest.raises(CaptionsFileError, match="most lines are longer than 32 words"):
        captions(tmp_path, f"{long}\n{long} x\na bird\n")


def test_train_val_and_test_share_nothing_and_do_not_depend_on_the_order(tmp_path):
    lines = [f"sentence number {i}" for i in range(100)]
    one, two = captions(tmp_path, "\n".join(lines)), captions(tmp_path, "\n".join(reversed(lines)) + "\n")
    assert [*one.test] == [*two.test] == one.test[:] and [*one.val] == [*two.val]
    assert len(one.val) == len(one.test) == 10 and one.num_samples == 80 and not set(one.val) & set(one.test)
    rows = rows_of(one, 0)
    assert rows == rows_of(two, 0) and sorted(rows) == sorted(rows_of(one, 1)) and rows != rows_of(one, 1)
    trained = {one.vocab.decode(row) for row in rows}
    unseen = {*one.val, *one.test}
    assert trained | unseen == set(lines) and not trained & unseen


def test_train_split_leaves_at_least_one_sentence_for_each_purpose(tmp_path):
    for share in (0.01, 0.999):
        data = captions(tmp_path, "a\nb\nc\nd\n", train_split=share)
        trained = {data.vocab.decode(row) for row in rows_of(data, 0)}
        assert len(trained) + len({*data.val}) + len({*data.test}) == len(trained | {*data.val} | {*data.test}) == 4
        assert trained and len(data.val) and len(data.test)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 usable"), (b"\n\n \n", "0 usable"), (b"\xff\xfe", "0 usable"), (b"one line\n", "1 usable"),
        (b"same\nSame\nother\n", "2 usable"),
        (b"\x00" * 100, "not a text file"), (bytes(range(128, 256)) * 50 + b"\nx\xff\n", "line 1 is not UTF-8 text"),
    ],
)  # fmt: skip
def test_nothing_to_learn_from_is_one_line(tmp_path, content, says):
    with pytest.raises(CaptionsFileError, match=says) as error:
        captions(tmp_path, content)
    assert "\n" not in str(error.value) and "captions.txt" in str(error.value)


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        CaptionsData(str(tmp_path / "none.txt"), 0)


def test_words_outside_a_given_vocabulary_are_named(tmp_path):
    with pytest.raises(CaptionsFileError, match="does not know the word"):
        captions(tmp_path, "cat\nyak\nzebra\n", vocab=Vocabulary.of(["red"]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_of_50_million_characters_takes_little_memory(tmp_path, encoding):
    path = tmp_path / "long.txt"
    part = "red ball " * 100_000
    with open(path, "w", encoding=encoding) as f:
        for _ in range(56):
            f.write(part)
        f.write("\nblue box\nred box\ngreen box\n")
    assert path.stat().st_size > 50e6
    tracemalloc.start()
    data = CaptionsData(str(path), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    assert data.report.lines == 4 and data.report.long == 1 and data.max_tokens == 2


def test_equal_sentences_are_merged(tmp_path):
    lines = [f"sentence number {i % 70} of {i % 3}" for i in range(400)]
    data = captions(tmp_path, "\n".join(lines))
    assert data.report.duplicates == 400 - 210 and data.first_sentence() == lines[0]
    assert sorted([*data.train, *data.val, *data.test]) == sorted({*lines})


def test_the_digest_knows_other_sentences_and_another_split_but_not_another_order(tmp_path):
    lines = [f"sentence number {i}" for i in range(50)]
    digest = captions(tmp_path, "\n".join(lines)).digest
    assert digest == captions(tmp_path, "\n".join(reversed(lines))).digest
    assert digest != captions(tmp_path, "\n".join(lines[1:])).digest
    assert digest != captions(tmp_path, "\n".join(lines), train_split=0.5).digest


def test_more_words_than_two_bytes_can_number(tmp_path):
    lines = [f"w{i} w{i + 1}" for i in range(0, 70_000, 2)]
    data = captions(tmp_path, "\n".join(lines))
    assert len(data.vocab) == 2 * data.num_samples + 3 and {*data.test} <= {*lines}
    assert {data.vocab.decode(r) for r in data.batch(0, 0, 999).tolist()} <= {*lines}


@pytest.mark.slow
def test_a_file_costs_a_few_bytes_a_word(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "large.txt"
    words = np.array([f"word{i}" for i in range(5000)])
    with open(path, "w", encoding="utf-8") as f:
        for _ in range(40):
            f.write("\n".join(map(" ".join, words[rng.integers(5000, size=(5000, 12))])) + "\n")
    tracemalloc.start()
    data = CaptionsData(str(path), 0)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.num_samples + len(data.val) + len(data.test) == 200_000
    assert kept < 12e6 and peak < 40e6 and path.stat().st_size > 20e6  # 2 bytes a word, 16 a sentence, and the words


# ---------------------------------------------------------------------------------------------
# Epochs
# ---------------------------------------------------------------------------------------------


def test_an_epoch_has_num_samples_sentences_and_epochs_go_on_through_the_file_in_new_orders(tmp_path):
    data = captions(tmp_path, "\n".join(f"sentence number {i}" for i in range(100)), num_samples=200)
    assert data.trained == 80 and data.num_samples == 200
    first, second = rows_of(data, 0), rows_of(data, 1)
    assert len(first) == len(second) == 200
    passes = [(first + second)[i : i + 80] for i in range(0, 400, 80)]
    assert all(len(set(each)) == 80 for each in passes) and len({tuple(each) for each in passes}) == 5
    for size in (1, 7, 200):  # batches follow from their place alone
        assert rows_of(data, 1, size) == second


def test_an_epoch_may_be_shorter_than_the_file_and_the_next_one_has_others(tmp_path):
    data = captions(tmp_path, "\n".join(f"sentence number {i}" for i in range(100)), num_samples=30)
    epochs = [rows_of(data, epoch) for epoch in range(8)]
    assert [len(rows) for rows in epochs] == [30] * 8
    assert sorted(sum(epochs, [])) == sorted(
        [*rows_of(captions(tmp_path, (tmp_path / "captions.txt").read_bytes()), 0)] * 3
    )


def test_a_batch_may_be_larger_than_the_file(tmp_path):
    data = captions(tmp_path, "a\nb\nc\n", num_samples=64)
    assert data.trained == 1 and data.batch(0, 0, 64).shape == (64, 1)


# ---------------------------------------------------------------------------------------------
# Pictures, and files to validate and to test
# ---------------------------------------------------------------------------------------------


def token_file(pictures, captions=5, start=0):
    """Flickr8k's format: each picture with its captions."""
    lines = [
        f"{p}.jpg#{c}\tcaption {c} of picture {p}" for p in range(start, start + pictures) for c in range(captions)
    ]
    return "\n".join(lines) + "\n"


def pictures_of(sentences):
    return {s.split()[-1] for s in sentences}


def parts(data):
    return [data.vocab.decode(row) for row in rows_of(data, 0)], [*data.val], [*data.test]


def test_all_captions_of_a_picture_are_on_one_side_in_any_order_of_lines(tmp_path):
    content = token_file(40)
    data = captions(tmp_path, content)
    train, val, test = parts(data)
    assert [len(train), len(val), len(test)] == [160, 20, 20]
    assert len(pictures_of(train)) == 32 and len(pictures_of(val)) == len(pictures_of(test)) == 4
    assert not pictures_of(train) & pictures_of(val + test) and not pictures_of(val) & pictures_of(test)
    lines = content.splitlines()
    np.random.default_rng(0).shuffle(lines)
    assert captions(tmp_path, "\n".join(lines)).digest == data.digest


def test_a_sentence_of_two_pictures_stands_on_one_side_in_any_order_of_lines(tmp_path):
    lines = token_file(20, 3).splitlines() + [f"{p}.jpg#9\tthe same for two {p % 10}" for p in range(20)]
    data = captions(tmp_path, "\n".join(lines))
    train, val, test = parts(data)
    assert len({*train} | {*val} | {*test}) == len(train) + len(val) + len(test) == 70 and data.report.duplicates == 10
    assert captions(tmp_path, "\n".join(reversed(lines))).digest == data.digest


def test_few_pictures_still_leave_a_test_without_validation_sentences(tmp_path):
    for pictures in (1, 2, 3):
        train, val, test = parts(captions(tmp_path, token_file(pictures)))
        assert train and val and test and len({*train} | {*val} | {*test}) == 5 * pictures
        if pictures > 1:
            assert not pictures_of(train) & pictures_of(val + test)
    assert not pictures_of(val) & pictures_of(test)


def test_files_of_their_own_to_validate_and_to_test(tmp_path):
    lines = [f"sentence number {i}" for i in range(100)]
    val, test = tmp_path / "val.csv", tmp_path / "test.jsonl"
    val.write_text("caption,image\n" + "".join(f'"sentence, number {i}",{i}.jpg\n' for i in range(5)), encoding="utf-8")
    test.write_text("".join(f'{{"caption": "Sentence number {i}"}}\n' for i in (3, 4, 200, 201)), encoding="utf-8")
    both = captions(tmp_path, "\n".join(lines), val_file=str(val), test_file=str(test))
    train, v, t = parts(both)
    assert sorted(v) == [f"sentence , number {i}" for i in range(5)]
    assert sorted(t) == [f"sentence number {i}" for i in (200, 201, 3, 4)]
    assert sorted(train) == sorted({*lines} - {*t}) and both.report.held_out == 2
    assert any("2 left out because" in line for line in both.description())
    only_val, only_test = (
        captions(tmp_path, "\n".join(lines), **{k: str(f)}) for k, f in (("val_file", val), ("test_file", test))
    )
    assert [len(p) for p in parts(only_val)] == [80, 5, 20]
    assert [len(p) for p in parts(only_test)] == [78, 20, 4]
    assert len({both.digest, only_val.digest, only_test.digest}) == 3


def test_a_column_is_of_the_files_that_have_columns(tmp_path):
    test = tmp_path / "test.txt"
    test.write_text("a dog\na cat\n", encoding="utf-8")
    table = "en,de,split\n" + "".join(f"a dog {i},ein Hund {i},train\n" for i in range(9))
    data = captions(tmp_path, table, column="de", test_file=str(test))
    assert {*data.test} == {"a dog", "a cat"} and data.first_sentence() == "ein hund 0"


def test_no_picture_of_the_test_file_is_trained_on_or_validated(tmp_path):
    val, test = tmp_path / "val.token", tmp_path / "test.token"
    val.write_text(token_file(6), encoding="utf-8")
    test.write_text("0.jpg#0\tanother caption of 0\n1.jpg#7\tcaption 7 of picture 1\n", encoding="utf-8")
    data = captions(tmp_path, token_file(20), val_file=str(val), test_file=str(test))
    train, v, t = parts(data)
    assert (
        pictures_of(t) == {"0", "1"}
        and pictures_of(v) == set("2345")
        and pictures_of(train) == set(map(str, range(6, 20)))
    )
    assert data.report.held_out == 30 and data.reports["val"].held_out == 10


def test_pictures_that_are_only_counted_may_be_others_in_another_file(tmp_path):
    rows = "".join(f"{i},sentence number {i} of PART\n" for i in range(10))
    test = tmp_path / "test.csv"
    test.write_text("image_id,caption\n" + rows.replace("PART", "test"), encoding="utf-8")
    data = captions(tmp_path, "image_id,caption\n" + rows.replace("PART", "train"), test_file=str(test))
    assert data.report.held_out == 0 and len(data.test) == 10


def test_a_file_that_holds_only_what_is_tested_is_refused(tmp_path):
    test = tmp_path / "test.txt"
    test.write_text("a b\nb c\nc d\n", encoding="utf-8")
    with pytest.raises(CaptionsFileError, match="0 usable sentence.*3 left out because"):
        captions(tmp_path, "a b\nb c\nc d\n", test_file=str(test))


# ---------------------------------------------------------------------------------------------
# What a run prints and refuses
# ---------------------------------------------------------------------------------------------


def test_num_samples_counts_for_a_captions_file(no_pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.txt").write_text("".join(f"a dog with number {i}\n" for i in range(30)), encoding="utf-8")
    monkeypatch.setattr(train.Run, "finish", lambda self, sentences: {"last.pt": 0.0})
    assert (
        train.main([*TINY, "--decoder", "conv", "--captions_file", "small.txt", "--epochs", "1", "--num_samples", "96"])
        == 0
    )
    said = capsys.readouterr().err
    assert "step 3/3" in said and "all 3 steps are warm-up" in said
    assert "small.txt read as plain text" in said and "first sentence as read: a dog with number 0" in said


@pytest.mark.parametrize(
    "flag", [["--captions_column", "x"], ["--captions_format", "csv"], ["--val_file", "x"], ["--test_file", "x"]]
)
def test_flags_of_a_captions_file_need_one(flag, capsys):
    with pytest.raises(SystemExit) as usage:
        train.main(flag)
    assert usage.value.code == 2 and f"{flag[0]} needs --captions_file" in capsys.readouterr().err


def test_sentences_longer_than_a_picture_are_counted_and_a_file_of_them_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(
        "".join(f"dog {i} ran\n" for i in range(300)) + "dog " * 90 + "\n", encoding="utf-8"
    )
    data = open_data(resolve({"captions_file": "a.txt", "train_split": 0.99})).training
    said = capsys.readouterr().err
    assert f"note: 1 of {data.trained} training sentences have more than {data.max_tokens} tokens" in said
    assert "generate.py refuses such sentences" in said
    (tmp_path / "b.txt").write_text("".join(f"{i} {'dog ' * 90}\n" for i in range(9)), encoding="utf-8")
    with pytest.raises(
        UserError,
        match=r"b\.txt: 7 of 7 training sentences have more than 64 tokens.*; put shorter sentences on a line$",
    ):
        open_data(resolve({"captions_file": "b.txt"}))
    with pytest.raises(UserError, match="more than 4 tokens.*or give more --n_cells"):
        open_data(resolve({"captions_file": "b.txt", "n_cells": 4, "z_dim": 24}))
