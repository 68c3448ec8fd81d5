"""The page of an evaluation: one self-contained HTML file, made with jinja2 from evaluation/templates/index.html.j2."""

from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from evaluation import labels, mutual
from evaluation.alphabet import alphabet_sheet
from evaluation.page_data import page_content
from evaluation.protocol import OWN
from evaluation.real_section import distribution_plots
from evaluation.report import ARROWS, all_metrics, format_value, full_label, given_lines, short_names

TEMPLATES = Path(__file__).resolve().parent / "templates"
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
HEADLINES = {  # metric's id: what follows its value
    "exact_match/test": "of sentences never trained on come back word for word",
    "exact_match/test_pairs": "of sentences with a color and an object never trained on together come back",
    "exact_match/test_ood": "of sentences with a rare word beside a new partner come back",
    "corruption/jpeg_50": "are still read after JPEG at quality 50",
    "legibility/naive_4/object": "of object words told by a naive reader after 4 examples each",
    "legibility/color_histogram_64": "of color words told from the color histogram alone",
    "topographic_similarity/slots/pixels": "topographic similarity: similar sentences, similar pictures",
    "bits_through_picture": "bits pass through a picture, at least",
    "bits_through_picture/estimate": "bits pass through a picture, by estimate",
}


# ---------------------------------------------------------------------------------------------
# Dot plots of metrics
# ---------------------------------------------------------------------------------------------


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


# ---------------------------------------------------------------------------------------------
# Curves
# ---------------------------------------------------------------------------------------------


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
                    "name": f"{labels.BASELINES[decoder]}, {labels.CAPTIONERS[captioner]}",
                    "own": own,
                    "path": curve_path(xs, ys, 600, 220),
                    "dash": DASHES[len(lines) % len(DASHES)],
                    "hue": "own" if own else f"h{markers_of([decoder])[0]['hue']}",
                    "end": f"{100 * ys[-1]:.0f} %",
                }
            )
    return lines


# ---------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------


def headlines(result):
    """The first model's most telling metrics, with their deviation over all models."""
    out = []
    models = [all_metrics(m) for m in result["models"]]
    for id, text in HEADLINES.items():
        if id not in models[0]:
            continue
        metric = models[0][id]
        beside = [f"{labels.BASELINES[b]} {format_value(metric, v)}" for b, v in metric["baselines"].items()]
        out.append(
            {
                "value": format_value(metric, metric["value"]),
                "text": text,
                "n": metric["n"],
                "beside": ", ".join(beside[:2]),
                "mean_and_deviation": mean_and_deviation(metric, [m[id]["value"] for m in models if id in m]),
            }
        )
    return out


def compared_models(result):
    """Every metric of several models -> [(section's title, [{"name", "values": each model's, "mean_and_deviation"}])]."""
    out = []
    models = [all_metrics(m) for m in result["models"]]
    for section, content in result["models"][0]["sections"].items():
        rows = []
        for id, metric in content["metrics"].items():
            values = [m[id]["value"] if id in m else None for m in models]
            rows.append(
                {
                    "name": full_label(metric) + ARROWS[metric["better"]],
                    "values": [format_value(metric, v) for v in values],
                    "mean_and_deviation": mean_and_deviation(metric, values),
                }
            )
        out.append((labels.TITLES[section], rows))
    return out


def what_sets_what(table):
    """{kind of word: {property: share of swaps that change it}} -> the table that the page shows."""
    properties = list(next(iter(table.values())))
    return {"properties": properties, "rows": [(kind, [row[p] for p in properties]) for kind, row in table.items()]}


def row_shares(matrix):
    """Rows of counts -> rows of (count, share of its row in [0, 1])."""
    return [[(c, c / max(1, sum(row))) for c in row] for row in matrix]


# ---------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------


def percent(value, digits=0):
    """A share -> percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def marker_path(name):
    """The SVG path of one of PATHS, as markup."""
    return Markup(PATHS[name])


def _environment():
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["j2", "html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.globals.update(path_of=marker_path, row_shares=row_shares)
    return environment


def _sections(result, baseline_curves):
    """What the page's numbers show of each section of the first model."""
    first, *peers = (m["sections"] for m in result["models"])
    out = []
    for id, content in first.items():
        details = content["details"]
        out.append(
            {
                "id": id,
                "title": labels.TITLES[id],
                "explained": labels.EXPLAINED[id],
                "groups": plot_groups(content["metrics"], [p[id]["metrics"] for p in peers if id in p]),
                "corruptions": corruption_plots(details, baseline_curves) if id == "robustness" else [],
                "learning": learning_plot(details) if id == "captioners" else [],
                "steps": details.get("steps"),
                "sets": what_sets_what(details["table"]) if id == "scenes" else None,
                "distributions": distribution_plots(details) if id == "real_pictures" else [],
                "invented": details.get("invented", [])[:12],
            }
        )
    return out


def render_page(result, model, protocol, seed):
    """metrics.json's content and the first ModelUnderTest -> the page as text. Raises what drawing raises."""
    first = result["models"][0]
    captioners = first["sections"]["captioners"]["details"]
    baseline_curves = captioners.get("corruption", {})
    confusion = first["sections"]["circle"]["details"]["confusion"]
    letters = first["sections"]["alphabet"]["details"]["letters"] if "alphabet" in first["sections"] else []
    names = short_names([m["name"] for m in result["models"]])
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            result=result,
            left_out=first["left_out"],
            sections=_sections(result, baseline_curves),
            headlines=headlines(result),
            names=names,
            given=[(name, line) for name, line in zip(names, given_lines(result)) if line],
            fresh_tables=mutual.tables(result["fresh_reading"]) if "fresh_reading" in result else [],
            compared=compared_models(result) if len(names) > 1 else [],
            corruption_legend=markers_of(baseline_curves),
            captioner_steps=captioners["steps"],
            markers=list(PATHS),
            splits=list(labels.SPLITS.items()),
            trip_splits=model.splits,
            confusion=confusion.get("test", {}),
            alphabet=alphabet_sheet(model, letters),
            settings=result["checkpoints"][0]["settings"],
            checkpoint=result["checkpoints"][0]["sha256"],
            **page_content(model, protocol, seed, confusion),
        )
    )
