"""Train the cycle: text -> scene -> text, with no picture ever given.

python train.py --preset quick                          some minutes on two CPU cores
python train.py --preset full                           one GPU
python train.py --epochs 50 --batch_size 8 --use_vae
python train.py --captions_file my_sentences.txt --preset quick
python train.py --resume auto                           go on where a run was interrupted
torchrun --nproc_per_node=2 train.py --preset quick     several processes; --batch_size is that of all together
"""

from runtime import quiet_threads  # noqa: F401  # isort: skip (before torch is loaded)

import contextlib
import os
import shlex
import sys

from checkpoints import word_classes_in
from text.grounding import grounded_words
from runtime.command_line import (
    Parser,
    UserError,
    failure,
    in_one_line,
    is_out_of_memory,
    path_name,
    print_to_whoever_listens,
)
from runtime.devices import set_threads
from runtime.signals import Interrupted, Signals
from settings import PRESETS, Settings, add_arguments, check, resolve
from text.grounding import given_line
from training.data import open_data
from training.distributed import SINGLE_PROCESS, LostProcess, end, join, only_rank_0_prints, world_size
from training.folders import hold_folders
from training.notes import changed_schedule, poor_result, short_run, without_effect
from training.resume import find_start
from training.run import SAMPLES, Run
from training.tensorboard_log import check_installed
from training.trainer import Trainer


def parse_arguments(argv):
    parser = Parser("train.py", __doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), help="a recipe; a flag that you type beats it")
    parser.add_argument(
        "--resume",
        type=path_name,
        metavar="PATH",
        help="go on from a checkpoint; auto takes the newest good one of --checkpoint_dir",
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


def train(settings, typed, preset, resume, signals, group):
    """The whole run. Returns the exit code. Raises what `main` turns into one line."""
    with contextlib.ExitStack() as folders:
        path, state, settings = group.broadcast(group.on_rank_0(lambda: find_start(settings, typed, preset, resume)))
        check(settings)
        try:
            device = group.on_all(lambda: group.device(settings.device))
            group.connect(device)
            set_threads(settings.threads)
            if settings.tensorboard:
                group.on_all(check_installed)
            data, unseen, final = group.on_all(lambda: open_data(settings, path, state))
            trainer = prepared_trainer(
                settings, typed, data, device, group, path, state
            )  # first: what does not fit leaves folders alone
            group.on_rank_0(lambda: folders.enter_context(hold_folders(settings, state, path)))
            run = Run(trainer, unseen, signals)
            if state is not None:
                run.checkpoints.note_resumed(path)
            return complete(run, final)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(error, settings, group) from None


def prepared_trainer(settings, typed, data, device, group, path, state):
    """A trainer, new or where its checkpoint left it; what a user should know of it goes to standard error."""
    trainer = Trainer(settings, data, device, group, word_classes_in(state) if state else None)
    if state is not None:
        trainer.restore(state, path)
        if trainer.epoch > settings.epochs:
            raise UserError(
                f"--epochs {settings.epochs} contradicts {path}, which has completed {trainer.epoch}; give more epochs"
            )
        print(f"resuming {path} at epoch {trainer.epoch}, step {trainer.step} of {trainer.total}", file=sys.stderr)
        lines = changed_schedule(settings, state["settings"], trainer.steps_per_epoch, trainer.step)
    else:
        lines = short_run(settings, trainer.total)
    given = given_line(grounded_words(trainer.cycle, data.vocab), settings.grounding)
    for line in [*without_effect(settings, typed), *lines, *([f"note: {given}"] if given else [])]:
        print(line, file=sys.stderr)
    if settings.use_amp and trainer.dtype is None:
        print(f"--use_amp: {device.type} has no fast half precision here; using float32", file=sys.stderr)
    if settings.compile and (reason := trainer.compile()):
        print(f"--compile: nothing can be compiled here ({reason}); steps run as they are", file=sys.stderr)
    return trainer


def out_of_memory(error, settings, group, where=""):
    """A UserError that says what a run asked for that memory depends on, and that it can be less.

    where: the checkpoint that is left, for rank 0. Another process says it by itself, because only it knows.
    """
    names = [
        "batch_size",
        "d_model",
        "n_layers",
        "hidden_dim",
        "z_dim",
        *(["captions_file"] if settings.captions_file else []),
    ]
    asked = " ".join(f"--{name} {getattr(settings, name)}" for name in names)
    line = f"{in_one_line(error)}; asked for {asked}; make the largest of them smaller{'' if settings.use_amp else ', or add --use_amp'}"
    if not group.is_rank_0:
        print(f"train.py: process {group.rank}: {line}", file=sys.__stderr__, flush=True)
    return UserError(line + where)


def complete(run, final):
    """Run to the end, or to a signal; say how it went. Returns the exit code. Raises UserError."""
    t, s, group = run.trainer, run.settings, run.group
    try:
        with group.watch():
            run.train()
            matches = group.on_rank_0(lambda: run.finish(final))
    except Interrupted as interruption:
        group.on_rank_0(lambda: save_to_go_on(run, f"interrupted at epoch {t.epoch}, step {t.step}"))
        return 128 + interruption.args[0]
    except LostProcess as lost:
        if group.is_rank_0:  # a step changes the weights only after its last message: they are whole
            save_to_go_on(run, f"{lost} at epoch {t.epoch}, step {t.step}")
        return 1
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        group.complete = False  # the others wait for a message of this process, until it is gone
        raise out_of_memory(error, s, group, f"; {run.checkpoints.newest_on_disk()}") from None
    if not group.is_rank_0:
        return 0
    if t.step not in run.checkpoints.steps_on_disk.values() and not run.checkpoints.save("last.pt"):
        raise UserError(f"the trained model could not be saved; {run.checkpoints.newest_on_disk()}")
    model = list(matches)[-1]
    for line in poor_result(s, matches[model]):
        print(line, file=sys.stderr)
    pictures = [path for path in (SAMPLES, run.curves) if run.console.is_written(path)]
    print_to_whoever_listens(
        f"{'pictures: ' * bool(pictures)}{', '.join(pictures)}{'; ' * bool(pictures)}model: {model}"
    )
    for remark in run.remarks:
        print_to_whoever_listens(remark)
    for path, match in matches.items():
        about = f"seed {s.seed}, {t.seconds:.0f} s of training" if path == model else "the weights of the last step"
        print_to_whoever_listens(
            f"exact match on {len(final)} unseen sentences: {100 * match:.2f} % with {path} ({about})"
        )
    return 0


def save_to_go_on(run, stopped):
    """Save a run that stops before its end, and say how it goes on. Raises UserError."""
    run.console.close()
    run.clock.count()
    changed = {
        k: getattr(run.settings, k)
        for k in ("checkpoint_dir", "log_dir")
        if getattr(run.settings, k) != getattr(Settings(), k)
    }
    program = "python"
    if run.group is not SINGLE_PROCESS:
        program = f"torchrun --nproc_per_node={os.environ.get('LOCAL_WORLD_SIZE', run.group.size)}"
    again = " ".join([f"{program} train.py --resume auto", *(f"--{k} {shlex.quote(v)}" for k, v in changed.items())])
    if not run.checkpoints.save("last.pt"):
        where = run.checkpoints.newest_on_disk()
        raise UserError(f"{stopped}, which could not be saved; {where}; make room and go on with: {again}")
    run.console.say(f"{stopped}; go on with: {again}")


def main(argv=None):
    with only_rank_0_prints():
        settings, typed, preset, resume = parse_arguments(argv)
        group = SINGLE_PROCESS
        with Signals(echo=2.0 if world_size() > 1 else 0.0) as signals:
            try:
                group = join()
                with group.watch():
                    return train(settings, typed, preset, resume, signals, group)
            except Exception as error:
                return failure("train.py", error)
            except KeyboardInterrupt:
                return 130
            finally:
                group.leave()


if __name__ == "__main__":
    end(main())
