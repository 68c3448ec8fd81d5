"""Corruptions of torchvision: what they do where it can be imported, and what its absence costs."""

import re
import sys

import pytest
import torch
from conftest import ROOT
from parrot import KNOWN, parrot

from checkpoints import load_model
from evaluation.measures import unseen_corruptions
from pictures import draw_sentences

NAMES = ["perspective", "elastic", "sharpness", "posterize", "jpeg of torchvision"]
HERE, WHY_NOT = unseen_corruptions.available()


@pytest.fixture(scope="module")
def scenes():
    cycle, vocab, _ = load_model(parrot(), "cpu")
    return draw_sentences(cycle, vocab, KNOWN, "cpu")


def test_the_makefile_names_a_torch_and_a_torchvision_that_belong_together():
    """torchvision 0.N is built for one torch, 2.(N - 15), with the same last number."""
    named = re.search(
        r"^TORCH \?= torch==2\.(\d+)\.(\d+) torchvision==0\.(\d+)\.(\d+)$",
        (ROOT / "Makefile").read_text(encoding="utf-8"),
        re.M,
    )
    torch_minor, torch_patch, minor, patch = map(int, named.groups())
    assert (minor, patch) == (torch_minor + 15, torch_patch)
    floors = dict(
        re.findall(r"^(torch|torchvision)>=\d\.(\d+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M)
    )
    assert int(floors["torchvision"]) == int(floors["torch"]) + 15


@pytest.mark.skipif(not HERE, reason=WHY_NOT)
def test_all_are_there():
    assert list(HERE) == NAMES and WHY_NOT == ""


@pytest.mark.skipif(not HERE, reason=WHY_NOT)
@pytest.mark.parametrize("name", NAMES)
def test_a_corruption_changes_pictures_by_its_seed_alone_and_not_beyond_recognition(name, scenes):
    before, state = scenes.clone(), torch.get_rng_state()
    one, again, other = (HERE[name](scenes, seed) for seed in (5, 5, 6))
    assert torch.equal(one, again) and torch.equal(scenes, before) and torch.equal(torch.get_rng_state(), state)
    assert one.shape == scenes.shape and one.dtype == torch.float32 and 0 <= one.min() and one.max() <= 1
    assert torch.equal((one * 255).round() / 255, one)  # as a file holds it
    drawn_at_random = name in ("perspective", "elastic")
    assert torch.equal(one, other) != drawn_at_random
    for picture, corrupted in zip(scenes, one, strict=True):
        assert 0.001 < (picture - corrupted).abs().mean() < 0.2
    twice = HERE[name](scenes[:1].expand(2, -1, -1, -1), 5)
    assert torch.equal(twice[0], twice[1]) != drawn_at_random  # each picture in a way of its own
    assert HERE[name](scenes[:0], 5).shape == (0, 3, 64, 64)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "raise RuntimeError('operator torchvision::nms does not exist\\nand more')",
            "operator torchvision::nms does not exist",
        ),
        ("raise OSError('libtorch_cuda.so: cannot open')", "libtorch_cuda.so: cannot open"),
        ("", "No module named 'torchvision.transforms'"),
    ],
)
def test_a_torchvision_that_cannot_be_imported_is_one_line(source, reason, tmp_path, monkeypatch, capfd):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(source, encoding="utf-8")
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    kinds, why = unseen_corruptions.available()
    assert kinds == {} and why == f"torchvision cannot be imported ({reason}); corruptions that it makes are left out"
    assert capfd.readouterr() == ("", "")
