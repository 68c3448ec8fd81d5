"""The section about scenes: things, what words set, and whether the right thing has it. Measured from pixels alone."""

import functools

from evaluation.measures import scenes
from evaluation.measures.grounding import ASPECTS, given_accuracy
from evaluation.metric import metric
from pictures import draw_sentences, read_pictures

LABELS = {  # of metrics by id, beside one for each kind of word
    "scenes/count": "number of things = things in the sentence",
    "scenes/binding": "binding: both come back, outlines stay, colors change places",
    "scenes/binding_outlines": "of these: outlines stay (IoU ≥ 0.9)",
    "scenes/binding_colors": "of these: colors change places (ΔE ≤ 6)",
    "scenes/one_property": "one word swapped: one property of one thing changes",
    "scenes/naive_reader": "naive reader on measured properties, 4 examples a word",
    "scenes/topographic_similarity": "topographic similarity on measured properties",
}
GIVEN = {
    f"scenes/given_{name}": f"given {name} told by a reader that knows the grounding file alone" for name in ASPECTS
}
OF_KIND = {f"scenes/one_property/{kind}": f"one word swapped, one property: {kind}" for kind in scenes.KINDS}


def measured(draw, seed, scale, read=None):
    """Scenes of a decoder -> ({id of LABELS or OF_KIND: (value, n)}, what `scenes.one_word_one_property` returns).

    draw: sentences -> pictures (n, 3, 64, 64); read: pictures -> captions, without which binding asks for none; scale: share of
    the whole number of sentences.
    """

    def n(whole):
        return max(4, int(whole * scale))

    count = scenes.count_accuracy(draw, seed, n(100))
    binding = scenes.binding(draw, seed, n(500), read)
    swaps = scenes.one_word_one_property(draw, seed, n(60))
    reader = scenes.naive_reader_on_properties(draw, seed, n=n(60), repeats=3 if scale == 1 else 1)
    similarity = scenes.topographic_similarity_measured(draw, seed, n(150))
    out = {
        "scenes/count": (count["accuracy"], count["n"]),
        "scenes/binding": (binding["binding"], binding["n"]),
        "scenes/binding_outlines": (binding["outlines"], binding["n"]),
        "scenes/binding_colors": (binding["colors"], binding["n"]),
        "scenes/one_property": (swaps["share"], swaps["n"]),
        "scenes/naive_reader": (reader["accuracy"], reader["n"]),
        "scenes/topographic_similarity": (similarity["correlation"], similarity["n"]),
    }
    of_each = swaps["n"] // len(swaps["by_kind"])
    out |= {f"scenes/one_property/{kind}": (share, of_each) for kind, share in swaps["by_kind"].items()}
    return out, swaps


def told_as_given(draw, given, seed, scale):
    """Whether what a user said is drawn so -> {id of GIVEN: what `given_accuracy` returns of an aspect}; {} if nothing was said.

    given: {word: parts}, of `given_words`; draw, scale: as of `measured`.
    """
    found = given_accuracy(draw, given, seed, max(4, int(300 * scale))) if given else {}
    return {f"scenes/given_{name}": told for name, told in found.items()}


def scenes_section(model, protocol, seed, advance):
    """Things of scenes, beside a random scene decoder and the hand-made renderer (measured on a quarter of the sentences)."""

    def read(pictures):
        return read_pictures(model.cycle, model.vocab, pictures, model.device)[0]

    own, swaps = measured(model.draw, seed, protocol.scenes, read)
    told = told_as_given(model.draw, model.given, seed, protocol.scenes)
    advance(0.6)
    others, told_of_others = {}, {}
    for name, baseline in model.baselines(seed).items():
        draw = functools.partial(draw_sentences, baseline, model.vocab, device=model.device)
        others[name] = measured(draw, seed, 0.25 * protocol.scenes)[0]
        told_of_others[name] = told_as_given(draw, model.given, seed, 0.25 * protocol.scenes)
        advance(0.2)
    out = {}
    for id, (value, n) in own.items():
        out |= metric(
            id,
            {**LABELS, **OF_KIND}[id],
            value,
            n,
            seed,
            baselines={name: found[id][0] for name, found in others.items()},
            low=-1.0 if id == "scenes/topographic_similarity" else 0.0,
            better="high",
            group=id.split("/")[2] if id in OF_KIND else "",
        )
    for id, own in told.items():
        beside = {"chance": own["chance"], **{name: found[id]["accuracy"] for name, found in told_of_others.items()}}
        note = "the random scene decoder has the same grounding"
        out |= metric(id, GIVEN[id], own["accuracy"], own["n"], seed, baselines=beside, better="high", note=note)
    nearest = scenes.value_distances(model.draw, seed, swaps["main"], max(3, int(12 * protocol.scenes)))
    mistaken = {id: own["mistaken"] for id, own in told.items()}
    details = {"sets": swaps["main"], "table": swaps["table"], "nearest": nearest, "given_mistaken": mistaken}
    return {"metrics": out, "details": details}
