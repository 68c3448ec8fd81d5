"""What a run trains on, and the unseen sentences that it is checked with."""

import sys

from data_utils import CaptionsData, GrammarData
from runtime.command_line import UserError
from settings import MOST_PLACES, fit_to_text
from text.grammar import different_sentences
from text.vocabulary import vocabulary_in
from training.resume import FILES
from training.trainer import data_digest

VALIDATION_SEED, FINAL_SEED = 1001, 2002  # seeds of unseen sentences, told apart from the run's own
VALIDATED, FINAL = 200, 1000  # sentences after an epoch, and at the end; there at most as many as an epoch has


def open_data(settings, path=None, state=None):
    """The training data and two lists of unseen sentences: for validation and for the end. path, state: the checkpoint that a
    run goes on from. Raises UserError, CaptionsFileError, OSError."""
    final = min(FINAL, settings.num_samples)  # a run of a few sentences shall not be measured for longer than it trains
    if not settings.captions_file:
        count = (
            max(1, round(settings.num_samples * settings.train_split)) if settings.fixed_data else settings.num_samples
        )
        data = GrammarData(count, settings.seed, settings.fixed_data)
        return (
            data,
            different_sentences(VALIDATED, "val", VALIDATION_SEED),
            different_sentences(final, "test", FINAL_SEED),
        )
    data = _open_captions(settings, path, state)
    print("\n".join(data.description()), file=sys.stderr)
    fit_to_text(settings, data.lengths())
    if settings.decoder == "glyphs" and settings.layout == "line":
        data.max_words = min(data.max_words, settings.n_cells)
    what = "pieces" if settings.tokenizer == "bpe" else "words"
    _tell_what_is_cut(data, settings, what)
    unseen = data.test[:final]
    known = sum(map(data.has_trained_words, unseen))
    print(
        f"{len(data.vocab)} {what}, at most {data.max_words} in a sentence; {known} of {len(unseen)} unseen sentences have only "
        f"words that training shows"
        + ("" if what == "pieces" else "; other words are left out of pictures and cannot come back"),
        file=sys.stderr,
    )
    return data, data.val[:VALIDATED], unseen


def _tell_what_is_cut(data, settings, what):
    """Say how many sentences to train on have no place for their ends. Raises UserError if that are most of them."""
    cut, most = int((data.lengths() > data.max_words).sum()), data.max_words
    if not cut:
        return
    line = f"{cut} of {data.trained} sentences to train on have more than {most} {what}, and a picture has no place for more"
    if cut > data.trained / 2:
        more = ", or give more --n_cells" if what == "pieces" and most < MOST_PLACES else ""
        raise UserError(f"{settings.captions_file}: {line}; put shorter sentences on a line{more}")
    print(f"note: {line}; their ends are not drawn, and generate.py refuses such sentences", file=sys.stderr)


def _open_captions(settings, path, state):
    try:
        data = CaptionsData.of_run(settings, vocabulary_in(state) if state else None, settings.num_samples)
        same = state is None or data_digest(data) == state.get("data")
    except (KeyError, TypeError):  # the checkpoint has no vocabulary
        same = False
    except FileNotFoundError as error:
        if state is None:
            raise
        raise UserError(moved(error.filename, settings, path)) from None
    if not same:
        had = state["settings"]["captions_file"]
        also = ", or its --val_file or --test_file," * bool(settings.val_file or settings.test_file)
        raise UserError(
            f"--captions_file {settings.captions_file}{also} holds other sentences than {had} did for {path}; start a new run"
        )
    return data


def moved(file, settings, path):
    """What to do where a file of the run that is resumed from `path` is not where it was."""
    flag = next(name for name in FILES if getattr(settings, name) == file)
    return f"{file}, on which the run of {path} was trained, is not there; if it was moved, name it: --{flag} NEW"
