"""Measure shipped weights again, and write their model card: python -m scripts.measure_pretrained [FOLDER]"""

import os
import sys
from pathlib import Path

from checkpoints import PRETRAINED
from evaluation.report.model_card import NAME, model_card
from runtime.command_line import Parser, exit_code, number, path_name
from runtime.devices import set_threads
from runtime.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent


def measure(args):
    """Write the card and print it. Returns the exit code. Raises CheckpointError, CaptionsFileError, OSError."""
    set_threads()
    card = model_card(args.folder, args.n, args.seed, args.captions_file)
    write_atomically(os.path.join(args.folder, NAME), card.encode())
    print(card, end="")
    return 0


def main(argv=None):
    parser = Parser("scripts/measure_pretrained.py", __doc__)
    parser.add_argument("folder", nargs="?", default=PRETRAINED, metavar="FOLDER", help="(default: pretrained/grammar)")
    parser.add_argument("--n", type=number(int, 1), default=1000, help="sentences of each split (default: 1000)")
    parser.add_argument("--seed", type=number(int, 0), default=501, help="seed of the sentences (default: 501)")
    parser.add_argument(
        "--captions_file", type=path_name, metavar="FILE", help="the captions file of the model, if it has one"
    )
    args = parser.parse_args(argv)
    return exit_code("scripts/measure_pretrained.py", lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
