"""The three networks of the circle: text -> scene -> text.

    AutoregressiveLanguageModel   reads and invents sentences; knows which words are surprising
    SceneDecoder                  draws a sentence as a 64x64 picture (decoders/marks.py; decoders/conv.py is the plain one)
    CaptionNetwork                reads a picture back into words; sees nothing but the picture

`algorithm.py` shows how they work together. Shapes: B sentences, T words, V words of vocabulary, C of them
that a word is chosen from while training, D = d_model, K sprites.
A forward pass draws random numbers only from the generator it is given; without one it is deterministic.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from decoders.conv import ConvSceneDecoder
from decoders.line import LineSceneDecoder, grid, middles
from decoders.marks import SceneDecoder
from decoders.objects import ObjectsSceneDecoder
from text.padding import Packing, targets_of
from text.vocabulary import BOS, EOS, PAD
from text.word_sample import ALL_WORDS


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

    ids: torch.Tensor  # (B, T) word numbers
    logits: torch.Tensor  # (B, T + 1, C) the next word, after the start mark and after each word
    cloze: torch.Tensor  # (B, T, C) the word that stands here, from the words before it and the one after it; or None
    roles: torch.Tensor  # (B, T, D) or None, what kind of word stands here, and how many of its kind came before
    words: torch.Tensor  # (B, T, D) each word by itself, blind to its neighbors
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

    SAME_KIND = 0.6  # two words whose kinds have a larger cosine are of one kind
    UNDECIDED = 0.05  # a kind this much weaker (in mean square) than a usual embedding counts as none

    def __init__(self, vocab_size, max_words, d_model=512, n_heads=8, n_layers=6, dropout=0.0, cloze=True):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not a multiple of n_heads {n_heads}")
        self.max_words, self.p = max_words, dropout
        self.embedding = nn.Embedding(vocab_size, d_model)  # shared with the output layer
        self.position = nn.Embedding(max_words + 1, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.has_cloze = cloze
        if cloze:
            self.cloze = nn.Sequential(nn.Linear(2 * d_model, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model))
            self.cloze_norm = nn.LayerNorm(d_model)
            self.role_count = nn.Embedding(max_words + 1, d_model)
        self.to_sentence = nn.Linear(d_model, d_model)
        if cloze:
            nn.init.normal_(self.role_count.weight, std=1.0)
            nn.init.zeros_(self.role_count.weight[0])
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, ids, rng=None, pack=True, sample=ALL_WORDS):
        """ids (B, T) word numbers padded with PAD -> TextState. Raises ValueError for T > max_words.

        What stands at padding means nothing. Without `pack` padding is computed like words. The C words that a word is chosen
        from are all V, or those of a `sample`.
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
        table = sample.rows(self.embedding.weight)  # (C, D)
        logits = tokens.unpack(sample.weighted((x @ table.T).float()))  # (B, T + 1, C)
        x = tokens.unpack(x)  # (B, T + 1, D)
        mask = (ids != PAD).float()  # (B, T)
        surprisal = F.cross_entropy(logits[:, :-1].detach().transpose(1, 2), sample.numbers(ids), reduction="none") * mask
        mean = (x[:, 1:] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)  # (B, D)
        cloze = roles = None
        if self.has_cloze:
            following = self.embedding(words.pack(targets_of(ids)[:, 1:]))  # (N', D) the word after each word
            guess = self.cloze_norm(self.cloze(torch.cat([words.pack(x[:, :-1]), following.to(x.dtype)], -1)))  # (N', D)
            cloze = words.unpack(sample.weighted((guess @ table.T).float()))  # (B, T, C)
            with torch.autocast(ids.device.type, enabled=False):
                roles = self.roles(cloze.detach(), mask, table.float())  # (B, T, D)
        return TextState(ids, logits, cloze, roles, self.embedding(ids), surprisal, self.to_sentence(mean), attention)

    def roles(self, cloze, mask, embedding=None):
        """Which words could replace each word, and how many words of that kind came before.

        cloze (B, T, C), mask (B, T) float, embedding (C, D), by default of all words -> (B, T, D). The kind of a word is the mean embedding of all words that fit in
        its place. It is near 0 as long as every word fits, so that layout waits until there are kinds. No role is computed
        from the word itself.
        """
        embedding = self.embedding.weight.float() if embedding is None else embedding
        kinds = cloze.softmax(-1) @ embedding - embedding.mean(0)  # (B, T, D)
        usual = (embedding - embedding.mean(0)).detach().square().sum(1).mean()
        kinds = kinds / torch.sqrt(kinds.square().sum(-1, keepdim=True) + self.UNDECIDED * usual)
        same = (
            torch.sigmoid(12 * (kinds @ kinds.transpose(1, 2) - self.SAME_KIND)).detach() * mask[:, None]
        )  # (B, T, T), 1 for one kind
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
# Caption network
# ---------------------------------------------------------------------------------------------


def words_before(ids, word_dropout=0.0, rng=None):
    """What a captioner is told of the words before each word and the end: (B, T) -> (B, T + 1), some of them PAD instead."""
    inputs = F.pad(ids, (1, 0), value=BOS)
    if rng is not None and word_dropout:
        lost = torch.rand(inputs.shape, device=ids.device, generator=rng) < word_dropout
        inputs = torch.where(lost & (inputs != BOS), PAD, inputs)
    return inputs


class CaptionNetwork(nn.Module):
    """Reads a picture: a CNN that keeps an 8x8 grid of places, an LSTM, and attention over the grid.

    GroupNorm with one group normalizes each picture by itself: nothing leaks between sentences.
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

    def beside(self, gist, places, t):
        """What the LSTM sees beside the word before word number t: (B, 1, hidden)."""
        return gist[:, None]

    def look(self, state, places, t=None, sample=ALL_WORDS):
        """LSTM states (B, T, hidden) look at the grid, places: (keys, values) -> logits (B, T, C), weights (B, heads, T, 64)."""
        seen, weights = attend(split_heads(self.query(state), self.HEADS)[0], *places)
        return self.words(state, join_heads(seen, self.HEADS), sample), weights.unflatten(0, (-1, self.HEADS)).transpose(2, 3)

    def words(self, state, seen, sample=ALL_WORDS):
        """LSTM states and what is looked at, each (..., hidden) -> logits (..., C)."""
        hidden, last = self.out[:-1](torch.cat([state, seen], -1)), self.out[-1]
        return sample.weighted(F.linear(hidden, sample.rows(last.weight), sample.rows(last.bias)).float())

    def forward(self, picture, ids, word_dropout=0.0, rng=None, sample=ALL_WORDS):
        """Pictures and the true words (B, T) -> caption logits (B, T + 1, C), embedding (B, D).

        Position t predicts word t from the picture and the words before it, some of them dropped so that the
        picture is needed.
        """
        gist, *places = self.see(picture)
        inputs = words_before(ids, word_dropout, rng)
        state, _ = self.lstm(torch.cat([self.embedding(inputs), gist[:, None].expand(-1, inputs.shape[1], -1)], -1))
        return self.look(state, places, sample=sample)[0], self.embed(gist)

    @torch.no_grad()
    def read(self, picture, temperature=0.0, rng=None):
        """Pictures (B, 3, 64, 64) -> word numbers (B, max_words + 1), log probability (B,), gaze (B, T, 64).

        Greedy at temperature 0. Words after the end mark are PAD; the log probability is that of the
        words and the end mark under this network.
        """
        gist, *places = self.see(picture)
        word = torch.full((len(picture),), BOS, device=picture.device)
        alive = torch.ones_like(word, dtype=torch.bool)
        memory, words, gaze = None, [], []
        log_prob = torch.zeros(len(picture), device=picture.device)
        for t in range(self.max_words + 1):
            state, memory = self.lstm(torch.cat([self.embedding(word)[:, None], self.beside(gist, places, t)], -1), memory)
            logits, weights = self.look(state, places, t)
            logits = logits[:, 0].index_fill(1, torch.tensor([PAD, BOS], device=word.device), float("-inf"))
            logp = logits.log_softmax(-1)
            word = torch.multinomial((logits / temperature).softmax(-1), 1, generator=rng)[:, 0] if temperature else logp.argmax(-1)
            log_prob += torch.where(alive, logp.gather(1, word[:, None])[:, 0], 0)
            word = torch.where(alive, word, PAD)
            alive = alive & (word != EOS)
            words.append(word)
            gaze.append(weights.mean(1)[:, 0])
        return torch.stack(words, 1), log_prob, torch.stack(gaze, 1)


class LineCaptionNetwork(CaptionNetwork):
    """Reads marks that stand in line: a CNN, a glimpse at the place of each word, and an LSTM.

    At word t it looks at place t. Where that is, is learned, from a start in reading order, and moves with the picture.
    """

    GLIMPSE = 4  # points across and down
    WIDTH = 1.25  # of a glimpse, in places
    REACH = 0.15  # how far the places may move with a picture, as a share of half its side

    def __init__(self, vocab_size, max_words, d_model=512, hidden_dim=256, n_places=25):
        super().__init__(vocab_size, max_words, d_model, hidden_dim)
        a, b = hidden_dim // 6 // 8 * 8, hidden_dim // 3 // 8 * 8
        self.convs = nn.ModuleList([nn.Conv2d(3, a, 5, 2, 2), nn.Conv2d(a, b, 3, 2, 1), nn.Conv2d(b, b, 3, 1, 1)])
        self.norms = nn.ModuleList(nn.GroupNorm(1, n) for n in (a, b, b))
        self.squeeze = nn.Linear(b, 16)
        behind = torch.tensor([[3.0, 3.0]])  # behind the last place there is nothing to see
        self.middles = nn.Parameter(torch.cat([2 * middles(n_places)[:max_words] - 1, behind]))  # (K + 1, 2), x and y in (-1, 1)
        self.to_shift = nn.Linear(hidden_dim, 2)
        nn.init.zeros_(self.to_shift.weight)
        nn.init.zeros_(self.to_shift.bias)
        side = self.WIDTH * 2 / grid(n_places)[1]
        axis = (torch.arange(self.GLIMPSE) - (self.GLIMPSE - 1) / 2) * side / self.GLIMPSE
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("points", torch.stack([x, y], -1).flatten(0, 1), persistent=False)  # (P, 2)
        self.glimpse = nn.Sequential(
            nn.Linear(b * self.GLIMPSE**2, 2 * hidden_dim), nn.GELU(), nn.Linear(2 * hidden_dim, hidden_dim)
        )
        del self.place, self.query, self.key_value  # of the attention over a grid

    def features(self, picture):
        """(B, 3, 64, 64) in [0, 1] -> gist (B, hidden), features (B, c, 16, 16), the middles of all places (B, K + 1, 2)."""
        x = (picture * 2 - 1).contiguous(memory_format=torch.channels_last)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            y = F.gelu(norm(conv(x)))  # 32x32, 16x16, 16x16
            x = x + y if i == 2 else y
        gist = self.to_gist(self.squeeze(F.avg_pool2d(x, 2).flatten(2).transpose(1, 2)).flatten(1))
        return gist, x.float(), self.middles + self.REACH * torch.tanh(self.to_shift(gist).float())[:, None]

    def glimpses(self, features, where, packing):
        """What stands at some places: features (B, c, 16, 16), middles (B, T, 2), Packing of (B, T) -> (N, hidden)."""
        points = where[:, :, None] + self.points  # (B, T, P, 2)
        seen = F.grid_sample(features, points, align_corners=False)  # (B, c, T, P), 0 outside
        return self.glimpse(packing.pack(seen.permute(0, 2, 3, 1).flatten(2)))

    def forward(self, picture, ids, word_dropout=0.0, rng=None, sample=ALL_WORDS):
        """As `CaptionNetwork.forward`."""
        gist, features, where = self.features(picture)
        inputs, here = words_before(ids, word_dropout, rng), Packing(targets_of(ids) != PAD)
        glimpses = self.glimpses(features, where[:, : inputs.shape[1]], here)  # (N, hidden)
        state, _ = self.lstm(torch.cat([self.embedding(inputs), here.unpack(glimpses)], -1))
        return here.unpack(self.words(here.pack(state), glimpses, sample)), self.embed(gist)

    def see(self, picture):
        """(B, 3, 64, 64) in [0, 1] -> gist (B, hidden), glimpses at all places (B, K + 1, hidden), their middles (B, K + 1, 2)."""
        gist, features, where = self.features(picture)
        everywhere = Packing(torch.ones(where.shape[:2], dtype=torch.bool, device=where.device), pack=False)
        return gist, everywhere.unpack(self.glimpses(features, where, everywhere)), where

    def beside(self, gist, places, t):
        """The glimpse at the place of word number t: (B, 1, hidden)."""
        return places[0][:, t : t + 1]

    def look(self, state, places, t=None, sample=ALL_WORDS):
        """An LSTM state (B, 1, hidden) looks at place t -> as `CaptionNetwork.look`; the weights show the cell of an 8x8 grid in
        which the place lies."""
        glimpses, where = (p[:, t : t + 1] for p in places)
        cell = ((where + 1) * 4).long().clamp(0, 7)
        weights = F.one_hot(cell[..., 1] * 8 + cell[..., 0], 64).float()
        return self.words(state, glimpses, sample), weights[:, None]


# ---------------------------------------------------------------------------------------------
# The circle
# ---------------------------------------------------------------------------------------------


class Circle(nn.Module):
    """The three networks together, as settings describe them. The objects decoder needs `WordClasses`."""

    def __init__(self, settings, vocab_size, max_words, word_classes=None):
        super().__init__()
        s, self.word_classes = settings, word_classes
        in_line = s.decoder == "marks" and s.layout == "line"  # needs no kinds of words
        sizes = vocab_size, max_words, s.d_model
        self.language_model = AutoregressiveLanguageModel(*sizes, s.n_heads, s.n_layers, s.dropout, cloze=not in_line)
        if s.decoder == "objects":
            self.scene_decoder = ObjectsSceneDecoder(word_classes, s.d_model, s.hidden_dim, s.z_dim, s.use_vae, s.n_objects)
        elif s.decoder == "conv":
            self.scene_decoder = ConvSceneDecoder(s.d_model, s.hidden_dim, s.z_dim, s.use_vae)
        elif in_line:
            self.scene_decoder = LineSceneDecoder(s.d_model, s.hidden_dim, s.z_dim, s.use_vae, s.n_sprites)
        else:
            self.scene_decoder = SceneDecoder(s.d_model, s.hidden_dim, s.z_dim, s.use_vae, s.n_sprites)
        if in_line:
            self.caption_network = LineCaptionNetwork(*sizes, s.hidden_dim, s.n_sprites)
        else:
            self.caption_network = CaptionNetwork(*sizes, s.hidden_dim)

    @property
    def max_words(self):
        """Words or pieces of the longest sentence that can be drawn."""
        return self.language_model.max_words

    def values_of_words(self):
        """What the words of the vocabulary set in scenes of the objects decoder: {property: values (n, numbers)}, the default
        last, and {property: features (n, F)} (`PropertyNetworks.features`)."""
        decoder = self.scene_decoder
        values = {name: v for name, (_, v) in decoder.values_of_words(self.language_model.embedding.weight).items()}
        return values, {name: decoder.properties.features(name, v) for name, v in values.items()}

    def marks_of_words(self, words):
        """What some words (n,) look like in scenes of marks in line -> masks (n, side, side), colors (n, 3)."""
        return self.scene_decoder.marks_of_words(self.language_model.embedding(words))

    @torch.no_grad()
    def draw(self, ids):
        """Word numbers (B, T) -> Scene, without noise."""
        return self.scene_decoder(self.language_model(ids), ids != PAD)
