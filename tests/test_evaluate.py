"""evaluate.py on a trained model, an untrained one, a cheat and bad input: the real script, and its parts with small plans."""

import copy
import json
import math
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, run_script

import evaluate
from checkpoints import load_model, model_state, save
from data_utils import EOS, GrammarData, Vocabulary
from decoders.scene import Scene
from evaluation import legibility, reading
from evaluation.baselines import Pair
from evaluation.legibility import FOUR_SLOTS
from evaluation.protocol import Plan, Subject
from models import Circle
from settings import Settings
from text.grammar import SLOT_WORDS, parse, sample_sentences

SMALL = Plan(24, 12, 30, 19, 40, 3, 2, 8, ("plain convolutions",), 20, 10, True)


@pytest.fixture
def small_plan(monkeypatch):
    """`--quick` with next to nothing to measure, and without the section that would still take long."""
    monkeypatch.setattr(evaluate, "QUICK", SMALL)
    monkeypatch.delitem(evaluate.SECTIONS, "legibility")


@pytest.fixture(scope="session")
def evaluation(tiny_run, tmp_path_factory):
    """The tiny run evaluated with the small plan -> (folder, metrics)."""
    folder = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "QUICK", SMALL)
        assert (
            evaluate.main(
                ["--checkpoint", str(tiny_run / "checkpoints/last.pt"), "--out_dir", str(folder), "--quick", "--threads", "1"]
            )
            == 0
        )
    return folder, json.loads((folder / "metrics.json").read_text())


def figures_of(result):
    for model in result["models"]:
        for section, content in model["sections"].items():
            for name, figure in content["figures"].items():
                yield f"{section} · {name}", figure


def check_figures(result):
    """Every figure is finite, in its range, and has n, a seed and baselines."""
    count = 0
    for name, figure in figures_of(result):
        low, high = figure["range"]
        assert figure["n"] > 0 and isinstance(figure["seed"], int), name
        assert figure["baselines"], f"{name} has no baseline"
        for value in [figure["value"], *figure["baselines"].values(), *(figure["interval"] or [])]:
            if value is None:  # steps to 95 % that were never reached
                assert "steps to 95" in name
                continue
            assert math.isfinite(value), name
            assert (low is None or value >= low - 1e-9) and (high is None or value <= high + 1e-9), (name, value, low, high)
        if figure["interval"]:
            assert figure["interval"][0] - 1e-9 <= figure["value"] <= figure["interval"][1] + 1e-9, name
        count += 1
    return count


# ---------------------------------------------------------------------------------------------
# What it writes
# ---------------------------------------------------------------------------------------------


def test_every_figure_is_finite_in_range_and_beside_baselines(evaluation):
    assert check_figures(evaluation[1]) > 80


def test_all_sections_splits_and_slots_are_there(evaluation):
    sections = evaluation[1]["models"][0]["sections"]
    assert set(sections) == set(evaluate.SECTIONS)
    names = set(sections["circle"]["figures"])
    for split in ("test", "test_pairs", "test_ood"):
        assert {
            f"{split} · exact match",
            f"{split} · word error rate",
            f"{split} · slot: color",
            f"{split} · slot: position2",
        } <= names
    baselines = sections["circle"]["figures"]["test · exact match"]["baselines"]
    assert {"chance", "majority", "blank picture", "another's picture"} <= set(baselines)
    assert sum("reader taught 3 steps" in b for b in baselines) == 2  # the random drawer and the drawing program
    counts = np.array(sections["circle"]["details"]["confusion"]["test"]["color"]["counts"])
    assert counts.shape == (11, 12) and counts.sum() == sections["circle"]["figures"]["test · slot: color"]["n"]


def test_report_tells_the_figures_of_the_json(evaluation):
    folder, result = evaluation
    text = (folder / "report.md").read_text()
    value = result["models"][0]["sections"]["circle"]["figures"]["test · word accuracy"]["value"]
    assert f"**{100 * value:.1f}\u00a0%**" in text and "Robustness" in text and f"seed {result['seed']}" in text
    assert not (folder / "partial.json").exists()


def test_nothing_is_overwritten_without_force(evaluation, tiny_run, capsys, small_plan):
    folder, _ = evaluation
    before = {name: (folder / name).read_bytes() for name in evaluate.OUTPUTS}
    assert evaluate.main(["--checkpoint", str(tiny_run / "checkpoints/last.pt"), "--out_dir", str(folder), "--quick"]) == 1
    error = capsys.readouterr().err
    assert "exists" in error and "--force" in error and error.count("\n") == 1
    assert before == {name: (folder / name).read_bytes() for name in evaluate.OUTPUTS}


@pytest.mark.slow
def test_interrupted_evaluation_goes_on(evaluation, tiny_run, tmp_path, monkeypatch, small_plan):
    """The second start measures only what the first had not, and the end is that of a run in one go."""
    arguments = ["--checkpoint", str(tiny_run / "checkpoints/last.pt"), "--out_dir", str(tmp_path), "--quick", "--threads", "1"]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(evaluate.SECTIONS, "meaning", (interrupted, 1, True))
        assert evaluate.main(arguments) == 130
    done = json.loads((tmp_path / "partial.json").read_text())["sections"]
    assert "0/circle" in done and "0/meaning" not in done and not (tmp_path / "metrics.json").exists()

    def again(*_):
        raise AssertionError("measured twice")

    monkeypatch.setitem(evaluate.SECTIONS, "circle", (again, 1, False))
    assert evaluate.main(arguments) == 0
    result = json.loads((tmp_path / "metrics.json").read_text())
    whole = copy.deepcopy(evaluation[1])
    del whole["models"][0]["sections"]["legibility"]
    assert {**result, "seconds": 0} == {**whole, "seconds": 0}


def test_partial_results_of_another_evaluation_are_refused(tiny_run, tmp_path, capsys, small_plan):
    (tmp_path / "partial.json").write_text('{"fingerprint": "other", "sections": {}}')
    assert evaluate.main(["--checkpoint", str(tiny_run / "checkpoints/last.pt"), "--out_dir", str(tmp_path), "--quick"]) == 1
    assert "another evaluation" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["partial.json"]


@pytest.mark.slow
def test_several_checkpoints_read_each_other(tiny_run, tmp_path, monkeypatch, small_plan):
    for name in ("meaning", "structure", "bottleneck", "coherence"):
        monkeypatch.delitem(evaluate.SECTIONS, name)
    paths = [str(tiny_run / "checkpoints" / name) for name in ("checkpoint_epoch_1.pt", "last.pt")]
    assert evaluate.main(["--checkpoint", *paths, "--out_dir", str(tmp_path), "--quick", "--threads", "1"]) == 0
    result = json.loads((tmp_path / "metrics.json").read_text())
    matrix = result["cross_reading"]
    own = [m["sections"]["circle"]["figures"]["test · word accuracy"]["value"] for m in result["models"]]
    assert len(matrix) == len(matrix[0]) == 2 and all(0 <= v <= 1 for row in matrix for v in row)
    assert result["summary"]["circle · test · word accuracy"]["mean"] == pytest.approx(np.mean(own))
    assert "Who reads whom" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_captions_file_leaves_slots_out_by_name(tmp_path, small_plan):
    lines = [
        f"{a} {b} near the {c}"
        for a in "ein zwei drei vier".split()
        for b in "rote Blüten|alte Häuser|kleine Boote".split("|")
        for c in "Fluss Berg Meer".split()
    ]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    done = run_script("train.py", *TINY, "--epochs", 1, "--captions_file", "lines.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checkpoint, out = str(tmp_path / "checkpoints/last.pt"), tmp_path / "out"
    moved = ["--captions_file", str(tmp_path / "lines.txt")]
    assert evaluate.main(["--checkpoint", checkpoint, "--out_dir", str(out), "--quick", "--threads", "1", *moved]) == 0
    result = json.loads((out / "metrics.json").read_text())
    model = result["models"][0]
    assert {"meaning", "Soft", "posdis"} <= set(model["left_out"])
    assert not {"meaning"} & set(model["sections"])
    assert check_figures(result) > 20
    assert not any("slot" in name for name, _ in figures_of(result))
    assert "Blüten".lower() in (out / "index.html").read_text()


# ---------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------


def one_line(done, *words):
    assert done.returncode == 1 and not done.stdout, done
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("evaluate.py: "), done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.mark.slow
def test_bad_checkpoints_are_one_line(tmp_path, tiny_run):
    (tmp_path / "text.pt").write_text("no checkpoint")
    one_line(run_script("evaluate.py", "--checkpoint", "text.pt", "--out_dir", "out", cwd=tmp_path), "text.pt")
    state = torch.load(tiny_run / "checkpoints/last.pt", weights_only=True)
    save(tmp_path / "new.pt", {**state, "format": 99})
    one_line(run_script("evaluate.py", "--checkpoint", "new.pt", "--out_dir", "out", cwd=tmp_path), "new.pt", "format 99")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content, words", [("", "0 usable"), ("one sentence only\n", "1 usable")])
def test_captions_file_of_nothing_is_one_line(tmp_path, content, words, capsys):
    (tmp_path / "lines.txt").write_text(content)
    vocab = Vocabulary.of(["one", "sentence", "only"])
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, captions_file=str(tmp_path / "lines.txt"))
    save(tmp_path / "c.pt", model_state(Circle(settings, len(vocab), 4), vocab, settings))
    assert evaluate.main(["--checkpoint", str(tmp_path / "c.pt"), "--out_dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    os.remove(tmp_path / "lines.txt")
    assert evaluate.main(["--checkpoint", str(tmp_path / "c.pt"), "--out_dir", str(tmp_path / "out")]) == 1
    assert "--captions_file" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------
# It tells a language from none, and from a trick
# ---------------------------------------------------------------------------------------------


class LowestBit:
    """The cheat: every sentence is the same gray to the eye; its words hide in the lowest bit of the first pixels."""

    def __init__(self, max_words):
        self.places = max_words + 1

    def draw(self, ids):
        words = F.pad(ids, (0, self.places - ids.shape[1]))
        bits = (words[..., None] >> torch.arange(8)) & 1
        pixels = torch.full((len(ids), 3 * 64 * 64), 128)
        pixels[:, : self.places * 8] += bits.flatten(1)
        none = torch.zeros(len(ids), 1)
        return Scene(pixels.view(-1, 3, 64, 64) / 255, none, none, none[:, 0])

    def read(self, picture, temperature=0.0, rng=None):
        bits = (picture * 255).round().long().flatten(1)[:, : self.places * 8].view(len(picture), self.places, 8) & 1
        words = (bits << torch.arange(8)).sum(2)
        words = torch.where(words < len(Vocabulary.of_grammar()), words, 3)
        return torch.where(words == 0, EOS, words), torch.zeros(len(picture)), torch.full((*words.shape, 64), 1 / 64)


@pytest.fixture(scope="module")
def cheat():
    vocab, trick = Vocabulary.of_grammar(), LowestBit(14)
    pair = Pair(trick.draw, trick)
    pair.language_model = SimpleNamespace(max_words=14)  # of which the random drawer beside it needs to know
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, channel=False)
    return Subject(pair, vocab, settings, torch.device("cpu"), "cheat")


def section(name, subject, **plan):
    return evaluate.SECTIONS[name][0](subject, Plan(**{**vars(SMALL), **plan}), 0, lambda _: None)


def test_cheat_comes_back_whole_and_is_caught_by_wear(cheat):
    figures = section("circle", cheat, sentences=60)["figures"]
    assert figures["test · exact match"]["value"] == 1.0 and figures["test_ood · exact match"]["value"] == 1.0
    curves = section("robustness", cheat, worn=30)["details"]["curves"]
    for kind in ("jpeg", "blur", "noise", "resample", "low_pass"):
        assert max(curves[kind]["exact_match"][1:]) < 0.2, kind  # the mildest blur rounds back to the same bits
    assert not any(c["trained_on"] for c in curves.values())


def test_cheat_cannot_be_read_by_a_person(cheat):
    own = legibility.measure(cheat.circle, cheat.vocab, cheat.device, 0, True)
    assert own["color_from_histogram_64"] < 0.25
    assert own["swap_changed_mean"] == 0 and own["swap_visible_min"] < 1
    assert own["naive_reader_4_mean"] < 0.2  # chance is 0.134
    assert abs(own["topographic_similarity"]) < 0.1


def test_cheat_leaves_no_trace_in_structure_and_probes(cheat):
    figures = section("structure", cheat, structure=80)["figures"]
    assert abs(figures["topographic similarity · slots, pixels"]["value"]) < 0.1
    probes = section("meaning", cheat, probe=300)["figures"]
    for slot, words in (("size", 5), ("color", 11), ("object", 10), ("position", 7)):
        assert probes[f"linear probe · {slot}"]["value"] < 1 / words + 0.15, slot


class Painted:
    """A language made by hand: a quarter of the picture for each slot, in a colour for each word.

    `message`: (sentence, its four words' numbers) -> the four numbers that are painted.
    """

    # Twelve colours on a sphere (a spiral of the golden angle): none lies between others, so each can be told by a linear rule
    HEIGHT, TURN = (torch.arange(12) + 0.5) / 6 - 1, torch.arange(12) * math.pi * (3 - 5**0.5)
    WIDTH = (1 - HEIGHT**2).sqrt()
    PALETTE = 0.5 + 0.45 * torch.stack([WIDTH * TURN.cos(), WIDTH * TURN.sin(), HEIGHT], 1)

    def __init__(self, message):
        self.message = message

    def __call__(self, ids):
        pictures = torch.full((len(ids), 3, 64, 64), 0.5)
        vocab = Vocabulary.of_grammar()
        for picture, row in zip(pictures, ids.tolist()):
            sentence = vocab.decode(row)
            slots = parse(sentence)[1]
            numbers = [SLOT_WORDS[s].index(slots[s]) if s in slots else 11 for s in FOUR_SLOTS]
            for k, number in enumerate(self.message(sentence, numbers)):
                y, x = 32 * (k // 2), 32 * (k % 2)
                picture[:, y : y + 32, x : x + 32] = self.PALETTE[number % 12, :, None, None]
        none = torch.zeros(len(ids), 1)
        return Scene(pictures, none, none, none[:, 0])


def painted(message):
    pair = Pair(Painted(message))
    pair.language_model = SimpleNamespace(max_words=14)
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54)
    return Subject(pair, Vocabulary.of_grammar(), settings, torch.device("cpu"), "painted")


def scrambled(sentence, _numbers):
    """Every sentence has its own picture, and like sentences have unlike ones."""
    return np.random.default_rng(list(sentence.encode())).integers(12, size=4).tolist()


def unrelated():
    rng = np.random.default_rng(3)
    return lambda _sentence, _numbers: rng.integers(12, size=4).tolist()


LANGUAGES = {"perfect": lambda _, numbers: numbers, "holistic": scrambled, "random": unrelated()}


@pytest.fixture(scope="module")
def languages():
    out = {}
    for name, message in LANGUAGES.items():
        subject = painted(message)
        out[name] = {k: section(k, subject, structure=120, probe=1200)["figures"] for k in ("structure", "meaning")}
        rng = np.random.default_rng(0)

        def draw(slots, subject=subject):
            return legibility.draw_slots(subject.circle, subject.vocab, subject.device, slots)

        out[name]["naive"] = legibility.few_shot_accuracy(draw, "color", 4, legibility._pixels, rng, 150)
        out[name]["swaps"] = legibility.swaps(draw, "color", rng, pairs=30)
        out[name]["topsim"] = legibility.topographic_similarity(draw, rng, 100, 199)
    return out


@pytest.mark.slow
def test_perfect_language_scores_as_theory_says_in_every_structural_measure(languages):
    figures = languages["perfect"]
    structure = {k: f["value"] for k, f in figures["structure"].items()}
    assert structure["topographic similarity · slots, pixels"] > 0.5
    assert structure["topographic similarity · slots, random features"] > 0.4
    assert structure["posdis, shuffled null subtracted"] > 0.6  # of 1, less what the null of 120 sentences takes off
    assert all(f["mantel_p"] <= 0.05 for f in figures["structure"].values() if "mantel_p" in f)
    # 44 pictures with three other slots at random teach about half of the colours; the other languages stay below a quarter
    assert figures["naive"] > 0.5 and figures["topsim"][0] > 0.5 and figures["topsim"][1] == 1 / 200
    assert 0.2 < figures["swaps"]["changed"] < 0.35 and figures["swaps"]["overlap"] == 1.0  # one quarter, always the same
    for slot in FOUR_SLOTS:
        assert figures["meaning"][f"linear probe · {slot}"]["value"] > 0.9
        assert figures["meaning"][f"distance within a word / between words · {slot}"]["value"] < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", ["holistic", "random"])
def test_language_without_parts_scores_nothing_in_every_structural_measure(languages, name):
    figures = languages[name]
    for key, figure in figures["structure"].items():
        if "mantel_p" in figure:
            assert abs(figure["value"]) < 0.12, key
        if "shuffled null" in key:
            assert abs(figure["value"]) < 0.1, key
    assert figures["naive"] < 0.25 and abs(figures["topsim"][0]) < 0.1
    assert figures["swaps"]["changed"] > 0.6  # one word swapped, and all of the picture is another
    for slot in FOUR_SLOTS:
        assert figures["meaning"][f"linear probe · {slot}"]["value"] < 1 / len(SLOT_WORDS[slot]) + 0.15
        assert figures["meaning"][f"distance within a word / between words · {slot}"]["value"] == pytest.approx(1, abs=0.06)


def check_order(result):
    """What must hold between figures, whatever the model."""
    for model in result["models"]:
        at = {f"{s} · {k}": f for s, c in model["sections"].items() for k, f in c["figures"].items()}
        value = {k: f["value"] for k, f in at.items()}
        for split in ("test", "test_pairs", "test_ood"):
            exact, hard, words = (value[f"circle · {split} · {k}"] for k in ("exact match", "Hard (all slots)", "word accuracy"))
            assert exact <= hard + 1e-9 and exact <= words + 1e-9
            assert hard <= min(v for k, v in value.items() if k.startswith(f"circle · {split} · slot: color")) + 1e-9
        scores = [value[f"bottleneck · Vendi score, q = {q}"] for q in ("1", "2", "∞")]
        assert scores == sorted(scores, reverse=True)
        bits = at["bottleneck · bits through the picture (at least)"]
        assert bits["value"] <= bits["baselines"]["all of the text"] + 1e-9
        assert (
            value["language model · perplexity of a word"]
            > 0.95 * at["language model · perplexity of a word"]["baselines"]["the grammar itself"]
        )
        valid, new = (value[f"language model · invented sentences that parse{k}"] for k in ("", " and that training never shows"))
        assert new <= valid
        for name in [k for k in at if "total variation" in k]:
            assert value[name] < at[name]["baselines"]["white noise"]
        for name in [k for k in at if "spectral slope" in k]:
            assert value[name] < at[name]["baselines"]["white noise"]
        curves = model["sections"]["robustness"]["details"]["curves"]
        assert all(len(c["exact_match"]) == len(c["strengths"]) for c in curves.values())
        for build in {k.split(" · ")[1] for k in value if k.startswith("readers")}:
            area, end = (value[f"readers · {build} · {k}"] for k in ("area under the curve", "exact match at the end"))
            assert area <= max(1e-9, max(v for k, c in model["sections"]["readers"]["details"]["curves"].items() for _, v in c)), (
                end
            )


def test_figures_are_ordered_as_they_should_be(evaluation):
    check_order(evaluation[1])


@pytest.mark.slow
def test_untrained_model_scores_below_every_threshold_and_stays_finite(tmp_path, small_plan):
    vocab = Vocabulary.of_grammar()
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, use_vae=True)
    torch.manual_seed(0)
    save(tmp_path / "c.pt", model_state(Circle(settings, len(vocab), 14), vocab, settings))
    assert (
        evaluate.main(["--checkpoint", str(tmp_path / "c.pt"), "--out_dir", str(tmp_path / "out"), "--quick", "--threads", "1"])
        == 0
    )
    result = json.loads((tmp_path / "out/metrics.json").read_text())
    assert check_figures(result) > 70
    check_order(result)
    sections = result["models"][0]["sections"]
    assert sections["circle"]["figures"]["test · exact match"]["value"] == 0
    assert sections["bottleneck"]["figures"]["bits through the picture (at least)"]["value"] < 1
    assert sections["language model"]["figures"]["invented sentences that parse"]["value"] < 0.2


def test_drawing_program_draws_every_sentence_differently():
    from evaluation.baselines import draw_by_hand

    texts = sorted({s for split in ("test", "test_pairs", "test_ood") for s in sample_sentences(400, split, 3)})
    assert len({draw_by_hand(t).tobytes() for t in texts}) == len(texts)


@pytest.mark.slow
def test_fresh_readers_learn_a_drawer(tiny_run):
    """The plain reader gets somewhere on the drawing program within 60 steps, and the curve says so."""
    circle, vocab, settings = load_model(tiny_run / "checkpoints/last.pt", torch.device("cpu"))
    subject = Subject(circle, vocab, settings, torch.device("cpu"), data=GrammarData(1 << 20, 5))
    plan = Plan(**{**vars(SMALL), "steps": 60, "every": 30, "sentences": 40})
    result = reading.readers_section(subject, plan, 0, lambda _: None)
    scores = result["details"]["scores"]["hand-made"]["test"]
    assert scores["word accuracy"] > 0.3 and len(result["details"]["curves"]["hand-made, plain convolutions"]) == 2


def test_soft_interval_holds_its_value():
    """A slot that few sentences have weighs as much as the others, in the interval too."""
    originals = ["a red ball", "a huge red ball", "a blue box", "a tiny pink star"]
    captions = ["a red box", "a huge red ball", "a blue box", "a small pink star"]
    values, weights = reading.per_sentence("Soft (mean of slots)", originals, captions)
    assert (values.sum(0) / weights.sum(0)).mean() == pytest.approx(reading.score(originals, captions)["Soft (mean of slots)"])


@pytest.mark.slow
def test_quick_evaluation_from_the_command_line(tiny_run, tmp_path):
    shutil.copy(tiny_run / "checkpoints/last.pt", tmp_path / "c.pt")
    done = run_script("evaluate.py", "--checkpoint", "c.pt", "--out_dir", "out", "--quick", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("exact match on 200 unseen sentences")
    result = json.loads((tmp_path / "out/metrics.json").read_text())
    assert check_figures(result) > 80 and (tmp_path / "out/index.html").stat().st_size < 10_000_000
