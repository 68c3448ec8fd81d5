"""The marks decoder: a plain ground, and on it one compact mark for each surprising word.

Its parts are named and drawn apart: layout, shapes, colors. Shapes: B sentences, T words, K sprites, D = d_model.
Everything here is float32.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from decoders import codes
from decoders.quantizer import quantizer
from decoders.scene import PICTURE_SIZE, Coherence, Scene, gaussian_kl, reparameterize, start_with_little_noise
from decoders.waves import Waves
from text.vocabulary import SPECIALS


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

    A sprite looks at *roles* (a kind of word, and how many of that kind came before), never at the word itself.
    So a place in the picture goes with a kind of word, and a mark goes with a word.
    Only words that surprise the language model are shown: what it can predict needs no drawing.
    """

    SURPRISE = 0.5  # nats; a word more surprising than this is drawn

    def __init__(self, d_model, n_cells, width=64, sharpness=4.0):
        super().__init__()
        self.key = nn.Linear(d_model, width, bias=False)
        self.query = nn.Parameter(torch.randn(n_cells, width))
        self.width, self.sharpness = width, sharpness

    def forward(self, roles, surprisal, mask):
        """(B, T, D), (B, T), (B, T) bool -> attention (B, K, T), presence (B, K), preference (B, K, T).

        Attention is what is drawn; preference is where each word would go without its neighbors, softer so that
        a loss can still move it (`losses.layout_loss`).
        """
        keys = self.key(roles).float()
        keys = keys / torch.sqrt(keys.square().mean(-1, keepdim=True) + 0.1)
        queries = F.layer_norm(self.query.float(), (self.width,))
        logits = self.sharpness * (queries @ keys.transpose(1, 2)) / math.sqrt(self.width)
        wanted = torch.sigmoid(6 * (surprisal - self.SURPRISE)) * mask
        attention = sinkhorn(logits, wanted)  # (B, K, T)
        preference = (logits / 4).softmax(1) * wanted[:, None]
        return attention, torch.sigmoid(12 * (attention.sum(2) - 0.5)), preference


class Shapes(nn.Module):
    """A latent -> the soft silhouette of one compact thing, as a radius that varies with the angle.

    r(angle) is a sum of waves of a few orders with one of them in the lead (Zahn & Roskies 1972 describe closed
    curves by such series), so that a mark can be named: disc, dumbbell, trefoil, cross, star, with or without a hole.
    All marks cover the same area, so that none is louder than another.
    """

    ORDERS = range(2, 6)  # lobes
    AREA = 0.21  # the area of a mark as a share of its window
    HOLE = 0.6  # the radius of a hole as a share of the radius between the lobes

    def __init__(self, z_shape, z_layout, side, hidden_dim, area=AREA):
        super().__init__()
        self.side, self.reach, self.area = side, side / 8, area
        self.outline = nn.Sequential(
            nn.Linear(z_shape, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 3 * len(self.ORDERS) + 2)
        )
        if z_layout:
            self.place = nn.Sequential(nn.Linear(z_layout, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 2))
        with torch.no_grad():  # unlike words start with unlike outlines and places
            self.outline[2].weight *= 12
            if z_layout:
                self.place[2].weight *= 4
        axis = torch.arange(side) - (side - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("x", x.reshape(-1).clone(), persistent=False)
        self.register_buffer("y", y.reshape(-1).clone(), persistent=False)
        self.waves = Waves(self.ORDERS)

    def forward(self, z_shape, z_layout):
        """(B, K, z_shape), (B, K, z_layout) -> masks (B, K, side, side) in [0, 1]."""
        dx, dy = (self.reach * torch.tanh(self.place(z_layout))).split(1, -1)  # px
        return self.silhouettes(z_shape, self.x - dx, self.y - dy).unflatten(-1, (self.side, self.side))

    def silhouettes(self, z_shape, x, y):
        """(..., z_shape) and pixels' places beside the middle of the mark (..., n), px -> coverage (..., n) in [0, 1]."""
        n = len(self.ORDERS)
        hole, depth, order, turn = self.outline(z_shape).split([1, 1, n, 2 * n], -1)
        core = 1 - 0.6 * torch.sigmoid(depth + 0.5)  # radius between the lobes; that of their tips is 1
        order = (1.5 * order).softmax(-1)
        turn = turn.unflatten(-1, (n, 2))
        turn = turn / torch.sqrt(turn.square().sum(-1, keepdim=True) + 1e-3)
        hole = torch.sigmoid(2 * hole - 2)
        mean, swing = (1 + core) / 2, (1 - core) / 2  # radius = mean + swing x wave
        area = (
            mean**2 + swing**2 * order.square().sum(-1, keepdim=True) / 2 - hole * (self.HOLE * core) ** 2
        )  # in units of pi
        size = torch.sqrt(self.area * self.side**2 / (math.pi * area))  # px
        distance = torch.sqrt(x * x + y * y + 1e-3)
        cos, sin = x / distance, y / distance  # of the angle
        wave = self.waves(order, turn, cos, sin)
        filled = 1 - hole * torch.sigmoid((self.HOLE * core * size - distance) * 1.5)
        return torch.sigmoid((size * (mean + swing * wave) - distance) * 1.5) * filled


class Colors(nn.Module):
    """A latent -> one sRGB color in [0, 1]."""

    def __init__(self, z_color, hidden_dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(z_color, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 3))
        with torch.no_grad():
            self.net[2].weight *= 4

    def forward(self, z):
        return torch.sigmoid(self.net(z))


def layers_of_glyphs(scene, row):
    """The marks of one scene of a batch, each alone, in the order of their words -> [(picture (3, 64, 64), [place of its word in
    the sentence])]."""
    sprites = (scene.presence[row] > 0.5).nonzero()[:, 0]
    shows = scene.attention[row, sprites].argmax(1)  # (marks,)
    order = shows.argsort()
    alone = torch.zeros(len(sprites), *scene.masks.shape[1:], device=scene.masks.device)  # (marks, K, side, side)
    alone[range(len(sprites)), sprites[order]] = scene.masks[row, sprites[order]]
    pictures = scene.compose(alone, scene.colors[row].expand(len(sprites), -1, -1)) if len(sprites) else []
    return [(picture, [place]) for picture, place in zip(pictures, shows[order].tolist())]


class GlyphCodes:
    """What decoders of marks share with --use_vq: each mark has a code of one alphabet, `self.alphabet`, a Quantizer or None."""

    @property
    def alphabets(self):
        """{"mark": Quantizer}, or empty without codes."""
        return {} if self.alphabet is None else {"mark": self.alphabet}

    @property
    def alphabet_of_cell(self):
        """The name of each place's alphabet, K of them."""
        return ["mark"] * self.n_cells

    def quantize(self, latents, presence):
        """Latents (B, K, share), presence (B, K) -> what is read of them (B, K, share), and the code of each mark (B, K), -1 where
        there is none."""
        z, chosen = self.alphabet(latents)
        return z, torch.where(presence > 0.5, chosen, -1)

    def letters(self, scene, ids):
        """A Scene of sentences, their word numbers (B, T) -> the word of each mark (B, K), -1 for none, and its code."""
        return torch.where(scene.codes >= 0, ids.gather(1, scene.attention.argmax(2)), -1), scene.codes

    def write_codes(self, scene, ids, row):
        """The codes of one scene of a batch, as `codes.write_marks` writes them."""
        return codes.write_glyphs(scene.codes[row].tolist())

    @torch.no_grad()
    def draw_codes(self, texts):
        """Scenes written in codes -> pictures (n, 3, 64, 64) in [0, 1], and the same scenes in the form of `write_codes`. Raises
        ValueError, in one line that names what is wrong."""
        glyphs = [codes.read_glyphs(text, self.alphabet.n_codes, self.n_cells) for text in texts]
        chosen = torch.tensor(glyphs, device=self.ground_logit.device)  # (n, K)
        z = self.alphabet.numbers(chosen.clamp(min=0))
        return self.compose(*self.paint(z, (chosen >= 0).float())), [codes.write_glyphs(row) for row in glyphs]

    def write_letter(self, name, code):
        """The scene that shows one code alone, as `write_codes` writes it."""
        return codes.write_glyphs([code])

    def commitment(self, embedding):
        """Word embeddings (V, D) -> how far the words are from codes of their own, [0-dim tensor]."""
        words = embedding[len(SPECIALS) :].float()
        return [alphabet.commitment(self.to_mu(self.norm(words))) for alphabet in self.alphabets.values()]


# (window, stride) for a square number of sprites: windows overlap a little and tile 64 pixels
TILINGS = {4: (36, 28), 9: (24, 20), 16: (19, 15), 25: (16, 12)}


class SceneDecoder(GlyphCodes, nn.Module):
    """Draws a sentence: a plain ground, and on it one compact mark for each surprising word.

    The latent of z_dim numbers is shared out over K sprites; each sprite's share is divided into
    layout (place inside its window), color and shape. All sprites draw with the same networks,
    so a word has the same mark wherever it is shown.
    Raises ValueError if z_dim leaves a sprite fewer than 6 numbers. vq_levels: as --vq_levels, "" for latents that are no codes;
    n_words: how many words a sprite may show.
    """

    draws_objects, draws_glyphs, has_layers = False, False, False

    Z_LAYOUT, Z_COLOR = 2, 3  # numbers of a sprite's latent; what is left is its shape's

    def __init__(self, d_model=512, hidden_dim=256, z_dim=128, use_vae=True, n_cells=9, vq_levels="", n_words=0):
        super().__init__()
        if n_cells not in TILINGS:
            raise ValueError(f"n_sprites {n_cells} is none of {', '.join(map(str, TILINGS))}")
        self.share = z_dim // n_cells
        z_shape = self.share - self.Z_LAYOUT - self.Z_COLOR
        if z_shape < 1:
            raise ValueError(f"z_dim {z_dim} is too small: {n_cells} sprites need at least {6 * n_cells}")
        self.z_dim, self.use_vae, self.n_cells = z_dim, use_vae, n_cells
        self.window, self.stride = TILINGS[n_cells]
        self.layout = Layout(d_model, n_cells)
        self.norm = nn.LayerNorm(d_model)
        self.to_mu = nn.Linear(d_model, self.share)
        self.to_logvar = nn.Linear(d_model, self.share)
        start_with_little_noise(self.to_logvar)
        self.alphabet = quantizer(vq_levels, n_words, self.share) if vq_levels else None
        self.shapes = Shapes(z_shape, self.Z_LAYOUT, self.window, hidden_dim // 4)
        self.colors = Colors(self.Z_COLOR, hidden_dim // 4)
        self.ground_logit = nn.Parameter(torch.logit(torch.tensor([0.06, 0.08, 0.14])))
        self.coherence = Coherence()
        self.rows = round(math.sqrt(n_cells))  # and as many columns
        self.register_buffer("placing", torch.zeros(self.rows * self.window, PICTURE_SIZE), persistent=False)
        for i in range(self.rows):  # where each pixel of a row of windows comes to lie in the picture
            self.placing[i * self.window :, i * self.stride :][: self.window, : self.window].fill_diagonal_(1)

    def encode(self, text, mask):
        """TextState, (B, T) bool -> mu, logvar (B, K, share), attention (B, K, T), presence (B, K), preference (B, K, T)."""
        attention, presence, preference = self.layout(text.roles, text.surprisal, mask)
        shown = attention.sum(2, keepdim=True)  # (B, K, 1)
        value = attention @ self.norm(text.words.float()) / (shown + 1e-3)  # (B, K, D)
        return self.to_mu(value), self.to_logvar(value), attention, presence, preference

    def paint(self, z, presence):
        """z (B, K, share), presence (B, K) -> masks (B, K, side, side), colors (B, K, 3)."""
        z_layout, z_color, z_shape = z.split(
            [self.Z_LAYOUT, self.Z_COLOR, z.shape[-1] - self.Z_LAYOUT - self.Z_COLOR], -1
        )
        return self.shapes(z_shape, z_layout) * presence[..., None, None], self.colors(z_color)

    def compose(self, masks, colors):
        """Masks (B, K, side, side) and colors (B, K, 3) over the ground -> (B, 3, 64, 64) in [0, 1].

        Where two windows overlap, what would cover more than everything is shared in proportion:
        no order of drawing, and no clamp on the picture.
        """
        rows = self.rows
        with torch.autocast(masks.device.type, enabled=False):
            ground = torch.sigmoid(self.ground_logit)
            layers = F.pad(colors - ground, (0, 1), value=1.0).transpose(1, 2)  # (B, 4, K), the last is the cover
            layers = layers.unflatten(2, (rows, rows))[:, :, :, None, :, None]  # (B, 4, rows, 1, columns, 1)
            masks = masks.unflatten(1, (rows, rows)).transpose(2, 3).contiguous()  # (B, rows, side, columns, side)
            # Two products with a matrix of 0 and 1 are faster than F.fold.
            across = (masks[:, None] * layers).flatten(-2) @ self.placing  # (B, 4, rows, side, 64)
            canvas = self.placing.T @ across.flatten(2, 3)  # (B, 4, 64, 64)
            return self.coherence(ground[:, None, None] + canvas[:, :3] / canvas[:, 3:].clamp(min=1))

    def forward(self, text, mask, rng=None):
        """TextState, (B, T) bool where a word stands -> Scene. Noise only with a generator."""
        with torch.autocast(mask.device.type, enabled=False):
            text = type(text)(*(t.float() if torch.is_tensor(t) else t for t in vars(text).values()))
            mu, logvar, attention, presence, preference = self.encode(text, mask)  # (B, K, share), (B, K, T), (B, K)
            z, chosen = reparameterize(mu, logvar, rng if self.use_vae else None), None  # (B, K, share)
            if self.alphabet is not None:
                z, chosen = self.quantize(mu, presence)  # (B, K, share), (B, K)
                mu = z
            masks, colors = self.paint(z, presence)  # (B, K, side, side), (B, K, 3)
            picture = self.compose(masks, colors)  # (B, 3, 64, 64)
            kl = (gaussian_kl(mu, logvar) * presence[..., None]).sum((1, 2)) if self.use_vae else mu.new_zeros(len(mu))
        unused = (0, self.z_dim - self.n_cells * self.share)  # numbers that no sprite needs stay 0
        return Scene(
            picture,
            mu=F.pad(mu.flatten(1), unused),
            logvar=F.pad(logvar.flatten(1), unused),
            kl=kl,
            codes=chosen,
            attention=attention,
            presence=presence,
            colors=colors,
            masks=masks,
            ground=torch.sigmoid(self.ground_logit),
            preference=preference,
            compose=self.compose,
        )

    def layers(self, scene, ids, row):
        """As `layers_of_marks`; ids: word numbers (B, T)."""
        return layers_of_glyphs(scene, row)

    def interpolate(self, first, second, t):
        """Two sentences as (Scene, word numbers (1, T)) -> pictures (n, 3, 64, 64) at shares t (n,) of the way between their
        latents."""
        scenes = (first[0], second[0])
        a, b = (s.mu[:, : self.n_cells * self.share].unflatten(1, (self.n_cells, self.share)) for s in scenes)
        presence = torch.lerp(scenes[0].presence, scenes[1].presence, t[:, None])
        return self.compose(*self.paint(torch.lerp(a, b, t[:, None, None]), presence))
