"""How much faster several processes train: python -m scripts.processes --processes 2

One process and several take turns at the same batches, one CPU thread each (or one GPU each), and the ratio of
their sentences/s is printed as median (lowest-highest) of the rounds. Compare only on a machine that does nothing else.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time

from runtime import quiet_threads  # noqa: F401  # isort: skip  (before torch is loaded)
from benchmarking.measure import CONFIGURATIONS, wait
from data_utils import GrammarData
from runtime.command_line import Parser, UserError, exit_code, number
from runtime.devices import set_threads
from runtime.signals import StopWhenSafe
from training.distributed import join
from training.trainer import Trainer


def one_process(options):
    """Train for a while as a process of a group; rank 0 prints the sentences/s of all together."""
    group = join(StopWhenSafe())
    device = group.device(options.device)
    group.connect(device)
    set_threads(options.threads)
    settings = dataclasses.replace(
        CONFIGURATIONS[options.configuration], batch_size=options.batch_size, num_samples=10**7
    )
    trainer = Trainer(settings, GrammarData(settings.num_samples, 0), device, group)
    for _ in range(3):  # the first steps allocate
        trainer.train_step()
    wait(device)
    begin, steps, goes_on = time.perf_counter(), 0, True
    while goes_on:
        trainer.train_step()
        steps += 1
        late = group.is_rank_0 and time.perf_counter() - begin > options.seconds
        goes_on = not group.maximum(int(late))[0]
    wait(device)
    if group.is_rank_0:
        print(steps * options.batch_size / (time.perf_counter() - begin))
    group.leave()
    return 0


def sentences_per_s(size, arguments):
    """Start `size` processes -> sentences/s. Raises UserError with their first error."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={size}",
        "--module",
        "scripts.processes",
        *arguments,
    ]
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    env = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
    done = subprocess.run([*command, "--as_one"], capture_output=True, encoding="utf-8", errors="replace", env=env)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("scripts/processes.py: ")]
        if not said:
            raise RuntimeError(done.stderr)
        raise UserError(said[0].partition(": ")[2])
    return float(done.stdout.split()[-1])


def parse_arguments(argv):
    parser = Parser("scripts/processes.py", __doc__)
    parser.add_argument("--processes", type=number(int, 1, 64), default=2)
    parser.add_argument("--configuration", choices=sorted(CONFIGURATIONS), default="quick")
    parser.add_argument("--batch_size", type=number(int, 1), default=64, help="of all processes together")
    parser.add_argument("--seconds", type=number(float, above=0), default=20.0, help="of each turn")
    parser.add_argument("--rounds", type=number(int, 1), default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=number(int, 1, 1024), default=1, help="of each process")
    parser.add_argument("--as_one", action="store_true", help=argparse.SUPPRESS)  # a process that torchrun started
    return parser.parse_args(argv)


def compare(options):
    """Rounds of one process and several, printed. Returns the exit code. Raises UserError."""
    ratios, load = [], os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{options.configuration}, batch {options.batch_size}; load before {load:.2f}", flush=True)
    for _ in range(options.rounds):
        one, many = (sentences_per_s(size, sys.argv[1:]) for size in (1, options.processes))
        ratios.append(many / one)
        print(
            f"1 process {one:.1f}, {options.processes} processes {many:.1f} sentences/s: {many / one:.2f} times",
            flush=True,
        )
    print(f"speed-up: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    return 0


def main(argv=None):
    options = parse_arguments(argv)
    action = one_process if options.as_one else compare
    return exit_code(
        "scripts/processes.py", lambda: action(options), "make --batch_size smaller or take another --configuration"
    )


if __name__ == "__main__":
    sys.exit(main())
