"""What kind of language is it? A checkpoint -> metrics with baselines, and a page to look words up on.

    python evaluate.py --checkpoint checkpoints/best.pt --out_dir report
    python evaluate.py --checkpoint checkpoints/best.pt --out_dir report --quick     about two minutes
    python evaluate.py --checkpoint a.pt b.pt c.pt --out_dir report                  mean, deviation, who reads whom
    python evaluate.py --checkpoint best.pt --out_dir report --real_pictures photos  beside real pictures

Writes metrics.json, report.md and index.html (open it with a double click). An interrupted evaluation goes on
where it was with the same command.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out
from runtime import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from captions import FORMATS
from checkpoints import EXPORT_FILES, add_checkpoint_flag, chosen_checkpoint
from evaluation.picture_folder import open_real_pictures
from evaluation.protocol import QUICK, Protocol, open_model
from evaluation.report.markdown import all_metrics, markdown
from evaluation.report.page import render_page
from evaluation.sections import captioners, cross_reading, cycle, information, language, legibility, robustness
from evaluation.sections.alphabet import alphabet_section
from evaluation.sections.real_pictures import real_pictures_section
from evaluation.sections.real_text import real_text_section
from evaluation.sections.scenes import scenes_section
from runtime.command_line import SMALLER_MODEL, Parser, UserError, exit_code, number, path_name
from runtime.devices import choose_device, set_threads
from runtime.files import make_folder, write_atomically

FILES = (  # flags that are used instead of what the run had
    "captions_file",
    "val_file",
    "test_file",
    "captions_column",
    "captions_format",
)
METRICS_FORMAT = 2  # of metrics.json; 1 had "figures" under their labels
OUTPUTS = ("metrics.json", "report.md", "index.html")
PAGE_COST = 8  # beside the sections'
FRESH_COST = 15  # of each of several models


class Section(NamedTuple):
    """A part of the evaluation, whose results are one entry of metrics.json's "sections"."""

    run: Callable  # as `reading` says
    cost: int  # its time beside the other sections', about
    needs_slots: bool  # of the grammar
    needs_lines: bool = False  # of a captions file
    needs_pictures: bool = False  # of --real_pictures
    needs_codes: bool = False  # of train.py --use_vq

    def concerns(self, model):
        """Whether it is about such models at all; what it lacks otherwise is said on the page."""
        lacks_lines = self.needs_lines and model.lines is None
        lacks_pictures = self.needs_pictures and model.real is None
        return not (lacks_lines or lacks_pictures or self.needs_codes and not model.cycle.has_codes)


SECTIONS = {
    "circle": Section(cycle.cycle_section, 6, False),
    "real_text": Section(real_text_section, 10, False, True),
    "scenes": Section(scenes_section, 30, True),
    "legibility": Section(legibility.legibility_section, 20, True),
    "robustness": Section(robustness.robustness_section, 8, False),
    "structure": Section(language.structure_section, 10, False),
    "meaning": Section(language.meaning_section, 8, True),
    "bottleneck": Section(information.bottleneck_section, 6, False),
    "alphabet": Section(alphabet_section, 3, False, needs_codes=True),
    "language_model": Section(information.language_model_section, 2, False),
    "coherence": Section(information.coherence_section, 2, False),
    "real_pictures": Section(real_pictures_section, 15, False, needs_pictures=True),
    "captioners": Section(captioners.captioners_section, 40, False),
}
NEEDS_SLOTS = "needs the grammar's slots; this model was trained on a captions file"
# What the other sections leave out for a captions file, by name
WITHOUT_SLOTS = (
    "per-slot accuracy",
    "Soft",
    "Hard",
    "confusion matrices",
    "hand-made renderer",
    "posdis",
    "bosdis",
    "synonyms",
    "share that parses",
    "splits test_pairs and test_ood",
)


# ---------------------------------------------------------------------------------------------
# Progress, and results that outlive an interruption
# ---------------------------------------------------------------------------------------------


class Progress:
    """A bar on a terminal, one line a section elsewhere."""

    def __init__(self, total):
        self.bar = tqdm(
            total=total,
            disable=not sys.stderr.isatty(),
            bar_format="{l_bar}{bar}| {elapsed} · {remaining} left",
            dynamic_ncols=True,
        )

    def start(self, name, cost):
        """A part of the evaluation begins that costs so much of the total."""
        self.name = name
        self.cost = cost
        self.share = 0.0  # of it that is done
        self.before = self.bar.n
        self.began = time.monotonic()
        self.bar.set_description(name)

    def advance(self, share):
        """A further share in [0, 1] of the part is done; what parts report beyond 1 is not counted."""
        share = min(share, 1.0 - self.share)
        self.share += share
        self.bar.update(self.cost * share * 0.99)

    def end(self, cached=False):
        """The part is done; cached: it was there already."""
        self.bar.update(max(0, self.before + self.cost - self.bar.n))
        if self.bar.disable:
            took = "from partial.json" if cached else f"{time.monotonic() - self.began:.0f} s"
            print(f"{self.name}: {took}", file=sys.stderr, flush=True)

    def skip(self, cost):
        """A part of that cost is left out."""
        self.bar.update(cost)

    def close(self):
        """The evaluation is done: the bar is full."""
        self.bar.update(max(0, self.bar.total - self.bar.n))
        self.bar.close()


class Partial:
    """D/partial.json: the sections that are done, and what they belong to. Raises UserError."""

    def __init__(self, folder, fingerprint, force):
        self.path = os.path.join(folder, "partial.json")
        self.sections = {}
        self.fingerprint = json.loads(to_json(fingerprint))  # as it will come back from the file
        if force or not os.path.exists(self.path):
            return
        try:
            stored = json.loads(Path(self.path).read_text(encoding="utf-8"))
            self.sections = stored["sections"] if stored["fingerprint"] == self.fingerprint else None
        except (ValueError, KeyError, TypeError):
            self.sections = None
        if self.sections is None:
            raise UserError(
                f"{self.path} belongs to another evaluation; choose another --out_dir, or --force to begin anew"
            )

    def store(self, name, result):
        """Keep a section's result, on disk too. Raises OSError."""
        self.sections[name] = json.loads(to_json(result))
        write_atomically(self.path, to_json({"fingerprint": self.fingerprint, "sections": self.sections}).encode())


def to_json(value):
    """JSON without NaN or infinity: a metric that is not finite is a fault, not a value."""

    def plain(x):
        if isinstance(x, np.generic):
            return x.item()
        raise TypeError(f"{type(x)} in the results")

    return json.dumps(value, default=plain, allow_nan=False, ensure_ascii=False, indent=1)


def digest(*paths):
    """The first 16 hex digits of the SHA-256 of files together; of a folder that export.py wrote, of its two files."""
    h = hashlib.sha256()
    in_folders = [
        [os.path.join(path, name) for name in EXPORT_FILES] if os.path.isdir(path) else [path] for path in paths
    ]
    for path in itertools.chain(*in_folders):
        with open(path, "rb") as f:
            while block := f.read(1 << 20):
                h.update(block)
    return h.hexdigest()[:16]


@lru_cache(maxsize=1)
def version():
    """A digest of the program's own modules in use: two results with the same one were measured alike."""
    root = Path(__file__).resolve().parent
    folders = {root, *(p for p in root.iterdir() if p.is_dir())}
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return digest(*sorted(f for f in files if f and os.path.isfile(f) and Path(f).resolve().parent in folders))


# ---------------------------------------------------------------------------------------------
# The evaluation
# ---------------------------------------------------------------------------------------------


def evaluate_model(model, number, protocol, seed, partial, progress):
    """All sections of one ModelUnderTest -> ({section: result}, {section or metric: why it was left out})."""
    sections, left_out = {}, {}
    for name, section in SECTIONS.items():
        if not section.concerns(model):
            progress.skip(section.cost)
            continue
        if section.needs_slots and model.lines is not None:
            left_out[name] = NEEDS_SLOTS
            progress.skip(section.cost)
            continue
        progress.start(name, section.cost)
        key = f"{number}/{name}"
        cached = key in partial.sections
        if not cached:
            partial.store(key, section.run(model, protocol, seed, progress.advance))
        sections[name] = partial.sections[key]
        progress.end(cached)
    if reason := sections.get("robustness", {}).get("details", {}).get("unseen_left_out"):
        left_out["corruptions made by torchvision"] = reason
    if model.lines is not None:
        left_out.update({name: NEEDS_SLOTS for name in WITHOUT_SLOTS})
    captioners.add_trained_baselines(sections)
    return sections, left_out


def summarize(models):
    """Mean and standard deviation (n - 1) over models of every metric that all of them have -> {id: ...}."""
    of_models = [all_metrics(m) for m in models]
    out = {}
    for section, content in models[0]["sections"].items():
        for id, metric in content["metrics"].items():
            values = [m[id]["value"] if id in m else None for m in of_models]
            if None not in values:
                out[id] = {
                    "section": section,
                    "split": metric["split"],
                    "label": metric["label"],
                    "mean": float(np.mean(values)),
                    "std": float(np.std(values, ddof=1)),
                    "n_models": len(values),
                }
    return out


def describe(args, protocol, models, real):
    """What metrics.json says of the evaluation itself."""
    checkpoints = []
    for path, model in zip(args.checkpoint, models):
        checkpoints.append({"path": str(path), "sha256": digest(path), "settings": dataclasses.asdict(model.settings)})
    return {
        "format": METRICS_FORMAT,
        "version": version(),
        "torch": torch.__version__,
        "seed": args.seed,
        "quick": args.quick,
        "protocol": dataclasses.asdict(protocol),
        "checkpoints": checkpoints,
        "real_pictures": real and {"source": real.source, "pictures": len(real.paths), "crops": len(real)},
    }


def evaluate(args):
    """The whole evaluation -> metrics.json's content. Raises what `main` turns into one line."""
    began = time.monotonic()
    existing = [name for name in OUTPUTS if os.path.exists(os.path.join(args.out_dir, name))]
    if existing and not args.force:
        path = os.path.join(args.out_dir, existing[0])
        raise UserError(f"{path} exists; choose another --out_dir, or --force to overwrite")
    device = choose_device(args.device)
    set_threads(args.threads)
    protocol = QUICK if args.quick else Protocol()
    args.checkpoint = args.checkpoint or [chosen_checkpoint(None)]
    files = {name: getattr(args, name) for name in FILES}
    real = open_real_pictures(args.real_pictures, protocol.real, args.seed) if args.real_pictures else None
    models = [open_model(path, device, files) for path in args.checkpoint]
    for model in models:
        model.real, model.others = real, [other for other in models if other is not model]
    make_folder(args.out_dir)
    about = describe(args, protocol, models, real)
    captions = [model.data for model in models if model.lines is not None]
    for line in [line for data in [*captions, *([real] if real else [])] for line in data.description()]:
        print(line, file=sys.stderr)
    partial = Partial(args.out_dir, [about, [data.digest for data in captions], real and real.digest], args.force)
    several = len(models) if len(models) > 1 else 0
    progress = Progress(
        sum(section.cost for section in SECTIONS.values()) * len(models) + PAGE_COST + FRESH_COST * several
    )
    entries = []
    for i, model in enumerate(models):
        sections, left_out = evaluate_model(model, i, protocol, args.seed, partial, progress)
        entries.append({"name": model.name, "given": model.given, "sections": sections, "left_out": left_out})
    result = {**about, "models": entries}
    if len(models) > 1:
        result["summary"] = summarize(entries)
        if "cross-reading" not in partial.sections:
            partial.store("cross-reading", cross_reading.cross_reading(models, protocol, args.seed))
        result["cross_reading"] = partial.sections["cross-reading"]
        progress.start("fresh captioners across models", FRESH_COST * several)
        if not (cached := "fresh-reading" in partial.sections):
            partial.store("fresh-reading", cross_reading.fresh_reading(models, protocol, args.seed, progress.advance))
        result["fresh_reading"] = partial.sections["fresh-reading"]
        progress.end(cached)
    progress.start("page", PAGE_COST)
    html = render_page(result, models[0], protocol, args.seed)
    result["seconds"] = round(time.monotonic() - began, 1)
    for name, text in (("metrics.json", to_json(result)), ("report.md", markdown(result)), ("index.html", html)):
        write_atomically(os.path.join(args.out_dir, name), text.encode())
    os.remove(partial.path)
    progress.close()
    return result


# ---------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------


def parse_arguments(argv):
    parser = Parser("evaluate.py", __doc__)
    add_checkpoint_flag(parser, nargs="+")
    parser.add_argument(
        "--out_dir",
        type=path_name,
        required=True,
        metavar="D",
        help="folder for metrics.json, report.md and index.html",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer sentences and shorter trainings: about two minutes on two cores instead of fifteen",
    )
    parser.add_argument(
        "--seed",
        type=number(int, 0),
        default=0,
        metavar="N",
        help="seed of sentences, permutations and fresh captioners (default: 0)",
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite the evaluation in --out_dir, or begin an interrupted one anew"
    )
    parser.add_argument(
        "--captions_file",
        type=path_name,
        metavar="FILE",
        help="where the checkpoint's captions file is now, if it has moved",
    )
    parser.add_argument(
        "--val_file", type=path_name, metavar="FILE", help="where its --val_file is now, if it has moved"
    )
    parser.add_argument(
        "--test_file",
        type=path_name,
        metavar="FILE",
        help="captions to measure on instead of the unseen ones of the run",
    )
    parser.add_argument(
        "--captions_column", metavar="NAME", help="the column of the captions in these files, if it is another one"
    )
    parser.add_argument("--captions_format", choices=FORMATS, help="the format of these files, if it is another one")
    parser.add_argument(
        "--real_pictures",
        type=path_name,
        nargs="?",
        const=True,
        metavar="DIR",
        help="compare scenes with the pictures in a folder; without DIR with photographs that scikit-learn, matplotlib and, where it "
        "is installed, scikit-image ship",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    parser.add_argument(
        "--threads",
        type=number(int, 0),
        default=0,
        metavar="N",
        help="CPU threads; 0 takes what the machine has (default: 0)",
    )
    return parser.parse_args(argv)


def main(argv=None):
    """Run the command line -> exit code: 0 done, 1 a failure, 130 or 143 interrupted. Raises SystemExit(2) for a wrong flag."""
    args = parse_arguments(argv)
    left = f"the same command goes on with what is in {os.path.join(args.out_dir, 'partial.json')}"
    return exit_code("evaluate.py", lambda: evaluate_and_tell(args), SMALLER_MODEL, left)


def evaluate_and_tell(args):
    """The whole command. Returns the exit code. Raises what `evaluate` raises."""
    result = evaluate(args)
    metrics_path, report_path, page_path = (os.path.join(args.out_dir, name) for name in OUTPUTS)
    print(f"pages: {page_path}, {report_path}; numbers: {metrics_path}")
    match = all_metrics(result["models"][0])["exact_match/test"]
    percent = 100 * match["value"]
    print(
        f"exact match on {match['n']} unseen sentences: {percent:.2f} % (seed {args.seed}, {result['seconds']:.0f} s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
