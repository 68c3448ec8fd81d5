"""Sentences -> pictures -> PNG files -> captions, and any picture file of a user -> 64x64 RGB."""

import os
import stat
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps

from channel import round_8bit
from decoders.base import PICTURE_SIZE
from runtime.files import whole_file
from text.padding import pad
from text.vocabulary import PAD

BATCH = 250  # sentences drawn or read at once: memory stays flat however many there are
MAX_PIXELS = (
    80_000_000  # a larger picture is refused before it is decoded: its header may lie, and 80 Mpx take a gigabyte
)
SIZE = (PICTURE_SIZE, PICTURE_SIZE)
INVENTION = 0.7  # temperature of invented sentences: at 1 a quickly trained model breaks its grammar in one of six


# ---------------------------------------------------------------------------------------------
# Drawing and reading
# ---------------------------------------------------------------------------------------------


def rows_of(vocab, sentences, most=None):
    """Sentences -> the numbers of their known words, at most `most`; PAD alone where there is none."""
    return [vocab.encode_known(s)[:most] or [PAD] for s in sentences]


def draw_sentences(cycle, vocab, sentences, device):
    """Sentences -> pictures (n, 3, 64, 64) in [0, 1] as a PNG would hold them, on the CPU.

    Words that the model does not know, and what is longer than it draws, are left out.
    """
    rows = rows_of(vocab, sentences, cycle.max_tokens)
    parts = [cycle.draw(pad(rows[i : i + BATCH]).to(device)).picture for i in range(0, len(rows), BATCH)]
    return (
        round_8bit(torch.cat([p.float().cpu() for p in parts]))
        if parts
        else torch.zeros(0, 3, PICTURE_SIZE, PICTURE_SIZE)
    )


@torch.no_grad()
def codes_of_sentences(cycle, vocab, sentences, device):
    """Sentences -> their scenes written in codes (`decoders/codes.py`). The model must have some (`Cycle.has_codes`)."""
    rows, out = rows_of(vocab, sentences, cycle.max_tokens), []
    for part in (rows[i : i + BATCH] for i in range(0, len(rows), BATCH)):
        ids = pad(part).to(device)
        scene = cycle.draw(ids)
        out += [cycle.scene_decoder.write_codes(scene, ids, row) for row in range(len(part))]
    return out


def read_pictures(cycle, vocab, pictures, device, temperature=0.0, rng=None):
    """Pictures (n, 3, 64, 64) in [0, 1] -> captions, log probabilities (n,)."""
    captions, log_probs = [], []
    for part in pictures.split(BATCH) if len(pictures) else ():
        reading = cycle.caption_network.read(part.to(device), temperature, rng)
        captions += [vocab.decode(row) for row in reading.ids.tolist()]
        log_probs += reading.log_prob.tolist()
    return captions, log_probs


def to_image(picture):
    """A picture (3, h, w) in [0, 1] -> an 8-bit RGB Pillow image."""
    array = (picture.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(array.permute(1, 2, 0).numpy()))


def from_image(image):
    """An 8-bit RGB Pillow image of 64x64 -> (3, 64, 64) in [0, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"), np.float32)).permute(2, 0, 1) / 255


def save_pngs(pictures, folder, start=0):
    """Pictures -> folder/00000.png ..., numbered from `start`; returns the paths."""
    paths = [os.path.join(folder, f"{start + i:05d}.png") for i in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        with whole_file(path, durable=False) as f:
            to_image(picture).save(f, "PNG")
    return paths


def load_pngs(paths):
    """Files of 64x64 pictures -> (n, 3, 64, 64) in [0, 1]."""
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(from_image(image))
    return torch.stack(pictures) if pictures else torch.zeros(0, 3, PICTURE_SIZE, PICTURE_SIZE)


def through_png(cycle, vocab, sentences, device, folder):
    """Sentences -> PNG files in `folder` -> captions read from the files; returns pictures, captions."""
    paths = save_pngs(draw_sentences(cycle, vocab, sentences, device), folder)
    pictures = load_pngs(paths)
    return pictures, read_pictures(cycle, vocab, pictures, device)[0]


# ---------------------------------------------------------------------------------------------
# Pictures of users
# ---------------------------------------------------------------------------------------------


class PictureError(ValueError):
    """A file that cannot be read as a picture; the message is one line that names the file."""


def printable(path):
    """A path on one line, whatever is in its name.

    >>> printable("a b.png"), printable("a\\nb.png")
    ('a b.png', "'a\\\\nb.png'")
    """
    return path if path.isprintable() else ascii(path)


def open_picture(path, name=None, max_pixels=MAX_PIXELS, resize=None):
    """A picture file of any size, mode and format -> RGB Pillow image of 64x64.

    name: what messages call it (default: its path); max_pixels: more are refused before anything is decoded; resize: a function
    of a Pillow image that makes it smaller in another way than to 64x64.

    The first frame of an animation, turned as its EXIF says, on white where it is transparent,
    16-bit levels scaled; the sides are squeezed to a square. A 64x64 RGB file keeps every value.
    Raises PictureError.
    """
    name = name or printable(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise PictureError(f"{name} is a folder; name the pictures in it")
        if not stat.S_ISREG(status.st_mode):  # a pipe without a writer would wait for ever
            raise PictureError(f"{name} is no regular file")
        if status.st_size == 0:
            raise PictureError(f"{name} is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no reason to bother anybody
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
                return as_rgb(image, name, max_pixels, resize or _to_square)
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError(f"{name} does not exist") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise PictureError(f"{name} has more than {max_pixels // 10**6} million pixels; make it smaller") from None
    except Image.UnidentifiedImageError:
        raise PictureError(f"{name} is in no picture format that is known here; save it as PNG") from None
    except MemoryError:
        raise PictureError(f"{name} does not fit into memory; make it smaller") from None
    except OSError as error:
        raise PictureError(f"{name} cannot be read ({_reason(error)})") from None
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise PictureError(f"{name} is damaged ({_reason(error)})") from None


def _reason(error):
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:100]


def _formats():
    """All that Pillow knows, less PostScript: that is a program, and would be run by another program."""
    Image.init()
    return [name for name in Image.ID if name != "EPS"]


@contextmanager
def _quiet(wanted):
    """Nothing on standard error: libtiff writes its complaints there, past Python."""
    if not wanted:
        yield
        return
    former, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(former, 2)
        os.close(former)
        os.close(nowhere)


def as_64x64(image, name, max_pixels=MAX_PIXELS):
    """An open Pillow image of any kind -> RGB, 64x64. Raises PictureError, and what Pillow raises."""
    return as_rgb(image, name, max_pixels, _to_square)


def as_rgb(image, name, max_pixels, resize):
    """An open Pillow image of any kind -> RGB, as small as `resize` makes it. Raises PictureError, and what Pillow raises."""
    width, height = image.size
    if width * height > max_pixels:
        raise PictureError(
            f"{name} has {width} x {height} pixels, more than {max_pixels // 10**6} million; make it smaller"
        )
    if not width * height:
        raise PictureError(f"{name} has no pixels")
    with _quiet(image.format == "TIFF"):
        image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # a damaged orientation mark beside sound pixels
        pass
    image = resize(_to_8_bit(image))
    if image.mode == "RGBA":  # after shrinking, which weighs colors by their opacity, so that large ones stay cheap
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_square(image):
    if image.size == SIZE:
        return image
    # by area where whole pixels make one, so that an enlarged picture comes back as it was
    whole = not (image.width % SIZE[0] or image.height % SIZE[1])
    return image.resize(SIZE, Image.BOX if whole else Image.BICUBIC)


def _to_8_bit(image):
    """Any mode -> RGB, or RGBA if some of it is transparent."""
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_levels(image).convert("RGB")
    if image.mode == "LAB":  # Pillow converts it through color profiles only
        return ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale_levels(image):
    """Gray of 16 or 32 bits or floating point -> L, by the range that its kind of file has."""
    levels = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    if image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
        top = 65535.0
    else:  # the header does not say: the smallest usual range that holds the brightest level
        ranges = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        top = next((t for t in ranges if levels.max() <= t), 2.0**31)
    return Image.fromarray((levels.clip(0, top) * (255 / top)).round().astype(np.uint8))
