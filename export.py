"""Turn a checkpoint into a folder for sharing: weights as safetensors, everything else as JSON.

    python export.py --out_dir my_model
    python export.py --out_dir my_model --half               half the size: most weights as float16
    python generate.py --checkpoint my_model --text "a red ball" --out_dir out

The folder holds model.safetensors and model.json; every script accepts it in place of a .pt file.
It is smaller than a checkpoint, because training cannot go on from it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

from checkpoints import EXPORT_FILES, add_checkpoint_flag, chosen_checkpoint, load_model, model_state, save_export
from runtime.command_line import Parser, UserError, exit_code, path_name
from runtime.files import make_folder
from runtime.outputs import refuse_inputs


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The flags. Raises SystemExit(2) for a wrong one."""
    parser = Parser("export.py", __doc__)
    add_checkpoint_flag(parser)
    parser.add_argument(
        "--out_dir", type=path_name, required=True, metavar="D", help="the folder to write; made if it is missing"
    )
    parser.add_argument(
        "--half", action="store_true", help="store matrices as float16; scripts compute with them in float32"
    )
    text = f"replace the {' and '.join(EXPORT_FILES)} of a folder; other files stay"
    parser.add_argument("--overwrite", "--force", dest="overwrite", action="store_true", help=text)
    return parser.parse_args(argv)


def export(args: argparse.Namespace) -> int:
    """The whole command -> exit code. Raises CheckpointError, UserError, OSError."""
    checkpoint = chosen_checkpoint(args.checkpoint)
    paths = [os.path.join(args.out_dir, name) for name in EXPORT_FILES]
    inputs = [os.path.join(checkpoint, name) for name in EXPORT_FILES] if os.path.isdir(checkpoint) else [checkpoint]
    refuse_inputs(args.out_dir, "|".join(map(re.escape, EXPORT_FILES)), inputs)
    cycle, vocab, settings = load_model(checkpoint, "cpu")
    existing = [path for path in paths if os.path.lexists(path)]
    if existing and not args.overwrite:
        raise UserError(f"{existing[0]} exists; choose another --out_dir, or add --overwrite")
    make_folder(args.out_dir)
    save_export(args.out_dir, model_state(cycle, vocab, settings), args.half)
    for path in paths:
        print(f"{path} ({os.path.getsize(path) / 1e6:.1f} MB)")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line -> exit code. Raises SystemExit(2) for a wrong flag."""
    args = parse_arguments(argv)
    return exit_code("export.py", lambda: export(args), "choose the --checkpoint of a smaller model")


if __name__ == "__main__":
    sys.exit(main())
