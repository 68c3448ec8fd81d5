"""The weights that ship with the repository: python -m scripts.make_pretrained CHECKPOINT [--out_dir
pretrained/grammar]

Writes model.safetensors (float16 where it does no harm), model.json (settings, vocabulary, word classes) and the model
card README.md, whose metrics are measured; that takes minutes. scripts/measure_pretrained.py measures them again.
"""

import os
import sys
from pathlib import Path

import torch

from checkpoints import EXPORT_FILES, PRETRAINED, load, load_export, model_of, model_state, save_export
from evaluation.protocol import open_model
from evaluation.report.model_card import NAME, cost_of_rounding, model_card, without_paths
from runtime.command_line import Parser, UserError, exit_code, number, path_name
from runtime.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent

LIMIT = 10e6  # bytes of the weights: a clone shall stay small


def make(args):
    """Write the folder. Returns the exit code. Raises CheckpointError, UserError, OSError."""
    cpu = torch.device("cpu")
    whole = load_export(args.checkpoint) if os.path.isdir(args.checkpoint) else load(args.checkpoint)
    state = without_paths(model_state(*model_of(whole, args.checkpoint, cpu)))
    if "position" in whole:
        position = whole["position"]
        state["training"] = {"epochs": position["epoch"], "steps": position["step"], "seconds": whole["seconds"]}
    os.makedirs(args.out_dir, exist_ok=True)
    weights = os.path.join(args.out_dir, EXPORT_FILES[0])
    save_export(args.out_dir, state, half=True)
    if os.path.getsize(weights) > LIMIT:
        size = os.path.getsize(weights) / 1e6
        raise UserError(
            f"{weights} has {size:.1f} MB, more than {LIMIT / 1e6:.0f}; it was written, but do not commit it"
        )
    sentences = open_model(args.checkpoint, cpu, {"captions_file": args.captions_file}).sentences(
        args.n, "test", args.seed
    )
    state["half_precision"] = cost_of_rounding(args.checkpoint, args.out_dir, sentences, args.seed)
    save_export(args.out_dir, state, half=True)
    card = os.path.join(args.out_dir, NAME)
    write_atomically(card, model_card(args.out_dir, args.n, args.seed, args.captions_file).encode())
    for name in (*EXPORT_FILES, NAME):
        path = os.path.join(args.out_dir, name)
        print(f"{path} ({os.path.getsize(path) / 1e6:.2f} MB)")
    return 0


def main(argv=None):
    parser = Parser("scripts/make_pretrained.py", __doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .pt file, or a folder that export.py made")
    parser.add_argument(
        "--out_dir", type=path_name, default=PRETRAINED, metavar="D", help="(default: pretrained/grammar)"
    )
    parser.add_argument("--n", type=number(int, 1), default=1000, help="sentences of each split (default: 1000)")
    parser.add_argument("--seed", type=number(int, 0), default=501, help="seed of the sentences (default: 501)")
    parser.add_argument(
        "--captions_file",
        type=path_name,
        metavar="FILE",
        help="where the checkpoint's captions file is now, if it has moved",
    )
    args = parser.parse_args(argv)
    return exit_code("scripts/make_pretrained.py", lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
