"""Measure a model of real sentences on any file of them: a table in Markdown.

python -m scripts.real_text --checkpoint checkpoints/best.pt --texts_file sentences.txt --num 1000
"""

import sys

from captions.reader import some_captions
from checkpoints import add_checkpoint_flag, chosen_checkpoint
from evaluation.measures import robustness
from evaluation.measures.word_legibility import LEGIBILITY, legibility_scores
from evaluation.protocol import open_model
from evaluation.report.labels import BASELINES
from evaluation.report.markdown import failures, markdown_table
from evaluation.report.markdown import real_text_tables as tables
from evaluation.sections.real_text import real_text_scores
from runtime.command_line import Parser, exit_code, number, path_name
from runtime.devices import choose_device, set_threads

CORRUPTED = (("jpeg", 50), ("blur", 1.0), ("noise", 0.1))


def print_legibility(scores):
    """A table of `legibility_scores`; nothing where there are none."""
    if scores:
        beside = list(dict.fromkeys(name for values, _ in scores.values() for name in values))
        cells = [[f"{values[b]:.4g}" if b in values else "" for b in beside] for values, _ in scores.values()]
        rows = [[LEGIBILITY[id][0], *row, n] for (id, (_, n)), row in zip(scores.items(), cells)]
        print(markdown_table(["", *(BASELINES[b] for b in beside), "n"], rows), end="\n\n")


def measure(args):
    """Print the tables. Returns the exit code. Raises what `exit_code` turns into one line."""
    set_threads()
    model = open_model(chosen_checkpoint(args.checkpoint), choose_device("auto"), {"captions_file": args.captions_file})
    sentences = some_captions(args.texts_file, args.num, args.seed)
    scores, groups, captions = real_text_scores(model, sentences, model.data.has_trained_words, args.seed)
    print(f"{len(sentences)} different sentences of {args.texts_file}, seed {args.seed}, {args.checkpoint}\n")
    print(*tables(scores, groups), sep="\n\n", end="\n\n")
    pictures, rows = model.draw(sentences), []
    for kind, strength in CORRUPTED:
        exact = robustness.exact_match_after(model.read, sentences, pictures, kind, strength, args.seed)
        rows.append([f"{kind} {strength}", f"{exact:.4g}"])
    print(markdown_table(["exact match after", ""], rows), end="\n\n")
    print_legibility(legibility_scores(model, sentences, args.swaps, args.seed))
    for lines in failures(sentences, captions, args.wrong):
        print(lines)
    return 0


def main(argv=None):
    parser = Parser("scripts/real_text.py", __doc__)
    add_checkpoint_flag(parser)
    parser.add_argument(
        "--texts_file",
        type=path_name,
        required=True,
        metavar="F",
        help="sentences, one a line, or a file of captions as for train.py",
    )
    parser.add_argument(
        "--captions_file",
        type=path_name,
        metavar="FILE",
        help="where the checkpoint's captions file is now, if it has moved",
    )
    parser.add_argument(
        "--num", type=number(int, 1), default=1000, metavar="N", help="sentences at most (default: 1000)"
    )
    parser.add_argument(
        "--seed", type=number(int, 0), default=0, metavar="N", help="of the choice of sentences (default: 0)"
    )
    parser.add_argument(
        "--swaps", type=number(int, 1), default=400, metavar="N", help="swaps of one word (default: 400)"
    )
    parser.add_argument(
        "--wrong", type=number(int, 0), default=0, metavar="N", help="print so many that did not come back"
    )
    args = parser.parse_args(argv)
    return exit_code("scripts/real_text.py", lambda: measure(args), "make --num smaller")


if __name__ == "__main__":
    sys.exit(main())
