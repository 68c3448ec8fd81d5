"""The plots of the page: dot plots of metrics, curves, and distributions, as dicts for its template."""

import math

import numpy as np

from evaluation.baselines.captioners import CAPTIONER_LABELS
from evaluation.metric import OWN
from evaluation.report import labels
from evaluation.report.markdown import ARROWS, format_value
from evaluation.sections.real_pictures import AT, name_of

# The markers of baselines: shape and color together (Okabe & Ito's colors), so that neither is needed alone
PATHS = {
    "triangle": "M0 -5 L5 4 L-5 4 Z",
    "square": "M-4 -4 H4 V4 H-4 Z",
    "diamond": "M0 -5.5 L5.5 0 L0 5.5 L-5.5 0 Z",
    "cross": "M-4 -4 L4 4 M-4 4 L4 -4",
    "plus": "M0 -5 V5 M-5 0 H5",
    "ring": "M-4 0 A4 4 0 1 1 4 0 A4 4 0 1 1 -4 0",
    "bar": "M-1 -6 H1 V6 H-1 Z",
    "down": "M0 5 L5 -4 L-5 -4 Z",
}

# A baseline has the same marker in every plot; those that only one section has take what is left
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
    """The axis that some metrics of the same range share: that range where it is closed, else what they span.

    peers: values of other models that lie on it, too.
    """

    def __init__(self, metrics, peers=()):
        low, high = metrics[0]["range"]
        values = [*peers]
        for m in metrics:
            values += [m["value"], *m["baselines"].values(), *(m["interval"] or [])]
        values = [v for v in values if v is not None]
        self.low = min([*values, 0]) if low is None or low < 0 else low
        self.high = max([*values, self.low + 1e-6]) * 1.02 if high is None else high
        self.high = max(self.high, self.low + 1e-9)

    def at(self, value):
        """A value -> percent of the axis, in [0, 100]; None for None."""
        if value is None:
            return None
        return round(100 * min(1, max(0, (value - self.low) / (self.high - self.low))), 2)


def markers_of(baselines):
    """Ids of baselines -> [{"name": its label, "mark": one of PATHS, "hue": 0 ... 6}]."""
    out = []
    left = iter(OTHER_MARKERS * len(baselines))
    for id in baselines:
        mark, hue = MARKERS.get(id) or next(left)
        out.append({"name": labels.BASELINES[id], "mark": mark, "hue": hue})
    return out


def mean_and_deviation(metric, values):
    """Mean ± standard deviation (n - 1) of several models' values in the unit of their metric; empty for one model."""
    values = [v for v in values if v is not None]
    if len(values) < 2:
        return ""
    return f"{format_value(metric, float(np.mean(values)))} ± {format_value(metric, float(np.std(values, ddof=1)))}"


def plot_row(metric, axis, peers):
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
        "glyphs": [{**marker, "at": axis.at(v), "shown": format_value(metric, v)} for marker, v in beside],
    }


def plot_groups(metrics, peers=()):
    """{id: metric} -> a dict for each plot, which has the metrics of one split, range and choice of baselines.

    peers: [{id: metric}] of the other models, where there are some.
    """
    groups = {}
    for id, metric in metrics.items():
        groups.setdefault((metric["split"], tuple(metric["range"]), tuple(metric["baselines"])), []).append(id)
    out = []
    for (split, _, baselines), ids in groups.items():
        others = {id: [p[id]["value"] for p in peers if id in p] for id in ids}
        axis = Axis([metrics[id] for id in ids], [v for values in others.values() for v in values])
        ends = (axis.low, (axis.low + axis.high) / 2, axis.high)
        first_of_split = split and (not out or out[-1]["split"] != split)
        out.append(
            {
                "title": f"{split}: {labels.SPLITS[split]}" if first_of_split else "",
                "split": split,
                "legend": markers_of(baselines),
                "axis": [format_value(metrics[ids[0]], v) for v in ends],
                "rows": [plot_row(metrics[id], axis, others[id]) for id in ids],
            }
        )
    return out


def curve_path(xs, ys, width=150, height=80):
    """SVG path of values in [0, 1] over positions in [0, 1]; width, height: px, with a margin of 5."""
    points = [f"{5 + x * (width - 10):.1f} {height - 5 - y * (height - 10):.1f}" for x, y in zip(xs, ys)]
    return "M" + " L".join(points)


def corruption_plots(details, baselines):
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
        beside = [
            {**marker, "path": curve_path(xs[1:], curves[kind]["exact_match"])}
            for marker, curves in zip(markers_of(baselines), baselines.values())
        ]
        out.append(
            {"kind": labels.CORRUPTIONS[kind], "path": curve_path(xs, ys), "points": points, "beside": beside, **c}
        )
    return out


def learning_plot(details):
    """Lines of exact match against steps, for each scene decoder and captioner. details: of the captioners section."""
    lines = []
    for decoder, by_captioner in details["curves"].items():
        own = decoder == OWN
        for captioner, curve in by_captioner.items():
            xs = [0, *(step / details["steps"] for step, _ in curve)]
            ys = [0.0, *(value for _, value in curve)]
            lines.append(
                {
                    "name": f"{labels.BASELINES[decoder]}, {CAPTIONER_LABELS[captioner]}",
                    "own": own,
                    "path": curve_path(xs, ys, 600, 220),
                    "dash": DASHES[len(lines) % len(DASHES)],
                    "hue": "own" if own else f"h{markers_of([decoder])[0]['hue']}",
                    "end": f"{100 * ys[-1]:.0f} %",
                }
            )
    return lines


def distribution_plots(details):
    """A section's details -> [{"title", "axis": three texts, "rows": [{"name", "low", "high", "middle": percent of the axis,
    "shown"}]}]: where the middle 98 % and the median of each set of pictures lie."""
    out = []
    for id, title, number in (
        (
            "unexplained",
            "What is left unexplained when the caption is drawn again (logarithmic)",
            lambda v: math.log10(max(v, 1e-4)),
        ),
        ("log_prob_per_word", "Log probability of the caption, nats a word", float),
    ):
        rows = {name: [number(v) for v in quantiles[id]] for name, quantiles in details["quantiles"].items()}
        low = min(r[AT.index(0.01)] for r in rows.values())
        high = max(r[AT.index(0.99)] for r in rows.values())
        scale = 100 / max(high - low, 1e-9)
        ends = (low, (low + high) / 2, high)
        out.append(
            {
                "title": title,
                "axis": [f"{10**v:.2g}" if id == "unexplained" else f"{v:.2g}" for v in ends],
                "rows": [
                    {
                        "name": name_of(name),
                        **{
                            part: round(scale * (r[AT.index(at)] - low), 2)
                            for part, at in (("low", 0.01), ("middle", 0.5), ("high", 0.99))
                        },
                        "shown": f"{details['quantiles'][name][id][AT.index(0.5)]:.2g}",
                    }
                    for name, r in rows.items()
                ],
            }
        )
    return out
