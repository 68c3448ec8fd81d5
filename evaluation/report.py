"""An evaluation's results as tables for people, in Markdown."""

import re

TITLES = {
    "circle": "The circle", "readers": "Can it be learned?", "robustness": "Robustness, or is it steganography?",
    "legibility": "Can a person read it?", "structure": "Language structure", "meaning": "Meaning of words",
    "bottleneck": "Bottleneck and diversity", "language model": "The language model", "coherence": "Coherence",
}  # fmt: skip

# What each section measures, in a sentence or two for people who see it for the first time
EXPLAINED = {
    "circle": "Sentences that no training shows are drawn, saved as PNG files, and read back by the model's own reader.",
    "legibility": "Could someone who does not have the trained reader make sense of the pictures? "
    "A simple learner gets four pictures a word; then one word of a sentence is swapped, and what changes is compared.",
    "robustness": "A picture is damaged before it is read. A code hidden in fine texture is lost at once; marks that can be seen are not.",
    "structure": "Do like sentences have like pictures, and does each part of a picture speak of one part of the sentence?",
    "meaning": "Can a word be found in a picture by a linear rule, and are pictures that share a word more alike than others?",
    "bottleneck": "How much of a sentence passes through its picture, and how many different pictures there are.",
    "language model": "How well the language model knows the sentences, and what it says when it invents some.",
    "coherence": "Whether pictures are made of shapes or of fine texture. Neither end is better; the baselines show the scale.",
    "readers": "The drawer is frozen, and new readers learn its pictures from nothing. A language that is easy to learn is learned early.",
}
SPLITS = {
    "test": "sentences that training never shows",
    "test_pairs": "pairs of color and object that training never shows together",
    "test_ood": "words that training shows with few partners, here with new ones",
}


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


def show(figure, value):
    """A value in the unit of its figure: shares as per cent, the rest with three digits.

    >>> show({"range": [0.0, 1.0]}, 0.5).split(), show({"range": [0.0, None]}, 12.345), show({"range": [0.0, None]}, None)
    (['50.0', '%'], '12.3', 'none')
    """
    if value is None:
        return "none"
    if figure["range"] == [0.0, 1.0]:
        return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def table(headings, rows):
    cells = [[str(c).replace("|", "\\|") for c in row] for row in [headings, *rows]]
    return "\n".join(["| " + " | ".join(r) + " |" for r in (cells[0], ["---"] * len(headings), *cells[1:])])


def figures_table(figures):
    """Figures that share their baselines' names stand in one table."""
    groups = {}
    for name, figure in figures.items():
        groups.setdefault(tuple(figure["baselines"]), []).append((name, figure))
    out = []
    for baselines, rows in groups.items():
        lines = []
        for name, f in rows:
            interval = " … ".join(show(f, v) for v in f["interval"]) if f["interval"] else ""
            arrow = {"high": " ↑", "low": " ↓"}.get(f["better"], "")
            lines.append(
                [
                    name + arrow,
                    f"**{show(f, f['value'])}**",
                    interval,
                    *(show(f, f["baselines"][b]) for b in baselines),
                    f["n"],
                    f.get("note", ""),
                ]
            )
        out.append(table(["", "this model", "95 % interval", *baselines, "n", ""], lines))
    return "\n\n".join(out)


def markdown(result):
    """The whole report of a metrics.json."""
    lines = ["# What kind of language is it?", ""]
    how = "quick" if result["quick"] else "whole"
    lines.append(
        f"{how} evaluation, seed {result['seed']}, version {result['version']}, torch {result['torch']}, "
        f"{result['seconds']:.0f} s. "
    )
    lines.append("↑ more is better, ↓ less is better. What each figure means: docs/measures.md.")
    for model in result["models"]:
        lines += ["", f"## {model['name']}"]
        for section, content in model["sections"].items():
            lines += ["", f"### {TITLES[section]}", "", EXPLAINED[section], "", figures_table(content["figures"])]
            if section == "readers":
                curves = content["details"]["curves"]
                steps = [s for s, _ in next(iter(curves.values()))]
                lines += ["", "Exact match of fresh readers against steps:", ""]
                lines.append(
                    table(["drawer, reader", *steps], [[name, *(f"{100 * v:.0f} %" for _, v in c)] for name, c in curves.items()])
                )
            if section == "robustness":
                lines += ["", "Exact match against strength (mild to severe):", ""]
                rows = []
                for kind, c in content["details"]["curves"].items():
                    points = ", ".join(f"{s}: {100 * v:.0f} %" for s, v in zip(c["strengths"], c["exact_match"]))
                    rows.append(
                        [
                            kind,
                            "yes" if c["trained_on"] else "no",
                            points,
                            c["halves_at"] if c["halves_at"] is not None else "not reached",
                        ]
                    )
                lines.append(table(["wear", "trained on", "strength: exact match", "halves at"], rows))
            if section == "language model":
                lines += ["", "Invented: " + "; ".join(content["details"]["invented"][:8])]
        if model["left_out"]:
            lines += ["", "Left out:", "", *(f"- {name}: {why}" for name, why in model["left_out"].items())]
    if "summary" in result:
        lines += ["", f"## Mean ± standard deviation over {len(result['models'])} models", ""]
        lines.append(
            table(
                ["", "mean", "standard deviation"],
                [[k, f"{v['mean']:.4g}", f"{v['std']:.2g}"] for k, v in result["summary"].items()],
            )
        )
        lines += ["", "## Who reads whom: exact match, rows draw and columns read", ""]
        names = short_names([m["name"] for m in result["models"]])
        rows = [[n, *("–" if v is None else f"{100 * v:.1f} %" for v in row)] for n, row in zip(names, result["cross_reading"])]
        lines.append(table(["", *names], rows))
    return "\n".join(lines) + "\n"
