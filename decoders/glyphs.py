"""The glyphs decoder, for free text: one glyph for each token, in the cells of a grid in reading order.

A glyph follows from its token alone, so it looks the same in every cell. The captioner reads the token from the shape
and the color of its glyph, and the order from the cells.

Shapes: B sentences, T tokens, K cells, d dimensions of a glyph's latent, D = d_model. Everything here is float32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from decoders import codes
from decoders.base import (
    PICTURE_SIZE,
    Coherence,
    Decoder,
    Scene,
    Text,
    gaussian_kl,
    reparameterize,
    start_with_little_noise,
)
from decoders.glyph_shapes import Colors, Shapes
from decoders.quantizer import make_quantizer, parse_levels
from imaging.cells import grid_shape
from imaging.color import srgb_to_lab
from losses import glyph_points, repulsion_loss, visibility_loss
from text.padding import Packing
from text.vocabulary import PAD, SPECIALS

GRID_SIZES = (4, 6, 9, 12, 16, 20, 25, 30, 36, 42, 49, 56, 64)  # choices of --n_cells; 0 chooses by the sentences
LATENT_DIM = 12  # dimensions of a glyph's latent, where --z_dim is 0
LEAST_DIM = 6
COVERED = 0.99  # share of the training sentences that have a cell for each token, at least
EXTRA = 1.25  # the grid may grow by this factor if then no sentence is cut


class GlyphSceneDecoder(Decoder):
    """Draws a text as glyphs on a plain background. Raises ValueError if z_dim leaves a glyph fewer than 6 dimensions.

    vq_levels: as --vq_levels, "" for latents that are no codes; n_tokens: how many different tokens glyphs stand for.
    """

    captioner = "glyphs"
    # The output layer moves the embeddings of all rare tokens the same way (Gao et al. 2019): their glyphs would be
    # alike.
    has_token_embedding = True
    supports_vq = True
    draws_glyphs = True
    has_layers = True
    compiled = ("shapes",)
    defaults: ClassVar = {"n_cells": 0, "z_dim": 0}  # chosen by `fit`

    COLOR_DIM = 3  # dimensions of a glyph's latent that set its color; the others set its shape
    WINDOW = 1.25  # the side of a glyph's window, as a multiple of the smaller side of its cell
    COMPARED = 384  # tokens whose glyphs a step compares with one another

    down: torch.Tensor
    across: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor

    def __init__(
        self,
        d_model: int = 512,
        hidden_dim: int = 256,
        z_dim: int = 300,
        use_vae: bool = True,
        n_cells: int = 25,
        vq_levels: str = "",
        n_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.factor_dim = z_dim // n_cells  # d
        if self.factor_dim < LEAST_DIM:
            raise ValueError(f"z_dim {z_dim} is too small: {n_cells} cells need at least {LEAST_DIM * n_cells}")
        self.z_dim = z_dim
        self.use_vae = use_vae
        self.n_cells = n_cells
        self.rows, self.columns = grid_shape(n_cells)
        self.side = math.ceil(self.WINDOW * PICTURE_SIZE / self.columns)  # of a window, px
        self.norm = nn.LayerNorm(d_model)
        self.to_mu = nn.Linear(d_model, self.factor_dim)
        self.to_logvar = nn.Linear(d_model, self.factor_dim)
        start_with_little_noise(self.to_logvar)
        with torch.no_grad():  # latents start with the variance of the prior, so that different tokens differ
            self.to_mu.weight *= math.sqrt(3)
        if vq_levels:
            self.alphabets["glyph"] = make_quantizer(vq_levels, n_tokens, self.factor_dim)
        self.shapes = Shapes(self.factor_dim - self.COLOR_DIM, self.side, hidden_dim // 4)
        self.colors = Colors(self.COLOR_DIM, hidden_dim // 4)
        self.background_logit = nn.Parameter(torch.logit(torch.tensor([0.06, 0.08, 0.14])))
        self.coherence = Coherence()
        self._register_windows()

    def _register_windows(self) -> None:
        """Windows lie on whole pixels; the rest of a cell's center is where the glyph stands in its window."""
        down, y = self._windows_along(self.rows)
        across, x = self._windows_along(self.columns)
        shape = (self.rows, self.columns, self.side, self.side)
        self.register_buffer("down", down, persistent=False)  # (rows side, 64)
        self.register_buffer("across", across, persistent=False)  # (columns side, 64)
        # Each pixel of each window from the center of its glyph, px, (rows columns, side^2)
        x = x[None, :, None].expand(shape).reshape(self.rows * self.columns, -1)
        y = y[:, None, :, None].expand(shape).reshape(self.rows * self.columns, -1)
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("y", y, persistent=False)

    def _windows_along(self, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """n windows along an axis -> a matrix of 0 and 1 that places their pixels in the picture (n side, 64), and each
        pixel's distance from the center of its glyph (n, side), px."""
        axis = torch.arange(self.side) - (self.side - 1) / 2
        placing = torch.zeros(n * self.side, PICTURE_SIZE)
        distance = []
        for i in range(n):
            corner = (i + 0.5) * PICTURE_SIZE / n - self.side / 2  # px
            first = round(corner)
            distance.append(axis + first - corner)
            for j in range(max(0, -first), min(self.side, PICTURE_SIZE - first)):
                placing[i * self.side + j, first + j] = 1
        return placing, torch.stack(distance)

    # ---- settings -------------------------------------------------------------------------------

    @classmethod
    def from_settings(cls, settings: Any, vocab_size: int, word_classes: Any) -> GlyphSceneDecoder:
        s = settings
        levels = s.vq_levels if s.use_vq else ""
        n_tokens = vocab_size - len(SPECIALS)
        return cls(s.d_model, s.hidden_dim, s.z_dim, s.use_vae, s.n_cells, levels, n_tokens)

    @classmethod
    def check(cls, settings: Any) -> None:
        s = settings
        if s.z_dim and s.z_dim < LEAST_DIM * s.n_cells:
            raise ValueError(f"--z_dim {s.z_dim} is too small: {s.n_cells} cells need at least {LEAST_DIM * s.n_cells}")
        levels = parse_levels(s.vq_levels)
        if s.use_vq and levels and s.n_cells and s.z_dim and len(levels) > s.z_dim // s.n_cells:
            raise ValueError(
                f"--vq_levels {s.vq_levels} needs --z_dim {len(levels) * s.n_cells} or more, not {s.z_dim}"
            )

    @classmethod
    def fit(cls, settings: Any, lengths: Sequence[int]) -> Any:
        """Choose n_cells and z_dim where they are 0: cells for nearly all sentences."""
        n_cells = settings.n_cells
        z_dim = settings.z_dim
        if not n_cells:
            longest = max(lengths)
            needed = sorted(lengths)[int(COVERED * (len(lengths) - 1))]
            if longest <= EXTRA * needed:
                needed = longest
            choices = [n for n in GRID_SIZES if not z_dim or LEAST_DIM * n <= z_dim] or GRID_SIZES[:1]
            n_cells = next((n for n in choices if n >= needed), max(choices))
        return dataclasses.replace(settings, n_cells=n_cells, z_dim=z_dim or LATENT_DIM * n_cells)

    @classmethod
    def max_tokens(cls, settings: Any, longest: int) -> int:
        return min(longest, settings.n_cells)

    # ---- drawing --------------------------------------------------------------------------------

    def paint(self, z: torch.Tensor, is_drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """z (B, T, d), which cells have a glyph (B, T) bool -> coverage (B, T, side, side), colors (B, T, 3)."""
        packing = Packing(is_drawn)
        z_color, z_shape = packing.pack(z).split([self.COLOR_DIM, self.factor_dim - self.COLOR_DIM], -1)
        cell = packing.pack(torch.arange(z.shape[1], device=z.device).expand(z.shape[:2]))
        coverage = packing.unpack(self.shapes(z_shape, self.x[cell], self.y[cell])) * is_drawn[..., None]
        return coverage.unflatten(-1, (self.side, self.side)), packing.unpack(self.colors(z_color))

    def compose(self, coverage: torch.Tensor, colors: torch.Tensor) -> torch.Tensor:
        """Coverage (B, T, side, side) and colors (B, T, 3) over the background -> (B, 3, 64, 64) in [0, 1].

        Where two windows overlap, coverage beyond 1 is shared in proportion: no order of drawing, no clamp on the
        picture. Two products with a matrix of 0 and 1 are faster than F.fold.
        """
        empty = self.rows * self.columns - coverage.shape[1]
        background = torch.sigmoid(self.background_logit)
        layers = F.pad(colors - background, (0, 1), value=1.0).transpose(1, 2)  # (B, 4, T), the last is the coverage
        layers = F.pad(layers, (0, empty)).unflatten(2, (self.rows, self.columns))
        layers = layers[:, :, :, None, :, None]  # (B, 4, rows, 1, columns, 1)
        coverage = F.pad(coverage, (0, 0, 0, 0, 0, empty)).unflatten(1, (self.rows, self.columns))
        coverage = coverage.transpose(2, 3).contiguous()  # (B, rows, side, columns, side)
        across = (coverage[:, None] * layers).flatten(-2) @ self.across  # (B, 4, rows, side, 64)
        canvas = self.down.T @ across.flatten(2, 3)  # (B, 4, 64, 64)
        return self.coherence(background[:, None, None] + canvas[:, :3] / canvas[:, 3:].clamp(min=1))

    def forward(self, text: Text, rng: torch.Generator | None = None) -> Scene:
        """Raises ValueError for more tokens than cells."""
        ids = text.ids
        if ids.shape[1] > self.n_cells:
            raise ValueError(f"a text of {ids.shape[1]} tokens; this model draws at most {self.n_cells}")
        is_drawn = ids != PAD  # (B, T)
        with torch.autocast(ids.device.type, enabled=False):
            value = self.norm(text.tokens.float())  # (B, T, D)
            mu = self.to_mu(value)  # (B, T, d)
            logvar = self.to_logvar(value)  # (B, T, d)
            if self.has_codes:
                mu, chosen = self.alphabets["glyph"](mu)  # (B, T, d), (B, T)
                chosen = torch.where(is_drawn, chosen, -1)
                z = mu
            else:
                chosen = ids.new_zeros(len(ids), 0)
                z = reparameterize(mu, logvar, rng if self.use_vae else None)  # (B, T, d)
            picture = self.compose(*self.paint(z, is_drawn))  # (B, 3, 64, 64)
            kl = mu.new_zeros(len(mu))
            if self.use_vae:
                kl = (gaussian_kl(mu, logvar) * is_drawn[..., None]).sum((1, 2))
        unused = (0, self.z_dim - mu.shape[1] * self.factor_dim)  # dimensions of empty cells are 0
        mu = F.pad((mu * is_drawn[..., None]).flatten(1), unused)
        logvar = F.pad((logvar * is_drawn[..., None]).flatten(1), unused)
        return Scene(picture, mu, logvar, kl, torch.zeros_like(is_drawn), chosen)

    # ---- losses ---------------------------------------------------------------------------------

    def glyphs_of(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.to_mu(self.norm(embedding.float()))
        if self.has_codes:
            z, _ = self.alphabets["glyph"](z)
        z_color, z_shape = z.split([self.COLOR_DIM, self.factor_dim - self.COLOR_DIM], -1)
        coverage = self.shapes(z_shape, self.shapes.x, self.shapes.y)
        return coverage.unflatten(-1, (self.side, self.side)), self.colors(z_color)

    def losses(
        self,
        embedding: torch.Tensor,
        features: dict[str, torch.Tensor],
        ids: torch.Tensor,
        host_rng: np.random.Generator,
    ) -> dict[str, torch.Tensor]:
        """Glyphs are visible and differ, those of some tokens drawn at random; with --use_vq tokens have codes of their
        own."""
        drawn = host_rng.permutation(len(embedding) - len(SPECIALS))[: self.COMPARED] + len(SPECIALS)
        coverage, colors = self.glyphs_of(embedding[torch.from_numpy(drawn).to(embedding.device)])
        background = torch.sigmoid(self.background_logit)
        lab, background_lab = srgb_to_lab(torch.cat([colors, background[None]])).split([len(colors), 1])
        out = {
            "color": visibility_loss(lab, background_lab, contrast=70.0, lighter=30.0),
            "repulsion": repulsion_loss(glyph_points(coverage, colors, background), scale=1.0),
        }
        if self.has_codes:
            tokens = embedding[len(SPECIALS) :].float()
            out["codes"] = self.alphabets["glyph"].commitment(self.to_mu(self.norm(tokens)))
        return out

    # ---- what tools ask -------------------------------------------------------------------------

    def latents(self, scene: Scene) -> torch.Tensor:
        """The posterior means of a Scene by cell, (B, K, d)."""
        return scene.mu[:, : self.n_cells * self.factor_dim].unflatten(1, (self.n_cells, self.factor_dim))

    def layers(self, scene: Scene, ids: torch.Tensor, row: int) -> list[tuple[torch.Tensor, list[int]]]:
        """The glyph of each token."""
        n = int((ids[row] != PAD).sum())
        if not n:
            return []
        z = self.latents(scene)[row : row + 1, :n].expand(n, -1, -1)
        alone = torch.eye(n, dtype=torch.bool, device=z.device)
        return [(picture, [i]) for i, picture in enumerate(self.compose(*self.paint(z, alone)))]

    def interpolate(
        self, first: tuple[Scene, torch.Tensor], second: tuple[Scene, torch.Tensor], t: torch.Tensor
    ) -> torch.Tensor:
        """A glyph that only one of the sentences has fades."""
        z = torch.lerp(self.latents(first[0]), self.latents(second[0]), t[:, None, None])  # (n, K, d)
        ends = [F.pad(ids != PAD, (0, self.n_cells - ids.shape[1])).float() for _, ids in (first, second)]
        presence = torch.lerp(ends[0], ends[1], t[:, None])  # (n, K)
        coverage, colors = self.paint(z, presence > 0)
        return self.compose(coverage * presence[..., None, None], colors)

    # ---- codes, with --use_vq -------------------------------------------------------------------

    @property
    def alphabet_of_factor(self) -> list[str]:
        return ["glyph"] * self.n_cells

    def token_of_factor(self, scene: Scene, ids: torch.Tensor) -> torch.Tensor:
        return torch.where(ids != PAD, ids, -1)

    def write_codes(self, scene: Scene, ids: torch.Tensor, row: int) -> str:
        return codes.write_glyphs(scene.codes[row].tolist())

    def write_code(self, alphabet: str, code: int) -> str:
        return codes.write_glyphs([code])

    @torch.no_grad()
    def draw_codes(self, texts: Sequence[str]) -> tuple[torch.Tensor, list[str]]:
        alphabet = self.alphabets["glyph"]
        glyphs = [codes.read_glyphs(text, alphabet.n_codes, self.n_cells) for text in texts]
        chosen = torch.tensor(glyphs, device=self.background_logit.device)  # (n, K)
        z = alphabet.values(chosen.clamp(min=0))
        return self.compose(*self.paint(z, chosen >= 0)), [codes.write_glyphs(row) for row in glyphs]
