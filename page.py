"""The page of an evaluation: one self-contained HTML file, made with jinja2 from templates/index.html.j2."""

import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

import dictionary
from report import TITLES, show

TEMPLATES = Path(__file__).resolve().parent / "templates"
# The marks of baselines: shape and colour together (Okabe & Ito's colours), so that neither is needed alone
MARKS = ["triangle", "square", "diamond", "cross", "plus", "ring", "bar", "down"]
PATHS = {
    "triangle": "M0 -5 L5 4 L-5 4 Z", "square": "M-4 -4 H4 V4 H-4 Z", "diamond": "M0 -5.5 L5.5 0 L0 5.5 L-5.5 0 Z",
    "cross": "M-4 -4 L4 4 M-4 4 L4 -4", "plus": "M0 -5 V5 M-5 0 H5",
    "ring": "M-4 0 A4 4 0 1 1 4 0 A4 4 0 1 1 -4 0", "bar": "M-1 -6 H1 V6 H-1 Z",
    "down": "M0 5 L5 -4 L-5 -4 Z",
}  # fmt: skip
LINES = ["", "6 3", "2 3", "8 3 2 3", "1 4", "10 4"]
HEADLINES = [
    ("circle", "test · exact match", "sentences never trained on come back word for word"),
    ("circle", "test_pairs · exact match", "with color-and-object pairs never trained on"),
    ("circle", "test_ood · exact match", "with a rare word and a new partner"),
    ("robustness", "jpeg 50", "still read after JPEG at quality 50"),
    ("legibility", "naive reader, 4 examples a word · object", "of object words told by a naive reader after 4 examples each"),
    ("legibility", "color word from the color histogram", "of color words told from the color histogram alone"),
    ("structure", "topographic similarity · slots, pixels", "topographic similarity: like sentences, like pictures"),
    ("bottleneck", "bits through the picture (at least)", "bits pass through a picture, at least"),
    ("bottleneck", "bits through the picture (estimate)", "bits pass through a picture, by estimate"),
]


def scale_of(figures):
    """(low, high) of the axis that figures share: their range where it is closed, else what they span."""
    low, high = (next(iter(figures))["range"] + [None, None])[:2]
    values = [v for f in figures for v in [f["value"], *f["baselines"].values(), *(f["interval"] or [])] if v is not None]
    low = min(values + [0]) if low is None or low < 0 else low
    high = max(values + [low + 1e-6]) * 1.02 if high is None else high
    return low, max(high, low + 1e-9)


def look(i):
    """The mark and colour of the i-th baseline."""
    return {"mark": MARKS[i % len(MARKS)], "hue": i % 7}


def row_of(name, figure, at):
    """One line of a plot; at: value -> per cent of the axis."""
    return {
        "name": name,
        "figure": figure,
        "shown": show(figure, figure["value"]),
        "at": at(figure["value"]),
        "interval": [at(v) for v in figure["interval"]] if figure["interval"] else None,
        "interval_shown": [show(figure, v) for v in figure["interval"]] if figure["interval"] else None,
        "marks": [
            {"at": at(v), "name": b, "shown": show(figure, v), **look(i)} for i, (b, v) in enumerate(figure["baselines"].items())
        ],
    }


def dot_groups(figures):
    """Figures with the same range and baselines -> groups for the plots, each with its legend and axis."""
    groups = {}
    for name, figure in figures.items():
        split = name.split(" · ")[0] if name.startswith("test") else ""
        groups.setdefault((split, tuple(figure["range"]), tuple(figure["baselines"])), []).append((name, figure))
    out = []
    for (split, _, baselines), rows in groups.items():
        low, high = scale_of([f for _, f in rows])

        def at(value, low=low, high=high):
            return None if value is None else round(100 * min(1, max(0, (value - low) / (high - low))), 2)

        out.append(
            {
                "title": split if not out or out[-1]["split"] != split else "",
                "split": split,
                "legend": [{"name": b, **look(i)} for i, b in enumerate(baselines)],
                "axis": [show(rows[0][1], v) for v in (low, (low + high) / 2, high)],
                "rows": [row_of(name.removeprefix(split + " · "), f, at) for name, f in rows],
            }
        )
    return out


def curve_path(xs, ys, width=150, height=80):
    """SVG path of values in [0, 1] over positions in [0, 1]."""
    points = [f"{5 + x * (width - 10):.1f} {height - 5 - y * (height - 10):.1f}" for x, y in zip(xs, ys)]
    return "M" + " L".join(points)


def wear_plots(details):
    """Small charts of exact match against strength, one for each kind of wear."""
    out = []
    for kind, c in details["curves"].items():
        n = len(c["strengths"])
        ys = [details["clean"], *c["exact_match"]]
        xs = [i / n for i in range(n + 1)]
        points = [
            {"x": round(5 + x * 140, 1), "y": round(75 - y * 70, 1), "text": f"{s}: {100 * y:.0f} %"}
            for x, y, s in zip(xs, ys, ["none", *c["strengths"]])
        ]
        out.append({"kind": kind, "path": curve_path(xs, ys), "points": points, **c})
    return out


def learning_plot(details):
    """Lines of exact match against steps, for each drawer and reader."""
    lines = []
    for i, (name, curve) in enumerate(details["curves"].items()):
        xs, ys = [0, *(s / details["steps"] for s, _ in curve)], [0.0, *(v for _, v in curve)]
        lines.append(
            {
                "name": name,
                "path": curve_path(xs, ys, 600, 220),
                "dash": LINES[i % len(LINES)],
                "hue": i % 7,
                "end": f"{100 * ys[-1]:.0f} %",
            }
        )
    return lines


def headlines(model):
    out = []
    for section, name, text in HEADLINES:
        figure = model["sections"].get(section, {"figures": {}})["figures"].get(name)
        if figure:
            beside = ", ".join(f"{b} {show(figure, v)}" for b, v in list(figure["baselines"].items())[:2])
            out.append({"value": show(figure, figure["value"]), "text": text, "n": figure["n"], "beside": beside})
    return out


def heat(matrix):
    """Rows of counts -> rows of (count, share of its row)."""
    return [[(c, c / max(1, sum(row))) for c in row] for row in matrix]


def build(result, subject, plan, seed):
    """metrics.json's content and the first model -> the page as text. Raises what drawing raises."""
    model = result["models"][0]
    confusion = model["sections"]["circle"]["details"]["confusion"]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(["j2", "html"]), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda v, digits=0: "–" if v is None else f"{100 * v:.{digits}f} %"
    environment.globals.update(path_of=lambda name: Markup(PATHS[name]), heat=heat, round=round, sqrt=math.sqrt)
    sections = [
        {
            "id": name.replace(" ", "-"), "title": TITLES[name], "groups": dot_groups(content["figures"]), "name": name,
            "wear": wear_plots(content["details"]) if name == "robustness" else [],
            "learning": learning_plot(content["details"]) if name == "readers" else [],
            "steps": content["details"].get("steps"), "invented": content["details"].get("invented", [])[:12],
        }
        for name, content in model["sections"].items()
    ]  # fmt: skip
    return environment.get_template("index.html.j2").render(
        result=result, model=model, sections=sections, headlines=headlines(model), confusion=confusion.get("test", {}),
        settings=result["checkpoints"][0]["settings"], **dictionary.collect(subject, plan, seed, confusion),
    )  # fmt: skip
