"""What an evaluation measures of the language: its structure, its words, its bottleneck and its grammar.

Sections as in `reading`.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

import data_utils
import losses
import metrics
from channel import blur
from data_utils import PAD, pad
from evaluation import legibility
from evaluation.color_difference import color_difference
from evaluation.legibility import FOUR_SLOTS, as_seen, draw_slots, random_slots
from evaluation.protocol import figure
from pictures import BATCH, draw_sentences
from text import grammar
from text.grammar import SLOT_WORDS, SLOTS, TEMPLATES, parse, sample_sentences

SYNONYMS = {  # name: (slot, words)
    "ball, sphere, circle": ("object", ("ball", "sphere", "circle")),
    "cube, box, square": ("object", ("cube", "box", "square")),
    "center, middle": ("position", ("center", "middle")),
}


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
        out[name] = metrics.topographic_similarity(
            meaning, metrics.pairwise_rmse(features(as_seen(pictures))), seed, plan.permutations
        )
    return pictures, out


def structure_section(subject, plan, seed, say):
    """Topographic similarity, disentanglement and synonyms, beside other drawers and dealt-out pictures."""
    figures, n = {}, plan.structure
    others = {k: lambda s, p=p: draw_sentences(p, subject.vocab, s, subject.device) for k, p in subject.others(seed).items()}
    if subject.lines is None:
        slots = random_slots(n, np.random.default_rng(seed))
        codes = np.array([[SLOT_WORDS[k].index(s[k]) for k in FOUR_SLOTS] for s in slots])
        spaces = {
            "slots": (
                [grammar.render(legibility.TEMPLATE, s) for s in slots],
                squareform((codes[:, None] != codes[None]).sum(2)),
            )
        }
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


def word_scenes(draw, slot, seed, contexts, template=legibility.TEMPLATE):
    """Every word of a slot in the same contexts -> pictures (words, contexts, 3, 64, 64), sentences [words][contexts]."""
    rng = np.random.default_rng([seed, SLOTS.index(slot)])
    frames = [{s: str(rng.choice(SLOT_WORDS[s])) for s in grammar.TEMPLATE_SLOTS[template]} for _ in range(contexts)]
    sentences = [[grammar.render(template, {**f, slot: w}) for f in frames] for w in SLOT_WORDS[slot]]
    return draw(sum(sentences, [])).unflatten(0, (len(sentences), contexts)), sentences


def _synonyms(draw, seed, contexts):
    """How far apart near-synonyms are drawn; baseline: all pairs of words of the slot."""
    out = {}
    for name, (slot, group) in SYNONYMS.items():
        scenes, _ = word_scenes(draw, slot, seed, contexts)
        words = SLOT_WORDS[slot]
        far = {
            (a, b): float(color_difference(scenes[i], scenes[j]).mean())
            for i, a in enumerate(words)
            for j, b in enumerate(words)
            if i < j
        }
        inside = [v for (a, b), v in far.items() if a in group and b in group]
        rest = [v for (a, b), v in far.items() if not (a in group and b in group)]
        out[f"distance of synonyms · {name} (ΔE)"] = figure(
            float(np.mean(inside)), contexts, seed, {"other pairs": float(np.mean(rest))}, high=None
        )
    return out


# ---------------------------------------------------------------------------------------------
# Meaning of words
# ---------------------------------------------------------------------------------------------


def meaning_section(subject, plan, seed, say):
    """Linear probes slot <- picture; distances within a word and between words, in CIELAB."""
    rng, figures = np.random.default_rng([seed, 5]), {}
    train, test = random_slots(plan.probe, rng), random_slots(max(200, plan.probe // 3), rng)
    pictures = [draw_slots(subject.circle, subject.vocab, subject.device, s) for s in (train, test)]
    small = [F.avg_pool2d(as_seen(p, i), 2).flatten(1).numpy() for i, p in enumerate(pictures)]
    reduce = PCA(min(100, len(train) // 2), random_state=seed).fit(small[0])
    x, y = legibility.standardised(*(reduce.transform(s) for s in small))
    for slot in FOUR_SLOTS:
        known, wanted = np.array([s[slot] for s in train]), np.array([s[slot] for s in test])
        right = {}
        for name, labels in (("", known), ("shuffled words", rng.permutation(known))):
            model = LogisticRegression(C=0.1, max_iter=300).fit(x, labels)
            right[name] = model.predict(y) == wanted
        common = max(SLOT_WORDS[slot], key=list(known).count)
        baselines = {"shuffled words": float(right["shuffled words"].mean()), "majority": float((wanted == common).mean())}
        interval = metrics.bootstrap_interval(right[""], seed)
        figures[f"linear probe · {slot}"] = figure(float(right[""].mean()), len(test), seed, baselines, interval, better="high")
    lab = losses.srgb_to_lab(F.avg_pool2d(pictures[1][:200], 4), axis=1).flatten(1).numpy()
    apart = metrics.pairwise_rmse(lab) * math.sqrt(3)
    for slot in FOUR_SLOTS:
        words = np.array([s[slot] for s in test[:200]])
        same = squareform(words[:, None] == words[None], checks=False)
        ratio = float(apart[same].mean() / max(1e-9, apart[~same].mean())) if apart[~same].mean() > 1e-6 else 1.0
        dealt = rng.permutation(words)
        same = squareform(dealt[:, None] == dealt[None], checks=False)
        null = float(apart[same].mean() / max(1e-9, apart[~same].mean())) if apart[~same].mean() > 1e-6 else 1.0
        figures[f"distance within a word / between words · {slot}"] = figure(
            ratio, 200, seed, {"shuffled words": null}, high=None, better="low"
        )
    return {"figures": figures, "details": {}}


# ---------------------------------------------------------------------------------------------
# Bottleneck and diversity
# ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def entropy_of_split(split):
    """Entropy in bits of a split's sentences: templates evenly, then its sentences evenly. Counts them all."""
    bits = []
    for number, slots in enumerate(grammar.TEMPLATE_SLOTS):
        sizes = [len(SLOT_WORDS[s]) for s in slots]
        total, count = math.prod(sizes), 0
        for start in range(0, total, 100_000):
            index = np.arange(start, min(total, start + 100_000))
            values = np.full((len(index), len(SLOTS)), -1)
            for slot, column in zip(slots, np.unravel_index(index, sizes)):
                values[:, SLOTS.index(slot)] = column
            count += int(grammar.in_split(np.full(len(index), number), values, split).sum())
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
        figures["KL per latent (bits)"] = figure(total / mu.shape[1], n, seed, {"all of the text": bits / mu.shape[1]}, high=None)
    figures.update(_diversity(subject, plan, seed, list(dict.fromkeys(sentences))[: plan.vendi]))
    return {"figures": figures, "details": {"text_bits": bits, "latent_variance": mu.var(0).tolist()}}


def _diversity(subject, plan, seed, sentences):
    pictures, n, out = {"": subject.draw(sentences), **subject.drawn_by_others(sentences, seed)}, len(sentences), {}
    apart = {k: metrics.pairwise_rmse(small_pixels(p)) for k, p in pictures.items()}
    for q, name in ((1, "1"), (2, "2"), (math.inf, "∞")):
        values = {k: metrics.vendi_score(d, 0.1, q) for k, d in apart.items()}
        out[f"Vendi score, q = {name}"] = figure(
            values.pop(""), n, seed, {"one picture": 1.0, **values}, low=1.0, high=n, better="high"
        )
    distinct = {k: len({(p * 255).round().byte().numpy().tobytes() for p in v}) / n for k, v in pictures.items()}
    out["distinct pictures at 8 bit"] = figure(distinct.pop(""), n, seed, distinct, better="high")
    alike = {k: float((d < 0.01).mean()) for k, d in apart.items()}
    out["pairs of sentences with one picture (RMSE < 0.01)"] = figure(
        alike.pop(""), n, seed, {"mode collapse": 1.0, **alike}, better="low"
    )
    return out


# ---------------------------------------------------------------------------------------------
# The language model, coherence
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
    figures = {
        "perplexity of a word": figure(math.exp(min(50, nats * n / words)), n, seed, baselines, low=1.0, high=None, better="low")
    }
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
        seen = {
            subject.vocab.decode(r)
            for k in range(-(-subject.data.num_samples // 64))
            for r in subject.data.batch(0, k, 64).tolist()
        }
        new = float(np.mean([s not in seen for s in invented]))
        figures["invented sentences that are not in the file's training part"] = figure(
            new, len(invented), seed, {"the file itself": 0.0}
        )
    different = len(set(invented)) / len(invented)
    figures["different ones among the invented"] = figure(
        different, len(invented), seed, {"one sentence": 1 / len(invented)}, better="high"
    )
    return {"figures": figures, "details": {"invented": invented[:40]}}


def _trainable(sentence):
    template, slots = parse(sentence)
    row = np.array([[SLOT_WORDS[s].index(slots[s]) if s in slots else -1 for s in SLOTS]])
    return bool(grammar.in_split(np.array([template]), row, "train")[0])


def coherence_section(subject, plan, seed, say):
    """Total variation and spectral slope, beside white noise and the other drawers."""
    sentences = subject.sentences(min(plan.vendi, 200), "test", seed + 6)
    noise = torch.rand(len(sentences), 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    pictures = {"": subject.draw(sentences), "white noise": noise, **subject.drawn_by_others(sentences, seed)}
    figures = {}
    for name, measure, low, high in (
        ("total variation", metrics.total_variation, 0.0, 1.0),
        ("spectral slope", metrics.spectral_slope, None, None),
    ):
        values = {k: measure(p.numpy()) for k, p in pictures.items()}
        figures[name] = figure(values.pop(""), len(sentences), seed, values, low=low, high=high)
    return {"figures": figures, "details": {}}
