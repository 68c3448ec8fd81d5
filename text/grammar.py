"""The grammar of scene descriptions: templates, slots, the four splits, rendering and parsing.

A sentence is a template number and a word for each of its slots. `data_utils.py` makes batches of them.
"""

import numpy as np

COLORS = "red blue green yellow orange purple pink brown black white gray".split()
OBJECTS = "ball cube sphere box cylinder pyramid star triangle circle square".split()
SIZES = "tiny small medium large huge".split()
POSITIONS = "left right center top bottom corner middle".split()
BACKGROUNDS = "plain gradient textured striped dotted".split()
ACTIONS = "sitting floating rotating glowing pulsing".split()

SLOT_WORDS = {
    "size": SIZES, "color": COLORS, "object": OBJECTS, "position": POSITIONS,
    "background": BACKGROUNDS, "action": ACTIONS,
    "size2": SIZES, "color2": COLORS, "object2": OBJECTS, "position2": POSITIONS,
}  # fmt: skip
SLOTS = list(SLOT_WORDS)

TEMPLATES = [
    "a {color} {object}",
    "a {size} {color} {object}",
    "a {color} {object} in the {position}",
    "a {size} {color} {object} in the {position}",
    "a {color} {object} on a {background} background",
    "a {color} {object} {action} in the {position}",
    "a {size} {color} {object} {action} on a {background} background",
    "a {color} {object} next to a {color2} {object2}",
    "a {size} {color} {object} and a {size2} {color2} {object2}",
    "{color} {object} on the {position} and {color2} {object2} on the {position2}",
]

SPLITS = ("train", "test", "test_pairs", "test_ood")

# Held out of training: one object for each common color, and two words that training shows with
# four partners only. "Held out" is meant strictly: the two words never meet in one training
# sentence, not even as the color of one thing and the name of the other.
HELD_OUT_PAIRS = [
    ("red", "cube"), ("blue", "star"), ("green", "ball"), ("yellow", "circle"), ("orange", "box"),
    ("purple", "square"), ("pink", "cylinder"), ("black", "triangle"), ("white", "sphere"),
    ("gray", "star"),
]  # fmt: skip
RARE_COLOR, RARE_COLOR_PARTNERS = "brown", ("ball", "cube", "star", "square")
RARE_OBJECT, RARE_OBJECT_PARTNERS = "pyramid", ("red", "blue", "yellow", "white")

TEST_SHARE = 10  # one sentence in ten belongs to `test`, by a hash of its slots


def _pair_tables():
    """Two boolean (color, object) tables: held-out pairs, and unseen partners of a rare word."""
    pairs = np.zeros((len(COLORS), len(OBJECTS)), bool)
    for color, obj in HELD_OUT_PAIRS:
        pairs[COLORS.index(color), OBJECTS.index(obj)] = True
    ood = np.zeros_like(pairs)
    ood[COLORS.index(RARE_COLOR)] = [o not in RARE_COLOR_PARTNERS for o in OBJECTS]
    ood[:, OBJECTS.index(RARE_OBJECT)] |= [c not in RARE_OBJECT_PARTNERS for c in COLORS]
    return pairs, ood


_PAIRS, _OOD = _pair_tables()
TEMPLATE_WORDS = [t.replace("{", " {").replace("}", "} ").split() for t in TEMPLATES]
TEMPLATE_SLOTS = [[w[1:-1] for w in words if w[0] == "{"] for words in TEMPLATE_WORDS]
_HAS_SLOT = np.array([[s in slots for s in SLOTS] for slots in TEMPLATE_SLOTS])  # (templates, slots)
SLOT_SIZES = np.array([len(SLOT_WORDS[s]) for s in SLOTS])
_COLOR, _OBJECT, _COLOR2, _OBJECT2 = (SLOTS.index(s) for s in ("color", "object", "color2", "object2"))


def count_sentences():
    """Number of different sentences of the grammar, all splits together."""
    return sum(int(np.prod([len(SLOT_WORDS[s]) for s in slots])) for slots in TEMPLATE_SLOTS)


def with_articles(words):
    """An "a" becomes "an" before a vowel: the one rule of the grammar that looks at a neighbor."""
    return ["an" if w == "a" and i + 1 < len(words) and words[i + 1][0] in "aeiou" else w for i, w in enumerate(words)]


def render(template, slots):
    """The sentence of a template number and a dict of slot words.

    >>> render(3, {"size": "huge", "color": "red", "object": "ball", "position": "left"})
    'a huge red ball in the left'
    """
    return " ".join(with_articles([slots[w[1:-1]] if w[0] == "{" else w for w in TEMPLATE_WORDS[template]]))


def parse(sentence):
    """The (template number, slot dict) of a sentence of the grammar, or None if it is none.

    >>> parse("an orange cube")
    (0, {'color': 'orange', 'object': 'cube'})
    """
    words = sentence.split()
    for number, pattern in enumerate(TEMPLATE_WORDS):
        if len(pattern) != len(words):
            continue
        slots = {}
        for want, word in zip(pattern, words, strict=True):
            if want[0] == "{" and word in SLOT_WORDS[want[1:-1]]:
                slots[want[1:-1]] = word
            elif want[0] == "{" or word not in (("a", "an") if want == "a" else (want,)):
                break
        else:
            return (number, slots) if render(number, slots) == sentence else None
    return None


def mix64(x):
    """splitmix64 (Steele et al., OOPSLA 2014): uint64 array -> well mixed uint64 array."""
    with np.errstate(over="ignore"):
        x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def in_split(template, slots, split):
    """Which of the given sentences belong to a split.

    template: (n,) int; slots: (n, 10) int, -1 where the template lacks the slot -> (n,) bool.
    """
    two = _HAS_SLOT[template, _COLOR2]
    own = [(slots[:, _COLOR], slots[:, _OBJECT], True), (slots[:, _COLOR2], slots[:, _OBJECT2], two)]
    crossed = [(slots[:, _COLOR], slots[:, _OBJECT2], two), (slots[:, _COLOR2], slots[:, _OBJECT], two)]

    def meets(table, pairs):
        return np.logical_or.reduce([table[c, o] & present for c, o, present in pairs])

    if split == "test_pairs":
        return meets(_PAIRS, own) & ~meets(_OOD, own + crossed)
    if split == "test_ood":
        return meets(_OOD, own) & ~meets(_PAIRS, own + crossed)
    code = template.astype(np.uint64)
    for column, size in zip(slots.T, SLOT_SIZES, strict=True):
        code = code * np.uint64(size + 1) + (column + 1).astype(np.uint64)
    is_test = mix64(code) % np.uint64(TEST_SHARE) == 0
    return (is_test == (split == "test")) & ~meets(_PAIRS | _OOD, own + crossed)


def _split_number(split):
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    return SPLITS.index(split)


def sample_slots(n, split, rng):
    """n sentences of a split, templates evenly, as numbers.

    rng: numpy Generator -> template (n,) int64, slots (n, 10) int64 with -1 for an absent slot.
    Raises ValueError for an unknown split.
    """
    template = rng.integers(len(TEMPLATES), size=n)
    return template, _fill(template, split, lambda todo: rng.random((todo.size, len(SLOTS))))


def numbered_slots(numbers, split, seed):
    """Sentences of a split that follow each from its number and the seed, templates evenly.

    numbers: (n,) int -> template (n,) int64, slots (n, 10) int64 as `sample_slots`. Raises ValueError for an
    unknown split.
    """
    start = mix64(mix64(np.array([seed], np.uint64)) ^ np.asarray(numbers).astype(np.uint64))  # (n,)
    count = np.zeros(len(start), np.uint64)  # draws of each sentence so far

    def uniform(todo):
        count[todo] += np.uint64(len(SLOTS))
        bits = mix64(start[todo, None] + count[todo, None] + np.arange(len(SLOTS), dtype=np.uint64))
        return (bits >> np.uint64(11)) * 2.0**-53

    template = (mix64(start) % np.uint64(len(TEMPLATES))).astype(np.int64)
    return template, _fill(template, split, uniform)


def _fill(template, split, uniform):
    """Slots of a split for each template; uniform(places) draws (len(places), 10) numbers in [0, 1)."""
    _split_number(split)
    slots = np.empty((len(template), len(SLOTS)), np.int64)
    todo = np.arange(len(template))
    while todo.size:  # rejection keeps the template, so that templates stay even
        draw = np.where(_HAS_SLOT[template[todo]], (uniform(todo) * SLOT_SIZES).astype(np.int64), -1)
        slots[todo] = draw
        todo = todo[~in_split(template[todo], draw, split)]
    return slots


def sample_sentences(n, split, seed):
    """A list of n sentences of a split; the same for the same seed on every machine. Raises ValueError."""
    template, slots = sample_slots(n, split, np.random.default_rng([seed, _split_number(split)]))
    return [
        render(t, {s: SLOT_WORDS[s][row[i]] for i, s in enumerate(SLOTS) if row[i] >= 0})
        for t, row in zip(template, slots, strict=True)
    ]
