"""The section about codes, on counts whose values are known, and on a model."""

import numpy as np
import pytest
import torch
from evaluation_cases import check_metrics, run_section
from parrot import blank

import evaluate
from evaluation.protocol import open_model
from evaluation.report import page
from evaluation.report.markdown import markdown
from evaluation.report.page_glyphs import alphabet_sheet
from evaluation.sections import alphabet

ONE_EACH = {"a": np.diag([3, 1, 2]), "b": np.diag([4, 4])}
ALL_ONE_CODE = {"a": np.array([[1, 0], [1, 0], [2, 0]])}
TWO_CODES_A_WORD = {"a": np.array([[2, 2, 0, 0], [0, 0, 3, 1]])}


def transposed(counts):
    return {name: c.T for name, c in counts.items()}


def test_purity_of_known_alphabets():
    assert alphabet.purity(ONE_EACH) == alphabet.purity(transposed(ONE_EACH)) == 1
    assert alphabet.purity(ALL_ONE_CODE) == 0.5 and alphabet.purity(transposed(ALL_ONE_CODE)) == 1
    assert alphabet.purity(TWO_CODES_A_WORD) == 1 and alphabet.purity(transposed(TWO_CODES_A_WORD)) == 5 / 8


def test_homonyms_and_synonyms_are_counted():
    assert alphabet.share_with_several(ONE_EACH) == (0, 0, 5)
    assert alphabet.share_with_several(ALL_ONE_CODE) == (1, 1, 1)
    assert alphabet.share_with_several(transposed(TWO_CODES_A_WORD)) == (1, 2, 2)


def test_perplexity_counts_equally_common_codes():
    assert alphabet.perplexity(np.array([5, 5, 5, 5, 0])) == pytest.approx(4)
    assert alphabet.perplexity(np.array([9, 0])) == 1 and 1 < alphabet.perplexity(np.array([9, 1])) < 2


def test_shuffling_keeps_how_common_words_and_codes_are_and_loses_purity():
    mixed = alphabet.shuffled(ONE_EACH, 0)
    for name, c in ONE_EACH.items():
        assert (mixed[name].sum(0) == c.sum(0)).all() and (mixed[name].sum(1) == c.sum(1)).all()
    assert alphabet.purity(mixed) < 1


@pytest.mark.parametrize("decoder", ["objects", "glyphs"])
def test_a_model_with_codes_is_measured_and_its_codes_are_shown(decoder):
    model = open_model(blank(decoder, use_vq=True), torch.device("cpu"))
    section = run_section("alphabet", model)
    metrics, letters = section["metrics"], section["details"]["letters"]
    if decoder == "glyphs" and not letters:
        pytest.skip("an untrained layout shows no mark")
    check_metrics({"models": [{"sections": {"alphabet": section}}]})
    n_codes = sum(a.n_codes for a in model.cycle.scene_decoder.alphabets.values())
    assert metrics["alphabet/used"]["value"] == pytest.approx(len(letters) / n_codes)
    assert metrics["alphabet/purity_of_words"]["value"] == 1 or decoder == "glyphs"
    assert metrics["alphabet/bits_by_frequency"]["value"] <= metrics["alphabet/bits"]["value"]
    sheet = dict(alphabet_sheet(model, letters))
    assert sum(len(of) for of in sheet.values()) == len(letters)
    assert all(x["picture"].startswith("data:image/png") and x["words"] for of in sheet.values() for x in of)


def test_a_model_without_codes_has_no_such_section():
    assert not evaluate.SECTIONS["alphabet"].applies_to(open_model(blank(), torch.device("cpu")))
    assert evaluate.SECTIONS["alphabet"].applies_to(open_model(blank(use_vq=True), torch.device("cpu")))


@pytest.fixture(autouse=True)
def quick_entropy(monkeypatch):
    """Counting all sentences of the grammar takes seconds, and is tested elsewhere."""
    monkeypatch.setattr(alphabet, "grammar_bits", lambda sentences: 16.0)


NOTHING_ELSE = dict.fromkeys(
    (
        "words",
        "sheets",
        "strips",
        "trips",
        "frames",
        "frame_texts",
        "insides",
        "interpolation",
        "word_maps",
        "word_classes",
    ),
    [],
) | {"wrong": 0, "n_trips": 0, "no_frames": "", "quiz": None, "quiz_filter": ""}


def test_page_and_report_show_each_code_in_use_with_its_words(monkeypatch):
    model = open_model(blank(use_vq=True), torch.device("cpu"))
    section = run_section("alphabet", model)
    empty = {
        "metrics": {},
        "details": {"confusion": {}, "curves": {"this_model": {"": [[1, 0.0]]}}, "steps": 1, "clean": 1.0},
    }
    sections = {"cycle": empty, "captioners": empty, "alphabet": section}
    entry = {"name": model.name, "sections": sections, "left_out": {}, "grounded_words": model.grounded_words}
    about = {"seed": 0, "version": "0", "torch": "2", "quick": True, "protocol": {"steps": 1}, "seconds": 0.0}
    result = {
        **about,
        "models": [entry],
        "checkpoints": [{"path": "c.pt", "sha256": "00", "settings": {"grounding": ""}}],
    }
    monkeypatch.setattr(page, "page_content", lambda *_: NOTHING_ELSE)
    monkeypatch.setattr(page, "learning_plot", lambda _: [])
    html = page.render_page(result, model, None, 0)
    sheet = html.partition('id="alphabet-sheet"')[2].partition("</section>")[0]
    assert sheet.count("<figure>") == len(section["details"]["letters"]) > 20
    assert 'alt="color=' in sheet and 'alt="- / background=' in sheet and "dotted" in sheet
    entry["sections"] = {"alphabet": section}
    report = markdown(result)
    assert "### The alphabet" in report and "| background | " in report and "dotted (" in report
