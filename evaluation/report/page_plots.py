"""The plots of the page: dot plots of metrics, curves, and distributions, as dicts for its template."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from evaluation.baselines.captioners import CAPTIONER_LABELS
from evaluation.metric import OWN
from evaluation.report import labels
from evaluation.report.markdown import ARROWS, format_value

# The shapes of markers of baselines; color and shape (Okabe & Ito's colors) each distinguish them
SHAPES = {
    "triangle": "M0 -5 L5 4 L-5 4 Z",
    "square": "M-4 -4 H4 V4 H-4 Z",
    "diamond": "M0 -5.5 L5.5 0 L0 5.5 L-5.5 0 Z",
    "cross": "M-4 -4 L4 4 M-4 4 L4 -4",
    "plus": "M0 -5 V5 M-5 0 H5",
    "ring": "M-4 0 A4 4 0 1 1 4 0 A4 4 0 1 1 -4 0",
    "bar": "M-1 -6 H1 V6 H-1 Z",
    "down": "M0 5 L5 -4 L-5 -4 Z",
}
# {baseline: (shape, hue)} in every plot; the baselines of one section alone take OTHER_MARKERS
MARKERS = {
    "chance": ("triangle", 0),
    "majority": ("square", 1),
    "blank_picture": ("diamond", 2),
    "other_picture": ("cross", 3),
    "random_decoder": ("plus", 4),
    "random_decoder/fresh_captioner": ("plus", 4),
    "hand_made": ("ring", 5),
    "hand_made/fresh_captioner": ("ring", 5),
}
OTHER_MARKERS = [("bar", 6), ("down", 0), ("square", 2)]
DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 4", "10 4"]


class Axis:
    """The common axis of metrics: their range if closed, else that of the values, also of other models (peers)."""

    def __init__(self, metrics: list[dict], peers: Sequence[float | None] = ()):
        low, high = metrics[0]["range"]
        values = [*peers]
        for m in metrics:
            values += [m["value"], *m["baselines"].values(), *(m["interval"] or [])]
        values = [v for v in values if v is not None]
        self.low = min([*values, 0]) if low is None or low < 0 else low
        self.high = max([*values, self.low + 1e-6]) * 1.02 if high is None else high
        self.high = max(self.high, self.low + 1e-9)

    def at(self, value: float | None) -> float | None:
        """A value -> percent of the axis, in [0, 100]; None for None."""
        if value is None:
            return None
        return round(100 * min(1, max(0, (value - self.low) / (self.high - self.low))), 2)


def markers_of(baselines: Collection[str]) -> list[dict]:
    """Ids of baselines -> [{"name": its label, "shape": one of SHAPES, "hue": 0 ... 6}]."""
    out = []
    others = iter(OTHER_MARKERS * len(baselines))
    for id in baselines:
        shape, hue = MARKERS.get(id) or next(others)
        out.append({"name": labels.BASELINES[id], "shape": shape, "hue": hue})
    return out


def mean_and_deviation(metric: dict, values: list[float | None]) -> str:
    """Mean ± standard deviation (n - 1) of several models' values in the unit of their metric; empty for one model."""
    values = [v for v in values if v is not None]
    if len(values) < 2:
        return ""
    return f"{format_value(metric, float(np.mean(values)))} ± {format_value(metric, float(np.std(values, ddof=1)))}"


def plot_row(metric: dict, axis: Axis, peers: list[float | None]) -> dict:
    """One line of a plot; peers: the same metric's values of the other models."""
    beside = zip(markers_of(metric["baselines"]), metric["baselines"].values())
    return {
        "name": metric["label"],
        "arrow": ARROWS[metric["better"]],
        "n": metric["n"],
        "note": metric.get("note", ""),
        "shown": format_value(metric, metric["value"]),
        "at": axis.at(metric["value"]),
        "peers": [{"at": axis.at(v), "shown": format_value(metric, v)} for v in peers if v is not None],
        "mean_and_deviation": mean_and_deviation(metric, [metric["value"], *peers]),
        "interval": [axis.at(v) for v in metric["interval"]] if metric["interval"] else None,
        "interval_shown": [format_value(metric, v) for v in metric["interval"]] if metric["interval"] else None,
        "markers": [{**marker, "at": axis.at(v), "shown": format_value(metric, v)} for marker, v in beside],
    }


def plot_groups(metrics: dict[str, dict], peers: Sequence[dict[str, dict]] = ()) -> list[dict]:
    """{id: metric}, also of other models (peers) -> a dict for each plot: metrics of one split, range and baselines."""
    groups = {}
    for id, metric in metrics.items():
        groups.setdefault((metric["split"], tuple(metric["range"]), tuple(metric["baselines"])), []).append(id)
    out = []
    for (split, _, baselines), ids in groups.items():
        others = {id: [p[id]["value"] for p in peers if id in p] for id in ids}
        axis = Axis([metrics[id] for id in ids], [v for values in others.values() for v in values])
        ends = (axis.low, (axis.low + axis.high) / 2, axis.high)
        first_of_split = split and (not out or out[-1]["split"] != split)
        title = f"{split}: {labels.SPLITS[split]}" if first_of_split else ""
        shown = [format_value(metrics[ids[0]], v) for v in ends]
        rows = [plot_row(metrics[id], axis, others[id]) for id in ids]
        out.append({"title": title, "split": split, "legend": markers_of(baselines), "axis": shown, "rows": rows})
    return out


def curve_path(xs: Sequence[float], ys: Sequence[float], width: int = 150, height: int = 80) -> str:
    """SVG path of values in [0, 1] over positions in [0, 1]; width, height: px, with a margin of 5."""
    points = [f"{5 + x * (width - 10):.1f} {height - 5 - y * (height - 10):.1f}" for x, y in zip(xs, ys)]
    return "M" + " L".join(points)


def corruption_plots(details: dict, baselines: dict[str, dict]) -> list[dict]:
    """Small charts of exact match against strength, one for each corruption.

    details: of the robustness section; baselines: {decoder: its curves, read by a fresh captioner}.
    """
    out = []
    for kind, c in details["curves"].items():
        n = len(c["strengths"])
        ys = [details["clean"], *c["exact_match"]]
        xs = [i / n for i in range(n + 1)]
        points = [
            {"x": round(5 + x * 140, 1), "y": round(75 - y * 70, 1), "text": f"{s}: {100 * y:.0f} %"}
            for x, y, s in zip(xs, ys, ["none", *c["strengths"]])
        ]
        paths = [curve_path(xs[1:], curves[kind]["exact_match"]) for curves in baselines.values()]
        beside = [{**marker, "path": path} for marker, path in zip(markers_of(baselines), paths)]
        plot = {"kind": labels.CORRUPTIONS[kind], "path": curve_path(xs, ys)}
        out.append({**plot, "points": points, "beside": beside, **c})
    return out


def learning_plot(details: dict) -> list[dict]:
    """Lines of exact match against steps, for each scene decoder and captioner. details: of the captioners section."""
    lines = []
    for decoder, by_captioner in details["curves"].items():
        own = decoder == OWN
        for captioner, curve in by_captioner.items():
            xs = [0, *(step / details["steps"] for step, _ in curve)]
            ys = [0.0, *(value for _, value in curve)]
            name = f"{labels.BASELINES[decoder]}, {CAPTIONER_LABELS[captioner]}"
            hue = "own" if own else f"h{markers_of([decoder])[0]['hue']}"
            style = {"own": own, "hue": hue, "dash": DASHES[len(lines) % len(DASHES)]}
            lines.append({"name": name, **style, "path": curve_path(xs, ys, 600, 220), "end": f"{100 * ys[-1]:.0f} %"})
    return lines


def distribution_plots(details: dict) -> list[dict]:
    """The details of the section on real pictures -> [{"title", "axis": three texts, "rows": [{"name", "low", "high",
    "middle": percent of the axis, "shown"}]}]: the middle 98 % and the median of each set of pictures."""
    log10 = "What is left unexplained when the caption is drawn again (logarithmic)"
    return [
        _distribution_plot(details, "unexplained", log10, lambda v: math.log10(max(v, 1e-4)), lambda v: 10**v),
        _distribution_plot(details, "log_prob_per_word", "Log probability of the caption, nats a word", float, float),
    ]


def _distribution_plot(details, id, title, to_axis, from_axis):
    low_at, median_at, high_at = (details["at"].index(share) for share in (0.01, 0.5, 0.99))
    quantiles = {name: of[id] for name, of in details["quantiles"].items()}
    low = min(to_axis(values[low_at]) for values in quantiles.values())
    high = max(to_axis(values[high_at]) for values in quantiles.values())
    scale = 100 / max(high - low, 1e-9)

    def percent(value):
        return round(scale * (to_axis(value) - low), 2)

    rows = []
    for name, values in quantiles.items():
        row = {part: percent(values[at]) for part, at in (("low", low_at), ("middle", median_at), ("high", high_at))}
        rows.append({"name": details["names"][name], **row, "shown": f"{values[median_at]:.2g}"})
    ends = (low, (low + high) / 2, high)
    return {"title": title, "axis": [f"{from_axis(v):.2g}" for v in ends], "rows": rows}
