"""Every tool with every kind of model: a tool that works with one kind of decoder or vocabulary can fail with another.

Each kind is trained for two steps once; the tools run on its checkpoint inside this process.
"""

import json

import pytest
import torch
from conftest import TINY
from evaluation_cases import measure_less, run_section
from PIL import Image
from shared import made_once

import caption
import evaluate
import export
import generate
import train
from checkpoints import load_model
from evaluation.protocol import open_model
from playground import fragments
from playground.model import DAMAGE, Playground, damage

CAPTIONS = [f"A {size} {animal} sleeps, or {verb}." for size in ("small", "big", "wild") for animal in
            ("dog", "cat", "bird", "horse") for verb in ("runs", "eats", "jumps", "plays", "waits")]  # fmt: skip
CAPTIONS_FLAGS = ["--captions_file", "captions.txt", "--vocab_size", 300, "--n_cells", 36, "--z_dim", 216]
KINDS = {  # flags of train.py
    "objects": [],
    "objects_vq": ["--no-use_vae", "--use_vq"],
    "objects_grounding": ["--grounding", "own.toml"],
    "captions": CAPTIONS_FLAGS,
    "captions_vq": [*CAPTIONS_FLAGS, "--no-use_vae", "--use_vq"],
    "conv": ["--decoder", "conv"],
}
TEXTS = {True: "A big dog sleeps, or runs.", False: "a red ball in the left"}  # by whether captions were trained on


def run(main, *args):
    """A tool's main() -> its exit code."""
    return main([str(arg) for arg in args])


def train_two_steps(folder, kind):
    folder.mkdir()
    (folder / "captions.txt").write_text("\n".join(CAPTIONS), encoding="utf-8")
    (folder / "own.toml").write_text('red = {color = "#e6194b"}\nleft = {x = 0.2}\n', encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        flags = [*TINY, "--num_samples", 64, "--epochs", 1, "--threads", 1, *KINDS[kind]]
        assert run(train.main, *flags) == 0


@pytest.fixture(params=KINDS)
def trained(request, monkeypatch):
    """The folder of a run of two steps, as the working folder."""
    folder = made_once(f"matrix_{request.param}", lambda path: train_two_steps(path, request.param))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def text(trained):
    return TEXTS["captions" in trained.name]


CHECKPOINT = ("--checkpoint", "checkpoints/last.pt")


def test_train_and_resume(trained, tmp_path, no_pictures):
    assert (trained / "sample_generations.png").exists() and (trained / "logs/scenes_epoch_1.png").exists()
    where = ["--checkpoint_dir", tmp_path, "--log_dir", tmp_path / "logs"]
    assert run(train.main, "--resume", "checkpoints/last.pt", "--epochs", 2, *where) == 0
    assert (tmp_path / "last.pt").exists()


def test_generate_and_caption(trained, text, tmp_path, capsys):
    assert run(generate.main, *CHECKPOINT, "--sample", 2, "--out_dir", tmp_path / "invented") == 0
    assert run(generate.main, *CHECKPOINT, "--text", text, text, "--out_dir", tmp_path / "out") == 0
    rows = [json.loads(line) for line in (tmp_path / "out/captions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == [text, text]
    capsys.readouterr()
    pictures = sorted((tmp_path / "out").glob("0*.png"))
    assert run(caption.main, *CHECKPOINT, *pictures) == 0
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["caption"] for line in read] == [row["caption"] for row in rows]


def test_export(trained, tmp_path):
    assert run(export.main, *CHECKPOINT, "--out_dir", tmp_path / "shared", "--half") == 0
    whole, shared = (load_model(path, "cpu")[0] for path in ("checkpoints/last.pt", tmp_path / "shared"))
    assert whole.state_dict().keys() == shared.state_dict().keys()


def test_the_functions_of_the_demo(trained, text):
    play = Playground.open("checkpoints/last.pt")
    drawn = play.draw(text)
    assert drawn.text == text and bool(drawn.layers) == play.cycle.scene_decoder.has_layers
    assert play.draw(play.example()).text == play.example() and play.draw(play.invented(1)).reading.words
    assert play.words(text)[:2] == text.split()[:2]
    swapped = play.draw(play.swapped(text, 1, "dog" if "captions" in trained.name else "blue"))
    for swap in play.swaps(text):
        play.draw(play.swapped(text, swap.place, swap.others[0]))
    for kind, ((low, high), neutral, _) in DAMAGE.items():
        assert play.read(damage(drawn.picture, **{kind: low if neutral == high else high})).words
    shown = fragments.round_trip(drawn) + fragments.parts(drawn) + fragments.comparison(drawn, swapped)
    assert shown.count("<img") == 4 + len(drawn.layers)


def test_the_page_of_the_demo(trained, text):
    pytest.importorskip("gradio")
    from playground import page

    play = Playground.open("checkpoints/last.pt")
    page.build(play, "last.pt")
    handlers = page.Handlers(play)
    shown = handlers.draw(text)
    pixels, place = shown[4], shown[7].value
    assert shown[6] == text and len(handlers.invent(0)) == len(shown) + 2
    if place is not None:
        assert handlers.swap(text, place, handlers.other_words(text, place).choices[0][1]).count("<img") == 3
    assert "<img" in handlers.damaged(pixels, text, 0, 1.0, 0.0, 100)
    assert "<img" in handlers.erased({"composite": Image.new("RGB", (64, 64))}, pixels, text)


QUICK_SECTIONS = ("real_text", "alphabet", "coherence")


@pytest.mark.parametrize("sections", [QUICK_SECTIONS, pytest.param(tuple(evaluate.SECTIONS), marks=pytest.mark.slow)])
def test_evaluate(trained, sections, monkeypatch):
    """Without the page and the sections that take long; each of them is finite and in its range."""
    measure_less(monkeypatch)
    tiny = dict(sentences=6, corrupted=2, structure=8, permutations=3, probe=12, steps=1, every=1, checks=2, vendi=6)
    model = open_model("checkpoints/last.pt", torch.device("cpu"))
    for name in set(sections) & evaluate.SECTIONS.keys():
        section = evaluate.SECTIONS[name]
        if section.applies_to(model) and not (section.needs_slots and model.lines is not None):
            assert run_section(name, model, **tiny, invented=3)["metrics"], name


@pytest.mark.slow
def test_the_page_of_evaluate(trained, tmp_path, monkeypatch):
    measure_less(monkeypatch)
    for name in ("scenes", "legibility"):  # they take a minute
        monkeypatch.delitem(evaluate.SECTIONS, name)
    assert run(evaluate.main, *CHECKPOINT, "--out_dir", tmp_path, "--quick", "--threads", 1) == 0
    assert (tmp_path / "index.html").stat().st_size > 10_000 and (tmp_path / "report.md").exists()
