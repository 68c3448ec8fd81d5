"""Grounded words are read from pixels by a reader without the model, and every report names what was grounded."""

import dataclasses

import pytest
import torch
from conftest import ROOT
from drawings import scene, thing
from evaluation_cases import SMALL, run_section
from test_page import result_of

from checkpoints import model_state, save, save_export
from data_utils import GrammarData
from evaluation.measures.grounding import grounding_accuracy
from evaluation.protocol import ModelUnderTest
from evaluation.report import model_card, results_table
from evaluation.report.markdown import markdown
from evaluation.report.page import render_page
from models import Cycle
from settings import Settings
from text.grammar import parse
from text.grounding import grounding_line, load_grounding
from training.trainer import learn_word_classes

ENGLISH = str(ROOT / "groundings" / "english.toml")
FEW = {"red": {"color": [0.9, 0.1, 0.3]}, "blue": {"color": [0.2, 0.4, 0.9]}, "left": {"x": 0.2}, "right": {"x": 0.7}}
LINE = "given, not emerged (own.toml): color of red, blue; x of left, right"


def drawn(given, wrong=()):
    """Draws discs as a grounding file sets, in units of its own; the words of a pair are drawn as each other."""

    def draw(sentences):
        swap, pictures = dict([wrong, wrong[::-1]]) if wrong else {}, []
        for slots in map(parse, sentences):
            said = {}
            for word in slots.values():
                said |= given.get(swap.get(word, word), {})
            x, y = (32 + 18 * (said.get(axis, 0.5) - 0.5) for axis in ("x", "y"))
            radius = 6 * 1.8 ** said.get("size", 0.5)
            pictures.append(scene([thing((x, y), said.get("color", (0.7, 0.6, 0.4)), radius)]))
        return torch.stack(pictures)

    return draw


def under_test(path):
    """An untrained model with a grounding file -> ModelUnderTest."""
    data, settings = (
        GrammarData(1000, 0),
        Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=66, grounding=str(path)),
    )
    torch.manual_seed(0)
    cycle = Cycle(settings, len(data.vocab), data.max_tokens, learn_word_classes(settings, data)).eval()
    return ModelUnderTest(
        cycle=cycle, vocab=data.vocab, settings=settings, device=torch.device("cpu"), name=str(path), data=data
    )


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    path = tmp_path_factory.mktemp("given") / "own.toml"
    path.write_text(
        'red = {color = "#e6194d"}\nblue = {color = "#3366e6"}\nleft = {x = 0.2}\nright = {x = 0.7}\n', encoding="utf-8"
    )
    return under_test(path)


def test_who_draws_as_the_file_says_is_read_and_who_mixes_two_words_up_is_caught():
    english = load_grounding(ENGLISH)
    found = grounding_accuracy(drawn(english), english, 0, 12)
    assert {name: f["accuracy"] for name, f in found.items()} == {"color": 1.0, "position": 1.0, "size": 1.0}
    assert {name: f["n"] for name, f in found.items()} == {"color": 22, "position": 12, "size": 15}
    assert found["position"]["chance"] == pytest.approx(1 / 6)
    for name, pair in {"color": ("red", "brown"), "position": ("top", "corner"), "size": ("small", "large")}.items():
        asked = {word: parts for word, parts in english.items() if parts.keys() == english[pair[0]].keys()}
        found = grounding_accuracy(drawn(english, pair), asked, 0, 12)[name]
        assert found["accuracy"] == pytest.approx(1 - len(pair) / len(asked))  # all pictures of these two are wrong


def test_an_empty_picture_is_read_wrong():
    found = grounding_accuracy(lambda sentences: torch.zeros(len(sentences), 3, 64, 64), FEW, 0, 4)
    assert found["color"]["accuracy"] == 0 and found["color"]["n"] == 4


def test_a_file_that_gives_little_is_asked_for_that_alone():
    found = grounding_accuracy(drawn(FEW), FEW, 0, 6)
    assert {name: (f["accuracy"], f["chance"]) for name, f in found.items()} == {
        "color": (1.0, 0.5),
        "position": (1.0, 0.5),
    }
    assert grounding_accuracy(drawn(FEW), {"red": FEW["red"], "a": FEW["blue"]}, 0, 6) == {}  # nothing to tell apart
    alike = {**FEW, "pink": FEW["red"]}  # equal words cannot be distinguished
    assert grounding_accuracy(drawn(alike), alike, 0, 6)["color"]["accuracy"] == 1.0


def test_what_the_shipped_file_gives_is_read_from_pictures_of_a_model():
    model = under_test(ENGLISH)
    found = grounding_accuracy(model.draw, model.grounded_words, 0, 20)
    assert (
        found["color"]["accuracy"] >= 0.97
        and found["position"]["accuracy"] >= 0.97
        and found["size"]["accuracy"] >= 0.8
    )
    ungrounded = dataclasses.replace(model.cycle.word_classes, grounding={})
    cycle = Cycle(model.settings, len(model.vocab), model.max_tokens, ungrounded).eval()
    other = ModelUnderTest(cycle=cycle, vocab=model.vocab, settings=model.settings, device=model.device)
    colors = {word: parts for word, parts in model.grounded_words.items() if "color" in parts}
    assert other.grounded_words == {} and grounding_accuracy(other.draw, colors, 0, 20)["color"]["accuracy"] < 0.5


def test_only_what_pictures_show_is_told_as_given(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('red = {color = "#ff0000", size = 0.1}\na = {color = "#00ff00"}\n', encoding="utf-8")
    model = under_test(path)
    assert model.grounded_words == {
        "red": {"color": [1, 0, 0]}
    }  # the size of colors, and words without a kind, are not drawn
    assert grounding_line(model.grounded_words, str(path)) == "given, not emerged (own.toml): color of red"


def test_the_report_says_what_was_given(few):
    result = {**result_of(few), "seconds": 1, "protocol": {"steps": 3}}
    assert result["models"][0]["grounded_words"]["left"] == {"x": 0.2}
    result["models"][0]["sections"].pop("captioners")
    assert f"## {few.name}\n\n{LINE}.\n" in markdown(result)
    result["models"][0]["grounded_words"] = {}
    assert "not emerged" not in markdown(result)


@pytest.mark.slow
def test_the_page_says_what_was_given(few):
    assert f'<p class="whose given">{LINE}.</p>' in render_page(result_of(few), few, SMALL, 0)


def test_the_table_and_the_card_say_what_was_given(few, tmp_path, monkeypatch):
    state = model_state(few.cycle, few.vocab, few.settings)
    save(tmp_path / "a.pt", state)
    save(tmp_path / "b.pt", {**state, "word_classes": {**state["word_classes"], "grounding": {}}})
    paths = [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    said = [results_table.grounding_lines_of(some, few.device) for some in (paths[:1], paths[1:], paths)]
    assert said == [[LINE], [], [f"a.pt: {LINE}"]]
    monkeypatch.setattr(model_card, "checkpoint_metrics", lambda *_: {"scenes/grounding_color": 0.25})
    monkeypatch.setattr(model_card, "seconds_of_command", lambda *_: 1.0)
    save_export(str(tmp_path), model_card.without_paths(state))
    card = model_card.model_card(tmp_path, 2, 0)
    assert f"\n\n**G{LINE[1:]}.**\n" in card and "grounded color" in card and '"red" may be green' not in card


@pytest.mark.slow
def test_the_section_has_the_metrics_of_what_was_given_beside_baselines(few):
    metrics = run_section("scenes", few)["metrics"]
    color = metrics["scenes/grounding_color"]
    assert (
        color["value"] == 1.0
        and color["n"] == 6
        and set(color["baselines"]) == {"chance", "random_decoder", "hand_made"}
    )
    assert "scenes/grounding_position" in metrics and "scenes/grounding_size" not in metrics
