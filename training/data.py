"""What a run trains on, and the unseen sentences that it is checked with."""

import sys

from command_line import UserError
from data_utils import CaptionsData, GrammarData, Vocabulary
from text.grammar import different_sentences
from training.resume import FILES
from training.trainer import data_digest

VALIDATION_SEED, FINAL_SEED = 1001, 2002  # seeds of unseen sentences, told apart from the run's own
VALIDATED, FINAL = 200, 1000  # sentences after an epoch, and at the end


def open_data(settings, path=None, state=None):
    """The training data and two lists of unseen sentences: for validation and for the end. path, state: the checkpoint that a
    run goes on from. Raises UserError, CaptionsFileError, OSError."""
    if not settings.captions_file:
        count = max(1, round(settings.num_samples * settings.train_split)) if settings.fixed_data else settings.num_samples
        data = GrammarData(count, settings.seed, settings.fixed_data)
        return data, different_sentences(VALIDATED, "val", VALIDATION_SEED), different_sentences(FINAL, "test", FINAL_SEED)
    try:
        vocab = Vocabulary(state["vocabulary"], state["articles"]) if state else None
        data = CaptionsData.of_run(settings, vocab, settings.num_samples)
        same = state is None or data_digest(data) == state.get("data")
    except (KeyError, TypeError):  # the checkpoint has no vocabulary
        same = False
    except FileNotFoundError as error:
        if state is None:
            raise
        raise UserError(moved(error.filename, settings, path)) from None
    if not same:
        had, also = (
            state["settings"]["captions_file"],
            ", or its --val_file or --test_file," * bool(settings.val_file or settings.test_file),
        )
        raise UserError(
            f"--captions_file {settings.captions_file}{also} holds other sentences than {had} did for {path}; start a new run"
        )
    print("\n".join(data.description()), file=sys.stderr)
    return data, data.val[:VALIDATED], data.test[:FINAL]


def moved(file, settings, path):
    """What to do where a file of the run that is resumed from `path` is not where it was."""
    flag = next(name for name in FILES if getattr(settings, name) == file)
    return f"{file}, on which the run of {path} was trained, is not there; if it was moved, name it: --{flag} NEW"
