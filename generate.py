"""Draw sentences, and read each picture back from its file.

    python generate.py --text "a red ball" "a tiny blue star" --out_dir out
    python generate.py --texts_file sentences.txt --out_dir out
    python generate.py --checkpoint checkpoints/checkpoint_epoch_5.pt --sample 100 --out_dir out
    python generate.py --from_codes "color=3 shape=7 / background=2" --out_dir out    after train.py --use_vq

Writes out/00000.png ... (64x64 RGB), out/contact_sheet.png, and out/captions.jsonl with
{"text", "image", "caption", "exact_match"} a line. The same command writes the same bytes. A hidden list beside them,
.visual_language.jsonl, names these files with their hashes: the next command removes them, and no other file.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

import argparse
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from captions import FORMATS
from captions.lines import shown
from captions.reader import CaptionsReader
from channel import round_8bit
from checkpoints import add_checkpoint_flag, chosen_checkpoint, load_model
from data_utils import UnknownWord, Vocabulary, pad
from metrics import is_exact
from models import Cycle
from pictures import (
    BATCH,
    INVENTION,
    codes_of_sentences,
    draw_sentences,
    load_pngs,
    png_bytes,
    read_pictures,
    to_image,
)
from runtime.command_line import SMALLER_MODEL, Parser, exit_code, number, path_name, typed_text
from runtime.devices import choose_device, set_threads
from runtime.outputs import OutputFolder, refuse_inputs
from runtime.signals import Interrupted, StopWhenSafe
from text.grammar import FORM, is_like_training
from text.grounding import grounded_words, grounding_line
from visualization import draw_layer_sheet, draw_scene_sheet

LIST, SHEET, LAYERS = "captions.jsonl", "contact_sheet.png", "layers.png"
NAMES = rf"\d{{5,}}\.png|{re.escape(LIST)}|{re.escape(SHEET)}|{re.escape(LAYERS)}"  # all that this command writes
ON_SHEET, IN_LAYERS = 96, 8  # sentences shown on contact_sheet.png and on layers.png
NAMED_LINES = 20  # too long lines of a file that are named one by one


# ---------------------------------------------------------------------------------------------
# Sentences
# ---------------------------------------------------------------------------------------------


def typed_sentences(args: argparse.Namespace) -> Iterator[tuple[str, str, bool]]:
    """(location, text, whether reading cut it) of each sentence of --text or --texts_file.

    Raises OSError, CaptionsFileError.
    """
    if args.text:
        for i, text in enumerate(args.text, 1):
            yield f"--text {i}", text, False
    else:
        reader = CaptionsReader(args.texts_file, args.captions_column, args.captions_format)
        for i, caption in enumerate(reader, 1):
            yield reader.where(caption, i), caption.text, caption.cut


@dataclass
class Survey:
    """What the sentences are, found before anything is written."""

    count: int = 0  # of sentences to draw
    empty: int = 0  # lines of a file
    too_long: list[str] = field(default_factory=list)  # messages about sentences that are left out
    unlike: list[str] = field(default_factory=list)  # of a form that a model of the grammar was not trained on
    first: str = ""

    def print_notes(self, args: argparse.Namespace) -> None:
        """Print notes on standard error."""
        for message in self.too_long[:NAMED_LINES]:
            print(f"generate.py: {message}", file=sys.stderr)
        if len(self.too_long) > NAMED_LINES:
            print(f"generate.py: {len(self.too_long) - NAMED_LINES} more lines are too long", file=sys.stderr)
        if self.unlike:
            more = f" and {len(self.unlike) - 1} more" if len(self.unlike) > 1 else ""
            what = f"no training sentence has the form of {self.unlike[0]!r}{more}; the caption may be another sentence"
            print(f"note: {what}\n      trained on: {FORM}", file=sys.stderr)
        if args.texts_file and self.count:
            format_ = CaptionsReader(args.texts_file, args.captions_column, args.captions_format).format
            print(f"{args.texts_file} read as {format_}; first sentence: {shown(self.first)}", file=sys.stderr)


def survey(args: argparse.Namespace, vocab: Vocabulary, max_tokens: int, has_grammar: bool) -> Survey:
    """Look at every sentence. Raises ValueError for one that cannot be drawn; a too long line of a file is only
    noted."""
    found = Survey()
    for where, text, is_cut in typed_sentences(args):
        try:
            ids = [] if is_cut else vocab.encode(text)
        except UnknownWord as error:
            raise ValueError(f"{where}: {error}") from None
        if is_cut or len(ids) > max_tokens:
            unit = "tokens" if vocab.is_bpe else "words"
            limit = f"has {len(ids)} {unit}; this model draws at most {max_tokens}"
            message = f"{where} {'is too long; put one sentence on a line' if is_cut else limit}"
            if args.text:
                raise ValueError(message)
            found.too_long.append(message)
        elif ids:
            found.count += 1
            found.first = found.first or text
            if has_grammar and not is_like_training(vocab.decode(ids)):
                found.unlike.append(vocab.decode(ids))
        elif args.text:
            raise ValueError(f"{where} is empty")
        else:
            found.empty += 1
    if not found.count and not found.too_long:
        raise ValueError(f"{args.texts_file} holds no sentence; put one on each line")
    return found


def check_codes(args: argparse.Namespace, cycle: Cycle, checkpoint: str) -> None:
    """Look at --codes and at every scene of --from_codes before anything is written. Raises ValueError."""
    if (args.codes or args.from_codes) and not cycle.has_codes:
        flag = "--codes" if args.codes else "--from_codes"
        raise ValueError(f"{flag} needs a model with codes, which train.py --use_vq makes; {checkpoint} has none")
    if args.from_codes and args.layers:
        raise ValueError(
            "--layers shows parts of a scene with their words, but --from_codes has no words; use one of them"
        )
    for i, text in enumerate(args.from_codes or [], 1):
        try:
            cycle.scene_decoder.draw_codes([text])
        except ValueError as error:
            raise ValueError(f"--from_codes {i}: {error}") from None


def sentences_in_blocks(args: argparse.Namespace, cycle: Cycle, vocab: Vocabulary, device) -> Iterator[list[str]]:
    """Lists of up to BATCH scenes: typed sentences, --sample sentences of the language model, or scenes in codes."""
    if args.from_codes:
        for start in range(0, len(args.from_codes), BATCH):
            yield args.from_codes[start : start + BATCH]
    elif args.sample:
        rng = torch.Generator(device).manual_seed(args.seed)
        for start in range(0, args.sample, BATCH):
            ids = cycle.language_model.sample(min(BATCH, args.sample - start), rng, INVENTION)
            yield [vocab.decode(row) for row in ids.tolist()]
    else:
        complete = (text for _, text, is_cut in typed_sentences(args) if not is_cut)
        texts = (text for text in complete if 0 < len(vocab.encode(text)) <= cycle.max_tokens)
        while block := list(itertools.islice(texts, BATCH)):
            yield block


# ---------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------


class Generation:
    """Draws scenes into a folder, reads them back and lists them."""

    def __init__(self, args: argparse.Namespace, cycle: Cycle, vocab: Vocabulary, device, outputs: OutputFolder):
        self.args = args
        self.cycle = cycle
        self.vocab = vocab
        self.device = device
        self.outputs = outputs
        self.rng = torch.Generator(device).manual_seed(args.seed) if args.temperature else None
        self.count = 0  # pictures that are listed
        self.exact = 0  # of these with an exact match
        self.verbatim = 0  # of these with the same capitals, spaces and quotation marks
        self.pictures: list[torch.Tensor] = []  # of the sheet
        self.labels: list[str] = []

    def run(self, signals: StopWhenSafe) -> None:
        """Draw all. Raises Interrupted and OSError, after it has listed every picture that it leaves in the folder."""
        names: list[str] = []
        stopped = None
        with self.outputs.open(LIST) as out:
            try:
                for texts in sentences_in_blocks(self.args, self.cycle, self.vocab, self.device):
                    names = [f"{self.count + i:05d}.png" for i in range(len(texts))]
                    self._draw_block(texts, names, signals, out)
            except (Interrupted, OSError) as error:
                for name in names:
                    self.outputs.remove(name)
                if not self.count:
                    raise
                stopped = error
            sheet = draw_scene_sheet(torch.cat(self.pictures), self.labels)
            self.outputs.write(SHEET, png_bytes(sheet))
        if stopped:
            raise stopped

    @torch.no_grad()
    def _draw_block(self, texts: list[str], names: list[str], signals: StopWhenSafe, out) -> None:
        signals.check()
        cycle, vocab, device, args = self.cycle, self.vocab, self.device, self.args
        codes = None
        if args.from_codes:
            pictures, codes = cycle.scene_decoder.draw_codes(texts)
            pictures = round_8bit(pictures.cpu())
        else:
            pictures = draw_sentences(cycle, vocab, texts, device)
            if cycle.has_codes:
                codes = codes_of_sentences(cycle, vocab, texts, device)
        signals.check()
        for name, picture in zip(names, pictures, strict=True):
            self.outputs.write(name, png_bytes(to_image(picture)), durable=False)
        pictures = load_pngs([os.path.join(args.out_dir, name) for name in names])
        captions, _ = read_pictures(cycle, vocab, pictures, device, args.temperature, self.rng)
        signals.check()
        if args.layers and not self.count:
            self._write_layers(texts[:IN_LAYERS])
        if args.from_codes:  # without a sentence a caption is right if it is drawn with the same codes
            again = codes_of_sentences(cycle, vocab, captions, device)
            matches = [a == b for a, b in zip(codes, again, strict=True)]
        else:
            known = [vocab.decode(vocab.encode(text)) for text in texts]
            matches = [is_exact(a, b) for a, b in zip(known, captions, strict=True)]
        for i, (text, name, caption, match) in enumerate(zip(texts, names, captions, matches, strict=True)):
            row = {"text": text, "image": name, "caption": caption, "exact_match": match, "verbatim": caption == text}
            if codes:
                row["codes"] = codes[i]
            out.write(json.dumps(row).encode("ascii") + b"\n")
            if args.codes or args.from_codes:
                print(f"{codes[i]}    {caption if args.from_codes else text}")
            if len(self.labels) < ON_SHEET:
                self.labels.append(text if match else f"{text} -> {caption or '(nothing)'}")
            self.exact += match
            self.verbatim += caption == text
        if self.count < ON_SHEET:
            self.pictures.append(
                pictures[: ON_SHEET - self.count].clone()
            )  # a view would keep its whole block in memory
        self.count += len(texts)

    def _write_layers(self, texts: list[str]) -> None:
        rows = [self.vocab.encode(text) for text in texts]
        ids = pad(rows).to(self.device)
        scene = self.cycle.draw(ids)
        layers = [self.cycle.scene_decoder.layers(scene, ids, i) for i in range(len(rows))]
        sheet = draw_layer_sheet([self.vocab.names(row) for row in rows], scene.picture, layers)
        self.outputs.write(LAYERS, png_bytes(sheet))

    def print_result(self) -> None:
        """Print where the pictures are, and how many captions are right."""
        folder = Path(self.args.out_dir)
        last = f" ... {folder / f'{self.count - 1:05d}.png'}" if self.count > 1 else ""
        first_ones = f" (the first {ON_SHEET})" if self.count > ON_SHEET else ""
        print(f"pictures: {folder / '00000.png'}{last}; together: {folder / SHEET}{first_ones}")
        what = "sentences were read back exactly"
        if self.args.from_codes:
            what = "captions have the codes that were typed"
        elif self.verbatim < self.exact:
            what += f" ({self.verbatim} as typed; the others but for capitals, spaces and kinds of quotation marks)"
        print(f"{self.exact} of {self.count} {what}; each is in {folder / LIST}")


def generate(args: argparse.Namespace) -> int:
    """The whole command -> exit code. Raises CheckpointError, UserError, ValueError, OSError."""
    with StopWhenSafe() as signals:
        device = choose_device(args.device)
        set_threads()
        checkpoint = chosen_checkpoint(args.checkpoint)
        refuse_inputs(args.out_dir, NAMES, [args.texts_file, checkpoint])
        cycle, vocab, settings = load_model(checkpoint, device)
        if args.layers and not cycle.scene_decoder.has_layers:
            raise ValueError(
                f"--layers: {checkpoint} has the {settings.decoder} decoder, which draws no layers; leave it out"
            )
        check_codes(args, cycle, checkpoint)
        found = Survey(count=args.sample or len(args.from_codes or []))
        if not found.count:
            found = survey(args, vocab, cycle.max_tokens, not settings.captions_file)
        if given := grounding_line(grounded_words(cycle, vocab), settings.grounding):
            print(f"note: {given}", file=sys.stderr)
        found.print_notes(args)
        if not found.count:
            return 1

        def is_planned(name: str) -> bool:
            if re.fullmatch(r"\d{5,}\.png", name):
                return int(name[:-4]) < found.count
            return name in (LIST, SHEET) or (args.layers and name == LAYERS)

        with OutputFolder(args.out_dir, NAMES, is_planned, args.overwrite) as outputs:
            generation = Generation(args, cycle, vocab, device, outputs)
            try:
                generation.run(signals)
            except Interrupted as signal:
                where = f", each is in {os.path.join(args.out_dir, LIST)}" if generation.count else ""
                what = f"{generation.count} of {found.count} sentences are drawn{where}"
                print(f"generate.py: interrupted; {what}", file=sys.stderr)
                return 128 + signal.args[0]
    if found.empty:
        print(f"{found.empty} empty line(s) of {args.texts_file} skipped")
    generation.print_result()
    return int(bool(found.too_long))


# ---------------------------------------------------------------------------------------------
# python generate.py
# ---------------------------------------------------------------------------------------------


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The flags. Raises SystemExit(2) for a wrong one."""
    parser = Parser("generate.py", __doc__)
    add_checkpoint_flag(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", nargs="+", action="extend", type=typed_text, metavar="T", help="sentences to draw")
    source.add_argument(
        "--texts_file",
        type=path_name,
        metavar="F",
        help="sentences to draw, one a line, or a file of captions as for train.py",
    )
    text = "scenes to draw, written in codes as --codes prints them (models of train.py --use_vq)"
    source.add_argument("--from_codes", nargs="+", action="extend", type=typed_text, metavar="C", help=text)
    source.add_argument(
        "--sample", type=number(int, 1, 10**9), metavar="N", help="draw N sentences that the model invents"
    )
    parser.add_argument(
        "--out_dir", type=path_name, required=True, metavar="D", help="the folder to write; made if it is missing"
    )
    text = "replace files of D that have the names of outputs; other files stay"
    parser.add_argument("--overwrite", action="store_true", help=text)
    text = "the column or JSON key of --texts_file that holds the sentences (default: guessed)"
    parser.add_argument("--captions_column", default="", metavar="NAME", help=text)
    text = "format of --texts_file (default: auto, by the ending of its name); text reads each line as it stands"
    parser.add_argument("--captions_format", choices=FORMATS, default="auto", help=text)
    parser.add_argument(
        "--layers", action="store_true", help=f"also write layers.png: {IN_LAYERS} scenes, each part above its words"
    )
    parser.add_argument("--codes", action="store_true", help="print each scene's codes (models of train.py --use_vq)")
    text = (
        "of the captions: 0 takes the likeliest words, as does a value below 1e-6; above, words are drawn (default: 0)"
    )
    parser.add_argument("--temperature", type=number(float, 0, 100), default=0.0, metavar="X", help=text)
    text = "of all random numbers (default: 0)"
    parser.add_argument("--seed", type=number(int, 0, 2**63 - 1), default=0, metavar="N", help=text)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line -> exit code. Raises SystemExit(2) for a wrong flag."""
    args = parse_arguments(argv)
    return exit_code("generate.py", lambda: generate(args), SMALLER_MODEL)


if __name__ == "__main__":
    sys.exit(main())
