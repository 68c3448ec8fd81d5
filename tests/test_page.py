"""The page in a real Chromium: it loads without errors or requests, and what a reader touches works."""

import copy
import dataclasses
import html
import itertools
import json
import re
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import TINY, run_forked
from evaluation_cases import SMALL

from data_utils import CaptionsData
from decoders import DECODERS
from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, open_model
from evaluation.report import page, page_data, page_glyphs, page_inside
from models import Cycle
from settings import resolve
from text.grammar import in_split, parse, to_row
from training import snapshots

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


def nine(id, label, value, **more):
    """A metric of nine items beside chance."""
    found = Metrics(0)
    found.add(id, label, {OWN: value, "chance": 0.1}, 9, better="high", **more)
    return found


def result_of(model):
    """A metrics.json's content with a metric of every kind, as `evaluate.py` would hand it over."""
    words = ["red", "blue"]
    confusion = {"test": {"color": {"words": words, "counts": [[8, 2, 0], [0, 9, 1]]}}} if model.lines is None else {}
    curves = {"jpeg": {"trained_on": True, "strengths": [90, 5], "exact_match": [0.9, 0.1], "halves_at": 5}}
    sections = {
        "cycle": {
            "metrics": nine("exact_match/test", "exact match", 0.9, interval=[0.8, 1.0], split="test"),
            "details": {"confusion": confusion},
        },
        "robustness": {
            "metrics": nine("corruption/jpeg_50", "jpeg 50", 0.5),
            "details": {"clean": 0.9, "curves": curves},
        },
        "captioners": {
            "metrics": nine(
                "captioner/plain_convolutions/steps_to_95", "plain convolutions · steps to 95 %", None, high=None
            ),
            "details": {"curves": {"this_model": {"plain_convolutions": [[2, 0.1], [3, 0.4]]}}, "steps": 3},
        },
    }
    entry = {
        "name": model.name,
        "grounded_words": model.grounded_words,
        "sections": sections,
        "left_out": {"Soft": "<needs & slots>"},
    }
    about = {
        "seed": 7,
        "version": "0123abcd",
        "torch": "2",
        "quick": True,
        "checkpoints": [{"path": "c.pt", "sha256": "00", "settings": vars(model.settings)}],
    }
    return {**about, "models": [entry]}


@pytest.fixture(scope="module")
def model(tiny_run):
    return open_model(tiny_run / "checkpoints/last.pt", torch.device("cpu"))


@pytest.fixture(scope="module", autouse=True)
def same_words_drawn_once():
    """The entries of the words take seconds: here with fewer scenes, and who asks for the same ones gets the first answer again."""
    real, answers = page_data.grammar_words, {}

    def grammar_words(model, seed, confusion):
        asked = (model.name, seed, repr(confusion))
        if asked not in answers:
            answers[asked] = real(model, seed, confusion)
        return copy.deepcopy(answers[asked])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_data, "CONTEXTS", 4)
        patch.setattr(page_data, "grammar_words", grammar_words)
        yield


@pytest.fixture(scope="module")
def built(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page.render_page(result_of(model), model, SMALL, 7), encoding="utf-8")
    return path


def browse(path, *flags):
    """The page's DOM after its scripts ran, and what the browser said."""
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--enable-logging=stderr",
    ]
    flags = [*flags, "--allow-file-access-from-files", "--virtual-time-budget=4000", "--dump-dom", f"file://{path}"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def ask(built, script, *flags):
    """Run a script inside the page, as a user would touch its controls; returns the object that it makes."""
    wrapped = f"""<pre id="answer"></pre><script>"use strict";
    const faults = []; addEventListener("error", e => faults.push(e.message));
    addEventListener("securitypolicyviolation", e => faults.push(e.blockedURI));
    addEventListener("load", () => {{ const answer = (() => {{ {script} }})();
      document.getElementById("answer").textContent = JSON.stringify({{...answer, faults}}); }});</script></body>"""
    copy = built.with_name("asked.html")
    copy.write_text(built.read_text(encoding="utf-8").replace("</body>", wrapped))
    dom, console = browse(copy, *flags)
    answer = json.loads(html.unescape(re.search(r'<pre id="answer">(.*?)</pre>', dom, re.S)[1]))
    assert not answer["faults"] and not console
    return answer


# ---------------------------------------------------------------------------------------------
# The file
# ---------------------------------------------------------------------------------------------


def test_one_file_that_points_nowhere(built):
    text = built.read_text(encoding="utf-8")
    assert built.stat().st_size < 10_000_000
    outside = [u for u in re.findall(r'(?:src|href|action)="([^"]*)"', text) if not u.startswith(("data:", "#"))]
    assert not outside and not re.search(r"url\((?!#)", text) and "@import" not in text and "fetch(" not in text
    assert "default-src 'none'" in text


def test_every_word_of_the_grammar_has_an_entry(built):
    words = re.findall(r'class="word" data-word="([\w ]+)" data-slot="(\w+)"', built.read_text(encoding="utf-8"))
    assert len(words) == 47 and ("red", "color") in words and ("pulsing", "action") in words
    entry = re.search(r'<details class="word" data-word="red".*?</details>', built.read_text(encoding="utf-8"), re.S)[0]
    assert entry.count("<img") == 1 + 3 + 8 and "80.0\u00a0%" in entry and "<b>blue</b> (2×)" in entry


def test_pictures_have_words_for_those_who_do_not_see_them(built):
    pictures = re.findall(r"<img[^>]*>", built.read_text(encoding="utf-8"))
    assert len(pictures) > 500 and all(re.search(r'alt="[^"]+"', p) for p in pictures)


def test_names_are_text_not_markup(built):
    assert "&lt;needs &amp; slots&gt;" in built.read_text(encoding="utf-8")


def test_swaps_change_one_word_only(model):
    entries, means = page_data.grammar_words(
        model, 7, result_of(model)["models"][0]["sections"]["cycle"]["details"]["confusion"]
    )
    assert means.shape == (47, 3, 64, 64)
    for entry in entries[::7]:
        own = parse(entry["swaps"][0]["text"])
        slot = page_data.SHOWN_IN[entry["slot"]][0]
        assert own[slot] == entry["word"]
        for swap in entry["swaps"][1:]:
            other = copy.deepcopy(parse(swap["text"]))
            assert other.pop(slot) == swap["word"] != entry["word"]
            assert other == {k: v for k, v in own.items() if k != slot}


def test_round_trips_are_worst_first(model):
    trips, wrong, n = page_data.round_trips(model, SMALL, 0, shown=30)
    right = [t["right"] for t in trips]
    assert right == sorted(right) and len(trips) == 30 and 85 < n <= 96
    assert wrong > 0 and any(fault for t in trips for _, fault in t["words"])


def test_wrong_and_missing_words_are_marked():
    assert page_data.marked("a red ball", "a red") == [("a", ""), ("red", ""), ("ball", "missing")]
    assert page_data.marked("a red ball", "a big red ball")[1] == ("big", "wrong")


def test_growth_comes_from_what_the_run_kept(model):
    frames, texts, why = page_data.growth(model, 0)
    assert (
        [f["epoch"] for f in frames] == [0, 1, 2]
        and len(texts) == len(frames[0]["cells"]) == snapshots.SENTENCES
        and not why
    )
    assert frames[0]["cells"][0]["picture"] != frames[2]["cells"][0]["picture"]
    assert in_split(np.stack([to_row(parse(t)) for t in texts]), "val").all()


def test_growth_without_logs_is_drawn_by_the_checkpoints_beside(model, tiny_run, tmp_path):
    shutil.copytree(tiny_run / "checkpoints", tmp_path / "checkpoints")
    alone = dataclasses.replace(model, name=str(tmp_path / "checkpoints/last.pt"))
    assert [f["epoch"] for f in page_data.growth(alone, 0)[0]] == [1, 2]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / snapshots.NAME).write_text(
        '{"run": null, "texts": ["a"], "frames": [{"epoch": "<b>"}]}', encoding="utf-8"
    )
    assert [f["epoch"] for f in page_data.growth(alone, 0)[0]] == [1, 2]
    shutil.copy(tiny_run / "logs" / snapshots.NAME, tmp_path / "logs")
    assert [f["epoch"] for f in page_data.growth(alone, 0)[0]] == [0, 1, 2]
    shutil.rmtree(tmp_path / "logs")
    (tmp_path / "checkpoints/checkpoint_epoch_1.pt").unlink()
    frames, _, why = page_data.growth(alone, 0)
    assert frames == [] and "cannot be shown" in why


def test_words_that_lie_together_are_labeled_where_there_is_room():
    points = [
        {"x": 0.0, "y": 0.0, "word": "red"},
        {"x": 0.02, "y": 0.0, "word": "blue"},
        {"x": 0.5, "y": 0.5, "word": "ball"},
    ]
    page_inside.place_labels(points)
    assert [p["label"] for p in points] == [False, True, True] or [p["label"] for p in points] == [True, False, True]


def test_several_models_stand_side_by_side(model, built):
    result = result_of(model)
    other = copy.deepcopy(result["models"][0])
    other["name"] = "runs/b/last.pt"
    other["sections"]["cycle"]["metrics"]["exact_match/test"]["value"] = 0.7
    result = {**result, "models": [*result["models"], other], "cross_reading": [[0.9, None], [0.25, 0.7]]}
    text = page.render_page(result, model, SMALL, 7)
    assert "80.0\u00a0% ± 14.1\u00a0%" in text and "Cross-reading" in text and "25.0\u00a0%" in text
    assert "come from the first, <b>checkpoints/last.pt</b>" in text and "b/last.pt reads" in text
    assert text.count('class="peer"') == 2  # exact match and jpeg; the third metric was never reached
    assert "Cross-reading" not in built.read_text(encoding="utf-8")


def test_a_renamed_label_changes_the_shown_text_only(model, built):
    result = result_of(model)
    result["models"][0]["sections"]["cycle"]["metrics"]["exact_match/test"]["label"] = "renamed"
    result["models"][0]["sections"]["robustness"]["metrics"]["corruption/jpeg_50"]["label"] = "renamed too"
    text = page.render_page(result, model, SMALL, 7)
    assert 'name">renamed ↑<' in text and 'name">renamed too ↑<' in text
    before = built.read_text(encoding="utf-8")
    tiles = re.search(r'<ul class="tiles">.*?</ul>', before, re.S)[0]
    assert (
        "unseen sentences are read exactly" in tiles and "JPEG at quality 50" in tiles and tiles in text
    )  # found by their ids
    text = text.replace("renamed too", "jpeg 50").replace("renamed", "exact match")
    assert text == before


def model_in_line(path, lines, tokenizer, vocab_size=0):
    """An untrained model that writes a captions file of some lines in glyphs."""
    path.write_text("\n".join(lines), encoding="utf-8")
    data = CaptionsData(str(path), 0, tokenizer=tokenizer, vocab_size=vocab_size)
    typed = {
        "captions_file": str(path),
        "tokenizer": tokenizer,
        "d_model": 32,
        "n_heads": 2,
        "n_layers": 1,
        "hidden_dim": 64,
    }
    settings = resolve(typed)
    settings = DECODERS[settings.decoder].fit(settings, [12])
    data.max_tokens = min(data.max_tokens, 12)
    torch.manual_seed(0)
    cycle = Cycle(settings, len(data.vocab), 12).eval()
    return ModelUnderTest(
        cycle=cycle,
        vocab=data.vocab,
        settings=settings,
        device=torch.device("cpu"),
        name=str(path),
        lines=data.test,
        data=data,
    )


def test_a_dictionary_of_glyphs_spells_rare_words_from_the_glyphs_of_tokens(tmp_path):
    lines = [f"A dog saw {n} dogs." for n in range(60)]
    other = model_in_line(tmp_path / "lines.txt", [*lines, "Zebras and zephyrs."], "bpe", 300)
    entries, sheet = page_glyphs.glyph_dictionary(other, {"dog": (4, 3, Counter({"cat": 1}))})
    found = {e["word"]: e for e in entries}
    assert len(found["dog"]["glyphs"]) == 1 < len(found["41"]["glyphs"]) and found["dog"]["accuracy"] == 0.75
    assert found["dog"]["slot"] == "word" and found["z"]["slot"] == "part of words" and "<00>" in found
    drawn, columns = page_glyphs.one_sheet(
        page_glyphs.pictures_of_glyphs(other.cycle, range(3, len(other.vocab)), other.device)
    )
    (column, row), side = found["dog"]["glyphs"][0], sheet["side"]
    assert columns == sheet["columns"]  # all tokens are in use
    number = other.vocab.encode_unit(" dog")
    own = page_glyphs.pictures_of_glyphs(other.cycle, number, other.device)[0]
    assert torch.allclose(drawn[:, row * side : (row + 1) * side, column * side : (column + 1) * side], own, atol=1e-4)


# ---------------------------------------------------------------------------------------------
# In the browser
# ---------------------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.slow
def test_filter_sort_and_slider_work(built):
    answer = ask(built, """
      const type = (id, value, kind) => { const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event(kind)); };
      const shown = () => Array.from(document.querySelectorAll(".word")).filter(w => w.offsetParent !== null).map(w => w.dataset.word);
      const out = { all: shown() };
      type("filter", "  RE", "input"); out.re = shown(); out.count = document.getElementById("count").textContent;
      type("filter", "no such word", "input"); out.none = shown(); out.says = document.getElementById("none").offsetParent !== null;
      type("filter", "", "input"); type("slot", "color", "change"); out.colors = shown();
      type("slot", "", "change"); type("sort", "word", "change"); out.sorted = shown();
      type("sort", "share", "change"); out.shares = Array.from(document.querySelectorAll(".word")).map(w => Number(w.dataset.share));
      const frames = () => Array.from(document.querySelectorAll(".frame")).filter(f => f.offsetParent !== null).map(f => f.dataset.epoch);
      out.before = frames(); type("epoch", "0", "input"); out.after = frames(); out.epoch = document.getElementById("epoch-name").textContent;
      const first = document.querySelector(".word"); first.querySelector("summary").click(); out.open = first.open;
      out.loaded = Array.from(document.images).filter(i => i.loading !== "lazy" && !i.naturalWidth).length;
      out.asked = performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:")).length;
      return out;""")  # fmt: skip
    assert len(answer["all"]) == 47
    assert answer["re"] == [w for w in answer["all"] if "re" in w] and "red" in answer["re"]
    assert answer["count"] == f"{len(answer['re'])} words"
    assert answer["none"] == [] and answer["says"]
    assert len(answer["colors"]) == 11 and answer["sorted"] == sorted(answer["all"])
    assert answer["shares"] == sorted(answer["shares"], reverse=True)
    assert answer["before"] == ["2"] and answer["after"] == ["0"] and answer["epoch"] == "0" and answer["open"]
    assert answer["asked"] == 0 and answer["loaded"] == 0


@needs_chromium
@pytest.mark.slow
def test_ten_thousand_words_are_found_in_a_page_below_ten_megabytes(tmp_path):
    words = ["".join(letters) for letters in itertools.product("aeiou", "bkmpst", "aeiou", "lnrs", "aeiou", "bdfgp")][
        :14000
    ]
    other = model_in_line(
        tmp_path / "lines.txt", [" ".join([*words[i::3500], *words[i % 80 : i % 80 + 3]]) for i in range(3500)], "words"
    )
    path = tmp_path / "index.html"
    path.write_text(page.render_page(result_of(other), other, SMALL, 0), encoding="utf-8")
    assert path.stat().st_size < 10_000_000
    word = other.vocab.words[7000]
    answer = ask(path, f"""
      const filter = document.getElementById("filter"), out = {{ all: all.length }};
      filter.value = " {word.upper()} "; filter.dispatchEvent(new Event("input"));
      const [first, ...more] = all.filter(w => w.offsetParent !== null), mark = first.querySelector("i");
      return {{...out, word: first.querySelector("b").textContent, more: more.length, count: document.getElementById("count").textContent,
        side: mark.offsetWidth, image: getComputedStyle(mark).backgroundImage.slice(0, 22)}};""")  # fmt: skip
    assert answer["all"] == page_glyphs.MOST and (answer["word"], answer["more"], answer["count"]) == (
        word,
        0,
        "1 word",
    )
    assert answer["side"] > 30 and answer["image"] == 'url("data:image/jpeg;b'


@needs_chromium
@pytest.mark.slow
def test_fits_a_phone(built):
    """In a frame of 360 px nothing but tables and the menu is wider than the screen."""
    frame = built.with_name("phone.html")
    frame.write_text(
        f"""<iframe id="phone" src="{built.name}" width="360" height="740"></iframe><pre id="answer"></pre><script>
      addEventListener("load", () => {{ const d = document.getElementById("phone").contentDocument;
        document.getElementById("answer").textContent = d.documentElement.scrollWidth + " " + d.querySelectorAll(".word").length; }});</script>""",
        encoding="utf-8",
    )
    dom, console = browse(frame)
    width, words = re.search(r'<pre id="answer">(\d+) (\d+)</pre>', dom).groups()
    assert int(words) == 47 and int(width) <= 360 and not console


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("scheme", [0, 1])
def test_text_stands_out_in_the_light_and_in_the_dark(built, scheme):
    """Contrast of at least 4.5 (WCAG 2.1, AA) for text, soft text, links and faults, on page and cards."""
    answer = ask(built, """
      const box = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
      const light = name => { box.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name); box.fillRect(0, 0, 1, 1);
        const [r, g, b] = Array.from(box.getImageData(0, 0, 1, 1).data).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
      const out = { paper: light("--paper"), worst: 99 };
      for (const text of ["--text", "--soft", "--main", "--wrong"]) for (const ground of ["--paper", "--card"]) {
        const [a, b] = [light(text), light(ground)].sort((x, y) => y - x); out.worst = Math.min(out.worst, (a + .05) / (b + .05)); }
      return out;""", f"--blink-settings=preferredColorScheme={scheme}")  # fmt: skip
    assert answer["worst"] >= 4.5
    assert (answer["paper"] < 0.1) == (scheme == 0)


@pytest.mark.slow
def test_page_of_a_captions_file_model(tmp_path):
    lines = [
        f"{a} {b} near the {c}"
        for a in "one two three four".split()
        for b in "boats birds houses".split()
        for c in "river hill sea".split()
    ]
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    done = run_forked(
        "train.py",
        *TINY,
        "--decoder",
        "conv",
        "--epochs",
        1,
        "--captions_file",
        str(tmp_path / "lines.txt"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    other = open_model(tmp_path / "checkpoints/last.pt", torch.device("cpu"))
    text = page.render_page(result_of(other), other, SMALL, 0)
    assert 'data-word="near"' in text and "Grammar sheets" not in text and "latents cannot be set" in text
