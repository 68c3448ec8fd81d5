"""Train a baseline beside a model of real sentences, with the model's sentences, sizes and steps, and measure it:
tables in Markdown.

letters prints each text as small letters, and a reader learns to read them through the same channel; vector hands the
captioner each token's latent without a picture.

python -m scripts.real_text_baselines --baseline letters --checkpoint pretrained/captions --texts_file sentences.txt
"""

import sys

from captions.reader import some_captions
from checkpoints import add_checkpoint_flag, chosen_checkpoint
from evaluation.baselines.trained_text import BASELINES, baseline_scores, fresh_baseline, train_baseline
from evaluation.protocol import open_model
from evaluation.report.markdown import failures
from evaluation.report.markdown import real_text_tables as tables
from evaluation.sections.real_text import exact_match_of_groups
from runtime.command_line import Parser, UserError, exit_code, number, path_name
from runtime.devices import choose_device, set_threads


def measure(args):
    """Train, and print the tables. Returns the exit code. Raises what `exit_code` turns into one line."""
    set_threads(args.threads)
    model = open_model(chosen_checkpoint(args.checkpoint), choose_device("auto"), {"captions_file": args.captions_file})
    texts = some_captions(args.texts_file, args.num, args.seed)
    try:
        baseline = fresh_baseline(args.baseline, model, args.seed)
    except ValueError as error:
        raise UserError(str(error)) from None
    epochs = args.epochs or model.settings.epochs
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    steps, seconds = train_baseline(baseline, model, epochs, args.seed, say, args.steps)
    scores, captions = baseline_scores(baseline, texts, args.seed)
    print(
        f"{args.baseline}: {len(texts)} different sentences of {args.texts_file}, seed {args.seed}, beside {model.name}"
    )
    print(f"{steps} steps, {seconds:.0f} s, {sum(p.numel() for p in baseline.parameters())} weights")
    print("\n".join(baseline.description(texts)), end="\n\n")
    groups = exact_match_of_groups(texts, captions, model.data.has_trained_words)
    print(*tables(scores, groups), sep="\n\n", end="\n\n")
    for lines in failures(texts, captions, args.wrong):
        print(lines)
    return 0


def main(argv=None):
    parser = Parser("scripts/real_text_baselines.py", __doc__)
    parser.add_argument("--baseline", choices=tuple(BASELINES), required=True)
    add_checkpoint_flag(parser)
    parser.add_argument(
        "--texts_file",
        type=path_name,
        required=True,
        metavar="F",
        help="sentences to measure on, one a line, or a file of captions as for train.py",
    )
    parser.add_argument(
        "--captions_file",
        type=path_name,
        metavar="FILE",
        help="where the checkpoint's captions file is now, if it has moved",
    )
    parser.add_argument("--epochs", type=number(int, 1), metavar="N", help="of training (default: the checkpoint's)")
    parser.add_argument("--steps", type=number(int, 1), metavar="N", help="stop after so many, for a trial")
    parser.add_argument(
        "--num", type=number(int, 1), default=1000, metavar="N", help="sentences at most (default: 1000)"
    )
    parser.add_argument(
        "--seed",
        type=number(int, 0),
        default=0,
        metavar="N",
        help="of weights, noise and the sentences to measure on; training follows the checkpoint's run (default: 0)",
    )
    parser.add_argument(
        "--threads", type=number(int, 0, 1024), default=0, metavar="N", help="CPU threads (default: all cores)"
    )
    parser.add_argument(
        "--wrong", type=number(int, 0), default=0, metavar="N", help="print so many that did not come back"
    )
    args = parser.parse_args(argv)
    return exit_code("scripts/real_text_baselines.py", lambda: measure(args), "make --num smaller")


if __name__ == "__main__":
    sys.exit(main())
