"""Turn a checkpoint into a folder for sharing: weights as safetensors, everything else as JSON.

    python export.py --out_dir my_model
    python export.py --out_dir my_model --half               half the size, with float16 where it does no harm
    python generate.py --checkpoint my_model --text "a red ball" --out_dir out

The folder holds model.safetensors and model.json; every script takes it in place of a .pt file.
It is smaller than a checkpoint, because it cannot be trained further.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

from checkpoints import EXPORT_FILES, add_checkpoint_flag, chosen_checkpoint, load_model, model_state, save_export
from runtime.command_line import Parser, exit_code, path_name


def parse_arguments(argv):
    parser = Parser("export.py", __doc__)
    add_checkpoint_flag(parser)
    parser.add_argument(
        "--out_dir", type=path_name, required=True, metavar="D", help="the folder to write; made if it is missing"
    )
    parser.add_argument(
        "--half", action="store_true", help="store matrices as float16; scripts compute with them in float32"
    )
    parser.add_argument("--force", action="store_true", help="write into a folder that holds files already")
    return parser.parse_args(argv)


def export(args):
    """Returns the exit code. Raises CheckpointError, ValueError, OSError."""
    cycle, vocab, settings = load_model(chosen_checkpoint(args.checkpoint), "cpu")
    os.makedirs(args.out_dir, exist_ok=True)
    if os.listdir(args.out_dir) and not args.force:
        raise ValueError(f"{args.out_dir} holds files already; choose another --out_dir, or add --force")
    save_export(args.out_dir, model_state(cycle, vocab, settings), args.half)
    for name in EXPORT_FILES:
        path = os.path.join(args.out_dir, name)
        print(f"{path} ({os.path.getsize(path) / 1e6:.1f} MB)")
    return 0


def main(argv=None):
    args = parse_arguments(argv)
    return exit_code("export.py", lambda: export(args), "take the --checkpoint of a smaller model")


if __name__ == "__main__":
    sys.exit(main())
