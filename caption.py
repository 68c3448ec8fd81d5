"""Read pictures back into words.

    python caption.py out/00000.png photo.jpg
    python caption.py --checkpoint checkpoints/checkpoint_epoch_5.pt out/00000.png

Prints {"image", "caption", "log_prob", "scene_probability"} a line, in the order given. The last says how likely the picture is
a scene of this model at all; below 0.5 its caption means nothing. A file that cannot be read gets one line on standard error, the
rest is still done, and the exit code is 1.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

import json

import torch

from checkpoints import add_checkpoint_flag, chosen_checkpoint, load_model
from pictures import PictureError, draw_sentences, from_image, open_picture, read_pictures
from runtime.command_line import SMALLER_MODEL, Parser, exit_code, typed_text
from runtime.devices import choose_device, set_threads
from scene_check import SceneCheck, unexplained

BLOCK = 32  # pictures read at once: what is done so far is shown soon, and memory stays flat


def parse_arguments(argv):
    parser = Parser("caption.py", __doc__)
    add_checkpoint_flag(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="picture files of any size, mode and format")
    return parser.parse_args(argv)


def caption(args):
    """The whole command. Returns the exit code. Raises CheckpointError, ValueError, OSError."""
    device = choose_device(args.device)
    set_threads()
    cycle, vocab, settings = load_model(chosen_checkpoint(args.checkpoint), device)
    check, failed = None, False
    for start in range(0, len(args.images), BLOCK):
        names, pictures = [], []
        for path in args.images[start : start + BLOCK]:
            try:
                pictures.append(from_image(open_picture(path)))
                names.append(path)
            except PictureError as error:
                print(f"caption.py: {error}", file=sys.stderr, flush=True)
                failed = True
        if not pictures:
            continue
        check = check or SceneCheck.of(cycle, vocab, settings, device)
        pictures = torch.stack(pictures)
        captions, log_probs = read_pictures(cycle, vocab, pictures, device)
        probabilities = check.probability(
            unexplained(pictures, draw_sentences(cycle, vocab, captions, device))
        ).tolist()
        for name, text, log_prob, probability in zip(names, captions, log_probs, probabilities, strict=True):
            row = {"image": typed_text(name), "caption": text, "log_prob": round(log_prob, 4) + 0.0}
            print(json.dumps({**row, "scene_probability": round(probability, 4)}))
        sys.stdout.flush()
    return int(failed)


def main(argv=None):
    args = parse_arguments(argv)
    return exit_code("caption.py", lambda: caption(args), SMALLER_MODEL)


if __name__ == "__main__":
    sys.exit(main())
