"""The section about fresh captioners: can the language be learned? It also trains the captioners of the baselines."""

from __future__ import annotations

from collections.abc import Callable

from evaluation.baselines.captioners import CAPTIONER_LABELS, fresh_captioner, train_captioners
from evaluation.measures.robustness import corruption_curves, middle_strength
from evaluation.measures.round_trip import round_trip_id, round_trip_scores
from evaluation.metric import OWN, Metrics
from evaluation.protocol import CAPTIONER_BATCH, ModelUnderTest, Protocol


def captioners_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """Exact match of fresh captioners against steps; details: scores of those of baselines, also after corruption."""
    curves, scores, corruption = {}, {}, {}
    frozen = {OWN: model, **model.baselines(seed)}
    checks = model.sentences(protocol.checks, "test", seed + 2)
    share = 1 / (len(frozen) * protocol.steps)

    for decoder, drawing in frozen.items():
        of_model = (model.vocab, model.max_tokens, seed, model.device)
        captioners = {build: fresh_captioner(build, *of_model) for build in protocol.captioners}
        curves[decoder] = train_captioners(captioners, drawing, protocol, checks, seed, lambda: advance(share))
        if decoder == OWN:
            continue
        drawing.cycle.caption_network = captioners["plain_convolutions"]
        scores[decoder] = {}
        for split in model.splits:
            sentences = model.sentences(protocol.sentences, split, seed)
            captions = drawing.read(drawing.draw(sentences))
            for (name, slot), value in round_trip_scores(sentences, captions, model.lines is None).items():
                scores[decoder][round_trip_id(name, slot, split)] = value
        sentences = model.sentences(protocol.corrupted, "test", seed)
        corruption[decoder] = corruption_curves(drawing.read, sentences, drawing.draw(sentences), seed)
    details = {"curves": curves, "scores": scores, "corruption": corruption, "steps": protocol.steps}
    return {"metrics": _learning_metrics(curves, protocol, len(checks), seed), "details": details}


def _learning_metrics(curves, protocol, n, seed):
    """Curves {decoder: {captioner: [(step, exact match)]}} -> metrics of each captioner; n: sentences of a check."""
    found = Metrics(seed)
    for build in protocol.captioners:
        for name, (label, summary, high, better) in CURVE_METRICS.items():
            values = {decoder: summary(curve[build], protocol.steps) for decoder, curve in curves.items()}
            note = f"{protocol.steps} steps of {CAPTIONER_BATCH} sentences"
            note += "; none if 95 % is never reached" if name == "steps_to_95" else ""
            label = f"{CAPTIONER_LABELS[build]} · {label}"
            found.add(f"captioner/{build}/{name}", label, values, n, high=high, better=better, group=build, note=note)
    return found


def _final(curve, _steps):
    """Exact match after the last step, in [0, 1]."""
    return curve[-1][1]


def _area(curve, steps):
    """Mean exact match over the steps, by the trapezoid rule from (0, 0): in [0, 1]."""
    x = [0] + [step for step, _ in curve]
    y = [0.0] + [value for _, value in curve]
    return sum((b - a) * (v + w) / 2 for a, b, v, w in zip(x, x[1:], y, y[1:])) / steps


def _steps_to_95(curve, _steps):
    """The first step after which exact match is 95 % or more; None if there is none."""
    return next((s for s, v in curve if v >= 0.95), None)


CURVE_METRICS = {  # id: (label, function of a curve and the number of steps, highest value, better)
    "final_exact_match": ("exact match at the end", _final, 1.0, "high"),
    "area_under_curve": ("area under the curve", _area, 1.0, "high"),
    "steps_to_95": ("steps to 95 %", _steps_to_95, None, "low"),
}


def add_trained_baselines(sections: dict) -> None:
    """Put the scores of the baselines' captioners beside the model's own metrics of two other sections, in place."""
    details = sections["captioners"]["details"]
    for decoder, scores in details["scores"].items():
        for id, value in scores.items():
            sections["cycle"]["metrics"][id]["baselines"][f"{decoder}/fresh_captioner"] = value
    for decoder, curves in details["corruption"].items():
        for kind in sections["robustness"]["details"]["curves"]:
            strength, value = middle_strength(curves[kind])
            found = sections["robustness"]["metrics"][f"corruption/{kind}_{strength}"]
            found["baselines"][f"{decoder}/fresh_captioner"] = value
