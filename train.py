"""Train the cycle: text -> scene -> text, with no picture ever given.

python train.py --preset quick                          some minutes on two CPU cores
python train.py --preset full                           one GPU
python train.py --epochs 50 --batch_size 8 --use_vae
python train.py --captions_file my_sentences.txt --preset quick
python train.py --resume auto                           go on where a run was interrupted
torchrun --nproc_per_node=2 train.py --preset quick     several processes; --batch_size is that of all together
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out
from runtime import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import argparse
import contextlib
import shlex
from typing import Any

import torch

from checkpoints import word_classes_in
from data_utils import CaptionsData, GrammarData
from runtime.command_line import (
    Parser,
    UserError,
    failure,
    in_one_line,
    is_out_of_memory,
    path_name,
    print_result,
)
from runtime.devices import set_threads
from runtime.signals import Interrupted, StopWhenSafe
from settings import PRESETS, Settings, add_arguments, check, resolve
from text.grounding import grounded_words, grounding_line
from training.data import open_data
from training.distributed import SINGLE_PROCESS, LostProcess, ProcessGroup, end, join, only_rank_0_prints, world_size
from training.folders import hold_folders
from training.notes import changed_schedule, poor_result, short_run, without_effect
from training.resume import find_start
from training.run import SAMPLES, Run
from training.tensorboard_log import check_installed
from training.trainer import Trainer


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """`settings`: what the flags ask for; `typed`: the settings among them by name; `preset` and `resume` or None."""
    parser = Parser("train.py", __doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), help="a recipe; a flag that you type overrides it")
    text = "continue from a checkpoint; auto takes the newest good one of --checkpoint_dir"
    parser.add_argument("--resume", type=path_name, metavar="PATH", help=text)
    add_arguments(parser)
    typed = vars(parser.parse_args(argv))
    command = argparse.Namespace(preset=typed.pop("preset"), resume=typed.pop("resume"), typed=typed)
    try:
        command.settings = resolve(typed, command.preset)
        if command.resume is None:
            check(command.settings)
    except ValueError as error:
        parser.error(str(error))
    return command


def train(command: argparse.Namespace, signals: StopWhenSafe, group: ProcessGroup) -> int:
    """The whole run -> its exit code. Raises what `main` turns into one line."""
    with contextlib.ExitStack() as folders:
        path, state, settings = group.broadcast(group.on_rank_0(lambda: find_start(command)))
        check(settings)
        try:
            device = group.on_all(lambda: group.device(settings.device))
            group.connect(device)
            set_threads(settings.threads)
            if settings.tensorboard:
                group.on_all(check_installed)
            opened = group.on_all(lambda: open_data(settings, path, state))
            settings = opened.settings
            trainer = prepared_trainer(settings, command.typed, opened.training, device, group, path, state)
            # after the trainer: a model that does not fit into memory leaves the folders as they are
            group.on_rank_0(lambda: folders.enter_context(hold_folders(settings, state, path)))
            run = Run(trainer, opened.validation, signals)
            if state is not None:
                run.checkpoints.note_resumed(path)
            return complete(run, opened.final)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(error, settings, group) from None


def prepared_trainer(
    settings: Settings,
    typed: dict[str, Any],
    data: GrammarData | CaptionsData,
    device: torch.device,
    group: ProcessGroup,
    path: str | None,
    state: dict[str, Any] | None,
) -> Trainer:
    """A new trainer, or one in the state of its checkpoint. Notes for the user go to standard error."""
    trainer = Trainer(settings, data, device, group, word_classes_in(state) if state else None)
    if state is not None:
        trainer.restore(state, path)
        if trainer.epoch > settings.epochs:
            line = f"--epochs {settings.epochs} contradicts {path}, which has completed {trainer.epoch}"
            raise UserError(f"{line}; give more epochs")
        print(f"resuming {path} at epoch {trainer.epoch}, step {trainer.step} of {trainer.total}", file=sys.stderr)
        lines = changed_schedule(settings, state["settings"], trainer.steps_per_epoch, trainer.step)
    else:
        lines = short_run(settings, trainer.total)
    given = grounding_line(grounded_words(trainer.cycle, data.vocab), settings.grounding)
    for line in [*without_effect(settings, typed), *lines, *([f"note: {given}"] if given else [])]:
        print(line, file=sys.stderr)
    if settings.use_amp and trainer.precision.dtype is None:
        print(f"--use_amp: {device.type} has no fast half precision here; using float32", file=sys.stderr)
    if settings.compile and (reason := trainer.compile()):
        print(f"--compile: nothing can be compiled here ({reason}); steps run uncompiled", file=sys.stderr)
    return trainer


def out_of_memory(error: Exception, settings: Settings, group: ProcessGroup, where: str = "") -> UserError:
    """A UserError with the flags of a run on which memory depends, and the advice to lower them.

    where: the checkpoint that is left, for rank 0. Another process prints the line itself, because only it has the
    error.
    """
    names = ["batch_size", "d_model", "n_layers", "hidden_dim", "z_dim"]
    if settings.captions_file:
        names.append("captions_file")
    flags = " ".join(f"--{name} {getattr(settings, name)}" for name in names)
    advice = "make the largest of them smaller" + ("" if settings.use_amp else ", or add --use_amp")
    line = f"{in_one_line(error)}; asked for {flags}; {advice}"
    if not group.is_rank_0:
        print(f"train.py: process {group.rank}: {line}", file=sys.__stderr__, flush=True)
    return UserError(line + where)


def complete(run: Run, final: list[str]) -> int:
    """Run to the end, or to a signal, and print the result -> the exit code. Raises UserError."""
    t, s, group = run.trainer, run.settings, run.group
    try:
        with group.watch():
            run.train()
            matches = group.on_rank_0(lambda: run.finish(final))
    except Interrupted as interruption:
        group.on_rank_0(lambda: save_interrupted(run, f"interrupted at epoch {t.epoch}, step {t.step}"))
        return 128 + interruption.args[0]
    except LostProcess as lost:
        if group.is_rank_0:  # a step changes the weights only after its last message, so they are complete
            save_interrupted(run, f"{lost} at epoch {t.epoch}, step {t.step}")
        return 1
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        group.complete = False  # the others wait for a message of this process until it ends
        raise out_of_memory(error, s, group, f"; {run.checkpoints.newest_on_disk()}") from None
    if not group.is_rank_0:
        return 0
    if t.step not in run.checkpoints.steps_on_disk.values() and not run.checkpoints.save("last.pt"):
        raise UserError(f"the trained model could not be saved; {run.checkpoints.newest_on_disk()}")
    model = list(matches)[-1]
    for line in poor_result(s, matches[model]):
        print(line, file=sys.stderr)
    pictures = ", ".join(path for path in (SAMPLES, run.curves) if run.console.is_written(path))
    print_result(f"pictures: {pictures}; model: {model}" if pictures else f"model: {model}", *run.remarks)
    for path, match in matches.items():
        source = f"seed {s.seed}, {t.seconds:.0f} s of training" if path == model else "the weights of the last step"
        print_result(f"exact match on {len(final)} unseen sentences: {100 * match:.2f} % with {path} ({source})")
    return 0


def save_interrupted(run: Run, stopped: str) -> None:
    """Save a run that stops before its end, and print the command that continues it. Raises UserError."""
    run.console.close()
    run.clock.count()
    command = ["python", "train.py", "--resume", "auto"]
    if run.group is not SINGLE_PROCESS:
        command[:1] = ["torchrun", f"--nproc_per_node={os.environ.get('LOCAL_WORLD_SIZE', run.group.size)}"]
    for name in ("checkpoint_dir", "log_dir"):
        folder = getattr(run.settings, name)
        if folder != getattr(Settings(), name):
            command += [f"--{name}", folder]
    again = f"go on with: {shlex.join(command)}"
    if not run.checkpoints.save("last.pt"):
        where = run.checkpoints.newest_on_disk()
        raise UserError(f"{stopped}, which could not be saved; {where}; make room and {again}")
    run.console.log(f"{stopped}; {again}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line -> exit code: 0, 1 a failure, 128 + the number of a signal. Raises SystemExit(2)."""
    try:
        size = world_size()
    except UserError as error:
        return failure("train.py", error)
    with only_rank_0_prints():
        command = parse_arguments(argv)
        group = SINGLE_PROCESS
        with StopWhenSafe(echo=2.0 if size > 1 else 0.0) as signals:
            try:
                group = join(signals)
                with group.watch():
                    return train(command, signals, group)
            except Exception as error:
                return failure("train.py", error)
            finally:
                group.leave()


if __name__ == "__main__":
    end(main())
