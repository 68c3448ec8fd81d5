"""What kind of language is it? A checkpoint -> figures with baselines, and a page to look words up on.

    python evaluate.py --checkpoint checkpoints/best.pt --out_dir report
    python evaluate.py --checkpoint checkpoints/best.pt --out_dir report --quick     about two minutes
    python evaluate.py --checkpoint a.pt b.pt c.pt --out_dir report                  mean, deviation, who reads whom

Writes metrics.json, report.md and index.html (open it with a double click). An interrupted evaluation goes on
where it was with the same command.
"""

from command_line import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import argparse
import dataclasses
import hashlib
import json
import os
import signal
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from checkpoints import CheckpointError, load_model, write_atomically
from command_line import UserError, in_one_line
from data_utils import CaptionsFileError, UnknownWord
from devices import choose_device, set_threads
from evaluation import language, page, reading, report
from evaluation.protocol import QUICK, Plan, Subject, open_data

FORMAT = 1
OUTPUTS = ("metrics.json", "report.md", "index.html")

# name: (function, about what it costs beside the others, whether it needs the grammar's slots)
SECTIONS = {
    "circle": (reading.circle_section, 6, False),
    "legibility": (reading.legibility_section, 20, True),
    "robustness": (reading.robustness_section, 8, False),
    "structure": (language.structure_section, 10, False),
    "meaning": (language.meaning_section, 8, True),
    "bottleneck": (language.bottleneck_section, 6, False),
    "language model": (language.language_section, 2, False),
    "coherence": (language.coherence_section, 2, False),
    "readers": (reading.readers_section, 40, False),
}
NEEDS_SLOTS = "needs the grammar's slots; this model was trained on a captions file"
# what the other sections leave out for a captions file, by name
WITHOUT_SLOTS = (
    "per-slot accuracy; Soft; Hard; confusion matrices; hand-made renderer; posdis; bosdis; synonyms; share that parses".split("; ")
)
WITHOUT_SLOTS += ["splits test_pairs and test_ood"]


class Progress:
    """A bar on a terminal, one line a section elsewhere."""

    def __init__(self, total):
        self.bar = tqdm(
            total=total,
            disable=not sys.stderr.isatty(),
            bar_format="{l_bar}{bar}| {elapsed} · {remaining} left",
            dynamic_ncols=True,
        )

    def start(self, name):
        self.began = time.monotonic()
        self.bar.set_description(name)

    def end(self, name, cached):
        if self.bar.disable:
            took = "from partial.json" if cached else f"{time.monotonic() - self.began:.0f} s"
            print(f"{name}: {took}", file=sys.stderr, flush=True)


class Partial:
    """D/partial.json: the sections that are done, and what they belong to. Raises UserError."""

    def __init__(self, folder, fingerprint, force):
        self.path, self.sections = os.path.join(folder, "partial.json"), {}
        self.fingerprint = json.loads(to_json(fingerprint))  # as it will come back from the file
        if force or not os.path.exists(self.path):
            return
        try:
            stored = json.loads(Path(self.path).read_text())
            self.sections = stored["sections"] if stored["fingerprint"] == self.fingerprint else None
        except (ValueError, KeyError, TypeError):
            self.sections = None
        if self.sections is None:
            raise UserError(f"{self.path} belongs to another evaluation; choose another --out_dir, or --force to begin anew")

    def get(self, name, make):
        """(A section's result, whether it was there already)."""
        there = name in self.sections
        if not there:
            self.sections[name] = json.loads(to_json(make()))
            write_atomically(self.path, to_json({"fingerprint": self.fingerprint, "sections": self.sections}).encode())
        return self.sections[name], there


def to_json(value):
    """JSON without NaN or infinity: a figure that is not finite is a fault, not a value."""

    def plain(x):
        if isinstance(x, np.generic):
            return x.item()
        raise TypeError(f"{type(x)} in the results")

    return json.dumps(value, default=plain, allow_nan=False, ensure_ascii=False, indent=1)


def digest(*paths):
    """The first 16 hex digits of the SHA-256 of files together."""
    h = hashlib.sha256()
    for path in paths:
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


def open_subject(path, captions_file, device):
    """A checkpoint as a Subject. Raises CheckpointError, CaptionsFileError, OSError."""
    circle, vocab, settings = load_model(path, device)
    lines, data = open_data(settings, vocab, captions_file)
    return Subject(circle.eval(), vocab, settings, device, str(path), lines, data)


def measure(subject, number, plan, seed, partial, progress):
    """All sections of one model -> ({section: result}, {section: why it was left out})."""
    done, left_out = {}, {}
    for name, (section, cost, needs_slots) in SECTIONS.items():
        if needs_slots and subject.lines is not None:
            left_out[name] = NEEDS_SLOTS
            progress.bar.update(cost)
            continue
        progress.start(name)
        before, told = progress.bar.n, [0.0]

        def say(share, told=told, cost=cost):
            told[0] = min(1.0, told[0] + share)
            progress.bar.update(cost * share * 0.99)

        done[name], cached = partial.get(f"{number}/{name}", lambda: section(subject, plan, seed, say))  # noqa: B023 (called at once)
        progress.bar.update(max(0, before + cost - progress.bar.n))
        progress.end(name, cached)
    if subject.lines is not None:
        left_out.update({name: NEEDS_SLOTS for name in WITHOUT_SLOTS})
    reading.add_trained_baselines(done)
    return done, left_out


def summarise(models):
    """Mean and standard deviation over models of every figure that all of them have."""
    out = {}
    for section in models[0]["sections"]:
        for name in models[0]["sections"][section]["figures"]:
            values = [m["sections"].get(section, {"figures": {}})["figures"].get(name, {}).get("value") for m in models]
            if None not in values:
                out[f"{section} · {name}"] = {
                    "mean": float(np.mean(values)),
                    "std": float(np.std(values, ddof=1)),
                    "n_models": len(values),
                }
    return out


def evaluate(args):
    """The whole evaluation. Raises what `main` turns into one line."""
    began = time.monotonic()
    there = [name for name in OUTPUTS if os.path.exists(os.path.join(args.out_dir, name))]
    if there and not args.force:
        raise UserError(f"{os.path.join(args.out_dir, there[0])} exists; choose another --out_dir, or --force to overwrite")
    device = choose_device(args.device)
    set_threads(args.threads)
    plan = QUICK if args.quick else Plan()
    subjects = [open_subject(path, args.captions_file, device) for path in args.checkpoint]
    os.makedirs(args.out_dir, exist_ok=True)
    about = {
        "format": FORMAT,
        "version": version(),
        "torch": torch.__version__,
        "seed": args.seed,
        "quick": args.quick,
        "plan": dataclasses.asdict(plan),
        "checkpoints": [
            {"path": str(p), "sha256": digest(p), "settings": dataclasses.asdict(s.settings)}
            for p, s in zip(args.checkpoint, subjects)
        ],
    }
    data = [args.captions_file or s.settings.captions_file for s in subjects if s.lines is not None]
    partial = Partial(args.out_dir, [about, digest(*data)], args.force)
    progress = Progress(sum(cost for _, cost, _ in SECTIONS.values()) * len(subjects) + 8)
    models = []
    for i, subject in enumerate(subjects):
        sections, left_out = measure(subject, i, plan, args.seed, partial, progress)
        models.append({"name": subject.name, "sections": sections, "left_out": left_out})
    result = {**about, "models": models}
    if len(subjects) > 1:
        result["summary"] = summarise(models)
        result["cross_reading"] = partial.get("cross-reading", lambda: reading.cross_reading(subjects, plan, args.seed))[0]
    progress.start("page")
    html = page.build(result, subjects[0], plan, args.seed)
    result["seconds"] = round(time.monotonic() - began, 1)
    for name, text in (("metrics.json", to_json(result)), ("report.md", report.markdown(result)), ("index.html", html)):
        write_atomically(os.path.join(args.out_dir, name), text.encode())
    os.remove(partial.path)
    progress.bar.update(max(0, progress.bar.total - progress.bar.n))
    progress.bar.close()
    return result


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", required=True, metavar="C", help="one checkpoint, or several to compare")
    parser.add_argument("--out_dir", required=True, metavar="D", help="folder for metrics.json, report.md and index.html")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer sentences and shorter trainings: about two minutes on two cores instead of fifteen",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of sentences, permutations and fresh readers (default: 0)"
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite the evaluation in --out_dir, or begin an interrupted one anew"
    )
    parser.add_argument("--captions_file", metavar="FILE", help="where the checkpoint's captions file lies now, if it has moved")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads; 0 takes what the machine has (default: 0)"
    )
    args = parser.parse_args(argv)
    if args.seed < 0 or args.threads < 0:
        parser.error("--seed and --threads must be 0 or more")
    return args


def _terminate(_number, _frame):
    raise SystemExit(143)


def main(argv=None):
    args = parse_arguments(argv)
    try:
        result = evaluate(args)
    except (UserError, CheckpointError, CaptionsFileError, UnknownWord, ValueError, OSError) as error:
        print(f"evaluate.py: {in_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"interrupted; the same command goes on with what is in {os.path.join(args.out_dir, 'partial.json')}", file=sys.stderr
        )
        return 130
    match = result["models"][0]["sections"]["circle"]["figures"]["test · exact match"]
    print(
        "pages: {1}, {2}; numbers: {0}".format(
            *(os.path.join(args.out_dir, name) for name in ("metrics.json", "index.html", "report.md"))
        )
    )
    print(
        f"exact match on {match['n']} unseen sentences: {100 * match['value']:.2f} % (seed {args.seed}, {result['seconds']:.0f} s)"
    )
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
