"""The objects decoder: up to three things on a ground, where a word sets one property of one thing.

Which kinds of words there are, and to which noun a word belongs, is found in sentences alone (`text/word_classes.py`). A kind of
word sets one property, the same of every thing; the kinds with most words take the properties with most room. What a word sets
is drawn from the word alone. With --use_vq each kind of word chooses from an alphabet of codes. Shapes: B sentences, T words,
N things, P properties of a thing, C = N P + 1 cells, one for each property of each thing and the last for the ground, D = d_model.
Everything here is float32.
"""

import math
from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from decoders import codes
from decoders.properties import GIVEN, GROUND, NETWORKS, OPTIONAL, PROPERTIES, PropertyNetworks
from decoders.quantizer import quantizer
from decoders.scene import (
    PICTURE_SIZE,
    START_LOGVAR,
    Coherence,
    Scene,
    gaussian_kl,
    reparameterize,
    start_with_little_noise,
)
from text.vocabulary import PAD
from text.word_classes import GROUND as OF_GROUND
from text.word_classes import NEXT, NOUN

# Where the things of a scene lie, by their number: the middle of each thing's territory, how far the thing may move from it
# across and down, px, and the scale of things. Territories do not overlap, so that things keep apart, inside the frame.
TERRITORIES = {
    1: (((0, 0),), (12.5, 12.5), 1.5),
    2: (((-16, 0), (16, 0)), (3.0, 18.0), 1.1),
    3: (((-16, -16), (16, -16), (0, 16)), (3.8, 3.8), 1.0),
}
SOFTNESS = 2.2  # steepness of edges, per px
LIGHT = 0.45  # how far shading takes a color towards white or black at most
HOLE, DOT = 0.52, 0.34  # radii of the hole in a thing with a dot, and of the dot in it, as shares of the thing's
STRIPES = 0.2  # how far the strongest stripes of the ground go towards white and black


def lit(color, light):
    """Colors in [0, 1] in the light: towards white by a positive share, towards black by a negative one, in [-1, 1]. Nothing is
    cut off, so that every color keeps its gradient."""
    return color + light * torch.where(light > 0, 1 - color, color)


def assign_properties(classes):
    """`WordClasses` -> the number of the property that each kind sets: len(PROPERTIES) is the ground, -1 none (no room is left).

    Kinds come with the largest first, and properties with the roomiest. Where a user says what some words of a kind look
    like, the kind takes the property that most of them speak of.
    """
    spoken_of = [Counter() for _ in classes.belongs_to]
    for word, parts in classes.given.items():
        if (kind := classes.kind[int(word)]) >= 0:
            spoken_of[kind].update(GIVEN[part][0] for part in parts)
    said = {}  # kind -> property
    for kind, counts in enumerate(spoken_of):
        for name, _ in counts.most_common():
            if PROPERTIES.index(name) not in said.values():
                said.setdefault(kind, PROPERTIES.index(name))
    free = iter(i for i in range(len(PROPERTIES)) if i not in said.values())
    out = []
    for kind, belongs_to in enumerate(classes.belongs_to):
        if belongs_to == OF_GROUND:
            out.append(len(PROPERTIES))
        else:
            out.append(said[kind] if kind in said else next(free, -1))
    return out


def grounded_words(cycle, vocab):
    """What a user says some words look like and pictures show -> {word: {part: value}}, as `load_grounding` tells it; {} for a
    model that was told nothing."""
    parts = getattr(cycle.scene_decoder, "given_parts", {})
    return {vocab.words[word]: said for word, said in parts.items()}


class ObjectsSceneDecoder(nn.Module):
    """Draws a sentence as things on a ground. Raises ValueError if z_dim leaves a cell fewer than 2 numbers, or for word
    classes that do not fit. vq_levels: as --vq_levels, "" for latents that are no codes."""

    draws_objects, draws_glyphs, has_layers = True, False, True

    def __init__(
        self,
        classes,
        d_model=512,
        hidden_dim=256,
        z_dim=128,
        use_vae=True,
        n_objects=3,
        latent_dropout=0.0,
        vq_levels="",
    ):
        super().__init__()
        self.n_objects, self.use_vae, self.z_dim, self.latent_dropout = n_objects, use_vae, z_dim, latent_dropout
        self.n_factors = n_objects * len(PROPERTIES) + 1
        self.share = z_dim // self.n_factors
        if self.share < 2:
            raise ValueError(f"z_dim {z_dim} is too small: {n_objects} objects need at least {2 * self.n_factors}")
        self.norm = nn.LayerNorm(d_model)
        self.to_mu = nn.Linear(d_model, self.share)
        self.to_logvar = nn.Linear(d_model, self.share)
        start_with_little_noise(self.to_logvar)
        self.default = nn.Parameter(
            0.5 * torch.randn(len(PROPERTIES) + 1, self.share)
        )  # what a property is that no word sets
        self.properties = PropertyNetworks(self.share, hidden_dim // 4)
        self.coherence = Coherence()
        of_kind = [*assign_properties(classes), -1]
        self.alphabets = nn.ModuleDict()  # property -> Quantizer, of those that a word sets
        if vq_levels:
            self._make_alphabets(vq_levels, Counter(of_kind[kind] for kind in classes.kind))
        self._register_words(classes, of_kind)
        self._register_given(classes, of_kind)
        self._register_places()

    def _make_alphabets(self, vq_levels, n_words):
        """n_words: of each number of a property."""
        with torch.no_grad():  # numbers of about 1, so that words start on all levels
            self.to_mu.weight *= math.sqrt(3)
        for number, name in enumerate([*PROPERTIES, GROUND]):
            if n_words[number]:
                self.alphabets[name] = quantizer(vq_levels, n_words[number], self.share)

    def _register_words(self, classes, of_kind):
        """Tables over the vocabulary, as buffers that a checkpoint need not hold: it holds the word classes."""
        kind = torch.tensor(classes.kind, dtype=torch.int64)  # (V,)
        belongs = [*classes.belongs_to, None]  # the last one for words without a kind, as in of_kind
        is_noun = torch.tensor([b == NOUN for b in belongs])
        stands_before = torch.tensor([b in (NOUN, NEXT) for b in belongs])  # its noun follows, or it is the noun itself
        self.register_buffer("property_of_word", torch.tensor(of_kind)[kind], persistent=False)
        self.register_buffer("is_noun", is_noun[kind], persistent=False)
        self.register_buffer("stands_before", stands_before[kind], persistent=False)
        cells = [*list(range(len(PROPERTIES))) * self.n_objects, len(PROPERTIES)]
        self.register_buffer("property_of_cell", torch.tensor(cells), persistent=False)

    def _register_given(self, classes, of_kind):
        """For each property of which a user speaks, what words set, (V + 1, numbers), NaN where nothing is said; the last row:
        no word."""
        said = {int(word): parts for word, parts in classes.given.items()}
        sets = {word: of_kind[classes.kind[word]] for word in said}
        shown = {
            word: {p: v for p, v in said[word].items() if PROPERTIES.index(GIVEN[p][0]) == sets[word]} for word in said
        }
        self.given_parts = {
            word: parts for word, parts in shown.items() if parts
        }  # not of another property than the kind's
        self.given = []  # names of properties
        for name in PROPERTIES:
            table = np.full((len(classes.kind) + 1, NETWORKS[name][0]), np.nan, np.float32)
            for word, parts in self.given_parts.items():
                for part, value in parts.items():
                    if GIVEN[part][0] == name:
                        table[word, GIVEN[part][1]] = self.properties.given_numbers(part, value)
            if not np.isnan(table).all():
                self.given.append(name)
                self.register_buffer(f"given_{name}", torch.tensor(table), persistent=False)

    def with_given(self, name, values, words):
        """Values of a property (..., numbers) that words (...) set (-1: no word), replaced where a user says what they are."""
        if name not in self.given:
            return values
        said = getattr(self, f"given_{name}")[words]
        return torch.where(said.isnan(), values, said.nan_to_num())

    def _register_places(self):
        axis = torch.arange(PICTURE_SIZE) - (PICTURE_SIZE - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("x", x.reshape(-1).clone(), persistent=False)  # (4096,) px from the middle
        self.register_buffer("y", y.reshape(-1).clone(), persistent=False)
        counts = range(1, self.n_objects + 1)
        middle = torch.zeros(self.n_objects, self.n_objects, 2)
        for count in counts:
            middle[count - 1, :count] = torch.tensor(TERRITORIES[count][0], dtype=torch.float32)
        self.register_buffer("middle", middle, persistent=False)  # (counts, N, 2)
        self.register_buffer(
            "reach", torch.tensor([TERRITORIES[k][1] for k in counts]), persistent=False
        )  # (counts, 2)
        self.register_buffer("scale", torch.tensor([TERRITORIES[k][2] for k in counts]), persistent=False)  # (counts,)

    # ---- which word sets what -------------------------------------------------------------------

    def cells_of(self, ids):
        """Word numbers (B, T) -> the place in the sentence of the word that each cell shows (B, C), whether it shows one
        (B, C) bool, and the number of things (B,). Of several words for one cell the first is shown."""
        noun, prop = self.is_noun[ids], self.property_of_word[ids]  # (B, T)
        nouns_before = noun.cumsum(1) - noun.long()
        thing = torch.where(self.stands_before[ids], nouns_before, nouns_before - 1)
        on_ground = prop == len(PROPERTIES)
        is_shown = (prop >= 0) & (on_ground | ((thing >= 0) & (thing < self.n_objects)))
        cell = torch.where(on_ground, self.n_factors - 1, thing * len(PROPERTIES) + prop)
        cell = torch.where(is_shown, cell, self.n_factors)  # one more cell for words that are not shown
        length = ids.shape[1]
        place = torch.arange(length, device=ids.device).expand_as(ids)
        first = torch.full((len(ids), self.n_factors + 1), length, device=ids.device).scatter_reduce(
            1, cell, place, "amin"
        )[:, :-1]
        return first.clamp(max=length - 1), first < length, noun.sum(1).clamp(min=1, max=self.n_objects)

    def encode(self, words, ids):
        """Word embeddings (B, T, D), word numbers (B, T) -> mu, logvar (B, C, share), the word that each cell shows (B, C), -1
        for none, its place in the sentence (B, C), -1 for none, number of things (B,)."""
        at, shown, count = self.cells_of(ids)
        value = self.norm(words.float()).gather(1, at[..., None].expand(-1, -1, words.shape[-1]))  # (B, C, D)
        mu = torch.where(shown[..., None], self.to_mu(value), self.default[self.property_of_cell])
        logvar = torch.where(shown[..., None], self.to_logvar(value), START_LOGVAR)
        return mu, logvar, torch.where(shown, ids.gather(1, at), -1), torch.where(shown, at, -1), count

    # ---- codes, with --use_vq -------------------------------------------------------------------

    def cells_of_property(self, name):
        """The cells of a property among all C, as a slice."""
        if name == GROUND:
            return slice(self.n_factors - 1, self.n_factors)
        return slice(PROPERTIES.index(name), self.n_factors - 1, len(PROPERTIES))

    def quantize(self, latents, words):
        """Latents (B, C, share), the word of each cell (B, C) or -1 -> what is read of them (B, C, share), and the code of each
        cell (B, C), -1 where there is no word. What no word sets stays as it is: one more letter of each alphabet."""
        z, chosen = latents.clone(), torch.full_like(words, -1)
        for name, alphabet in self.alphabets.items():
            cells = self.cells_of_property(name)
            numbers, of_cells = alphabet(latents[:, cells])
            said = words[:, cells] >= 0
            z[:, cells] = torch.where(said[..., None], numbers, latents[:, cells])
            chosen[:, cells] = torch.where(said, of_cells, -1)
        return z, chosen

    def from_prior(self, shape, rng):
        """Latents (B, C, share) of no sentence: from N(0, 1), or of codes at random."""
        prior = torch.randn(shape, device=self.default.device, generator=rng)
        for name, alphabet in self.alphabets.items():
            cells = self.cells_of_property(name)
            prior[:, cells] = alphabet.numbers(alphabet.random_codes(prior[:, cells].shape[:2], rng))
        return prior

    @property
    def alphabet_of_cell(self):
        """The name of each cell's alphabet, C of them."""
        return [*list(PROPERTIES) * self.n_objects, GROUND]

    def letters(self, scene, ids):
        """A Scene of sentences, their word numbers (B, T) -> the word of each cell (B, C), -1 for none, and its code."""
        return self.cells(scene, ids)[1], scene.codes

    def write_codes(self, scene, ids, row):
        """The codes of one scene of a batch, as `codes.write_things` writes them."""
        count = int(self.cells_of(ids[row : row + 1])[2])
        things = scene.codes[row, :-1].reshape(self.n_objects, -1)[:count].tolist()
        named = [{name: code for name, code in zip(PROPERTIES, thing) if code >= 0} for thing in things]
        return codes.write_things(named, int(scene.codes[row, -1]))

    @torch.no_grad()
    def draw_codes(self, texts):
        """Scenes written in codes -> pictures (n, 3, 64, 64) in [0, 1], and the same scenes in the form of `write_codes`. Raises
        ValueError, in one line that names what is wrong."""
        sizes = {name: alphabet.n_codes for name, alphabet in self.alphabets.items()}
        device = self.default.device
        written, z, words, count = [], self.default[self.property_of_cell].repeat(len(texts), 1, 1), [], []
        for row, text in enumerate(texts):
            things, ground = codes.read_things(text, sizes, self.n_objects)
            written.append(codes.write_things(things, ground))
            count.append(len(things))
            words.append([-1] * self.n_factors)
            of_cells = {
                i * len(PROPERTIES) + PROPERTIES.index(k): (k, v) for i, t in enumerate(things) for k, v in t.items()
            }
            if ground >= 0:
                of_cells[self.n_factors - 1] = (GROUND, ground)
            for cell, (name, code) in of_cells.items():
                z[row, cell] = self.alphabets[name].numbers(torch.tensor(code, device=device))
                words[row][cell] = PAD  # some word of which no user says anything
        return self.compose(z, torch.tensor(words, device=device), torch.tensor(count, device=device))[0], written

    def write_letter(self, name, code):
        """The scene that shows one code and little else, as `write_codes` writes it."""
        return codes.write_things([{}], code) if name == GROUND else codes.write_things([{name: code}], -1)

    def commitment(self, embedding):
        """Word embeddings (V, D) -> how far the words of each alphabet are from codes of their own, and how far codes are from
        shapes that can still change, [0-dim tensor]."""
        of = {
            name: self.property_of_word == i for i, name in enumerate([*PROPERTIES, GROUND]) if name in self.alphabets
        }
        out = [
            self.alphabets[name].commitment(self.to_mu(self.norm(embedding[words].float())))
            for name, words in of.items()
        ]
        if "shape" in self.alphabets:
            shapes = self.alphabets["shape"]
            numbers = self.properties("shape", shapes.numbers(torch.arange(shapes.n_codes, device=embedding.device)))
            out.append(self.properties.outline.saturation(numbers))
        return out

    # ---- drawing --------------------------------------------------------------------------------

    def values_of_things(self, z, words):
        """z (B, C, share), the word of each cell (B, C) or -1 -> {property: (B, N, numbers)}."""
        shape = (self.n_objects, len(PROPERTIES))
        z, words = z[:, :-1].unflatten(1, shape), words[:, :-1].unflatten(1, shape)
        return {name: self.value(name, z[:, :, i], words[:, :, i]) for i, name in enumerate(PROPERTIES)}

    def value(self, name, z, words):
        """Latents (..., share) and the words (...) that they are of, -1 for none -> what they set, (..., numbers)."""
        values = self.with_given(name, self.properties(name, z), words)
        said = (words >= 0)[..., None]
        if name in OPTIONAL:  # without a word there is none
            values = torch.cat([values[..., :3], values[..., 3:] * said], -1)
        if name == "shading":  # without a word a thing is flat
            values = values * said
        if name == GROUND:
            values = torch.where(said, values, self.properties.plain_ground())
        return values

    def bodies(self, value, count, only=None):
        """Values of things, their number (B,), perhaps the number of the only one to draw -> masks of bodies, rims, holes and dots (B, N, 4096), colors of bodies
        (B, N, 3, 4096)."""
        k = count - 1
        center = self.middle[k] + self.reach[k][:, None] * value["place"]  # (B, N, 2)
        x, y = self.x - center[..., :1], self.y - center[..., 1:]  # (B, N, 4096)
        radius = value["size"] * self.scale[k][:, None, None]  # (B, N, 1)
        inside, distance = self.properties.outline(value["shape"], x, y, radius)
        within = torch.sigmoid(SOFTNESS * inside)
        rim_width = 1.5 + 0.12 * radius
        rim = torch.sigmoid(SOFTNESS * (inside + rim_width)) * (1 - within) * value["rim"][..., 3:]
        hole, dot = (torch.sigmoid(SOFTNESS * (r * radius - distance)) * value["dot"][..., 3:] for r in (HOLE, DOT))
        number = torch.arange(self.n_objects, device=x.device)
        exists = number < count[:, None] if only is None else (number == only).expand(len(count), -1)
        exists = exists.float()[..., None]  # (B, N, 1)
        shade = torch.tanh((value["shading"][..., :1] * x + value["shading"][..., 1:] * y) / radius)
        color = lit(value["color"][..., None], LIGHT * shade[:, :, None])
        return within * exists, rim * exists, hole * exists, dot * exists, color

    def compose(self, z, words, count, only=None):
        """z (B, C, share), the word of each cell (B, C) or -1, number of things (B,) -> pictures (B, 3, 64, 64) in [0, 1],
        masks of bodies (B, N, 64, 64). Later things lie over earlier ones, where they meet at all. `only` one thing is drawn if
        its number is given."""
        value = self.values_of_things(z, words)
        body, rim, hole, dot, color = self.bodies(value, count, only)
        ground = self.value(GROUND, z[:, -1], words[:, -1])  # (B, 6)
        wave = torch.sin(ground[:, 4:5] * self.x + ground[:, 5:6] * self.y)  # (B, 4096)
        picture = lit(ground[:, :3, None], STRIPES * ground[:, 3:4, None] * wave[:, None])  # (B, 3, 4096)
        for i in range(self.n_objects):
            picture = torch.lerp(picture, value["rim"][:, i, :3, None].expand_as(picture), rim[:, i, None])
            picture = torch.lerp(picture, color[:, i], body[:, i, None])
            picture = picture * (1 - hole[:, i, None])  # dark, so that a dot stands out from a body of any color
            picture = torch.lerp(picture, value["dot"][:, i, :3, None].expand_as(picture), dot[:, i, None])
        side = (PICTURE_SIZE, PICTURE_SIZE)
        return self.coherence(picture.unflatten(2, side)), body.unflatten(2, side)

    def forward(self, text, mask, rng=None):
        """TextState, (B, T) bool where a word stands -> Scene. Noise only with a generator."""
        with torch.autocast(mask.device.type, enabled=False):
            mu, logvar, words, at, count = self.encode(text.words, text.ids)  # (B, C, share), (B, C), (B, C), (B,)
            z, chosen, lost = reparameterize(mu, logvar, rng if self.use_vae else None), None, None  # (B, C, share)
            if self.alphabets:
                z, chosen = self.quantize(mu, words)  # (B, C, share), (B, C)
                mu = z
            if rng is not None and self.latent_dropout and (self.use_vae or self.alphabets):
                z, words, lost = self.drop(z, words, at, mask, rng)
            picture, masks = self.compose(z, words, count)
            kl = (
                (gaussian_kl(mu, logvar) * (words >= 0)[..., None]).sum((1, 2))
                if self.use_vae
                else mu.new_zeros(len(mu))
            )
        unused = (0, self.z_dim - self.n_factors * self.share)  # numbers that no cell needs stay 0
        mu, logvar = F.pad(mu.flatten(1), unused), F.pad(logvar.flatten(1), unused)
        return Scene(picture, mu, logvar, kl, codes=chosen, object_masks=masks, dropped=lost)

    def drop(self, z, words, at, mask, rng):
        """Draw the latents of some words from the prior instead: z (B, C, share), the word of each cell (B, C), its
        place in the sentence (B, C), mask (B, T) -> z, words, and which words of the sentence the picture does not tell, (B, T).

        What is left must be read without them, so that no property is read by the company that it kept in training.
        """
        lost = (torch.rand(words.shape, device=z.device, generator=rng) < self.latent_dropout) & (words >= 0)  # (B, C)
        prior = self.from_prior(z.shape, rng)
        of_sentence = mask.new_zeros(len(mask), mask.shape[1] + 1).scatter(
            1, torch.where(lost, at, mask.shape[1]), True
        )
        words = torch.where(lost, PAD, words)  # a word of which no user says anything
        return torch.where(lost[..., None], prior, z), words, of_sentence[:, :-1]

    # ---- what losses and sheets ask -------------------------------------------------------------

    def cells(self, scene, ids):
        """A Scene of sentences, their word numbers (B, T) -> z (B, C, share), the word of each cell (B, C) or -1, its place in
        the sentence (B, C), the number of things (B,)."""
        at, shown, count = self.cells_of(ids)
        z = scene.mu[:, : self.n_factors * self.share].unflatten(1, (self.n_factors, self.share))
        return z, torch.where(shown, ids.gather(1, at), -1), torch.where(shown, at, -1), count

    def layers(self, scene, ids, row):
        """The ground and each thing of one of the scenes, alone -> [(picture (3, 64, 64), places of its words in the sentence)]."""
        z, words, at, count = (x[row : row + 1] for x in self.cells(scene, ids))
        layers = [(self.compose(z, words, count, only=-1)[0][0], at[0, -1:])]
        for thing, places in enumerate(at[0, :-1].unflatten(0, (self.n_objects, -1))[: int(count)]):
            layers.append((self.compose(z, words, count, only=thing)[0][0], places))
        return [(picture, sorted(places[places >= 0].tolist())) for picture, places in layers]

    def interpolate(self, first, second, t):
        """Two sentences as (Scene, word numbers (1, T)) -> pictures (n, 3, 64, 64) at shares t (n,) of the way between their
        latents. Halfway, the number of things and the words that set nothing but whether there is a rim or a dot change."""
        ends = zip(self.cells(*first), self.cells(*second))
        z, words, _, count = (torch.cat([a, b]) for a, b in ends)
        nearest = (t >= 0.5).long()
        return self.compose(torch.lerp(z[:1], z[1:], t[:, None, None]), words[nearest], count[nearest])[0]

    def values_of_words(self, embedding):
        """Word embeddings (V, D) -> {property: (words (n,), what each sets and, last, the default (n + 1, numbers))}."""
        out = {}
        for i, name in enumerate([*PROPERTIES, GROUND]):
            words = (self.property_of_word == i).nonzero()[:, 0]
            if not len(words):
                continue
            z = self.to_mu(self.norm(embedding[words].float()))
            if name in self.alphabets:
                z, _ = self.alphabets[name](z)
            z = torch.cat([z, self.default[i : i + 1]])
            out[name] = (words, self.value(name, z, torch.cat([words, words.new_tensor([-1])])))
        return out
