"""What a circle is compared with: a drawing program, a drawer that never learned, and fresh readers.

A `Pair` has the two parts that measures use of a `models.Circle` (`draw` and `caption_network`), so that
whatever measures a circle measures these too.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageDraw

import losses
from channel import round_8bit
from data_utils import BOS, PAD, pad
from metrics import exact_match
from models import CaptionNetwork, Circle, Scene
from pictures import from_image
from text.grammar import parse

# ---------------------------------------------------------------------------------------------
# Drawers
# ---------------------------------------------------------------------------------------------


class Pair:
    """Any drawer (word numbers -> Scene) beside any reader."""

    def __init__(self, draw, reader=None):
        self.draw, self.caption_network = draw, reader
        self.scene_decoder = None  # has no parts to look into


def random_drawer(circle, vocab, settings, seed, device):
    """A drawer of the same build with random weights that never learned anything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 7919)
        return Circle(settings, len(vocab), circle.language_model.max_words).to(device).eval()


RGB = {
    "red": (214, 39, 40), "blue": (31, 80, 200), "green": (40, 150, 60), "yellow": (250, 215, 40), "orange": (255, 140, 20),
    "purple": (130, 50, 170), "pink": (255, 140, 190), "brown": (125, 75, 40), "black": (20, 20, 20), "white": (255, 255, 255),
    "gray": (140, 140, 140),
}  # fmt: skip
RADIUS = {"tiny": 0.10, "small": 0.15, "medium": 0.21, "large": 0.28, "huge": 0.36}
CENTERS = {"left": (0.25, 0.5), "right": (0.75, 0.5), "top": (0.5, 0.28), "bottom": (0.5, 0.7), "corner": (0.78, 0.25)}
INK = (60, 60, 60)


def _polygon(x, y, r, corners, turn=0.0, inner=None):
    """Corner points of a regular polygon, or of a star where `inner` gives the smaller radius."""
    steps = corners * (2 if inner else 1)
    radii = [inner * r if inner and i % 2 else r for i in range(steps)]
    return [
        (x + k * math.sin(2 * math.pi * i / steps + turn), y - k * math.cos(2 * math.pi * i / steps + turn))
        for i, k in enumerate(radii)
    ]


def _thing(draw, name, x, y, r, fill):
    """One object, told apart from its synonyms by a detail."""
    disc = (x - r, y - r, x + r, y + r)
    if name in ("ball", "sphere"):
        draw.ellipse(disc, fill=fill, outline=INK)
        if name == "ball":
            draw.line((x - r, y, x + r, y), fill=INK, width=3)
        else:
            draw.ellipse((x - 0.6 * r, y - 0.6 * r, x, y), fill="white")
    elif name == "circle":
        draw.ellipse(disc, outline=INK, width=1)
        draw.ellipse((x - r + 1, y - r + 1, x + r - 1, y + r - 1), outline=fill, width=max(3, int(r * 0.4)))
    elif name in ("cube", "box", "square"):
        draw.rectangle(disc, fill=fill, outline=INK)
        if name == "cube":
            draw.polygon(
                [(x - r, y - r), (x - 0.5 * r, y - 1.5 * r), (x + 1.5 * r, y - 1.5 * r), (x + r, y - r)], fill=fill, outline=INK
            )
            draw.polygon(
                [(x + r, y - r), (x + 1.5 * r, y - 1.5 * r), (x + 1.5 * r, y + 0.5 * r), (x + r, y + r)], fill=fill, outline=INK
            )
        if name == "box":
            draw.rectangle((x - 1.3 * r, y - r, x + 1.3 * r, y - 0.5 * r), fill=INK)
    elif name == "cylinder":
        draw.rectangle((x - 0.5 * r, y - r, x + 0.5 * r, y + r), fill=fill, outline=INK)
        draw.ellipse((x - 0.5 * r, y - 1.3 * r, x + 0.5 * r, y - 0.7 * r), fill="white", outline=INK)
    elif name == "pyramid":
        draw.polygon(_polygon(x, y, 1.2 * r, 3), fill=fill, outline=INK)
        draw.line((x, y - 1.2 * r, x, y + 0.6 * r), fill=INK, width=3)
    elif name == "triangle":
        draw.polygon(_polygon(x, y, 1.2 * r, 3, math.pi), fill=fill, outline=INK)
    else:  # star
        draw.polygon(_polygon(x, y, 1.2 * r, 5, inner=0.45), fill=fill, outline=INK)


def _ground(draw, side, kind):
    if kind == "plain":
        draw.rectangle((0, 0, side, side), fill=(190, 215, 235))
    elif kind == "gradient":
        for y in range(side):
            draw.line((0, y, side, y), fill=(255 - 110 * y // side,) * 3)
    elif kind == "striped":
        for x in range(0, side, side // 6):
            draw.rectangle((x, 0, x + side // 14, side), fill=(200, 225, 200))
    elif kind == "dotted":
        for x in range(0, side, side // 6):
            for y in range(0, side, side // 6):
                draw.ellipse((x, y, x + side // 16, y + side // 16), fill=(150, 160, 220))
    elif kind == "textured":
        for k in range(-side, side, side // 8):
            draw.line((k, 0, k + side, side), fill=(225, 200, 170), width=3)
            draw.line((k + side, 0, k, side), fill=(225, 200, 170), width=3)


def _act(draw, action, x, y, r):
    """What a thing does, as the small signs of a comic."""
    if action == "sitting":
        draw.rectangle((x - 1.6 * r, y + 1.25 * r, x + 1.6 * r, y + 1.25 * r + 5), fill=INK)
    elif action == "floating":
        for k in (-1.2, 0, 1.2):
            draw.arc((x + k * r - 0.6 * r, y + 1.3 * r, x + k * r + 0.6 * r, y + 1.9 * r), 180, 360, fill=(40, 90, 200), width=3)
    elif action == "rotating":
        for start in (20, 200):
            draw.arc((x - 1.6 * r, y - 1.6 * r, x + 1.6 * r, y + 1.6 * r), start, start + 120, fill=(180, 30, 120), width=4)
    elif action == "glowing":
        for p, q in zip(_polygon(x, y, 1.4 * r, 10), _polygon(x, y, 1.8 * r, 10)):
            draw.line((*p, *q), fill=(235, 170, 0), width=4)
    elif action == "pulsing":
        for k in (1.45, 1.75):
            draw.ellipse((x - k * r, y - k * r, x + k * r, y + k * r), outline=(220, 40, 40), width=2)


def _panel(slots, mark, side):
    """One thing with its size, position, background and action on a square. A slot that the sentence
    leaves out is drawn unlike all of its words: without a size there is a dark rim, without a position
    no tick on the frame."""
    image = Image.new("RGB", (side, side), (245, 243, 238))
    draw = ImageDraw.Draw(image)
    _ground(draw, side, slots.get("background"))
    position = slots.get("position" + mark)
    x, y = (v * side for v in CENTERS.get(position, (0.5, 0.5)))
    r = RADIUS.get(slots.get("size" + mark), 0.18) * side
    _act(draw, slots.get("action"), x, y, r)
    _thing(draw, slots["object" + mark], x, y, r, RGB[slots["color" + mark]])
    if not slots.get("size" + mark):
        draw.rectangle((x - 1.5 * r, y - 1.5 * r, x + 1.5 * r, y + 1.5 * r), outline=INK, width=2)
    if position == "center":
        draw.line((0, side / 2, side / 8, side / 2), fill=INK, width=4)
        draw.line((side * 7 / 8, side / 2, side, side / 2), fill=INK, width=4)
    elif position == "middle":
        draw.line((side / 2, 0, side / 2, side / 8), fill=INK, width=4)
        draw.line((side / 2, side * 7 / 8, side / 2, side), fill=INK, width=4)
    elif position:
        draw.rectangle((0, 0, side - 1, side - 1), outline=(120, 160, 120), width=2)
    return image


def draw_by_hand(sentence):
    """What a programmer would draw for a sentence of the grammar: a 64x64 RGB Pillow image; gray for
    anything else. Two things stand side by side, with a sign for the words between them."""
    found = parse(sentence)
    if found is None:
        return Image.new("RGB", (64, 64), (128, 128, 128))
    template, slots = found
    if "object2" not in slots:
        return _panel(slots, "", 128).reduce(2)
    image = Image.new("RGB", (128, 128), (225, 225, 225))
    image.paste(_panel(slots, "", 64), (0, 24))
    image.paste(_panel(slots, "2", 64), (64, 24))
    draw = ImageDraw.Draw(image)
    if template == 8:
        draw.rectangle((60, 96, 68, 124), fill=INK)
        draw.rectangle((50, 106, 78, 114), fill=INK)
    elif template == 9:
        draw.rectangle((0, 0, 128, 14), fill=(120, 160, 120))
    return image.reduce(2)


class HandMade:
    """The drawing program as a drawer: word numbers (B, T) -> Scene."""

    def __init__(self, vocab):
        self.vocab = vocab

    def __call__(self, ids):
        pictures = torch.stack([from_image(draw_by_hand(self.vocab.decode(row))) for row in ids.tolist()])
        none = torch.zeros(len(ids), 1, device=ids.device)
        return Scene(pictures.to(ids.device), none, none, none[:, 0])


# ---------------------------------------------------------------------------------------------
# Readers
# ---------------------------------------------------------------------------------------------


class PlainReader(nn.Module):
    """Another build of reader: strided convolutions, then every word at once, each from the whole picture."""

    def __init__(self, vocab_size, max_words, hidden_dim=96):
        super().__init__()
        self.places = max_words + 1
        widths = [3, 32, 64, hidden_dim, hidden_dim]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.GroupNorm(1, b) for b in widths[1:])
        self.hidden = nn.Linear(16 * hidden_dim, 4 * hidden_dim)
        self.out = nn.Linear(4 * hidden_dim, self.places * vocab_size)

    def logits(self, picture):
        """(B, 3, 64, 64) in [0, 1] -> (B, places, V)."""
        x = picture * 2 - 1
        for conv, norm in zip(self.convs, self.norms):
            x = F.gelu(norm(conv(x)))  # 32, 16, 8, 4
        return self.out(F.gelu(self.hidden(x.flatten(1)))).unflatten(1, (self.places, -1))

    def forward(self, picture, ids, word_dropout=0.0, rng=None):
        """As `CaptionNetwork.forward`, without an embedding; the words before are not looked at."""
        return self.logits(picture)[:, : ids.shape[1] + 1], None

    @torch.no_grad()
    def read(self, picture, temperature=0.0, rng=None):
        """As `CaptionNetwork.read`, greedy."""
        logp = self.logits(picture).index_fill(2, torch.tensor([PAD, BOS], device=picture.device), float("-inf")).log_softmax(-1)
        best, words = logp.max(-1)
        return words, best.sum(1), torch.full((*words.shape, 64), 1 / 64, device=picture.device)


READERS = {
    "caption network": lambda V, T: CaptionNetwork(V, T, 64, 96),
    "plain convolutions": PlainReader,
}


def fresh_reader(build, vocab, max_words, seed, device):
    """An untrained reader of READERS, from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 104729)
        return READERS[build](len(vocab), max_words).to(device)


def warmup_cosine(step, total, warmup):
    """Factor of the learning rate in (0, 1]: linear over `warmup` steps, then a cosine from 1 to 0.02 over `total` steps
    (Loshchilov & Hutter 2017)."""
    return min(1, (step + 1) / warmup) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / total)))


def train_readers(readers, draw, batches, vocab, checks, steps, every, device, seed, say=None):
    """Teach each of {name: reader} the same pictures of a frozen drawer -> {name: [(step, exact match on `checks`)]}.

    draw: word numbers -> Scene; batches: step -> word numbers (B, T); checks: unseen sentences. AdamW
    1e-3 with 30 steps of warm-up and a cosine to 2 %, noise 0.02 and 8 bits.
    """
    optimizers = {name: torch.optim.AdamW(reader.parameters(), 1e-3, betas=(0.9, 0.98)) for name, reader in readers.items()}
    rng = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        unseen = torch.cat(
            [draw(pad([vocab.encode(s) for s in checks[i : i + 100]]).to(device)).picture for i in range(0, len(checks), 100)]
        )
        unseen = round_8bit(unseen.float())
    curves = {name: [] for name in readers}
    for step in range(steps):
        ids = batches(step).to(device)
        with torch.no_grad():  # once for all readers: drawing costs as much as teaching the plain one
            picture = draw(ids).picture.float()
            picture = round_8bit((picture + 0.02 * torch.randn(picture.shape, generator=rng, device=device)).clamp(0, 1))
        targets = losses.targets_of(ids)
        for name, reader in readers.items():
            loss = losses.word_loss(reader(picture, ids)[0], targets)
            for group in optimizers[name].param_groups:
                group["lr"] = 1e-3 * warmup_cosine(step, steps, 30)
            optimizers[name].zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimizers[name].step()
            if (step + 1) % every == 0 or step + 1 == steps:
                captions = [vocab.decode(row) for row in reader.read(unseen)[0].tolist()]
                curves[name].append((step + 1, exact_match(checks, captions)))
        if say:
            say()
    return curves
