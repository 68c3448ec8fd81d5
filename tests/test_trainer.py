"""What a trainer and its checkpoints hold, and numbers that are not finite."""

import json
import os
import shutil

import pytest
import torch
from conftest import TINY, run_forked
from parrot import KNOWN, parrot

import checkpoints
import data_utils
import train
import training.data
import training.optimizer
import training.saving
import training.trainer
import training.validation
from settings import Settings


def tiny_settings(**more):
    flags = dict(zip(TINY[:-1:2], TINY[1:-1:2], strict=True))
    values = {k[2:]: float(v) if k == "--lr" else int(v) for k, v in flags.items()}
    return Settings(**{**values, "use_vae": True, "epochs": 3, "threads": 1, "dropout": 0.1, **more})


def tiny_trainer(**more):
    settings = tiny_settings(**more)
    return training.trainer.Trainer(
        settings, data_utils.GrammarData(settings.num_samples, settings.seed), torch.device("cpu")
    )


def tiny_command(**more):
    return [str(a) for a in TINY] + [str(x) for k, v in more.items() for x in (f"--{k}", v)]


def steps_by_exact_match(monkeypatch, matches):
    """Let validation find these shares of exact matches, one after the other."""
    left = iter(matches)
    monkeypatch.setattr(training.validation, "exact_match", lambda *_: next(left))


@pytest.mark.slow
def test_best_is_only_replaced_by_a_better_one_across_resumes(no_pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train.Run, "finish", lambda self, sentences: {"last.pt": 0.0})

    def best():
        return checkpoints.best_quality("checkpoints")[0], checkpoints.load("checkpoints/best.pt")["position"]["epoch"]

    steps_by_exact_match(monkeypatch, [0.2, 0.5, 0.4])
    assert train.main(tiny_command(epochs=3)) == 0
    assert best() == (0.5, 2)
    steps_by_exact_match(monkeypatch, [0.3, 0.45])  # a branch from epoch 1, whose own best was 0.2
    assert train.main(["--resume", "checkpoints/checkpoint_epoch_1.pt"]) == 0
    assert best() == (0.5, 2)
    steps_by_exact_match(monkeypatch, [0.6])
    assert train.main(["--resume", "auto", "--epochs", "4"]) == 0
    assert best() == (0.6, 4)
    os.remove("checkpoints/best.pt")
    steps_by_exact_match(monkeypatch, [0.1])
    assert train.main(["--resume", "auto", "--epochs", "5"]) == 0
    assert best() == (0.1, 5)


def test_the_last_line_and_the_summary_are_of_the_model_that_is_named(no_pictures, tmp_path, monkeypatch, capsys):
    """best.pt is a parrot that knows a few sentences; the weights of the last step know none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training.data, "different_sentences", lambda n, *_: (KNOWN * 250)[:n])
    save_epoch = training.saving.CheckpointWriter.save_epoch

    def save_parrot_as_best(writer, quality):
        save_epoch(writer, quality)
        if writer.trainer.epoch == 1:
            shutil.copy(parrot(), "checkpoints/best.pt")
            writer.best_on_disk = (2.0, 0.0)  # nothing is better

    monkeypatch.setattr(training.saving.CheckpointWriter, "save_epoch", save_parrot_as_best)
    assert train.main(tiny_command(epochs=2)) == 0
    said, summary = (
        capsys.readouterr().out.splitlines(),
        (tmp_path / "logs" / "training_summary.txt").read_text(encoding="utf-8"),
    )
    best, last = (os.path.join("checkpoints", name) for name in ("best.pt", "last.pt"))
    assert said[-3].endswith(f"model: {best}")
    assert said[-2] == f"exact match on 256 unseen sentences: 0.00 % with {last} (the weights of the last step)"
    assert said[-1].startswith(f"exact match on 256 unseen sentences: 100.00 % with {best} (seed 0, ")
    assert summary.splitlines()[0].endswith(f"read from PNG files: 100.00 % with {best}")


# ---------------------------------------------------------------------------------------------
# Numbers that go bad
# ---------------------------------------------------------------------------------------------


def poison(monkeypatch, when, kind):
    """Make the loss, or only its gradient, NaN at steps for which `when` (a number from 0) is true."""
    clean, count = training.optimizer.Optimizer.step, iter(range(10**6))

    def step(optimizer, loss, parts):
        if when(next(count)):
            zero = optimizer.parameters[0].sum() * 0
            loss = loss + (float("nan") if kind == "loss" else zero.sqrt())
        return clean(optimizer, loss, parts)

    monkeypatch.setattr(training.optimizer.Optimizer, "step", step)


def learned(trainer):
    state = trainer.state()
    return {k: v.clone() for k, v in state["model"].items()}, [
        {k: torch.as_tensor(v).clone() for k, v in s.items()} for s in state["optimizer"]["state"].values()
    ]


def equal(a, b):
    return all(torch.equal(a[0][k], b[0][k]) for k in a[0]) and all(
        torch.equal(x[k], y[k]) for x, y in zip(a[1], b[1], strict=True) for k in x
    )


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_bad_step_leaves_weights_and_moments_as_they_were_and_is_counted(monkeypatch, kind):
    trainer = tiny_trainer()
    poison(monkeypatch, lambda i: i in (2, 3), kind)
    trainer.train_step()
    trainer.train_step()
    before = learned(trainer)
    parts = trainer.train_step()
    assert kind == "loss" or torch.isfinite(parts["caption"])
    trainer.train_step()
    assert equal(before, learned(trainer)) and trainer.step == 4
    assert trainer.state()["skipped"] == {"in_a_row": 2, "in_all": 2}
    trainer.train_step()
    assert not equal(before, learned(trainer)) and trainer.state()["skipped"] == {"in_a_row": 0, "in_all": 2}
    assert checkpoints.all_finite(trainer.state()) and trainer.state()["loss_sums"]["steps"] == 3


class DeafAdamW(torch.optim.AdamW):
    """The fused AdamW of a device on which it takes `grad_scale` and `found_inf`, and ignores both."""

    def __init__(self, groups, fused, **options):
        super().__init__(groups, **options)

    def step(self):
        self.grad_scale = self.found_inf = None
        super().step()


@pytest.mark.parametrize("bad", [(0,), (2, 3), ()])
def test_an_optimizer_that_neither_clips_nor_skips_by_itself_learns_the_same(monkeypatch, bad):
    """Three steps with a norm far above --clip, some of them not finite: the same weights and moments as from torch's fused one."""
    trainers = [tiny_trainer(clip=0.01)]
    monkeypatch.setattr(training.optimizer, "CLIPS_AND_SKIPS", ())
    monkeypatch.setattr(torch.optim, "AdamW", DeafAdamW)
    trainers.append(tiny_trainer(clip=0.01))
    for trainer, known in zip(trainers, (("cpu",), ()), strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(training.optimizer, "CLIPS_AND_SKIPS", known)
            poison(patch, lambda i: i in bad, "gradient")
            before = learned(trainer)
            for _ in range(5):
                trainer.train_step()
        assert not equal(before, learned(trainer)) and trainer.skipped == len(bad)
    (weights, moments), (others, other_moments) = map(learned, trainers)
    for name in weights:
        torch.testing.assert_close(others[name], weights[name], rtol=1e-4, atol=1e-6)
    for one, two in zip(moments, other_moments, strict=True):
        assert one["step"] == two["step"] == 5 - len(bad)
        for name in ("exp_avg", "exp_avg_sq"):
            assert (two[name] - one[name]).norm() <= 1e-3 * one[name].norm()


def test_the_fused_optimizer_is_trusted_only_where_it_is_known_to_clip_and_to_skip(monkeypatch):
    taken = []
    for name in ("_step_in_one_pass", "_step_in_several"):
        monkeypatch.setattr(training.optimizer.Optimizer, name, lambda *_, name=name: taken.append(name))
    trainer = tiny_trainer()
    for device in ("cpu", "cuda", "mps", "xpu"):
        trainer.optimizer.device = torch.device(device)
        trainer.train_step()
    assert taken == ["_step_in_one_pass"] * 2 + ["_step_in_several"] * 2


def test_twenty_bad_steps_in_a_row_stop_the_run_and_the_last_good_checkpoint_stays(
    no_pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    poison(monkeypatch, lambda i: i == 4 or i >= 11, "loss")
    assert train.main(tiny_command(epochs=9, lr=0.004)) == 1
    said = capsys.readouterr().err
    assert "steps in a row had a non-finite loss or gradient" in said and "--lr 0.004 is too high" in said
    assert "checkpoints/last.pt of step 8 is whole" in said
    state = checkpoints.load("checkpoints/last.pt")
    assert (
        state["position"]["step"] == 8
        and checkpoints.all_finite(state)
        and state["skipped"] == {"in_a_row": 0, "in_all": 1}
    )
    assert sorted(n for n in os.listdir("checkpoints") if n.startswith("checkpoint")) == ["checkpoint_epoch_1.pt"]
    for line in (tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        assert checkpoints.all_finite(json.loads(line, parse_constant=lambda c: pytest.fail(c)))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--lr", "1e9"], ["--lr", "1e4", "--clip", "0", "--warmup_steps", "0"]])
def test_a_learning_rate_that_ruins_the_weights_stops_the_run_by_name(tmp_path, flags):
    done = run_forked("train.py", *TINY, "--epochs", 8, *flags, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"--lr {float(flags[1]):g} is too high" in done.stderr.splitlines()[-1]
    for name in os.listdir(tmp_path / "checkpoints"):
        if name.endswith(".pt"):
            assert checkpoints.all_finite(checkpoints.load(tmp_path / "checkpoints" / name))


# ---------------------------------------------------------------------------------------------
# What a checkpoint brings back
# ---------------------------------------------------------------------------------------------


def test_every_part_of_the_state_comes_back(tmp_path):
    trainer = tiny_trainer()
    for _ in range(11):
        trainer.train_step()
    trainer.strength.fill_(0.1234567)
    trainer.skipped_in_a_row.fill_(1)
    trainer.skipped.fill_(7)
    trainer.best, trainer.seconds, trainer.history = 0.25, 12.5, [{"kind": "train", "step": 8}]
    checkpoints.save(tmp_path / "last.pt", trainer.state())
    other = tiny_trainer(seed=0)
    other.restore(checkpoints.load(tmp_path / "last.pt"), "last.pt")
    assert (other.epoch, other.batch, other.step) == (1, 3, 11)
    for name in ("strength", "skipped_in_a_row", "skipped", "loss_sums"):
        assert torch.equal(getattr(other, name), getattr(trainer, name)), name
    assert other.loss_names == trainer.loss_names
    assert (other.best, other.seconds, other.history) == (0.25, 12.5, [{"kind": "train", "step": 8}])
    trainer.train_step()
    other.train_step()
    assert equal(learned(trainer), learned(other))
    assert other.state()["saved_at"] > trainer.saved_at - 60


@pytest.mark.parametrize(
    "change",
    [
        {"position": {"epoch": 5, "batch": 0, "step": 3}},
        {"optimizer": 5},
        {"history": [1]},
        {"loss_sums": "x"},
        {"model": {}},
    ],
)
def test_a_state_that_contradicts_itself_gets_one_line(change):
    trainer = tiny_trainer()
    trainer.train_step()
    with pytest.raises(checkpoints.CheckpointError, match="x.pt cannot be resumed"):
        tiny_trainer().restore({**trainer.state(), **change}, "x.pt")
