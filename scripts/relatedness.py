"""Are pictures of sentences alike that people find related? Spearman correlations, as a table in Markdown.

python -m scripts.relatedness --checkpoint pretrained/captions --pairs_file SICK.txt
"""

import sys

from checkpoints import add_checkpoint_flag, chosen_checkpoint, load_model
from evaluation.measures.features import FEATURES
from evaluation.measures.relatedness import read_pairs, relatedness
from evaluation.protocol import ModelUnderTest
from evaluation.report.labels import BASELINES
from evaluation.report.markdown import markdown_table
from runtime.command_line import Parser, exit_code, number, path_name
from runtime.devices import choose_device, set_threads


def measure(args):
    """Print the table. Returns the exit code. Raises what `exit_code` turns into one line."""
    set_threads(args.threads)
    pairs = read_pairs(args.pairs_file, args.first, args.second, args.score)
    device = choose_device("auto")
    cycle, vocab, settings = load_model(chosen_checkpoint(args.checkpoint), device)
    # with lines, so that it counts as a model of real sentences, for which no program draws by hand
    model = ModelUnderTest(cycle=cycle.eval(), vocab=vocab, settings=settings, device=device, lines=[])
    rows = []
    for found in relatedness(model, pairs, args.seed, args.permutations):
        what, id = found["what"]
        name = "overlap of words (Jaccard)" if what == "words" else f"pictures, {FEATURES[id][0]}: {BASELINES[what]}"
        given = "" if found["given_words"] is None else f"{found['given_words']:.3f}"
        rows.append([name, f"{found['rho']:.3f}", given, f"{found['p']:.2g}"])
    print(f"{len(pairs)} pairs of {args.pairs_file}, seed {args.seed}, {args.checkpoint}\n")
    print(markdown_table(["what is alike", "Spearman with relatedness", "given the overlap of words", "p"], rows))
    print(f"\np: one-sided, by {args.permutations} permutations of the pairs.")
    return 0


def main(argv=None):
    parser = Parser("scripts/relatedness.py", __doc__)
    add_checkpoint_flag(parser)
    parser.add_argument(
        "--pairs_file",
        type=path_name,
        required=True,
        metavar="F",
        help="a table parted by tabs, with a header: sentences, scores",
    )
    parser.add_argument(
        "--first", default="sentence_A", metavar="NAME", help="column of one sentence (default: sentence_A)"
    )
    parser.add_argument(
        "--second", default="sentence_B", metavar="NAME", help="column of the other one (default: sentence_B)"
    )
    parser.add_argument(
        "--score",
        default="relatedness_score",
        metavar="NAME",
        help="column of the score, high for related (default: relatedness_score)",
    )
    parser.add_argument("--permutations", type=number(int, 1), default=999, metavar="N", help="for p (default: 999)")
    parser.add_argument(
        "--seed",
        type=number(int, 0),
        default=0,
        metavar="N",
        help="of permutations and the random decoder (default: 0)",
    )
    parser.add_argument(
        "--threads", type=number(int, 0), default=0, metavar="N", help="CPU threads; 0 takes what the machine has"
    )
    args = parser.parse_args(argv)
    return exit_code("scripts/relatedness.py", lambda: measure(args), "give fewer pairs")


if __name__ == "__main__":
    sys.exit(main())
