"""What a healthy run looks like: python -m scripts.expected LOG_DIR [LOG_DIR ...] [--minutes 1 2 5]

Writes docs/expected.md and its pictures from the log folders of runs: curves, and the same unseen sentences as each run
drew and read them after so many minutes of training. A figure that no run came to is left out.
"""

import base64
import io
import json
import os
import platform
import sys
from pathlib import Path

import torch
from PIL import Image

from evaluation.report.markdown import markdown_table
from pictures import from_image
from runtime.command_line import Parser, UserError, exit_code, number
from runtime.files import write_atomically
from training import snapshots
from training.metrics_log import NAME as METRICS
from visualization import round_trips, training_curves

ROOT = Path(__file__).resolve().parent.parent

SIGNS = """
## Signs of a run that is not healthy

- **The caption loss stays where it was after the first half minute.** The learning rate may be too high or too low, or
  the sentences of a captions file have little in common.
- **Exact match stays at 0 % while the caption loss falls.** It counts whole sentences: one wrong word in each keeps it
  at 0. Look at the word accuracy in `logs/metrics.jsonl`, which rises first.
- **All pictures look alike.** Look at `logs/scenes_epoch_N.png`. A `--lambda_kl` that is too high can do this.
- **`non-finite loss or gradient`** in the output: see [troubleshooting.md](troubleshooting.md).
"""


def history(log_dir):
    """The rows of a run's metrics.jsonl. Raises UserError."""
    path = Path(log_dir) / METRICS
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not [r for r in rows if r["kind"] == "validation"] or not [r for r in rows if r["kind"] == "train"]:
            raise UserError(f"{path} has no finished epoch; train longer")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; name the --log_dir of a run") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged or of another program") from None
    return rows


def settings_of(log_dir):
    """The settings that a run's summary tells -> {name: text}; {} where the run has not ended."""
    path = Path(log_dir) / "training_summary.txt"
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").partition("settings:\n")[2].splitlines()
    parts = (line.partition(" = ") for line in lines)
    return {name.strip(): value for name, _, value in parts}


def reached(rows, kind, minutes):
    """The last row of a kind up to so many minutes of training, or None where the run was shorter."""
    if rows[-1]["seconds"] < 60 * minutes:
        return None
    return next((r for r in reversed(rows) if r["kind"] == kind and r["seconds"] <= 60 * minutes), None)


def table(runs, minutes):
    """Rows of metrics after so many minutes, each as the lowest and the highest of the runs -> Markdown."""

    def span(values, text):
        shown = sorted(values)
        return "–" if not shown else " … ".join(dict.fromkeys(text(v) for v in (shown[0], shown[-1])))

    lines = []
    for m in minutes:
        train = [r for rows in runs if (r := reached(rows, "train", m))]
        validation = [r for rows in runs if (r := reached(rows, "validation", m))]
        if not train:
            continue
        lines.append(
            [
                m,
                span([r["step"] for r in train], str),
                span([r["loss_caption"] for r in train], "{:.3f}".format),
                span([r["word_accuracy"] for r in validation], lambda v: f"{100 * v:.1f} %"),
                span([r["exact_match"] for r in validation], lambda v: f"{100 * v:.1f} %"),
                len(train),
            ]
        )
    return markdown_table(
        ["minutes of training", "steps", "caption loss, nats", "word accuracy", "exact match", "runs"], lines
    )


def sheets(log_dir, rows, minutes, folder):
    """A sheet of round trips for each of the minutes -> [(minutes, epoch, path)]. Raises UserError, OSError."""
    kept = snapshots.read(os.path.join(log_dir, snapshots.NAME), rows[0])
    if kept is None:
        raise UserError(f"{os.path.join(log_dir, snapshots.NAME)} is missing, damaged or of another run")
    frames = {f["epoch"]: f for f in kept["frames"]}
    out = []
    for m in minutes:
        row = reached(rows, "validation", m)
        if row is None or row["epoch"] not in frames or row["epoch"] in [epoch for _, epoch, _ in out]:
            continue
        frame, path = frames[row["epoch"]], folder / f"expected_{m}_minutes.png"
        data = [base64.b64decode(p.partition(",")[2]) for p in frame["pictures"]]
        pictures = torch.stack([from_image(Image.open(io.BytesIO(d))) for d in data])
        round_trips(kept["texts"], pictures, frame["captions"], path)
        out.append((m, row["epoch"], path))
    return out


def page(args):
    """Write the page and its pictures. Returns the exit code. Raises UserError, OSError."""
    runs = [history(log_dir) for log_dir in args.log_dirs]
    folder = args.out.parent / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    first, settings = args.log_dirs[0], [settings_of(log_dir) for log_dir in args.log_dirs]
    curves = folder / "expected_curves.png"
    training_curves(runs[0], curves)
    seeds = ", ".join(s.get("seed", "unknown") for s in settings)
    machine = args.machine or f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    lines = [
        "# What to expect of a run",
        "",
        "Written by `python -m scripts.expected`. Do not edit it by hand.",
        "",
        f"{args.about}. Seeds: {seeds}. Machine: {machine}. Compare machines by steps.",
        "Exact match and word accuracy are those of validation sentences after the last complete epoch.",
        "",
        table(runs, args.minutes),
        "",
        f"![Losses and validation of a run](pictures/{curves.name})",
        "",
        f"*The first of these runs, {runs[0][-1]['step']} steps in {runs[0][-1]['seconds']:.0f} s.*",
    ]
    for m, epoch, path in sheets(first, runs[0], args.minutes, folder):
        lines += ["", f"## After {m} minute{'s' if m != 1 else ''} (epoch {epoch})", ""]
        lines += [f"![Unseen sentences, their pictures, and what was read back](pictures/{path.name})"]
    write_atomically(args.out, ("\n".join(lines) + "\n" + SIGNS).encode())
    print(f"{args.out}; link to it from README.md under Read more")
    return 0


def main(argv=None):
    parser = Parser("scripts/expected.py", __doc__)
    parser.add_argument(
        "log_dirs", nargs="+", metavar="LOG_DIR", help="of a run; of the first one are curves and pictures"
    )
    parser.add_argument(
        "--minutes", type=number(int, 1), nargs="+", default=[1, 2, 5], help="of training (default: 1 2 5)"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "expected.md", metavar="FILE", help="(default: docs/expected.md)"
    )
    parser.add_argument("--about", default="`python train.py --preset quick`", metavar="TEXT", help="what was run")
    parser.add_argument("--machine", default="", metavar="TEXT", help="the machine of the runs (default: this one)")
    args = parser.parse_args(argv)
    return exit_code("scripts/expected.py", lambda: page(args))


if __name__ == "__main__":
    sys.exit(main())
