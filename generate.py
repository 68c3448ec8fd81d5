"""Draw sentences, and read each picture back from its file.

    python generate.py --text "a red ball" "a tiny blue star" --out_dir out
    python generate.py --texts_file sentences.txt --out_dir out
    python generate.py --checkpoint checkpoints/checkpoint_epoch_5.pt --sample 100 --out_dir out

Writes out/00000.png ... (64x64 RGB), out/contact_sheet.png, and out/captions.jsonl with
{"text", "image", "caption", "exact_match"} a line. The same command writes the same bytes.
"""

import json
import os
import sys
from itertools import islice

import torch

from checkpoints import add_checkpoint_flag, chosen_checkpoint, load_model
from command_line import SMALLER_MODEL, Parser, exit_code, number, path_name, typed_text
from data_utils import UnknownWord, pad, read_lines
from devices import choose_device, set_threads
from files import whole_file
from pictures import BATCH, INVENTION, draw_sentences, load_pngs, read_pictures, save_pngs
from text.grammar import FORM, is_like_training
from text.vocabulary import normalized
from visualization import layer_sheet, scene_sheet

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
        for number, (line, cut, damaged) in enumerate(read_lines(args.texts_file), 1):
            where = f"{args.texts_file}, line {number}"
            if damaged:
                raise ValueError(f"{where} has characters that are not UTF-8; save the file as UTF-8")
            if cut:
                raise ValueError(f"{where} is too long; put one sentence on a line")
            yield where, line.strip()


def check_sentences(args, vocab, max_words):
    """Look at every sentence before anything is written -> how many lines of a file are empty.

    Raises ValueError that names the first sentence that cannot be drawn.
    """
    usable = empty = 0
    for where, text in typed_sentences(args):
        try:
            length = len(vocab.encode(text))
        except UnknownWord as error:
            raise ValueError(f"{where}: {error}") from None
        if length > max_words:
            what = "pieces" if hasattr(vocab, "merges") else "words"
            raise ValueError(f"{where} has {length} {what}; this model draws at most {max_words}")
        if not length and args.text:
            raise ValueError(f"{where} is empty")
        usable, empty = usable + bool(length), empty + (not length)
    if not usable:
        raise ValueError(f"{args.texts_file} holds no sentence; put one on each line")
    return empty


def warn_of_unlike_sentences(args, vocab):
    """Say on standard error which sentences have a form that a model of the grammar was not trained on."""
    texts = [vocab.decode(vocab.encode(text)) for _, text in typed_sentences(args)]
    unlike = [text for text in texts if text and not is_like_training(text)]
    if unlike:
        first = f"{unlike[0]!r}" + (f" and {len(unlike) - 1} more" if len(unlike) > 1 else "")
        print(f"note: training shows no sentence of the form of {first}; it may come back as another one", file=sys.stderr)
        print(f"      trained on: {FORM}", file=sys.stderr)


def sentences_in_blocks(args, circle, vocab, device):
    """Lists of up to BATCH sentences: the typed ones, or --sample of them from the language model."""
    if args.sample:
        rng = torch.Generator(device).manual_seed(args.seed)
        for start in range(0, args.sample, BATCH):
            ids = circle.language_model.sample(min(BATCH, args.sample - start), rng, INVENTION)
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
    device = choose_device(args.device)
    set_threads()
    checkpoint = chosen_checkpoint(args.checkpoint)
    circle, vocab, settings = load_model(checkpoint, device)
    if args.layers and not hasattr(circle.scene_decoder, "layers"):
        raise ValueError(f"--layers: {checkpoint} has the {settings.decoder} decoder, which draws in one piece; leave it out")
    empty = 0 if args.sample else check_sentences(args, vocab, circle.language_model.max_words)
    if not args.sample and not settings.captions_file:
        warn_of_unlike_sentences(args, vocab)
    os.makedirs(args.out_dir, exist_ok=True)
    rng = torch.Generator(device).manual_seed(args.seed) if args.temperature else None
    done = exact = verbatim = 0
    shown, labels = [], []
    with whole_file(os.path.join(args.out_dir, "captions.jsonl"), "w", encoding="ascii") as out:
        for texts in sentences_in_blocks(args, circle, vocab, device):
            paths = save_pngs(draw_sentences(circle, vocab, texts, device), args.out_dir, done)
            pictures = load_pngs(paths)
            captions, _ = read_pictures(circle, vocab, pictures, device, args.temperature, rng)
            for text, path, caption in zip(texts, paths, captions, strict=True):
                match = normalized(caption) == normalized(vocab.decode(vocab.encode(text)))
                row = {"text": text, "image": os.path.basename(path), "caption": caption, "exact_match": match}
                row["verbatim"] = caption == text
                verbatim += row["verbatim"]
                out.write(json.dumps(row) + "\n")
                exact += match
                labels += [text if match else f"{text} -> {caption or '(nothing)'}"][: ON_SHEET - len(labels)]
            if done < ON_SHEET:
                shown.append(pictures[: ON_SHEET - done].clone())  # a view would keep its whole block in memory
            if args.layers and not done:
                draw_layers(circle, vocab, texts[:IN_LAYERS], device, os.path.join(args.out_dir, "layers.png"))
            done += len(texts)
        scene_sheet(torch.cat(shown), labels, os.path.join(args.out_dir, "contact_sheet.png"))
    if empty:
        print(f"{empty} empty line(s) of {args.texts_file} skipped")
    first = f" (the first {ON_SHEET})" if done > ON_SHEET else ""
    print(f"pictures: {paths_shown(args.out_dir, done)}; together: {os.path.join(args.out_dir, 'contact_sheet.png')}{first}")
    as_typed = (
        f" ({verbatim} as typed; capitals, spaces and kinds of quotation marks aside for the rest)" if verbatim < exact else ""
    )
    print(
        f"{exact} of {done} sentences were read back exactly{as_typed}; each is in {os.path.join(args.out_dir, 'captions.jsonl')}"
    )
    return 0


@torch.no_grad()
def draw_layers(circle, vocab, texts, device, path):
    rows = [vocab.encode(text) for text in texts]
    ids = pad(rows).to(device)
    scene = circle.draw(ids)
    layers = [circle.scene_decoder.layers(scene, ids, i) for i in range(len(rows))]
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
    source.add_argument("--texts_file", metavar="F", help="a text file of sentences to draw, one a line")
    source.add_argument("--sample", type=number(int, 1, 10**9), metavar="N", help="draw N sentences that the model invents")
    parser.add_argument("--out_dir", type=path_name, required=True, metavar="D", help="the folder to write; made if it is missing")
    parser.add_argument(
        "--layers", action="store_true", help=f"also write layers.png: {IN_LAYERS} scenes, each part over its words"
    )
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
