"""benchmark.py, the measurements of its processes, and the plain implementation that it compares with."""

import dataclasses
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import run_forked, run_script

import benchmark
import colab_train
from benchmarking import measure
from benchmarking.plain import PlainTrainer
from runtime.devices import amp_dtype
from settings import Settings
from text.vocabulary import PAD

TASK = measure.Task("tiny", False, 1.0, "cpu", 1, 0, None, False)

# ---------------------------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------------------------


def test_flops_of_products_and_lstms_are_counted_forth_and_back():
    """An LSTM is one opaque operation to torch's counter; without a formula of our own it would count as 0."""
    rows, inputs, hidden = 4 * 7, 10, 6
    lstm, linear = torch.nn.LSTM(inputs, hidden, batch_first=True), torch.nn.Linear(hidden, 5)
    x = torch.randn(4, 7, inputs, requires_grad=True)
    lstm_flops = 2 * rows * (inputs + hidden) * 4 * hidden
    assert measure.count_flops(lambda: lstm(x)) == lstm_flops
    linear_flops = 2 * rows * hidden * 5
    assert measure.count_flops(lambda: linear(lstm(x)[0]).sum().backward()) == 3 * (lstm_flops + linear_flops)


def test_a_goal_is_reached_when_it_is_first_met_and_never_otherwise():
    curve = [
        {"step": 20 * i, "seconds": 3.0 * i, "exact_match": m} for i, m in enumerate([0.0, 0.6, 0.4, 0.92, 0.96], 1)
    ]
    assert benchmark.crossings(curve) == {"50 %": 6.0, "90 %": 12.0, "95 %": 15.0, "99 %": None}


def turn_of(seconds, **other):
    turn = {"batch": 8, "dtype": "float32", "flops_per_step": 1e9, "steps": 10, "seconds": float(seconds)}
    return {**turn, "matmul_flops_per_s": 1e11, "peak_bytes": 1000, **other}


def tasks_of(*names):
    return [dataclasses.replace(TASK, name=name) for name in names]


def test_configurations_take_turns_and_have_a_median_and_a_range(monkeypatch):
    asked = []
    monkeypatch.setattr(benchmark, "measure", lambda task: asked.append(task.name) or turn_of((len(asked) + 1) // 2))
    result = benchmark.take_turns(tasks_of("a", "b"), repeats=3)
    assert asked == list("ababab")
    assert result["a"]["sentences_per_s"] == {"median": 80 / 2, "low": 80 / 3, "high": 80 / 1}
    assert result["a"]["ms_per_step"] == {"median": 200, "low": 100, "high": 300}
    assert result["b"]["share_of_matmul"]["median"] == pytest.approx(1e10 / 2 / 1e11)


def test_a_configuration_that_does_not_fit_is_named_and_the_others_go_on(capsys, monkeypatch):
    asked = []

    def measured(task):
        asked.append(task.name)
        if asked.count("large") == 2 and task.name == "large":
            raise measure.Skipped("does not fit into memory")
        return turn_of(1)

    monkeypatch.setattr(benchmark, "measure", measured)
    result = benchmark.take_turns(tasks_of("large", "small"), repeats=3)
    assert result["large"] == {"skipped": "does not fit into memory"} and asked.count("large") == 2
    assert len(result["small"]["turns"]) == 3
    assert "large: skipped: does not fit into memory" in capsys.readouterr().err
    assert "large: skipped: does not fit into memory" in benchmark.speed_tables(result)


def result_of(*seconds, name="a"):
    entry = benchmark.combined([turn_of(s) for s in seconds])
    return {"format": benchmark.RESULT_FORMAT, "device": {"name": "x", "threads": 1}, "speed": {name: entry}}


def test_a_comparison_tells_the_ratio_and_whether_it_is_clear():
    twice = benchmark.comparison(result_of(1.0, 1.1, 0.9), result_of(2.0, 2.2, 1.8))
    assert [c.strip() for c in twice[2].split("|")[1:-1]] == ["a", "2.00×", "yes", "2.00×", "1.00×"]
    noise = benchmark.comparison(result_of(1.0, 1.1, 0.9), result_of(1.05, 1.2, 1.0))
    assert noise[2].split("|")[3].strip() == "no"
    elsewhere = {**result_of(1.0), "device": {"name": "y", "threads": 1}}
    assert "y then, x now" in benchmark.comparison(result_of(1.0), elsewhere)[-1]


def test_ratios_to_the_plain_implementation_are_taken_turn_by_turn():
    plain = f"{measure.PLAIN}a"
    speed = {**result_of(1.0, 2.0, 1.0)["speed"], **result_of(2.0, 6.0, 2.0, name=plain)["speed"]}
    assert benchmark.against_plain(speed)["a"] == pytest.approx({"median": 2.0, "low": 2.0, "high": 3.0})
    speed[plain] = {"skipped": "why ever"}
    assert benchmark.against_plain(speed) == {}


def test_a_gpu_that_is_not_the_current_one_is_waited_for_timed_and_asked_by_name(monkeypatch):
    """Here is no GPU: stand-ins write down which one each call was for. None of them may be for the current one."""
    device, asked = torch.device("cuda:1"), []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream=None):
            asked.append(("event", stream))

        def elapsed_time(self, later):
            return 3.0

    def note(name, answer=None):
        return lambda device=None: asked.append((name, device)) or answer or device

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: device)
    monkeypatch.setattr(torch.cuda, "synchronize", note("synchronize"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", note("memory", 7))
    monkeypatch.setattr(torch.cuda, "get_device_capability", note("capability", (8, 0)))
    monkeypatch.setattr(torch.cuda, "get_device_name", note("name", "a GPU"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", note("properties", SimpleNamespace(total_memory=2**34)))
    monkeypatch.setattr(benchmark, "choose_device", lambda name: torch.device(name))
    monkeypatch.setattr(colab_train, "choose_device", lambda name: torch.device(name))

    measure.wait(device)
    on_cpu = measure.build(TASK, torch.device("cpu"))
    on_cpu.device = device
    laps = measure.Laps(on_cpu)
    laps.mark("data")
    laps.mark("captioner")
    assert laps.seconds()["captioner"] == 0.003
    assert measure.peak_memory(device) == 7
    assert amp_dtype(device) is torch.bfloat16
    assert benchmark.describe_device(SimpleNamespace(device="cuda:1", threads=1))["name"] == "a GPU"
    colab_train.check_gpu("cuda:1")
    calls = {"synchronize", "event", "memory", "capability", "name", "properties"}
    assert {name for name, _ in asked} == calls and {for_ for _, for_ in asked} == {device}


# ---------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One small benchmark with everything in it: (finished process, its JSON, the file)."""
    path = tmp_path_factory.mktemp("benchmark") / "now.json"
    args = "--configurations tiny --against_plain --to_quality tiny --seconds 2 --repeats 2 --json".split()
    done = run_script("benchmark.py", *args, path, cwd=path.parent, timeout=400)
    assert done.returncode == 0, done.stderr
    return done, json.loads(path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_one_command_measures_speed_split_memory_and_the_share_of_the_matmul_rate(whole):
    _, result, _ = whole
    for name in ("tiny", f"{measure.PLAIN}tiny"):
        entry = result["speed"][name]
        assert entry["batch"] == 32 and len(entry["turns"]) == 2
        assert entry["peak_bytes"] > 100e6  # Python and torch alone take more
        assert 0 < entry["share_of_matmul"]["median"] < 1.5
    turn = result["speed"]["tiny"]["turns"][0]
    assert set(turn["split_ms"]) == set(measure.PARTS) and min(turn["split_ms"].values()) > 0
    assert turn["split_ms"]["backward"] > turn["split_ms"]["data"]
    whole_step = 1000 * turn["seconds"] / turn["steps"]
    assert 0.8 * whole_step < sum(turn["split_ms"].values()) < 1.001 * whole_step  # nothing of a step is left out


@pytest.mark.slow
def test_it_prints_tables_ratios_and_seconds_to_quality_and_leaves_no_warning(whole):
    done, result, _ = whole
    assert "| tiny " in done.stdout and f"| {measure.PLAIN}tiny " in done.stdout and "ms in" in done.stdout
    assert re.search(r"tiny: [\d.]+ \(.*\) times the sentences/s of the plain implementation", done.stdout)
    assert "95 % exact match: not within the run" in done.stdout  # 40 steps teach nothing
    curve = result["to_quality"]["curve"]
    assert [p["step"] for p in curve] == [20, 40] and 0 < curve[0]["seconds"] < curve[1]["seconds"]
    assert all(0 <= p["exact_match"] <= 1 for p in curve)
    assert "Warning" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_step_longer_than_its_time_is_skipped_by_name_and_exits_1(whole):
    _, _, path = whole
    args = ("--configurations", "tiny", "--seconds", "0.0001", "--compare", path)
    done = run_forked("benchmark.py", *args, cwd=path.parent, timeout=200)
    assert done.returncode == 1
    assert "tiny: skipped: one step takes" in done.stdout
    assert "nothing to compare" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_process_that_is_killed_is_a_configuration_that_is_skipped(tmp_path, monkeypatch):
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n", encoding="utf-8")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(measure.Skipped, match="signal 9"):
        benchmark.measure(TASK)


@pytest.mark.parametrize(
    "args, code, words",
    [
        (["--configurations", "quik"], 2, "quik is none of quick, full"),
        (["--seconds", "0"], 2, "0 is out of range"),
        (["--json", "nowhere/x.json"], 2, "folder does not exist"),
        (["--compare", "missing.json"], 1, "missing.json cannot be read"),
        (["--compare", "foreign.json"], 1, "foreign.json was not written by --json"),
        (["--device", "cuda:99"], 1, "--device cuda:99 is not available here"),
    ],
)
def test_a_users_mistake_is_one_line(args, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark.py"])
    (tmp_path / "foreign.json").write_text('{"format": 2, "speed": {"quick": 3}}', encoding="utf-8")
    try:
        got = benchmark.main(["--configurations", "tiny", *args])
    except SystemExit as error:
        got = error.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert got == code and last.startswith("benchmark.py: ") and words in last


# ---------------------------------------------------------------------------------------------
# What is measured
# ---------------------------------------------------------------------------------------------


def test_the_plain_implementation_pads_to_the_longest_of_a_batch_and_learns():
    settings = dataclasses.replace(measure.CONFIGURATIONS["tiny"], use_amp=True)
    plain = PlainTrainer(settings, torch.device("cpu"))
    assert plain.dtype is amp_dtype(torch.device("cpu"))
    batch = plain.loader.collate_fn([plain.loader.dataset[i] for i in range(32)])
    words = [len(sentence.split()) for sentence in plain.loader.dataset.sentences[:32]]
    assert batch.shape == (32, max(words)) and (batch != PAD).sum() == sum(words)
    assert isinstance(plain.optimizer, torch.optim.AdamW) and plain.optimizer.defaults["fused"]
    plain.next_batch = lambda: batch
    losses = [float(plain.train_step()) for _ in range(15)]
    assert losses[-1] < 0.9 * losses[0]


def test_sentences_by_zipfs_law_have_every_word_and_common_ones_most():
    data = measure.ZipfData(50, Settings(num_samples=640, seed=3))
    counts = torch.stack([data.batch(0, i, 64) for i in range(60)]).flatten().bincount(minlength=len(data.vocab))
    assert counts[:3].sum() == 0 and counts[3:].min() > 0 and len(counts) == len(data.vocab) == 53
    share = counts[3:] / counts.sum()
    assert share[0] / share[9] == pytest.approx(10, rel=0.2)  # word number n is as common as 1 / n
    assert torch.equal(data.batch(0, 1, 8), data.batch(0, 1, 8)) and not torch.equal(
        data.batch(0, 1, 8), data.batch(0, 2, 8)
    )
