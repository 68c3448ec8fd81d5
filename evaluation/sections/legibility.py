"""The section about legibility: could a person read the pictures?"""

import numpy as np

from evaluation.measures import legibility
from evaluation.measures.legibility import FOUR_SLOTS
from evaluation.metric import OWN, metric
from text.grammar import SLOT_WORDS


def legibility_section(model, protocol, seed, advance):
    """The metrics of legibility.py, beside the hand-made renderer and a random scene decoder."""
    own = legibility.legibility_metrics(model.cycle, model.vocab, model.device, seed, protocol.quick)
    others = {}
    for name, baseline in model.baselines(seed).items():
        advance(1 / 3)
        others[name] = legibility.legibility_metrics(baseline, model.vocab, model.device, seed, protocol.quick)
    found = {}

    def add(id, label, n, better="high", high=1.0, chance=None, group=""):
        if own[id] is not None:
            baselines = {} if chance is None else {"chance": chance}
            baselines |= {name: values[id] for name, values in others.items() if values[id] is not None}
            found.update(
                metric(id, label, own[id], n, seed, baselines=baselines, high=high, better=better, group=group)
            )

    tests, pairs, contexts = (200, 60, 40) if protocol.quick else (500, 120, 40)
    chance = {slot: 1 / len(SLOT_WORDS[slot]) for slot in FOUR_SLOTS}
    for slot in FOUR_SLOTS:
        label = f"naive reader, 4 examples a word · {slot}"
        add(f"legibility/naive_4/{slot}", label, tests, chance=chance[slot], group=slot)
    add(
        "legibility/color_histogram_64",
        "color word from the color histogram",
        tests,
        chance=chance["color"],
        group="color",
    )
    for slot in FOUR_SLOTS:
        label = f"one {slot} word swapped: share of the picture that changes"
        add(f"legibility/swap_changed/{slot}", label, pairs, better="low", group=slot)
        label = f"one {slot} word swapped: visible change (ΔE)"
        add(f"legibility/swap_visible/{slot}", label, pairs, high=None, group=slot)
        add(f"legibility/swap_overlap/{slot}", f"one {slot} word swapped: overlap over contexts", contexts, group=slot)
    mean_chance = float(np.mean(list(chance.values())))
    add("legibility/silhouettes", "slots read from silhouettes alone", tests, chance=mean_chance)
    return {"metrics": found, "details": {OWN: own, **others}}
