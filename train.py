"""Train the circle: text -> scene -> text, with no picture ever given.

python train.py --preset quick                          some minutes on two CPU cores
python train.py --preset full                           one GPU
python train.py --epochs 50 --batch_size 8 --use_vae
python train.py --captions_file my_sentences.txt --preset quick
python train.py --resume auto                           go on where a run was interrupted
torchrun --nproc_per_node=2 train.py --preset quick     several processes; --batch_size is that of all together
"""

from command_line import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import argparse
import contextlib
import dataclasses
import json
import math
import os
import shlex
import sys
import tempfile
import time

import torch
from tqdm import tqdm

from checkpoints import CheckpointError, age, all_finite, best_quality, load, prune, pt_bytes, write_atomically
from command_line import UserError, in_one_line
from data_utils import CaptionsData, CaptionsFileError, GrammarData, Vocabulary
from devices import set_threads
from metrics import exact_match, word_accuracy
from pictures import draw_sentences, read_pictures, through_png
from settings import PRESETS, Settings, add_arguments, check, resolve
from text.grammar import sample_sentences
from training import snapshots
from training.distributed import ALONE, Lost, end, join, only_the_first_speaks, world_size
from training.folders import hold_folders
from training.resume import find_start
from training.signals import Interrupted, Signals
from training.trainer import Trainer, data_digest, learning_rate
from visualization import round_trips, scene_sheet, training_curves

VALIDATION_SEED, FINAL_SEED = 1001, 2002  # seeds of unseen sentences, told apart from the run's own
BAD_STEPS_IN_A_ROW = 20  # non-finite steps in a row that stop a run
TROUBLE = 3  # and so many hold back its saves: the weights may be ruined already, and must not replace better ones


# ---------------------------------------------------------------------------------------------
# A run: steps, validation, files
# ---------------------------------------------------------------------------------------------


class Run:
    """The life of a training run around its trainer: progress, logs, checkpoints, signals.

    Of several processes the first validates, writes and speaks; the others wait for it where it does.
    """

    def __init__(self, trainer, unseen, signals):
        self.t, self.s, self.unseen, self.signals, self.team = trainer, trainer.settings, unseen, signals, trainer.team
        self.saved = {}  # name of a checkpoint on disk -> its step
        self.warned = set()
        self.last_save = self.clock = time.monotonic()
        self.metrics_path = os.path.join(self.s.log_dir, "metrics.jsonl")
        self.best_on_disk = best_quality(self.s.checkpoint_dir)
        self.bar = tqdm(total=trainer.total, initial=trainer.step, unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True)
        self.metrics_whole = self.attempt("metrics", self.metrics_path, self.rewrite_metrics)

    def say(self, line):
        with contextlib.suppress(OSError):  # a closed terminal or pipe is no reason to lose a run
            self.bar.write(line, file=sys.stderr) if not self.bar.disable else print(line, file=sys.stderr, flush=True)

    def attempt(self, what, path, action):
        """Do what writes a file; a failure is said once per path, until it succeeds again, and never stops the run."""
        if not self.team.first:
            return True
        try:
            action()
            self.warned.discard(path)
            return True
        except Exception as error:
            reason = getattr(error, "strerror", None) or error
            if path not in self.warned:
                self.say(f"warning: {what} {path} could not be written ({reason}); training goes on")
                self.warned.add(path)
            return False

    def tick(self):
        """Count the time since the last tick as training; what follows a bare clock reset is not counted."""
        now = time.monotonic()
        self.t.seconds, self.clock = self.t.seconds + now - self.clock, now

    def rewrite_metrics(self):
        """metrics.jsonl from the history in the checkpoint: rows of steps that a resumed run does again are gone."""
        write_atomically(self.metrics_path, "".join(json.dumps(r) + "\n" for r in self.t.history).encode())

    def append_metrics(self):
        with open(self.metrics_path, "a", encoding="utf-8") as f:
            f.write(json.dumps(self.t.history[-1]) + "\n")

    def log(self, row):
        self.t.history.append(row)
        write = self.append_metrics if self.metrics_whole else self.rewrite_metrics
        self.metrics_whole = self.attempt("metrics", self.metrics_path, write)

    def checkpoint(self, *names):
        """Write the state under each name; returns the names written. Raises UserError if a number is not finite."""
        self.tick()
        state = self.t.state()
        if not all_finite([state["model"], state["optimizer"]]):
            cause = f"most likely because --lr {self.s.lr:g} is too high; lower it"
            raise UserError(f"weights are no longer finite, {cause}; {self.where_it_stands()}")
        data, written = pt_bytes(state), []
        for name in names:
            path = os.path.join(self.s.checkpoint_dir, name)
            if self.attempt("checkpoint", path, lambda: write_atomically(path, data)):  # noqa: B023 (called at once)
                self.saved[name] = self.t.step
                written.append(name)
        self.last_save = self.clock = time.monotonic()
        return written

    def where_it_stands(self):
        """Which checkpoint to go on from, for the last words of a run that fails."""
        if not self.saved:
            return f"no checkpoint could be written to {self.s.checkpoint_dir}"
        name = max(self.saved, key=self.saved.get)
        return f"{os.path.join(self.s.checkpoint_dir, name)} of step {self.saved[name]} is whole"

    def begin(self):
        """Shows before the first hour, not after it, whether the folders can be written to."""
        self.checkpoint("last.pt")
        self.keep_evolution()

    def run(self):
        """All epochs that are left. Raises Interrupted, UserError, Lost."""
        t, s, first_does = self.t, self.s, self.team.first_does
        self.clock = time.monotonic()
        if not t.step:
            first_does(self.begin)
            self.clock = time.monotonic()
        elif t.batch == 0 and not any(r["kind"] == "validation" and r["step"] == t.step for r in t.history):
            first_does(self.end_of_epoch)  # it was interrupted
        while t.epoch < s.epochs:
            signal_, save = self.team.agree(self.signals.number, self.save_is_due())
            if signal_:
                raise Interrupted(signal_)
            if save:
                first_does(lambda: self.checkpoint("last.pt"))
            parts = t.train_step()
            self.bar.update()
            if t.step % s.log_interval == 0 or t.batch == 0:
                self.report(list(parts))
            if t.step % BAD_STEPS_IN_A_ROW == 0 or t.batch == 0:
                self.check_numbers()
            if t.batch == 0:
                first_does(self.end_of_epoch)
        self.check_numbers(TROUBLE)
        first_does(lambda: self.saved.get("last.pt", -1) < t.step and self.checkpoint("last.pt"))
        self.bar.close()

    def save_is_due(self):
        """Whether the first process wants to save inside an epoch: 0 or 1."""
        late = self.s.save_minutes and time.monotonic() - self.last_save > 60 * self.s.save_minutes
        return int(bool(self.team.first and self.t.batch and late and self.t.bad[0] < TROUBLE))

    def report(self, names):
        """Log the mean losses of the good steps since the last report."""
        t = self.t
        *sums, count = t.sums.tolist()  # the one wait for the device
        t.sums = torch.zeros((), device=t.device)
        self.tick()
        if not count:
            return
        values = {k: v / count for k, v in zip(names, sums, strict=True)}
        row = {"kind": "train", "step": t.step, "epoch": t.epoch, "seconds": round(t.seconds, 3)}
        row.update({f"loss_{k}": v for k, v in values.items()})
        row.update(severity=float(t.severity), lr=learning_rate(t.step, t.total, self.s), skipped_steps=int(t.bad[1]))
        self.log(row)
        match = next((r["exact_match"] for r in reversed(t.history) if r["kind"] == "validation"), 0.0)
        short = f"caption {values['caption']:.3f} kl {values['kl']:.0f} exact {100 * match:.1f}%"
        self.bar.set_description(f"epoch {min(t.epoch + 1, self.s.epochs)}/{self.s.epochs}")
        self.bar.set_postfix_str(short, refresh=False)
        if self.bar.disable:
            self.say(f"epoch {min(t.epoch + 1, self.s.epochs)}/{self.s.epochs} step {t.step}/{t.total} {t.seconds:.0f} s {short}")

    def check_numbers(self, limit=BAD_STEPS_IN_A_ROW):
        """Raise UserError if the numbers of the last `limit` steps have all gone bad."""
        in_a_row = int(self.t.bad[0])
        if in_a_row >= limit:
            cause = f"--lr {self.s.lr:g} is too high; lower it"
            if self.t.dtype is torch.float16:
                cause = f"--lr {self.s.lr:g} is too high or half precision too narrow; lower it or leave out --use_amp"
            what = f"{in_a_row} steps in a row had a non-finite loss or gradient, most likely because"
            raise UserError(f"{what} {cause}; {self.where_it_stands()}")

    def end_of_epoch(self):
        t, s = self.t, self.s
        self.tick()
        pictures, captions, log_probs = [], [], []
        for start in range(0, len(self.unseen), 50):
            self.signals.check()
            pictures.append(draw_sentences(t.circle, t.data.vocab, self.unseen[start : start + 50], t.device))
            words, log_prob = read_pictures(t.circle, t.data.vocab, pictures[-1], t.device)
            captions, log_probs = captions + words, log_probs + log_prob
        pictures, match, log_prob = torch.cat(pictures), exact_match(self.unseen, captions), sum(log_probs) / len(log_probs)
        row = {"kind": "validation", "step": t.step, "epoch": t.epoch, "seconds": round(t.seconds, 3)}
        self.log(
            {
                **row,
                "exact_match": match,
                "word_accuracy": word_accuracy(self.unseen, captions),
                "log_prob": log_prob if math.isfinite(log_prob) else None,  # JSON has no NaN
                "n": len(captions),
            }
        )
        if self.bar.disable:
            self.say(
                f"epoch {t.epoch}: exact match on {len(captions)} unseen sentences {100 * match:.1f} % after {t.seconds:.0f} s"
            )
        t.best, better = max(t.best, match), (match, log_prob) > self.best_on_disk
        self.clock = time.monotonic()
        # last.pt comes last: a process killed between two of them is resumed from the newest, and writes what is missing
        names = [*["best.pt"] * better, f"checkpoint_epoch_{t.epoch}.pt", "last.pt"]
        if t.bad[0] >= TROUBLE:
            self.say(f"warning: {int(t.bad[0])} steps in a row had a non-finite loss or gradient; epoch {t.epoch} is not saved")
        elif "best.pt" in self.checkpoint(*names):
            self.best_on_disk = match, log_prob
        self.attempt("old checkpoints in", s.checkpoint_dir, lambda: prune(s.checkpoint_dir, s.keep_last, t.epoch))
        self.keep_evolution()
        texts = [a if a == b else f"{a} -> {b}" for a, b in zip(self.unseen, captions)]
        path = os.path.join(s.log_dir, f"scenes_epoch_{t.epoch}.png")
        self.attempt("scenes", path, lambda: scene_sheet(pictures[:24], texts, path))
        path = os.path.join(s.log_dir, "training_curves.png")
        self.attempt("curves", path, lambda: training_curves(t.history, path))
        self.clock = time.monotonic()

    def keep_evolution(self):
        """Draw and read the same few unseen sentences again, for evaluate.py's slider over epochs."""
        t, path = self.t, os.path.join(self.s.log_dir, snapshots.NAME)

        def keep():
            texts = list(dict.fromkeys(self.unseen))[: snapshots.SENTENCES]
            pictures = draw_sentences(t.circle, t.data.vocab, texts, t.device)
            captions, _ = read_pictures(t.circle, t.data.vocab, pictures, t.device)
            snapshots.add(path, t.epoch, texts, pictures, captions, t.history[0] if t.history else None)

        self.attempt("evolution", path, keep)

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
        self.attempt(
            "samples", "sample_generations.png", lambda: round_trips(sentences[:16], shown, captions, "sample_generations.png")
        )
        lines = [f"exact match on {len(sentences)} unseen sentences, read from PNG files: {100 * match:.2f} %"]
        lines += [
            f"best exact match while training: {100 * t.best:.2f} %",
            f"seconds of training: {t.seconds:.0f}",
            f"steps: {t.step}",
        ]
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
    parser.add_argument(
        "--resume", metavar="PATH", help="go on from a checkpoint; auto takes the newest good one of --checkpoint_dir"
    )
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


def open_data(settings, path=None, state=None):
    """The training data and two lists of unseen sentences: for validation and for the end."""
    if not settings.captions_file:
        count = max(1, round(settings.num_samples * settings.train_split)) if settings.fixed_data else settings.num_samples
        data = GrammarData(count, settings.seed, settings.fixed_data)
        return data, sample_sentences(200, "test", VALIDATION_SEED), sample_sentences(1000, "test", FINAL_SEED)
    try:
        vocab = Vocabulary(state["vocabulary"], state["articles"]) if state else None
        data = CaptionsData(settings.captions_file, settings.seed, settings.train_split, vocab)
        same = state is None or data_digest(data) == state.get("data")
    except (KeyError, TypeError):  # the file has no vocabulary
        same = False
    if not same:
        had = state["settings"]["captions_file"]
        raise UserError(
            f"--captions_file {settings.captions_file} holds other sentences than {had} did for {path}; start a new run"
        )
    print(f"{settings.captions_file}: {data.report}; {data.num_samples} to train on, {len(data.test)} unseen", file=sys.stderr)
    return data, data.test[:200], data.test[:1000]


def train(settings, typed, preset, resume, signals, team):
    """The whole run. Returns the exit code."""
    with contextlib.ExitStack() as folders:
        path, state, settings = team.tell(team.first_does(lambda: find_start(settings, typed, preset, resume)))
        check(settings)
        device = team.together(lambda: team.device(settings.device))
        team.connect(device)
        set_threads(settings.threads)
        data, unseen, final = team.together(lambda: open_data(settings, path, state))
        team.first_does(lambda: folders.enter_context(hold_folders(settings, state, path)))
        trainer = Trainer(settings, data, device, team)
        if state is not None:
            trainer.restore(state, path)
            if trainer.epoch > settings.epochs:
                raise UserError(
                    f"--epochs {settings.epochs} contradicts {path}, which has completed {trainer.epoch}; give more epochs"
                )
            print(f"resuming {path} at epoch {trainer.epoch}, step {trainer.step} of {trainer.total}", file=sys.stderr)
        if settings.use_amp and trainer.dtype is None:
            print(f"--use_amp: {device.type} has no fast half precision here; using float32", file=sys.stderr)
        if settings.compile and (reason := trainer.compile()):
            print(f"--compile: nothing can be compiled here ({reason}); steps run as they are", file=sys.stderr)
        run = Run(trainer, unseen, signals)
        if state is not None and os.path.realpath(os.path.dirname(path)) == os.path.realpath(settings.checkpoint_dir):
            with contextlib.suppress(CheckpointError, KeyError):
                run.saved["last.pt"] = age(load(os.path.join(settings.checkpoint_dir, "last.pt"), whole=False))[1]
            run.saved[os.path.basename(path)] = trainer.step
        return complete(run, final)


def complete(run, final):
    """Run to the end, or to a signal; say how it went. Returns the exit code. Raises UserError."""
    t, s, team = run.t, run.s, run.team
    try:
        with team.watch():
            run.run()
            match = team.first_does(lambda: run.finish(final))
    except Interrupted as signal_:
        team.first_does(lambda: save_to_go_on(run, f"interrupted at epoch {t.epoch}, step {t.step}"))
        return 128 + signal_.args[0]
    except Lost as lost:
        if team.first:  # a step changes the weights only after its last word with the others: they are whole
            save_to_go_on(run, f"{lost} at epoch {t.epoch}, step {t.step}")
        return 1
    if not team.first:
        return 0
    if t.step not in run.saved.values() and not run.checkpoint("last.pt"):
        raise UserError(f"the trained model could not be saved; {run.where_it_stands()}")
    best = "best.pt" if os.path.exists(os.path.join(s.checkpoint_dir, "best.pt")) else "last.pt"
    print(f"pictures: sample_generations.png, {s.log_dir}/training_curves.png; model: {s.checkpoint_dir}/{best}")
    print(f"exact match on {len(final)} unseen sentences: {100 * match:.2f} % (seed {s.seed}, {t.seconds:.0f} s of training)")
    return 0


def save_to_go_on(run, stopped):
    """Save a run that stops before its end, and say how it goes on. Raises UserError."""
    run.bar.close()
    folders = {k: getattr(run.s, k) for k in ("checkpoint_dir", "log_dir") if getattr(run.s, k) != getattr(Settings(), k)}
    program = (
        f"torchrun --nproc_per_node={os.environ.get('LOCAL_WORLD_SIZE', run.team.size)}" if run.team is not ALONE else "python"
    )
    again = " ".join([f"{program} train.py --resume auto", *(f"--{k} {shlex.quote(v)}" for k, v in folders.items())])
    if not run.checkpoint("last.pt"):
        raise UserError(f"{stopped}, which could not be saved; {run.where_it_stands()}; make room and go on with: {again}")
    run.say(f"{stopped}; go on with: {again}")


def main(argv=None):
    with only_the_first_speaks():
        settings, typed, preset, resume = parse_arguments(argv)
        team = ALONE
        with Signals(echo=2.0 if world_size() > 1 else 0.0) as signals:
            try:
                team = join()
                with team.watch():
                    return train(settings, typed, preset, resume, signals, team)
            except (UserError, CheckpointError, CaptionsFileError, Lost, ValueError, OSError) as error:
                print(f"train.py: {in_one_line(error)}", file=sys.stderr, flush=True)
                return 1
            except KeyboardInterrupt:
                return 130
            finally:
                team.leave()


if __name__ == "__main__":
    end(main())
