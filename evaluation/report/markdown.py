"""An evaluation's results as tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

import metrics
from evaluation.baselines.captioners import CAPTIONER_LABELS
from evaluation.measures.text_scores import SCORES
from evaluation.metric import OWN
from evaluation.report.labels import BASELINES, EXPLAINED, TITLES
from evaluation.sections.real_text import GROUPS
from text.grounding import grounding_line

ARROWS = {"high": " ↑", "low": " ↓", "": ""}  # which end is better


def short_names(names: list[str]) -> list[str]:
    """Paths, shortened to the last parts that distinguish them.

    >>> short_names(["runs/a/best.pt", "runs/b/best.pt"]), short_names(["runs/a/best.pt"])
    (['a/best.pt', 'b/best.pt'], ['best.pt'])
    """
    parts = [re.split(r"[\\/]", name) for name in names]
    for k in range(1, max(map(len, parts)) + 1):
        short = ["/".join(p[-k:]) for p in parts]
        if len(set(short)) == len(set(names)):
            break
    return short


def format_value(metric: dict, value: float | None) -> str:
    """A value in the unit of its metric: shares in percent, others with three significant digits.

    >>> format_value({"range": [0.0, 1.0]}, 0.5).split(), format_value({"range": [0.0, None]}, 12.345)
    (['50.0', '%'], '12.3')
    >>> format_value({"range": [0.0, None]}, None)
    'none'
    """
    if value is None:
        return "none"
    if metric["range"] == [0.0, 1.0]:
        return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def full_label(metric: dict) -> str:
    """A metric's label with its split before it.

    >>> full_label({"label": "exact match", "split": "test"}), full_label({"label": "perplexity", "split": ""})
    ('test · exact match', 'perplexity')
    """
    return f"{metric['split']} · {metric['label']}" if metric["split"] else metric["label"]


def all_metrics(model: dict) -> dict[str, dict]:
    """A model's entry of metrics.json -> {id: metric} of all its sections."""
    return {id: metric for section in model["sections"].values() for id, metric in section["metrics"].items()}


def grounding_lines(result: dict) -> list[str]:
    """The content of metrics.json -> a line for each model that lists its grounded words, "" if there are none."""
    of = zip(result["models"], result["checkpoints"])
    return [grounding_line(model["grounded_words"], checkpoint["settings"]["grounding"]) for model, checkpoint in of]


def markdown_table(headings: list[str], rows: Iterable[list]) -> str:
    """Headings and rows of cells -> a Markdown table without a final newline."""
    cells = [[str(c).replace("|", "\\|") for c in row] for row in [headings, *rows]]
    return "\n".join(["| " + " | ".join(r) + " |" for r in (cells[0], ["---"] * len(headings), *cells[1:])])


def metrics_tables(metrics_of_section: dict[str, dict]) -> str:
    """{id: metric} -> Markdown: a table for all metrics with the same baselines."""
    groups = {}
    for metric in metrics_of_section.values():
        groups.setdefault(tuple(metric["baselines"]), []).append(metric)
    tables = []
    for baselines, members in groups.items():
        rows = []
        for m in members:
            label = full_label(m) + ARROWS[m["better"]]
            interval = " … ".join(format_value(m, v) for v in m["interval"]) if m["interval"] else ""
            beside = [format_value(m, m["baselines"][id]) for id in baselines]
            rows.append([label, f"**{format_value(m, m['value'])}**", interval, *beside, m["n"], m.get("note", "")])
        names = [BASELINES[id] for id in baselines]
        tables.append(markdown_table(["", BASELINES[OWN], "95 % interval", *names, "n", ""], rows))
    return "\n\n".join(tables)


def markdown(result: dict) -> str:
    """The content of metrics.json -> the whole report."""
    extent = "quick" if result["quick"] else "whole"
    lines = [
        "# What kind of language is it?",
        "",
        f"{extent} evaluation, seed {result['seed']}, version {result['version']}, torch {result['torch']}, "
        f"{result['seconds']:.0f} s. ",
        "↑ more is better, ↓ less is better. "
        f"Fresh captioners were trained for {result['protocol']['steps']} steps of 64 sentences. "
        "What each metric means: docs/measures.md.",
    ]
    for model, line in zip(result["models"], grounding_lines(result)):
        lines += ["", f"## {model['name']}", *(["", f"{line}."] if line else [])]
        for section, content in model["sections"].items():
            lines += ["", f"### {TITLES[section]}", "", EXPLAINED[section], "", metrics_tables(content["metrics"])]
            lines += _details(section, content["details"])
        if model["left_out"]:
            lines += ["", "Left out:", "", *(f"- {name}: {why}" for name, why in model["left_out"].items())]
    if "summary" in result:
        lines += _several_models(result)
    return "\n".join(lines) + "\n"


def _details(section, details):
    """The lines that follow a section's tables."""
    if section == "captioners":
        curves = [(d, c, curve) for d, by_captioner in details["curves"].items() for c, curve in by_captioner.items()]
        steps = [step for step, _ in curves[0][2]]
        rows = []
        for d, c, curve in curves:
            rows.append([f"{BASELINES[d]}, {CAPTIONER_LABELS[c]}", *(f"{100 * v:.0f} %" for _, v in curve)])
        table = markdown_table(["scene decoder, captioner", *steps], rows)
        return ["", "Exact match of fresh captioners against steps:", "", table]
    if section == "robustness":
        rows = []
        for kind, c in details["curves"].items():
            points = ", ".join(f"{s}: {100 * v:.0f} %" for s, v in zip(c["strengths"], c["exact_match"]))
            halves_at = c["halves_at"] if c["halves_at"] is not None else "not reached"
            rows.append([kind, "yes" if c["trained_on"] else "no", points, halves_at])
        table = markdown_table(["corruption", "trained on", "strength: exact match", "halves at"], rows)
        return ["", "Exact match against strength (mild to severe):", "", table]
    if section == "real_pictures":
        rows = []
        for name, quantiles in details["quantiles"].items():
            shown = [quantiles[id][1:-1] for id in ("unexplained", "log_prob_per_word")]
            rows.append([details["names"][name], *(" / ".join(f"{v:.3g}" for v in values) for values in shown)])
        at = " / ".join(f"{100 * v:g}" for v in details["at"][1:-1])
        headings = ["", "left unexplained by the redrawn caption", "log probability of the caption a word"]
        return ["", f"Real pictures: {details['source']}. Percentiles {at}:", "", markdown_table(headings, rows)]
    if section == "alphabet":
        words = [", ".join(f"{w} ({n})" for w, n in x["words"]) for x in details["letters"]]
        rows = [[x["alphabet"], x["code"], names, x["n"]] for x, names in zip(details["letters"], words)]
        return ["", "Codes in use, and their words:", "", markdown_table(["alphabet", "code", "words", "times"], rows)]
    if section == "language_model":
        return ["", "Invented: " + "; ".join(details["invented"][:8])]
    return []


def _several_models(result):
    """The lines for several models: mean and deviation, and cross-reading."""
    rows = []
    for s in result["summary"].values():
        rows.append([f"{TITLES[s['section']]} · {full_label(s)}", f"{s['mean']:.4g}", f"{s['std']:.2g}"])
    lines = ["", f"## Mean ± standard deviation over {len(result['models'])} models", ""]
    lines.append(markdown_table(["", "mean", "standard deviation"], rows))
    lines += ["", "## Cross-reading: exact match, rows draw and columns read", ""]
    names = short_names([m["name"] for m in result["models"]])
    lines.append(_matrix(names, result["cross_reading"]))
    if fresh := result.get("fresh_reading"):
        title = f"## Fresh captioners, trained on the column's pictures for {fresh['steps']} steps, read the row's"
        lines += ["", title, ""]
        for heading, rows in fresh_reading_tables(fresh):
            about = f"{heading[0].upper()}{heading[1:]} (n = {fresh['n']}, seed {result['seed']}):"
            lines += [about, "", _matrix(names, rows), ""]
    return lines


def _matrix(names, rows):
    """A square of shares in [0, 1] or None -> a Markdown table with the models' names at both sides."""
    cells = [[n, *("–" if v is None else f"{100 * v:.1f} %" for v in row)] for n, row in zip(names, rows)]
    return markdown_table(["", *names], cells)


def real_text_tables(scores: dict[str, dict[str, float]], groups: dict[str, tuple[float, int]]) -> list[str]:
    """{condition: scores of `text_scores`} and exact match of groups {group: (value, n)} -> two tables in Markdown."""
    rows = [[label, *(f"{scores[name][id]:.4g}" for name in scores)] for id, (label, _, _) in SCORES.items()]
    of_groups = [[GROUPS[name], f"{value:.4g}", n] for name, (value, n) in groups.items()]
    return [markdown_table(["", *scores], rows), markdown_table(["exact match", "", "n"], of_groups)]


def failures(sentences: list[str], captions: list[str], most: int) -> list[str]:
    """At most `most` sentences that are not read verbatim, each with its caption below."""
    wrong = [(a, b) for a, b in zip(sentences, captions) if metrics.verbatim_match([a], [b]) < 1]
    return [f"- {text}\n  {caption}" for text, caption in wrong[:most]]


def fresh_reading_tables(found: dict) -> list[tuple[str, list]]:
    """What `cross_reading.fresh_reading` returns -> [(heading, rows of shares or None)]."""
    what = "slots" if found["share_is"] == "slots_soft" else "words"
    return [
        ("exact match", found["exact_match"]),
        (f"share of {what} read right", found["share"]),
        (f"share of {what} read right by chance: the caption of another picture", found["share_by_chance"]),
    ]
