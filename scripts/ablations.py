"""What each loss is good for: python scripts/ablations.py --out_dir ablations [--epochs 5] [--seed 0]

Trains the quick preset once as it is and once without each part, then prints a Markdown table. Minutes a row on two cores.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

VARIANTS = {
    "the quick preset": [],
    "no layout loss": ["--lambda_layout", "0"],
    "no colour loss": ["--lambda_color", "0"],
    "no perceptual loss": ["--lambda_perceptual", "0"],
    "no diversity loss": ["--lambda_diversity", "0"],
    "no spatial loss": ["--lambda_spatial", "0"],
    "no consistency loss": ["--lambda_consistency", "0"],
    "no KL, no VAE": ["--no-use_vae"],
    "no channel": ["--no-channel"],
    "conv decoder": ["--decoder", "conv"],
}
SHOWN = {
    "exact match, `test`": "test",
    "exact match, `test_pairs`": "pairs",
    "exact match, `test_ood`": "ood",
    "exact match, `test`, blur 1 px": "blur 1",
    "exact match, `test`, noise 0.1": "noise 0.1",
    "naive reader": "naive reader",
    "colour word": "histogram",
    "one word swapped: share": "changed",
    "one word swapped: 99th": "ΔE",
    "overlap": "IoU",
    "topographic": "topsim",
    "slots read": "silhouettes",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out_dir", default="ablations")
    parser.add_argument("--epochs", default="5")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--threads", default="0")
    args = parser.parse_args()
    from results import figures

    print("| variant | " + " | ".join(SHOWN.values()) + " |\n" + "|---" * (len(SHOWN) + 1) + "|", flush=True)
    for name, flags in VARIANTS.items():
        folder = Path(args.out_dir).resolve() / name.replace(" ", "_").replace(",", "")
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(ROOT / "train.py"), "--preset", "quick", "--epochs", args.epochs, "--seed", args.seed]
        with open(folder / "output.txt", "w") as output:
            subprocess.run([*command, "--threads", args.threads, *flags], cwd=folder, check=True, stdout=output, stderr=output)
        found = figures(folder / "checkpoints/last.pt", 500, 77)
        cells = [next((v for k, v in found.items() if k.startswith(start)), float("nan")) for start in SHOWN]
        print(f"| {name} | " + " | ".join(f"{v:.2f}" if v < 1 else f"{v:.0f}" for v in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
