"""Measure the speed of training on this device, where a step's time goes, and how fast quality comes.

    python benchmark.py                                   presets and recommended sizes, some minutes
    python benchmark.py --to_quality --against_plain      and the seconds to 50, 90, 95, 99 % exact match, and
                                                          the ratio to the plain implementation of benchmarking/plain.py
    python benchmark.py --configurations quick --json before.json
    python benchmark.py --configurations quick --compare before.json
    python benchmark.py --configurations --to_quality full      only the time to quality
    python benchmark.py --configurations words_54 words_10000   the cost of a large vocabulary

Configurations take short turns, so that other work of the machine slows all of them alike. Each turn is a process of
its own, so that its peak memory is its own.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

from runtime import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import argparse
import contextlib
import dataclasses
import json
import platform
import statistics
import subprocess
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarking.measure import CONFIGURATIONS, GOALS, PARTS, PLAIN, QUALITY_SENTENCES, VOCABULARIES, Skipped, Task
from runtime.command_line import Parser, exit_code, number, path_name
from runtime.devices import choose_device, set_threads
from runtime.files import make_folder, write_atomically

RESULT_FORMAT = 2
NOT_STANDARD = ("tiny", *VOCABULARIES)  # not measured unless named
WITH_PLAIN = ("recommended_8", "recommended_64", "tiny")  # configurations that --against_plain compares
COLUMNS = "configuration|batch|dtype|ms/step|sentences/s|GFLOP/step|matmul GFLOP/s|% of matmul|peak MB".split("|")


# ---------------------------------------------------------------------------------------------
# Turns
# ---------------------------------------------------------------------------------------------


def measure(task: Task) -> dict:
    """Run benchmarking/measure.py in a process of its own -> its result. Raises Skipped."""
    command = [sys.executable, "-m", "benchmarking.measure", json.dumps(dataclasses.asdict(task))]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parent, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        code = done.returncode
        why = f"signal {-code}; most likely memory ran out" if code < 0 else f"exit code {code}"
        raise Skipped(f"its process ended ({why})")
    result = json.loads(done.stdout.splitlines()[-1])
    if "skipped" in result:
        raise Skipped(result["skipped"])
    return result


def take_turns(tasks: list[Task], repeats: int) -> dict[str, dict]:
    """Measure all tasks in turn, `repeats` times -> {name: what was measured, or {"skipped": why}}."""
    turns, skipped = {task.name: [] for task in tasks}, {}
    for _ in range(repeats):
        for task in tasks:
            if task.name in skipped:
                continue
            try:
                turns[task.name].append(measure(task))
            except Skipped as error:
                skipped[task.name] = {"skipped": str(error)}
                print(f"{task.name}: skipped: {error}", file=sys.stderr, flush=True)
    return {task.name: skipped.get(task.name) or combined(turns[task.name]) for task in tasks}


def median_and_range(values: Iterable[float]) -> dict[str, float]:
    """The median, the smallest and the largest value."""
    values = list(values)
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def combined(turns: list[dict]) -> dict:
    """The results of a configuration's turns as medians and ranges."""
    first = turns[0]
    rates = [t["flops_per_step"] * t["steps"] / t["seconds"] for t in turns]
    out = {
        "batch": first["batch"],
        "dtype": first["dtype"],
        "flops_per_step": first["flops_per_step"],
        "ms_per_step": median_and_range(1000 * t["seconds"] / t["steps"] for t in turns),
        "sentences_per_s": median_and_range(t["batch"] * t["steps"] / t["seconds"] for t in turns),
        "flops_per_s": median_and_range(rates),
        "matmul_flops_per_s": median_and_range(t["matmul_flops_per_s"] for t in turns),
        "share_of_matmul": median_and_range(rate / t["matmul_flops_per_s"] for rate, t in zip(rates, turns)),
        "peak_bytes": max((t["peak_bytes"] for t in turns if t["peak_bytes"]), default=None),
        "turns": turns,
    }
    if "split_ms" in first:
        out["split_ms"] = {part: statistics.median(t["split_ms"][part] for t in turns) for part in PARTS}
    return out


def crossings(curve: list[dict]) -> dict[str, float | None]:
    """{goal: seconds of training when it was first reached, or None}."""
    return {f"{100 * g:g} %": next((p["seconds"] for p in curve if p["exact_match"] >= g), None) for g in GOALS}


def against_plain(speed: dict[str, dict]) -> dict[str, dict]:
    """{name: median and range of sentences/s over those of the plain implementation in the same round of turns}."""
    ratios = {}
    for name, ours in speed.items():
        plain = speed.get(PLAIN + name, {})
        if "turns" in plain and "turns" in ours:
            seconds = ([t["seconds"] / t["steps"] for t in entry["turns"]] for entry in (ours, plain))
            ratios[name] = median_and_range(b / a for a, b in zip(*seconds))
    return ratios


# ---------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------


def describe_device(options: argparse.Namespace) -> dict:
    """The device and its load. Raises UserError for one that is not available."""
    device = choose_device(options.device)
    set_threads(options.threads)
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as f:
        name = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    threads = torch.get_num_threads()
    return {"device": device.type, "name": name, "threads": threads, "torch": torch.__version__, "load": load}


def aligned_table(head: list[str], rows: list[list]) -> list[str]:
    """Lines of a Markdown table whose columns are aligned in a terminal, too."""
    rows = [head, *([str(cell) for cell in row] for row in rows)]
    width = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, ["-" * width[0], *("-" * (w - 1) + ":" for w in width[1:])])
    return ["| " + " | ".join([r[0].ljust(width[0]), *map(str.rjust, r[1:], width[1:])]) + " |" for r in rows]


def format_range(value: dict[str, float], scale: float = 1.0, digits: int = 1) -> str:
    """A median and range as "median (low–high)"."""
    median, low, high = (f"{scale * value[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def speed_tables(speed: dict[str, dict]) -> list[str]:
    """Speeds, and the time of each part of a step, as lines."""
    rows, splits, skipped = [], [], []
    for name, e in speed.items():
        if "skipped" in e:
            rows.append([name, *["–"] * (len(COLUMNS) - 1)])
            skipped.append(f"{name}: skipped: {e['skipped']}")
            continue
        rows.append(
            [
                name,
                e["batch"],
                e["dtype"],
                format_range(e["ms_per_step"]),
                format_range(e["sentences_per_s"]),
                f"{e['flops_per_step'] / 1e9:.1f}",
                f"{e['matmul_flops_per_s']['median'] / 1e9:.0f}",
                format_range(e["share_of_matmul"], 100, 0),
                f"{e['peak_bytes'] / 1e6:.0f}" if e["peak_bytes"] else "–",
            ]
        )
        if "split_ms" in e:
            splits.append([name, *(f"{ms:.1f}" for ms in e["split_ms"].values())])
    lines = [*aligned_table(COLUMNS, rows), "", "median (lowest–highest) of the turns", *skipped]
    return lines + (["", *aligned_table(["ms in", *PARTS], splits)] if splits else [])


def comparison(now: dict, then: dict) -> list[str]:
    """Ratios to an earlier result, as lines; "clear" if the ranges of the two do not overlap."""
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
    head = ["now / then", "sentences/s", "clear", "% of matmul", "peak memory"]
    lines = aligned_table(head, rows) if rows else ["nothing to compare: no common configuration"]
    device = then["device"]
    other = [
        f"{k} {device.get(k)} then, {v} now" for k, v in now["device"].items() if k != "load" and device.get(k) != v
    ]
    return lines + ([f"measured elsewhere: {'; '.join(other)}"] if other else [])


def load_result(path: str) -> dict:
    """A file of --json. Raises ValueError."""
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


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The options; `configurations` becomes the list of names to measure."""
    parser = Parser("benchmark.py", __doc__)
    add, names = parser.add_argument, ", ".join(CONFIGURATIONS)
    text = f"of {names} (default: all but {', '.join(NOT_STANDARD)}); none if no name follows"
    add("--configurations", nargs="*", metavar="NAME", help=text)
    text = f"also time benchmarking/plain.py, in turn with {', '.join(WITH_PLAIN)}"
    add("--against_plain", action="store_true", help=text)
    text = "train it to 99 %% exact match (default: quick)"
    add("--to_quality", nargs="?", const="quick", choices=["quick", "full", "tiny"], help=text)
    add("--seconds", type=number(float, above=0), default=20.0, help="time for each configuration (default: 20)")
    add("--repeats", type=number(int, 1), default=5, help="turns that the time is divided into (default: 5)")
    add("--use_amp", action=argparse.BooleanOptionalAction, help="for all configurations (default: as each has it)")
    add("--compile", action="store_true", help="train with --compile")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    add("--threads", type=number(int, 0), default=0, help="CPU threads; 0 takes what the machine has (default: 0)")
    add("--seed", type=number(int, 0), default=0, help="seed of weights, sentences and noise (default: 0)")
    add("--json", type=path_name, metavar="FILE", help="write the results to this file")
    add("--compare", type=path_name, metavar="FILE", help="print ratios to results that --json wrote earlier")
    options = parser.parse_args(argv)
    standard = [name for name in CONFIGURATIONS if name not in NOT_STANDARD]
    chosen = list(dict.fromkeys(standard if options.configurations is None else options.configurations))
    if unknown := [name for name in chosen if name not in CONFIGURATIONS]:
        parser.error(f"--configurations {unknown[0]} is none of {names}")
    if options.json and not os.path.isdir(os.path.dirname(os.path.abspath(options.json))):
        parser.error(f"--json {options.json}: its folder does not exist")
    if options.against_plain:
        chosen = chosen if set(chosen) & set(WITH_PLAIN) else [*chosen, *WITH_PLAIN[:2]]
        chosen = [n for name in chosen for n in ([name, PLAIN + name] if name in WITH_PLAIN else [name])]
    options.configurations = chosen
    return options


def run_benchmark(options: argparse.Namespace, result: dict) -> None:
    """Measure all that was asked for, into `result`, and print it section by section. Raises Skipped, OSError."""

    def task(name: str, to_quality: bool = False) -> Task:
        o = options
        return Task(name, to_quality, o.seconds / o.repeats, o.device, o.threads, o.seed, o.use_amp, o.compile)

    def keep(section: str, content: dict, lines: list[str]) -> None:
        result[section] = content
        print("\n".join(["", *lines]), flush=True)
        if options.json:
            write_atomically(options.json, (json.dumps(result, indent=1) + "\n").encode())

    speed = take_turns([task(name) for name in options.configurations], options.repeats)
    if speed:
        keep("speed", speed, speed_tables(speed))
    if options.against_plain:
        ratios = against_plain(speed)
        lines = [
            f"{name}: {format_range(r)} times the sentences/s of the plain implementation" for name, r in ratios.items()
        ]
        keep("against_plain", ratios, lines)
    if options.to_quality:
        curve = measure(task(options.to_quality, to_quality=True))["curve"]
        reached = crossings(curve)
        lines = [f"{options.to_quality}: seconds of training until unseen sentences ({QUALITY_SENTENCES}) come back"]
        for goal, seconds in reached.items():
            lines.append(f"{goal} exact match: {'not within the run' if seconds is None else f'{seconds:.1f} s'}")
        keep("to_quality", {"configuration": options.to_quality, "seconds": reached, "curve": curve}, lines)


def benchmark(options: argparse.Namespace) -> int:
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


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    options = parse_arguments(argv)
    return exit_code("benchmark.py", lambda: benchmark(options), "name smaller --configurations")


if __name__ == "__main__":
    sys.exit(main())
