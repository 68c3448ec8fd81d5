"""Printed letters, and the baselines of real sentences that are trained beside a model."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from conftest import ROOT, run_here

from captioners.glyphs import GlyphCaptionNetwork
from captions.dataset import CaptionsData
from captions.reader import some_captions
from checkpoints import model_state, save
from decoders import DECODERS
from evaluation.baselines.printed_text import PrintedText
from evaluation.baselines.trained_text import baseline_scores, fresh_baseline, train_baseline
from evaluation.protocol import open_model
from models import Cycle
from settings import resolve
from text.padding import pad

LINES = [
    f"A {color} {thing} runs."
    for color in ("red", "blue", "old", "tall")
    for thing in ("dog", "cat", "man", "cow", "ox")
]
SCRIPT = "scripts/real_text_baselines.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained checkpoint on a file of 20 sentences -> its path, and that of the file."""
    folder = tmp_path_factory.mktemp("baselines")
    (folder / "lines.txt").write_text("\n".join(LINES), encoding="utf-8")
    sizes = dict(
        d_model=32, n_heads=2, n_layers=1, hidden_dim=32, batch_size=8, num_samples=16, lr=0.01, warmup_steps=5
    )
    settings = resolve({"captions_file": str(folder / "lines.txt"), "use_vae": True, "vocab_size": 270, **sizes})
    data = CaptionsData.of_run(settings)
    settings = DECODERS[settings.decoder].fit(settings, data.lengths())
    data.max_tokens = DECODERS[settings.decoder].max_tokens(settings, data.max_tokens)
    torch.manual_seed(0)
    path = folder / "tiny.pt"
    save(path, model_state(Cycle(settings, len(data.vocab), data.max_tokens), data.vocab, settings))
    return path


def test_letters_are_as_large_as_nearly_all_texts_allow():
    short, long = PrintedText(LINES), PrintedText(LINES + ["x" * 120] * 20)
    assert (long.columns, long.rows, long.width, long.height) == (16, 8, 4, 8) and short.width > 6 and short.height > 8
    assert short.places >= max(map(len, LINES)) and PrintedText(["x" * 5000]).places == 160
    one, two, cut, whole = long.draw(["A red dog.", "A red hog.", "x" * 128 + "yz", "x" * 128])
    changed = (one != two).any(0).nonzero()
    assert (
        (changed >= torch.tensor([0, 6 * 4])).all() and (changed < torch.tensor([8, 7 * 4])).all() and len(changed) > 3
    )
    assert torch.equal(cut, whole) and torch.equal(long.draw(["é 犬"]), long.draw(["é 犬"])) and one.max() > 0.8
    assert long.decode(long.encode("A red dog, é")) == "A red dog " and len(long.encode("x" * 200)) == 128


@pytest.mark.parametrize("name", ["letters", "vector"])
def test_a_baseline_learns_and_the_same_seed_gives_the_same(name, checkpoint):
    runs = []
    for steps in (2, 2, 30):
        model, lines = open_model(checkpoint, torch.device("cpu")), []
        baseline = fresh_baseline(name, model, 3)
        taken, _ = train_baseline(baseline, model, 20, 3, lines.append, steps)
        runs.append(
            (taken, float(re.search(r"caption loss (\S+),", lines[-1])[1]), baseline_scores(baseline, LINES[:4], 0))
        )
        torch.rand(3)  # the state of torch's own generator must not matter
    one, two, longer = runs
    assert (one[0], longer[0]) == (2, 30) and one == two and longer[1] < 0.8 * one[1]
    conditions = {"letters": ["blur 1", "noise 0.1", "jpeg 50", "in a row"], "vector": ["with its noise"]}[name]
    assert set(longer[2][0]) == {"clean", "salad", "blank", *conditions}


@pytest.mark.parametrize("name", ["letters", "vector"])
def test_reading_step_by_step_is_what_was_trained(name, checkpoint):
    model = open_model(checkpoint, torch.device("cpu"))
    baseline = fresh_baseline(name, model, 0)
    if name == "letters":
        code = baseline.letters.draw(LINES[:3])
        assert isinstance(baseline.reader, GlyphCaptionNetwork)
    else:
        rows = [model.vocab.encode(t) for t in LINES[:3]]
        code = baseline.latents(pad(rows))[0].detach()
    reading = baseline.reader.read(code)
    words = reading.ids
    ids = torch.where(words == 2, 0, words)[:, :-1]
    if name == "vector":
        code = torch.nn.functional.pad(code, (0, 0, 0, ids.shape[1] - code.shape[1]))
    logits = baseline.reader.logits(baseline.reader(code, ids).hidden)
    logits = logits.index_fill(2, torch.tensor([0, 1]), float("-inf")).log_softmax(-1)
    for row, said, expected in zip(logits, words, reading.log_prob):
        n = int((said != 0).sum())
        assert float(row[range(n), said[:n]].sum().detach()) == pytest.approx(float(expected), abs=1e-3)


def test_the_letters_reader_looks_at_each_letter(checkpoint):
    reader = fresh_baseline("letters", open_model(checkpoint, torch.device("cpu")), 0)
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    ids = torch.full((1, reader.letters.places), 5)
    reader.reader.logits(reader.reader(picture, ids).hidden)[0, 9].square().sum().backward()
    x, y = (reader.letters.middles()[9] * 64).tolist()
    weight = picture.grad.abs().sum((0, 1))
    near = torch.zeros(64, 64, dtype=torch.bool)
    near[max(0, int(y) - 10) : int(y) + 10, max(0, int(x) - 10) : int(x) + 10] = True
    assert float(weight[near].mean()) > 3 * float(weight[~near].mean())


def test_latents_have_noise_only_while_training_and_nothing_where_no_piece_stands(checkpoint):
    baseline = fresh_baseline("vector", open_model(checkpoint, torch.device("cpu")), 0)
    ids = pad([[5, 6, 7], [5]])
    (quiet, kl), (noisy, _) = baseline.latents(ids), baseline.latents(ids, torch.Generator().manual_seed(0))
    assert torch.equal(quiet[0, 0], quiet[1, 0]) and not torch.equal(noisy[0, 0], noisy[1, 0])
    assert not quiet[1, 1:].any() and not noisy[1, 1:].any() and float(kl[0].detach()) > 2 * float(kl[1].detach())


def test_the_script_trains_and_prints_tables(checkpoint, tmp_path):
    (tmp_path / "other.txt").write_text("A red ox.\nA tall man runs.\nA tall man runs.\n", encoding="utf-8")
    flags = ["--checkpoint", checkpoint, "--texts_file", "other.txt", "--epochs", 1, "--threads", 1]
    done = run_here(SCRIPT, "--baseline", "vector", *flags, cwd=tmp_path)
    assert done.returncode == 0 and "vector: 2 different sentences" in done.stdout and "| exact match |" in done.stdout
    assert "2 steps, " in done.stdout and "nats a text" in done.stdout and "step 2 of 2" in done.stderr
    done = run_here(
        SCRIPT, "--baseline", "letters", "--checkpoint", ROOT / "pretrained/grammar", *flags[2:], cwd=tmp_path
    )
    assert done.returncode == 1 and "does not draw the sentences of a captions file" in done.stderr


def test_another_kind_of_model_is_refused(checkpoint):
    model = open_model(checkpoint, torch.device("cpu"))
    model.settings = dataclasses.replace(model.settings, use_vq=True)
    with pytest.raises(ValueError, match="glyphs in reading order"):
        fresh_baseline("vector", model, 0)


def test_some_captions_are_different_ones_in_an_order_of_the_seed(tmp_path):
    (tmp_path / "f.txt").write_text("\n".join(LINES + LINES), encoding="utf-8")
    some = some_captions(str(tmp_path / "f.txt"), 6, 1)
    order = np.random.default_rng(1).permutation(len(LINES))[:6]
    assert some == [LINES[i] for i in order] and len(some_captions(str(tmp_path / "f.txt"), 99, 0)) == len(LINES)
