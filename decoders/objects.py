"""The objects decoder: up to three objects on a background, where a word sets one property of one object.

`word_slots.py` has the rules by which a word finds its object and its property, `properties.py` the networks that turn
a word's latent into values, `renderer.py` the drawing. What a word sets follows from the word's embedding alone. With
--use_vq each word class chooses from an alphabet of codes.

Shapes: B sentences, T tokens, N objects, P properties, F = N P + 1 latent factors (one for each property of each
object, the last for the background) of d dimensions, D = d_model. Everything here is float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from decoders import codes
from decoders.base import (
    START_LOGVAR,
    Coherence,
    Decoder,
    Scene,
    Text,
    gaussian_kl,
    reparameterize,
    start_with_little_noise,
)
from decoders.properties import BACKGROUND, OPTIONAL, PROPERTIES, PropertyNetworks
from decoders.quantizer import make_quantizer, parse_levels
from decoders.renderer import Renderer
from decoders.word_slots import Grounding, Slots, WordSlots
from imaging.color import srgb_to_lab
from losses import repulsion_loss, visibility_loss
from text.vocabulary import PAD
from text.word_classes import WordClasses

NAMES = (*PROPERTIES, BACKGROUND)
# Which colors must stand out from which: (color, what is around it, contrast, lighter), as `visibility_loss` takes
# them. A body may have any color, so that a rim need not be lighter than it; a dot lies in a hole as dark as the
# background.
CONTRASTS = (("rim", "color", 35.0, -100.0), ("rim", BACKGROUND, 45.0, 25.0), ("dot", BACKGROUND, 45.0, 25.0))


class ObjectsSceneDecoder(Decoder):
    """Draws a sentence as objects on a background. Raises ValueError if z_dim leaves a factor fewer than 2 dimensions.

    vq_levels: as --vq_levels, "" for latents that are no codes.
    """

    needs_word_classes = True
    supports_vq = True
    supports_grounding = True
    has_layers = True

    property_of_factor: torch.Tensor  # (F,)

    def __init__(
        self,
        classes: WordClasses,
        d_model: int = 512,
        hidden_dim: int = 256,
        z_dim: int = 128,
        use_vae: bool = True,
        n_objects: int = 3,
        latent_dropout: float = 0.0,
        vq_levels: str = "",
    ) -> None:
        super().__init__()
        self.n_objects = n_objects
        self.use_vae = use_vae
        self.z_dim = z_dim
        self.latent_dropout = latent_dropout
        self.slots = WordSlots(classes, n_objects)
        self.n_factors = self.slots.n_factors
        self.factor_dim = z_dim // self.n_factors  # d
        if self.factor_dim < 2:
            raise ValueError(f"z_dim {z_dim} is too small: {n_objects} objects need at least {2 * self.n_factors}")
        self.norm = nn.LayerNorm(d_model)
        self.to_mu = nn.Linear(d_model, self.factor_dim)
        self.to_logvar = nn.Linear(d_model, self.factor_dim)
        start_with_little_noise(self.to_logvar)
        # The latent of a property that no word sets
        self.default = nn.Parameter(0.5 * torch.randn(len(NAMES), self.factor_dim))
        self.properties = PropertyNetworks(self.factor_dim, hidden_dim // 4)
        self.coherence = Coherence()
        if vq_levels:
            self._make_alphabets(vq_levels)
        self.grounding = Grounding(classes, self.slots, self.properties)
        self.renderer = Renderer(n_objects, self.properties.outline)
        property_of_factor = torch.tensor([*list(range(len(PROPERTIES))) * n_objects, len(PROPERTIES)])
        self.register_buffer("property_of_factor", property_of_factor, persistent=False)

    def _make_alphabets(self, vq_levels: str) -> None:
        with torch.no_grad():  # latents of variance 1, so that words start on all levels
            self.to_mu.weight *= math.sqrt(3)
        for index, name in enumerate(NAMES):
            n_words = self.slots.property_of_token.count(index)
            if n_words:
                self.alphabets[name] = make_quantizer(vq_levels, n_words, self.factor_dim)

    @classmethod
    def from_settings(cls, settings: Any, vocab_size: int, word_classes: WordClasses) -> ObjectsSceneDecoder:
        s = settings
        levels = s.vq_levels if s.use_vq else ""
        return cls(word_classes, s.d_model, s.hidden_dim, s.z_dim, s.use_vae, s.n_objects, s.latent_dropout, levels)

    @classmethod
    def check(cls, settings: Any) -> None:
        n_factors = settings.n_objects * len(PROPERTIES) + 1
        if settings.z_dim < 2 * n_factors:
            raise ValueError(
                f"--z_dim {settings.z_dim} is too small: {settings.n_objects} objects need at least {2 * n_factors}"
            )
        levels = parse_levels(settings.vq_levels)
        if settings.use_vq and levels and len(levels) > settings.z_dim // n_factors:
            least = len(levels) * n_factors
            raise ValueError(f"--vq_levels {settings.vq_levels} needs --z_dim {least} or more, not {settings.z_dim}")

    # ---- sentence -> latents --------------------------------------------------------------------

    def encode(self, tokens: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Slots]:
        """Embeddings (B, T, D) and ids (B, T) of tokens -> mu, logvar (B, F, d), Slots."""
        slots = self.slots(ids)
        at = slots.position.clamp(min=0)
        value = self.norm(tokens.float()).gather(1, at[..., None].expand(-1, -1, tokens.shape[-1]))  # (B, F, D)
        is_set = (slots.position >= 0)[..., None]
        mu = torch.where(is_set, self.to_mu(value), self.default[self.property_of_factor])
        logvar = torch.where(is_set, self.to_logvar(value), START_LOGVAR)
        return mu, logvar, slots

    def factors_of(self, name: str) -> slice:
        """The factors of a property among all F."""
        if name == BACKGROUND:
            return slice(self.n_factors - 1, self.n_factors)
        return slice(PROPERTIES.index(name), self.n_factors - 1, len(PROPERTIES))

    def quantize(self, latents: torch.Tensor, slots: Slots) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B, F, d) -> values of their codes (B, F, d), and the codes (B, F), -1 where no word sets the factor.

        A factor that no word sets keeps its latent: one more letter of each alphabet.
        """
        z = latents.clone()
        chosen = torch.full_like(slots.word, -1)
        for name, alphabet in self.alphabets.items():
            factors = self.factors_of(name)
            values, of_factors = alphabet(latents[:, factors])
            is_set = slots.word[:, factors] >= 0
            z[:, factors] = torch.where(is_set[..., None], values, latents[:, factors])
            chosen[:, factors] = torch.where(is_set, of_factors, -1)
        return z, chosen

    def sample_prior(self, shape: Sequence[int], rng: torch.Generator) -> torch.Tensor:
        """Latents (B, F, d) from N(0, 1), or with --use_vq of codes drawn uniformly."""
        prior = torch.randn(shape, device=self.default.device, generator=rng)
        for name, alphabet in self.alphabets.items():
            factors = self.factors_of(name)
            prior[:, factors] = alphabet.values(alphabet.random_codes(prior[:, factors].shape[:2], rng))
        return prior

    def drop(self, z: torch.Tensor, slots: Slots, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Latent dropout: replace the latents of some words by draws from the prior -> z (B, F, d), is_dropped (B, F).

        The captioner must read the other words without them, so that it reads no property by the words that it
        occurred with in training.
        """
        is_dropped = (torch.rand(slots.word.shape, device=z.device, generator=rng) < self.latent_dropout) & (
            slots.word >= 0
        )
        return torch.where(is_dropped[..., None], self.sample_prior(z.shape, rng), z), is_dropped

    # ---- latents -> picture ---------------------------------------------------------------------

    def value(self, name: str, z: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Latents (..., d) and the words (...) that set them, -1 for none -> values of a property (..., n)."""
        values = self.grounding(name, self.properties(name, z), words)
        is_set = (words >= 0)[..., None]
        if name in OPTIONAL:  # without a word an object has no rim and no dot
            values = torch.cat([values[..., :3], values[..., 3:] * is_set], -1)
        if name == "shading":  # without a word an object is flat
            values = values * is_set
        if name == BACKGROUND:
            values = torch.where(is_set, values, self.properties.plain_background())
        return values

    def compose(
        self, z: torch.Tensor, words: torch.Tensor, count: torch.Tensor, only: int | None = None
    ) -> torch.Tensor:
        """z (B, F, d), the word of each factor (B, F) or -1, number of objects (B,) -> pictures (B, 3, 64, 64).

        only: the index of the one object to draw, -1 for none.
        """
        shape = (self.n_objects, len(PROPERTIES))
        of_objects = z[:, :-1].unflatten(1, shape)  # (B, N, P, d)
        words_of_objects = words[:, :-1].unflatten(1, shape)  # (B, N, P)
        values = {
            name: self.value(name, of_objects[:, :, i], words_of_objects[:, :, i]) for i, name in enumerate(PROPERTIES)
        }
        background = self.value(BACKGROUND, z[:, -1], words[:, -1])  # (B, 6)
        return self.coherence(self.renderer(values, background, count, only))

    def forward(self, text: Text, rng: torch.Generator | None = None) -> Scene:
        with torch.autocast(text.ids.device.type, enabled=False):
            mu, logvar, slots = self.encode(text.tokens, text.ids)  # (B, F, d)
            if self.has_codes:
                mu, chosen = self.quantize(mu, slots)  # (B, F, d), (B, F)
                z = mu
            else:
                chosen = text.ids.new_zeros(len(mu), 0)
                z = reparameterize(mu, logvar, rng if self.use_vae else None)  # (B, F, d)
            words = slots.word
            dropped = torch.zeros_like(text.ids, dtype=torch.bool)
            is_kept = words >= 0  # (B, F)
            if rng is not None and self.latent_dropout and (self.use_vae or self.has_codes):
                z, is_dropped = self.drop(z, slots, rng)
                words = torch.where(is_dropped, PAD, words)  # a word without a grounding
                is_kept = is_kept & ~is_dropped
                at = torch.where(is_dropped, slots.position, dropped.shape[1])  # (B, F)
                dropped = F.pad(dropped, (0, 1)).scatter(1, at, True)[:, :-1]
            picture = self.compose(z, words, slots.count)  # (B, 3, 64, 64)
            kl = mu.new_zeros(len(mu))
            if self.use_vae:
                kl = (gaussian_kl(mu, logvar) * is_kept[..., None]).sum((1, 2))
        unused = (0, self.z_dim - self.n_factors * self.factor_dim)  # dimensions that no factor uses are 0
        return Scene(picture, F.pad(mu.flatten(1), unused), F.pad(logvar.flatten(1), unused), kl, dropped, chosen)

    # ---- losses ---------------------------------------------------------------------------------

    def values_of_words(self, embedding: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Embeddings (V, D) -> {property: (token ids (n,), what each sets and, last, the default (n + 1, ...))}."""
        out = {}
        for index, name in enumerate(NAMES):
            words = self.slots.words_of_property(index)
            if not len(words):
                continue
            z = self.to_mu(self.norm(embedding[words].float()))
            if name in self.alphabets:
                z, _ = self.alphabets[name](z)
            z = torch.cat([z, self.default[index : index + 1]])
            out[name] = (words, self.value(name, z, torch.cat([words, words.new_tensor([-1])])))
        return out

    def losses(
        self,
        embedding: torch.Tensor,
        features: dict[str, torch.Tensor],
        ids: torch.Tensor,
        host_rng: np.random.Generator,
    ) -> dict[str, torch.Tensor]:
        """Colors are visible, values of a property differ, and with --use_vq words have codes of their own."""
        values = {name: v for name, (_, v) in self.values_of_words(embedding).items()}
        zero = self.default.new_zeros(())
        repulsion = sum((repulsion_loss(points) for points in self.properties.points(values).values()), zero)
        out = {"color": self._visibility(values, zero), "repulsion": repulsion}
        if self.has_codes:
            out["codes"] = torch.stack(self._commitment(embedding)).sum()
        return out

    @staticmethod
    def _visibility(values: dict[str, torch.Tensor], zero: torch.Tensor) -> torch.Tensor:
        lab = {name: srgb_to_lab(values[name][:, :3]) for name in ("color", "rim", "dot", BACKGROUND) if name in values}
        loss = zero
        if lab.keys() >= {"color", BACKGROUND}:
            loss = visibility_loss(lab["color"], lab[BACKGROUND])
        for name, around, contrast, lighter in CONTRASTS:
            if lab.keys() >= {name, around}:  # the last value of a rim or a dot is the default, which is not drawn
                loss = loss + visibility_loss(lab[name][:-1], lab[around], contrast, lighter)
        return loss

    def _commitment(self, embedding: torch.Tensor) -> list[torch.Tensor]:
        """The distance of words from codes of their own, for each alphabet, and the saturation of outlines."""
        out = []
        for index, name in enumerate(NAMES):
            if name in self.alphabets:
                words = embedding[self.slots.words_of_property(index)].float()
                out.append(self.alphabets[name].commitment(self.to_mu(self.norm(words))))
        if "shape" in self.alphabets:
            shapes = self.alphabets["shape"]
            values = self.properties("shape", shapes.values(torch.arange(shapes.n_codes, device=embedding.device)))
            out.append(self.properties.outline.saturation(values))
        return out

    # ---- what tools ask -------------------------------------------------------------------------

    def latents(self, scene: Scene) -> torch.Tensor:
        """The posterior means of a Scene by factor, (B, F, d)."""
        return scene.mu[:, : self.n_factors * self.factor_dim].unflatten(1, (self.n_factors, self.factor_dim))

    def layers(self, scene: Scene, ids: torch.Tensor, row: int) -> list[tuple[torch.Tensor, list[int]]]:
        """The background and each object."""
        slots = self.slots(ids[row : row + 1])
        z = self.latents(scene)[row : row + 1]
        parts = [(-1, slots.position[0, -1:])]
        of_objects = slots.position[0, :-1].unflatten(0, (self.n_objects, -1))
        parts += list(enumerate(of_objects[: int(slots.count)]))
        return [(self.compose(z, slots.word, slots.count, only)[0], sorted(at[at >= 0].tolist())) for only, at in parts]

    def interpolate(
        self, first: tuple[Scene, torch.Tensor], second: tuple[Scene, torch.Tensor], t: torch.Tensor
    ) -> torch.Tensor:
        """The number of objects, and whether there are rims and dots, change halfway."""
        z = torch.lerp(self.latents(first[0]), self.latents(second[0]), t[:, None, None])
        slots = [self.slots(first[1]), self.slots(second[1])]
        nearest = (t >= 0.5).long()
        words = torch.cat([s.word for s in slots])[nearest]
        count = torch.cat([s.count for s in slots])[nearest]
        return self.compose(z, words, count)

    def grounded_tokens(self) -> dict[int, dict[str, Any]]:
        return self.grounding.parts

    # ---- codes, with --use_vq -------------------------------------------------------------------

    @property
    def alphabet_of_factor(self) -> list[str]:
        return [*list(PROPERTIES) * self.n_objects, BACKGROUND]

    def token_of_factor(self, scene: Scene, ids: torch.Tensor) -> torch.Tensor:
        return self.slots(ids).word

    def write_codes(self, scene: Scene, ids: torch.Tensor, row: int) -> str:
        count = int(self.slots(ids[row : row + 1]).count)
        objects = scene.codes[row, :-1].reshape(self.n_objects, -1)[:count].tolist()
        named = [{name: code for name, code in zip(PROPERTIES, obj) if code >= 0} for obj in objects]
        return codes.write_objects(named, int(scene.codes[row, -1]))

    def write_code(self, alphabet: str, code: int) -> str:
        return (
            codes.write_objects([{}], code) if alphabet == BACKGROUND else codes.write_objects([{alphabet: code}], -1)
        )

    @torch.no_grad()
    def draw_codes(self, texts: Sequence[str]) -> tuple[torch.Tensor, list[str]]:
        device = self.default.device
        sizes = {name: alphabet.n_codes for name, alphabet in self.alphabets.items()}
        z = self.default[self.property_of_factor].repeat(len(texts), 1, 1)  # (n, F, d)
        words = torch.full(z.shape[:2], -1, device=device)
        count = torch.zeros(len(texts), dtype=torch.int64, device=device)
        written = []
        for row, text in enumerate(texts):
            objects, background = codes.read_objects(text, sizes, self.n_objects)
            written.append(codes.write_objects(objects, background))
            count[row] = len(objects)
            chosen = {}  # factor -> (alphabet, code)
            for i, obj in enumerate(objects):
                for name, code in obj.items():
                    chosen[i * len(PROPERTIES) + PROPERTIES.index(name)] = (name, code)
            if background >= 0:
                chosen[self.n_factors - 1] = (BACKGROUND, background)
            for factor, (name, code) in chosen.items():
                z[row, factor] = self.alphabets[name].values(torch.tensor(code, device=device))
                words[row, factor] = PAD  # a word without a grounding
        return self.compose(z, words, count), written
