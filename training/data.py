"""What a run trains on, and the unseen sentences that it is validated with."""

import sys
from dataclasses import dataclass
from typing import Any

from data_utils import CaptionsData, GrammarData
from decoders import DECODERS
from decoders.glyphs import GRID_SIZES
from runtime.command_line import UserError
from settings import Settings
from text.grammar import different_sentences
from text.vocabulary import vocabulary_in
from training.resume import FILES
from training.trainer import data_digest

VALIDATION_SEED, FINAL_SEED = 1001, 2002  # seeds of unseen sentences, different from that of the run
VALIDATED, FINAL = 200, 1000  # sentences after an epoch, and at the end; there at most as many as an epoch has


@dataclass
class RunData:
    """The sentences of a run, and its settings with what follows from the sentences filled in."""

    settings: Settings
    training: GrammarData | CaptionsData
    validation: list[str]
    final: list[str]


def open_data(settings: Settings, path: str | None = None, state: dict[str, Any] | None = None) -> RunData:
    """The data of a run. path, state: the checkpoint that it continues from.

    Raises UserError, CaptionsFileError, OSError.
    """
    final = min(FINAL, settings.num_samples)  # a run of a few sentences is not measured for longer than it trains
    if settings.captions_file:
        return _captions(settings, path, state, final)
    count = settings.num_samples
    if settings.fixed_data:
        count = max(1, round(count * settings.train_split))
    data = GrammarData(count, settings.seed, settings.fixed_data)
    decoder = DECODERS[settings.decoder]
    settings = decoder.fit(settings, [data.max_tokens])
    if decoder.max_tokens(settings, data.max_tokens) < data.max_tokens:
        line = (
            f"sentences of the grammar have up to {data.max_tokens} words, and a picture has {settings.n_cells} cells"
        )
        raise UserError(f"{line}; leave out --n_cells and --z_dim, or make them larger")
    return RunData(
        settings,
        data,
        different_sentences(VALIDATED, "val", VALIDATION_SEED),
        different_sentences(final, "test", FINAL_SEED),
    )


def _captions(settings: Settings, path: str | None, state: dict[str, Any] | None, final: int) -> RunData:
    data = _open_captions_file(settings, path, state)
    print("\n".join(data.description()), file=sys.stderr)
    decoder = DECODERS[settings.decoder]
    settings = decoder.fit(settings, data.lengths())
    data.max_tokens = decoder.max_tokens(settings, data.max_tokens)
    unit = "tokens" if settings.tokenizer == "bpe" else "words"
    _warn_of_long_sentences(data, settings, unit)
    unseen = data.test[:final]
    known = sum(map(data.has_trained_words, unseen))
    lines = [
        f"{len(data.vocab)} {unit}, at most {data.max_tokens} in a sentence",
        f"{known} of {len(unseen)} unseen sentences have only words that occur in the training set",
    ]
    if unit == "words":
        lines.append("other words are left out of pictures and cannot come back")
    print("; ".join(lines), file=sys.stderr)
    return RunData(settings, data, data.val[:VALIDATED], unseen)


def _warn_of_long_sentences(data: CaptionsData, settings: Settings, unit: str) -> None:
    """Report how many training sentences are cut at their ends. Raises UserError if most are."""
    cut = int((data.lengths() > data.max_tokens).sum())
    if not cut:
        return
    most = data.max_tokens
    line = (
        f"{cut} of {data.trained} training sentences have more than {most} {unit}, and a picture has no cell for more"
    )
    if cut > data.trained / 2:
        advice = "put shorter sentences on a line"
        if unit == "tokens" and most < GRID_SIZES[-1]:
            advice += ", or give more --n_cells"
        raise UserError(f"{settings.captions_file}: {line}; {advice}")
    print(f"note: {line}; their ends are not drawn, and generate.py refuses such sentences", file=sys.stderr)


def _open_captions_file(settings: Settings, path: str | None, state: dict[str, Any] | None) -> CaptionsData:
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
        others = ", or its --val_file or --test_file," if settings.val_file or settings.test_file else ""
        line = f"--captions_file {settings.captions_file}{others} holds other sentences than {had} did for {path}"
        raise UserError(f"{line}; start a new run")
    return data


def moved(file: str, settings: Settings, path: str) -> str:
    """One line for a file of the run that continues from the checkpoint `path`, if the file is not there."""
    flag = next(name for name in FILES if getattr(settings, name) == file)
    return f"{file}, on which the run of {path} was trained, is not there; if it was moved, name it: --{flag} NEW"
