"""The quiz on the page: what it asks, and a whole round of it in a real Chromium."""

import numpy as np
import pytest
import torch
from parrot import tiny_cycle
from test_page import ask, needs_chromium

from evaluation.measures.color_difference import color_difference
from evaluation.protocol import ModelUnderTest
from evaluation.report import page
from evaluation.report import quiz as quiz_module
from evaluation.report.quiz import EXAMPLES, SCENES, color_blind_filter, color_matrix, quiz


@pytest.fixture(scope="module")
def asked():
    cycle, vocab, settings = tiny_cycle()
    return quiz(ModelUnderTest(cycle=cycle, vocab=vocab, settings=settings, device=torch.device("cpu")), 3)


@pytest.fixture(scope="module")
def built(asked, tmp_path_factory):
    """The quiz alone on a page."""
    path = tmp_path_factory.mktemp("quiz") / "quiz.html"
    template = page._environment().get_template("quiz.html.j2")
    text = template.render(quiz=asked, quiz_filter=color_matrix(), checkpoint="0123")
    path.write_text(f"<!doctype html><meta charset='utf-8'><body>{text}</body>", encoding="utf-8")
    return path


def test_ten_words_twenty_scenes_and_none_seen_before(asked):
    words = [w for s in asked["slots"] for w in s["words"]]
    assert len(words) == len(set(words)) == len(asked["words"]) == 10
    texts = [s["text"] for s in asked["scenes"]]
    assert len(set(texts)) == SCENES
    pictures = asked["pictures"]
    assert not {s["picture"] for s in asked["scenes"]} & set(pictures)
    for entry in asked["words"]:
        assert len(set(entry["pictures"])) == EXAMPLES and max(entry["pictures"]) < len(pictures)
    for scene in asked["scenes"]:
        assert all(word in scene["text"].split() and word in words for word in scene["answers"].values())


def test_another_seed_asks_other_words_and_the_same_seed_the_same():
    words = [quiz_module.ten_words(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert words[0] == words[1] != words[2]
    for seed in range(20):
        chosen = quiz_module.ten_words(np.random.default_rng(seed))
        read = quiz_module.scenes_to_read(chosen, np.random.default_rng(seed))
        assert len(read) == SCENES and all(read.count(s) == 1 for s in read)
        learn = quiz_module.examples("color", chosen["color"][0], read, np.random.default_rng(seed))
        assert len(learn) == EXAMPLES and all(s["color"] == chosen["color"][0] and s not in read for s in learn)
        assert "brown" not in chosen["color"] and "pyramid" not in chosen["object"]


def test_the_naive_reader_answers_the_same_questions(asked):
    """Even an untrained scene decoder draws words of a kind differently: the reader beats chance."""
    assert asked["naive"].keys() == quiz_module.WORDS.keys()
    assert sum(asked["naive"].values()) > 1.3 * SCENES * sum(1 / n for n in quiz_module.WORDS.values())


def test_colors_that_a_color_blind_reader_confuses_are_moved_apart():
    linear = torch.tensor([[0.35, 0.10, 0.05], [0.10, 0.20, 0.05]])  # a red and a green
    see = torch.tensor(quiz_module.DEUTERANOPIA, dtype=torch.float32)

    def apart(colors):
        srgb = (colors.clamp(0, 1) @ see.T).clamp(0, 1) ** (1 / 2.2)
        flat = srgb[:, :, None, None].expand(-1, -1, 64, 64)
        return float(color_difference(flat[:1], flat[1:]).mean())

    moved = linear @ torch.tensor(color_blind_filter(), dtype=torch.float32).T
    assert apart(moved) > 1.3 * apart(linear)
    gray = np.full(3, 0.4)
    assert np.allclose(color_blind_filter() @ gray, gray, atol=1e-3)


ROUND = """
  const quiz = JSON.parse(document.getElementById("quiz-data").textContent);
  const id = name => document.getElementById(name);
  const scene = () => quiz.scenes.find(s => s.picture === document.querySelector(".quiz-scene img").src);
  const play = (choose, start) => {
    id(start).click(); id("quiz-go").click();
    for (let k = 0; k < quiz.scenes.length; k++) {
      const locked = id("quiz-next").disabled; if (!locked) throw new Error("goes on without answers");
      quiz.slots.forEach((s, row) => { const word = choose(s, scene()); document.querySelector(`input[name="quiz-${row}"][value="${word}"]`).click(); });
      id("quiz-next").click();
    }
    return JSON.parse(id("quiz-json").textContent);
  };
"""


@needs_chromium
@pytest.mark.slow
def test_right_answers_give_all_and_random_ones_chance(built, asked):
    answer = ask(built, ROUND + """
      let state = 12345; const random = n => (state = (state * 1103515245 + 12345) % 2147483648, Math.floor(state / 2147483648 * n));
      const right = play((s, scene) => scene.answers[s.slot], "quiz-start");
      const said = id("quiz-result").textContent;
      const guesses = [];
      for (let k = 0; k < 12; k++) guesses.push(play(s => s.words[random(s.words.length)], "quiz-again"));
      const wrong = play((s, scene) => s.words.find(w => w !== scene.answers[s.slot]), "quiz-again");
      return { right, said, guesses, wrong, pictures: document.images.length, save: id("quiz-save").download };""")  # fmt: skip
    right = answer["right"]
    assert right["right"] == right["of"] == 80 and right["scenes_right"] == 20 and "100\u00a0%" in answer["said"]
    assert right["p_of_guessing"] < 1e-20 and right["checkpoint"] == "0123" and right["seed"] == 3
    assert right["chance"] == pytest.approx(5 / 12) and right["naive_reader"] == pytest.approx(
        sum(asked["naive"].values()) / 80
    )
    assert len(right["answers"]) == 20 and all(a["given"] == a["right"] and a["seconds"] >= 0 for a in right["answers"])
    assert [a["text"] for a in right["answers"]] == [s["text"] for s in asked["scenes"]]
    shares = [g["right"] / 80 for g in answer["guesses"]]
    assert abs(np.mean(shares) - 5 / 12) < 4 * np.sqrt(5 / 12 * 7 / 12 / 960)
    assert all(0.0005 < g["p_of_guessing"] <= 1 for g in answer["guesses"])
    assert answer["wrong"]["right"] == 0 and answer["wrong"]["p_of_guessing"] == pytest.approx(1)
    assert answer["save"] == "quiz_answers.json"


@needs_chromium
@pytest.mark.slow
def test_the_whole_quiz_with_keys_alone_and_the_color_blind_mode(built):
    answer = ask(built, ROUND + """
      const press = key => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
      id("quiz-colors").click(); id("quiz-start").click();
      const shifted = getComputedStyle(document.querySelector(".quiz-word img")).filter, learn = document.querySelectorAll(".quiz-word img").length;
      id("quiz-go").click();
      press("Enter"); const kept = document.querySelector("h3").textContent;
      for (let k = 0; k < quiz.scenes.length; k++) {
        quiz.slots.forEach((s, row) => {
          if (row === 1) { press("9"); press("1"); press("Backspace"); }
          press(String(1 + s.words.indexOf(scene().answers[s.slot])));
        });
        press("Enter");
      }
      return { learn, shifted: id("quiz-stage").className, kept, result: JSON.parse(id("quiz-json").textContent) };""")  # fmt: skip
    assert answer["learn"] == 40 and answer["kept"] == "Scene 1 of 20" and answer["shifted"] == "shifted"
    assert answer["result"]["right"] == 80 and answer["result"]["color_blind_mode"] is True
