"""Baselines of a model of real sentences, trained as it was, that differ in one thing: texts are printed as letters instead of
drawn, or there is no picture at all.

Both get the model's sentences in the same order, its number of steps, batch size, learning rates, optimizer, widths, word
dropout and drills; the letters go through its channel. Shapes: B texts, T pieces or letters, K places.
"""

import dataclasses
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from text.word_sample import ALL_WORDS, WordSample
from training.precision import under_autocast

import metrics
from algorithm import with_random_tokens
from captioners.grid import CaptionNetwork, GlyphCaptionNetwork, words_before
from channel import CORRUPTIONS, transmit
from decoders.base import PICTURE_SIZE, Scene, gaussian_kl, reparameterize, start_with_little_noise
from evaluation.baselines.printed_text import Letters
from evaluation.measures import robustness
from evaluation.measures.text_scores import IN_A_ROW, corrupted_in_a_row, shuffled_words, text_scores
from losses import kl_loss, word_loss
from pictures import BATCH, rows_of
from runtime.devices import amp_dtype, keep_memory
from text.padding import PackedRows, Packing, pad, targets_of
from text.vocabulary import PAD
from training.optimizer import Optimizer
from training.trainer import CHANNEL_STREAM, READS_WELL, STRENGTH_RATE

CHECKED = 200  # sentences to validate on that are read after each epoch

# ---------------------------------------------------------------------------------------------
# Readers
# ---------------------------------------------------------------------------------------------


class LettersReader(GlyphCaptionNetwork):
    """The model's own captioner with a place for each printed letter: a CNN, a glimpse at each letter, and an LSTM."""

    def __init__(self, letters, d_model, hidden_dim):
        super().__init__(len(letters), letters.places, d_model, hidden_dim, letters.places)
        with torch.no_grad():
            self.middles[:-1] = 2 * letters.middles() - 1
        cell = torch.tensor([letters.width, letters.height]) * 2 / PICTURE_SIZE
        axis = (torch.arange(self.GLIMPSE) - (self.GLIMPSE - 1) / 2) * self.WIDTH / self.GLIMPSE
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.points = torch.stack([x, y], -1).flatten(0, 1) * cell


class LatentsReader(CaptionNetwork):
    """Reads the latents of places (B, T, share) themselves: what a glimpse at a mark would be, and the same LSTM."""

    def __init__(self, vocab_size, max_words, d_model, hidden_dim, share):
        super().__init__(vocab_size, max_words, d_model, hidden_dim)
        self.glimpse = nn.Sequential(nn.Linear(share, 2 * hidden_dim), nn.GELU(), nn.Linear(2 * hidden_dim, hidden_dim))
        del (
            self.convs,
            self.norms,
            self.place,
            self.squeeze,
            self.to_gist,
            self.to_embedding,
            self.query,
            self.key_value,
        )

    def forward(self, latents, ids, word_dropout=0.0, rng=None, sample=ALL_WORDS, packed=False):
        """As `LineCaptionNetwork.forward`, without an embedding."""
        inputs, here = words_before(ids, word_dropout, rng), Packing(targets_of(ids) != PAD)
        glimpses = self.glimpse(here.pack(F.pad(latents, (0, 0, 0, 1))))  # (N, hidden)
        state, _ = self.lstm(torch.cat([self.embedding(inputs), here.unpack(glimpses)], -1))
        logits = self.words(here.pack(state), glimpses, sample)  # (N, C)
        return PackedRows(logits, here) if packed else here.unpack(logits), None

    def see(self, latents):
        """Latents (B, T, share) -> no gist, glimpses at all places and behind the last (B, K + 1, hidden)."""
        return None, self.glimpse(F.pad(latents, (0, 0, 0, self.max_words + 1 - latents.shape[1])))

    def beside(self, gist, places, t):
        """The glimpse at place t: (B, 1, hidden)."""
        return places[0][:, t : t + 1]

    def look(self, state, places, t=None, sample=ALL_WORDS):
        """An LSTM state (B, 1, hidden) looks at place t -> logits (B, 1, C), and weights of no meaning."""
        return self.words(state, places[0][:, t : t + 1], sample), state.new_ones(len(state), 1, 1, 1)


# ---------------------------------------------------------------------------------------------
# Baselines
# ---------------------------------------------------------------------------------------------


class LettersBaseline(nn.Module):
    """Prints a text, sends it through the channel, reads letters. Only the reader learns."""

    has_channel = True

    def __init__(self, model):
        super().__init__()
        s, self.vocab, self.settings = model.settings, model.vocab, model.settings
        model.data.max_words = int(model.data.lengths().max())  # a picture of letters has no places for pieces
        self.letters = Letters(model.data.train)
        self.reader = LettersReader(self.letters, s.d_model, s.hidden_dim)

    def prepare(self, dtype, device):
        self.network = under_autocast(self.reader, dtype, device)

    def losses(self, ids, strength, rng, host_rng):
        """Losses of a batch of sentences, piece numbers (B, T) -> {name: 0-dim tensor}."""
        rows = [self.letters.encode(self.vocab.decode(row)) for row in ids.tolist()]
        letters, _ = with_random_tokens(pad(rows), self.settings.random_tokens, len(self.letters), host_rng)  # (B, T')
        pictures = self.letters.draw([self.letters.decode(row) for row in letters.tolist()])
        scene = Scene(pictures.to(strength.device), mu=None, logvar=None, kl=None)
        letters = letters.to(strength.device)
        received = transmit(scene, strength, rng, host_rng, CORRUPTIONS if self.settings.channel else ("none",))
        loss = caption_loss(
            self.network, received, letters, self.settings.word_dropout, rng, host_rng, len(self.letters)
        )
        return {"caption": loss}

    def read(self, pictures):
        """Pictures (n, 3, 64, 64) in [0, 1] -> texts."""
        device = self.reader.middles.device
        parts = [self.reader.read(p.to(device))[0] for p in pictures.split(BATCH)]
        return [self.letters.decode(row) for part in parts for row in part.tolist()]

    def read_back(self, texts):
        """Texts, printed and read."""
        return self.read(self.letters.draw(texts))

    def readings(self, texts, seed):
        """{condition: texts that come back}; seed: of the noise."""
        pictures = self.letters.draw(texts)
        found = {"clean": self.read(pictures)}
        for kind, strength in IN_A_ROW:
            found[f"{kind} {strength:g}"] = self.read(robustness.corrupt(pictures, kind, strength, seed))
        found["in a row"] = self.read(corrupted_in_a_row(pictures, seed))
        found["blank"] = self.read(torch.full((1, 3, PICTURE_SIZE, PICTURE_SIZE), 0.5)) * len(texts)
        return found

    def description(self, texts):
        """Lines for people."""
        box, n = self.letters, sum(len(t) > self.letters.places for t in texts)
        known = sum(set(t) <= box.index.keys() for t in texts)
        return [
            f"{box.columns} x {box.rows} letters of {box.width} x {box.height} px, an alphabet of {len(box.index)}",
            f"{n} of the {len(texts)} texts are longer and lose their ends; {known} have only letters of the alphabet",
        ]


class VectorBaseline(nn.Module):
    """The model's bottleneck without a picture: each piece's latent, with its noise, goes to the reader as it is."""

    has_channel = False

    def __init__(self, model):
        super().__init__()
        s, self.vocab, self.settings = model.settings, model.vocab, model.settings
        self.max_words, self.cycle = model.max_words, [model.cycle]  # in a list, so that it is no part of this module
        share = s.z_dim // s.n_cells
        self.alone = nn.Embedding(len(self.vocab), s.d_model)  # as the language model's
        self.norm = nn.LayerNorm(s.d_model)  # from here on as `LineSceneDecoder`
        self.to_mu, self.to_logvar = nn.Linear(s.d_model, share), nn.Linear(s.d_model, share)
        start_with_little_noise(self.to_logvar)
        with torch.no_grad():
            self.to_mu.weight *= math.sqrt(3)
        self.reader = LatentsReader(len(self.vocab), self.max_words, s.d_model, s.hidden_dim, share)

    def prepare(self, dtype, device):
        self.network = under_autocast(self.reader, dtype, device)

    def batches(self, texts):
        """Texts -> piece numbers (b, T) of `BATCH` texts at a time."""
        rows = rows_of(self.vocab, texts, self.max_words)
        return [pad(rows[i : i + BATCH]).to(self.alone.weight.device) for i in range(0, len(rows), BATCH)]

    def latents(self, ids, rng=None):
        """Piece numbers (B, T) -> latents (B, T, share), 0 where there is no piece, and their KL (B,), nats; noise only with
        a generator."""
        here, value = (ids != PAD)[..., None].float(), self.norm(self.alone(ids))
        mu, logvar = self.to_mu(value), self.to_logvar(value)
        z = reparameterize(mu, logvar, rng if self.settings.use_vae else None)
        kl = (gaussian_kl(mu, logvar) * here).sum((1, 2)) if self.settings.use_vae else mu.new_zeros(len(mu))
        return z * here, kl

    def losses(self, ids, strength, rng, host_rng):
        """As `LettersBaseline.losses`; severity is not used, as there is no channel."""
        ids, _ = with_random_tokens(ids, self.settings.random_tokens, len(self.vocab), host_rng)
        latents, kl = self.latents(ids.to(strength.device), rng)
        ids = ids.to(strength.device)
        loss = caption_loss(self.network, latents, ids, self.settings.word_dropout, rng, host_rng, len(self.vocab))
        return {"caption": loss, "kl": kl_loss(kl)}

    @torch.no_grad()
    def read_back(self, texts, rng=None):
        """Texts, as latents and read; noise only with a generator."""
        found = [self.reader.read(self.latents(ids, rng)[0])[0].tolist() for ids in self.batches(texts)]
        return [self.vocab.decode(row) for rows in found for row in rows]

    def readings(self, texts, seed):
        """As `LettersBaseline.readings`: no corruption of a picture, but the noise that training has."""
        rng = torch.Generator(self.alone.weight.device).manual_seed(seed)
        nothing = self.reader.read(self.alone.weight.new_zeros(1, 0, self.to_mu.out_features))[0].tolist()[0]
        return {
            "clean": self.read_back(texts),
            "with its noise": self.read_back(texts, rng),
            "blank": [self.vocab.decode(nothing)] * len(texts),
        }

    @torch.no_grad()
    def description(self, texts):
        """Lines for people."""
        own = of_model = 0.0
        for ids in self.batches(texts):
            own += float(self.latents(ids)[1].sum()) / len(texts)
            of_model += float(self.cycle[0].draw(ids).kl.sum()) / len(texts)
        return [f"KL of the latents {own:.1f} nats a text; those of the checkpoint {of_model:.1f}"]


BASELINES = {"letters": LettersBaseline, "vector": VectorBaseline}


def caption_loss(network, told, ids, word_dropout, rng, host_rng, vocab_size):
    """The model's loss of what is read back (`algorithm.training_step`), of word numbers (B, T) from what tells them."""
    sample = WordSample.for_batch(ids, vocab_size, host_rng)
    logits, _ = network(told, ids, word_dropout, rng, sample=sample, packed=True)
    return word_loss(logits, sample.numbers(targets_of(ids)))


# ---------------------------------------------------------------------------------------------
# Training and measuring
# ---------------------------------------------------------------------------------------------


def fresh_baseline(name, model, seed):
    """An untrained baseline of BASELINES beside a ModelUnderTest of marks in line. torch's own random state stays as it is.
    Raises ValueError for another model."""
    s = model.settings
    if model.lines is None or s.decoder != "glyphs" or s.layout != "line" or s.use_vq:
        raise ValueError(f"{model.name} does not draw the sentences of a captions file as marks in line without codes")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BASELINES[name](model).to(model.device)


def train_baseline(baseline, model, epochs, seed, say, steps=None):
    """Train a baseline as the model was, with the sentences of its run -> (steps, seconds without the checks).

    say: gets a line after each epoch; steps: stop after so many, for a trial; the learning rate is that of the whole run.
    """
    s, data = dataclasses.replace(model.settings, epochs=epochs, seed=seed), model.data
    data.num_samples = s.num_samples
    per_epoch = -(-s.num_samples // s.batch_size)
    total, device = per_epoch * epochs, model.device
    keep_memory()
    dtype = amp_dtype(device) if s.use_amp else None
    baseline.prepare(dtype, device)
    optimizer, rng = Optimizer(baseline, s, total, device, dtype), torch.Generator(device)
    strength, seconds, losses = torch.zeros((), device=device), 0.0, []
    checks = list(data.val[:CHECKED])
    for step in range(min(total, steps or total)):
        start, (epoch, number) = time.perf_counter(), divmod(step, per_epoch)
        host_rng = np.random.default_rng([seed, epoch, number, CHANNEL_STREAM])
        rng.manual_seed(int(host_rng.integers(1 << 62)))
        optimizer.set_learning_rate(step)
        parts = baseline.losses(data.batch(epoch, number, s.batch_size), strength, rng, host_rng)
        parts, _ = optimizer.step(sum(getattr(s, f"lambda_{name}") * value for name, value in parts.items()), parts)
        strength = (strength + STRENGTH_RATE * (parts["caption"] < READS_WELL)).clamp(max=1)
        losses.append(float(parts["caption"]))
        seconds += time.perf_counter() - start
        if number == per_epoch - 1 or step + 1 == steps:
            exact = metrics.exact_match(checks, baseline.read_back(checks))
            mean = sum(losses) / len(losses)
            hard = f"severity {float(strength):.2f}, " * baseline.has_channel
            say(
                f"step {step + 1} of {total}, {seconds:.0f} s: caption loss {mean:.3f}, {hard}"
                f"exact match {exact:.1%} of {len(checks)} to validate"
            )
            losses = []
    return min(total, steps or total), seconds


def baseline_scores(baseline, texts, seed):
    """What comes back of n texts -> {condition: scores of `text_scores`}, captions of the clean ones; seed: of word salad and
    noise."""
    readings = baseline.readings(texts, seed)
    rng = np.random.default_rng(seed)
    salad = [shuffled_words(t, rng) for t in texts]
    scores = {name: text_scores(texts, captions) for name, captions in readings.items()}
    return {"clean": scores.pop("clean"), "salad": text_scores(salad, baseline.read_back(salad)), **scores}, readings[
        "clean"
    ]
