"""Do models that never met understand one another? Fresh captioners, each taught by one model and asked on all."""

import metrics
from evaluation.baselines.captioners import fresh_captioner, train_captioners
from evaluation.measures.round_trip import round_trip_scores
from pictures import read_pictures

BUILD = "plain_convolutions"  # of the fresh captioners
AT_MOST = 300  # sentences that each model draws


def fresh_reading(models, protocol, seed, advance=lambda share: None):
    """A fresh captioner learns to read each model's pictures, and is then asked on every model's.

    -> {"exact_match", "share", "share_by_luck": rows draw and columns taught, in [0, 1], None where the words differ; "n", "steps",
    "share_is"}. share: of the words that came back, by slot for the grammar ("slots_soft"), else by position ("word_accuracy");
    share_by_luck: the same for the caption of another picture. All captioners start from the same weights.
    """
    with_slots = all(m.lines is None for m in models)
    share_is = "slots_soft" if with_slots else "word_accuracy"
    captioners = [taught_by(model, protocol, seed, advance, len(models)) for model in models]
    out = {"exact_match": [], "share": [], "share_by_luck": [], "steps": protocol.steps, "share_is": share_is}
    for drawing in models:
        sentences = drawing.sentences(min(protocol.sentences, AT_MOST), "test", seed)
        pictures = drawing.draw(sentences)
        rows = {name: [] for name in ("exact_match", "share", "share_by_luck")}
        for teacher, captioner in zip(models, captioners):
            if not set(teacher.vocab.words) >= set(drawing.vocab.words):
                values = (None, None, None)
            else:
                words, _, _ = captioner.read(pictures.to(teacher.device))
                captions = [teacher.vocab.decode(row) for row in words.tolist()]
                scores = round_trip_scores(sentences, captions, with_slots)
                lucky = round_trip_scores(sentences, captions[1:] + captions[:1], with_slots)
                values = (scores["exact_match", ""], scores[share_is, ""], lucky[share_is, ""])
            for row, value in zip(rows.values(), values):
                row.append(value)
        out["n"] = len(sentences)
        for name, row in rows.items():
            out[name].append(row)
    return out


def taught_by(model, protocol, seed, advance, of):
    """A fresh captioner after `protocol.steps` steps on a model's pictures. of: how many there will be, for `advance`."""
    captioner = fresh_captioner(BUILD, model.vocab, model.cycle.language_model.max_words, seed, model.device)
    checks = model.sentences(min(protocol.checks, 50), "test", seed + 2)
    train_captioners(
        {BUILD: captioner}, model.cycle.draw, model, protocol, checks, seed, lambda: advance(1 / (of * protocol.steps))
    )
    return captioner


def cross_reading(models, protocol, seed):
    """Exact match when one model draws and another reads: rows draw, columns read. None where the words differ."""
    rows = []
    for drawing in models:
        sentences = drawing.sentences(min(protocol.sentences, 300), "test", seed)
        pictures = drawing.draw(sentences)
        row = []
        for reading in models:
            if set(reading.vocab.words) >= set(drawing.vocab.words):
                captions, _ = read_pictures(reading.cycle, reading.vocab, pictures, reading.device)
                row.append(metrics.exact_match(sentences, captions))
            else:
                row.append(None)
        rows.append(row)
    return rows
