"""Measure the speed of training on this device, where a step's time goes, and how fast quality comes.

    python benchmark.py                                   presets and recommended sizes, some minutes
    python benchmark.py --to_quality --against_plain      and the seconds to 50, 90, 95, 99 % exact match, and
                                                          the ratios to the plain ones of benchmarking/plain.py
    python benchmark.py --configurations quick --json before.json
    python benchmark.py --configurations quick --compare before.json
    python benchmark.py --configurations --to_quality full      nothing but that
    python benchmark.py --configurations words_54 words_10000   what a large vocabulary costs

Each configuration lives in a process of its own, so that its peak memory is its own, and they take short
turns: what else the machine does meanwhile hits all of them alike.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out
from runtime import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import argparse
import contextlib
import json
import platform

import torch

from benchmarking.workers import (
    CONFIGURATIONS,
    GOALS,
    PARTS,
    PLAIN,
    QUALITY_SENTENCES,
    UNNAMED,
    Worker,
    median_and_range,
    take_turns,
)
from runtime.command_line import Parser, exit_code, number, path_name
from runtime.devices import choose_device, set_threads
from runtime.files import make_folder, write_atomically

RESULT_FORMAT = 2
STANDARD = [name for name in CONFIGURATIONS if name not in UNNAMED]
WITH_PLAIN = ("recommended_8", "recommended_64", "tiny")  # what --against_plain can be asked for


# ---------------------------------------------------------------------------------------------
# Telling
# ---------------------------------------------------------------------------------------------


def crossings(curve):
    """{goal: seconds of training at which it was first reached, or None}."""
    return {f"{100 * g:g} %": next((p["seconds"] for p in curve if p["exact_match"] >= g), None) for g in GOALS}


def rates(entry):
    """Sentences/s of each turn."""
    return [entry["batch"] * t["steps"] / t["seconds"] for t in entry["turns"]]


def against_plain(speed):
    """{name: {kind of plain implementation: median and range over turns of sentences/s, ours over plain}}, the one that counts
    first; turns of one round stand side by side."""
    ratios = {}
    for kind in PLAIN:
        for ours in speed:
            plain = speed.get(f"{kind}: {ours}", {})
            if "turns" in plain and "turns" in speed[ours]:
                pairs = zip(rates(speed[ours]), rates(plain))
                ratios.setdefault(ours, {})[kind] = median_and_range([a / b for a, b in pairs])
    return ratios


def describe_device(options):
    """What the numbers were measured on."""
    device = choose_device(options.device)
    set_threads(options.threads)
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as f:
        name = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": load,
    }


def aligned_table(head, rows):
    """Lines of a Markdown table whose columns also stand straight in a terminal."""
    rows = [head, *([str(cell) for cell in row] for row in rows)]
    width = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, width))) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(width)) + "|")
    return lines


def format_range(value, scale=1.0, digits=1):
    """A median and range as "median (low–high)"."""
    return (
        f"{scale * value['median']:.{digits}f} ({scale * value['low']:.{digits}f}–{scale * value['high']:.{digits}f})"
    )


def speed_tables(speed):
    """Speeds and splits as lines."""
    rows, splits = [], []
    for name, e in speed.items():
        if "skipped" in e:
            rows.append([name, *["–"] * 8])
            continue
        peak = "–" if e["peak_bytes"] is None else f"{e['peak_bytes'] / 1e6:.0f}"
        rates_ = [
            format_range(e["ms_per_step"]),
            format_range(e["sentences_per_s"]),
            f"{e['flops_per_step'] / 1e9:.1f}",
        ]
        rates_ += [f"{e['matmul_flops_per_s']['median'] / 1e9:.0f}", format_range(e["share_of_matmul"], 100, 0)]
        rows.append([name, e["batch"], e["dtype"], *rates_, peak])
        if "split_ms" in e:
            splits.append([name, *(f"{ms:.1f}" for ms in e["split_ms"].values())])
    head = [
        "configuration",
        "batch",
        "dtype",
        "ms/step",
        "sentences/s",
        "GFLOP/step",
        "matmul GFLOP/s",
        "% of matmul",
        "peak MB",
    ]
    lines = aligned_table(head, rows) + ["", "median (lowest–highest) of the turns"]
    lines += [f"{name}: skipped: {e['skipped']}" for name, e in speed.items() if "skipped" in e]
    return lines + (["", *aligned_table(["ms in", *PARTS], splits)] if splits else [])


def comparison(now, then):
    """Ratios to an earlier result, as lines; "clear" where the turns of the two do not overlap."""
    rows = []
    for name, e in now["speed"].items():
        old = then["speed"].get(name, {})
        if "skipped" in e or "turns" not in old:
            continue
        a, b = e["sentences_per_s"], old["sentences_per_s"]
        clear = "yes" if a["low"] > b["high"] or a["high"] < b["low"] else "no"
        memory = f"{e['peak_bytes'] / old['peak_bytes']:.2f}×" if e["peak_bytes"] and old["peak_bytes"] else "–"
        share = f"{e['share_of_matmul']['median'] / old['share_of_matmul']['median']:.2f}×"
        rows.append([name, f"{a['median'] / b['median']:.2f}×", clear, share, memory])
    lines = (
        aligned_table(["now / then", "sentences/s", "clear", "% of matmul", "peak memory"], rows)
        if rows
        else ["nothing to compare: no common configuration"]
    )
    other = [
        f"{k} {then['device'].get(k)} then, {v} now"
        for k, v in now["device"].items()
        if k != "load" and then["device"].get(k) != v
    ]
    return lines + ([f"measured elsewhere: {'; '.join(other)}"] if other else [])


def load_result(path):
    """A file of --json. Raises ValueError in one line."""
    try:
        with open(path, encoding="utf-8") as f:
            result = json.load(f)
        if result["format"] != RESULT_FORMAT:
            raise ValueError
        comparison(result, result)
        return result
    except OSError as error:
        raise ValueError(f"--compare {path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        raise ValueError(f"--compare {path} was not written by --json of this program") from None


# ---------------------------------------------------------------------------------------------
# python benchmark.py
# ---------------------------------------------------------------------------------------------


def parse_arguments(argv):
    parser = Parser("benchmark.py", __doc__)
    add, names = parser.add_argument, ", ".join(CONFIGURATIONS)
    add(
        "--configurations",
        nargs="*",
        metavar="NAME",
        help=f"of {names} (default: all but {', '.join(UNNAMED)}); none where no name follows",
    )
    add(
        "--against_plain",
        action="store_true",
        help="also time the two plain implementations of benchmarking/plain.py, in turn with recommended_8, recommended_64 and tiny",
    )
    add(
        "--to_quality",
        nargs="?",
        const="quick",
        choices=["quick", "full", "tiny"],
        help="train it to 99 %% exact match (default: quick)",
    )
    add("--seconds", type=number(float, above=0), default=20.0, help="time for each configuration (default: 20)")
    add("--repeats", type=number(int, 1), default=5, help="turns that the time is divided into (default: 5)")
    add("--use_amp", action=argparse.BooleanOptionalAction, help="overrules the configurations (default: as they say)")
    add("--compile", action="store_true", help="train with --compile")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    add("--threads", type=number(int, 0), default=0, help="CPU threads; 0 takes what the machine has (default: 0)")
    add("--seed", type=number(int, 0), default=0, help="seed of weights, sentences and noise (default: 0)")
    add("--json", type=path_name, metavar="FILE", help="write the figures to this file")
    add("--compare", type=path_name, metavar="FILE", help="print ratios to the figures that --json wrote earlier")
    options = parser.parse_args(argv)
    chosen = list(dict.fromkeys(STANDARD if options.configurations is None else options.configurations))
    if unknown := [name for name in chosen if name not in CONFIGURATIONS]:
        parser.error(f"--configurations {unknown[0]} is none of {names}")
    if options.json and not os.path.isdir(os.path.dirname(os.path.abspath(options.json))):
        parser.error(f"--json {options.json}: its folder does not exist")
    if options.against_plain:
        chosen = chosen if set(chosen) & set(WITH_PLAIN) else [*chosen, *WITH_PLAIN[:2]]
        beside = {name: [f"{kind}: {name}" for kind in PLAIN] for name in WITH_PLAIN}
        chosen = [n for name in chosen for n in [name, *beside.get(name, [])]]
    options.configurations = chosen
    return options


def run_benchmark(options, result):
    """Everything that was asked for, into `result`, printed section by section."""

    def keep(section, content, lines):
        result[section] = content
        print("\n".join(["", *lines]), flush=True)
        if options.json:
            write_atomically(options.json, (json.dumps(result, indent=1) + "\n").encode())

    with contextlib.ExitStack() as stack:
        workers = []
        for name in options.configurations:
            workers.append(Worker(name, options))
            stack.callback(workers[-1].close)
        speed = take_turns(workers, options.repeats)
    if speed:
        keep("speed", speed, speed_tables(speed))
    if options.against_plain:
        ratios = against_plain(speed)
        keep(
            "against_plain",
            ratios,
            [
                f"{n}: {format_range(r)} times the sentences/s of: {kind}"
                for n, kinds in ratios.items()
                for kind, r in kinds.items()
            ],
        )
    if options.to_quality:
        with contextlib.closing(Worker(options.to_quality, options)) as worker:
            curve = worker.ask("quality")
        reached = crossings(curve)
        content = {"configuration": options.to_quality, "seconds": reached, "curve": curve}
        lines = [
            f"{goal} exact match: {'not within the run' if s is None else f'{s:.1f} s'}" for goal, s in reached.items()
        ]
        head = f"{options.to_quality}, seconds of training until unseen sentences ({QUALITY_SENTENCES}) come back:"
        keep("to_quality", content, [head, *lines])


def benchmark(options):
    """The whole command. Returns the exit code. Raises ValueError, OSError, Skipped."""
    then = load_result(options.compare) if options.compare else None
    if options.json:
        make_folder(os.path.dirname(options.json) or ".")
    device = describe_device(options)
    result = {"format": RESULT_FORMAT, "device": device, "options": vars(options), "speed": {}}
    print(", ".join(f"{k} {v}" for k, v in device.items()), flush=True)
    run_benchmark(options, result)
    if then:
        print("\n".join(["", *comparison(result, then)]))
    return 1 if result["speed"] and all("skipped" in e for e in result["speed"].values()) else 0


def main(argv=None):
    options = parse_arguments(argv)
    return exit_code("benchmark.py", lambda: benchmark(options), "name smaller --configurations")


if __name__ == "__main__":
    sys.exit(main())
