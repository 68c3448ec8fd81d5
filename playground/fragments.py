"""HTML fragments that show the results of a `Playground`, for demo.py and for notebooks. All text is escaped."""

from __future__ import annotations

from html import escape

import torch

from metrics import exact_match
from playground.model import Drawn, Reading, changed
from training.snapshots import data_uri

NOTHING = "(nothing)"
STYLE = """
.play { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
.play figure { margin: 0; } .play figcaption { font-size: .85em; max-width: 192px; overflow-wrap: anywhere; }
.play img { display: block; image-rendering: pixelated; border-radius: 4px; }
.words, .words tr, .words td { border: 0 !important; border-collapse: collapse; }
.words td { padding: 2px 10px 2px 0 !important; white-space: nowrap; text-align: left; }
.words meter { width: 80px; height: 12px; vertical-align: middle; } .words .second { opacity: .75; font-size: .85em; }
.caption { font-size: 1.15em; font-weight: 600; margin: 0 0 2px; overflow-wrap: anywhere; }
.verdict { margin: 0 0 8px; } .about { margin: 0 0 6px; font-size: .85em; opacity: .75; }
"""


def percent(share: float) -> str:
    """A share in [0, 1] in percent; a share below 1 is not rounded up to 100 %.

    >>> percent(1.0), percent(0.9999), percent(0.123)
    ('100 %', '99.9 %', '12 %')
    """
    if share > 0.99:
        return "100 %" if share > 0.99995 else f"{int(share * 1000) / 10} %"
    return f"{100 * share:.0f} %"


def figure(picture: torch.Tensor, caption: str, side: int = 192) -> str:
    """A picture (3, 64, 64) in [0, 1], enlarged to `side` pixels without smoothing, over its caption."""
    text = escape(caption, quote=True)
    image = f'<img src="{data_uri(picture)}" alt="{text}" width="{side}" height="{side}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def reading(read: Reading, text: str | None = None) -> str:
    """A caption with the probability of each word. text: the drawn sentence, to compare the caption with it."""
    verdict = f"{percent(read.probability)} sure of the whole sentence"
    if text is not None:
        is_exact = exact_match([text], [read.caption]) == 1
        verdict = ("✓ word for word" if is_exact else f"✗ not what was drawn: {escape(text)}") + f" · {verdict}"
    rows = "".join(
        f"<tr><td>{escape(w.word)}</td>"
        f'<td><meter min="0" max="1" value="{w.probability:.4f}" aria-label="probability"></meter></td>'
        f"<td>{percent(w.probability)}</td>"
        f'<td class="second">else {escape(w.second)} {percent(w.second_probability)}</td></tr>'
        for w in read.words
    )
    caption = f'<p class="caption">{escape(read.caption) or NOTHING}</p>'
    return (
        f'<p class="about">Read back:</p>{caption}<p class="verdict">{verdict}</p><table class="words">{rows}</table>'
    )


def parts(drawn: Drawn) -> str:
    """The layers of a picture; "" if the scene decoder draws without layers."""
    figures = "".join(figure(picture, name, 96) for name, picture in drawn.layers)
    return f'<p class="about">Its layers</p><div class="play">{figures}</div>' if figures else ""


def comparison(before: Drawn, after: Drawn) -> str:
    """Two pictures side by side, where they differ, and the caption of the second one."""
    share, where = changed(before.picture, after.picture)
    figures = [figure(before.picture, before.text), figure(after.picture, after.text)]
    figures.append(figure(where, f"{percent(share)} of the picture changes visibly (bright: where)"))
    return f'<div class="play">{"".join(figures)}</div>{reading(after.reading, after.text)}'


def round_trip(drawn: Drawn) -> str:
    """A picture beside its caption."""
    return beside(drawn.picture, drawn.text, drawn.reading, drawn.text)


def beside(picture: torch.Tensor, name: str, read: Reading, text: str | None = None) -> str:
    """A picture (3, 64, 64) in [0, 1] with its name, beside `reading(read, text)`."""
    return f'<div class="play">{figure(picture, name)}<div>{reading(read, text)}</div></div>'


def problem(error: Exception) -> str:
    """An error that the user can correct, in one line."""
    return f'<p class="problem" role="alert">{escape(str(error).splitlines()[0])}</p>'
