"""The three networks of the cycle: text -> scene -> text.

    AutoregressiveLanguageModel   reads and invents sentences; knows which words are surprising
    SceneDecoder                  draws a sentence as a 64x64 picture (decoders/marks.py; decoders/conv.py is the plain one)
    CaptionNetwork                reads a picture back into words; sees nothing but the picture (captioners.py)

`algorithm.py` shows how they work together. Shapes: B sentences, T words, V words of vocabulary, C of them
that a word is chosen from while training, D = d_model, K sprites.
A forward pass draws random numbers only from the generator it is given; without one it is deterministic.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from attention import attend, join_heads, split_heads
from captioners.grid import CaptionNetwork, GlyphCaptionNetwork
from decoders.conv import ConvSceneDecoder
from decoders.glyphs import GlyphSceneDecoder
from decoders.marks import SceneDecoder
from decoders.objects import ObjectsSceneDecoder
from text.padding import PackedRows, Packing, targets_of
from text.vocabulary import BOS, EOS, PAD, SPECIALS
from text.word_sample import ALL_WORDS


def dropout(x, p, rng):
    """Inverted dropout from an explicit generator; the identity without one."""
    if rng is None or p == 0:
        return x
    return x * (torch.rand(x.shape, device=x.device, generator=rng) >= p) / (1 - p)


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
        else:
            # What a word looks like must not follow from the output layer, which moves all rare words the same way
            # (Gao et al. 2019): they would look alike.
            self.alone = nn.Embedding(vocab_size, d_model)
        self.to_sentence = nn.Linear(d_model, d_model)
        if cloze:
            nn.init.normal_(self.role_count.weight, std=1.0)
            nn.init.zeros_(self.role_count.weight[0])
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, ids, rng=None, pack=True, sample=ALL_WORDS, packed=False):
        """ids (B, T) word numbers padded with PAD -> TextState. Raises ValueError for T > max_words.

        What stands at padding means nothing. Without `pack` padding is computed like words. The C words that a word is chosen
        from are all V, or those of a `sample`. With `packed` logits are PackedRows, and surprisal is left out.
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
        logits = sample.weighted((x @ table.T).float())  # (N, C)
        logits = PackedRows(logits, tokens) if packed else tokens.unpack(logits)  # (B, T + 1, C)
        x = tokens.unpack(x)  # (B, T + 1, D)
        mask = (ids != PAD).float()  # (B, T)
        surprisal = None
        if not packed:
            surprisal = (
                F.cross_entropy(logits[:, :-1].detach().transpose(1, 2), sample.numbers(ids), reduction="none") * mask
            )
        mean = (x[:, 1:] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)  # (B, D)
        cloze = roles = None
        if self.has_cloze:
            following = self.embedding(words.pack(targets_of(ids)[:, 1:]))  # (N', D) the word after each word
            guess = self.cloze_norm(
                self.cloze(torch.cat([words.pack(x[:, :-1]), following.to(x.dtype)], -1))
            )  # (N', D)
            cloze = words.unpack(sample.weighted((guess @ table.T).float()))  # (B, T, C)
            with torch.autocast(ids.device.type, enabled=False):
                roles = self.roles(cloze.detach(), mask, table.float())  # (B, T, D)
        return TextState(ids, logits, cloze, roles, self.words_alone(ids), surprisal, self.to_sentence(mean), attention)

    @property
    def table_alone(self):
        """The whole vocabulary by itself, blind to neighbors, (V, D)."""
        return (self.embedding if self.has_cloze else self.alone).weight

    def words_alone(self, ids):
        """Words by themselves: (...) -> (..., D)."""
        return F.embedding(ids, self.table_alone)

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
    def sample(self, n, rng, temperature=1.0, most=None):
        """n invented sentences -> (n, up to max_words) word numbers, padded with PAD; cut after `most` words if it is given."""
        ids = torch.zeros(n, 0, dtype=torch.int64, device=self.embedding.weight.device)
        alive = torch.ones(n, 1, dtype=torch.bool, device=ids.device)
        for _ in range(min(self.max_words, most or self.max_words)):
            logits = self(ids).logits[:, -1] / temperature
            logits[:, [PAD, BOS]] = float("-inf")
            if not ids.shape[1]:
                logits[:, EOS] = float("-inf")  # an empty sentence describes nothing
            word = torch.multinomial(logits.softmax(-1), 1, generator=rng)
            alive &= word != EOS
            ids = torch.cat([ids, torch.where(alive, word, PAD)], 1)
        return ids[:, : max(1, int((ids != PAD).sum(1).max()))]


# ---------------------------------------------------------------------------------------------
# The cycle
# ---------------------------------------------------------------------------------------------


class Cycle(nn.Module):
    """The three networks together, as settings describe them. The objects decoder needs `WordClasses`."""

    def __init__(self, settings, vocab_size, max_words, word_classes=None):
        super().__init__()
        s, self.word_classes = settings, word_classes
        in_line = s.decoder == "glyphs" and s.layout == "line"  # needs no kinds of words
        sizes = vocab_size, max_words, s.d_model
        vq_levels, n_words = s.vq_levels if s.use_vq else "", vocab_size - len(SPECIALS)
        self.language_model = AutoregressiveLanguageModel(*sizes, s.n_heads, s.n_layers, s.dropout, cloze=not in_line)
        if s.decoder == "objects":
            self.scene_decoder = ObjectsSceneDecoder(
                word_classes, s.d_model, s.hidden_dim, s.z_dim, s.use_vae, s.n_objects, s.latent_dropout, vq_levels
            )
        elif s.decoder == "conv":
            self.scene_decoder = ConvSceneDecoder(s.d_model, s.hidden_dim, s.z_dim, s.use_vae)
        elif in_line:
            self.scene_decoder = GlyphSceneDecoder(
                s.d_model, s.hidden_dim, s.z_dim, s.use_vae, s.n_cells, vq_levels, n_words
            )
        else:
            self.scene_decoder = SceneDecoder(
                s.d_model, s.hidden_dim, s.z_dim, s.use_vae, s.n_cells, vq_levels, n_words
            )
        if in_line:
            self.caption_network = GlyphCaptionNetwork(*sizes, s.hidden_dim, s.n_cells)
        else:
            self.caption_network = CaptionNetwork(*sizes, s.hidden_dim)

    @property
    def max_words(self):
        """Words or pieces of the longest sentence that can be drawn."""
        return self.language_model.max_words

    def values_of_words(self):
        """What the words of the vocabulary set in scenes of the objects decoder: {property: values (n, numbers)}, the default
        last, and {what is kept apart: points (n, F)} (`PropertyNetworks.points`)."""
        decoder = self.scene_decoder
        values = {name: v for name, (_, v) in decoder.values_of_words(self.language_model.embedding.weight).items()}
        return values, decoder.properties.points(values)

    def glyphs_of_tokens(self, words):
        """What some words (n,) look like in scenes of marks in line -> masks (n, side, side), colors (n, 3)."""
        return self.scene_decoder.glyphs_of_tokens(self.language_model.words_alone(words))

    @property
    def has_codes(self):
        """Whether scenes are lists of codes (--use_vq)."""
        return bool(getattr(self.scene_decoder, "alphabets", None))

    def commitment(self):
        """How far words are from codes of their own -> [0-dim tensor], one for each alphabet (`Quantizer.commitment`); [] without
        codes."""
        return self.scene_decoder.commitment(self.language_model.table_alone) if self.has_codes else []

    @torch.no_grad()
    def draw(self, ids):
        """Word numbers (B, T) -> Scene, without noise."""
        return self.scene_decoder(self.language_model(ids), ids != PAD)
