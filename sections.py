"""The sections of an evaluation: what is measured, on which sentences, beside which baselines.

A section maps a `Subject`, a `Plan` and a seed to {"figures": {name: figure}, "details": {...}}, all of
it JSON. A figure holds a value, its n, seed and range, and the same measure on the baselines.
"""

import math
import tempfile
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import data_utils
import legibility
import losses
import metrics
import robustness
from baselines import READERS, HandMade, Pair, fresh_reader, random_drawer, train_reader
from channel import blur
from data_utils import PAD, SLOT_WORDS, SLOTS, SPLITS, TEMPLATES, GrammarData, pad, parse, sample_sentences
from legibility import FOUR_SLOTS, draw_slots, random_slots
from roundtrip import BATCH, draw_sentences, read_pictures, through_png

SYNONYMS = {"ball, sphere, circle": ("object", ("ball", "sphere", "circle")), "cube, box, square": ("object", ("cube", "box", "square")),
            "center, middle": ("position", ("center", "middle"))}  # fmt: skip


@dataclass
class Plan:
    """How much is measured; the whole, or `--quick`."""

    sentences: int = 1000  # round trips of each split
    worn: int = 300  # sentences of the robustness section
    structure: int = 400  # sentences of the structure section
    permutations: int = 999
    probe: int = 1500  # pictures that a linear probe learns from
    steps: int = 600  # of each fresh reader, batches of 64
    every: int = 50
    checks: int = 200  # unseen sentences a fresh reader is checked on
    readers: tuple = tuple(READERS)
    vendi: int = 500
    invented: int = 500
    legibility_of_baselines: bool = True
    quick: bool = False


QUICK = Plan(200, 80, 150, 299, 300, 100, 25, 100, ("plain convolutions",), 200, 100, False, True)


@dataclass
class Subject:
    """A model under study. `lines` are the unseen lines of a --captions_file run, None for the grammar."""

    circle: object
    vocab: object
    settings: object
    device: torch.device
    name: str = ""
    lines: list = None
    data: object = None  # batches for fresh readers

    @property
    def splits(self):
        return SPLITS[1:] if self.lines is None else ("test",)

    def sentences(self, n, split, seed):
        return sample_sentences(n, split, seed) if self.lines is None else self.lines[:n]

    def draw(self, sentences):
        return draw_sentences(self.circle, self.vocab, sentences, self.device)

    def batches(self, seed):
        """step -> 64 sentences' word numbers."""
        per_epoch = max(1, self.data.num_samples // 64)
        return lambda step: self.data.batch(seed + step // per_epoch, step % per_epoch, 64)


def figure(value, n, seed, baselines=None, interval=None, low=0.0, high=1.0, better="", **more):
    """One number with all that is needed to judge it. better: "high", "low" or "" where neither is."""
    return {"value": value, "n": n, "seed": seed, "range": [low, high], "interval": interval, "baselines": baselines or {}, "better": better, **more}


@lru_cache(maxsize=20000)
def _places(sentence):
    found = parse(sentence)
    if found is None:
        return ()
    words = TEMPLATES[found[0]].split()
    return tuple((slot, words.index("{" + slot + "}")) for slot in found[1])


def slots_of(sentence):
    """{slot: place of its word in the sentence}; empty for a sentence that is none of the grammar."""
    return dict(_places(sentence))


# ---------------------------------------------------------------------------------------------
# The circle
# ---------------------------------------------------------------------------------------------


def score(originals, captions, with_slots=True):
    """All measures of round trips -> {name: value}."""
    out = {
        "exact match": metrics.exact_match(originals, captions),
        "word accuracy": metrics.word_accuracy(originals, captions),
        "word error rate": metrics.word_error_rate(originals, captions),
    }
    if with_slots:
        each, soft = metrics.slot_accuracies(metrics.slot_hits(slots_of, originals, captions))
        out["Soft (mean of slots)"] = soft
        out["Hard (all slots)"] = float(np.mean(metrics.hard_slots(slots_of, originals, captions)))
        out.update({f"slot: {slot}": each[slot] for slot in SLOTS if slot in each})
    return out


def per_sentence(name, originals, captions):
    """The values whose mean a measure is, for its bootstrap; one a sentence (slots: one an occurrence)."""
    if name == "exact match":
        return [float(a == b) for a, b in zip(originals, captions)]
    if name == "Hard (all slots)":
        return metrics.hard_slots(slots_of, originals, captions)
    if name.startswith("slot: "):
        return [float(a == b) for a, b in metrics.slot_hits(slots_of, originals, captions)[name[6:]]]
    one = {"word accuracy": metrics.word_accuracy, "word error rate": metrics.word_error_rate}.get(name)
    if one is None:  # Soft: the mean over the slots of a sentence
        return [np.mean([a == b for v in metrics.slot_hits(slots_of, [x], [y]).values() for a, b in v]) for x, y in zip(originals, captions)]
    return [one([a], [b]) for a, b in zip(originals, captions)]


def circle_section(subject, plan, seed, say):
    """Round trips through PNG files on disk, on every split, beside captions that need no training."""
    figures, details = {}, {"confusion": {}, "wrong": {}}
    slots = subject.lines is None
    blank = read_pictures(subject.circle, subject.vocab, torch.full((1, 3, 64, 64), 0.5), subject.device)[0]
    for split in subject.splits:
        sentences = subject.sentences(plan.sentences, split, seed)
        captions = []
        with tempfile.TemporaryDirectory() as folder:
            for start in range(0, len(sentences), BATCH):
                captions += through_png(subject.circle, subject.vocab, sentences[start : start + BATCH], subject.device, folder)[1]
        n = len(sentences)
        guesses = subject.sentences(n, split, seed + 1) if slots else sentences[n // 2 :] + sentences[: n // 2]
        baselines = {
            "chance": score(sentences, guesses, slots),
            "majority": score(sentences, [metrics.majority_sentence(sentences)] * n, slots),
            "blank picture": score(sentences, blank * n, slots),
            "another's picture": score(sentences, captions[1:] + captions[:1], slots),
        }
        for name, value in score(sentences, captions, slots).items():
            worse = name == "word error rate"
            interval = metrics.bootstrap_interval(per_sentence(name, sentences, captions), seed)
            beside = {k: v[name] for k, v in baselines.items()}
            figures[f"{split} · {name}"] = figure(
                value, n, seed, beside, interval, high=None if worse else 1.0, better="low" if worse else "high"
            )
        if slots:
            hits = metrics.slot_hits(slots_of, sentences, captions)
            words = {s: SLOT_WORDS[s] for s in hits}
            details["confusion"][split] = {s: {"words": w, "counts": metrics.confusion_matrix(hits[s], w).tolist()} for s, w in words.items()}
        details["wrong"][split] = [[a, b] for a, b in zip(sentences, captions) if a != b][:200]
        say(1 / len(subject.splits))
    return {"figures": figures, "details": details}


# ---------------------------------------------------------------------------------------------
# Fresh readers: can it be learned, and the baselines that need training
# ---------------------------------------------------------------------------------------------


def drawers(subject, seed):
    """The drawers that fresh readers are taught -> {name: word numbers -> Scene}. No drawing program for free text."""
    out = {"this model": subject.circle.draw}
    out["random drawer"] = random_drawer(subject.circle, subject.vocab, subject.settings, seed, subject.device).draw
    if subject.lines is None:
        out["hand-made"] = HandMade(subject.vocab)
    return out


def readers_section(subject, plan, seed, say):
    """Fresh readers on frozen drawers: exact match against steps, and what the taught readers score on the splits."""
    figures, curves, scores = {}, {}, {}
    frozen, max_words = drawers(subject, seed), subject.circle.language_model.max_words
    checks = subject.sentences(plan.checks, "test", seed + 2)
    share = 1 / (len(frozen) * len(plan.readers) * plan.steps)
    for build in plan.readers:
        for name, draw in frozen.items():
            reader = fresh_reader(build, subject.vocab, max_words, seed, subject.device)
            curve = train_reader(
                reader, draw, subject.batches(seed), subject.vocab, checks, plan.steps, plan.every, subject.device, seed, lambda: say(share)
            )
            curves[f"{name}, {build}"] = curve
            if build == "plain convolutions" and name != "this model":
                pair = Pair(draw, reader)
                scores[name] = {}
                for split in subject.splits:
                    sentences = subject.sentences(plan.sentences, split, seed)
                    captions, _ = read_pictures(pair, subject.vocab, draw_sentences(pair, subject.vocab, sentences, subject.device), subject.device)
                    scores[name][split] = score(sentences, captions, subject.lines is None)
        for what, of in (("exact match at the end", _last), ("area under the curve", _area), ("steps to 95 %", _steps)):
            values = {name: of(curves[f"{name}, {build}"], plan.steps) for name in frozen}
            high = None if what.startswith("steps") else 1.0
            figures[f"{build} · {what}"] = figure(
                values.pop("this model"), len(checks), seed, values, high=high, better="low" if high is None else "high",
                note=f"{plan.steps} steps of 64 sentences" + ("; none where it was never reached" if high is None else ""),
            )  # fmt: skip
    return {"figures": figures, "details": {"curves": curves, "scores": scores, "steps": plan.steps}}


def _last(curve, _steps):
    return curve[-1][1]


def _area(curve, steps):
    """Mean exact match over the steps, by the trapezoid rule from (0, 0)."""
    x, y = [0] + [s for s, _ in curve], [0.0] + [v for _, v in curve]
    return float(np.trapezoid(y, x) / steps)


def _steps(curve, _steps):
    return next((s for s, v in curve if v >= 0.95), None)


# ---------------------------------------------------------------------------------------------
# Robustness and legibility
# ---------------------------------------------------------------------------------------------


def robustness_section(subject, plan, seed, say):
    """Exact match after wear; baseline: the undamaged pictures."""
    sentences = subject.sentences(plan.worn, "test", seed)
    pictures = subject.draw(sentences)
    clean = metrics.exact_match(sentences, read_pictures(subject.circle, subject.vocab, pictures, subject.device)[0])
    curves = robustness.measure(subject.circle, subject.vocab, subject.device, sentences, seed)
    figures = {}
    for kind, curve in curves.items():
        curve["trained_on"] = bool(curve["trained_on"] and subject.settings.channel)
        middle = curve["exact_match"][(len(curve["strengths"]) - 1) // 2]
        strength = curve["strengths"][(len(curve["strengths"]) - 1) // 2]
        figures[f"{kind} {strength}"] = figure(
            middle, len(sentences), seed, {"undamaged": clean}, better="high",
            note=("trained on" if curve["trained_on"] else "not trained on") + f"; halves at {curve['halves_at'] or 'none of the strengths'}",
        )  # fmt: skip
    coarse = robustness.low_frequency_share(pictures)
    noise = robustness.low_frequency_share(torch.rand(len(pictures), 3, 64, 64, generator=torch.Generator().manual_seed(seed)))
    figures["variance that 16x16 pixels hold"] = figure(coarse, len(pictures), seed, {"white noise": noise}, better="high")
    return {"figures": figures, "details": {"clean": clean, "curves": curves}}


def legibility_section(subject, plan, seed, say):
    """The measures of legibility.py, beside the drawing program and a drawer that learned nothing."""
    own = legibility.measure(subject.circle, subject.vocab, subject.device, seed, plan.quick)
    others = {}
    if plan.legibility_of_baselines:
        say(1 / 3)
        others["random drawer"] = legibility.measure(
            random_drawer(subject.circle, subject.vocab, subject.settings, seed, subject.device), subject.vocab, subject.device, seed, True
        )
        say(1 / 3)
        others["hand-made"] = legibility.measure(Pair(HandMade(subject.vocab)), subject.vocab, subject.device, seed, True)
    n, figures = 200 if plan.quick else 500, {}

    def add(name, key, high=1.0, better="high", n=n, low=0.0, **chance):
        values = {k: key(v) for k, v in others.items() if key(v) is not None}
        if key(own) is not None:
            figures[name] = figure(key(own), n, seed, {**chance, **values}, low=low, high=high, better=better)

    for slot in FOUR_SLOTS:
        add(f"naive reader, 4 examples a word · {slot}", lambda m, s=slot: m["naive_reader_4"][s], chance=1 / len(SLOT_WORDS[slot]))
    add("color word from the color histogram", lambda m: m["color_from_histogram_64"], chance=1 / len(SLOT_WORDS["color"]))
    pairs = 60 if plan.quick else 120
    for slot in FOUR_SLOTS:
        add(f"one {slot} word swapped: share of the picture that changes", lambda m, s=slot: m["swap"][s]["changed"], better="low", n=pairs)
        add(f"one {slot} word swapped: visible change (ΔE)", lambda m, s=slot: m["swap"][s]["visible"], high=None, n=pairs)
        add(f"one {slot} word swapped: overlap over contexts", lambda m, s=slot: m["swap"][s]["overlap"], n=40)
    add("slots read from silhouettes alone", lambda m: m["silhouette_slots"])
    return {"figures": figures, "details": {"own": own, **others}}


# ---------------------------------------------------------------------------------------------
# Language structure
# ---------------------------------------------------------------------------------------------


def small_pixels(pictures):
    """16x16 pixels after a 1 px blur: (n, 3, 64, 64) -> (n, 768)."""
    return F.avg_pool2d(blur(pictures, 1.0), 4).flatten(1).numpy()


def random_features(pictures, seed=0):
    """Two layers of fixed random convolutions, pooled to 4x4: (n, 3, 64, 64) -> (n, 512). The same for every model."""
    rng = torch.Generator().manual_seed(seed)
    x = pictures * 2 - 1
    for a, b, stride in ((3, 16, 2), (16, 32, 2)):
        x = torch.relu(F.conv2d(x, torch.randn(b, a, 5, 5, generator=rng) / math.sqrt(25 * a), stride=stride, padding=2))
    return F.adaptive_avg_pool2d(x, 4).flatten(1).numpy()


def symbols_of(pictures, seed, kinds=24):
    """A picture as a message: 8x8 places, each with one of `kinds` symbols found by k-means over all places'
    2x2 pixels: (n, 3, 64, 64) -> (n, 64) integers."""
    cells = F.unfold(F.avg_pool2d(pictures, 4), 2, stride=2).transpose(1, 2).reshape(-1, 12).numpy()  # (n 64, 12)
    rng = np.random.default_rng(seed)
    taught = cells[rng.permutation(len(cells))[:5000]] + rng.normal(0, 1e-4, (min(5000, len(cells)), 12))
    model = KMeans(min(kinds, len(taught)), n_init=1, random_state=seed).fit(taught.astype(np.float32))
    return model.predict(cells.astype(np.float32)).reshape(len(pictures), -1)


def _similarities(draw, sentences, meaning, plan, seed):
    pictures = draw(sentences)
    out = {}
    for name, features in (("pixels", small_pixels), ("random features", random_features)):
        out[name] = metrics.topographic_similarity(meaning, metrics.pairwise_rmse(features(pictures)), seed, plan.permutations)
    return pictures, out


def structure_section(subject, plan, seed, say):
    """Topographic similarity, disentanglement and synonyms, beside other drawers and dealt-out pictures."""
    figures, n = {}, plan.structure
    random_ = random_drawer(subject.circle, subject.vocab, subject.settings, seed, subject.device)
    others = {"random drawer": lambda s: draw_sentences(random_, subject.vocab, s, subject.device)}
    if subject.lines is None:
        others["hand-made"] = lambda s: draw_sentences(Pair(HandMade(subject.vocab)), subject.vocab, s, subject.device)
        slots = random_slots(n, np.random.default_rng(seed))
        codes = np.array([[SLOT_WORDS[k].index(s[k]) for k in FOUR_SLOTS] for s in slots])
        spaces = {"slots": ([data_utils.render(legibility.TEMPLATE, s) for s in slots], squareform((codes[:, None] != codes[None]).sum(2)))}
    else:
        spaces, slots = {}, None
    free = subject.sentences(n, "test", seed + 3)
    rows = [s.split() for s in free]
    edits = [metrics.edit_distance(rows[i], rows[j]) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    spaces["words"] = (free, np.array(edits, float))
    pictures = {}
    for space, (sentences, meaning) in spaces.items():
        pictures[space], own = _similarities(subject.draw, sentences, meaning, plan, seed)
        beside = {name: _similarities(draw, sentences, meaning, plan, seed)[1] for name, draw in others.items()}
        for form, (rho, p) in own.items():
            baselines = {"pictures dealt out": 0.0, **{name: v[form][0] for name, v in beside.items()}}
            note = f"Mantel p = {p:.4g} ({plan.permutations} permutations)"
            figures[f"topographic similarity · {space}, {form}"] = figure(
                rho, len(sentences), seed, baselines, low=-1.0, better="high", mantel_p=p, note=note
            )
        say(0.4)
    if slots is not None:
        _disentanglement(figures, {"": pictures["slots"], **{k: d(spaces["slots"][0]) for k, d in others.items()}}, codes, seed)
        figures.update(_synonyms(subject.draw, seed, 4 if plan.quick else 10))
    return {"figures": figures, "details": {}}


def _disentanglement(figures, pictures, codes, seed):
    measures = (("posdis", metrics.positional_disentanglement), ("bosdis", metrics.bag_of_symbols_disentanglement))
    for name, measure in measures:
        values = {}
        for drawer, drawn in pictures.items():
            symbols = symbols_of(drawn, seed)
            null = metrics.shuffled_null(measure, codes, symbols, seed, 3)
            values[drawer] = measure(codes, symbols) - null
        figures[f"{name}, shuffled null subtracted"] = figure(values.pop(""), len(codes), seed, values, low=-1.0, better="high")


def word_scenes(draw, slot, seed, contexts):
    """Every word of a slot in the same contexts -> (words, contexts, 3, 64, 64)."""
    frames = random_slots(contexts, np.random.default_rng([seed, SLOTS.index(slot)]))
    drawn = draw([data_utils.render(legibility.TEMPLATE, {**f, slot: w}) for w in SLOT_WORDS[slot] for f in frames])
    return drawn.unflatten(0, (len(SLOT_WORDS[slot]), contexts))


def lab_difference(a, b):
    """Mean CIE76 colour difference after a 1.5 px blur; pictures (n, 3, 64, 64) pairwise -> float >= 0."""
    lab = [losses.srgb_to_lab(blur(p, 1.5), axis=1) for p in (a, b)]
    return float(((lab[0] - lab[1]) ** 2).sum(1).sqrt().mean())


def _synonyms(draw, seed, contexts):
    """How far apart near-synonyms are drawn; baseline: all pairs of words of the slot."""
    out = {}
    for name, (slot, group) in SYNONYMS.items():
        scenes = word_scenes(draw, slot, seed, contexts)
        words = SLOT_WORDS[slot]
        far = {(a, b): lab_difference(scenes[i], scenes[j]) for i, a in enumerate(words) for j, b in enumerate(words) if i < j}
        inside = [v for (a, b), v in far.items() if a in group and b in group]
        rest = [v for (a, b), v in far.items() if not (a in group and b in group)]
        out[f"distance of synonyms · {name} (ΔE)"] = figure(float(np.mean(inside)), contexts, seed, {"other pairs": float(np.mean(rest))}, high=None)
    return out


# ---------------------------------------------------------------------------------------------
# Meaning of words
# ---------------------------------------------------------------------------------------------


def meaning_section(subject, plan, seed, say):
    """Linear probes slot <- picture; distances within a word and between words, in CIELAB."""
    rng, figures = np.random.default_rng([seed, 5]), {}
    train, test = random_slots(plan.probe, rng), random_slots(max(200, plan.probe // 3), rng)
    pictures = [draw_slots(subject.circle, subject.vocab, subject.device, s) for s in (train, test)]
    small = [F.avg_pool2d(p, 2).flatten(1).numpy() for p in pictures]
    reduce = PCA(min(100, len(train) // 2), random_state=seed).fit(small[0])
    x, y = (reduce.transform(s) for s in small)
    for slot in FOUR_SLOTS:
        known, wanted = np.array([s[slot] for s in train]), np.array([s[slot] for s in test])
        accuracy = {}
        for name, labels in (("", known), ("shuffled words", rng.permutation(known))):
            accuracy[name] = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(x, labels).score(y, wanted)
        common = max(set(known), key=list(known).count)
        baselines = {"shuffled words": accuracy["shuffled words"], "majority": float((wanted == common).mean())}
        interval = metrics.bootstrap_interval(np.random.default_rng(seed).random(len(test)) < accuracy[""], seed)
        figures[f"linear probe · {slot}"] = figure(accuracy[""], len(test), seed, baselines, interval, better="high")
    lab = losses.srgb_to_lab(F.avg_pool2d(pictures[1][:200], 4), axis=1).flatten(1).numpy()
    apart = metrics.pairwise_rmse(lab) * math.sqrt(3)
    for slot in FOUR_SLOTS:
        words = np.array([s[slot] for s in test[:200]])
        same = squareform(words[:, None] == words[None], checks=False)
        ratio = float(apart[same].mean() / max(1e-9, apart[~same].mean())) if apart[~same].mean() > 1e-6 else 1.0
        dealt = rng.permutation(words)
        same = squareform(dealt[:, None] == dealt[None], checks=False)
        null = float(apart[same].mean() / max(1e-9, apart[~same].mean())) if apart[~same].mean() > 1e-6 else 1.0
        figures[f"distance within a word / between words · {slot}"] = figure(ratio, 200, seed, {"shuffled words": null}, high=None, better="low")
    return {"figures": figures, "details": {}}


# ---------------------------------------------------------------------------------------------
# Bottleneck and diversity
# ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def entropy_of_split(split):
    """Entropy in bits of a split's sentences: templates evenly, then its sentences evenly. Counts them all."""
    bits = []
    for number, slots in enumerate(data_utils._TEMPLATE_SLOTS):
        sizes = [len(SLOT_WORDS[s]) for s in slots]
        total, count = math.prod(sizes), 0
        for start in range(0, total, 100_000):
            index = np.arange(start, min(total, start + 100_000))
            values = np.full((len(index), len(SLOTS)), -1)
            for slot, column in zip(slots, np.unravel_index(index, sizes)):
                values[:, SLOTS.index(slot)] = column
            count += int(data_utils._in_split(np.full(len(index), number), values, split).sum())
        bits.append(math.log2(max(1, count)))
    return math.log2(len(TEMPLATES)) + float(np.mean(bits))


def sentence_nats(subject, sentences):
    """Mean cross-entropy of whole sentences, nats: (the reader's given the picture, the language model's).
    A reader without teacher forcing is left out: None."""
    circle, vocab, reader, text = subject.circle, subject.vocab, 0.0, 0.0
    for i in range(0, len(sentences), BATCH):
        ids = pad([vocab.encode(s) for s in sentences[i : i + BATCH]]).to(subject.device)
        targets = losses.targets_of(ids)
        with torch.no_grad():
            picture = subject.draw(sentences[i : i + BATCH]).to(subject.device)
            here = (targets != PAD).sum()
            reader += float(losses.word_loss(circle.caption_network(picture, ids)[0], targets) * here)
            text += float(losses.word_loss(circle.language_model(ids).logits, targets) * here)
    return reader / len(sentences), text / len(sentences)


def bottleneck_section(subject, plan, seed, say):
    """Bits through the picture, latents in use, and how many different pictures there are."""
    figures = {}
    sentences = subject.sentences(plan.sentences, "test", seed + 4)
    n, free = len(sentences), subject.lines is not None
    reader, text = sentence_nats(subject, sentences)
    bits = text / math.log(2) if free else entropy_of_split("test")
    figures["bits through the picture" + (" (estimate)" if free else " (at least)")] = figure(
        metrics.bits_through(bits, reader), n, seed, {"blank picture": 0.0, "all of the text": bits}, high=bits, better="high",
        note="H(text) is the language model's estimate" if free else "H(text) is counted exactly",
    )  # fmt: skip
    mu, kl = [], []
    with torch.no_grad():
        for i in range(0, n, BATCH):
            ids = pad([subject.vocab.encode(s) for s in sentences[i : i + BATCH]]).to(subject.device)
            scene = subject.circle.draw(ids)
            mu.append(scene.mu.cpu())
            kl.append(scene.kl.cpu())
    mu = torch.cat(mu).numpy()
    figures["active latents"] = figure(metrics.active_units(mu), n, seed, {"all": mu.shape[1]}, high=mu.shape[1])
    if subject.settings.use_vae:
        total = float(torch.cat(kl).mean()) / math.log(2)
        figures["KL of the latent (bits a sentence)"] = figure(total, n, seed, {"all of the text": bits}, high=None)
        figures["KL per latent (bits)"] = figure(total / mu.shape[1], n, seed, {}, high=None)
    figures.update(_diversity(subject, plan, seed, list(dict.fromkeys(sentences))[: plan.vendi]))
    return {"figures": figures, "details": {"text_bits": bits, "latent_variance": mu.var(0).tolist()}}


def _diversity(subject, plan, seed, sentences):
    pictures, n, out = {"": subject.draw(sentences)}, len(sentences), {}
    random_ = random_drawer(subject.circle, subject.vocab, subject.settings, seed, subject.device)
    pictures["random drawer"] = draw_sentences(random_, subject.vocab, sentences, subject.device)
    if subject.lines is None:
        pictures["hand-made"] = draw_sentences(Pair(HandMade(subject.vocab)), subject.vocab, sentences, subject.device)
    apart = {k: metrics.pairwise_rmse(small_pixels(p)) for k, p in pictures.items()}
    for q, name in ((1, "1"), (2, "2"), (math.inf, "∞")):
        values = {k: metrics.vendi_score(d, 0.1, q) for k, d in apart.items()}
        out[f"Vendi score, q = {name}"] = figure(values.pop(""), n, seed, {"one picture": 1.0, **values}, low=1.0, high=n, better="high")
    distinct = {k: len({(p * 255).round().byte().numpy().tobytes() for p in v}) / n for k, v in pictures.items()}
    out["distinct pictures at 8 bit"] = figure(distinct.pop(""), n, seed, distinct, better="high")
    alike = {k: float((d < 0.01).mean()) for k, d in apart.items()}
    out["pairs of sentences with one picture (RMSE < 0.01)"] = figure(alike.pop(""), n, seed, {"mode collapse": 1.0, **alike}, better="low")
    return out


# ---------------------------------------------------------------------------------------------
# The language model, coherence, cross-reading
# ---------------------------------------------------------------------------------------------


def language_section(subject, plan, seed, say):
    """Perplexity on unseen sentences; what the model invents."""
    sentences = subject.sentences(plan.sentences, "test", seed + 5)
    n = len(sentences)
    words = sum(len(s.split()) + 1 for s in sentences)
    _, nats = sentence_nats(subject, sentences)
    vocab = len(subject.vocab) - len(data_utils.SPECIALS)
    baselines = {"chance": float(vocab + 1)}
    if subject.lines is None:
        baselines["the grammar itself"] = 2 ** (entropy_of_split("test") * n / words)
    figures = {"perplexity of a word": figure(math.exp(min(50, nats * n / words)), n, seed, baselines, low=1.0, high=None, better="low")}
    rng = torch.Generator(subject.device).manual_seed(seed)
    with torch.no_grad():
        invented = [subject.vocab.decode(r) for r in subject.circle.language_model.sample(plan.invented, rng).tolist()]
    random_words = np.random.default_rng(seed)
    if subject.lines is None:
        parsed = float(np.mean([parse(s) is not None for s in invented]))
        lengths = [len(s.split()) for s in invented]
        soup = [" ".join(random_words.choice(subject.vocab.words[3:], n)) for n in lengths]
        beside = {"random words": float(np.mean([parse(s) is not None for s in soup])), "the grammar itself": 1.0}
        figures["invented sentences that parse"] = figure(parsed, len(invented), seed, beside, better="high")
        new = float(np.mean([parse(s) is not None and not _trainable(s) for s in invented]))
        beside = {"the grammar itself": float(np.mean([not _trainable(s) for s in sample_sentences(plan.invented, "train", seed)]))}
        figures["invented sentences that parse and that training never shows"] = figure(new, len(invented), seed, beside)
    else:
        seen = {subject.vocab.decode(r) for k in range(-(-subject.data.num_samples // 64)) for r in subject.data.batch(0, k, 64).tolist()}
        new = float(np.mean([s not in seen for s in invented]))
        figures["invented sentences that are not in the file's training part"] = figure(new, len(invented), seed, {"the file itself": 0.0})
    different = len(set(invented)) / len(invented)
    figures["different ones among the invented"] = figure(different, len(invented), seed, {"one sentence": 1 / len(invented)}, better="high")
    return {"figures": figures, "details": {"invented": invented[:40]}}


def _trainable(sentence):
    template, slots = parse(sentence)
    row = np.array([[SLOT_WORDS[s].index(slots[s]) if s in slots else -1 for s in SLOTS]])
    return bool(data_utils._in_split(np.array([template]), row, "train")[0])


def coherence_section(subject, plan, seed, say):
    """Total variation and spectral slope, beside white noise and the other drawers."""
    sentences = subject.sentences(min(plan.vendi, 200), "test", seed + 6)
    noise = torch.rand(len(sentences), 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    random_ = random_drawer(subject.circle, subject.vocab, subject.settings, seed, subject.device)
    pictures = {"": subject.draw(sentences), "white noise": noise, "random drawer": draw_sentences(random_, subject.vocab, sentences, subject.device)}
    if subject.lines is None:
        pictures["hand-made"] = draw_sentences(Pair(HandMade(subject.vocab)), subject.vocab, sentences, subject.device)
    figures = {}
    for name, measure, low, high in (
        ("total variation", metrics.total_variation, 0.0, 1.0),
        ("spectral slope", metrics.spectral_slope, None, None),
    ):
        values = {k: measure(p.numpy()) for k, p in pictures.items()}
        figures[name] = figure(values.pop(""), len(sentences), seed, values, low=low, high=high)
    return {"figures": figures, "details": {}}


def cross_reading(subjects, plan, seed):
    """Exact match when one model draws and another reads: rows draw, columns read. None where the words differ."""
    rows = []
    for a in subjects:
        sentences = a.sentences(min(plan.sentences, 300), "test", seed)
        pictures = a.draw(sentences)
        rows.append([])
        for b in subjects:
            known = set(b.vocab.words) >= set(a.vocab.words)
            rows[-1].append(metrics.exact_match(sentences, read_pictures(b.circle, b.vocab, pictures, b.device)[0]) if known else None)
    return rows


# name: (function, what it costs relative to the others, does it need slots?)
SECTIONS = {
    "circle": (circle_section, 6, False),
    "readers": (readers_section, 40, False),
    "robustness": (robustness_section, 8, False),
    "legibility": (legibility_section, 20, True),
    "structure": (structure_section, 10, False),
    "meaning": (meaning_section, 8, True),
    "bottleneck": (bottleneck_section, 6, False),
    "language model": (language_section, 2, False),
    "coherence": (coherence_section, 2, False),
}
TITLES = {
    "circle": "The circle", "readers": "Can it be learned?", "robustness": "Robustness, or is it steganography?",
    "legibility": "Can a person read it?", "structure": "Language structure", "meaning": "Meaning of words",
    "bottleneck": "Bottleneck and diversity", "language model": "The language model", "coherence": "Coherence",
}  # fmt: skip


def open_data(settings, vocab, captions_file=None):
    """(unseen lines or None, batches) as the settings of a run say. Raises OSError, CaptionsFileError."""
    if not settings.captions_file:
        return None, GrammarData(settings.num_samples if settings.fixed_data else 1 << 20, settings.seed + 99, False)
    data = data_utils.CaptionsData(captions_file or settings.captions_file, settings.seed, settings.train_split, vocab)
    return data.test, data
