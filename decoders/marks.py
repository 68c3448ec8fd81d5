"""The parts of the scene decoder, named and drawn apart: layout, shapes, colours, coherence.

Shapes: B sentences, T words, K sprites, D = d_model. Everything here is float32.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from numpy.polynomial import Chebyshev, Polynomial

from channel import smooth


def gaussian_kl(mu, logvar):
    """KL(N(mu, exp(logvar)) || N(0, 1)) per latent, nats (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mu.float() ** 2 + logvar.float().exp() - logvar.float() - 1)


def sinkhorn(logits, mass, rounds=8):
    """Share words out over sprites: entropic optimal transport (Cuturi 2013) with an empty word.

    logits (B, K, T); mass (B, T) in [0, 1], how much of each word wants to be shown -> (B, K, T),
    each column summing to its mass and, after enough rounds, each row to at most 1. Float32.
    """
    K = logits.shape[1]
    scores = F.pad(logits.float(), (0, 1))  # (B, K, T + 1), the last column is the empty word
    empty = (K - mass.sum(1, keepdim=True)).clamp(min=1e-2)
    log_mass = torch.cat([mass + 1e-12, empty], 1).log()  # (B, T + 1)
    column = log_mass  # not 0: padding must not take part, not even in the first round
    for _ in range(rounds):
        row = -torch.logsumexp(scores + column[:, None], 2, keepdim=True)
        column = log_mass - torch.logsumexp(scores + row, 1)
    return (scores + row + column[:, None]).exp()[..., :-1]


class Layout(nn.Module):
    """Which sprite shows which word.

    A sprite looks at *roles* (a kind of word, and how many of it came before), never at the word itself,
    so a place in the picture goes with a kind of word and a mark with a word.
    Only words that surprise the language model are shown: what it can predict needs no drawing.
    """

    SURPRISE = 0.5  # nats; a word more surprising than this is drawn

    def __init__(self, d_model, n_sprites, width=64, sharpness=4.0):
        super().__init__()
        self.key = nn.Linear(d_model, width, bias=False)
        self.query = nn.Parameter(torch.randn(n_sprites, width))
        self.width, self.sharpness = width, sharpness

    def forward(self, roles, surprisal, here):
        """(B, T, D), (B, T), (B, T) bool -> attention (B, K, T), presence (B, K), preference (B, K, T).

        Attention is what is drawn; preference is where each word would go without its neighbours, softer so that
        a loss can still move it (`losses.layout_loss`).
        """
        keys = self.key(roles).float()
        keys = keys / torch.sqrt(keys.square().mean(-1, keepdim=True) + 0.1)
        queries = F.layer_norm(self.query.float(), (self.width,))
        logits = self.sharpness * (queries @ keys.transpose(1, 2)) / math.sqrt(self.width)
        wanted = torch.sigmoid(6 * (surprisal - self.SURPRISE)) * here
        attention = sinkhorn(logits, wanted)  # (B, K, T)
        preference = (logits / 4).softmax(1) * wanted[:, None]
        return attention, torch.sigmoid(12 * (attention.sum(2) - 0.5)), preference


def polynomial(coefficients, x):
    """Horner's rule: coefficients (..., n), lowest power first, x (..., m) -> sum_i coefficients_i x^i, (..., m)."""
    *lower, total = coefficients.unsqueeze(-1).unbind(-2)
    for c in reversed(lower):
        total = torch.addcmul(c, total, x)
    return total


class Shapes(nn.Module):
    """A latent -> the soft silhouette of one compact thing, as a radius that varies with the angle.

    r(angle) is a sum of waves of a few orders with one of them in the lead (Zahn & Roskies 1972 describe closed
    curves by such series), so that a mark can be named: disc, dumbbell, trefoil, cross, star, with or without a hole.
    All marks cover the same area, so that none is louder than another.
    """

    ORDERS = range(2, 6)  # lobes
    INK = 0.21  # the area of a mark as a share of its window
    HOLE = 0.6  # the radius of a hole as a share of the radius between the lobes

    def __init__(self, z_shape, z_layout, side, hidden_dim):
        super().__init__()
        self.side, self.reach = side, side / 8
        self.outline = nn.Sequential(nn.Linear(z_shape, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 3 * len(self.ORDERS) + 2))
        self.place = nn.Sequential(nn.Linear(z_layout, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 2))
        with torch.no_grad():  # unlike words start with unlike outlines and places
            self.outline[2].weight *= 12
            self.place[2].weight *= 4
        axis = torch.arange(side) - (side - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("x", x.reshape(-1).clone(), persistent=False)
        self.register_buffer("y", y.reshape(-1).clone(), persistent=False)
        cosines = [Chebyshev.basis(n) for n in self.ORDERS]  # cos(n a), a polynomial in cos(a)
        sines = [p.deriv() / p.degree() for p in cosines]  # sin(n a) / sin(a), another
        for name, polynomials in (("cosines", cosines), ("sines", sines)):
            powers = [p.convert(kind=Polynomial).coef for p in polynomials]
            table = torch.tensor([[*p, *[0] * (len(powers[-1]) - len(p))] for p in powers], dtype=torch.float32)
            self.register_buffer(name, table, persistent=False)  # (orders, powers)

    def forward(self, z_shape, z_layout):
        """(B, K, z_shape), (B, K, z_layout) -> masks (B, K, side, side) in [0, 1]."""
        n = len(self.ORDERS)
        hole, depth, order, turn = self.outline(z_shape).split([1, 1, n, 2 * n], -1)
        core = 1 - 0.6 * torch.sigmoid(depth + 0.5)  # radius between the lobes; that of their tips is 1
        order = (1.5 * order).softmax(-1)
        turn = turn.unflatten(-1, (n, 2))
        turn = turn / torch.sqrt(turn.square().sum(-1, keepdim=True) + 1e-3)
        hole = torch.sigmoid(2 * hole - 2)
        mean, swing = (1 + core) / 2, (1 - core) / 2  # radius = mean + swing x wave
        area = mean**2 + swing**2 * order.square().sum(-1, keepdim=True) / 2 - hole * (self.HOLE * core) ** 2  # in units of pi
        size = torch.sqrt(self.INK * self.side**2 / (math.pi * area))  # px
        dx, dy = (self.reach * torch.tanh(self.place(z_layout))).split(1, -1)  # px
        x, y = self.x - dx, self.y - dy  # (B, K, side^2)
        distance = torch.sqrt(x * x + y * y + 1e-3)
        cos, sin = x / distance, y / distance  # of the angle
        across, along = (order[..., None] * turn).unbind(-1)  # (B, K, orders)
        wave = polynomial(across @ self.cosines, cos) + sin * polynomial(along @ self.sines, cos)
        filled = 1 - hole * torch.sigmoid((self.HOLE * core * size - distance) * 1.5)
        mask = torch.sigmoid((size * (mean + swing * wave) - distance) * 1.5) * filled
        return mask.unflatten(-1, (self.side, self.side))


class Colors(nn.Module):
    """A latent -> one sRGB colour in [0, 1]."""

    def __init__(self, z_color, hidden_dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(z_color, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 3))
        with torch.no_grad():
            self.net[2].weight *= 4

    def forward(self, z):
        return torch.sigmoid(self.net(z))


class Coherence(nn.Module):
    """The spatial stage: a 3x3 smoothing that the decoder cannot write around, so that what is
    told in the picture is told by things larger than a pixel."""

    def forward(self, picture):
        return smooth(picture, (0.25, 0.5, 0.25))
