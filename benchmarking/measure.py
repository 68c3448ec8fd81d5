"""Measure one configuration, in a process of its own: python -m benchmarking.measure JSON

JSON holds the fields of `Task`. The last line of standard output is the result, in JSON; {"skipped": why} if the
configuration cannot be measured here. Times are in seconds of `time.perf_counter`, memory is in bytes, work in FLOPs (2
for a multiplication and an addition).
"""

from __future__ import annotations

from runtime import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import contextlib
import dataclasses
import json
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarking.plain import PlainTrainer
from data_utils import GrammarData
from metrics import exact_match
from pictures import draw_sentences, read_pictures
from runtime.command_line import UserError, is_out_of_memory
from runtime.devices import choose_device, set_threads
from settings import PRESETS, Settings, resolve
from text.grammar import sample_sentences
from text.vocabulary import SPECIALS, Vocabulary
from training.trainer import Trainer

RECOMMENDED = dict(d_model=512, n_layers=6, hidden_dim=256, z_dim=128, use_vae=True, use_amp=True)
TINY = dict(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, use_vae=True, epochs=1, num_samples=1280)
VOCABULARIES = {"words_54": 54, "words_10000": 10_000}  # configurations that show the cost of a large vocabulary
CAPTIONS = dict(captions_file="captions.txt", tokenizer="words", n_cells=16, z_dim=192)
CONFIGURATIONS = {
    **{name: Settings(**preset) for name, preset in PRESETS.items()},
    **{f"recommended_{b}": Settings(**RECOMMENDED, batch_size=b, num_samples=1000 * b) for b in (8, 64, 512)},
    "tiny": Settings(**TINY, batch_size=32),  # for a quick check that everything works
    **{name: dataclasses.replace(resolve(CAPTIONS, "quick"), captions_file="") for name in VOCABULARIES},
}
PLAIN = "plain: "  # before a configuration's name: the plain implementation with its sizes
PARTS = ("data", "language model", "scene decoder", "channel", "captioner", "losses", "backward", "optimizer")
GOALS = (0.5, 0.9, 0.95, 0.99)
QUALITY_SEED, QUALITY_SENTENCES, QUALITY_STEPS = 3003, 200, 20  # exact match is measured every QUALITY_STEPS steps


class Skipped(UserError):
    """A configuration that cannot be measured here; the message gives the reason."""


@dataclass
class Task:
    """What to measure of which configuration."""

    name: str  # of CONFIGURATIONS, or PLAIN and such a name
    to_quality: bool  # train to GOALS[-1] instead of timing steps
    seconds: float  # of a turn
    device: str
    threads: int
    seed: int
    use_amp: bool | None  # None: as the configuration has it
    compile: bool


# ---------------------------------------------------------------------------------------------
# Instruments
# ---------------------------------------------------------------------------------------------


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work. The GPU is named: it need not be the current one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()  # there is only one


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """FLOP/s of a large square matrix product, the most that this device gives at this moment."""
    side, block = (8192, 10) if device.type == "cuda" else (2048, 1)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    a @ b
    wait(device)
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        for _ in range(block):
            a @ b
        wait(device)
        calls += block
    return calls * 2 * side**3 / (time.perf_counter() - begin)


def _recurrent(factor: int) -> Callable:
    def flops(rows, weights, *more, **_):
        matrices = weights if isinstance(weights, list) else [weights, more[0]]
        return factor * 2 * math.prod(rows[:-1]) * sum(math.prod(m) for m in matrices if len(m) == 2)

    return flops


# To the counter, an LSTM of cuDNN or oneDNN is one unknown operation.
RECURRENT = {
    getattr(torch.ops.aten, name + suffix): _recurrent(factor)
    for name in ("_cudnn_rnn", "mkldnn_rnn_layer")
    for suffix, factor in (("", 1), ("_backward", 2))
}


def count_flops(step: Callable[[], object]) -> int:
    """FLOPs of the matrix products, convolutions and LSTMs of a call, forward and backward; the rest is not counted."""
    with FlopCounterMode(display=False, custom_mapping=RECURRENT) as counter:
        step()
    return counter.get_total_flops()


def peak_memory(device: torch.device) -> int | None:
    """Bytes of the GPU's memory, or of this process without a GPU; None where the system does not report them."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Laps:
    """Splits the steps of a trainer into PARTS by hooks at the borders of its networks.

    On a GPU the borders are events in its queue, so that nothing waits; elsewhere times of the clock.
    """

    def __init__(self, trainer: Trainer):
        self.device, self.cuda = trainer.device, trainer.device.type == "cuda"
        self.marks = []  # (part, when it ended)
        cycle, scaler = trainer.cycle, trainer.optimizer.scaler
        cycle.language_model.register_forward_pre_hook(lambda *_: self.mark("data"))
        cycle.language_model.register_forward_hook(lambda *_: self.mark("language model"))
        cycle.scene_decoder.register_forward_hook(lambda *_: self.mark("scene decoder"))
        cycle.caption_network.register_forward_pre_hook(lambda *_: self.mark("channel"))
        cycle.caption_network.register_forward_hook(lambda *_: self.mark("captioner"))
        scaler.scale = self.marking("losses", scaler.scale)  # called between the losses and the backward pass
        scaler.unscale_ = self.marking("backward", scaler.unscale_)

    def marking(self, part: str, function: Callable) -> Callable:
        """The function, which marks the end of a part when it is called."""

        def call(*arguments):
            self.mark(part)
            return function(*arguments)

        return call

    def mark(self, part: str | None) -> None:
        """The part ends now; None: what ran since the last mark belongs to no part."""
        now = torch.cuda.Event(enable_timing=True) if self.cuda else time.perf_counter()
        if self.cuda:
            now.record(torch.cuda.current_stream(self.device))
        self.marks.append((part, now))

    def seconds(self) -> dict[str, float]:
        """The seconds of each part; the device must have finished."""
        seconds = dict.fromkeys(PARTS, 0.0)
        for (_, before), (part, now) in zip(self.marks, self.marks[1:]):
            if part is not None:
                seconds[part] += before.elapsed_time(now) / 1000 if self.cuda else now - before
        return seconds


class ZipfData:
    """Sentences of 14 made-up words; the n-th word is as common as 1 / n (Zipf's law), as in natural language."""

    max_tokens = 14

    def __init__(self, n_words: int, settings: Settings):
        self.vocab = Vocabulary.of(f"word{i}" for i in range(n_words))
        self.num_samples, self.seed = settings.num_samples, settings.seed
        self.share = 1 / np.arange(1, n_words + 1)
        self.share /= self.share.sum()

    def batch(self, epoch: int, number: int, size: int) -> torch.Tensor:
        """The token ids (size, 14) of a batch."""
        rng = np.random.default_rng([self.seed, epoch, number])
        return torch.from_numpy(rng.choice(len(self.share), (size, self.max_tokens), p=self.share)) + len(SPECIALS)


# ---------------------------------------------------------------------------------------------
# A configuration
# ---------------------------------------------------------------------------------------------


def build(task: Task, device: torch.device) -> Trainer | PlainTrainer:
    """The trainer of a configuration. Raises Skipped."""
    name = task.name.removeprefix(PLAIN)
    settings = dataclasses.replace(CONFIGURATIONS[name], seed=task.seed)
    if task.use_amp is not None:
        settings.use_amp = task.use_amp
    if task.name.startswith(PLAIN):
        return PlainTrainer(settings, device)
    is_grammar = name not in VOCABULARIES
    data = GrammarData(settings.num_samples, task.seed) if is_grammar else ZipfData(VOCABULARIES[name], settings)
    trainer = Trainer(settings, data, device)
    if task.compile and (why := trainer.compile()):
        raise Skipped(f"cannot be compiled here ({why})")
    return trainer


def measure_turn(task: Task, device: torch.device) -> dict:
    """Time steps for a while. Raises Skipped."""
    trainer = build(task, device)
    for _ in range(2):  # the first step allocates and chooses kernels
        begin = time.perf_counter()
        trainer.train_step()
        wait(device)
        seconds = time.perf_counter() - begin
    if seconds > task.seconds:
        raise Skipped(f"one step takes {seconds:.2g} s, more than a turn of {task.seconds:.2g} s; give more --seconds")
    batch = trainer.settings.batch_size
    counted = max(1, 64 // batch)  # short batches differ in length
    flops = count_flops(lambda: [trainer.train_step() for _ in range(counted)]) / counted
    dtype = trainer.precision.dtype or torch.float32
    laps = None if task.name.startswith(PLAIN) or device.type == "mps" else Laps(trainer)
    rate = matmul_rate(device, dtype, min(0.3, task.seconds))
    begin, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - begin < task.seconds:
        if laps:
            laps.mark(None)
        trainer.train_step()
        if laps:
            laps.mark("optimizer")
        steps += 1
    wait(device)
    out = {
        "batch": batch,
        "dtype": str(dtype).removeprefix("torch."),
        "flops_per_step": flops,
        "steps": steps,
        "seconds": time.perf_counter() - begin,
        "matmul_flops_per_s": rate,
        "peak_bytes": peak_memory(device),
    }
    if laps:
        out["split_ms"] = {part: 1000 * seconds / steps for part, seconds in laps.seconds().items()}
    return out


def measure_quality(task: Task, device: torch.device) -> dict:
    """Train until the last of GOALS -> {"curve": [{"step", "seconds" of training, "exact_match" on `val`}]}."""
    trainer, unseen = build(task, device), sample_sentences(QUALITY_SENTENCES, "val", QUALITY_SEED)
    curve, seconds = [], 0.0
    while trainer.step < trainer.total and not (curve and curve[-1]["exact_match"] >= GOALS[-1]):
        begin = time.perf_counter()
        for _ in range(min(QUALITY_STEPS, trainer.total - trainer.step)):
            trainer.train_step()
        wait(device)
        seconds += time.perf_counter() - begin
        pictures = draw_sentences(trainer.cycle, trainer.data.vocab, unseen, device)
        match = exact_match(unseen, read_pictures(trainer.cycle, trainer.data.vocab, pictures, device)[0])
        curve.append({"step": trainer.step, "seconds": seconds, "exact_match": match})
        line = f"step {trainer.step}/{trainer.total}: {100 * match:.1f} % after {seconds:.1f} s"
        print(line, file=sys.stderr, flush=True)
    return {"curve": curve}


def main(argv: list[str] | None = None) -> None:
    """Measure, and print the result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C, benchmark.py ends this process
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="utf-8") as f:
        f.write("1000")  # if memory runs out, the system ends this process and no other of the user
    task = Task(**json.loads((argv or sys.argv[1:])[0]))
    set_threads(task.threads)
    try:
        result = (measure_quality if task.to_quality else measure_turn)(task, choose_device(task.device))
    except Exception as error:
        if not (isinstance(error, Skipped) or is_out_of_memory(error)):
            raise
        result = {"skipped": str(error) if isinstance(error, Skipped) else "does not fit into memory"}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
