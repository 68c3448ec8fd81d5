"""The grammar of scene descriptions: optional parts, frames, splits, rendering and parsing.

A sentence has one to three objects and may end with a background:

    a [SIZE] [COLOR] OBJECT [ACTION] [in the POSITION]  (RELATION a …)  [on a BACKGROUND background]

One more frame has no articles: COLOR OBJECT on the POSITION and COLOR OBJECT on the POSITION. A *frame* is the set of
parts of a sentence. As an array, a sentence is a row (19,) of SLOTS: the index of each slot's word, or -1 for an empty
slot, and in the last column 1 for the frame without articles, else 0. `data_utils.py` makes batches of sentences.
"""

from __future__ import annotations

import re

import numpy as np

COLORS = ["red", "blue", "green", "yellow", "orange", "purple", "pink", "brown", "black", "white", "gray"]
OBJECTS = ["ball", "cube", "sphere", "box", "cylinder", "pyramid", "star", "triangle", "circle", "square"]
SIZES = ["tiny", "small", "medium", "large", "huge"]
POSITIONS = ["left", "right", "center", "top", "bottom", "corner", "middle"]
BACKGROUNDS = ["plain", "gradient", "textured", "striped", "dotted"]
ACTIONS = ["sitting", "floating", "rotating", "glowing", "pulsing"]
RELATIONS = ["and", "next to", "above", "below"]

MOST_OBJECTS = 3
OBJECT_PARTS = {"size": SIZES, "color": COLORS, "object": OBJECTS, "action": ACTIONS, "position": POSITIONS}
SUFFIXES = ("", "2", "3")  # of the slots of the first, second and third object
SLOT_WORDS = {}
for _suffix in SUFFIXES:
    if _suffix:
        SLOT_WORDS[f"relation{_suffix}"] = RELATIONS
    SLOT_WORDS.update({name + _suffix: words for name, words in OBJECT_PARTS.items()})
SLOT_WORDS["background"] = BACKGROUNDS
SLOTS = list(SLOT_WORDS)
PARTS = {**OBJECT_PARTS, "relation": RELATIONS, "background": BACKGROUNDS}  # a slot without the number of its object
SLOT_SIZES = np.array([len(words) for words in SLOT_WORDS.values()])
WITHOUT_ARTICLES = "without_articles"  # the name of the last column
COLUMN = {name: i for i, name in enumerate([*SLOTS, WITHOUT_ARTICLES])}

SPLITS = ("train", "val", "test", "test_pairs", "test_ood", "test_frames")

# Held out of training: one object for each common color, and two words that training shows with
# four partners only. "Held out" is meant strictly: the two words never meet in one training
# sentence, not even as the color of one object and the name of another.
HELD_OUT_PAIRS = [
    ("red", "cube"), ("blue", "star"), ("green", "ball"), ("yellow", "circle"), ("orange", "box"),
    ("purple", "square"), ("pink", "cylinder"), ("black", "triangle"), ("white", "sphere"),
    ("gray", "star"),
]  # fmt: skip
RARE_COLOR, RARE_COLOR_PARTNERS = "brown", ("ball", "cube", "star", "square")
RARE_OBJECT, RARE_OBJECT_PARTNERS = "pyramid", ("red", "blue", "yellow", "white")

VAL_SHARE, TEST_SHARE = 20, 10  # one sentence in so many belongs to `val`, to `test`, by a hash of its words
FRAME_SHARE = 8  # one frame in so many is held out, by a hash

# How often a sentence has 1, 2, 3 objects, and each optional part. The longest sentences are left out.
OBJECT_COUNT_SHARES = (0.5, 0.35, 0.15)
PART_SHARES = {"size": 0.4, "color": 0.75, "action": 0.25, "position": 0.4, "background": 0.25}
MOST_PARTS = (5, 6, 5)  # optional parts of a sentence of one, two, three objects
WITHOUT_ARTICLES_SHARE = 0.05


# ---- Words ----------------------------------------------------------------------------------------

LITERALS = ("a", "in", "on", "the", "to", "background")
WORDS = sorted({*LITERALS, *(w for phrases in SLOT_WORDS.values() for phrase in phrases for w in phrase.split())})
MOST_WORDS = 24  # of a sentence


def with_articles(words: list[str]) -> list[str]:
    """An "a" becomes "an" before a vowel: the one rule of the grammar that looks at a neighbor."""
    return ["an" if w == "a" and i + 1 < len(words) and words[i + 1][0] in "aeiou" else w for i, w in enumerate(words)]


def words_of(slots: dict) -> list[str]:
    """The words of a slot dict, with "a" before vowels, too."""
    bare = bool(slots.get(WITHOUT_ARTICLES))
    words = []
    for suffix in SUFFIXES:
        if "object" + suffix not in slots:
            break
        if suffix:
            words += slots["relation" + suffix].split()
        words += [] if bare else ["a"]
        words += [slots[name + suffix] for name in ("size", "color", "object", "action") if name + suffix in slots]
        if "position" + suffix in slots:
            words += ["on" if bare else "in", "the", slots["position" + suffix]]
    if "background" in slots:
        words += ["on", "a", slots["background"], "background"]
    return words


def render(slots: dict) -> str:
    """The sentence of a dict of slot words. Each object has at least its noun; a second object has a relation.

    >>> render({"size": "huge", "color": "red", "object": "ball", "position": "left"})
    'a huge red ball in the left'
    >>> render({"object": "ball", "relation2": "above", "color2": "orange", "object2": "cube", "background": "plain"})
    'a ball above an orange cube on a plain background'
    """
    return " ".join(with_articles(words_of(slots)))


def _word_of(slot: str) -> str:
    return f"(?P<{slot}>{'|'.join(SLOT_WORDS[slot])})"


def _object_pattern(suffix: str) -> str:
    size, color, noun, action, position = (_word_of(name + suffix) for name in OBJECT_PARTS)
    return f"an? (?:{size} )?(?:{color} )?{noun}(?: {action})?(?: in the {position})?"


_SENTENCE = re.compile(
    f"{_object_pattern('')}(?: {_word_of('relation2')} {_object_pattern('2')}"
    f"(?: {_word_of('relation3')} {_object_pattern('3')})?)?(?: on a {_word_of('background')} background)?"
)
_BARE_SENTENCE = re.compile(
    f"{_word_of('color')} {_word_of('object')} on the {_word_of('position')} (?P<relation2>and) "
    f"{_word_of('color2')} {_word_of('object2')} on the {_word_of('position2')}"
)
_BARE_FRAME = tuple(_BARE_SENTENCE.groupindex)


def parse(sentence: str) -> dict | None:
    """The slot dict of a sentence of the grammar, or None if it is none.

    >>> parse("an orange cube next to a ball")
    {'color': 'orange', 'object': 'cube', 'relation2': 'next to', 'object2': 'ball'}
    """
    bare = _BARE_SENTENCE.fullmatch(sentence)
    found = bare or _SENTENCE.fullmatch(sentence)
    if not found:
        return None
    slots = {name: word for name, word in found.groupdict().items() if word}
    if bare:
        slots[WITHOUT_ARTICLES] = True
    return slots if render(slots) == sentence else None  # "a" before a vowel is no sentence


def part_of(slot: str) -> str:
    """A slot without the number of its object.

    >>> part_of("color2"), part_of("background")
    ('color', 'background')
    """
    return slot.rstrip("23")


def number_of(slot: str) -> int:
    """The number of a slot's object, from 0; 0 for the background.

    >>> number_of("color2"), number_of("background")
    (1, 0)
    """
    return SUFFIXES.index(slot.removeprefix(part_of(slot)))


def to_dict(row: np.ndarray) -> dict:
    """A row (19,) -> its slot dict."""
    slots = {name: SLOT_WORDS[name][row[i]] for i, name in enumerate(SLOTS) if row[i] >= 0}
    return {**slots, WITHOUT_ARTICLES: True} if row[COLUMN[WITHOUT_ARTICLES]] else slots


def to_row(slots: dict) -> np.ndarray:
    """A slot dict -> its row (19,) int64."""
    row = [SLOT_WORDS[name].index(slots[name]) if name in slots else -1 for name in SLOTS]
    return np.array([*row, int(bool(slots.get(WITHOUT_ARTICLES)))], np.int64)


# ---- Splits ---------------------------------------------------------------------------------------


def mix64(x: np.ndarray) -> np.ndarray:
    """splitmix64 (Steele et al., OOPSLA 2014): uint64 array -> well mixed uint64 array."""
    with np.errstate(over="ignore"):
        x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


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
_COLOR = [COLUMN["color" + s] for s in SUFFIXES]
_OBJECT = [COLUMN["object" + s] for s in SUFFIXES]


def _meets(table, rows, own_only):
    """Whether a (color, object) pair of a boolean table is in a sentence, of one object or, unless own_only, of two."""
    met = np.zeros(len(rows), bool)
    for i, c in enumerate(_COLOR):
        for j, o in enumerate(_OBJECT):
            if i == j or not own_only:
                color, obj = rows[:, c], rows[:, o]
                met |= (color >= 0) & (obj >= 0) & table[color, obj]
    return met


def frames_of(rows: np.ndarray) -> np.ndarray:
    """The frame of each row (n, 19): which parts it has, as one number, uint64."""
    parts = np.concatenate([rows[:, : len(SLOTS)] >= 0, rows[:, len(SLOTS) :] > 0], 1)
    return (parts.astype(np.uint64) << np.arange(parts.shape[1], dtype=np.uint64)).sum(1)


# Frames that are never held out: the ten of the first version. Each part alone, and the shortest sentences, are
# common in training.
COMMON = [
    "color", "size color", "color position", "size color position", "color background", "color action position",
    "size color action background", "color relation2 color2", "size color relation2 size2 color2", "",
    "color position relation2 color2 position2",
]  # fmt: skip


def _common_frames():
    rows = []
    for text in COMMON:
        names = {"object", *text.split()} | ({"object2"} if "relation2" in text else set())
        rows.append([0 if name in names else -1 for name in SLOTS] + [int("position2" in names)])
    return frames_of(np.array(rows))


_COMMON_FRAMES = _common_frames()


def is_held_out_frame(frames: np.ndarray) -> np.ndarray:
    """Whether training never shows frames (n,) uint64 of `frames_of` -> (n,) bool."""
    return (mix64(frames ^ np.uint64(0xF4A3E)) % np.uint64(FRAME_SHARE) == 0) & ~np.isin(frames, _COMMON_FRAMES)


FORM = (
    "a [SIZE] [COLOR] OBJECT [ACTION] [in the POSITION], up to three of these with and, next to, above or below "
    "between them, then [on a BACKGROUND background]"
)


def is_like_training(sentence: str) -> bool:
    """Whether a sentence is in the grammar, in a frame that training shows."""
    slots = parse(sentence)
    return slots is not None and not bool(is_held_out_frame(frames_of(to_row(slots)[None]))[0])


def in_split(rows: np.ndarray, split: str) -> np.ndarray:
    """Which sentences, rows (n, 19), belong to a split -> (n,) bool. Raises ValueError for an unknown split."""
    _split_number(split)
    held_out = is_held_out_frame(frames_of(rows))
    if split == "test_frames":
        return held_out & ~_meets(_PAIRS | _OOD, rows, False)
    if split == "test_pairs":
        return _meets(_PAIRS, rows, True) & ~_meets(_OOD, rows, False) & ~held_out
    if split == "test_ood":
        return _meets(_OOD, rows, True) & ~_meets(_PAIRS, rows, False) & ~held_out
    code = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        code = mix64(code ^ (column + 1).astype(np.uint64))
    share = code % np.uint64(VAL_SHARE * TEST_SHARE)
    is_test = share < VAL_SHARE
    is_val = (share >= VAL_SHARE) & (share < VAL_SHARE + TEST_SHARE)
    wanted = {"test": is_test, "val": is_val, "train": ~is_test & ~is_val}[split]
    return wanted & ~_meets(_PAIRS | _OOD, rows, False) & ~held_out


def _split_number(split):
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    return SPLITS.index(split)


# ---- Drawing sentences ----------------------------------------------------------------------------

DRAWS = 2 + 2 * len(SLOTS)  # uniform values that one try takes


def _try(uniform):
    """Uniform values (n, DRAWS) in [0, 1) -> rows (n, 19), and which of them are short enough, (n,) bool."""
    n = len(uniform)
    n_objects = 1 + np.searchsorted(np.cumsum(OBJECT_COUNT_SHARES)[:-1], uniform[:, 0], side="right")  # (n,)
    bare = uniform[:, 1] < WITHOUT_ARTICLES_SHARE
    wish, value = uniform[:, 2 : 2 + len(SLOTS)], uniform[:, 2 + len(SLOTS) :]
    present = np.zeros((n, len(SLOTS)), bool)
    parts = np.zeros(n, np.int64)
    for i, name in enumerate(SLOTS):
        part, number = part_of(name), number_of(name)
        here = n_objects > number if name != "background" else np.ones(n, bool)
        if part in PART_SHARES:
            here = here & (wish[:, i] < PART_SHARES[part])
            parts += here
        present[:, i] = here
    present[bare] = [name in _BARE_FRAME for name in SLOTS]
    rows = np.where(present, (value * SLOT_SIZES).astype(np.int64), -1)
    rows[bare, COLUMN["relation2"]] = RELATIONS.index("and")
    short = bare | (parts <= np.array(MOST_PARTS)[n_objects - 1])
    return np.concatenate([rows, bare[:, None].astype(np.int64)], 1), short


def _fill(n, split, uniform):
    """n rows of a split; uniform(places) draws (len(places), DRAWS) numbers in [0, 1)."""
    _split_number(split)
    rows = np.empty((n, len(SLOTS) + 1), np.int64)
    todo = np.arange(n)
    while todo.size:
        drawn, short = _try(uniform(todo))
        rows[todo] = drawn
        todo = todo[~(short & in_split(drawn, split))]
    return rows


def sample_rows(n: int, split: str, rng: np.random.Generator) -> np.ndarray:
    """n sentences of a split as rows (n, 19). Raises ValueError for an unknown split."""
    return _fill(n, split, lambda todo: rng.random((todo.size, DRAWS)))


def numbered_rows(numbers: np.ndarray, split: str, seed: int) -> np.ndarray:
    """Sentences of a split, each determined by its number and the seed: (n,) -> rows (n, 19). Raises ValueError."""
    start = mix64(mix64(np.array([seed], np.uint64)) ^ np.asarray(numbers).astype(np.uint64))  # (n,)
    count = np.zeros(len(start), np.uint64)  # numbers that each sentence has drawn so far

    def uniform(todo):
        count[todo] += np.uint64(DRAWS)
        bits = mix64(start[todo, None] + count[todo, None] + np.arange(DRAWS, dtype=np.uint64))
        return (bits >> np.uint64(11)) * 2.0**-53

    return _fill(len(start), split, uniform)


def log2_of_draw(rows: np.ndarray) -> np.ndarray:
    """log2 of the probability with which one try draws each row (n, 19), before splits and length are looked at."""
    bare = rows[:, COLUMN[WITHOUT_ARTICLES]] > 0
    n_objects = (rows[:, [COLUMN["object" + s] for s in SUFFIXES]] >= 0).sum(1)
    out = np.where(
        bare,
        np.log2(WITHOUT_ARTICLES_SHARE),
        np.log2((1 - WITHOUT_ARTICLES_SHARE) * np.array(OBJECT_COUNT_SHARES)[n_objects - 1]),
    )
    for i, name in enumerate(SLOTS):
        part, number = part_of(name), number_of(name)
        present = rows[:, i] >= 0
        if part in PART_SHARES:
            share = np.where(present, PART_SHARES[part], 1 - PART_SHARES[part])
            possible = ~bare & ((number < n_objects) | (name == "background"))
            out += np.where(possible, np.log2(share), 0)
        fixed = bare & (name == "relation2")
        out -= np.where(present & ~fixed, np.log2(SLOT_SIZES[i]), 0)
    return out


def entropy_of_split(split: str, draws: int = 50_000, seed: int = 0) -> float:
    """Entropy of a split's sentences, bits: the mean of -log2 of their probabilities over seeded draws.

    A probability is that of one try over the share of tries that the split takes. The share is estimated, too; seeds
    differ by 0.07 bits.
    """
    taken, share = _taken((split,), 20 * draws, [seed, _split_number(split)])
    return float(np.log2(share) - log2_of_draw(taken).mean())


def bits_of(rows: np.ndarray, draws: int = 200_000, seed: int = 0) -> np.ndarray:
    """-log2 of the true probability of each sentence (n, 19) in `train`, `val` and `test` together.

    The hash that separates the three splits is left out, because no text could teach it.
    """
    _, share = _taken(("train", "val", "test"), draws, [seed, len(SPLITS)])
    return np.log2(share) - log2_of_draw(rows)


def _taken(splits, tries, seed):
    """Rows that some splits together take of so many tries, and their share of the tries."""
    rows, short = _try(np.random.default_rng(seed).random((tries, DRAWS)))
    taken = short & np.any([in_split(rows, split) for split in splits], 0)
    return rows[taken], taken.mean()


def different_sentences(n: int, split: str, seed: int) -> list[str]:
    """n different sentences of a split. Raises ValueError."""
    found: dict[str, None] = {}
    rng = np.random.default_rng([seed, _split_number(split), 1])
    while len(found) < n:
        found.update((render(to_dict(row)), None) for row in sample_rows(n, split, rng))
    return list(found)[:n]


def sample_sentences(n: int, split: str, seed: int) -> list[str]:
    """A list of n sentences of a split; the same for the same seed on every machine. Raises ValueError."""
    rows = sample_rows(n, split, np.random.default_rng([seed, _split_number(split)]))
    return [render(to_dict(row)) for row in rows]
