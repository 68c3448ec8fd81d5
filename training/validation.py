"""How well unseen sentences come back: after every epoch, and from PNG files at the end of a run."""

import tempfile
from dataclasses import dataclass

import torch

from data_utils import CaptionsData
from metrics import exact_match, verbatim_match, word_accuracy
from models import Cycle
from pictures import draw_sentences, read_pictures, through_png
from runtime.signals import StopWhenSafe
from text.vocabulary import Vocabulary
from training.trainer import Trainer

BLOCK = 50  # sentences between two checks for a signal
ENOUGH_STEPS = 1000  # after so many steps sentences of a captions file come back
LOW_MATCH = 0.5  # exact match that more steps may raise


@dataclass
class RoundTrips:
    """Sentences, their pictures (n, 3, 64, 64) in [0, 1] and the captions of these."""

    sentences: list[str]
    pictures: torch.Tensor
    captions: list[str]
    log_prob: float = 0.0  # mean log probability of the captions, nats

    def __post_init__(self) -> None:
        self.exact_match = exact_match(self.sentences, self.captions)
        self.word_accuracy = word_accuracy(self.sentences, self.captions)


def validate(trainer: Trainer, sentences: list[str], signals: StopWhenSafe) -> RoundTrips:
    """Draw sentences and caption the pictures. Raises Interrupted."""
    cycle, vocab, device = trainer.cycle, trainer.data.vocab, trainer.device
    pictures, captions, log_probs = [], [], []
    for start in range(0, len(sentences), BLOCK):
        signals.check()
        pictures.append(draw_sentences(cycle, vocab, sentences[start : start + BLOCK], device))
        words, log_prob = read_pictures(cycle, vocab, pictures[-1], device)
        captions += words
        log_probs += log_prob
    return RoundTrips(sentences, torch.cat(pictures), captions, sum(log_probs) / len(log_probs))


def validate_from_files(
    cycle: Cycle, vocab: Vocabulary, device: torch.device, sentences: list[str], signals: StopWhenSafe
) -> RoundTrips:
    """As `validate`, but the pictures are read from PNG files, and there is no log probability. Raises Interrupted."""
    pictures, captions = [], []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(sentences), 2 * BLOCK):
            signals.check()
            block = sentences[start : start + 2 * BLOCK]
            drawn, words = through_png(cycle, vocab, block, device, folder)
            pictures.append(drawn)
            captions += words
    return RoundTrips(sentences, torch.cat(pictures), captions)


def remarks(result: RoundTrips, data: CaptionsData, steps: int) -> list[str]:
    """Lines on the result for unseen sentences of a captions file, after so many steps."""
    pairs = list(zip(result.sentences, result.captions))
    known = [(a, b) for a, b in pairs if data.has_trained_words(a)]
    lines = []
    if known and len(known) < len(pairs):
        share = 100 * exact_match(*zip(*known))
        subset = f"{len(known)} of {len(pairs)} unseen sentences with only words that occur in the training set"
        lines.append(f"exact match on the {subset}: {share:.2f} %")
    if data.vocab.is_bpe:
        lines.append(f"come back as they were typed: {100 * verbatim_match(result.sentences, result.captions):.2f} %")
    else:
        lines.append("capitals, spaces and kinds of quotation marks are not compared; --tokenizer bpe brings them back")
    if result.exact_match < LOW_MATCH and steps < ENOUGH_STEPS:
        lines.append(f"{steps} steps are few: real sentences come back after some {ENOUGH_STEPS}; give more --epochs")
    return lines
