"""Networks that read a picture back into words; they see nothing but the picture.

Shapes: B pictures, T words, V words of vocabulary, C of them that a word is chosen from while training, D = d_model, K places.
A forward pass draws random numbers only from the generator it is given.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from attention import attend, join_heads, split_heads
from decoders.glyphs import grid, middles
from text.padding import PackedRows, Packing, targets_of
from text.vocabulary import BOS, EOS, PAD
from text.word_sample import ALL_WORDS


def words_before(ids, word_dropout=0.0, rng=None, untold=None):
    """What a captioner is told of the words before each word and the end: (B, T) -> (B, T + 1), some of them PAD instead, and
    so are those that the picture does not tell (untold, (B, T) bool)."""
    inputs = F.pad(ids, (1, 0), value=BOS)
    if rng is not None and word_dropout:
        lost = torch.rand(inputs.shape, device=ids.device, generator=rng) < word_dropout
        inputs = torch.where(lost & (inputs != BOS), PAD, inputs)
    return inputs if untold is None else inputs.masked_fill(F.pad(untold, (1, 0)), PAD)


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
        return self.words(state, join_heads(seen, self.HEADS), sample), weights.unflatten(
            0, (-1, self.HEADS)
        ).transpose(2, 3)

    def words(self, state, seen, sample=ALL_WORDS):
        """LSTM states and what is looked at, each (..., hidden) -> logits (..., C)."""
        hidden, last = self.out[:-1](torch.cat([state, seen], -1)), self.out[-1]
        return sample.weighted(F.linear(hidden, sample.rows(last.weight), sample.rows(last.bias)).float())

    def forward(self, picture, ids, word_dropout=0.0, rng=None, untold=None, sample=ALL_WORDS):
        """Pictures and the true words (B, T) -> caption logits (B, T + 1, C), embedding (B, D).

        Position t predicts word t from the picture and the words before it, some of them dropped so that the
        picture is needed.
        """
        gist, *places = self.see(picture)
        inputs = words_before(ids, word_dropout, rng, untold)
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
            state, memory = self.lstm(
                torch.cat([self.embedding(word)[:, None], self.beside(gist, places, t)], -1), memory
            )
            logits, weights = self.look(state, places, t)
            logits = logits[:, 0].index_fill(1, torch.tensor([PAD, BOS], device=word.device), float("-inf"))
            logp = logits.log_softmax(-1)
            word = (
                torch.multinomial((logits / temperature).softmax(-1), 1, generator=rng)[:, 0]
                if temperature
                else logp.argmax(-1)
            )
            log_prob += torch.where(alive, logp.gather(1, word[:, None])[:, 0], 0)
            word = torch.where(alive, word, PAD)
            alive = alive & (word != EOS)
            words.append(word)
            gaze.append(weights.mean(1)[:, 0])
        return torch.stack(words, 1), log_prob, torch.stack(gaze, 1)


class GlyphCaptionNetwork(CaptionNetwork):
    """Reads marks that stand in line: a CNN, a glimpse at the place of each word, and an LSTM.

    At word t it looks at place t. Where that is, is learned, from a start in reading order, and moves with the picture.
    """

    GLIMPSE = 4  # points across and down
    WIDTH = 1.25  # of a glimpse, in places
    REACH = 0.15  # how far the places may move with a picture, as a share of half its side

    def __init__(self, vocab_size, max_words, d_model=512, hidden_dim=256, n_places=25):
        super().__init__(vocab_size, max_words, d_model, hidden_dim)
        a, b = max(8, hidden_dim // 6 // 8 * 8), max(8, hidden_dim // 3 // 8 * 8)
        self.convs = nn.ModuleList([nn.Conv2d(3, a, 5, 2, 2), nn.Conv2d(a, b, 3, 2, 1), nn.Conv2d(b, b, 3, 1, 1)])
        self.norms = nn.ModuleList(nn.GroupNorm(1, n) for n in (a, b, b))
        self.squeeze = nn.Linear(b, 16)
        behind = torch.tensor([[3.0, 3.0]])  # behind the last place there is nothing to see
        self.middles = nn.Parameter(
            torch.cat([2 * middles(n_places)[:max_words] - 1, behind])
        )  # (K + 1, 2), x and y in (-1, 1)
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

    def forward(self, picture, ids, word_dropout=0.0, rng=None, untold=None, sample=ALL_WORDS, packed=False):
        """As `CaptionNetwork.forward`; with `packed` the logits are PackedRows."""
        gist, features, where = self.features(picture)
        inputs, here = words_before(ids, word_dropout, rng, untold), Packing(targets_of(ids) != PAD)
        glimpses = self.glimpses(features, where[:, : inputs.shape[1]], here)  # (N, hidden)
        state, _ = self.lstm(torch.cat([self.embedding(inputs), here.unpack(glimpses)], -1))
        logits = self.words(here.pack(state), glimpses, sample)  # (N, C)
        return PackedRows(logits, here) if packed else here.unpack(logits), self.embed(gist)

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
