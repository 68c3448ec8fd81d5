"""Do runs of the same recipe understand one another? python -m scripts.mutual_intelligibility --out_dir mutual [--seeds
0 1 2 3]

Trains the quick preset once a seed (a run that is there already is not repeated), then lets each model's captioner, and
a fresh captioner that each model teaches, read every model's pictures. Prints Markdown tables and writes mutual.json.
Minutes a seed.
"""

import json
import subprocess
import sys
from pathlib import Path

from evaluation.protocol import QUICK, Protocol, open_model
from evaluation.report.markdown import fresh_reading_tables as tables
from evaluation.report.markdown import markdown_table
from evaluation.sections.cross_reading import cross_reading, fresh_reading
from runtime.command_line import Parser, UserError, exit_code, number, path_name
from runtime.devices import choose_device, set_threads
from runtime.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent


def trained(folder, seed, flags, threads):
    """The checkpoint of a run of the quick preset in a folder of its own. Raises UserError."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "train.py"), "--preset", "quick", "--seed", str(seed), "--resume", "auto"]
    with open(folder / "output.txt", "a", encoding="utf-8") as output:
        done = subprocess.run([*command, "--threads", str(threads), *flags], cwd=folder, stdout=output, stderr=output)
    if done.returncode:
        raise UserError(
            f"training seed {seed} ended with exit code {done.returncode}; {folder / 'output.txt'} says why"
        )
    return folder / "checkpoints" / "best.pt"


def shares(rows):
    """Rows of shares in [0, 1] or None as cells."""
    return [["–" if v is None else f"{100 * v:.1f} %" for v in row] for row in rows]


def measure(args, flags):
    """The whole command. Returns the exit code. Raises UserError, CheckpointError, OSError."""
    set_threads(args.threads)
    device = choose_device("auto")
    protocol = QUICK if args.quick else Protocol()
    paths = [trained(Path(args.out_dir).resolve() / f"seed_{seed}", seed, flags, args.threads) for seed in args.seeds]
    models = [open_model(path, device) for path in paths]
    found = {"own": cross_reading(models, protocol, args.seed), "fresh": fresh_reading(models, protocol, args.seed)}
    about = {"seeds": args.seeds, "seed": args.seed, "flags": flags, "quick": args.quick}
    write_atomically(Path(args.out_dir) / "mutual.json", json.dumps({**about, **found}, indent=1).encode())
    names = [f"seed {seed}" for seed in args.seeds]
    fresh = found["fresh"]
    taught = f"fresh captioners, {fresh['steps']} steps of 64 sentences on the column's pictures"
    sheets = [("the models' own captioners: exact match", found["own"])]
    sheets += [(f"{taught}: {heading}", rows) for heading, rows in tables(fresh)]
    for heading, rows in sheets:
        print(f"Rows draw, columns read; {heading} (n = {fresh['n']}, seed {args.seed})\n")
        print(markdown_table(["", *names], [[n, *row] for n, row in zip(names, shares(rows))]) + "\n", flush=True)
    return 0


def main(argv=None):
    parser = Parser("scripts/mutual_intelligibility.py", __doc__)
    parser.add_argument(
        "--out_dir", type=path_name, required=True, metavar="D", help="a folder for the runs and mutual.json"
    )
    parser.add_argument(
        "--seeds", type=number(int, 0), nargs="+", default=[0, 1, 2, 3], help="of the runs (default: 0 1 2 3)"
    )
    parser.add_argument("--seed", type=number(int, 0), default=501, help="of sentences and captioners (default: 501)")
    parser.add_argument("--threads", type=number(int, 0), default=0, help="CPU threads; 0 takes what the machine has")
    parser.add_argument("--quick", action="store_true", help="fewer sentences and shorter trainings of captioners")
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)  # what follows -- goes to train.py
    args = parser.parse_args(argv[:cut])
    return exit_code("scripts/mutual_intelligibility.py", lambda: measure(args, argv[cut + 1 :]))


if __name__ == "__main__":
    sys.exit(main())
