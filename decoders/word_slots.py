"""Which word of a sentence sets which property of which object: rules over word classes, without weights.

The word classes are found in the training sentences before training (`text/word_classes.py`). An object stands for each
noun. A word belongs to the next noun or to the previous one, as its class does; a class sets one property, the same of
every object, and the classes with most words set the properties with most capacity.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn as nn

from decoders.properties import GROUNDED, N_VALUES, PROPERTIES, PropertyNetworks
from text.word_classes import BACKGROUND, NEXT, NOUN, WordClasses

NO_PROPERTY = -1  # of a class that found no property left, and of words without a class
OF_BACKGROUND = len(PROPERTIES)  # the background counts as one more property


def assign_properties(classes: WordClasses) -> list[int]:
    """The index of the property that each word class sets, OF_BACKGROUND or NO_PROPERTY.

    Where a user grounds words of a class, the class sets the property that most of these words name.
    """
    votes: list[Counter[str]] = [Counter() for _ in classes.belongs_to]
    for word, parts in classes.grounding.items():
        word_class = classes.class_of[int(word)]
        if word_class >= 0:
            votes[word_class].update(GROUNDED[part][0] for part in parts)
    chosen: dict[int, int] = {}  # word class -> property
    for word_class, counts in enumerate(votes):
        for name, _ in counts.most_common():
            if PROPERTIES.index(name) not in chosen.values():
                chosen.setdefault(word_class, PROPERTIES.index(name))
    free = iter(i for i in range(len(PROPERTIES)) if i not in chosen.values())
    properties = []
    for word_class, belongs_to in enumerate(classes.belongs_to):
        if belongs_to == BACKGROUND:
            properties.append(OF_BACKGROUND)
        elif word_class in chosen:
            properties.append(chosen[word_class])
        else:
            properties.append(next(free, NO_PROPERTY))
    return properties


@dataclass
class Slots:
    """What the words of B sentences set; F factors, one for each property of each object and the last for the
    background."""

    position: torch.Tensor  # (B, F) the position in the sentence of the word that sets a factor, -1 for none
    word: torch.Tensor  # (B, F) the token id of that word, -1 for none
    count: torch.Tensor  # (B,) the number of objects


class WordSlots(nn.Module):
    """Finds the word of each factor of each sentence, from tables over the vocabulary."""

    property_of_word: torch.Tensor  # (V,)
    is_noun: torch.Tensor  # (V,)
    precedes_noun: torch.Tensor  # (V,)

    def __init__(self, classes: WordClasses, n_objects: int) -> None:
        super().__init__()
        self.n_objects = n_objects
        self.n_factors = n_objects * len(PROPERTIES) + 1
        class_of = torch.tensor(classes.class_of, dtype=torch.int64)  # (V,)
        belongs_to = [*classes.belongs_to, None]  # index -1: words without a class
        is_noun = torch.tensor([b == NOUN for b in belongs_to])
        precedes_noun = torch.tensor([b in (NOUN, NEXT) for b in belongs_to])  # or is the noun itself
        property_of_class = [*assign_properties(classes), NO_PROPERTY]
        self.property_of_token = [property_of_class[c] for c in classes.class_of]  # as a list, also on the meta device
        # A checkpoint holds the word classes, and need not hold these.
        self.register_buffer("property_of_word", torch.tensor(self.property_of_token), persistent=False)
        self.register_buffer("is_noun", is_noun[class_of], persistent=False)
        self.register_buffer("precedes_noun", precedes_noun[class_of], persistent=False)

    def forward(self, ids: torch.Tensor) -> Slots:
        """Token ids (B, T) -> Slots. Of several words for one factor the first counts."""
        is_noun = self.is_noun[ids]  # (B, T)
        prop = self.property_of_word[ids]  # (B, T)
        nouns_before = is_noun.cumsum(1) - is_noun.long()
        index = torch.where(self.precedes_noun[ids], nouns_before, nouns_before - 1)  # of the word's object
        in_background = prop == OF_BACKGROUND
        is_drawn = (prop >= 0) & (in_background | ((index >= 0) & (index < self.n_objects)))
        factor = torch.where(in_background, self.n_factors - 1, index * len(PROPERTIES) + prop)
        factor = torch.where(is_drawn, factor, self.n_factors)  # one more for words that are not drawn
        length = ids.shape[1]
        position = torch.arange(length, device=ids.device).expand_as(ids)
        first = torch.full((len(ids), self.n_factors + 1), length, device=ids.device)
        first = first.scatter_reduce(1, factor, position, "amin")[:, :-1]  # (B, F)
        is_set = first < length
        word = torch.where(is_set, ids.gather(1, first.clamp(max=length - 1)), -1)
        count = is_noun.sum(1).clamp(min=1, max=self.n_objects)
        return Slots(torch.where(is_set, first, -1), word, count)

    def words_of_property(self, index: int) -> torch.Tensor:
        """Token ids (n,) of the words that set a property."""
        return torch.nonzero(self.property_of_word == index)[:, 0]


class Grounding(nn.Module):
    """The values that a user sets for some words (--grounding)."""

    def __init__(self, classes: WordClasses, slots: WordSlots, properties: PropertyNetworks) -> None:
        super().__init__()
        self.parts: dict[
            int, dict[str, Any]
        ] = {}  # token id -> {part: value}, without parts of another property than the class's
        for word, parts in classes.grounding.items():
            index = slots.property_of_token[int(word)]
            shown = {part: v for part, v in parts.items() if PROPERTIES.index(GROUNDED[part][0]) == index}
            if shown:
                self.parts[int(word)] = shown
        self.properties = []
        for name in PROPERTIES:
            table = np.full((len(classes.class_of) + 1, N_VALUES[name]), np.nan, np.float32)  # the last row: no word
            for token, shown in self.parts.items():
                for part, value in shown.items():
                    if GROUNDED[part][0] == name:
                        table[token, GROUNDED[part][1]] = properties.grounded_values(part, value)
            if not np.isnan(table).all():
                self.properties.append(name)
                self.register_buffer(name, torch.tensor(table), persistent=False)

    def forward(self, name: str, values: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Values of a property (..., n) that words (...) set (-1: no word), replaced where a user sets them."""
        if name not in self.properties:
            return values
        grounded = self.get_buffer(name)[words]
        return torch.where(grounded.isnan(), values, grounded.nan_to_num())
