"""The page of an evaluation: one self-contained HTML file, made with jinja2 from evaluation/templates/index.html.j2."""

import math
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from evaluation import page_data
from evaluation.report import EXPLAINED, SPLITS, TITLES, short_names, show

TEMPLATES = Path(__file__).resolve().parent / "templates"
# The marks of baselines: shape and colour together (Okabe & Ito's colours), so that neither is needed alone
PATHS = {
    "triangle": "M0 -5 L5 4 L-5 4 Z", "square": "M-4 -4 H4 V4 H-4 Z", "diamond": "M0 -5.5 L5.5 0 L0 5.5 L-5.5 0 Z",
    "cross": "M-4 -4 L4 4 M-4 4 L4 -4", "plus": "M0 -5 V5 M-5 0 H5",
    "ring": "M-4 0 A4 4 0 1 1 4 0 A4 4 0 1 1 -4 0", "bar": "M-1 -6 H1 V6 H-1 Z",
    "down": "M0 5 L5 -4 L-5 -4 Z",
}  # fmt: skip
# A baseline looks the same in every plot; those that only one section has take what is left
LOOKS = {
    "chance": ("triangle", 0), "majority": ("square", 1), "blank picture": ("diamond", 2), "another's picture": ("cross", 3),
    "random drawer": ("plus", 4), "hand-made": ("ring", 5),
}  # fmt: skip
OTHER_LOOKS = [("bar", 6), ("down", 0), ("square", 2)]
WEAR = {
    "jpeg": "JPEG quality", "blur": "blur σ, px", "noise": "noise σ", "resample": "scaled down to, px", "brightness": "brightness ×",
    "shift": "shift, px", "rotation": "rotation, °", "patch": "gray patch, px", "hue": "hue turned by, °", "bits": "bits a channel",
    "low_pass": "only what a blur leaves, σ px", "high_pass": "only what a blur takes, σ px",
}  # fmt: skip
LINES = ["", "6 3", "2 3", "8 3 2 3", "1 4", "10 4"]
HEADLINES = [
    ("circle", "test · exact match", "of sentences never trained on come back word for word"),
    ("circle", "test_pairs · exact match", "of sentences with a color and an object never trained on together come back"),
    ("circle", "test_ood · exact match", "of sentences with a rare word beside a new partner come back"),
    ("robustness", "jpeg 50", "are still read after JPEG at quality 50"),
    ("legibility", "naive reader, 4 examples a word · object", "of object words told by a naive reader after 4 examples each"),
    ("legibility", "color word from the color histogram", "of color words told from the color histogram alone"),
    ("structure", "topographic similarity · slots, pixels", "topographic similarity: like sentences, like pictures"),
    ("bottleneck", "bits through the picture (at least)", "bits pass through a picture, at least"),
    ("bottleneck", "bits through the picture (estimate)", "bits pass through a picture, by estimate"),
]


def scale_of(figures, peers=()):
    """(low, high) of the axis that figures share: their range where it is closed, else what they span."""
    low, high = (next(iter(figures))["range"] + [None, None])[:2]
    values = [v for f in figures for v in [f["value"], *f["baselines"].values(), *(f["interval"] or [])] if v is not None]
    values += [v for v in peers if v is not None]
    low = min(values + [0]) if low is None or low < 0 else low
    high = max(values + [low + 1e-6]) * 1.02 if high is None else high
    return low, max(high, low + 1e-9)


def looks(baselines):
    """[{"name", "mark", "hue"}] of baselines: "hand-made, reader taught 200 steps" looks like "hand-made"."""
    out, left = [], iter(OTHER_LOOKS * len(baselines))
    for name in baselines:
        mark, hue = LOOKS.get(name.split(", ")[0]) or next(left)
        out.append({"name": name, "mark": mark, "hue": hue})
    return out


def spread(figure, values):
    """Mean ± standard deviation of several models' values in the unit of their figure; empty for one model."""
    values = [v for v in values if v is not None]
    if len(values) < 2:
        return ""
    return f"{show(figure, float(np.mean(values)))} ± {show(figure, float(np.std(values, ddof=1)))}"


def row_of(name, figure, at, peers):
    """One line of a plot; at: value -> per cent of the axis; peers: the same figure of the other models."""
    return {
        "name": name,
        "figure": figure,
        "shown": show(figure, figure["value"]),
        "at": at(figure["value"]),
        "peers": [{"at": at(v), "shown": show(figure, v)} for v in peers if v is not None],
        "spread": spread(figure, [figure["value"], *peers]),
        "interval": [at(v) for v in figure["interval"]] if figure["interval"] else None,
        "interval_shown": [show(figure, v) for v in figure["interval"]] if figure["interval"] else None,
        "marks": [
            {**look, "at": at(v), "shown": show(figure, v)}
            for look, v in zip(looks(figure["baselines"]), figure["baselines"].values())
        ],
    }


def dot_groups(figures, peers=()):
    """Figures with the same range and baselines -> groups for the plots, each with its legend and axis.

    peers: the same section's figures of the other models, where there are some.
    """
    groups = {}
    for name, figure in figures.items():
        split = name.split(" · ")[0] if name.startswith("test") else ""
        groups.setdefault((split, tuple(figure["range"]), tuple(figure["baselines"])), []).append((name, figure))
    out = []
    for (split, _, baselines), rows in groups.items():
        others = {name: [p.get(name, {}).get("value") for p in peers] for name, _ in rows}
        low, high = scale_of([f for _, f in rows], sum(others.values(), []))

        def at(value, low=low, high=high):
            return None if value is None else round(100 * min(1, max(0, (value - low) / (high - low))), 2)

        out.append(
            {
                "title": f"{split}: {SPLITS[split]}" if split and (not out or out[-1]["split"] != split) else "",
                "split": split,
                "legend": looks(baselines),
                "axis": [show(rows[0][1], v) for v in (low, (low + high) / 2, high)],
                "rows": [row_of(name.removeprefix(split + " · "), f, at, others[name]) for name, f in rows],
            }
        )
    return out


def curve_path(xs, ys, width=150, height=80):
    """SVG path of values in [0, 1] over positions in [0, 1]."""
    points = [f"{5 + x * (width - 10):.1f} {height - 5 - y * (height - 10):.1f}" for x, y in zip(xs, ys)]
    return "M" + " L".join(points)


def wear_plots(details, taught):
    """Small charts of exact match against strength, one for each kind of wear; taught: {drawer: its curves, by a fresh reader}."""
    out = []
    for kind, c in details["curves"].items():
        n = len(c["strengths"])
        ys = [details["clean"], *c["exact_match"]]
        xs = [i / n for i in range(n + 1)]
        points = [
            {"x": round(5 + x * 140, 1), "y": round(75 - y * 70, 1), "text": f"{s}: {100 * y:.0f} %"}
            for x, y, s in zip(xs, ys, ["none", *c["strengths"]])
        ]
        beside = [
            {"name": name, "hue": looks([name])[0]["hue"], "path": curve_path(xs[1:], curves[kind]["exact_match"])}
            for name, curves in taught.items()
        ]
        out.append({"kind": WEAR[kind], "path": curve_path(xs, ys), "points": points, "beside": beside, **c})
    return out


def learning_plot(details):
    """Lines of exact match against steps, for each drawer and reader."""
    lines = []
    for i, (name, curve) in enumerate(details["curves"].items()):
        drawer = name.split(", ")[0]
        xs, ys = [0, *(s / details["steps"] for s, _ in curve)], [0.0, *(v for _, v in curve)]
        lines.append(
            {
                "name": name,
                "path": curve_path(xs, ys, 600, 220),
                "dash": LINES[i % len(LINES)],
                "hue": "own" if drawer == "this model" else f"h{looks([drawer])[0]['hue']}",
                "end": f"{100 * ys[-1]:.0f} %",
            }
        )
    return lines


def headlines(result):
    """The first model's most telling figures, with their spread over all models."""
    out = []
    for section, name, text in HEADLINES:
        values = [m["sections"].get(section, {"figures": {}})["figures"].get(name) for m in result["models"]]
        if figure := values[0]:
            beside = ", ".join(f"{b} {show(figure, v)}" for b, v in list(figure["baselines"].items())[:2])
            spread_ = spread(figure, [v["value"] for v in values if v])
            out.append(
                {"value": show(figure, figure["value"]), "text": text, "n": figure["n"], "beside": beside, "spread": spread_}
            )
    return out


def compared(result):
    """Every figure of several models -> [(section's title, [(name, arrow, each model's value, mean ± sd)])]."""
    out = []
    for section, content in result["models"][0]["sections"].items():
        rows = []
        for name, figure in content["figures"].items():
            values = [m["sections"].get(section, {"figures": {}})["figures"].get(name, {}).get("value") for m in result["models"]]
            arrow = {"high": " ↑", "low": " ↓"}.get(figure["better"], "")
            rows.append((name, arrow, [show(figure, v) for v in values], spread(figure, values)))
        out.append((TITLES[section], rows))
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
    environment.filters["percent"] = lambda v, digits=0: "–" if v is None else f"{100 * v:.{digits}f}\N{NO-BREAK SPACE}%"
    environment.globals.update(path_of=lambda name: Markup(PATHS[name]), heat=heat, round=round, sqrt=math.sqrt)
    taught = model["sections"]["readers"]["details"].get("wear", {})
    peers = [m["sections"] for m in result["models"][1:]]
    names = short_names([m["name"] for m in result["models"]])
    sections = [
        {
            "id": name.replace(" ", "-"), "title": TITLES[name], "explained": EXPLAINED[name], "name": name,
            "groups": dot_groups(content["figures"], [p[name]["figures"] for p in peers if name in p]),
            "wear": wear_plots(content["details"], taught) if name == "robustness" else [],
            "learning": learning_plot(content["details"]) if name == "readers" else [],
            "steps": content["details"].get("steps"), "invented": content["details"].get("invented", [])[:12],
        }
        for name, content in model["sections"].items()
    ]  # fmt: skip
    return environment.get_template("index.html.j2").render(
        result=result, model=model, sections=sections, headlines=headlines(result), names=names,
        compared=compared(result) if len(names) > 1 else [], wear_legend=looks(list(taught)), marks=list(PATHS),
        splits=list(SPLITS.items()), trip_splits=subject.splits, confusion=confusion.get("test", {}),
        settings=result["checkpoints"][0]["settings"], **page_data.collect(subject, plan, seed, confusion),
    )  # fmt: skip
