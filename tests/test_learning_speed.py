"""scripts/learning_speed.py: fresh captioners on the frozen scene decoders of several checkpoints."""

import sys

import pytest
import torch
from conftest import ROOT
from parrot import blank

sys.path.insert(0, str(ROOT / "scripts"))
import learning_speed


@pytest.mark.slow
def test_one_column_a_checkpoint_and_one_row_a_check(capsys):
    threads, paths = torch.get_num_threads(), [blank(), blank("objects", use_vq=True)]
    flags = ["--steps", "3", "--every", "2", "--captioner", "plain_convolutions", "--threads", str(threads)]
    assert learning_speed.main([*paths, *flags]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["steps", *paths]
    assert [row.split("|")[1].strip() for row in rows] == ["2", "3"]
    assert all(0 <= float(cell) <= 100 for row in rows for cell in row.strip("|").split("|")[1:])


def test_a_checkpoint_that_is_not_there_is_one_line(tmp_path, capsys):
    assert learning_speed.main([str(tmp_path / "none.pt")]) == 1
    assert "none.pt" in capsys.readouterr().err
