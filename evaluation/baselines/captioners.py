"""What a model is compared with: a random scene decoder and fresh captioners (the hand-made renderer is in `renderer`).

A `BaselineModel` has the two parts that metrics use of a `models.Cycle` (`draw` and `caption_network`), so that
whatever measures a trained model measures these too.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

import losses
from channel import round_8bit
from data_utils import BOS, PAD, pad
from metrics import exact_match
from models import CaptionNetwork, Cycle
from pictures import rows_of
from text.padding import targets_of
from training.optimizer import warmup_cosine

DRAWN_AT_ONCE = 100  # unseen sentences; memory stays flat
WARMUP = 30  # steps of a fresh captioner
LEARNING_RATE = 1e-3
NOISE = 0.02  # standard deviation, in units of [0, 1]


class BaselineModel:
    """Any scene decoder (`draw`: word ids (B, T) -> Scene) with any captioner, or None. max_words: of a sentence that can be drawn,
    None for any number."""

    def __init__(self, draw, captioner=None, max_words=None):
        self.draw, self.max_words = draw, max_words
        self.caption_network = captioner
        self.scene_decoder = None  # has no parts to look into


def random_model(cycle, vocab, settings, seed, device):
    """A model of the same build with random weights that never learned anything. torch's own random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 7919)
        return Cycle(settings, len(vocab), cycle.language_model.max_words, cycle.word_classes).to(device).eval()


# ---------------------------------------------------------------------------------------------
# Fresh captioners
# ---------------------------------------------------------------------------------------------


class PlainCaptioner(nn.Module):
    """Another build of captioner: strided convolutions, then every word at once, each from the whole picture."""

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
        logp = (
            self.logits(picture)
            .index_fill(2, torch.tensor([PAD, BOS], device=picture.device), float("-inf"))
            .log_softmax(-1)
        )
        best, words = logp.max(-1)
        return words, best.sum(1), torch.full((*words.shape, 64), 1 / 64, device=picture.device)


def narrow_caption_network(vocab_size, max_words):
    """The model's own build of captioner, narrower: d_model 64, hidden_dim 96."""
    return CaptionNetwork(vocab_size, max_words, 64, 96)


CAPTIONERS = {"caption_network": narrow_caption_network, "plain_convolutions": PlainCaptioner}  # id: builder


def fresh_captioner(build, vocab, max_words, seed, device):
    """An untrained captioner of CAPTIONERS, from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 104729)
        return CAPTIONERS[build](len(vocab), max_words).to(device)


def train_captioners(captioners, draw, model, protocol, checks, seed, after_step=None, score=exact_match):
    """Train each of {name: captioner} on the same pictures of a frozen scene decoder.

    draw: word ids (B, T) -> Scene; model: ModelUnderTest, of which the batches, vocabulary and device are used;
    checks: unseen sentences; after_step: called without arguments after each step; score: of sentences and captions. AdamW 1e-3 with 30 steps of warm-up
    and a cosine to 2 %; the pictures have noise of sigma 0.02 and 8 bits.
    -> {name: [(step, score on `checks`)]} after every `protocol.every` steps and the last one.
    """
    optimizers = {
        name: torch.optim.AdamW(c.parameters(), LEARNING_RATE, betas=(0.9, 0.98)) for name, c in captioners.items()
    }
    rng = torch.Generator(model.device).manual_seed(seed)
    unseen = _unseen_pictures(draw, model, checks)
    batch = model.batches(seed)
    curves = {name: [] for name in captioners}
    for step in range(protocol.steps):
        ids = batch(step).to(model.device)  # (B, T)
        with torch.no_grad():  # once for all captioners: drawing costs as much as training the plain one
            picture = draw(ids).picture.float()  # (B, 3, 64, 64) in [0, 1]
            noise = torch.randn(picture.shape, generator=rng, device=model.device)
            picture = round_8bit((picture + NOISE * noise).clamp(0, 1))
        targets = targets_of(ids)  # (B, T + 1)
        for name, captioner in captioners.items():
            loss = losses.token_loss(captioner(picture, ids)[0], targets)
            for group in optimizers[name].param_groups:
                group["lr"] = LEARNING_RATE * warmup_cosine(step, protocol.steps, WARMUP)
            optimizers[name].zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(captioner.parameters(), 1.0)
            optimizers[name].step()
            if (step + 1) % protocol.every == 0 or step + 1 == protocol.steps:
                captions = [model.vocab.decode(row) for row in captioner.read(unseen)[0].tolist()]
                curves[name].append((step + 1, score(checks, captions)))
        if after_step:
            after_step()
    return curves


@torch.no_grad()
def _unseen_pictures(draw, model, sentences):
    """Sentences -> pictures (n, 3, 64, 64) in [0, 1] at 8 bits on the model's device."""
    parts = []
    for start in range(0, len(sentences), DRAWN_AT_ONCE):
        ids = pad(rows_of(model.vocab, sentences[start : start + DRAWN_AT_ONCE], model.max_words)).to(model.device)
        parts.append(draw(ids).picture)
    return round_8bit(torch.cat(parts).float())


CAPTIONER_LABELS = {"caption_network": "caption network", "plain_convolutions": "plain convolutions"}
