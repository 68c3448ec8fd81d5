"""The table of docs/results.md: python scripts/results.py CHECKPOINT ... [--n 1000] [--seed 77]

Prints a Markdown table of mean ± standard deviation over the checkpoints. Sentences are drawn with
seeds that no training uses for validation.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from checkpoints import load_model  # noqa: E402
from devices import choose_device, set_threads  # noqa: E402
from evaluation import (
    legibility,  # noqa: E402
    robustness,  # noqa: E402
)
from metrics import exact_match  # noqa: E402
from pictures import draw_sentences, read_pictures  # noqa: E402
from text.grammar import SPLITS, sample_sentences  # noqa: E402

PERCENT = {
    "naive_reader_4_mean": "naive reader, 4 pictures a word, mean of 4 slots (5 draws)",
    "color_from_histogram_64": "colour word from the colour histogram, 64 pictures a word",
    "swap_changed_mean": "one word swapped: share of the picture that changes (ΔE > 10)",
    "swap_overlap_min": "overlap (IoU) of the changed regions, worst slot",
    "silhouette_slots": "slots read from gray silhouettes alone",
}
PLAIN = {
    "swap_visible_min": "one word swapped: 99th percentile of ΔE, worst tenth of swaps, worst slot",
    "topographic_similarity": "topographic similarity",
    "mantel_p": "its Mantel p",
}


def figures(path, n, seed):
    """All figures of one checkpoint -> {name: value}, shares in percent."""
    device = choose_device("auto")
    circle, vocab, _ = load_model(path, device)
    out = {}
    for split in SPLITS[1:]:
        sentences = sample_sentences(n, split, seed)
        captions, _ = read_pictures(circle, vocab, draw_sentences(circle, vocab, sentences, device), device)
        out[f"exact match, `{split}`"] = 100 * exact_match(sentences, captions)
    worn = robustness.standard(circle, vocab, device, sample_sentences(n, "test", seed + 1), seed)
    out.update({f"exact match, `test`, {kind}": 100 * value for kind, value in worn.items()})
    found = legibility.measure(circle, vocab, device, seed)
    out.update({label: 100 * found[key] for key, label in PERCENT.items() if found[key] is not None})
    out.update({label: found[key] for key, label in PLAIN.items()})
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=77)
    args = parser.parse_args()
    set_threads()
    rows = [figures(path, args.n, args.seed) for path in args.checkpoints]
    print(f"| figure ({len(rows)} checkpoint(s), n = {args.n}, seed {args.seed}) | mean ± sd | worst |\n|---|---|---|")
    for name in rows[0]:
        values = np.array([r[name] for r in rows if name in r])
        unit = "" if name in PLAIN.values() else " %"
        digits = 4 if "Mantel" in name else 3 if abs(values).max() <= 1 and not unit else 2 if unit else 1
        worst = values.max() if "share of the picture" in name or "Mantel" in name else values.min()
        print(f"| {name} | {values.mean():.{digits}f} ± {values.std():.{digits}f}{unit} | {worst:.{digits}f}{unit} |")


if __name__ == "__main__":
    main()
