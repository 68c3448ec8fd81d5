"""Read pictures back into words.

    python caption.py out/00000.png photo.jpg
    python caption.py out                      all pictures of a folder; a pattern such as "out/*.png" works, too
    python caption.py --checkpoint checkpoints/checkpoint_epoch_5.pt out/00000.png

Prints {"image", "caption", "log_prob", "scene_probability"} a line, in the order given. scene_probability is the
probability that the picture is a scene of this model; below 0.5 the caption means nothing. A file that cannot be read
gets one line on standard error, the rest is still done, and the exit code is 1.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

import argparse
import json
from collections.abc import Iterable, Iterator

import torch

from checkpoints import add_checkpoint_flag, chosen_checkpoint, load_model
from pictures import PictureError, draw_sentences, from_image, open_picture, picture_files, read_pictures
from runtime.command_line import SMALLER_MODEL, Parser, exit_code, typed_text
from runtime.devices import choose_device, set_threads
from scene_check import SceneCheck, unexplained

BLOCK = 32  # pictures read at once: results appear soon, and memory does not grow with their number


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The flags. Raises SystemExit(2) for a wrong one."""
    parser = Parser("caption.py", __doc__)
    add_checkpoint_flag(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    text = "picture files of any size, mode and format, folders of them, or patterns"
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=text)
    return parser.parse_args(argv)


class PictureReader:
    """Opens the pictures that a user names, in blocks, and reports those that cannot be read."""

    def __init__(self, names: Iterable[str]):
        self.names = names
        self.has_failed = False

    def _paths(self) -> Iterator[str]:
        for name in self.names:
            try:
                yield from picture_files(name)
            except PictureError as error:
                self._report(error)

    def _report(self, error: PictureError) -> None:
        print(f"caption.py: {error}", file=sys.stderr, flush=True)
        self.has_failed = True

    def blocks(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        """Up to BLOCK paths and their pictures (n, 3, 64, 64) at a time."""
        paths, pictures = [], []
        for path in self._paths():
            try:
                pictures.append(from_image(open_picture(path)))
                paths.append(path)
            except PictureError as error:
                self._report(error)
            if len(paths) == BLOCK:
                yield paths, torch.stack(pictures)
                paths, pictures = [], []
        if paths:
            yield paths, torch.stack(pictures)


def caption(args: argparse.Namespace) -> int:
    """The whole command -> exit code. Raises CheckpointError, ValueError, OSError."""
    device = choose_device(args.device)
    set_threads()
    cycle, vocab, settings = load_model(chosen_checkpoint(args.checkpoint), device)
    check = None
    reader = PictureReader(args.images)
    for paths, pictures in reader.blocks():
        check = check or SceneCheck.of(cycle, vocab, settings, device)
        captions, log_probs = read_pictures(cycle, vocab, pictures, device)
        redrawn = draw_sentences(cycle, vocab, captions, device)
        probabilities = check.probability(unexplained(pictures, redrawn)).tolist()
        for path, text, log_prob, probability in zip(paths, captions, log_probs, probabilities, strict=True):
            row = {"image": typed_text(path), "caption": text, "log_prob": round(log_prob, 4) + 0.0}
            print(json.dumps({**row, "scene_probability": round(probability, 4)}))
        sys.stdout.flush()
    return int(reader.has_failed)


def main(argv: list[str] | None = None) -> int:
    """Run the command line -> exit code. Raises SystemExit(2) for a wrong flag."""
    args = parse_arguments(argv)
    return exit_code("caption.py", lambda: caption(args), SMALLER_MODEL)


if __name__ == "__main__":
    sys.exit(main())
