"""The section about legibility: could a person read the pictures?"""

from __future__ import annotations

from collections.abc import Callable

from evaluation.measures.legibility import CONTEXTS, FOUR_SLOTS, legibility_metrics, numbers_of_pictures
from evaluation.metric import OWN, Metrics
from evaluation.protocol import ModelUnderTest, Protocol
from text.grammar import SLOT_WORDS


def legibility_section(model: ModelUnderTest, protocol: Protocol, seed: int, advance: Callable[[float], None]) -> dict:
    """The metrics of `measures.legibility`, beside the hand-made renderer and a random scene decoder."""
    scores = {}
    for name, drawing in {OWN: model, **model.baselines(seed)}.items():
        scores[name] = legibility_metrics(drawing.draw, seed, protocol.quick)
        advance(1 / 3)
    found = Metrics(seed)
    tests, pairs = numbers_of_pictures(protocol.quick)

    def add(id, label, n, better="high", high=1.0, chance_of=None, group=""):
        chance = {"chance": 1 / len(SLOT_WORDS[chance_of])} if chance_of else {}
        values = {**chance, **{name: of[f"legibility/{id}"] for name, of in scores.items()}}
        found.add(f"legibility/{id}", label, values, n, high=high, better=better, group=group)

    for slot in FOUR_SLOTS:
        add(f"naive_4/{slot}", f"naive reader, 4 examples a word · {slot}", tests, chance_of=slot, group=slot)
    add("color_histogram_64", "color word from the color histogram", tests, chance_of="color", group="color")
    for slot in FOUR_SLOTS:
        swap = f"one {slot} word swapped"
        add(f"swap_changed/{slot}", f"{swap}: share of the picture that changes", pairs, better="low", group=slot)
        add(f"swap_visible/{slot}", f"{swap}: visible change (ΔE)", pairs, high=None, group=slot)
        add(f"swap_overlap/{slot}", f"{swap}: overlap over contexts", CONTEXTS, group=slot)
    return {"metrics": found, "details": scores}
