import contextlib
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import TINY, run_forked, run_script
from PIL import Image

import algorithm
import losses
import train
import training.optimizer
import training.trainer
from algorithm import training_step
from channel import round_8bit
from checkpoints import load, load_model
from data_utils import GrammarData
from metrics import exact_match
from models import Cycle
from pictures import draw_sentences, read_pictures
from runtime import devices
from settings import PRESETS, Settings, check
from text.grammar import parse, sample_sentences
from text.word_classes import find_word_classes
from training.data import open_data
from training.distributed import SINGLE_PROCESS

CELLS = {"n_cells": 25, "z_dim": 150}  # of the glyphs decoder
TINY_SETTINGS = dict(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, use_vae=True, batch_size=8)


def test_a_run_leaves_every_file_that_users_know(tiny_run):
    for name in (
        "checkpoints/checkpoint_epoch_1.pt",
        "checkpoints/checkpoint_epoch_2.pt",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
    ):
        assert load(tiny_run / name)["format"] == 3
    for name in (
        "logs/training_curves.png",
        "logs/scenes_epoch_1.png",
        "logs/scenes_epoch_2.png",
        "sample_generations.png",
    ):
        with Image.open(tiny_run / name) as image:
            assert min(image.size) > 100 and len(set(image.convert("L").tobytes())) > 10  # something is drawn
    rows = [json.loads(line) for line in (tiny_run / "logs/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [r["step"] for r in rows if r["kind"] == "train"]
    assert steps == sorted(set(steps)) and [r["epoch"] for r in rows if r["kind"] == "validation"] == [1, 2]
    assert "d_model = 32" in (tiny_run / "logs/training_summary.txt").read_text(encoding="utf-8")


def test_progress_and_last_line(tmp_path):
    done = run_forked("train.py", *TINY, "--epochs", 1, "--log_interval", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    end = r"exact match on 256 unseen sentences: \d+\.\d\d % with checkpoints.best\.pt \(seed 0, \d+ s of training\)"
    assert (
        re.fullmatch(end, done.stdout.splitlines()[-1]) and done.stdout.count("exact match") == 1
    )  # last.pt holds the same
    assert "\r" not in done.stderr and "epoch 1/1 step 2/8" in done.stderr  # plain lines where no terminal is


@pytest.mark.slow
def test_same_seed_same_weights_and_another_seed_others(tiny_run, tmp_path):
    done = run_script("train.py", *TINY, "--epochs", 2, "--seed", 0, cwd=tmp_path, env={"PYTHONHASHSEED": "5"})
    assert done.returncode == 0, done.stderr
    a, b = load(tiny_run / "checkpoints/last.pt")["model"], load(tmp_path / "checkpoints/last.pt")["model"]
    assert all(torch.equal(a[k], b[k]) for k in a)
    weights, batches = [], []
    for seed in (0, 1):  # as far as it takes to see that another seed goes another way
        settings = train.parse_arguments([*TINY, "--seed", str(seed)]).settings
        data = open_data(settings).training
        batches.append(data.batch(0, 0, 32).tolist())
        weights.append(
            training.trainer.Trainer(settings, data, torch.device("cpu")).cycle.language_model.embedding.weight
        )
    assert batches[0] != batches[1] and not torch.equal(*weights)


@pytest.mark.parametrize(
    ("flags", "code", "named"),
    [
        (["--batch_size", "0"], 2, "batch_size"),
        (["--z_dim", "-1"], 2, "z_dim"),
        (["--z_dim", "20"], 2, "at least 44"),
        (["--lr", "nan"], 2, "lr"),
        (["--epochs", "many"], 2, "epochs"),
        (["--preset", "huge"], 2, "quick"),
        (["--decoder", "gan"], 2, "glyphs"),
        (["--hidden_dim", "33"], 2, "multiple of 32"),
        (["--n_heads", "5"], 2, "n_heads"),
        (["--use_vq", "--use_vae"], 2, "--use_vq and --use_vae exclude each other"),
        (["--use_vq", "--vq_levels", "8,x"], 2, "--vq_levels 8,x is no list of whole numbers"),
        (["--use_vq", "--vq_levels", "1,5"], 2, "--vq_levels 1,5 is no list of whole numbers from 2"),
        (["--use_vq", "--vq_levels", "99,999"], 2, "more than 65536"),
        (["--use_vq", "--vq_levels", "3,3,3,3,3,3"], 2, "needs --z_dim 132"),
        (["--use_vq", "--decoder", "conv"], 2, "--use_vq needs --decoder objects or glyphs"),
        (["--use_vq", "--grounding", "x.toml"], 2, "--use_vq and --grounding exclude each other"),
        (["--unknown_flag"], 2, "unknown_flag"),
        (["--seed", "9" * 20], 2, "at most 9223372036854775807"),
        (["--threads", "1000000"], 2, "from 0 to 1024"),
        (["--device", "toaster"], 1, "--device"),
        (["--device", "meta"], 1, "--device meta is not available here"),
        (["--device", "hpu"], 1, "--device hpu is not available here"),
        (["--captions_file", "missing.txt"], 1, "missing.txt"),
        (["--captions_file", "empty.txt"], 1, "empty.txt"),
        (["--resume", "checkpoints/none.pt"], 1, "none.pt"),
        (["--checkpoint_dir", "empty.txt/below"], 1, "checkpoint_dir"),
    ],
)
def test_bad_input_is_one_line_that_names_the_cure(flags, code, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    try:
        got = train.main(flags)
    except SystemExit as usage:
        got = usage.code
    lines = capsys.readouterr().err.splitlines()
    assert got == code and named in lines[-1]
    assert len([line for line in lines if line.startswith("train.py: ")]) == 1
    assert code == 1 or (len(lines) == 1 and lines[0].endswith("; see python train.py --help"))
    assert list(tmp_path.rglob("*.pt")) == []


def test_a_flag_beats_a_preset():
    settings = train.parse_arguments(["--preset", "quick", "--d_model", "48", "--no-use_vae"]).settings
    assert settings.d_model == 48 and settings.use_vae is False and settings.lr == PRESETS["quick"]["lr"]


def test_codes_turn_off_the_vae_of_a_preset_and_not_a_typed_one():
    settings = train.parse_arguments(["--preset", "quick", "--use_vq"]).settings
    assert settings.use_vq and not settings.use_vae
    with pytest.raises(SystemExit):
        train.parse_arguments(["--preset", "quick", "--use_vq", "--use_vae"])


def test_defaults_fixed_by_the_contract():
    s = Settings()
    fixed = dict(
        d_model=512, hidden_dim=256, z_dim=128, epochs=50, lambda_consistency=1.0, lambda_kl=0.001, lambda_spatial=0.1
    )
    assert {k: getattr(s, k) for k in fixed} == fixed and s.num_samples == 10000 and s.train_split == 0.8
    for preset in PRESETS.values():
        check(Settings(**preset))


class BackwardOnly:
    """An optimizer that leaves gradients and weights as they are."""

    def step(self, loss, parts):
        loss.backward()
        return parts, torch.zeros(())


@pytest.mark.parametrize(
    "decoder, use_vq", [("objects", False), ("objects", True), ("glyphs", False), ("glyphs", True)]
)
def test_every_loss_has_a_flag_and_reaches_the_networks_it_should(decoder, use_vq):
    """With only one weight above zero, gradients arrive where the loss is meant to act: none is written and not called."""
    data = GrammarData(1000, 0)
    tiny = dict(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=150, n_cells=25, decoder=decoder)
    base = Settings(**tiny, use_vae=not use_vq, use_vq=use_vq)
    others = [] if use_vq else ["lambda_codes"]
    weights = [f.name for f in dataclasses.fields(Settings) if f.name.startswith("lambda_") and f.name not in others]
    zero = dict.fromkeys(weights, 0.0)
    torch.manual_seed(0)
    cycle = Cycle(base, len(data.vocab), data.max_tokens, find_word_classes(data.some_sentences(1000), len(data.vocab)))
    of_captioner, of_language_model = {"lambda_caption", "lambda_consistency"}, {"lambda_language"}
    for name in weights:
        settings = dataclasses.replace(base, **{**zero, name: 1.0})
        cycle.zero_grad(set_to_none=True)
        rng, host = torch.Generator().manual_seed(0), np.random.default_rng(0)
        ids, precision = data.batch(0, 0, 16), devices.Precision(torch.device("cpu"))
        parts, _ = training_step(
            cycle, BackwardOnly(), settings, ids, torch.tensor(0.5), rng, host, precision, SINGLE_PROCESS
        )
        assert {f"lambda_{k}" for k in parts} == set(weights)

        def reached(module):
            return any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())

        assert reached(cycle.caption_network) == (name in of_captioner), name
        assert reached(cycle.scene_decoder) == (name not in of_language_model | ({"lambda_kl"} if use_vq else set())), (
            name
        )


def test_the_optimizer_skips_a_non_finite_step():
    data = GrammarData(64, 0)
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, batch_size=16)
    trainer = training.trainer.Trainer(settings, data, torch.device("cpu"))
    trainer.train_step()
    before = {k: v.clone() for k, v in trainer.cycle.state_dict().items()}
    trainer.cycle.caption_network.position.register_hook(lambda g: g * float("nan"))
    trainer.train_step()
    assert (trainer.skipped_in_a_row, trainer.skipped) == (1, 1)
    assert all(torch.equal(v, before[k]) for k, v in trainer.cycle.state_dict().items())
    moments = [v for s in trainer.optimizer.adamw.state.values() for v in s.values() if torch.is_tensor(v)]
    assert all(torch.isfinite(v).all() for v in moments)


@pytest.mark.parametrize("decoder, use_vq", [("glyphs", False), ("glyphs", True), ("conv", False)])
def test_a_step_never_asks_its_device_for_a_number_and_leaves_nothing_elsewhere(decoder, use_vq, monkeypatch):
    """A GPU would have to finish all its work for each number. Here is none, but on torch's device without contents ("meta") there
    is no number to be had, and operations that mix devices fail, too. What that device lacks is stood in for."""
    device, adamw = torch.device("meta"), torch.optim.AdamW
    with pytest.raises(RuntimeError):
        int(torch.ones(1, device=device))

    class HostGenerator(torch.Generator):
        def __new__(cls, device):
            return super().__new__(cls)

    monkeypatch.setattr(torch, "autocast", lambda *a, **k: contextlib.nullcontext())
    monkeypatch.setattr(torch, "Generator", HostGenerator)
    monkeypatch.setattr(torch.optim, "AdamW", lambda *a, fused, **k: adamw(*a, **k))
    settings = Settings(**{**TINY_SETTINGS, **CELLS, "use_vae": not use_vq, "use_vq": use_vq}, decoder=decoder)
    trainer = training.trainer.Trainer(settings, GrammarData(64, 0), device)
    weights = trainer.optimizer.parameters
    moments = {p: {"step": torch.zeros((), device=device), "exp_avg": torch.zeros_like(p)} for p in weights}
    trainer.optimizer.scaler.step = lambda adamw: adamw.state.update(moments)  # as torch's fused one on any device
    assert device.type not in training.optimizer.CLIPS_AND_SKIPS  # so clipping and undoing are looked at, too
    parts = trainer.train_step()
    state = [*parts.values(), trainer.loss_sums, trainer.skipped_in_a_row, trainer.skipped, trainer.strength]
    assert all(v.device.type == "meta" for v in state) and trainer.step == 1


def test_networks_and_gradients_take_tf32_and_pictures_and_losses_do_not(monkeypatch):
    gpu, tf32, seen = torch.device("cuda"), devices.tf32, {}
    for module in (devices, training.optimizer):
        monkeypatch.setattr(module, "tf32", lambda device: tf32(gpu))  # only a setting: it needs no GPU
    settings = Settings(**TINY_SETTINGS, decoder="conv")
    trainer = training.trainer.Trainer(settings, GrammarData(64, 0), torch.device("cpu"))

    def note(name, result=None):
        seen[name] = torch.get_float32_matmul_precision()
        return result

    for name in ("language_model", "scene_decoder", "caption_network"):
        getattr(trainer.cycle, name).register_forward_hook(lambda *_, name=name: note(name))
    monkeypatch.setattr(algorithm, "transmit", lambda *a, f=algorithm.transmit: note("channel", f(*a)))
    for function in (losses.color_loss, losses.consistency_loss, losses.diversity_loss):
        monkeypatch.setattr(losses, function.__name__, lambda *a, f=function: note(f.__name__, f(*a)))
    trainer.cycle.caption_network.position.register_hook(lambda gradient: note("backward"))
    trainer.train_step()
    fast = ("language_model", "caption_network", "backward")
    assert seen == {name: "high" if name in fast else "highest" for name in seen} and len(seen) == 8
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.slow
@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("batch_size", [4, 8, 16, 32, 128])
def test_no_batch_size_and_no_amp_makes_numbers_go_bad(batch_size, amp):
    """The "batch 8 only, no AMP" of other programs: every loss finite and no step skipped over 40 steps, and learning."""
    settings = Settings(
        d_model=64,
        n_heads=2,
        n_layers=2,
        hidden_dim=64,
        z_dim=54,
        use_vae=True,
        batch_size=batch_size,
        use_amp=amp,
        lr=1e-3,
        warmup_steps=5,
    )
    trainer = training.trainer.Trainer(settings, GrammarData(10000, 0), torch.device("cpu"))
    first = None
    for _ in range(40):
        parts = trainer.train_step()
        assert all(torch.isfinite(v) for v in parts.values())
        first = first or parts["caption"].item()
    assert trainer.skipped == 0 and parts["caption"].item() < first - 0.5


@pytest.mark.slow
def test_captions_file_of_another_language(tmp_path):
    words = "кот пёс дом лес снег река".split()
    lines = [f"{a} видит {b} и {c}" for a in words for b in words for c in words]
    (tmp_path / "my sentences.txt").write_text("\n".join(lines + ["", lines[0]]), encoding="utf-8")
    flags = [
        "--captions_file",
        "my sentences.txt",
        *[f for f in TINY if f not in ("--num_samples", "256")],
        "--epochs",
        1,
    ]
    flags += ["--tokenizer", "words"]
    done = run_forked("train.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 empty skipped, 1 duplicates merged" in done.stderr and "unseen sentences" in done.stdout
    assert "кот" in load_model(tmp_path / "checkpoints/last.pt", torch.device("cpu"))[1].index


@pytest.fixture(scope="module")
def learned():
    """A small circle after 800 steps: it reads most sentences of one thing."""
    torch.set_num_threads(2)
    settings = Settings(
        d_model=96,
        n_heads=4,
        n_layers=2,
        hidden_dim=96,
        use_vae=True,
        batch_size=64,
        lr=2e-3,
        num_samples=64 * 800,
        epochs=1,
        use_amp=True,
    )
    trainer = training.trainer.Trainer(settings, GrammarData(settings.num_samples, 0), torch.device("cpu"))
    while trainer.epoch < 1:
        trainer.train_step()
    yield trainer
    torch.set_num_threads(1)


@pytest.mark.slow
def test_captions_come_from_the_pictures(learned):
    """Blank pictures, another sentence's picture and a frozen random scene decoder give what chance gives."""
    cycle, vocab, cpu = learned.cycle, learned.data.vocab, torch.device("cpu")
    sentences = [s for s in sample_sentences(800, "test", 5) if "object2" not in parse(s)]
    pictures = draw_sentences(cycle, vocab, sentences, cpu)

    def score(shown):
        return exact_match(sentences, read_pictures(cycle, vocab, shown, cpu)[0])

    assert score(pictures) > 0.5
    assert score(torch.full_like(pictures, 0.5)) < 0.02
    assert score(pictures.roll(1, 0)) < 0.02
    torch.manual_seed(9)
    stranger = Cycle(learned.settings, len(vocab), learned.data.max_tokens, cycle.word_classes)
    assert score(draw_sentences(stranger, vocab, sentences, cpu)) < 0.02
    assert torch.equal(round_8bit(pictures), pictures)


@pytest.mark.slow
def test_without_a_compiler_steps_run_as_they_are(tmp_path):
    env = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = run_script("train.py", *TINY, "--epochs", 1, "--compile", "--device", "cpu", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("--compile:"))
    assert "nothing can be compiled here" in line and (tmp_path / "checkpoints/last.pt").exists()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler here")
def test_compiled_steps_learn_what_plain_ones_do(tmp_path):
    runs = {}
    for flag in ("--compile", "--no-compile"):
        folder = tmp_path / flag
        folder.mkdir()
        flags = [flag, "--log_interval", 1, "--epochs", 1, "--num_samples", 96, "--device", "cpu"]
        done = run_script("train.py", *TINY, *flags, cwd=folder, timeout=400)
        assert done.returncode == 0 and "nothing can be compiled" not in done.stderr, done.stderr
        rows = [json.loads(line) for line in (folder / "logs/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        runs[flag] = [r["loss_caption"] for r in rows if r["kind"] == "train"]
    assert len(runs["--compile"]) == 3 and runs["--compile"] == pytest.approx(runs["--no-compile"], rel=1e-3)


# ---------------------------------------------------------------------------------------------
# One step
# ---------------------------------------------------------------------------------------------


def first_moment(clip):
    """Norm of the gradient that AdamW took in at its first step, where its mean is a tenth of it."""
    settings = Settings(
        d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, batch_size=8, num_samples=8, clip=clip
    )
    trainer = training.trainer.Trainer(settings, GrammarData(8, 0), torch.device("cpu"))
    trainer.train_step()
    return 10 * torch.stack([state["exp_avg"].norm() for state in trainer.optimizer.adamw.state.values()]).norm().item()


def test_gradients_are_clipped_to_their_norm_and_short_ones_left_alone():
    whole = first_moment(0.0)  # not clipped
    assert first_moment(whole / 3) == pytest.approx(whole / 3, rel=1e-4)
    assert first_moment(3 * whole) == pytest.approx(whole, rel=1e-4)
