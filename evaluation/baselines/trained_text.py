"""Baselines that are trained as a model of real sentences was: texts are printed as letters, or there is no picture.

Both get the model's sentences in the same order, and its settings; the letters pass its channel. Shapes: B texts, T
tokens or letters, K places.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import metrics
from algorithm import randomize_tokens
from captioners.base import Caption, Captioner, teacher_inputs
from captioners.glyphs import GlyphCaptionNetwork
from channel import CORRUPTIONS, transmit
from decoders.base import PICTURE_SIZE, gaussian_kl, reparameterize, start_with_little_noise
from evaluation.baselines.printed_text import PrintedText
from evaluation.measures import robustness
from evaluation.measures.text_scores import IN_A_ROW, corrupted_in_a_row, shuffled_words, text_scores
from losses import kl_loss
from pictures import BATCH, batches_of_ids
from runtime.devices import Precision, amp_dtype, keep_memory
from text.padding import pad
from text.token_predictor import TokenPredictor
from text.vocabulary import PAD
from training.optimizer import Optimizer
from training.trainer import CHANNEL_STREAM, READS_WELL, STRENGTH_RATE

CHECKED = 200  # sentences to validate on that are read after each epoch

# ---------------------------------------------------------------------------------------------
# Captioners
# ---------------------------------------------------------------------------------------------


class LettersReader(GlyphCaptionNetwork):
    """The model's own captioner with a cell for each printed letter: a CNN, a glimpse at each letter, and an LSTM."""

    def __init__(self, letters: PrintedText, d_model: int, hidden_dim: int):
        super().__init__(len(letters), letters.places, d_model, hidden_dim, letters.places)
        with torch.no_grad():
            self.centers[:-1] = 2 * letters.middles() - 1
        cell = torch.tensor([letters.width, letters.height]) * 2 / PICTURE_SIZE
        axis = (torch.arange(self.GLIMPSE) - (self.GLIMPSE - 1) / 2) * self.WIDTH / self.GLIMPSE
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.points = torch.stack([x, y], -1).flatten(0, 1) * cell


class LatentsReader(Captioner):
    """Reads the latents of cells (B, T, d), which replace the glimpses at glyphs, with the same LSTM."""

    def __init__(self, vocab_size: int, max_tokens: int, hidden_dim: int, factor_dim: int):
        super().__init__()
        h = hidden_dim
        self.max_tokens = max_tokens
        self.embedding = nn.Embedding(vocab_size, h)
        self.lstm = nn.LSTM(2 * h, h, batch_first=True)
        self.out = nn.Sequential(nn.Linear(2 * h, h), nn.GELU(), nn.Linear(h, vocab_size))
        self.glimpse = nn.Sequential(nn.Linear(factor_dim, 2 * h), nn.GELU(), nn.Linear(2 * h, h))

    def forward(self, picture: torch.Tensor, ids: torch.Tensor, *options: Any) -> Caption:
        """As `Captioner.forward` of latents (B, T, d). There is no embedding of a picture."""
        glimpses = self.glimpse(F.pad(picture, (0, 0, 0, 1)))  # (B, T + 1, H)
        states, _ = self.lstm(torch.cat([self.embedding(teacher_inputs(ids, *options)), glimpses], -1))
        return Caption(self.combine(states, glimpses), picture.new_zeros(len(picture), 0))

    def see(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B, T, d) -> no gist (B, 0), glimpses at all cells and behind the last (B, K + 1, H)."""
        padded = F.pad(picture, (0, 0, 0, self.max_tokens + 1 - picture.shape[1]))
        return picture.new_zeros(len(picture), 0), self.glimpse(padded)

    def lstm_input(self, gist: torch.Tensor, seen: torch.Tensor, t: int) -> torch.Tensor:
        return seen[:, t : t + 1]

    def attend_to(self, state: torch.Tensor, seen: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The attention is not used."""
        return self.combine(state, seen[:, t : t + 1]), state.new_zeros(len(state), 64)


# ---------------------------------------------------------------------------------------------
# Baselines
# ---------------------------------------------------------------------------------------------


class TextBaseline(nn.Module):
    """A code of texts without a learned picture, and a captioner that learns to read it."""

    has_channel: bool
    reader: Captioner

    def __init__(self, model: Any):
        super().__init__()
        self.vocab = model.vocab
        self.settings = model.settings

    def caption_loss(
        self, code: torch.Tensor, ids: torch.Tensor, rng: torch.Generator, host_rng: np.random.Generator, size: int
    ) -> torch.Tensor:
        """As in `algorithm.training_step`: of ids (B, T) of `size` tokens, read from pictures or latents."""
        reader = self.reader
        hidden = reader(code, ids, self.settings.word_dropout, rng).hidden  # (B, T + 1, H)
        loss_mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        predictor = TokenPredictor(ids, ids, size, host_rng)
        return predictor.loss(hidden, reader.output.weight, reader.output.bias, loss_mask)

    def losses(
        self, ids: torch.Tensor, strength: torch.Tensor, rng: torch.Generator, host_rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        """Token ids (B, T) on the CPU, strength of corruptions -> {name: 0-dim tensor}."""
        raise NotImplementedError

    def read_back(self, texts: list[str]) -> list[str]:
        """Encode texts and read them."""
        raise NotImplementedError

    def readings(self, texts: list[str], seed: int) -> dict[str, list[str]]:
        """{condition: captions}; seed: of the noise."""
        raise NotImplementedError

    def description(self, texts: list[str]) -> list[str]:
        """Lines for the report."""
        raise NotImplementedError


class LettersBaseline(TextBaseline):
    """Prints a text, sends it through the channel, reads letters. Only the captioner is trained."""

    has_channel = True

    def __init__(self, model: Any):
        super().__init__(model)
        model.data.max_tokens = int(model.data.lengths().max())  # printed letters have no cells for tokens
        self.letters = PrintedText(model.data.train)
        self.reader = LettersReader(self.letters, model.settings.d_model, model.settings.hidden_dim)

    def losses(
        self, ids: torch.Tensor, strength: torch.Tensor, rng: torch.Generator, host_rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        rows = [self.letters.encode(self.vocab.decode(row)) for row in ids.tolist()]
        letters, _ = randomize_tokens(pad(rows), self.settings.random_tokens, len(self.letters), host_rng)  # (B, T')
        pictures = self.letters.draw([self.letters.decode(row) for row in letters.tolist()]).to(strength.device)
        corruptions = CORRUPTIONS if self.settings.channel else ("none",)
        received = transmit(pictures, strength, rng, host_rng, corruptions)
        letters = letters.to(strength.device)
        return {"caption": self.caption_loss(received, letters, rng, host_rng, len(self.letters))}

    def read(self, pictures: torch.Tensor) -> list[str]:
        """Pictures (n, 3, 64, 64) in [0, 1] -> texts."""
        device = self.reader.centers.device
        parts = [self.reader.read(p.to(device)).ids for p in pictures.split(BATCH)]
        return [self.letters.decode(row) for part in parts for row in part.tolist()]

    def read_back(self, texts: list[str]) -> list[str]:
        return self.read(self.letters.draw(texts))

    def readings(self, texts: list[str], seed: int) -> dict[str, list[str]]:
        pictures = self.letters.draw(texts)
        found = {"clean": self.read(pictures)}
        for kind, strength in IN_A_ROW:
            found[f"{kind} {strength:g}"] = self.read(robustness.corrupt(pictures, kind, strength, seed))
        found["in a row"] = self.read(corrupted_in_a_row(pictures, seed))
        found["blank"] = self.read(torch.full((1, 3, PICTURE_SIZE, PICTURE_SIZE), 0.5)) * len(texts)
        return found

    def description(self, texts: list[str]) -> list[str]:
        box = self.letters
        n = sum(len(t) > self.letters.places for t in texts)
        known = sum(set(t) <= box.index.keys() for t in texts)
        return [
            f"{box.columns} x {box.rows} letters of {box.width} x {box.height} px, an alphabet of {len(box.index)}",
            f"{n} of the {len(texts)} texts are longer and lose their ends; {known} have only letters of the alphabet",
        ]


class VectorBaseline(TextBaseline):
    """The model's bottleneck without a picture: the captioner reads the noisy latent of each token."""

    has_channel = False

    def __init__(self, model: Any):
        super().__init__(model)
        s = model.settings
        self.max_tokens = model.max_tokens
        self.cycle = [model.cycle]  # in a list, so that it is not a submodule
        factor_dim = s.z_dim // s.n_cells
        self.token_embedding = nn.Embedding(len(self.vocab), s.d_model)  # as the language model's
        self.norm = nn.LayerNorm(s.d_model)  # from here on as `GlyphSceneDecoder`
        self.to_mu = nn.Linear(s.d_model, factor_dim)
        self.to_logvar = nn.Linear(s.d_model, factor_dim)
        start_with_little_noise(self.to_logvar)
        with torch.no_grad():
            self.to_mu.weight *= math.sqrt(3)
        self.reader = LatentsReader(len(self.vocab), self.max_tokens, s.hidden_dim, factor_dim)

    def batches(self, texts: list[str]) -> Iterator[torch.Tensor]:
        """Texts -> token ids (b, T) of at most `BATCH` texts at a time."""
        return batches_of_ids(self.vocab, texts, self.token_embedding.weight.device, self.max_tokens)

    def latents(self, ids: torch.Tensor, rng: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (B, T) -> latents (B, T, d), 0 at padding, and their KL (B,), nats; noise only with a generator."""
        is_token = (ids != PAD)[..., None].float()
        value = self.norm(self.token_embedding(ids))
        mu = self.to_mu(value)
        logvar = self.to_logvar(value)
        z = reparameterize(mu, logvar, rng if self.settings.use_vae else None)
        kl = (gaussian_kl(mu, logvar) * is_token).sum((1, 2)) if self.settings.use_vae else mu.new_zeros(len(mu))
        return z * is_token, kl

    def losses(
        self, ids: torch.Tensor, strength: torch.Tensor, rng: torch.Generator, host_rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        ids, _ = randomize_tokens(ids, self.settings.random_tokens, len(self.vocab), host_rng)
        ids = ids.to(strength.device)
        latents, kl = self.latents(ids, rng)
        return {"caption": self.caption_loss(latents, ids, rng, host_rng, len(self.vocab)), "kl": kl_loss(kl)}

    @torch.no_grad()
    def read_back(self, texts: list[str], rng: torch.Generator | None = None) -> list[str]:
        """Encode texts as latents and read them; noise only with a generator."""
        found = [self.reader.read(self.latents(ids, rng)[0]).ids.tolist() for ids in self.batches(texts)]
        return [self.vocab.decode(row) for rows in found for row in rows]

    def readings(self, texts: list[str], seed: int) -> dict[str, list[str]]:
        """With the noise of training instead of corruptions."""
        rng = torch.Generator(self.token_embedding.weight.device).manual_seed(seed)
        nothing = self.reader.read(self.token_embedding.weight.new_zeros(1, 0, self.to_mu.out_features))
        return {
            "clean": self.read_back(texts),
            "with its noise": self.read_back(texts, rng),
            "blank": [self.vocab.decode(nothing.ids[0].tolist())] * len(texts),
        }

    @torch.no_grad()
    def description(self, texts: list[str]) -> list[str]:
        own = of_model = 0.0
        for ids in self.batches(texts):
            own += float(self.latents(ids)[1].sum()) / len(texts)
            of_model += float(self.cycle[0].draw(ids).kl.sum()) / len(texts)
        return [f"KL of the latents {own:.1f} nats a text; those of the checkpoint {of_model:.1f}"]


BASELINES = {"letters": LettersBaseline, "vector": VectorBaseline}


# ---------------------------------------------------------------------------------------------
# Training and measuring
# ---------------------------------------------------------------------------------------------


def fresh_baseline(name: str, model: Any, seed: int) -> TextBaseline:
    """An untrained baseline of BASELINES for a ModelUnderTest of glyphs in reading order. Raises ValueError."""
    s = model.settings
    if model.lines is None or s.decoder != "glyphs" or s.use_vq:
        what = "the sentences of a captions file as glyphs in reading order without codes"
        raise ValueError(f"{model.name} does not draw {what}")
    with torch.random.fork_rng(devices=[]):  # torch's own random state stays as it is
        torch.manual_seed(seed)
        return BASELINES[name](model).to(model.device)


def train_baseline(
    baseline: TextBaseline, model: Any, epochs: int, seed: int, log: Callable[[str], None], steps: int | None = None
) -> tuple[int, float]:
    """Train a baseline as the model was, with the sentences of its run -> (steps, seconds without the checks).

    log: called with a line after each epoch; steps: stop after this number, with the learning rates of the whole run.
    """
    s = dataclasses.replace(model.settings, epochs=epochs, seed=seed)
    data = model.data
    data.num_samples = s.num_samples
    per_epoch = -(-s.num_samples // s.batch_size)
    total = per_epoch * epochs
    device = model.device
    keep_memory()
    precision = Precision(device, amp_dtype(device) if s.use_amp else None)
    optimizer = Optimizer(baseline, s, total, device, precision.dtype)
    rng = torch.Generator(device)
    strength = torch.zeros((), device=device)
    seconds = 0.0
    losses = []
    checks = list(data.val[:CHECKED])
    for step in range(min(total, steps or total)):
        start = time.perf_counter()
        epoch, number = divmod(step, per_epoch)
        host_rng = np.random.default_rng([seed, epoch, number, CHANNEL_STREAM])
        rng.manual_seed(int(host_rng.integers(1 << 62)))
        optimizer.set_learning_rate(step)
        with precision.of_networks():
            parts = baseline.losses(data.batch(epoch, number, s.batch_size), strength, rng, host_rng)
        parts, _ = optimizer.step(sum(getattr(s, f"lambda_{name}") * value for name, value in parts.items()), parts)
        strength = (strength + STRENGTH_RATE * (parts["caption"] < READS_WELL)).clamp(max=1)
        losses.append(float(parts["caption"]))
        seconds += time.perf_counter() - start
        if number == per_epoch - 1 or step + 1 == steps:
            exact = metrics.exact_match(checks, baseline.read_back(checks))
            mean = sum(losses) / len(losses)
            hard = f"corruption strength {float(strength):.2f}, " * baseline.has_channel
            done = f"step {step + 1} of {total}, {seconds:.0f} s: caption loss {mean:.3f}"
            log(f"{done}, {hard}exact match {exact:.1%} of {len(checks)} to validate")
            losses = []
    return min(total, steps or total), seconds


def baseline_scores(
    baseline: TextBaseline, texts: list[str], seed: int
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """-> {condition: scores of `text_scores`}, captions of the clean condition; seed: of word salad and noise."""
    readings = baseline.readings(texts, seed)
    rng = np.random.default_rng(seed)
    salad = [shuffled_words(t, rng) for t in texts]
    scores = {name: text_scores(texts, captions) for name, captions in readings.items()}
    of_salad = text_scores(salad, baseline.read_back(salad))
    return {"clean": scores.pop("clean"), "salad": of_salad, **scores}, readings["clean"]
