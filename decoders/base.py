"""The interface of scene decoders, the Scene that they return, and the VAE bottleneck that they share.

Shapes: B sentences, T tokens, V tokens of vocabulary, D = d_model, F latent factors of d dimensions each: a factor is
one property of one object, the background, or one glyph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn

from imaging.filters import smooth

PICTURE_SIZE = 64  # pixels on a side
START_LOGVAR = -5.0  # at a log variance of 0 the noise drowns the sentence, and the cycle does not start to learn


@dataclass
class Text:
    """What the language model computes of a batch of sentences, and what a scene decoder may draw from."""

    ids: torch.Tensor  # (B, T) token ids, padded with PAD
    hidden: torch.Tensor  # (B, T + 1, D) states of the last layer, at the start token and at each token
    tokens: torch.Tensor  # (B, T, D) each token's own embedding, without context
    sentence: torch.Tensor  # (B, D) embedding of the sentence
    attention: list[torch.Tensor]  # of each layer, (B, heads, T + 1, T + 1)


@dataclass
class Scene:
    """Pictures of a batch of sentences, and the latents that they were drawn from."""

    picture: torch.Tensor  # (B, 3, 64, 64) in [0, 1]
    mu: torch.Tensor  # (B, z_dim) posterior mean; with --use_vq the values of the chosen codes
    logvar: torch.Tensor  # (B, z_dim) posterior log variance
    kl: torch.Tensor  # (B,) KL divergence of the posterior from N(0, 1), nats; 0 without a VAE
    dropped: torch.Tensor  # (B, T) bool, tokens that the picture does not show because of latent dropout
    codes: torch.Tensor  # (B, F) int64, the code of each factor, -1 for none; F = 0 without --use_vq


class Decoder(nn.Module):
    """Base class of scene decoders. docs/add_a_decoder.md adds one, from the first line to the last.

    A subclass sets the class attributes, and overrides `from_settings`, `forward`, and those other methods whose
    attribute it sets.
    """

    captioner: ClassVar[str] = "grid"  # the captioner that reads the pictures, a key of `captioners.CAPTIONERS`
    needs_word_classes: ClassVar[bool] = False  # the constructor gets the WordClasses of the training sentences
    has_token_embedding: ClassVar[bool] = False  # tokens are drawn from another embedding than the output layer's
    supports_vq: ClassVar[bool] = False
    supports_grounding: ClassVar[bool] = False
    draws_glyphs: ClassVar[bool] = False  # pictures show one glyph for each token; defines `glyphs_of`
    has_layers: ClassVar[bool] = False  # defines `layers` and `interpolate`
    compiled: ClassVar[tuple[str, ...]] = ()  # submodules that --compile compiles
    defaults: ClassVar[dict[str, Any]] = {}  # settings that replace the general defaults and those of presets

    def __init__(self) -> None:
        super().__init__()
        self.alphabets: Any = nn.ModuleDict()  # {name: Quantizer}, empty without --use_vq

    @classmethod
    def from_settings(cls, settings: Any, vocab_size: int, word_classes: Any) -> Decoder:
        """Build the decoder that some Settings describe. Raises ValueError."""
        raise NotImplementedError

    @classmethod
    def check(cls, settings: Any) -> None:
        """Raise ValueError, in one line that names the flag, for Settings that this decoder cannot work with."""

    @classmethod
    def fit(cls, settings: Any, lengths: Sequence[int]) -> Any:
        """Return Settings with open values chosen by the numbers of tokens of the training sentences."""
        return settings

    @classmethod
    def max_tokens(cls, settings: Any, longest: int) -> int:
        """Tokens of the longest sentence that can be drawn. longest: tokens of the longest training sentence."""
        return longest

    def forward(self, text: Text, rng: torch.Generator | None = None) -> Scene:
        """Draw a batch of sentences. Noise and dropout only with a generator."""
        raise NotImplementedError

    # ---- losses ---------------------------------------------------------------------------------

    def features(self, scene: Scene) -> dict[str, torch.Tensor]:
        """Rows (B, ...) that `losses` compares across the sentences of all processes."""
        return {}

    def losses(
        self,
        embedding: torch.Tensor,
        features: dict[str, torch.Tensor],
        ids: torch.Tensor,
        host_rng: np.random.Generator,
    ) -> dict[str, torch.Tensor]:
        """Losses of what tokens look like: {name: 0-dim tensor}, weighted by --lambda_NAME.

        embedding: (V, D), the one that tokens are drawn from; features: of the global batch, as `features` returns
        them; ids: token ids of the global batch, (B, T).
        """
        return {}

    # ---- what tools ask -------------------------------------------------------------------------

    @property
    def has_codes(self) -> bool:
        """Whether scenes are lists of codes (--use_vq)."""
        return len(self.alphabets) > 0

    def layers(self, scene: Scene, ids: torch.Tensor, row: int) -> list[tuple[torch.Tensor, list[int]]]:
        """The parts of one scene of a batch, each alone: [(picture (3, 64, 64), positions of its tokens)]."""
        raise NotImplementedError

    def interpolate(
        self, first: tuple[Scene, torch.Tensor], second: tuple[Scene, torch.Tensor], t: torch.Tensor
    ) -> torch.Tensor:
        """Pictures between two sentences, each as (Scene, ids (1, T)): t (n,) in [0, 1] -> (n, 3, 64, 64)."""
        raise NotImplementedError

    def glyphs_of(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of tokens (n, D) -> coverage of their glyphs (n, side, side) in [0, 1], colors (n, 3)."""
        raise NotImplementedError

    def grounded_tokens(self) -> dict[int, dict[str, Any]]:
        """{token id: what --grounding sets and pictures show}."""
        return {}

    # ---- codes, with --use_vq -------------------------------------------------------------------

    @property
    def alphabet_of_factor(self) -> list[str]:
        """The name of each factor's alphabet, F of them."""
        raise NotImplementedError

    def token_of_factor(self, scene: Scene, ids: torch.Tensor) -> torch.Tensor:
        """The token id that each factor shows: (B, F), -1 for none."""
        raise NotImplementedError

    def write_codes(self, scene: Scene, ids: torch.Tensor, row: int) -> str:
        """The codes of one scene of a batch as text, see `decoders/codes.py`."""
        raise NotImplementedError

    def write_code(self, alphabet: str, code: int) -> str:
        """The text of a scene that shows one code and little else."""
        raise NotImplementedError

    def draw_codes(self, texts: Sequence[str]) -> tuple[torch.Tensor, list[str]]:
        """Scenes written as codes -> pictures (n, 3, 64, 64), and the same scenes as `write_codes` writes them.

        Raises ValueError, in one line that names what is wrong.
        """
        raise NotImplementedError


# ---------------------------------------------------------------------------------------------
# The bottleneck
# ---------------------------------------------------------------------------------------------


def gaussian_kl(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each dimension, nats (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mu.float() ** 2 + logvar.float().exp() - logvar.float() - 1)


def reparameterize(mu: torch.Tensor, logvar: torch.Tensor, rng: torch.Generator | None) -> torch.Tensor:
    """A draw from the posterior (Kingma & Welling 2014, section 2.4); its mean without a generator."""
    if rng is None:
        return mu
    noise = torch.randn(mu.shape, device=mu.device, generator=rng)
    return mu + noise * (0.5 * logvar).exp()


def start_with_little_noise(to_logvar: nn.Linear) -> None:
    """Initialize the layer that computes log variances."""
    nn.init.zeros_(to_logvar.weight)
    nn.init.constant_(to_logvar.bias, START_LOGVAR)


class Coherence(nn.Module):
    """A 3x3 smoothing at the end of every decoder, so that details of a single pixel carry no message."""

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return smooth(picture, (0.25, 0.5, 0.25))
