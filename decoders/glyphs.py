"""The marks decoder for free text: one mark for each piece of text, side by side in reading order.

A mark follows from its piece alone, so it looks the same wherever it stands; which piece it is must be read from its shape
and color, and the order from its place. Shapes: B sentences, T pieces, K places, D = d_model. Everything here is float32.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from decoders.marks import Colors, GlyphCodes, Shapes, layers_of_glyphs
from decoders.quantizer import quantizer
from decoders.scene import PICTURE_SIZE, Coherence, Scene, gaussian_kl, reparameterize, start_with_little_noise
from text.padding import Packing


def grid(n_places):
    """Rows and columns of so many places, as square as can be: rows <= columns <= rows + 1 for the numbers of --n_cells.

    >>> grid(25), grid(30)
    ((5, 5), (5, 6))
    """
    rows = math.isqrt(n_places)
    return rows, -(-n_places // rows)


def middles(n_places):
    """The middle of each place, row by row: (K, 2) as x, y in (0, 1) of the picture."""
    rows, columns = grid(n_places)
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)[:n_places]


class GlyphSceneDecoder(GlyphCodes, nn.Module):
    """Draws a text: a plain ground, and on it the mark of each piece, from the upper left to the lower right.

    The latent of z_dim numbers is shared out over K places; each place's share is divided into color and shape.
    Raises ValueError if z_dim leaves a place fewer than 6 numbers. vq_levels: as --vq_levels, "" for latents that are no codes;
    n_words: how many pieces there are.
    """

    draws_objects, draws_glyphs, has_layers = False, True, True

    Z_COLOR = 3  # numbers of a mark's latent; what is left is its shape's
    ROOM = 1.25  # the side of a mark's window beside the smaller side of its place
    AREA = 0.27  # the area of a mark as a share of its window

    def __init__(self, d_model=512, hidden_dim=256, z_dim=300, use_vae=True, n_cells=25, vq_levels="", n_words=0):
        super().__init__()
        self.share = z_dim // n_cells
        if self.share < 6:
            raise ValueError(f"z_dim {z_dim} is too small: {n_cells} places need at least {6 * n_cells}")
        self.z_dim, self.use_vae, self.n_cells = z_dim, use_vae, n_cells
        rows, columns = grid(n_cells)
        self.side = math.ceil(self.ROOM * PICTURE_SIZE / columns)
        self.norm = nn.LayerNorm(d_model)
        self.to_mu = nn.Linear(d_model, self.share)
        self.to_logvar = nn.Linear(d_model, self.share)
        start_with_little_noise(self.to_logvar)
        with torch.no_grad():  # latents begin as wide as the prior, so that unlike pieces begin with unlike marks
            self.to_mu.weight *= math.sqrt(3)
        self.alphabet = quantizer(vq_levels, n_words, self.share) if vq_levels else None
        self.shapes = Shapes(self.share - self.Z_COLOR, 0, self.side, hidden_dim // 4, self.AREA)
        self.colors = Colors(self.Z_COLOR, hidden_dim // 4)
        self.ground_logit = nn.Parameter(torch.logit(torch.tensor([0.06, 0.08, 0.14])))
        self.coherence = Coherence()
        self._lay_out(rows, columns)

    def _lay_out(self, rows, columns):
        """Where windows lie: whole pixels for the windows, the rest of a place's middle is where the mark stands in it."""
        axis, beside = torch.arange(self.side) - (self.side - 1) / 2, {}
        for name, n in (("down", rows), ("across", columns)):
            placing, beside[name] = torch.zeros(n * self.side, PICTURE_SIZE), []
            for i in range(n):
                corner = (i + 0.5) * PICTURE_SIZE / n - self.side / 2  # px
                first = round(corner)
                beside[name].append(axis + first - corner)  # of each pixel from the middle of the mark
                for j in range(max(0, -first), min(self.side, PICTURE_SIZE - first)):
                    placing[i * self.side + j, first + j] = 1  # where a pixel of a window comes to lie in the picture
            self.register_buffer(name, placing, persistent=False)
        y, x = torch.stack(beside["down"]), torch.stack(beside["across"])  # (rows, side), (columns, side)
        shape = rows, columns, self.side, self.side
        self.register_buffer("x", x[None, :, None].expand(shape).reshape(rows * columns, -1), persistent=False)  # px
        self.register_buffer("y", y[:, None, :, None].expand(shape).reshape(rows * columns, -1), persistent=False)
        self.rows, self.columns = rows, columns

    def glyphs(self, z):
        """The marks of some latents (n, share), each in the middle of a window -> masks (n, side, side), colors (n, 3)."""
        z_color, z_shape = z.split([self.Z_COLOR, self.share - self.Z_COLOR], -1)
        masks = self.shapes.silhouettes(z_shape, self.shapes.x, self.shapes.y)
        return masks.unflatten(-1, (self.side, self.side)), self.colors(z_color)

    def glyphs_of_tokens(self, embedding):
        """What the pieces of some embeddings (n, D) look like, without noise -> as `marks`."""
        z = self.to_mu(self.norm(embedding.float()))
        return self.glyphs(z if self.alphabet is None else self.alphabet(z)[0])

    def paint(self, z, presence):
        """z (B, T, share), presence (B, T) -> masks (B, T, side, side), colors (B, T, 3)."""
        packing = Packing(presence > 0)
        z_color, z_shape = packing.pack(z).split([self.Z_COLOR, self.share - self.Z_COLOR], -1)
        place = packing.pack(torch.arange(z.shape[1], device=z.device).expand(z.shape[:2]))
        masks = packing.unpack(self.shapes.silhouettes(z_shape, self.x[place], self.y[place]))  # (B, T, side^2)
        return (masks * presence[..., None]).unflatten(-1, (self.side, self.side)), packing.unpack(self.colors(z_color))

    def compose(self, masks, colors):
        """Masks (B, T, side, side) and colors (B, T, 3) over the ground -> (B, 3, 64, 64) in [0, 1].

        Where two windows overlap, what would cover more than everything is shared in proportion.
        """
        with torch.autocast(masks.device.type, enabled=False):
            empty = self.rows * self.columns - masks.shape[1]
            ground = torch.sigmoid(self.ground_logit)
            layers = F.pad(colors - ground, (0, 1), value=1.0).transpose(1, 2)  # (B, 4, T), the last is the cover
            layers = F.pad(layers, (0, empty)).unflatten(2, (self.rows, self.columns))
            layers = layers[:, :, :, None, :, None]  # (B, 4, rows, 1, columns, 1)
            masks = F.pad(masks, (0, 0, 0, 0, 0, empty)).unflatten(1, (self.rows, self.columns))
            masks = masks.transpose(2, 3).contiguous()  # (B, rows, side, columns, side)
            across = (masks[:, None] * layers).flatten(-2) @ self.across  # (B, 4, rows, side, 64)
            canvas = self.down.T @ across.flatten(2, 3)  # (B, 4, 64, 64)
            return self.coherence(ground[:, None, None] + canvas[:, :3] / canvas[:, 3:].clamp(min=1))

    def encode(self, text, mask):
        """TextState, (B, T) bool -> mu, logvar (B, T, share), attention (B, T, T), presence (B, T), None, as `SceneDecoder.encode`."""
        value, presence = self.norm(text.words.float()), mask.float()
        attention = torch.eye(mask.shape[1], device=mask.device) * presence[:, None]
        return self.to_mu(value), self.to_logvar(value), attention, presence, None

    def forward(self, text, mask, rng=None):
        """TextState, (B, T) bool where a piece stands -> Scene. Noise only with a generator."""
        if mask.shape[1] > self.n_cells:
            raise ValueError(f"a text of {mask.shape[1]} pieces; this model draws at most {self.n_cells}")
        with torch.autocast(mask.device.type, enabled=False):
            mu, logvar, attention, presence, _ = self.encode(text, mask)
            z, chosen = reparameterize(mu, logvar, rng if self.use_vae else None), None  # (B, T, share)
            if self.alphabet is not None:
                z, chosen = self.quantize(mu, presence)  # (B, T, share), (B, T)
                mu = z
            masks, colors = self.paint(z, presence)  # (B, T, side, side), (B, T, 3)
            picture = self.compose(masks, colors)  # (B, 3, 64, 64)
            kl = (gaussian_kl(mu, logvar) * presence[..., None]).sum((1, 2)) if self.use_vae else mu.new_zeros(len(mu))
        unused = (0, self.z_dim - mu.shape[1] * self.share)  # numbers of places without a piece stay 0
        drawn = presence[..., None]
        return Scene(
            picture,
            mu=F.pad((mu * drawn).flatten(1), unused),
            logvar=F.pad((logvar * drawn).flatten(1), unused),
            kl=kl,
            codes=chosen,
            attention=attention,
            presence=presence,
            colors=colors,
            masks=masks,
            ground=torch.sigmoid(self.ground_logit),
            compose=self.compose,
        )

    def layers(self, scene, ids, row):
        """As `layers_of_marks`; ids: piece numbers (B, T)."""
        return layers_of_glyphs(scene, row)

    def interpolate(self, first, second, t):
        """Two texts as (Scene, piece numbers (1, T)) -> pictures (n, 3, 64, 64) at shares t (n,) of the way between their
        latents."""
        scenes = (first[0], second[0])
        a, b = (s.mu[:, : self.n_cells * self.share].unflatten(1, (self.n_cells, self.share)) for s in scenes)
        starts, ends = (F.pad(s.presence, (0, self.n_cells - s.presence.shape[1])) for s in scenes)
        return self.compose(*self.paint(torch.lerp(a, b, t[:, None, None]), torch.lerp(starts, ends, t[:, None])))
