"""Batches of sentences, and the command that prints them."""

import hashlib
import tracemalloc

import numpy as np
import pytest
import torch
from conftest import run_forked

import data_utils
from data_utils import (
    PAD,
    GrammarData,
    pad,
    shuffled,
)
from text.grammar import (
    SPLITS,
    parse,
)


def printed(capsys, *args):
    data_utils.main([str(a) for a in args])
    return capsys.readouterr().out


@pytest.mark.parametrize("split", SPLITS)
def test_same_seed_same_bytes_and_fewer_is_a_prefix(capsys, monkeypatch, split):
    monkeypatch.setattr(data_utils, "BLOCK", 1000)
    many = printed(capsys, "--split", split, "--num", 1003, "--seed", 4)
    few = printed(capsys, "--split", split, "--num", 7, "--seed", 4)
    assert few == printed(capsys, "--split", split, "--num", 7, "--seed", 4) and many.startswith(few)
    assert few != printed(capsys, "--split", split, "--num", 7, "--seed", 5)
    lines = many.splitlines()
    assert len(lines) == 1003 and all(parse(s) for s in lines[:500]) and lines[1000:] != lines[:3]


def test_sentences_do_not_depend_on_the_machine(capsys):
    text = "".join(printed(capsys, "--split", split, "--num", 50, "--seed", 0) for split in SPLITS)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "977e675befae12ef"


def test_real_command(tmp_path):
    done = run_forked("data_utils.py", "--split", "test_pairs", "--num", 3, cwd=tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3
    with pytest.raises(SystemExit) as exit_:
        data_utils.main(["--num", "-1"])
    assert exit_.value.code == 2


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


@pytest.mark.parametrize("fixed", [False, True])
def test_ten_million_sentences_cost_no_memory(fixed):
    tracemalloc.start()
    data = GrammarData(10_000_000, 0, fixed)
    for number in (0, 1, 156_249):
        assert data.batch(1, number, 64).shape[0] == 64
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
