"""How well unseen sentences come back: after every epoch, and from PNG files at the end of a run."""

import tempfile
from dataclasses import dataclass

import torch

from metrics import exact_match, verbatim_match, word_accuracy
from pictures import draw_sentences, read_pictures, through_png

BLOCK = 50  # sentences between two looks for a signal


@dataclass
class RoundTrips:
    """Sentences, their pictures (n, 3, 64, 64) and what was read back."""

    sentences: list
    pictures: torch.Tensor
    captions: list
    log_prob: float = 0.0  # mean log probability of the captions, nats

    def __post_init__(self):
        self.exact_match = exact_match(self.sentences, self.captions)
        self.word_accuracy = word_accuracy(self.sentences, self.captions)


def validate(trainer, sentences, signals):
    """Draw sentences and read the pictures back -> RoundTrips. Raises Interrupted."""
    cycle, vocab, device = trainer.cycle, trainer.data.vocab, trainer.device
    pictures, captions, log_probs = [], [], []
    for start in range(0, len(sentences), BLOCK):
        signals.check()
        pictures.append(draw_sentences(cycle, vocab, sentences[start : start + BLOCK], device))
        words, log_prob = read_pictures(cycle, vocab, pictures[-1], device)
        captions += words
        log_probs += log_prob
    return RoundTrips(sentences, torch.cat(pictures), captions, sum(log_probs) / len(log_probs))


def validate_from_files(cycle, vocab, device, sentences, signals):
    """As `validate`, but read from PNG files on disk, as a user would; without log probabilities. Raises Interrupted."""
    pictures, captions = [], []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(sentences), 2 * BLOCK):
            signals.check()
            block = sentences[start : start + 2 * BLOCK]
            drawn, words = through_png(cycle, vocab, block, device, folder)
            pictures.append(drawn)
            captions += words
    return RoundTrips(sentences, torch.cat(pictures), captions)


ENOUGH_STEPS, LITTLE = (
    1000,
    0.5,
)  # steps after which real sentences come back; an exact match that may be for want of steps


def remarks(result, data, steps):
    """What a user should know of the RoundTrips of unseen sentences of a captions file, after so many steps: lines of text."""
    pairs = list(zip(result.sentences, result.captions))
    known = [(a, b) for a, b in pairs if data.has_trained_words(a)]
    lines = []
    if known and len(known) < len(pairs):
        share = 100 * exact_match(*zip(*known))
        lines.append(
            f"exact match on the {len(known)} of {len(pairs)} unseen sentences with only words that training shows: {share:.2f} %"
        )
    if data.vocab.is_bpe:
        lines.append(f"come back as they were typed: {100 * verbatim_match(result.sentences, result.captions):.2f} %")
    else:
        lines.append("capitals, spaces and kinds of quotation marks are not compared; --tokenizer bpe brings them back")
    if result.exact_match < LITTLE and steps < ENOUGH_STEPS:
        lines.append(f"{steps} steps are few: real sentences come back after some {ENOUGH_STEPS}; give more --epochs")
    return lines
