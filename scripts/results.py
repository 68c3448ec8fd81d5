"""The table of docs/results.md: python -m scripts.results CHECKPOINT ... [--n 1000] [--seed 501]

Prints a Markdown table of mean ± standard deviation over the checkpoints. Sentences are drawn with
seeds that no training uses for validation.
"""

import sys

from evaluation.report.results_table import checkpoint_metrics, grounding_lines_of, results_table
from runtime.command_line import Parser, exit_code, number
from runtime.devices import choose_device, set_threads


def tell(args):
    """Print the table. Returns the exit code. Raises CheckpointError, OSError."""
    set_threads()
    device = choose_device("auto")
    print(
        results_table(
            [checkpoint_metrics(path, args.n, args.seed, device) for path in args.checkpoints], args.n, args.seed
        )
    )
    for line in grounding_lines_of(args.checkpoints, device):
        print(f"\n{line}")
    return 0


def main():
    parser = Parser("scripts/results.py", __doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--n", type=number(int, 1), default=1000, help="sentences of each split (default: 1000)")
    parser.add_argument("--seed", type=number(int, 0), default=501, help="seed of the sentences (default: 501)")
    args = parser.parse_args()
    return exit_code("scripts/results.py", lambda: tell(args))


if __name__ == "__main__":
    sys.exit(main())
