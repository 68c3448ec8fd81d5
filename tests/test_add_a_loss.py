"""docs/add_a_loss.md, carried out on a copy of the repository."""

import json

import pytest
from documented_change import carry_out


@pytest.mark.slow
def test_every_block_applies_and_every_command_runs(tmp_path):
    copy = tmp_path / "copy"
    printed = carry_out("add_a_loss.md", copy)
    assert len(printed) == 3 and any("1 passed" in text for text in printed.values())
    assert "`--lambda_contrast`" in (copy / "docs" / "flags.md").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (copy / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(0 <= r["loss_contrast"] <= 1 for r in rows if r["kind"] == "train")
    assert "contrast loss" in (copy / "scripts" / "ablations.py").read_text(encoding="utf-8")
