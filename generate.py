"""Draw sentences, and read each picture back from its file.

    python generate.py --text "a red ball" "a tiny blue star" --out_dir out
    python generate.py --texts_file sentences.txt --out_dir out
    python generate.py --checkpoint checkpoints/checkpoint_epoch_5.pt --sample 100 --out_dir out
    python generate.py --from_codes "color=3 shape=7 / shape=1 place=4 / ground=2" --out_dir out    after train.py --use_vq

Writes out/00000.png ... (64x64 RGB), out/contact_sheet.png, and out/captions.jsonl with
{"text", "image", "caption", "exact_match"} a line. The same command writes the same bytes.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out

import contextlib
import json
import re
from itertools import islice

import torch

from captions import FORMATS
from captions.lines import shown
from captions.reader import CaptionsReader
from channel import round_8bit
from checkpoints import add_checkpoint_flag, chosen_checkpoint, load_model
from data_utils import UnknownWord, pad
from pictures import BATCH, INVENTION, codes_of_sentences, draw_sentences, load_pngs, read_pictures, save_pngs
from runtime.command_line import SMALLER_MODEL, Parser, exit_code, number, path_name, typed_text
from runtime.devices import choose_device, set_threads
from runtime.files import make_folder, whole_file
from runtime.signals import Interrupted, StopWhenSafe
from text.grammar import FORM, is_like_training
from text.grounding import given_line, grounded_words
from text.vocabulary import normalized
from visualization import layer_sheet, scene_sheet

LIST, SHEET, LAYERS = "captions.jsonl", "contact_sheet.png", "layers.png"
ON_SHEET, IN_LAYERS = 96, 8  # sentences shown on contact_sheet.png and on layers.png


# ---------------------------------------------------------------------------------------------
# Sentences
# ---------------------------------------------------------------------------------------------


def typed_sentences(args):
    """(where, text) of each sentence of --text or --texts_file. Raises OSError, CaptionsFileError."""
    if args.text:
        for number, text in enumerate(args.text, 1):
            yield f"--text {number}", text
    else:
        reader = CaptionsReader(args.texts_file, args.captions_column, args.captions_format)
        for number, caption in enumerate(reader, 1):
            where = reader.where(caption, number)
            if caption.cut:
                raise ValueError(f"{where} is too long; put one sentence on a line")
            yield where, caption.text


def describe_file(args):
    """As what --texts_file is read, and its first sentence. Reads all of it. Raises OSError, CaptionsFileError."""
    reader = CaptionsReader(args.texts_file, args.captions_column, args.captions_format)
    first = ""
    for caption in reader:
        first = first or caption.text
    return f"{args.texts_file} read as {reader.format}; first sentence: {shown(first)}"


def check_sentences(args, vocab, max_words):
    """Look at every sentence before anything is written -> how many there are, and how many lines of a file are empty.

    Raises ValueError that names the first sentence that cannot be drawn.
    """
    usable = empty = 0
    for where, text in typed_sentences(args):
        try:
            length = len(vocab.encode(text))
        except UnknownWord as error:
            raise ValueError(f"{where}: {error}") from None
        if length > max_words:
            what = "pieces" if vocab.is_bpe else "words"
            raise ValueError(f"{where} has {length} {what}; this model draws at most {max_words}")
        if not length and args.text:
            raise ValueError(f"{where} is empty")
        usable, empty = usable + bool(length), empty + (not length)
    if not usable:
        raise ValueError(f"{args.texts_file} holds no sentence; put one on each line")
    return usable, empty


def check_codes(args, cycle, checkpoint):
    """Look at --codes and at every scene of --from_codes before anything is written. Raises ValueError."""
    if (args.codes or args.from_codes) and not cycle.has_codes:
        flag = "--codes" if args.codes else "--from_codes"
        raise ValueError(f"{flag} needs a model with codes, which train.py --use_vq makes; {checkpoint} has none")
    if args.from_codes and args.layers:
        raise ValueError("--layers shows parts over their words, which --from_codes has not; leave one of them out")
    for i, text in enumerate(args.from_codes or [], 1):
        try:
            cycle.scene_decoder.draw_codes([text])
        except ValueError as error:
            raise ValueError(f"--from_codes {i}: {error}") from None


def warn_of_unlike_sentences(args, vocab):
    """Say on standard error which sentences have a form that a model of the grammar was not trained on."""
    texts = [vocab.decode(vocab.encode(text)) for _, text in typed_sentences(args)]
    unlike = [text for text in texts if text and not is_like_training(text)]
    if unlike:
        first = f"{unlike[0]!r}" + (f" and {len(unlike) - 1} more" if len(unlike) > 1 else "")
        print(
            f"note: training shows no sentence of the form of {first}; it may come back as another one", file=sys.stderr
        )
        print(f"      trained on: {FORM}", file=sys.stderr)


def sentences_in_blocks(args, cycle, vocab, device):
    """Lists of up to BATCH sentences: the typed ones, or --sample of them from the language model; or scenes in codes."""
    if args.from_codes:
        for start in range(0, len(args.from_codes), BATCH):
            yield args.from_codes[start : start + BATCH]
    elif args.sample:
        rng = torch.Generator(device).manual_seed(args.seed)
        for start in range(0, args.sample, BATCH):
            ids = cycle.language_model.sample(min(BATCH, args.sample - start), rng, INVENTION)
            yield [vocab.decode(row) for row in ids.tolist()]
    else:
        texts = (text for _, text in typed_sentences(args) if vocab.encode(text))
        while block := list(islice(texts, BATCH)):
            yield block


# ---------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------


def generate(args):
    """The whole command. Returns the exit code. Raises CheckpointError, ValueError, OSError."""
    with StopWhenSafe() as signals:
        device = choose_device(args.device)
        set_threads()
        checkpoint = chosen_checkpoint(args.checkpoint)
        cycle, vocab, settings = load_model(checkpoint, device)
        if args.layers and not cycle.scene_decoder.has_layers:
            raise ValueError(
                f"--layers: {checkpoint} has the {settings.decoder} decoder, which draws in one piece; leave it out"
            )
        check_codes(args, cycle, checkpoint)
        about_file = describe_file(args) if args.texts_file else ""
        total, empty = args.sample or len(args.from_codes or []), 0
        if not total:
            total, empty = check_sentences(args, vocab, cycle.language_model.max_words)
        if not args.sample and not args.from_codes and not settings.captions_file:
            warn_of_unlike_sentences(args, vocab)
        if given := given_line(grounded_words(cycle, vocab), settings.grounding):
            print(f"note: {given}", file=sys.stderr)
        if about_file:
            print(about_file, file=sys.stderr)
        make_folder(args.out_dir)
        remove_earlier(args.out_dir)
        drawn = Drawn(args.out_dir)
        try:
            draw_all(args, cycle, vocab, device, signals, drawn)
        except Interrupted as signal:
            where = f", each is in {drawn.list}" if drawn.count else ""
            print(f"generate.py: interrupted; {drawn.count} of {total} sentences are drawn{where}", file=sys.stderr)
            return 128 + signal.args[0]
    if empty:
        print(f"{empty} empty line(s) of {args.texts_file} skipped")
    first = f" (the first {ON_SHEET})" if drawn.count > ON_SHEET else ""
    sheet = os.path.join(args.out_dir, SHEET)
    print(f"pictures: {paths_shown(args.out_dir, drawn.count)}; together: {sheet}{first}")
    aside = f" ({drawn.verbatim} as typed; capitals, spaces and kinds of quotation marks aside for the rest)"
    as_typed = aside if drawn.verbatim < drawn.exact else ""
    what = (
        "captions have the codes that were typed" if args.from_codes else f"sentences were read back exactly{as_typed}"
    )
    print(f"{drawn.exact} of {drawn.count} {what}; each is in {drawn.list}")
    return 0


class Drawn:
    """What a run has drawn into a folder so far."""

    def __init__(self, folder):
        self.folder, self.list = folder, os.path.join(folder, LIST)
        self.count = self.exact = self.verbatim = 0
        self.pictures, self.labels = [], []  # for the sheet

    def add(self, texts, pictures, captions, matches):
        """Take note of a block of sentences."""
        labels = [
            text if match else f"{text} -> {caption or '(nothing)'}"
            for text, caption, match in zip(texts, captions, matches)
        ]
        self.labels += labels[: ON_SHEET - len(self.labels)]
        if self.count < ON_SHEET:
            self.pictures.append(
                pictures[: ON_SHEET - self.count].clone()
            )  # a view would keep its whole block in memory
        self.count, self.exact = self.count + len(texts), self.exact + sum(matches)
        self.verbatim += sum(text == caption for text, caption in zip(texts, captions))

    def next_paths(self, count):
        """The files of the next pictures."""
        return [os.path.join(self.folder, f"{self.count + i:05d}.png") for i in range(count)]


def draw_all(args, cycle, vocab, device, signals, drawn):
    """Draw each sentence, read it back and list it. Raises Interrupted, OSError, after it has made sure that each picture in the
    folder is listed."""
    rng = torch.Generator(device).manual_seed(args.seed) if args.temperature else None
    stopped, paths = None, []
    with whole_file(drawn.list, "w", encoding="ascii") as out:
        try:
            for texts in sentences_in_blocks(args, cycle, vocab, device):
                paths = drawn.next_paths(len(texts))
                draw_block(args, cycle, vocab, device, signals, drawn, texts, rng, out)
        except (Interrupted, OSError) as error:
            remove(paths)
            if not drawn.count:
                raise
            stopped = error
        scene_sheet(torch.cat(drawn.pictures), drawn.labels, os.path.join(args.out_dir, SHEET))
    if stopped:
        raise stopped


def draw_block(args, cycle, vocab, device, signals, drawn, texts, rng, out):
    """A block of sentences; `out` is the list. Raises Interrupted, OSError."""
    signals.check()
    if args.from_codes:
        pictures, codes = cycle.scene_decoder.draw_codes(texts)
        pictures = round_8bit(pictures.cpu())
    else:
        pictures = draw_sentences(cycle, vocab, texts, device)
        codes = codes_of_sentences(cycle, vocab, texts, device) if cycle.has_codes else None
    signals.check()
    paths = save_pngs(pictures, args.out_dir, drawn.count)
    pictures = load_pngs(paths)
    captions, _ = read_pictures(cycle, vocab, pictures, device, args.temperature, rng)
    signals.check()
    if args.layers and not drawn.count:
        draw_layers(cycle, vocab, texts[:IN_LAYERS], device, os.path.join(args.out_dir, LAYERS))
    if args.from_codes:  # no sentence was typed: the caption is right if it would be drawn with the same codes
        matches = [a == b for a, b in zip(codes, codes_of_sentences(cycle, vocab, captions, device), strict=True)]
    else:
        matches = [
            normalized(c) == normalized(vocab.decode(vocab.encode(text)))
            for text, c in zip(texts, captions, strict=True)
        ]
    for i, (text, path, caption, match) in enumerate(zip(texts, paths, captions, matches, strict=True)):
        row = {
            "text": text,
            "image": os.path.basename(path),
            "caption": caption,
            "exact_match": match,
            "verbatim": caption == text,
        }
        out.write(json.dumps(row | ({"codes": codes[i]} if codes else {})) + "\n")
        if args.codes or args.from_codes:
            print(f"{codes[i]}    {caption if args.from_codes else text}")
    out.flush()  # a killed process leaves a list, by which the next one knows the pictures
    drawn.add(texts, pictures, captions, matches)


def remove_earlier(folder):
    """Remove what an earlier run has left in a folder, so that no picture in it is of other sentences. Raises OSError.

    Pictures are known by its list of them; a process that was killed leaves a list without the last pictures.
    """
    for name in os.listdir(folder):
        killed = re.fullmatch(rf"\.{re.escape(LIST)}\.\d+\.tmp", name)
        if re.fullmatch(r"\.\d{5,}\.png\.\d+\.tmp", name):
            remove([os.path.join(folder, name)])
        elif name == LIST or killed:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
                images = re.findall(r'"image": "(\d{5,}\.png)"', f.read())
            if killed:
                images += [f"{i:05d}.png" for i in range(len(images), len(images) + BATCH)]
            remove(os.path.join(folder, image) for image in [*images, SHEET, LAYERS, name])


def remove(paths):
    """Remove those of some files that are there. Raises OSError."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


@torch.no_grad()
def draw_layers(cycle, vocab, texts, device, path):
    rows = [vocab.encode(text) for text in texts]
    ids = pad(rows).to(device)
    scene = cycle.draw(ids)
    layers = [cycle.scene_decoder.layers(scene, ids, i) for i in range(len(rows))]
    layer_sheet([vocab.names(row) for row in rows], scene.picture, layers, path)


def paths_shown(folder, count):
    first, last = (os.path.join(folder, f"{i:05d}.png") for i in (0, count - 1))
    return first if count == 1 else f"{first} ... {last}"


# ---------------------------------------------------------------------------------------------
# python generate.py
# ---------------------------------------------------------------------------------------------


def parse_arguments(argv):
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
    text = "the column or JSON key of --texts_file that holds the sentences, where there are several"
    parser.add_argument("--captions_column", default="", metavar="NAME", help=text)
    text = "format of --texts_file (default: auto, by the ending of its name); text reads each line as it stands"
    parser.add_argument("--captions_format", choices=FORMATS, default="auto", help=text)
    parser.add_argument(
        "--layers", action="store_true", help=f"also write layers.png: {IN_LAYERS} scenes, each part over its words"
    )
    parser.add_argument("--codes", action="store_true", help="print each scene's codes (models of train.py --use_vq)")
    text = "of reading back: 0 takes the likeliest words, more draws them at random (default: 0)"
    parser.add_argument("--temperature", type=number(float, 0, 100), default=0.0, metavar="X", help=text)
    text = "of whatever is drawn at random (default: 0)"
    parser.add_argument("--seed", type=number(int, 0, 2**63 - 1), default=0, metavar="N", help=text)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ... (default: auto)")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    return exit_code("generate.py", lambda: generate(args), SMALLER_MODEL)


if __name__ == "__main__":
    sys.exit(main())
