"""Train the circle: text -> scene -> text, with no picture ever given.

    python train.py --preset quick                          some minutes on two CPU cores
    python train.py --preset full                           one GPU
    python train.py --epochs 50 --batch_size 8 --use_vae
    python train.py --captions_file my_sentences.txt --preset quick
    python train.py --resume auto                           go on where a run was interrupted
"""

import argparse
import dataclasses
import json
import math
import os
import signal
import sys
import tempfile
import time

import numpy as np
import torch
from tqdm import tqdm

import losses
from channel import transmit
from checkpoints import CheckpointError, RunLock, load, model_state, newest_valid, prune, remove_leftovers, save, settings_of, write_atomically
from data_utils import PAD, CaptionsData, CaptionsFileError, GrammarData, Vocabulary, sample_sentences
from devices import amp_dtype, choose_device, set_threads
from metrics import exact_match, word_accuracy
from models import Circle
from roundtrip import draw_sentences, read_pictures, through_png
from settings import FIXED_ON_RESUME, PRESETS, add_arguments, check, resolve
from visualization import round_trips, scene_sheet, training_curves

VALIDATION_SEED, FINAL_SEED = 1001, 2002  # seeds of unseen sentences, told apart from the run's own
BAD_STEPS_IN_A_ROW = 20
SEVERITY_RATE, COPES = 0.004, 0.3  # the channel hardens by this per step while the reader's loss (nats) is below


class UserError(Exception):
    """Something that the user can mend, said in one line."""


class Interrupted(Exception):
    """A signal asked the run to stop; its number is the argument."""


class Signals:
    """Remembers Ctrl-C and SIGTERM until a safe moment; a second one ends the process at once."""

    def __init__(self):
        self.number = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number, _frame):
        if self.number:
            os._exit(128 + number)
        self.number = number

    def check(self):
        if self.number:
            raise Interrupted(self.number)


# ---------------------------------------------------------------------------------------------
# One step
# ---------------------------------------------------------------------------------------------


def circle_losses(circle, settings, ids, severity, rng, host_rng, dtype):
    """One batch around the circle: word numbers (B, T) -> dict of unweighted losses, each a 0-dim tensor."""
    s, vocab_size = settings, circle.language_model.embedding.num_embeddings
    with torch.autocast(ids.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        text = circle.language_model(ids, rng)
        scene = circle.scene_decoder(text, ids != PAD, rng)
        layered = scene.masks is not None
        if s.channel:
            arrived = transmit(scene, severity, rng, host_rng, circle.scene_decoder.compose if layered else None)
        else:
            arrived = transmit(scene, severity, rng, host_rng, wear=("none",))
        caption, direct, seen = circle.caption_network(arrived, ids, s.word_dropout, rng)

    targets = losses.targets_of(ids)
    distance = losses.word_distance(ids, vocab_size)
    out = {
        "caption": losses.word_loss(caption, targets),
        "direct": losses.word_loss(direct, targets),
        "language": losses.word_loss(text.logits, targets),
        "consistency": losses.consistency_loss(seen, text.sentence),
        "kl": losses.kl_loss(scene.kl) if s.use_vae else scene.kl.sum() * 0,
        "spatial": losses.spatial_loss(scene.picture),
        "diversity": losses.diversity_loss(scene.picture, distance),
        "perceptual": losses.perceptual_loss(scene.picture, distance),
    }
    if layered:
        word, weight = losses.shown_words(scene.attention, scene.presence, ids)
        out["layout"] = losses.layout_loss(scene.attention, ids, vocab_size)
        out["color"] = losses.color_loss(scene.colors.flatten(0, 1), word, weight, scene.ground, vocab_size)
        out["perceptual"] = out["perceptual"] + losses.shape_loss(scene.masks.flatten(0, 1), word, weight, vocab_size)
    else:  # a picture's mean colour stands for each of its words
        words = ids.flatten()
        mean = scene.picture.float().mean((2, 3)).repeat_interleave(ids.shape[1], 0)
        out["color"] = losses.color_loss(mean, words, (words != PAD).float(), None, vocab_size)
    return out


def weighted(parts, settings):
    """The sum that is minimised."""
    return sum(getattr(settings, f"lambda_{name}") * value for name, value in parts.items())


def learning_rate(step, total, settings):
    """Linear warm-up, then a cosine to 2 % (Loshchilov & Hutter 2017)."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    return settings.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total)))))


class Trainer:
    """Model, optimiser and everything that a checkpoint must bring back."""

    def __init__(self, settings, data, device):
        self.settings, self.data, self.device = settings, data, device
        torch.manual_seed(settings.seed)  # initial weights only; every later draw has its own generator
        self.circle = Circle(settings, len(data.vocab), data.max_words).to(device)
        decay = [p for p in self.circle.parameters() if p.ndim >= 2]
        rest = [p for p in self.circle.parameters() if p.ndim < 2]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), fused=True)
        self.dtype = amp_dtype(device) if settings.use_amp else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)
        self.rng = torch.Generator(device)
        self.severity = torch.zeros((), device=device)
        self.bad = torch.zeros(2, device=device)  # non-finite steps: in a row, in all
        self.epoch = self.batch = self.step = 0
        self.best, self.seconds, self.history = -1.0, 0.0, []
        self.per_epoch = -(-data.num_samples // settings.batch_size)
        self.total = self.per_epoch * settings.epochs

    def train_step(self):
        """One batch, drawn and learned from. Returns the unweighted losses, still on the device."""
        s = self.settings
        ids = self.data.batch(self.epoch, self.batch, s.batch_size).to(self.device, non_blocking=True)
        host_rng = np.random.default_rng([s.seed, self.epoch, self.batch, 0xC4])
        self.rng.manual_seed(int(host_rng.integers(1 << 62)))  # every step's noise follows from its position
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.total, s)
        parts = circle_losses(self.circle, s, ids, self.severity, self.rng, host_rng, self.dtype)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(weighted(parts, s)).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.circle.parameters(), s.clip if s.clip else float("inf"))
        bad = (~torch.isfinite(norm)).float()
        if not self.scaler.is_enabled():
            self.optimizer.found_inf = bad  # the fused optimiser leaves everything as it is where this is 1
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.bad = torch.stack([(self.bad[0] + 1) * bad, self.bad[1] + bad])
        self.severity = (self.severity + SEVERITY_RATE * (parts["caption"].detach() < COPES)).clamp(max=1)
        self.step, self.batch = self.step + 1, self.batch + 1
        if self.batch == self.per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0
        return parts

    def state(self):
        """Everything that an exact resume needs, in plain types and tensors."""
        return {
            **model_state(self.circle, self.data.vocab, self.settings),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step},
            "severity": float(self.severity),
            "bad": self.bad.tolist(),
            "best": self.best,
            "seconds": self.seconds,
            "history": self.history,
        }

    def restore(self, state, path):
        """Take over a checkpoint's state. Raises CheckpointError."""
        try:
            self.circle.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.epoch, self.batch, self.step = (state["position"][k] for k in ("epoch", "batch", "step"))
            self.severity.fill_(state["severity"])
            self.bad = torch.tensor(state["bad"], device=self.device)
            self.best, self.seconds, self.history = state["best"], state["seconds"], list(state["history"])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be resumed ({str(error).splitlines()[0][:120]})") from None


# ---------------------------------------------------------------------------------------------
# A run: steps, validation, files
# ---------------------------------------------------------------------------------------------


class Run:
    """The life of a training run around its trainer: progress, logs, checkpoints, signals."""

    def __init__(self, trainer, unseen):
        self.t, self.s, self.unseen = trainer, trainer.settings, unseen
        self.signals = Signals()
        self.saved = None  # step of the newest checkpoint on disk
        self.warned = set()
        self.last_save = time.monotonic()
        self.bar = tqdm(total=trainer.total, initial=trainer.step, unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def say(self, line):
        self.bar.write(line, file=sys.stderr) if not self.bar.disable else print(line, file=sys.stderr, flush=True)

    def attempt(self, what, path, action):
        """Do what writes a file; a failure is said once per path and never stops the run."""
        try:
            action()
            return True
        except Exception as error:
            reason = getattr(error, "strerror", None) or error
            if (what, path) not in self.warned:
                self.say(f"warning: {what} {path} could not be written ({reason}); training goes on")
                self.warned.add((what, path))
            return False

    def log(self, row):
        self.t.history.append(row)
        path = os.path.join(self.s.log_dir, "metrics.jsonl")

        def append():
            with open(path, "a", encoding="utf-8") as f:
                f.write(json.dumps(row) + "\n")

        self.attempt("metrics", path, append)

    def checkpoint(self, *names):
        state = self.t.state()
        for name in names:
            path = os.path.join(self.s.checkpoint_dir, name)
            if self.attempt("checkpoint", path, lambda: save(path, state)):  # noqa: B023 (called at once)
                self.saved = self.t.step
        self.last_save = time.monotonic()

    def run(self):
        """All epochs that are left, then the summary. Raises Interrupted, UserError."""
        t, s = self.t, self.s
        clock = time.monotonic()
        pending, lines = [], 0
        while t.epoch < s.epochs:
            parts = t.train_step()
            pending.append(torch.stack([v.detach().float() for v in parts.values()]))
            done_epoch = t.batch == 0
            self.bar.update()
            if t.step % s.log_interval == 0 or done_epoch or self.signals.number:
                values = torch.stack(pending).mean(0).tolist()  # the one wait for the device
                t.seconds, clock = t.seconds + time.monotonic() - clock, time.monotonic()
                self.report(dict(zip(parts, values)), lines)
                pending, lines = [], lines + 1
            if done_epoch:
                t.seconds += time.monotonic() - clock
                self.end_of_epoch()
                clock = time.monotonic()
            elif s.save_minutes and time.monotonic() - self.last_save > 60 * s.save_minutes:
                self.checkpoint("last.pt")
            self.signals.check()
        self.bar.close()

    def report(self, values, _lines):
        """Log the mean losses since the last report, and stop a run whose numbers have gone bad."""
        t = self.t
        in_a_row, in_all = (int(v) for v in t.bad.tolist())
        row = {"kind": "train", "step": t.step, "epoch": t.epoch, "seconds": round(t.seconds, 3)}
        row.update({f"loss_{k}": v for k, v in values.items()})
        row.update(severity=float(t.severity), lr=learning_rate(t.step, t.total, self.s), skipped_steps=in_all)
        self.log(row)
        match = next((r["exact_match"] for r in reversed(t.history) if r["kind"] == "validation"), 0.0)
        short = f"caption {values['caption']:.3f} kl {values['kl']:.0f} exact {100 * match:.1f}%"
        self.bar.set_description(f"epoch {min(t.epoch + 1, self.s.epochs)}/{self.s.epochs}")
        self.bar.set_postfix_str(short, refresh=False)
        if self.bar.disable:
            self.say(f"epoch {min(t.epoch + 1, self.s.epochs)}/{self.s.epochs} step {t.step}/{t.total} {t.seconds:.0f} s {short}")
        if in_a_row >= BAD_STEPS_IN_A_ROW:
            cure = "lower --lr" if not self.s.use_amp else "leave out --use_amp or lower --lr"
            raise UserError(f"{in_a_row} steps in a row had non-finite gradients; {cure}; the last good checkpoint is untouched")

    def end_of_epoch(self):
        t, s = self.t, self.s
        pictures = draw_sentences(t.circle, t.data.vocab, self.unseen, t.device)
        captions, _ = read_pictures(t.circle, t.data.vocab, pictures, t.device)
        match = exact_match(self.unseen, captions)
        row = {"kind": "validation", "step": t.step, "epoch": t.epoch, "seconds": round(t.seconds, 3)}
        self.log({**row, "exact_match": match, "word_accuracy": word_accuracy(self.unseen, captions), "n": len(captions)})
        if self.bar.disable:
            self.say(f"epoch {t.epoch}: exact match on {len(captions)} unseen sentences {100 * match:.1f} % after {t.seconds:.0f} s")
        names = ["last.pt", f"checkpoint_epoch_{t.epoch}.pt"]
        if match > t.best:
            t.best = match
            names.append("best.pt")
        self.checkpoint(*names)
        self.attempt("old checkpoints in", s.checkpoint_dir, lambda: prune(s.checkpoint_dir, s.keep_last))
        texts = [a if a == b else f"{a} → {b}" for a, b in zip(self.unseen, captions)]
        path = os.path.join(s.log_dir, f"scenes_epoch_{t.epoch}.png")
        self.attempt("scenes", path, lambda: scene_sheet(pictures[:24], texts, path))
        path = os.path.join(s.log_dir, "training_curves.png")
        self.attempt("curves", path, lambda: training_curves(t.history, path))

    def finish(self, sentences):
        """Read unseen sentences back from PNG files, write the samples and the summary; returns the exact match."""
        t, s = self.t, self.s
        captions, pictures = [], []
        with tempfile.TemporaryDirectory() as folder:
            for start in range(0, len(sentences), 100):
                self.signals.check()
                block = through_png(t.circle, t.data.vocab, sentences[start : start + 100], t.device, folder)
                pictures.append(block[0])
                captions += block[1]
        match = exact_match(sentences, captions)
        shown = torch.cat(pictures)[:16]
        self.attempt("samples", "sample_generations.png", lambda: round_trips(sentences[:16], shown, captions, "sample_generations.png"))
        lines = [f"exact match on {len(sentences)} unseen sentences, read from PNG files: {100 * match:.2f} %"]
        lines += [f"best exact match while training: {100 * t.best:.2f} %", f"seconds of training: {t.seconds:.0f}", f"steps: {t.step}"]
        lines += [f"steps skipped for non-finite gradients: {int(t.bad[1])}", "", "settings:"]
        lines += [f"  {k} = {v}" for k, v in dataclasses.asdict(s).items()]
        path = os.path.join(s.log_dir, "training_summary.txt")
        self.attempt("summary", path, lambda: write_atomically(path, "\n".join(lines + [""]).encode()))
        return match


# ---------------------------------------------------------------------------------------------
# python train.py
# ---------------------------------------------------------------------------------------------


def parse_arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), help="a recipe; a flag that you type beats it")
    parser.add_argument("--resume", metavar="PATH", help="go on from a checkpoint; auto takes the newest good one of --checkpoint_dir")
    add_arguments(parser)
    typed = vars(parser.parse_args(argv))
    preset, resume = typed.pop("preset"), typed.pop("resume")
    try:
        settings = resolve(typed, preset)
        if resume is None:
            check(settings)
    except ValueError as error:
        parser.error(str(error))
    return settings, typed, preset, resume


def resume_settings(state, path, typed):
    """A checkpoint's settings, with what may change taken from the command line. Raises UserError."""
    old = settings_of(state, path)
    for name in FIXED_ON_RESUME:
        if name in typed and typed[name] != getattr(old, name):
            raise UserError(f"--{name} {typed[name]} contradicts {path}, which has {getattr(old, name)}; leave the flag out or start a new run")
    return resolve(typed, base=old)


def open_data(settings, vocab=None):
    """The training data and two lists of unseen sentences: for validation and for the end."""
    if settings.captions_file:
        data = CaptionsData(settings.captions_file, settings.seed, settings.train_split, vocab)
        print(f"{settings.captions_file}: {data.report}; {data.num_samples} to train on, {len(data.test)} unseen", file=sys.stderr)
        return data, data.test[:200], data.test[:1000]
    count = max(1, round(settings.num_samples * settings.train_split)) if settings.fixed_data else settings.num_samples
    data = GrammarData(count, settings.seed, settings.fixed_data)
    return data, sample_sentences(200, "test", VALIDATION_SEED), sample_sentences(1000, "test", FINAL_SEED)


def prepare_folders(settings):
    for folder in (settings.checkpoint_dir, settings.log_dir):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be made ({error.strerror}); choose another --checkpoint_dir or --log_dir") from None
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder} cannot be written to; choose another --checkpoint_dir or --log_dir")


def rewind_metrics(log_dir, step):
    """Drop the lines of metrics.jsonl that lie after a step: a resumed run writes them again."""
    path = os.path.join(log_dir, "metrics.jsonl")
    if os.path.exists(path):
        kept = []
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line.rstrip("\n") + "\n")
                except (ValueError, KeyError, TypeError):
                    pass  # a line cut short by a kill
        write_atomically(path, "".join(kept).encode())


def train(settings, typed, preset, resume):
    """The whole run. Returns the exit code."""
    path, state = None, None
    if resume == "auto":
        path, state = newest_valid(settings.checkpoint_dir, lambda m: print(m, file=sys.stderr))
        if state is None:
            print(f"nothing to resume in {settings.checkpoint_dir}; starting fresh", file=sys.stderr)
    elif resume:
        path, state = resume, load(resume)
    if state is not None:
        settings = resume_settings(state, path, typed)
    check(settings)
    device = choose_device(settings.device)
    set_threads(settings.threads)
    vocab = Vocabulary(state["vocabulary"], state["articles"]) if state is not None else None
    data, unseen, final = open_data(settings, vocab)
    prepare_folders(settings)
    lock = RunLock(settings.checkpoint_dir)
    remove_leftovers(settings.checkpoint_dir)
    trainer = Trainer(settings, data, device)
    if state is not None:
        trainer.restore(state, path)
        print(f"resuming {path} at epoch {trainer.epoch}, step {trainer.step} of {trainer.total}", file=sys.stderr)
    rewind_metrics(settings.log_dir, trainer.step)
    if settings.use_amp and trainer.dtype is None:
        print(f"--use_amp: {device.type} has no fast half precision here; using float32", file=sys.stderr)
    run = Run(trainer, unseen)
    try:
        run.run()
        match = run.finish(final)
    except Interrupted as signal_:
        run.checkpoint("last.pt")
        run.bar.close()
        again = f"python train.py --resume auto --checkpoint_dir {settings.checkpoint_dir}"
        print(f"interrupted at epoch {trainer.epoch}, step {trainer.step}; go on with: {again}", file=sys.stderr)
        return 128 + signal_.args[0]
    finally:
        lock.release()
    print(f"pictures: sample_generations.png, {settings.log_dir}/training_curves.png; model: {settings.checkpoint_dir}/best.pt")
    if run.saved is None and trainer.step:
        raise UserError(f"no checkpoint could be written to {settings.checkpoint_dir}")
    print(f"exact match on {len(final)} unseen sentences: {100 * match:.2f} % (seed {settings.seed}, {trainer.seconds:.0f} s of training)")
    return 0


def main(argv=None):
    settings, typed, preset, resume = parse_arguments(argv)
    try:
        return train(settings, typed, preset, resume)
    except (UserError, CheckpointError, CaptionsFileError, ValueError, OSError) as error:
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        print(f"train.py: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
