"""What `benchmark.py` measures: configurations, each in a process of its own, which take turns.

Seconds are of `time.perf_counter`, memory is in bytes, work in FLOPs (2 for a multiplication and an addition).
"""

from runtime import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import contextlib
import dataclasses
import math
import multiprocessing
import signal
import statistics
import sys
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from data_utils import GrammarData
from metrics import exact_match
from pictures import draw_sentences, read_pictures
from runtime.command_line import UserError, is_out_of_memory
from runtime.devices import choose_device, set_threads
from settings import FREE_TEXT, FREE_TEXT_MARKS, FREE_TEXT_PRESETS, PRESETS, Settings
from text.grammar import sample_sentences
from text.vocabulary import SPECIALS, Vocabulary
from training.trainer import Trainer

RECOMMENDED = dict(d_model=512, n_layers=6, hidden_dim=256, z_dim=128, use_vae=True, use_amp=True)
TINY = dict(
    d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, use_vae=True, epochs=1, num_samples=1280, batch_size=32
)
VOCABULARIES = {"words_54": 54, "words_10000": 10_000}  # configurations that show what the size of a vocabulary costs
IN_LINE = FREE_TEXT | FREE_TEXT_MARKS | dict(tokenizer="words", n_cells=16, z_dim=192)
CONFIGURATIONS = {
    **{name: Settings(**preset) for name, preset in PRESETS.items()},
    **{f"recommended_{b}": Settings(**RECOMMENDED, batch_size=b, num_samples=1000 * b) for b in (8, 64, 512)},
    "tiny": Settings(**TINY),  # shows in seconds whether everything works
    **{name: Settings(**PRESETS["quick"] | FREE_TEXT_PRESETS["quick"] | IN_LINE) for name in VOCABULARIES},
}
UNNAMED = ("tiny", *VOCABULARIES)  # not measured unless named
# With ": " and a configuration's name: the plain implementations at its sizes. The first is the one that counts.
COMPETENT, FIRST = PLAIN = ("plain, by a competent person", "plain, as first written")
PARTS = ("data", "language model", "scene decoder", "channel", "captioner", "losses", "backward", "optimizer")
GOALS = (0.5, 0.9, 0.95, 0.99)
QUALITY_SEED, QUALITY_SENTENCES, QUALITY_STEPS = 3003, 200, 20  # exact match is taken every so many steps


class Skipped(UserError):
    """A configuration that could not be measured here; the message says why."""


# ---------------------------------------------------------------------------------------------
# What is measured, inside a configuration's own process
# ---------------------------------------------------------------------------------------------


def wait(device):
    """Until the device has done what it was given. A GPU is named: the current one need not be the one that computes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()  # there is only one


def matmul_rate(device, dtype, seconds=0.3):
    """FLOP/s of a large square matrix product, the most that this device gives at this moment."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    a @ b
    wait(device)
    begin, calls, block = time.perf_counter(), 0, 10 if device.type == "cuda" else 1
    while time.perf_counter() - begin < seconds:
        for _ in range(block):
            a @ b
        wait(device)
        calls += block
    return calls * 2 * side**3 / (time.perf_counter() - begin)


def _recurrent(factor):
    def flops(rows, weights, *more, **_):
        matrices = weights if isinstance(weights, list) else [weights, more[0]]
        return factor * 2 * math.prod(rows[:-1]) * sum(math.prod(m) for m in matrices if len(m) == 2)

    return flops


# The counter sees an LSTM of cuDNN or oneDNN as one unknown operation.
RECURRENT = {
    getattr(torch.ops.aten, name + suffix): _recurrent(factor)
    for name in ("_cudnn_rnn", "mkldnn_rnn_layer")
    for suffix, factor in (("", 1), ("_backward", 2))
}


def count_flops(step):
    """FLOPs of the matrix products, convolutions and LSTMs of a call, forward and backward; the rest is not counted."""
    with FlopCounterMode(display=False, custom_mapping=RECURRENT) as counter:
        step()
    return counter.get_total_flops()


class Laps:
    """Splits the steps of a trainer at the borders of its networks, without a change to the step.

    On a GPU the borders are events in its queue, so that nothing waits; elsewhere moments of the clock.
    """

    def __init__(self, trainer):
        self.device, self.cuda = trainer.device, trainer.device.type == "cuda"
        self.glyphs = []  # (part, moment at which it ended)
        cycle, scaler = trainer.cycle, trainer.optimizer.scaler
        cycle.language_model.register_forward_pre_hook(lambda *_: self.mark("data"))
        cycle.language_model.register_forward_hook(lambda *_: self.mark("language model"))
        cycle.scene_decoder.register_forward_hook(lambda *_: self.mark("scene decoder"))
        cycle.caption_network.register_forward_pre_hook(lambda *_: self.mark("channel"))
        cycle.caption_network.register_forward_hook(lambda *_: self.mark("captioner"))
        scaler.scale = self.before("losses", scaler.scale)  # called between the losses and the backward pass
        scaler.unscale_ = self.before("backward", scaler.unscale_)

    def before(self, name, function):
        def call(*arguments):
            self.mark(name)
            return function(*arguments)

        return call

    def mark(self, name):
        """What ran since the last mark was `name`."""
        now = torch.cuda.Event(enable_timing=True) if self.cuda else time.perf_counter()
        if self.cuda:
            now.record(torch.cuda.current_stream(self.device))
        self.glyphs.append((name, now))

    def take(self):
        """{part: seconds} since the last call; the device must have finished."""
        seconds = dict.fromkeys(PARTS, 0.0)
        for (_, before), (name, now) in zip(self.glyphs, self.glyphs[1:]):
            if name is not None:
                seconds[name] += before.elapsed_time(now) / 1000 if self.cuda else now - before
        self.glyphs = []
        return seconds


class ZipfData:
    """Sentences of 14 made-up words: word number n is as common as 1 / n (Zipf's law), as in the text of a language."""

    max_words = 14

    def __init__(self, n_words, settings):
        self.vocab = Vocabulary.of(f"word{i}" for i in range(n_words))
        self.num_samples, self.seed = settings.num_samples, settings.seed
        self.share = 1 / np.arange(1, n_words + 1)
        self.share /= self.share.sum()

    def batch(self, epoch, number, size):
        """Word numbers (size, 14) of a batch."""
        rng = np.random.default_rng([self.seed, epoch, number])
        return torch.from_numpy(rng.choice(len(self.share), (size, self.max_words), p=self.share)) + len(SPECIALS)


class Measured:
    """A configuration at work. Its public methods are what the main process can ask for."""

    def __init__(self, name, options):
        self.options, (self.plain, _, self.name) = options, name.rpartition(": ")
        self.settings = dataclasses.replace(CONFIGURATIONS[self.name], seed=options.seed)
        if options.use_amp is not None:
            self.settings.use_amp = options.use_amp
        self.device = choose_device(options.device)
        set_threads(options.threads)

    def build(self):
        """The trainer. Nothing is timed or hooked yet."""
        if self.plain:
            from benchmarking.plain import CompetentTrainer, FirstTrainer

            return {COMPETENT: CompetentTrainer, FIRST: FirstTrainer}[self.plain](self.settings, self.device)
        trainer = Trainer(self.settings, self.data(), self.device)
        if self.options.compile and (why := trainer.compile()):
            raise Skipped(f"cannot be compiled here ({why})")
        return trainer

    def data(self):
        """What the configuration trains on."""
        if self.name in VOCABULARIES:
            return ZipfData(VOCABULARIES[self.name], self.settings)
        return GrammarData(self.settings.num_samples, self.settings.seed)

    def start(self):
        """Warm up and count; returns what does not change from turn to turn. Raises Skipped."""
        s, before = self.settings, self.peak_memory()
        self.trainer = self.build()
        for _ in range(2):  # the first step allocates and chooses kernels
            begin = time.perf_counter()
            self.trainer.train_step()
            wait(self.device)
            seconds = time.perf_counter() - begin
        if seconds > self.options.seconds:
            raise Skipped(f"one step takes {seconds:.2g} s, more than --seconds {self.options.seconds:g}")
        steps = max(1, 64 // s.batch_size)  # short batches differ in length
        flops = count_flops(lambda: [self.trainer.train_step() for _ in range(steps)]) / steps
        self.dtype = self.trainer.dtype or torch.float32
        self.laps = None if self.plain or self.device.type == "mps" else Laps(self.trainer)
        return {
            "batch": s.batch_size,
            "dtype": str(self.dtype).removeprefix("torch."),
            "flops_per_step": flops,
            "start_bytes": before,
        }

    def turn(self):
        """Steps for a share of the time -> their number, their seconds, and the matmul rate beside them."""
        rate = matmul_rate(self.device, self.dtype, min(0.3, self.options.seconds / self.options.repeats))
        wait(self.device)
        begin, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - begin < self.options.seconds / self.options.repeats:
            if self.laps:
                self.laps.mark(None)
            self.trainer.train_step()
            if self.laps:
                self.laps.mark("optimizer")
            steps += 1
        wait(self.device)
        out = {
            "steps": steps,
            "seconds": time.perf_counter() - begin,
            "matmul_flops_per_s": rate,
            "peak_bytes": self.peak_memory(),
        }
        if self.laps:
            out["split_ms"] = {name: 1000 * seconds / steps for name, seconds in self.laps.take().items()}
        return out

    def peak_memory(self):
        """Bytes: of the GPU's memory where there is one, else of this process; None where nobody tells."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        try:
            import resource
        except ImportError:  # Windows
            return None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def quality(self):
        """Train from the start -> [{"step", "seconds" of training, "exact_match" on unseen sentences}], until the last goal."""
        trainer, unseen = self.build(), sample_sentences(QUALITY_SENTENCES, "val", QUALITY_SEED)
        curve, seconds = [], 0.0
        while trainer.step < trainer.total and not (curve and curve[-1]["exact_match"] >= GOALS[-1]):
            begin = time.perf_counter()
            for _ in range(min(QUALITY_STEPS, trainer.total - trainer.step)):
                trainer.train_step()
            wait(self.device)
            seconds += time.perf_counter() - begin
            pictures = draw_sentences(trainer.cycle, trainer.data.vocab, unseen, self.device)
            match = exact_match(unseen, read_pictures(trainer.cycle, trainer.data.vocab, pictures, self.device)[0])
            curve.append({"step": trainer.step, "seconds": seconds, "exact_match": match})
            print(
                f"step {trainer.step}/{trainer.total}: {100 * match:.1f} % after {seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )
        return curve


def serve(pipe, name, options):
    """A configuration's process: answers until the main process closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="utf-8") as f:
        f.write("1000")  # should memory run out, this process goes, and nothing else of the user's
    measured = Measured(name, options)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            action = pipe.recv()
            try:
                answer = getattr(measured, action)()
            except Exception as error:
                if isinstance(error, Skipped):
                    answer = error
                elif is_out_of_memory(error):
                    answer = Skipped("does not fit into memory")
                else:
                    raise
            pipe.send(answer)


# ---------------------------------------------------------------------------------------------
# Taking turns
# ---------------------------------------------------------------------------------------------


class Worker:
    """The main process's side of a configuration's process."""

    def __init__(self, name, options):
        context = multiprocessing.get_context("spawn")
        self.name, self.busy = name, False
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, name, options))
        self.process.start()
        theirs.close()

    def ask(self, action):
        """The answer of one of Measured's methods. Raises Skipped."""
        try:
            self.busy = True
            self.pipe.send(action)
            answer = self.pipe.recv()
            self.busy = False
        except (EOFError, OSError):
            self.process.join(10)
            code = self.process.exitcode
            why = f"signal {-code}; most likely memory ran out" if code and code < 0 else f"exit code {code}"
            raise Skipped(f"its process ended ({why})") from None
        if isinstance(answer, Skipped):
            raise answer
        return answer

    def close(self):
        """End the process: at once in the middle of a task, else in peace, which ends a data loader's workers too."""
        self.pipe.close()
        self.process.join(0 if self.busy else 20)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


def take_turns(workers, repeats):
    """Ask each worker to start, then all of them in turn, `repeats` times -> {name: what was measured or {"skipped": why}}."""
    started, turns, skipped = {}, {w.name: [] for w in workers}, {}
    for number in range(-1, repeats):
        for worker in workers:
            if worker.name in skipped:
                continue
            try:
                if number < 0:
                    started[worker.name] = worker.ask("start")
                else:
                    turns[worker.name].append(worker.ask("turn"))
            except Skipped as error:
                skipped[worker.name] = {"skipped": str(error)}
                worker.close()  # gives its memory back
                print(f"{worker.name}: skipped: {error}", file=sys.stderr, flush=True)
    return {w.name: skipped.get(w.name) or combined(started[w.name], turns[w.name]) for w in workers}


def median_and_range(values):
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def combined(started, turns):
    """What the turns of a configuration say together."""
    flops_per_s = [started["flops_per_step"] * t["steps"] / t["seconds"] for t in turns]
    out = {
        **started,
        "ms_per_step": median_and_range([1000 * t["seconds"] / t["steps"] for t in turns]),
        "sentences_per_s": median_and_range([started["batch"] * t["steps"] / t["seconds"] for t in turns]),
        "flops_per_s": median_and_range(flops_per_s),
        "matmul_flops_per_s": median_and_range([t["matmul_flops_per_s"] for t in turns]),
        "share_of_matmul": median_and_range([f / t["matmul_flops_per_s"] for f, t in zip(flops_per_s, turns)]),
        "peak_bytes": turns[-1]["peak_bytes"],
        "turns": turns,
    }
    if "split_ms" in turns[0]:
        out["split_ms"] = {part: statistics.median(t["split_ms"][part] for t in turns) for part in PARTS}
    return out
