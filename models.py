"""The three networks of the circle: text -> scene -> text.

    AutoregressiveLanguageModel   reads and invents sentences; knows which words are surprising
    SceneDecoder                  draws a sentence as a 64x64 picture, one mark for each surprising word
    CaptionNetwork                reads a picture back into words; sees nothing but the picture

Shapes: B sentences, T words, V words of vocabulary, D = d_model, K sprites. A forward pass draws
random numbers only from the generator it is given; without one it is deterministic.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from data_utils import BOS, EOS, PAD
from decoders.marks import Coherence, Colors, Layout, Shapes, gaussian_kl
from losses import targets_of
from packing import Packing

PICTURE_SIZE = 64


def dropout(x, p, rng):
    """Inverted dropout from an explicit generator; the identity without one."""
    if rng is None or p == 0:
        return x
    return x * (torch.rand(x.shape, device=x.device, generator=rng) >= p) / (1 - p)


def attend(q, k, v, mask=None):
    """softmax(q k' / sqrt(d) + mask) v for short sequences: (N, queries, d), twice (N, keys, d), mask (keys, queries)
    -> result (N, queries, d), weights (N, keys, queries) float32.

    Written out because the fused CPU kernel's backward in bf16 takes five times as long at these lengths, and keys first
    because a softmax over a last dimension of fewer than 16 takes four times as long. It is float32 under autocast too.
    """
    logits = torch.bmm(k, q.transpose(1, 2)).float()
    scale = 1 / math.sqrt(q.shape[-1])
    logits = logits * scale if mask is None else torch.add(mask, logits, alpha=scale)
    weights = logits.softmax(1)
    return torch.bmm(weights.to(v.dtype).transpose(1, 2), v), weights


def split_heads(x, heads, parts=1):
    """(B, T, parts x heads x d) -> (parts, B x heads, T, d), in one copy."""
    return x.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).flatten(1, 2)


def join_heads(x, heads):
    """(B x heads, T, d) -> (B, T, heads x d)."""
    return x.unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)


# ---------------------------------------------------------------------------------------------
# Language model
# ---------------------------------------------------------------------------------------------


@dataclass
class TextState:
    """What the language model knows of a batch of sentences."""

    logits: torch.Tensor  # (B, T + 1, V) the next word, after the start mark and after each word
    cloze: torch.Tensor  # (B, T, V) the word that stands here, from the words before it and the one behind it
    roles: torch.Tensor  # (B, T, D) what kind of word stands here, and how many of its kind came before; not which word
    words: torch.Tensor  # (B, T, D) each word by itself, blind to its neighbours
    surprisal: torch.Tensor  # (B, T) -log p(word | words before), nats, detached; 0 on padding
    sentence: torch.Tensor  # (B, D) the whole sentence
    attention: list  # per layer (B, heads, T + 1, T + 1)


class Block(nn.Module):
    """One pre-norm transformer layer with causal attention."""

    def __init__(self, d_model, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.project = nn.Linear(d_model, d_model)
        self.norm_mlp = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)

    def forward(self, x, packing, mask, p, rng):
        """(N, D) words of a packed batch, (T, T) -> (N, D), weights (B, heads, T, T)."""
        qkv = packing.unpack(self.qkv(self.norm_attention(x)))  # (B, T, 3 D)
        seen, weights = attend(*split_heads(qkv, self.n_heads, 3), mask)
        x = x + dropout(self.project(packing.pack(join_heads(seen, self.n_heads))), p, rng)
        x = x + dropout(self.down(F.gelu(self.up(self.norm_mlp(x)))), p, rng)
        return x, weights.unflatten(0, (-1, self.n_heads)).transpose(2, 3)


class AutoregressiveLanguageModel(nn.Module):
    """A causal transformer over words with a next-word loss and a sentence embedding."""

    def __init__(self, vocab_size, max_words, d_model=512, n_heads=8, n_layers=6, dropout=0.0):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not a multiple of n_heads {n_heads}")
        self.max_words, self.p = max_words, dropout
        self.embedding = nn.Embedding(vocab_size, d_model)  # shared with the output layer
        self.position = nn.Embedding(max_words + 1, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.cloze = nn.Sequential(nn.Linear(2 * d_model, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model))
        self.cloze_norm = nn.LayerNorm(d_model)
        self.role_count = nn.Embedding(max_words + 1, d_model)
        self.to_sentence = nn.Linear(d_model, d_model)
        nn.init.normal_(self.role_count.weight, std=1.0)
        nn.init.zeros_(self.role_count.weight[0])
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, ids, rng=None, pack=True):
        """ids (B, T) word numbers padded with PAD -> TextState. Raises ValueError for T > max_words.

        What stands at padding means nothing. Without `pack` padding is computed like words.
        """
        if ids.shape[1] > self.max_words:
            raise ValueError(f"a sentence of {ids.shape[1]} words; this model reads at most {self.max_words}")
        inputs = F.pad(ids, (1, 0), value=BOS)  # (B, T + 1)
        tokens, words = Packing(inputs != PAD, pack), Packing(ids != PAD, pack)
        x = tokens.pack(self.embedding(inputs) + self.position.weight[: inputs.shape[1]])  # (N, D)
        x, attention = dropout(x, self.p, rng), []
        causal = torch.full((inputs.shape[1],) * 2, float("-inf"), device=x.device).tril(-1)  # (keys, queries)
        for block in self.blocks:
            x, weights = block(x, tokens, causal, self.p, rng)
            attention.append(weights)
        x = self.norm(x)
        logits = tokens.unpack((x @ self.embedding.weight.T).float())  # (B, T + 1, V)
        x = tokens.unpack(x)  # (B, T + 1, D)
        here = (ids != PAD).float()  # (B, T)
        surprisal = F.cross_entropy(logits[:, :-1].detach().transpose(1, 2), ids, reduction="none") * here
        mean = (x[:, 1:] * here[..., None]).sum(1) / here.sum(1, keepdim=True).clamp(min=1)
        behind = self.embedding(words.pack(targets_of(ids)[:, 1:]))  # (N', D) the word after each word
        guess = self.cloze_norm(self.cloze(torch.cat([words.pack(x[:, :-1]), behind.to(x.dtype)], -1)))
        cloze = words.unpack((guess @ self.embedding.weight.T).float())  # (B, T, V)
        with torch.autocast(ids.device.type, enabled=False):
            roles = self.roles(cloze.detach(), here)
        return TextState(logits, cloze, roles, self.embedding(ids), surprisal, self.to_sentence(mean), attention)

    def roles(self, cloze, here):
        """What could stand in a word's stead, and how many words of that kind came before.

        cloze (B, T, V), here (B, T) float -> (B, T, D). A kind is the mean embedding of all words that would fit; it
        is near 0 as long as any word would, so that layout waits until there are kinds. Neither kind nor number
        tells which words the sentence has, so the layout cannot come to depend on them.
        """
        embedding = self.embedding.weight.float()
        kinds = cloze.softmax(-1) @ embedding - embedding.mean(0)  # (B, T, D)
        usual = (embedding - embedding.mean(0)).detach().square().sum(1).mean()
        kinds = kinds / torch.sqrt(kinds.square().sum(-1, keepdim=True) + 0.05 * usual)
        same = torch.sigmoid(12 * (kinds @ kinds.transpose(1, 2) - 0.6)).detach() * here[:, None]  # (B, T, T), 1 for one kind
        count = same.tril(-1).sum(2)  # (B, T)
        table = self.role_count.weight.float()
        # Between two whole numbers, between their rows; without an index, which a number gone bad would break.
        near = torch.relu(1 - (count[..., None] - torch.arange(len(table), device=count.device)).abs())
        number = near @ table
        return math.sqrt(table.shape[1]) * kinds + number

    @torch.no_grad()
    def sample(self, n, rng, temperature=1.0):
        """n invented sentences -> (n, up to max_words) word numbers, padded with PAD."""
        ids = torch.zeros(n, 0, dtype=torch.int64, device=self.embedding.weight.device)
        alive = torch.ones(n, 1, dtype=torch.bool, device=ids.device)
        for _ in range(self.max_words):
            logits = self(ids).logits[:, -1] / temperature
            logits[:, [PAD, BOS]] = float("-inf")
            if not ids.shape[1]:
                logits[:, EOS] = float("-inf")  # an empty sentence describes nothing
            word = torch.multinomial(logits.softmax(-1), 1, generator=rng)
            alive &= word != EOS
            ids = torch.cat([ids, torch.where(alive, word, PAD)], 1)
        return ids[:, : max(1, int((ids != PAD).sum(1).max()))]


# ---------------------------------------------------------------------------------------------
# Scene decoder
# ---------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A drawn batch, with the parts that it was composed of."""

    picture: torch.Tensor  # (B, 3, 64, 64) in [0, 1]
    mu: torch.Tensor  # (B, z_dim) posterior mean
    logvar: torch.Tensor  # (B, z_dim) posterior log variance; zeros without a VAE
    kl: torch.Tensor  # (B,) KL of the posterior to N(0, 1), nats, parts that are not drawn left out
    attention: torch.Tensor = None  # (B, K, T) how much of each word each sprite shows
    presence: torch.Tensor = None  # (B, K) in [0, 1]
    colors: torch.Tensor = None  # (B, K, 3) sRGB in [0, 1]
    masks: torch.Tensor = None  # (B, K, side, side) in [0, 1], the sprite's own window
    ground: torch.Tensor = None  # (3,) sRGB in [0, 1]
    preference: torch.Tensor = None  # (B, K, T) where each word would stand if it were alone


def bottleneck(mu, logvar, rng):
    """A draw of the posterior; its mean without a generator."""
    if rng is None:
        return mu
    noise = torch.randn(mu.shape, device=mu.device, generator=rng)
    return mu + noise * (0.5 * logvar).exp()


# (window, stride) for a square number of sprites: windows overlap a little and tile 64 pixels
TILINGS = {4: (36, 28), 9: (24, 20), 16: (19, 15), 25: (16, 12)}


class SceneDecoder(nn.Module):
    """Draws a sentence: a plain ground, and on it one compact mark for each surprising word.

    The latent of z_dim numbers is shared out over K sprites; each sprite's share is divided into
    layout (size and place inside its window), colour and shape. The drawing networks are common to
    all sprites, so a word has the same mark wherever it is shown. Everything here is float32.
    Raises ValueError if z_dim leaves a sprite fewer than 6 numbers.
    """

    Z_LAYOUT, Z_COLOR = 2, 3
    START_LOGVAR = -5.0  # at logvar 0 the noise drowns the words and the circle never starts

    def __init__(self, d_model=512, hidden_dim=256, z_dim=128, use_vae=True, n_sprites=9):
        super().__init__()
        if n_sprites not in TILINGS:
            raise ValueError(f"n_sprites {n_sprites} is none of {', '.join(map(str, TILINGS))}")
        self.share = z_dim // n_sprites
        z_shape = self.share - self.Z_LAYOUT - self.Z_COLOR
        if z_shape < 1:
            raise ValueError(f"z_dim {z_dim} is too small: {n_sprites} sprites need at least {6 * n_sprites}")
        self.z_dim, self.use_vae, self.n_sprites = z_dim, use_vae, n_sprites
        self.window, self.stride = TILINGS[n_sprites]
        self.layout = Layout(d_model, n_sprites)
        self.norm = nn.LayerNorm(d_model)
        self.to_mu = nn.Linear(d_model, self.share)
        self.to_logvar = nn.Linear(d_model, self.share)
        nn.init.zeros_(self.to_logvar.weight)
        nn.init.constant_(self.to_logvar.bias, self.START_LOGVAR)
        self.shapes = Shapes(z_shape, self.Z_LAYOUT, self.window, hidden_dim // 4)
        self.colors = Colors(self.Z_COLOR, hidden_dim // 4)
        self.ground_logit = nn.Parameter(torch.logit(torch.tensor([0.06, 0.08, 0.14])))
        self.coherence = Coherence()
        self.rows = round(math.sqrt(n_sprites))  # and as many columns
        self.register_buffer("placing", torch.zeros(self.rows * self.window, PICTURE_SIZE), persistent=False)
        for i in range(self.rows):  # where each pixel of a row of windows comes to lie in the picture
            self.placing[i * self.window :, i * self.stride :][: self.window, : self.window].fill_diagonal_(1)

    def encode(self, text, here):
        """TextState, (B, T) bool -> mu, logvar (B, K, share), attention (B, K, T), presence (B, K), preference (B, K, T)."""
        attention, presence, preference = self.layout(text.roles, text.surprisal, here)
        shown = attention.sum(2, keepdim=True)  # (B, K, 1)
        value = attention @ self.norm(text.words.float()) / (shown + 1e-3)  # (B, K, D)
        return self.to_mu(value), self.to_logvar(value), attention, presence, preference

    def paint(self, z, presence):
        """z (B, K, share), presence (B, K) -> masks (B, K, side, side), colours (B, K, 3)."""
        z_layout, z_color, z_shape = z.split([self.Z_LAYOUT, self.Z_COLOR, z.shape[-1] - self.Z_LAYOUT - self.Z_COLOR], -1)
        return self.shapes(z_shape, z_layout) * presence[..., None, None], self.colors(z_color)

    def compose(self, masks, colors):
        """Masks (B, K, side, side) and colours (B, K, 3) over the ground -> (B, 3, 64, 64) in [0, 1].

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

    def forward(self, text, here, rng=None):
        """TextState, (B, T) bool where a word stands -> Scene. Noise only with a generator."""
        with torch.autocast(here.device.type, enabled=False):
            text = TextState(*(t.float() if torch.is_tensor(t) else t for t in vars(text).values()))
            mu, logvar, attention, presence, preference = self.encode(text, here)
            z = bottleneck(mu, logvar, rng if self.use_vae else None)  # (B, K, share)
            masks, colors = self.paint(z, presence)
            picture = self.compose(masks, colors)
            kl = (gaussian_kl(mu, logvar) * presence[..., None]).sum((1, 2))
        rest = (0, self.z_dim - self.n_sprites * self.share)  # numbers that no sprite needs stay 0
        mu, logvar = F.pad(mu.flatten(1), rest), F.pad(logvar.flatten(1), rest)
        return Scene(picture, mu, logvar, kl, attention, presence, colors, masks, torch.sigmoid(self.ground_logit), preference)


class ConvSceneDecoder(nn.Module):
    """The plain decoder for comparison: sentence embedding -> z -> upsampling convolutions.

    It closes the circle too, with a texture that no person can read.
    """

    def __init__(self, d_model=512, hidden_dim=256, z_dim=128, use_vae=True):
        super().__init__()
        self.use_vae = use_vae
        self.to_mu = nn.Linear(d_model, z_dim)
        self.to_logvar = nn.Linear(d_model, z_dim)
        nn.init.zeros_(self.to_logvar.weight)
        nn.init.constant_(self.to_logvar.bias, SceneDecoder.START_LOGVAR)
        self.start = nn.Linear(z_dim, hidden_dim * 16)
        widths = [hidden_dim, hidden_dim // 2, hidden_dim // 4, hidden_dim // 8, hidden_dim // 8]
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(nn.GroupNorm(1, b) for b in widths[1:])
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.coherence = Coherence()

    def forward(self, text, here, rng=None):
        """TextState, (B, T) bool -> Scene without parts."""
        mu, logvar = self.to_mu(text.sentence).float(), self.to_logvar(text.sentence).float()
        x = self.start(bottleneck(mu, logvar, rng if self.use_vae else None)).unflatten(1, (-1, 4, 4))
        for stage, norm in zip(self.stages, self.norms):
            x = F.gelu(norm(stage(F.interpolate(x, scale_factor=2, mode="bilinear"))))  # 8, 16, 32, 64
        picture = self.coherence(torch.sigmoid(self.to_rgb(x).float()))
        return Scene(picture, mu, logvar, gaussian_kl(mu, logvar).sum(1))


# ---------------------------------------------------------------------------------------------
# Caption network
# ---------------------------------------------------------------------------------------------


class CaptionNetwork(nn.Module):
    """Reads a picture: a CNN that keeps an 8x8 grid of places, an LSTM, and attention over the grid.

    GroupNorm with one group normalises each picture by itself: nothing leaks between sentences.
    """

    HEADS = 4

    def __init__(self, vocab_size, max_words, d_model=512, hidden_dim=256):
        super().__init__()
        if hidden_dim % 32:
            raise ValueError(f"hidden_dim {hidden_dim} is not a multiple of 32")
        self.max_words = max_words
        a, b, c = hidden_dim // 8, hidden_dim // 4, hidden_dim // 2
        self.convs = nn.ModuleList(
            [nn.Conv2d(3, a, 5, 2, 2), nn.Conv2d(a, b, 3, 2, 1), nn.Conv2d(b, c, 3, 2, 1), nn.Conv2d(c, c, 3, 1, 1)]
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, n) for n in (a, b, c, c))
        self.place = nn.Parameter(torch.randn(64, c) * 0.3)
        self.squeeze = nn.Linear(c, 16)
        self.to_gist = nn.Linear(16 * 64, hidden_dim)
        self.to_embedding = nn.Sequential(nn.GELU(), nn.Linear(hidden_dim, d_model))
        self.embedding = nn.Embedding(vocab_size, hidden_dim)
        self.lstm = nn.LSTM(2 * hidden_dim, hidden_dim, batch_first=True)
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.key_value = nn.Linear(c, 2 * hidden_dim)
        self.out = nn.Sequential(nn.Linear(2 * hidden_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, vocab_size))

    def see(self, picture):
        """(B, 3, 64, 64) in [0, 1] -> gist (B, hidden), keys, values (B x heads, 64, hidden / heads)."""
        x = (picture * 2 - 1).contiguous(memory_format=torch.channels_last)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            y = F.gelu(norm(conv(x)))  # 32x32, 16x16, 8x8, 8x8
            x = x + y if i == 3 else y
        grid = x.flatten(2).transpose(1, 2)  # (B, 64, c)
        gist = self.to_gist(self.squeeze(grid).flatten(1))
        keys, values = split_heads(self.key_value(grid + self.place), self.HEADS, 2)
        return gist, keys, values

    def embed(self, gist):
        """The picture's place in the space of sentences: (B, hidden) -> (B, D)."""
        return self.to_embedding(gist)

    def look(self, state, keys, values):
        """LSTM states (B, T, hidden) look at the grid -> logits (B, T, V), weights (B, heads, T, 64)."""
        seen, weights = attend(split_heads(self.query(state), self.HEADS)[0], keys, values)
        words = self.out(torch.cat([state, join_heads(seen, self.HEADS)], -1)).float()
        return words, weights.unflatten(0, (-1, self.HEADS)).transpose(2, 3)

    def forward(self, picture, ids, word_dropout=0.0, rng=None):
        """Pictures and the true words (B, T) -> caption logits (B, T + 1, V), embedding (B, D).

        Position t predicts word t from the picture and the words before it, some of them dropped so that the
        picture is needed.
        """
        gist, keys, values = self.see(picture)
        inputs = F.pad(ids, (1, 0), value=BOS)
        if rng is not None and word_dropout:
            lost = torch.rand(inputs.shape, device=ids.device, generator=rng) < word_dropout
            inputs = torch.where(lost & (inputs != BOS), PAD, inputs)
        state, _ = self.lstm(torch.cat([self.embedding(inputs), gist[:, None].expand(-1, inputs.shape[1], -1)], -1))
        return self.look(state, keys, values)[0], self.embed(gist)

    @torch.no_grad()
    def read(self, picture, temperature=0.0, rng=None):
        """Pictures (B, 3, 64, 64) -> word numbers (B, max_words + 1), log probability (B,), gaze (B, T, 64).

        Greedy at temperature 0. Words after the end mark are PAD; the log probability is that of the
        words and the end mark under the reader.
        """
        gist, keys, values = self.see(picture)
        word = torch.full((len(picture),), BOS, device=picture.device)
        alive = torch.ones_like(word, dtype=torch.bool)
        memory, words, gaze = None, [], []
        log_prob = torch.zeros(len(picture), device=picture.device)
        for _ in range(self.max_words + 1):
            state, memory = self.lstm(torch.cat([self.embedding(word), gist], -1)[:, None], memory)
            logits, weights = self.look(state, keys, values)
            logits = logits[:, 0].index_fill(1, torch.tensor([PAD, BOS], device=word.device), float("-inf"))
            logp = logits.log_softmax(-1)
            word = torch.multinomial((logits / temperature).softmax(-1), 1, generator=rng)[:, 0] if temperature else logp.argmax(-1)
            log_prob += torch.where(alive, logp.gather(1, word[:, None])[:, 0], 0)
            word = torch.where(alive, word, PAD)
            alive = alive & (word != EOS)
            words.append(word)
            gaze.append(weights.mean(1)[:, 0])
        return torch.stack(words, 1), log_prob, torch.stack(gaze, 1)


# ---------------------------------------------------------------------------------------------
# The circle
# ---------------------------------------------------------------------------------------------


class Circle(nn.Module):
    """The three networks together, as settings describe them."""

    def __init__(self, settings, vocab_size, max_words):
        super().__init__()
        s = settings
        self.language_model = AutoregressiveLanguageModel(vocab_size, max_words, s.d_model, s.n_heads, s.n_layers, s.dropout)
        if s.decoder == "conv":
            self.scene_decoder = ConvSceneDecoder(s.d_model, s.hidden_dim, s.z_dim, s.use_vae)
        else:
            self.scene_decoder = SceneDecoder(s.d_model, s.hidden_dim, s.z_dim, s.use_vae, s.n_sprites)
        self.caption_network = CaptionNetwork(vocab_size, max_words, s.d_model, s.hidden_dim)

    @torch.no_grad()
    def draw(self, ids):
        """Word numbers (B, T) -> Scene, without noise."""
        return self.scene_decoder(self.language_model(ids), ids != PAD)
