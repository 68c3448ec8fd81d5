"""Files as users have them."""

import tracemalloc

import numpy as np
import pytest

from data_utils import (
    PAD,
    CaptionsData,
    CaptionsFileError,
    Vocabulary,
    read_lines,
    tokenize,
)
from text import captions_file


def rows_of(data, epoch, size=16):
    batches = [data.batch(epoch, n, size) for n in range(-(-data.num_samples // size))]
    return [tuple(k for k in row if k != PAD) for b in batches for row in b.tolist()]


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
    trained = {data.vocab.decode(row) for row in data.batch(0, 0, 3).tolist()}
    assert trained | {*data.val, *data.test} == {"blau", "grün", "rot"}


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


def test_train_split_leaves_at_least_one_on_each_side(tmp_path):
    for share in (0.01, 0.999):
        data = captions(tmp_path, "a\nb\nc\n", train_split=share)
        assert data.num_samples >= 1 and len(data.val) >= 1 and len(data.test) >= 1


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
    with pytest.raises(CaptionsFileError, match="does not know the word '(zebra|yak)'"):
        captions(tmp_path, "yak\nzebra\n", vocab=Vocabulary.of(["red"]))


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
    assert data.report.lines == 2 and data.report.cut == 1 and data.max_words == captions_file.MAX_LINE_WORDS


def test_a_line_of_exactly_the_limit_is_not_cut(tmp_path):
    path = tmp_path / "a.txt"
    for extra, cut in ((0, False), (1, True)):
        for end in ("", "\n", "\r\n"):
            path.write_bytes((" " * (captions_file.LINE_CHARACTERS - 1 + extra) + "x" + end).encode())
            assert [c for _, c, _ in read_lines(path)] == [cut]


def test_duplicates_are_found_across_blocks_and_the_blocks_do_not_show(tmp_path, monkeypatch):
    lines = [f"sentence number {i % 70} of {i % 3}" for i in range(400)]
    whole = captions(tmp_path, "\n".join(lines))
    monkeypatch.setattr(captions_file.Rows, "BLOCK", 7)
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
