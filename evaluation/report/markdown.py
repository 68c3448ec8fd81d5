"""An evaluation's results as tables for people, in Markdown."""

import re

from evaluation.baselines.captioners import CAPTIONER_LABELS
from evaluation.measures.text_scores import SCORES
from evaluation.metric import OWN
from evaluation.report.labels import BASELINES, EXPLAINED, TITLES
from evaluation.sections.real_pictures import name_of
from evaluation.sections.real_text import GROUPS
from text.grounding import given_line

ARROWS = {"high": " ↑", "low": " ↓", "": ""}  # which way is better


def short_names(names):
    """Paths by as many of their last parts as tell them apart.

    >>> short_names(["runs/a/best.pt", "runs/b/best.pt"]), short_names(["runs/a/best.pt"])
    (['a/best.pt', 'b/best.pt'], ['best.pt'])
    """
    parts = [re.split(r"[\\/]", name) for name in names]
    for k in range(1, max(map(len, parts)) + 1):
        short = ["/".join(p[-k:]) for p in parts]
        if len(set(short)) == len(set(names)):
            break
    return short


def format_value(metric, value):
    """A value in the unit of its metric: shares as percent, the rest with three digits.

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


def full_label(metric):
    """A metric's label with its split before it.

    >>> full_label({"label": "exact match", "split": "test"}), full_label({"label": "perplexity", "split": ""})
    ('test · exact match', 'perplexity')
    """
    return f"{metric['split']} · {metric['label']}" if metric["split"] else metric["label"]


def all_metrics(model):
    """A model's entry of metrics.json -> {id: metric} of all its sections."""
    return {id: metric for section in model["sections"].values() for id, metric in section["metrics"].items()}


def given_lines(result):
    """A metrics.json's content -> for each model the line that says what was given, "" if all emerged."""
    of = zip(result["models"], result["checkpoints"])
    return [given_line(model["given"], checkpoint["settings"]["grounding"]) for model, checkpoint in of]


def markdown_table(headings, rows):
    """Headings and rows of cells, in any type that str takes -> a Markdown table without an end of line."""
    cells = [[str(c).replace("|", "\\|") for c in row] for row in [headings, *rows]]
    return "\n".join(["| " + " | ".join(r) + " |" for r in (cells[0], ["---"] * len(headings), *cells[1:])])


def metrics_tables(metrics):
    """{id: metric} -> Markdown: metrics with the same baselines stand in one table."""
    groups = {}
    for metric in metrics.values():
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


def markdown(result):
    """The whole report of a metrics.json's content."""
    extent = "quick" if result["quick"] else "whole"
    lines = [
        "# What kind of language is it?",
        "",
        f"{extent} evaluation, seed {result['seed']}, version {result['version']}, torch {result['torch']}, "
        f"{result['seconds']:.0f} s. ",
        f"↑ more is better, ↓ less is better. Fresh captioners were trained for {result['protocol']['steps']} steps of 64 sentences. "
        "What each metric means: docs/measures.md.",
    ]
    for model, line in zip(result["models"], given_lines(result)):
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
        rows = [
            [f"{BASELINES[d]}, {CAPTIONER_LABELS[c]}", *(f"{100 * v:.0f} %" for _, v in curve)]
            for d, c, curve in curves
        ]
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
            rows.append(
                [
                    name_of(name),
                    *(
                        " / ".join(f"{v:.3g}" for v in quantiles[id][1:-1])
                        for id in ("unexplained", "log_prob_per_word")
                    ),
                ]
            )
        at = " / ".join(f"{100 * v:g}" for v in details["at"][1:-1])
        table = markdown_table(
            ["", "left unexplained by the redrawn caption", "log probability of the caption a word"], rows
        )
        return ["", f"Real pictures: {details['source']}. Percentiles {at}:", "", table]
    if section == "alphabet":
        rows = [
            [x["alphabet"], x["code"], ", ".join(f"{w} ({n})" for w, n in x["words"]), x["n"]]
            for x in details["letters"]
        ]
        return ["", "Codes in use, and their words:", "", markdown_table(["alphabet", "code", "words", "times"], rows)]
    if section == "language_model":
        return ["", "Invented: " + "; ".join(details["invented"][:8])]
    return []


def _several_models(result):
    """The lines of what only several models have: mean and deviation, who reads whom."""
    rows = []
    for s in result["summary"].values():
        rows.append([f"{TITLES[s['section']]} · {full_label(s)}", f"{s['mean']:.4g}", f"{s['std']:.2g}"])
    lines = ["", f"## Mean ± standard deviation over {len(result['models'])} models", ""]
    lines.append(markdown_table(["", "mean", "standard deviation"], rows))
    lines += ["", "## Who reads whom: exact match, rows draw and columns read", ""]
    names = short_names([m["name"] for m in result["models"]])
    lines.append(_matrix(names, result["cross_reading"]))
    if fresh := result.get("fresh_reading"):
        lines += [
            "",
            f"## Fresh captioners, taught by the column's model in {fresh['steps']} steps and asked on the row's",
            "",
        ]
        for heading, rows in fresh_reading_tables(fresh):
            lines += [
                f"{heading[0].upper()}{heading[1:]} (n = {fresh['n']}, seed {result['seed']}):",
                "",
                _matrix(names, rows),
                "",
            ]
    return lines


def _matrix(names, rows):
    """A square of shares in [0, 1] or None -> a Markdown table with the models' names at both sides."""
    cells = [[n, *("–" if v is None else f"{100 * v:.1f} %" for v in row)] for n, row in zip(names, rows)]
    return markdown_table(["", *names], cells)


def real_text_tables(scores, groups):
    """{condition: scores of `text_scores`} and `exact_match_of_groups` -> two tables in Markdown."""
    rows = [[label, *(f"{scores[name][id]:.4g}" for name in scores)] for id, (label, _, _) in SCORES.items()]
    of_groups = [[GROUPS[name], f"{value:.4g}", n] for name, (value, n) in groups.items()]
    return [markdown_table(["", *scores], rows), markdown_table(["exact match", "", "n"], of_groups)]


def failures(sentences, captions, most):
    """Lines that show at most so many sentences that did not come back as they were typed, each with its caption."""
    return [f"- {text}\n  {caption}" for text, caption in zip(sentences, captions) if text != caption][:most]


def fresh_reading_tables(found):
    """What `fresh_reading` found -> [(heading, rows of shares or None)]."""
    what = "slots" if found["share_is"] == "slots_soft" else "words"
    return [
        ("exact match", found["exact_match"]),
        (f"share of {what} that come back", found["share"]),
        (f"share of {what} that come back, by luck: the caption of another picture", found["share_by_luck"]),
    ]
