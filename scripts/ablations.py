"""What each loss is good for: python -m scripts.ablations --out_dir ablations [--epochs 5] [--seed 0]

Trains the quick preset once as it is and once without each part, then prints a Markdown table. Minutes a row on two
cores.
"""

import subprocess
import sys
from pathlib import Path

from evaluation.report.results_table import ROWS, checkpoint_metrics
from runtime.command_line import Parser, path_name
from runtime.devices import choose_device

ROOT = Path(__file__).resolve().parent.parent

VARIANTS = {
    "the quick preset": [],
    "no repulsion loss": ["--lambda_repulsion", "0"],
    "no color loss": ["--lambda_color", "0"],
    "no perceptual loss": ["--lambda_perceptual", "0"],
    "no diversity loss": ["--lambda_diversity", "0"],
    "no spatial loss": ["--lambda_spatial", "0"],
    "no consistency loss": ["--lambda_consistency", "0"],
    "no KL, no VAE": ["--no-use_vae"],
    "no channel": ["--no-channel"],
    "marks decoder": ["--decoder", "glyphs"],
    "conv decoder": ["--decoder", "conv"],
}
COLUMNS = {  # metric's id: heading
    "exact_match/val": "val",
    "corruption/blur_1": "blur 1",
    "corruption/noise_0.1": "noise 0.1",
    "legibility/naive_4_mean": "naive reader",
    "legibility/color_histogram_64": "histogram",
    "legibility/swap_changed_mean": "changed",
    "legibility/swap_visible_min": "ΔE",
    "legibility/swap_overlap_min": "IoU",
    "legibility/topographic_similarity": "topsim",
}
SENTENCES = 500  # of `val`: what chooses a recipe never looks at a test split
SEED = 901  # of the sentences; training never uses it


def cell(metrics, id):
    """A metric's value, in percent where it is a share; nan where the model cannot have it."""
    value = metrics.get(id, float("nan")) * (100 if ROWS[id].percent else 1)
    return f"{value:.2f}" if value < 1 else f"{value:.0f}"


def train(folder, flags, args):
    """A run of the quick preset with further flags in a folder of its own. Raises CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "--preset",
        "quick",
        "--epochs",
        args.epochs,
        "--seed",
        args.seed,
    ]
    with open(folder / "output.txt", "w", encoding="utf-8") as output:
        subprocess.run(
            [*command, "--threads", args.threads, *flags], cwd=folder, check=True, stdout=output, stderr=output
        )


def main():
    parser = Parser("scripts/ablations.py", __doc__)
    parser.add_argument("--out_dir", type=path_name, default="ablations")
    parser.add_argument("--epochs", default="5")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--threads", default="0")
    args = parser.parse_args()
    device = choose_device("auto")
    print("| variant | " + " | ".join(COLUMNS.values()) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|", flush=True)
    for name, flags in VARIANTS.items():
        folder = Path(args.out_dir).resolve() / name.replace(" ", "_").replace(",", "")
        train(folder, flags, args)
        metrics = checkpoint_metrics(folder / "checkpoints/last.pt", SENTENCES, SEED, device, ("val",))
        print(f"| {name} | " + " | ".join(cell(metrics, id) for id in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
