"""How fast is a language learned? Fresh captioners on frozen scene decoders: how many words they read right after so
many steps (1 - word error rate, in percent; whole sentences take them longer), as a table in Markdown.

python -m scripts.learning_speed A.pt B.pt --seed 701 [--steps 600]
"""

import sys

from evaluation.baselines.captioners import CAPTIONERS, fresh_captioner, train_captioners
from evaluation.protocol import Protocol, open_model
from evaluation.report.markdown import markdown_table
from metrics import word_error_rate
from runtime.command_line import Parser, exit_code, number
from runtime.devices import choose_device, set_threads


def word_accuracy(sentences, captions):
    """1 - word error rate, in [0, 1]."""
    return max(0.0, 1 - word_error_rate(sentences, captions))


def learning_curve(path, args):
    """A checkpoint -> [(step, word accuracy on unseen sentences of `test`)] of one fresh captioner."""
    model = open_model(path, choose_device("auto"))
    protocol = Protocol(steps=args.steps, every=args.every)
    captioner = fresh_captioner(args.captioner, model.vocab, model.max_tokens, args.seed, model.device)
    checks = model.sentences(protocol.checks, "test", args.seed)
    fresh = {"fresh": captioner}
    return train_captioners(fresh, model, protocol, checks, args.seed, score=word_accuracy)["fresh"]


def tell(args):
    """Print the table. Returns the exit code. Raises CheckpointError, CaptionsFileError, OSError."""
    set_threads(args.threads)
    curves = [learning_curve(path, args) for path in args.checkpoints]
    rows = [[steps[0][0], *(f"{100 * share:.1f}" for _, share in steps)] for steps in zip(*curves)]
    print(markdown_table(["steps", *args.checkpoints], rows))
    return 0


def main(argv=None):
    parser = Parser("scripts/learning_speed.py", __doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument(
        "--captioner", choices=tuple(CAPTIONERS), default="caption_network", help="its build (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=number(int, 1), default=600, metavar="N", help="in batches of 64 (default: 600)"
    )
    parser.add_argument(
        "--every", type=number(int, 1), default=50, metavar="N", help="steps between two checks (default: 50)"
    )
    parser.add_argument(
        "--seed", type=number(int, 0), default=701, metavar="N", help="of captioner and sentences (default: 701)"
    )
    parser.add_argument(
        "--threads", type=number(int, 0), default=0, metavar="N", help="CPU threads; 0: all (default: 0)"
    )
    args = parser.parse_args(argv)
    return exit_code("scripts/learning_speed.py", lambda: tell(args))


if __name__ == "__main__":
    sys.exit(main())
