"""The page of an evaluation: one self-contained HTML file, made with jinja2 from templates/index.html.j2."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from evaluation.protocol import ModelUnderTest, Protocol
from evaluation.report import labels
from evaluation.report.markdown import (
    ARROWS,
    all_metrics,
    format_value,
    fresh_reading_tables,
    full_label,
    grounding_lines,
    short_names,
)
from evaluation.report.page_data import page_content
from evaluation.report.page_glyphs import alphabet_sheet
from evaluation.report.page_plots import (
    SHAPES,
    corruption_plots,
    distribution_plots,
    learning_plot,
    markers_of,
    mean_and_deviation,
    plot_groups,
)

TEMPLATES = Path(__file__).resolve().parent / "templates"
HEADLINES = {  # metric's id: the text after its value
    "exact_match/test": "of unseen sentences are read exactly",
    "exact_match/test_pairs": "of sentences with an unseen pair of color and object are read exactly",
    "exact_match/test_ood": "of sentences with a rare word and a new partner are read exactly",
    "corruption/jpeg_50": "are read exactly after JPEG at quality 50",
    "legibility/naive_4/object": "of object words are read by a naive reader after 4 examples each",
    "legibility/color_histogram_64": "of color words are read from the color histogram alone",
    "topographic_similarity/slots/pixels": "topographic similarity: similar sentences, similar pictures",
    "bits_through_picture": "bits pass through a picture, at least",
    "bits_through_picture/estimate": "bits pass through a picture, by estimate",
}


def headlines(result: dict) -> list[dict]:
    """The main metrics of the first model, with their deviation over all models."""
    out = []
    models = [all_metrics(m) for m in result["models"]]
    for id, text in HEADLINES.items():
        if id not in models[0]:
            continue
        metric = models[0][id]
        beside = [f"{labels.BASELINES[b]} {format_value(metric, v)}" for b, v in metric["baselines"].items()]
        spread = mean_and_deviation(metric, [m[id]["value"] for m in models if id in m])
        headline = {"value": format_value(metric, metric["value"]), "text": text, "n": metric["n"]}
        out.append({**headline, "beside": ", ".join(beside[:2]), "mean_and_deviation": spread})
    return out


def compared_models(result: dict) -> list[tuple[str, list[dict]]]:
    """Every metric of several models -> [(section's title, [{"name", "values", "mean_and_deviation"}])]."""
    out = []
    models = [all_metrics(m) for m in result["models"]]
    for section, content in result["models"][0]["sections"].items():
        rows = []
        for id, metric in content["metrics"].items():
            values = [m[id]["value"] if id in m else None for m in models]
            name = full_label(metric) + ARROWS[metric["better"]]
            shown = [format_value(metric, v) for v in values]
            spread = mean_and_deviation(metric, values)
            rows.append({"name": name, "values": shown, "mean_and_deviation": spread})
        out.append((labels.TITLES[section], rows))
    return out


def what_sets_what(table: dict[str, dict[str, float]]) -> dict:
    """{word class: {property: share of swaps that change it}} -> the table that the page shows."""
    properties = list(next(iter(table.values())))
    return {"properties": properties, "rows": [(name, [row[p] for p in properties]) for name, row in table.items()]}


def row_shares(matrix: list[list[int]]) -> list[list[tuple[int, float]]]:
    """Rows of counts -> rows of (count, share of its row in [0, 1])."""
    return [[(c, c / max(1, sum(row))) for c in row] for row in matrix]


# ---------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------


def percent(value: float | None, digits: int = 0) -> str:
    """A share -> percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def marker_path(name: str) -> Markup:
    """The SVG path of one of SHAPES, as markup."""
    return Markup(SHAPES[name])


def _environment():
    blocks = {"autoescape": select_autoescape(["j2", "html"]), "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(TEMPLATES), **blocks)
    environment.filters["percent"] = percent
    environment.globals.update(path_of=marker_path, row_shares=row_shares)
    return environment


def _sections(result, baseline_curves):
    """The plots and tables of each section of the first model."""
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


def render_page(result: dict, model: ModelUnderTest, protocol: Protocol, seed: int) -> str:
    """The content of metrics.json and the first model -> the page. Raises what drawing raises."""
    first = result["models"][0]
    sections = first["sections"]
    baseline_curves = sections["captioners"]["details"].get("corruption", {})
    confusion = sections["cycle"]["details"]["confusion"]
    letters = sections["alphabet"]["details"]["letters"] if "alphabet" in sections else []
    names = short_names([m["name"] for m in result["models"]])
    template = _environment().get_template("index.html.j2")
    return template.render(
        result=result,
        left_out=first["left_out"],
        sections=_sections(result, baseline_curves),
        headlines=headlines(result),
        names=names,
        grounding=[(name, line) for name, line in zip(names, grounding_lines(result)) if line],
        fresh_tables=fresh_reading_tables(result["fresh_reading"]) if "fresh_reading" in result else [],
        compared=compared_models(result) if len(names) > 1 else [],
        corruption_legend=markers_of(baseline_curves),
        captioner_steps=sections["captioners"]["details"]["steps"],
        markers=list(SHAPES),
        splits=list(labels.SPLITS.items()),
        trip_splits=model.splits,
        confusion=confusion.get("test", {}),
        alphabet=alphabet_sheet(model, letters),
        settings=result["checkpoints"][0]["settings"],
        checkpoint=result["checkpoints"][0]["sha256"],
        **page_content(model, protocol, seed, confusion),
    )
