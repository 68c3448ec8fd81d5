"""scripts/architecture.py: the figure is drawn from modules of today."""

import pytest
from PIL import Image

from scripts import architecture


@pytest.mark.slow
def test_the_figure_names_the_networks_and_their_parts(tmp_path, monkeypatch):
    texts = []
    draw_text = architecture.Figure.text
    monkeypatch.setattr(
        architecture.Figure, "text", lambda self, x, y, s, **k: texts.append(s) or draw_text(self, x, y, s, **k)
    )
    assert architecture.draw(tmp_path / "a.png") == 0
    shown = "\n".join(texts)
    for name in ("language_model", "scene_decoder", "caption_network", "channel", "lstm: LSTM", "0.001 kl"):
        assert name in shown
    assert "picture (B, 3, 64, 64)" in shown and "received (B, 3, 64, 64)" in shown
    assert Image.open(tmp_path / "a.png").width > 500
