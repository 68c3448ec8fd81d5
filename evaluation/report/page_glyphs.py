"""Sheets of the page: the dictionary of glyphs, all in one picture, and the alphabet of a model with codes."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter

import torch
import torch.nn.functional as F

from channel import round_8bit
from decoders.base import PICTURE_SIZE
from evaluation.protocol import ModelUnderTest
from evaluation.report.page_inside import ids_of_word
from models import Cycle
from pictures import BATCH, to_image
from text.vocabulary import SPECIALS
from training.snapshots import data_uri

MOST = 10_000  # entries


def pictures_of_glyphs(cycle: Cycle, ids: list[int], device: torch.device) -> torch.Tensor:
    """The glyphs of token ids, each alone on the background -> (n, 3, side, side) in [0, 1]."""
    decoder = cycle.scene_decoder
    background = torch.sigmoid(decoder.background_logit)[:, None, None]
    out = []
    with torch.no_grad():
        for part in torch.tensor(ids, device=device).split(BATCH):
            masks, colors = decoder.glyphs_of(cycle.language_model.drawn_embedding[part])
            out.append(decoder.coherence(background + masks[:, None] * (colors[..., None, None] - background)).cpu())
    return torch.cat(out)


def mean_glyphs(model: ModelUnderTest, words: list[str]) -> torch.Tensor:
    """n words -> the mean of the glyphs of each, as large as a scene, (n, 3, 64, 64) in [0, 1]."""
    means = [pictures_of_glyphs(model.cycle, ids_of_word(model.vocab, w), model.device).mean(0) for w in words]
    return F.interpolate(torch.stack(means), size=(PICTURE_SIZE, PICTURE_SIZE))


def one_sheet(pictures: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Pictures (n, 3, side, side) -> one (3, h, w) of them all, about as high as wide, and the number of columns."""
    n, _, side, _ = pictures.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    pictures = F.pad(pictures, (0, 0, 0, 0, 0, 0, 0, rows * columns - n)).unflatten(0, (rows, columns))
    return pictures.permute(2, 0, 3, 1, 4).reshape(3, rows * side, columns * side), columns


def jpeg_uri(picture: torch.Tensor) -> str:
    """A picture (3, h, w) in [0, 1] -> data URI of a JPEG, a third of a PNG's size."""
    buffer = io.BytesIO()
    to_image(picture).save(buffer, "JPEG", quality=90, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def named_tokens(model: ModelUnderTest) -> list[tuple[str, str, list[int]]]:
    """[(name, class, token ids)], at most MOST: words of training, the most common first, then other tokens."""
    words, vocab = {}, model.vocab
    for unit in model.data.trained_units():
        words.setdefault(unit.strip(), vocab.encode_unit(unit))
    words = {name: ids for name, ids in words.items() if name and ids}
    alone = {ids[0] for ids in words.values() if len(ids) == 1}
    tokens = [i for i in range(len(SPECIALS), len(vocab)) if i not in alone][: MOST // 2]
    out = [(name, "word", ids) for name, ids in words.items()][: MOST - len(tokens)]
    return out + [(name, "part of words", [i]) for name, i in zip(vocab.names(tokens), tokens)]


def glyph_dictionary(model: ModelUnderTest, readings: dict[str, tuple[int, int, Counter]]) -> tuple[list[dict], dict]:
    """(entries, {"sheet": data URI, "columns": of it, "side": px of a glyph}); an entry's "glyphs" are positions
    (column, row) in the sheet.

    readings: of `page_data.readings_of_words`.
    """
    named = named_tokens(model)
    used = sorted({i for _, _, ids in named for i in ids})
    place = {id: i for i, id in enumerate(used)}
    pictures = pictures_of_glyphs(model.cycle, used, model.device)
    sheet, columns = one_sheet(pictures)
    entries = []
    for name, word_class, ids in named:
        n, right, mistaken = readings.get(name.lower(), (0, 0, None)) if word_class == "word" else (0, 0, None)
        entry = {"word": name, "slot": word_class, "glyphs": [divmod(place[i], columns)[::-1] for i in ids]}
        confused = mistaken.most_common(3) if n else []
        entries.append({**entry, "n": n, "accuracy": right / n if n else None, "confused": confused})
    return entries, {"sheet": jpeg_uri(sheet), "columns": columns, "side": pictures.shape[-1]}


def alphabet_sheet(model: ModelUnderTest, letters: list[dict]) -> list[tuple[str, list[dict]]]:
    """The codes that the section on the alphabet lists, each with its picture -> [(alphabet, [code])]."""
    decoder = model.cycle.scene_decoder
    texts = [decoder.write_code(letter["alphabet"], letter["code"]) for letter in letters]
    pictures = []
    for i in range(0, len(texts), BATCH):
        pictures += list(round_8bit(decoder.draw_codes(texts[i : i + BATCH])[0].cpu()))
    sheet = {}
    for letter, text, picture in zip(letters, texts, pictures):
        sheet.setdefault(letter["alphabet"], []).append({**letter, "text": text, "picture": data_uri(picture)})
    return list(sheet.items())
