"""Measures of how much of a sentence came back. Pure functions of strings.

Each has its range and a doctest; lists are paired by position.
"""


def exact_match(originals, recovered):
    """Share of sentences that came back word for word, in [0, 1].

    >>> exact_match(["a red ball", "a blue box"], ["a red ball", "a blue ball"])
    0.5
    """
    return sum(a == b for a, b in zip(originals, recovered, strict=True)) / max(1, len(originals))


def word_accuracy(originals, recovered):
    """Share of places at which the same word stands, in [0, 1]; a missing or extra word counts as wrong.

    >>> word_accuracy(["a red ball"], ["a red"])
    0.6666666666666666
    """
    right = places = 0
    for a, b in zip(originals, recovered, strict=True):
        a, b = a.split(), b.split()
        right += sum(x == y for x, y in zip(a, b))
        places += max(len(a), len(b))
    return right / max(1, places)
