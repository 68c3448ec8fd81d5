"""The page's dictionary of a model that writes marks in line: words and pieces with their marks, which stand once in one picture."""

import base64
import io
import math

import torch
import torch.nn.functional as F

from decoders.base import PICTURE_SIZE
from evaluation.report.page_inside import numbers_of
from pictures import BATCH, to_image
from text.vocabulary import SPECIALS

MOST = 10_000  # entries


def has_glyphs(model):
    """Whether each number of a model's vocabulary has one mark wherever it stands."""
    return model.cycle.scene_decoder.draws_glyphs


def pictures_of_glyphs(cycle, numbers, device):
    """The marks of some numbers of the vocabulary, each alone on the ground -> (n, 3, side, side) in [0, 1]."""
    decoder, out = cycle.scene_decoder, []
    ground = torch.sigmoid(decoder.ground_logit)[:, None, None]
    with torch.no_grad():
        for part in torch.tensor(numbers, device=device).split(BATCH):
            masks, colors = cycle.glyphs_of_tokens(part)
            out.append(decoder.coherence(ground + masks[:, None] * (colors[..., None, None] - ground)).cpu())
    return torch.cat(out)


def mean_glyphs(model, words):
    """n words -> the mean of each one's marks, as large as a scene, (n, 3, 64, 64) in [0, 1]."""
    means = [pictures_of_glyphs(model.cycle, numbers_of(model.vocab, w), model.device).mean(0) for w in words]
    return F.interpolate(torch.stack(means), size=(PICTURE_SIZE, PICTURE_SIZE))


def one_sheet(pictures):
    """Pictures (n, 3, side, side) -> one (3, h, w) with all of them row by row, about as high as wide, and how many a row has."""
    n, _, side, _ = pictures.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    pictures = F.pad(pictures, (0, 0, 0, 0, 0, 0, 0, rows * columns - n)).unflatten(0, (rows, columns))
    return pictures.permute(2, 0, 3, 1, 4).reshape(3, rows * side, columns * side), columns


def jpeg_uri(picture):
    """A picture (3, h, w) in [0, 1] -> data URI of a JPEG: a third of a PNG's size, and nobody reads it back."""
    buffer = io.BytesIO()
    to_image(picture).save(buffer, "JPEG", quality=90, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def named_numbers(model):
    """What the dictionary has: [(name, kind, its numbers in the vocabulary)], at most MOST: the words of the training sentences, the
    most common first, and the pieces that are no words, at most half of all."""
    words, vocab = {}, model.vocab
    for unit in model.data.trained_units():
        words.setdefault(unit.strip(), vocab.encode_unit(unit))
    words = {name: numbers for name, numbers in words.items() if name and numbers}
    alone = {numbers[0] for numbers in words.values() if len(numbers) == 1}
    pieces = [i for i in range(len(SPECIALS), len(vocab)) if i not in alone][: MOST // 2]
    out = [(name, "word", numbers) for name, numbers in words.items()][: MOST - len(pieces)]
    return out + [(name, "piece of words", [i]) for name, i in zip(vocab.names(pieces), pieces)]


def glyph_dictionary(model, readings):
    """(entries, {"sheet": data URI, "columns": of it, "side": px of a mark}); an entry's "glyphs" are their places (column, row) in
    the sheet.

    readings: of `page_data.readings_of_words`.
    """
    named = named_numbers(model)
    used = sorted({i for _, _, numbers in named for i in numbers})
    place = {number: i for i, number in enumerate(used)}
    pictures = pictures_of_glyphs(model.cycle, used, model.device)
    sheet, columns = one_sheet(pictures)
    entries = []
    for name, kind, numbers in named:
        n, right, mistaken = readings.get(name.lower(), (0, 0, None)) if kind == "word" else (0, 0, None)
        glyphs = [divmod(place[i], columns)[::-1] for i in numbers]
        accuracy = right / n if n else None
        confused = mistaken.most_common(3) if n else []
        entries.append(
            {"word": name, "slot": kind, "glyphs": glyphs, "n": n, "accuracy": accuracy, "confused": confused}
        )
    return entries, {"sheet": jpeg_uri(sheet), "columns": columns, "side": pictures.shape[-1]}
