"""docs/add_a_decoder.md, carried out on a copy of the repository."""

import json

import pytest
from conftest import ROOT
from documented_change import blocks_of, carry_out


def test_the_page_quotes_the_conv_decoder_as_it_is():
    code = (ROOT / "decoders" / "conv.py").read_text(encoding="utf-8")
    quotes = [block for language, name, block in blocks_of("add_a_decoder.md") if language == "python" and not name]
    assert len(quotes) == 4 and all(quote in code for quote in quotes)


@pytest.mark.slow
def test_every_block_applies_and_every_command_runs(tmp_path):
    copy = tmp_path / "copy"
    test, train, generate, caption = carry_out("add_a_decoder.md", copy).items()
    assert "1 passed" in test[1]
    (drawn,) = (copy / "out" / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(drawn)["text"] == "a red ball" and "caption" in json.loads(caption[1])
    summary = (copy / "logs" / "training_summary.txt").read_text(encoding="utf-8")
    assert "bars" in summary
