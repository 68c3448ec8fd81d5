"""The section about scenes: things, what words set, and whether the right thing has it. Measured from pixels alone."""

from evaluation import scenes
from evaluation.protocol import OWN, metric
from pictures import draw_sentences, read_pictures

# id: (label, what of `scenes` gives it, its range's low end)
MEASURES = {
    "count": ("number of things = things in the sentence", "accuracy", 0.0),
    "binding": ("binding: colors change places, outlines stay", "binding", 0.0),
    "one_word_one_property": ("one word swapped: one property of one thing changes", "share", 0.0),
    "naive_reader": ("naive reader on measured properties, 4 examples a word", "accuracy", 0.0),
    "topographic_similarity": ("topographic similarity on measured properties", "correlation", -1.0),
}


def measured(draw, read, seed, scale):
    """{id of MEASURES: what `scenes` returns} of a scene decoder; scale: share of the whole number of sentences."""

    def n(whole):
        return max(4, int(whole * scale))

    return {
        "count": scenes.count_accuracy(draw, seed, n(100)),
        "binding": scenes.binding(draw, seed, n(500), read),
        "one_word_one_property": scenes.one_word_one_property(draw, seed, n(60)),
        "naive_reader": scenes.naive_reader_on_properties(draw, seed, n=n(60), repeats=3 if scale == 1 else 1),
        "topographic_similarity": scenes.topographic_similarity_measured(draw, seed, n(150)),
    }


def scenes_section(model, protocol, seed, advance):
    """Things of scenes, beside a random scene decoder and the hand-made renderer (measured on a quarter of the sentences)."""
    scale = protocol.scenes

    def read(pictures):
        return read_pictures(model.circle, model.vocab, pictures, model.device)[0]

    found = {OWN: measured(model.draw, read, seed, scale)}
    advance(0.6)
    for name, baseline in model.baselines(seed).items():

        def draw(sentences, baseline=baseline):
            return draw_sentences(baseline, model.vocab, sentences, model.device)

        found[name] = measured(draw, None, seed, 0.25 * scale)
        advance(0.2)
    out = {}
    for id, (label, key, low) in MEASURES.items():
        baselines = {name: results[id][key] for name, results in found.items() if name != OWN}
        own = found[OWN][id]
        out |= metric(f"scenes/{id}", label, own[key], own["n"], seed, baselines=baselines, low=low, better="high")
    swaps = found[OWN]["one_word_one_property"]
    for kind, share in swaps["by_kind"].items():
        baselines = {name: r["one_word_one_property"]["by_kind"][kind] for name, r in found.items() if name != OWN}
        label = f"one word swapped, one property: {kind}"
        n = max(1, own_swaps(swaps))
        out |= metric(f"scenes/one_property/{kind}", label, share, n, seed, baselines=baselines, better="high", group=kind)
    details = {"sets": swaps["main"], "table": swaps["table"]}
    details["nearest"] = scenes.value_distances(model.draw, seed, swaps["main"], max(3, int(12 * scale)))
    return {"metrics": out, "details": details}


def own_swaps(swaps):
    """How many swaps of each kind were measured."""
    return swaps["n"] // len(swaps["by_kind"])
