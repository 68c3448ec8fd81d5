"""Pieces of HTML of what a `Playground` gives, for demo.py and for notebooks. Everything from a user or a file is escaped."""

from html import escape

from playground.model import changed
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


def percent(share):
    """A share in [0, 1] as people read it, never rounded up to certainty.

    >>> percent(1.0), percent(0.9999), percent(0.123)
    ('100 %', '99.9 %', '12 %')
    """
    if share > 0.99:
        return "100 %" if share > 0.99995 else f"{int(share * 1000) / 10} %"
    return f"{100 * share:.0f} %"


def figure(picture, caption, side=192):
    """A picture (3, 64, 64) in [0, 1], enlarged without smoothing, over its caption."""
    text = escape(caption, quote=True)
    return f'<figure><img src="{data_uri(picture)}" alt="{text}" width="{side}" height="{side}"><figcaption>{text}</figcaption></figure>'


def reading(read, text=None):
    """A `Reading`; text: the sentence that was drawn, if it is to be compared."""
    verdict = f"{percent(read.probability)} sure of the whole sentence"
    if text is not None:
        verdict = (
            "✓ word for word" if read.caption == text else f"✗ not what was drawn: {escape(text)}"
        ) + f" · {verdict}"
    rows = "".join(
        f"<tr><td>{escape(w.word)}</td>"
        f'<td><meter min="0" max="1" value="{w.probability:.4f}" aria-label="how sure"></meter></td><td>{percent(w.probability)}</td>'
        f'<td class="second">else {escape(w.second)} {percent(w.second_probability)}</td></tr>'
        for w in read.words
    )
    return f'<p class="about">Read back:</p><p class="caption">{escape(read.caption) or NOTHING}</p><p class="verdict">{verdict}</p><table class="words">{rows}</table>'


def parts(drawn):
    """The layers of a `Drawn`; empty where the scene decoder draws in one piece."""
    figures = "".join(figure(picture, name, 96) for name, picture in drawn.layers)
    return f'<p class="about">Its layers</p><div class="play">{figures}</div>' if figures else ""


def comparison(before, after):
    """Two `Drawn` beside each other, and where they differ."""
    share, where = changed(before.picture, after.picture)
    figures = [figure(before.picture, before.text), figure(after.picture, after.text)]
    figures.append(figure(where, f"{percent(share)} of the picture changes visibly (bright: where)"))
    return f'<div class="play">{"".join(figures)}</div>{reading(after.reading, after.text)}'


def round_trip(drawn):
    """A `Drawn` with what is read back."""
    return f'<div class="play">{figure(drawn.picture, drawn.text)}<div>{reading(drawn.reading, drawn.text)}</div></div>'


def problem(error):
    """An error that the user can mend, in one line."""
    return f'<p class="problem" role="alert">{escape(str(error).splitlines()[0])}</p>'
