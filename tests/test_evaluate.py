"""evaluate.py: what it writes, how it goes on after an interruption, and bad input."""

import copy
import json
import os
import shutil

import numpy as np
import pytest
import torch
from conftest import TINY, run_forked, run_script
from evaluation_cases import SMALL, check_metrics, check_order, measure_less, metrics_of

import evaluate
from checkpoints import model_state, save
from data_utils import CaptionsFileError, GrammarData, Vocabulary
from evaluation.measures import robustness
from evaluation.protocol import open_unseen
from evaluation.report import labels, page, results_table
from evaluation.report.markdown import all_metrics, full_label, markdown
from evaluation.sections import captioners
from models import Cycle
from settings import Settings
from text.word_classes import find_word_classes


@pytest.fixture
def small_protocol(monkeypatch):
    """`--quick` with next to nothing to measure, and without the section that would still take long."""
    measure_less(monkeypatch)
    monkeypatch.delitem(evaluate.SECTIONS, "legibility")


@pytest.fixture(scope="session")
def evaluation(tiny_run, tmp_path_factory):
    """The tiny run evaluated with the small protocol -> (folder, metrics.json's content)."""
    folder = tmp_path_factory.mktemp("evaluation")
    arguments = [
        "--checkpoint",
        str(tiny_run / "checkpoints/last.pt"),
        "--out_dir",
        str(folder),
        "--quick",
        "--threads",
        "1",
    ]
    arguments += ["--real_pictures"]
    with pytest.MonkeyPatch.context() as patch:
        measure_less(patch)
        assert evaluate.main(arguments) == 0
    return folder, json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------
# What it writes
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_metric_is_finite_in_range_and_beside_baselines(evaluation):
    assert check_metrics(evaluation[1]) > 80


@pytest.mark.slow
def test_all_sections_splits_and_slots_are_there(evaluation):
    sections = evaluation[1]["models"][0]["sections"]
    assert set(sections) == {
        name for name, section in evaluate.SECTIONS.items() if not section.needs_lines | section.needs_codes
    }
    ids = set(sections["cycle"]["metrics"])
    for split in ("test", "test_pairs", "test_ood", "test_frames"):
        assert {
            f"exact_match/{split}",
            f"word_error_rate/{split}",
            f"slot_accuracy/{split}/color",
            f"slot_accuracy/{split}/position",
        } <= ids
    beside = sections["cycle"]["metrics"]["exact_match/test"]["baselines"]
    assert {"chance", "majority", "blank_picture", "other_picture"} <= set(beside)
    assert {"random_decoder/fresh_captioner", "hand_made/fresh_captioner"} <= set(beside)
    assert sections["captioners"]["details"]["steps"] == 3
    counts = np.array(sections["cycle"]["details"]["confusion"]["test"]["color"]["counts"])
    assert counts.shape == (11, 12) and counts.sum() == sections["cycle"]["metrics"]["slot_accuracy/test/color"]["n"]


@pytest.mark.slow
def test_report_tells_the_metrics_of_the_json(evaluation):
    folder, result = evaluation
    text = (folder / "report.md").read_text(encoding="utf-8")
    value = result["models"][0]["sections"]["cycle"]["metrics"]["word_accuracy/test"]["value"]
    assert f"**{100 * value:.1f}\u00a0%**" in text and "Robustness" in text and f"seed {result['seed']}" in text
    assert not (folder / "partial.json").exists()


@pytest.mark.slow
def test_nothing_is_overwritten_without_force(evaluation, tiny_run, capsys, small_protocol):
    folder, _ = evaluation
    before = {name: (folder / name).read_bytes() for name in evaluate.OUTPUTS}
    assert (
        evaluate.main(["--checkpoint", str(tiny_run / "checkpoints/last.pt"), "--out_dir", str(folder), "--quick"]) == 1
    )
    error = capsys.readouterr().err
    assert "exists" in error and "--force" in error and error.count("\n") == 1
    assert before == {name: (folder / name).read_bytes() for name in evaluate.OUTPUTS}


@pytest.mark.slow
@pytest.mark.slow
def test_interrupted_evaluation_goes_on(evaluation, tiny_run, tmp_path, monkeypatch, small_protocol):
    """The second start measures only what the first had not, and the end is that of a run in one go."""
    arguments = [
        "--checkpoint",
        str(tiny_run / "checkpoints/last.pt"),
        "--out_dir",
        str(tmp_path),
        "--quick",
        "--threads",
        "1",
    ]
    arguments += ["--real_pictures"]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(evaluate.SECTIONS, "meaning", evaluate.Section(interrupted, 1, True))
        assert evaluate.main(arguments) == 130
    done = json.loads((tmp_path / "partial.json").read_text(encoding="utf-8"))["sections"]
    assert "0/cycle" in done and "0/meaning" not in done and not (tmp_path / "metrics.json").exists()

    def again(*_):
        raise AssertionError("measured twice")

    monkeypatch.setitem(evaluate.SECTIONS, "cycle", evaluate.Section(again, 1))
    assert evaluate.main(arguments) == 0
    result = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    whole = copy.deepcopy(evaluation[1])
    del whole["models"][0]["sections"]["legibility"]
    assert {**result, "seconds": 0} == {**whole, "seconds": 0}


def test_partial_results_of_another_evaluation_are_refused(tiny_run, tmp_path, capsys, small_protocol):
    (tmp_path / "partial.json").write_text('{"fingerprint": "other", "sections": {}}', encoding="utf-8")
    assert (
        evaluate.main(["--checkpoint", str(tiny_run / "checkpoints/last.pt"), "--out_dir", str(tmp_path), "--quick"])
        == 1
    )
    assert "another evaluation" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["partial.json"]


@pytest.mark.slow
def test_several_checkpoints_read_each_other(tiny_run, tmp_path, monkeypatch, small_protocol):
    for name in ("scenes", "meaning", "structure", "bottleneck", "coherence", "language_model"):
        monkeypatch.delitem(evaluate.SECTIONS, name)
    paths = [str(tiny_run / "checkpoints" / name) for name in ("checkpoint_epoch_1.pt", "last.pt")]
    assert evaluate.main(["--checkpoint", *paths, "--out_dir", str(tmp_path), "--quick", "--threads", "1"]) == 0
    result = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    matrix = result["cross_reading"]
    own = [m["sections"]["cycle"]["metrics"]["word_accuracy/test"]["value"] for m in result["models"]]
    assert len(matrix) == len(matrix[0]) == 2 and all(0 <= v <= 1 for row in matrix for v in row)
    assert result["summary"]["word_accuracy/test"]["mean"] == pytest.approx(np.mean(own))
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Cross-reading" in report and "Fresh captioners, trained on" in report
    fresh = result["fresh_reading"]
    assert fresh["n"] == SMALL.sentences and fresh["steps"] == SMALL.steps
    for name in ("exact_match", "share", "share_by_chance"):
        assert len(fresh[name]) == 2 and all(0 <= v <= 1 for row in fresh[name] for v in row)
    assert "Cross-reading by fresh captioners" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_captions_file_leaves_slots_out_by_name(tmp_path, small_protocol):
    lines = [
        f"{a} {b} near the {c}"
        for a in "ein zwei drei vier".split()
        for b in "rote Blüten|alte Häuser|kleine Boote".split("|")
        for c in "Fluss Berg Meer".split()
    ]
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    done = run_forked("train.py", *TINY, "--epochs", 1, "--captions_file", "lines.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checkpoint, out = str(tmp_path / "checkpoints/last.pt"), tmp_path / "out"
    moved = ["--captions_file", str(tmp_path / "lines.txt")]
    assert evaluate.main(["--checkpoint", checkpoint, "--out_dir", str(out), "--quick", "--threads", "1", *moved]) == 0
    result = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    model = result["models"][0]
    assert {"meaning", "Soft", "posdis"} <= set(model["left_out"])
    assert not {"meaning"} & set(model["sections"])
    assert check_metrics(result) > 20
    assert not any("slot" in id or "slot" in full_label(metric) for id, metric in metrics_of(result))
    assert "Blüten".lower() in (out / "index.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------
# Ids and labels
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_id_stands_for_one_metric_and_is_no_label(evaluation):
    ids = [id for section in evaluation[1]["models"][0]["sections"].values() for id in section["metrics"]]
    assert len(ids) == len(set(ids))
    assert all(id == id.strip() and " " not in id for id in ids)


@pytest.mark.slow
def test_every_id_has_what_is_shown_for_it(evaluation):
    assert set(labels.TITLES) == set(labels.EXPLAINED) == set(evaluate.SECTIONS)
    assert set(labels.CORRUPTIONS) == set(robustness.CORRUPTIONS)
    assert set(results_table.CONDITIONS) == set(robustness.STANDARD)
    for id, metric in metrics_of(evaluation[1]):
        assert set(metric["baselines"]) <= set(labels.BASELINES), id
    ids = {id for id, _ in metrics_of(evaluation[1])}
    assert set(page.HEADLINES) - ids == {"bits_through_picture/estimate"}  # of captions files


def renamed_labels(result):
    """A metrics.json's content with another label on every metric -> (it, {new label: old label})."""
    result, old = copy.deepcopy(result), {}
    for k, (_, metric) in enumerate(metrics_of(result)):
        old[f"<{k}>"], metric["label"] = metric["label"], f"<{k}>"
    return result, old


@pytest.mark.slow
def test_a_renamed_label_changes_the_shown_text_only(evaluation):
    """All that joins, summarizes or finds metrics goes by ids: other labels leave every value where it was."""
    result = evaluation[1]
    renamed, old = renamed_labels(result)
    sections = renamed["models"][0]["sections"]
    for metric in [*sections["cycle"]["metrics"].values(), *sections["robustness"]["metrics"].values()]:
        metric["baselines"] = {id: v for id, v in metric["baselines"].items() if not id.endswith("/fresh_captioner")}
    captioners.add_trained_baselines(sections)
    for (id, metric), (same_id, other) in zip(metrics_of(result), metrics_of(renamed)):
        assert id == same_id and {**metric, "label": ""} == {**other, "label": ""}
    summary, other_summary = (evaluate.summarize([r["models"][0]] * 2) for r in (result, renamed))
    assert {id: s["mean"] for id, s in summary.items()} == {id: s["mean"] for id, s in other_summary.items()}
    assert len(summary) > 80
    report = markdown(renamed)
    assert all(label in report for label in old)
    for label in old:
        report = report.replace(label, old[label])
    assert report == markdown(result)


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
    (tmp_path / "text.pt").write_text("no checkpoint", encoding="utf-8")
    one_line(run_forked("evaluate.py", "--checkpoint", "text.pt", "--out_dir", "out", cwd=tmp_path), "text.pt")
    state = torch.load(tiny_run / "checkpoints/last.pt", weights_only=True)
    save(tmp_path / "new.pt", {**state, "format": 99})
    one_line(
        run_forked("evaluate.py", "--checkpoint", "new.pt", "--out_dir", "out", cwd=tmp_path), "new.pt", "format 99"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content, words", [("", "0 usable"), ("one sentence only\n", "1 usable")])
def test_captions_file_of_nothing_is_one_line(tmp_path, content, words, capsys):
    (tmp_path / "lines.txt").write_text(content, encoding="utf-8")
    vocab = Vocabulary.of(["one", "sentence", "only"])
    settings = Settings(
        d_model=32,
        n_heads=2,
        n_layers=1,
        hidden_dim=32,
        z_dim=54,
        decoder="glyphs",
        n_cells=4,
        captions_file=str(tmp_path / "lines.txt"),
    )
    save(tmp_path / "c.pt", model_state(Cycle(settings, len(vocab), 4), vocab, settings))
    assert evaluate.main(["--checkpoint", str(tmp_path / "c.pt"), "--out_dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    os.remove(tmp_path / "lines.txt")
    assert evaluate.main(["--checkpoint", str(tmp_path / "c.pt"), "--out_dir", str(tmp_path / "out")]) == 1
    assert "--captions_file" in capsys.readouterr().err


def test_other_sentences_may_be_measured_and_the_grammar_has_no_file(tmp_path):
    (tmp_path / "lines.txt").write_text("a b\nb c\nc d\nd a\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text('id,caption\n1,"a c"\n2,"b d"\n3,"a b"\n', encoding="utf-8")
    settings = Settings(captions_file=str(tmp_path / "lines.txt"))
    test_file = str(tmp_path / "test.csv")
    lines, data = open_unseen(settings, Vocabulary.of("abcd"), {"test_file": test_file, "val_file": None})
    assert sorted(lines) == ["a b", "a c", "b d"] and data.report.held_out == 1
    (tmp_path / "test.csv").unlink()
    with pytest.raises(CaptionsFileError, match="test.csv, .* is missing; name it with --test_file"):
        open_unseen(settings, Vocabulary.of("abcd"), {"test_file": test_file})
    with pytest.raises(CaptionsFileError, match="--test_file: this checkpoint was trained on the grammar"):
        open_unseen(Settings(), Vocabulary.of("abcd"), {"test_file": "x"})


# ---------------------------------------------------------------------------------------------
# What must hold whatever the model
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_metrics_are_ordered_as_they_should_be(evaluation):
    check_order(evaluation[1])


@pytest.mark.slow
def test_untrained_model_scores_below_every_threshold_and_stays_finite(tmp_path, small_protocol):
    vocab = Vocabulary.of_grammar()
    settings = Settings(d_model=32, n_heads=2, n_layers=1, hidden_dim=32, z_dim=54, use_vae=True)
    torch.manual_seed(0)
    classes = find_word_classes(GrammarData(1000, 0).some_sentences(2000), len(vocab))
    save(tmp_path / "c.pt", model_state(Cycle(settings, len(vocab), 24, classes), vocab, settings))
    assert (
        evaluate.main(
            ["--checkpoint", str(tmp_path / "c.pt"), "--out_dir", str(tmp_path / "out"), "--quick", "--threads", "1"]
        )
        == 0
    )
    result = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    assert check_metrics(result) > 70
    check_order(result)
    metrics = all_metrics(result["models"][0])
    assert metrics["exact_match/test"]["value"] == 0
    assert metrics["bits_through_picture"]["value"] < 1
    assert metrics["invented_parse"]["value"] < 0.2


@pytest.mark.slow
def test_quick_evaluation_from_the_command_line(tiny_run, tmp_path):
    shutil.copy(tiny_run / "checkpoints/last.pt", tmp_path / "c.pt")
    done = run_script("evaluate.py", "--checkpoint", "c.pt", "--out_dir", "out", "--quick", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("exact match on 200 unseen sentences")
    result = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    assert check_metrics(result) > 80 and (tmp_path / "out/index.html").stat().st_size < 10_000_000
