"""Evaluate a checkpoint: metrics with baselines, and a page with a dictionary.

    python evaluate.py --checkpoint checkpoints/best.pt --out_dir report
    python evaluate.py --checkpoint checkpoints/best.pt --out_dir report --quick     about two minutes
    python evaluate.py --checkpoint a.pt b.pt c.pt --out_dir report                  mean, deviation, cross-reading
    python evaluate.py --checkpoint best.pt --out_dir report --real_pictures photos  compare with real pictures

Writes metrics.json, report.md and index.html (open it with a double click). The same command resumes an interrupted
evaluation.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out
from runtime import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import argparse
import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from captions import FORMATS
from checkpoints import EXPORT_FILES, add_checkpoint_flag, chosen_checkpoint
from evaluation.picture_folder import RealPictures, open_real_pictures
from evaluation.protocol import QUICK, ModelUnderTest, Protocol, open_model
from evaluation.report.markdown import all_metrics, markdown
from evaluation.report.page import render_page
from evaluation.sections.alphabet import alphabet_section
from evaluation.sections.captioners import add_trained_baselines, captioners_section
from evaluation.sections.cross_reading import cross_reading, fresh_reading
from evaluation.sections.cycle import cycle_section
from evaluation.sections.information import bottleneck_section, coherence_section, language_model_section
from evaluation.sections.language import meaning_section, structure_section
from evaluation.sections.legibility import legibility_section
from evaluation.sections.real_pictures import real_pictures_section
from evaluation.sections.real_text import real_text_section
from evaluation.sections.robustness import robustness_section
from evaluation.sections.scenes import scenes_section
from runtime.command_line import SMALLER_MODEL, Parser, UserError, exit_code, number, path_name
from runtime.devices import choose_device, set_threads
from runtime.files import make_folder, write_atomically
from runtime.outputs import refuse_inputs, write_output

# Flags that replace settings of the run
FILES = ("captions_file", "val_file", "test_file", "captions_column", "captions_format")
METRICS_FORMAT = 3  # of metrics.json; 2 had the section "circle" and "given" words
OUTPUTS = ("metrics.json", "report.md", "index.html")
PAGE_COST = 8  # in the unit of `Section.cost`
FRESH_COST = 15  # a model, if there are several


@dataclass(frozen=True)
class Section:
    """A section of the evaluation, whose results are one entry of metrics.json's "sections"."""

    run: Callable  # as documented in evaluation/sections/__init__.py
    cost: int  # its time relative to the other sections, roughly
    needs_slots: bool = False  # of the grammar
    needs_lines: bool = False  # of a captions file
    needs_pictures: bool = False  # of --real_pictures
    needs_codes: bool = False  # of train.py --use_vq

    def applies_to(self, model: ModelUnderTest) -> bool:
        """Whether the section applies to a model; a missing slot is listed as a reason instead."""
        has_lines = model.lines is not None or not self.needs_lines
        has_pictures = model.real is not None or not self.needs_pictures
        return has_lines and has_pictures and (model.cycle.has_codes or not self.needs_codes)


SECTIONS = {
    "cycle": Section(cycle_section, 6),
    "real_text": Section(real_text_section, 10, needs_lines=True),
    "scenes": Section(scenes_section, 30, needs_slots=True),
    "legibility": Section(legibility_section, 20, needs_slots=True),
    "robustness": Section(robustness_section, 8),
    "structure": Section(structure_section, 10),
    "meaning": Section(meaning_section, 8, needs_slots=True),
    "bottleneck": Section(bottleneck_section, 6),
    "alphabet": Section(alphabet_section, 3, needs_codes=True),
    "language_model": Section(language_model_section, 2),
    "coherence": Section(coherence_section, 2),
    "real_pictures": Section(real_pictures_section, 15, needs_pictures=True),
    "captioners": Section(captioners_section, 40),
}
NEEDS_SLOTS = "needs the grammar's slots; this model was trained on a captions file"
# Metrics of the other sections that need the grammar
WITHOUT_SLOTS = (
    "per-slot accuracy", "Soft", "Hard", "confusion matrices", "hand-made renderer", "posdis", "bosdis", "synonyms",
    "share that parses", "splits test_pairs and test_ood",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Progress, and results that outlive an interruption
# ---------------------------------------------------------------------------------------------


class Progress:
    """A bar on a terminal, one line a section elsewhere."""

    def __init__(self, total: int):
        form = "{l_bar}{bar}| {elapsed} · {remaining} left"
        self.bar = tqdm(total=total, disable=not sys.stderr.isatty(), bar_format=form, dynamic_ncols=True)

    def start(self, name: str, cost: int) -> None:
        """Start a part of the evaluation."""
        self.name = name
        self.cost = cost
        self.share = 0.0  # of it that is done
        self.before = self.bar.n
        self.began = time.monotonic()
        self.bar.set_description(name)

    def advance(self, share: float) -> None:
        """Add a share in [0, 1] of the part; the sum is clipped at 1."""
        share = min(share, 1.0 - self.share)
        self.share += share
        self.bar.update(self.cost * share * 0.99)

    def end(self, cached: bool = False) -> None:
        """End the part; cached: its result was in partial.json."""
        self.bar.update(max(0, self.before + self.cost - self.bar.n))
        if self.bar.disable:
            took = "from partial.json" if cached else f"{time.monotonic() - self.began:.0f} s"
            print(f"{self.name}: {took}", file=sys.stderr, flush=True)

    def skip(self, cost: int) -> None:
        """Skip a part of that cost."""
        self.bar.update(cost)

    def close(self) -> None:
        """Fill and close the bar."""
        self.bar.update(max(0, self.bar.total - self.bar.n))
        self.bar.close()


class Partial:
    """D/partial.json: the results of finished sections, and the fingerprint of their evaluation. Raises UserError."""

    def __init__(self, folder: str, fingerprint: Any, force: bool):
        self.path = os.path.join(folder, "partial.json")
        self.sections = {}
        self.fingerprint = json.loads(to_json(fingerprint))  # as it is read from the file
        if force or not os.path.lexists(self.path):
            return
        try:
            stored = json.loads(Path(self.path).read_text(encoding="utf-8"))
            self.sections = stored["sections"] if stored["fingerprint"] == self.fingerprint else None
        except (ValueError, KeyError, TypeError):
            self.sections = None
        if self.sections is None:
            cure = "choose another --out_dir, or --force to begin anew"
            raise UserError(f"{self.path} belongs to another evaluation; {cure}")

    def store(self, name: str, result: Any) -> None:
        """Store a section's result in memory and on disk. Raises OSError."""
        self.sections[name] = json.loads(to_json(result))
        write_atomically(self.path, to_json({"fingerprint": self.fingerprint, "sections": self.sections}).encode())


def to_json(value: Any) -> str:
    """JSON without NaN or infinity. Raises ValueError for a value that is not finite."""

    def plain(x):
        if isinstance(x, np.generic):
            return x.item()
        raise TypeError(f"{type(x)} in the results")

    return json.dumps(value, default=plain, allow_nan=False, ensure_ascii=False, indent=1)


def digest(*paths: str) -> str:
    """The first 16 hex digits of the SHA-256 of files; an exported folder stands for its two files."""
    h = hashlib.sha256()
    for path in paths:
        for file in [os.path.join(path, name) for name in EXPORT_FILES] if os.path.isdir(path) else [path]:
            with open(file, "rb") as f:
                while block := f.read(1 << 20):
                    h.update(block)
    return h.hexdigest()[:16]


@lru_cache(maxsize=1)
def version() -> str:
    """A digest of the program's imported modules: results with the same version were measured by the same code."""
    root = Path(__file__).resolve().parent
    folders = {root, *(p for p in root.iterdir() if p.is_dir())}
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return digest(*sorted(f for f in files if f and os.path.isfile(f) and Path(f).resolve().parent in folders))


# ---------------------------------------------------------------------------------------------
# The evaluation
# ---------------------------------------------------------------------------------------------


def evaluate_model(
    model: ModelUnderTest, index: int, protocol: Protocol, seed: int, partial: Partial, progress: Progress
) -> tuple[dict, dict[str, str]]:
    """All sections of one model -> ({section: result}, {section or metric: the reason why it was left out})."""
    sections, left_out = {}, {}
    for name, section in SECTIONS.items():
        lacks_slots = section.needs_slots and model.lines is not None
        if lacks_slots:
            left_out[name] = NEEDS_SLOTS
        if lacks_slots or not section.applies_to(model):
            progress.skip(section.cost)
            continue
        progress.start(name, section.cost)
        key = f"{index}/{name}"
        cached = key in partial.sections
        if not cached:
            partial.store(key, section.run(model, protocol, seed, progress.advance))
        sections[name] = partial.sections[key]
        progress.end(cached)
    if reason := sections.get("robustness", {}).get("details", {}).get("unseen_left_out"):
        left_out["corruptions made by torchvision"] = reason
    if model.lines is not None:
        left_out.update({name: NEEDS_SLOTS for name in WITHOUT_SLOTS})
    add_trained_baselines(sections)
    return sections, left_out


def summarize(models: list[dict]) -> dict[str, dict]:
    """Mean and standard deviation (n - 1) over models of every metric that all of them have -> {id: ...}."""
    of_models = [all_metrics(m) for m in models]
    out = {}
    for section, content in models[0]["sections"].items():
        for id, metric in content["metrics"].items():
            values = [m[id]["value"] if id in m else None for m in of_models]
            if None not in values:
                about = {"section": section, "split": metric["split"], "label": metric["label"]}
                spread = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1))}
                out[id] = {**about, **spread, "n_models": len(values)}
    return out


def describe(
    args: argparse.Namespace, protocol: Protocol, models: list[ModelUnderTest], real: RealPictures | None
) -> dict:
    """The entries of metrics.json about the evaluation itself."""
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


def evaluate(args: argparse.Namespace) -> dict:
    """The whole evaluation -> the content of metrics.json. Raises what `main` turns into one line."""
    began = time.monotonic()
    existing = [name for name in OUTPUTS if os.path.lexists(os.path.join(args.out_dir, name))]
    if existing and not args.force:
        path = os.path.join(args.out_dir, existing[0])
        raise UserError(f"{path} exists; choose another --out_dir, or --force to overwrite")
    inputs = [args.captions_file, args.val_file, args.test_file, *(args.checkpoint or [])]
    refuse_inputs(args.out_dir, "|".join(map(re.escape, (*OUTPUTS, "partial.json"))), inputs)
    device = choose_device(args.device)
    set_threads(args.threads)
    protocol = QUICK if args.quick else Protocol()
    args.checkpoint = [chosen_checkpoint(path) for path in args.checkpoint or [None]]
    files = {name: getattr(args, name) for name in FILES}
    real = open_real_pictures(args.real_pictures, protocol.real, args.seed) if args.real_pictures else None
    models = [open_model(path, device, files) for path in args.checkpoint]
    for model in models:
        model.real, model.others = real, [other for other in models if other is not model]
    make_folder(args.out_dir)
    about = describe(args, protocol, models, real)
    captions = [model.data for model in models if model.lines is not None]
    for data in [*captions, *([real] if real else [])]:
        print("\n".join(data.description()), file=sys.stderr)
    partial = Partial(args.out_dir, [about, [data.digest for data in captions], real and real.digest], args.force)
    fresh_cost = FRESH_COST * len(models) if len(models) > 1 else 0
    progress = Progress(sum(section.cost for section in SECTIONS.values()) * len(models) + PAGE_COST + fresh_cost)
    entries = []
    for i, model in enumerate(models):
        sections, left_out = evaluate_model(model, i, protocol, args.seed, partial, progress)
        entry = {"name": model.name, "grounded_words": model.grounded_words}
        entries.append({**entry, "sections": sections, "left_out": left_out})
    result = {**about, "models": entries}
    if len(models) > 1:
        result["summary"] = summarize(entries)
        if "cross-reading" not in partial.sections:
            partial.store("cross-reading", cross_reading(models, protocol, args.seed))
        result["cross_reading"] = partial.sections["cross-reading"]
        progress.start("fresh captioners across models", fresh_cost)
        if not (cached := "fresh-reading" in partial.sections):
            partial.store("fresh-reading", fresh_reading(models, protocol, args.seed, progress.advance))
        result["fresh_reading"] = partial.sections["fresh-reading"]
        progress.end(cached)
    progress.start("page", PAGE_COST)
    html = render_page(result, models[0], protocol, args.seed)
    result["seconds"] = round(time.monotonic() - began, 1)
    for name, text in (("metrics.json", to_json(result)), ("report.md", markdown(result)), ("index.html", html)):
        write_output(os.path.join(args.out_dir, name), text.encode(), args.force)
    os.remove(partial.path)
    progress.close()
    return result


# ---------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("evaluate.py", __doc__)
    add_checkpoint_flag(parser, nargs="+")
    add = parser.add_argument
    out_dir = "folder for metrics.json, report.md and index.html"
    add("--out_dir", type=path_name, required=True, metavar="D", help=out_dir)
    quick = "fewer sentences and shorter trainings: about two minutes on two cores instead of fifteen"
    add("--quick", action="store_true", help=quick)
    seed = "seed of sentences, permutations and fresh captioners (default: 0)"
    add("--seed", type=number(int, 0), default=0, metavar="N", help=seed)
    force = "overwrite the evaluation in --out_dir, or begin an interrupted one anew"
    add("--force", "--overwrite", action="store_true", help=force)
    moved = "where the checkpoint's captions file is now, if it has moved"
    add("--captions_file", type=path_name, metavar="FILE", help=moved)
    add("--val_file", type=path_name, metavar="FILE", help="where its --val_file is now, if it has moved")
    test_file = "captions to measure on instead of the unseen ones of the run"
    add("--test_file", type=path_name, metavar="FILE", help=test_file)
    add("--captions_column", metavar="NAME", help="the column of the captions in these files, if it is another one")
    add("--captions_format", choices=FORMATS, help="the format of these files, if it is another one")
    real = (
        "compare scenes with the pictures in a folder; without DIR with photographs that scikit-learn, matplotlib "
        "and, if it is installed, scikit-image ship"
    )
    add("--real_pictures", type=path_name, nargs="?", const=True, metavar="DIR", help=real)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    threads = "CPU threads; 0 takes what the machine has (default: 0)"
    add("--threads", type=number(int, 0), default=0, metavar="N", help=threads)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code: 0, 1 for a failure, 130 or 143. Raises SystemExit(2) for a wrong flag."""
    args = parse_arguments(argv)
    left = f"the same command resumes from {os.path.join(args.out_dir, 'partial.json')}"
    return exit_code("evaluate.py", lambda: evaluate_and_report(args), SMALLER_MODEL, left)


def evaluate_and_report(args: argparse.Namespace) -> int:
    """Evaluate, and print the exact match. Returns the exit code. Raises what `evaluate` raises."""
    result = evaluate(args)
    metrics_path, report_path, page_path = (os.path.join(args.out_dir, name) for name in OUTPUTS)
    print(f"pages: {page_path}, {report_path}; numbers: {metrics_path}")
    match = all_metrics(result["models"][0])["exact_match/test"]
    percent = 100 * match["value"]
    about = f"seed {args.seed}, {result['seconds']:.0f} s"
    print(f"exact match on {match['n']} unseen sentences: {percent:.2f} % ({about})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
