"""The page of an evaluation: one self-contained HTML file, made with jinja2 from evaluation/report/templates/index.html.j2."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from evaluation.report import labels
from evaluation.report.markdown import (
    ARROWS,
    all_metrics,
    format_value,
    fresh_reading_tables,
    full_label,
    given_lines,
    short_names,
)
from evaluation.report.page_data import page_content
from evaluation.report.page_plots import (
    PATHS,
    corruption_plots,
    distribution_plots,
    learning_plot,
    markers_of,
    mean_and_deviation,
    plot_groups,
)
from evaluation.sections.alphabet import alphabet_sheet

TEMPLATES = Path(__file__).resolve().parent / "templates"
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


# ---------------------------------------------------------------------------------------------
# Curves
# ---------------------------------------------------------------------------------------------


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
            fresh_tables=fresh_reading_tables(result["fresh_reading"]) if "fresh_reading" in result else [],
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
