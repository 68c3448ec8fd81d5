"""Sentences -> pictures -> PNG files -> captions, and any picture file of a user -> 64x64 RGB."""

from __future__ import annotations

import glob
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps

from channel import round_8bit
from decoders.base import PICTURE_SIZE
from runtime.files import is_lfs_pointer, whole_file
from text.padding import pad
from text.vocabulary import PAD

if TYPE_CHECKING:
    from models import Cycle
    from text.vocabulary import Vocabulary

BATCH = 250  # sentences drawn or read at once: memory does not grow with their number
MAX_PIXELS = 80_000_000  # a larger picture is refused before it is decoded, which would take more than a gigabyte
SIZE = (PICTURE_SIZE, PICTURE_SIZE)
INVENTION = 0.7  # temperature of invented sentences: at 1 a briefly trained model breaks its grammar in one of six


# ---------------------------------------------------------------------------------------------
# Drawing and reading
# ---------------------------------------------------------------------------------------------


def rows_of(vocab: Vocabulary, sentences: Sequence[str], most: int | None = None) -> list[list[int]]:
    """Sentences -> the token ids of their known words, at most `most`; PAD alone if there is none."""
    return [vocab.encode_known(s)[:most] or [PAD] for s in sentences]


def batches_of_ids(
    vocab: Vocabulary, sentences: Sequence[str], device: torch.device | str, most: int | None = None
) -> Iterator[torch.Tensor]:
    """Sentences -> their token ids on a device, (B, T) for at most BATCH sentences at a time. most: as for
    `rows_of`."""
    rows = rows_of(vocab, sentences, most)
    for i in range(0, len(rows), BATCH):
        yield pad(rows[i : i + BATCH]).to(device)


def draw_sentences(
    cycle: Cycle, vocab: Vocabulary, sentences: Sequence[str], device: torch.device | str
) -> torch.Tensor:
    """Sentences -> pictures (n, 3, 64, 64) in [0, 1] with the values of an 8-bit PNG, on the CPU.

    Unknown words, and tokens beyond the longest sentence of the model, are left out.
    """
    batches = batches_of_ids(vocab, sentences, device, cycle.max_tokens)
    parts = [cycle.draw(ids).picture.float().cpu() for ids in batches]
    return round_8bit(torch.cat(parts)) if parts else torch.zeros(0, 3, PICTURE_SIZE, PICTURE_SIZE)


@torch.no_grad()
def codes_of_sentences(
    cycle: Cycle, vocab: Vocabulary, sentences: Sequence[str], device: torch.device | str
) -> list[str]:
    """Sentences -> their scenes written in codes (`decoders/codes.py`), of a model with `Cycle.has_codes`."""
    out = []
    for ids in batches_of_ids(vocab, sentences, device, cycle.max_tokens):
        scene = cycle.draw(ids)
        out += [cycle.scene_decoder.write_codes(scene, ids, row) for row in range(len(ids))]
    return out


def read_pictures(
    cycle: Cycle,
    vocab: Vocabulary,
    pictures: torch.Tensor,
    device: torch.device | str,
    temperature: float = 0.0,
    rng: torch.Generator | None = None,
) -> tuple[list[str], list[float]]:
    """Pictures (n, 3, 64, 64) in [0, 1] -> captions, their log probabilities in nats.

    Greedy at a temperature below 1e-6; above it words are drawn from `rng`.
    """
    captions = []
    log_probs = []
    for part in pictures.split(BATCH) if len(pictures) else ():
        reading = cycle.caption_network.read(part.to(device), temperature, rng)
        captions += [vocab.decode(row) for row in reading.ids.tolist()]
        log_probs += reading.log_prob.tolist()
    return captions, log_probs


def to_image(picture: torch.Tensor) -> Image.Image:
    """A picture (3, h, w) in [0, 1] -> an 8-bit RGB Pillow image."""
    array = (picture.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(array.permute(1, 2, 0).numpy()))


def from_image(image: Image.Image) -> torch.Tensor:
    """An 8-bit RGB Pillow image of 64x64 -> (3, 64, 64) in [0, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"), np.float32)).permute(2, 0, 1) / 255


def png_bytes(image: Image.Image) -> bytes:
    """A Pillow image -> the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def save_pngs(pictures: torch.Tensor, folder: Path | str, start: int = 0) -> list[str]:
    """Pictures (n, 3, 64, 64) -> folder/00000.png ..., numbered from `start` -> the paths. Raises OSError."""
    paths = [os.path.join(folder, f"{start + i:05d}.png") for i in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        with whole_file(path, durable=False) as f:
            f.write(png_bytes(to_image(picture)))
    return paths


def load_pngs(paths: Sequence[Path | str]) -> torch.Tensor:
    """Files of 64x64 pictures -> (n, 3, 64, 64) in [0, 1]."""
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(from_image(image))
    return torch.stack(pictures) if pictures else torch.zeros(0, 3, PICTURE_SIZE, PICTURE_SIZE)


def through_png(
    cycle: Cycle, vocab: Vocabulary, sentences: Sequence[str], device: torch.device | str, folder: Path | str
) -> tuple[torch.Tensor, list[str]]:
    """Sentences -> PNG files in `folder` -> pictures (n, 3, 64, 64) and captions, both read from the files."""
    paths = save_pngs(draw_sentences(cycle, vocab, sentences, device), folder)
    pictures = load_pngs(paths)
    return pictures, read_pictures(cycle, vocab, pictures, device)[0]


# ---------------------------------------------------------------------------------------------
# Pictures of users
# ---------------------------------------------------------------------------------------------


class PictureError(ValueError):
    """A file that cannot be read as a picture; the message is one line that names the file."""


def picture_files(name: str) -> list[str]:
    """What a user names -> paths: a file; a folder's pictures, in the order of their names; or the matches of a
    pattern.

    Raises PictureError for a folder without pictures and a pattern without matches. A file need not exist.
    """
    if os.path.isdir(name):
        Image.init()
        try:
            entries = [e for e in sorted(os.listdir(name)) if os.path.splitext(e)[1].lower() in Image.EXTENSION]
        except OSError as error:
            raise PictureError(f"{printable(name)} cannot be read ({_reason(error)})") from None
        paths = [os.path.join(name, entry) for entry in entries if not entry.startswith(".")]
        if not paths:
            raise PictureError(f"{printable(name)} is a folder without pictures")
        return paths
    if not os.path.lexists(name) and glob.has_magic(name):  # cmd.exe leaves patterns to the program
        if not (matches := sorted(path for path in glob.glob(name) if not os.path.isdir(path))):
            raise PictureError(f"no file matches {printable(name)}")
        return matches
    return [name]


def printable(path: str) -> str:
    """A path on one line, with control characters escaped.

    >>> printable("a b.png"), printable("a\\nb.png")
    ('a b.png', "'a\\\\nb.png'")
    """
    return path if path.isprintable() else ascii(path)


def open_picture(
    path: str,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    resize: Callable[[Image.Image], Image.Image] | None = None,
) -> Image.Image:
    """A picture file of any size, mode and format -> RGB Pillow image of 64x64.

    name: its name in messages (default: its path); max_pixels: a larger picture is refused before it is decoded;
    resize: a function that makes a Pillow image smaller, instead of to 64x64.

    Of an animation it is the first frame. EXIF orientation and an embedded color profile are applied, transparency
    becomes white, levels of 16 bits are scaled to 8, and the aspect ratio is not kept. A 64x64 RGB file without a
    profile keeps every value. Raises PictureError.
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
            warnings.simplefilter("ignore")  # about metadata
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
        if is_lfs_pointer(path):
            raise PictureError(f"{name} is a Git LFS pointer, not the picture; run git lfs pull") from None
        raise PictureError(f"{name} is in no picture format that is known here; save it as PNG") from None
    except MemoryError:
        raise PictureError(f"{name} does not fit into memory; make it smaller") from None
    except OSError as error:
        raise PictureError(f"{name} cannot be read ({_reason(error)})") from None
    except Exception as error:  # Pillow's readers raise many types for damaged files
        raise PictureError(f"{name} is damaged ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:100]


def _formats() -> list[str]:
    """All formats that Pillow reads but PostScript, which is a program that Pillow would have Ghostscript run."""
    Image.init()
    return [name for name in Image.ID if name != "EPS"]


@contextmanager
def _without_standard_error(image: Image.Image) -> Iterator[None]:
    """Discard standard error while a TIFF is read: libtiff writes its messages there, not through Python."""
    if image.format != "TIFF":
        yield
        return
    former = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(former, 2)
        os.close(former)
        os.close(nowhere)


def as_64x64(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An open Pillow image of any mode -> RGB, 64x64. Raises PictureError, and what Pillow raises."""
    return as_rgb(image, name, max_pixels, _to_square)


def as_rgb(image: Image.Image, name: str, max_pixels: int, resize: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An open Pillow image of any mode -> RGB, as small as `resize` makes it. Raises PictureError, and what Pillow
    raises."""
    width, height = image.size
    if width * height > max_pixels:
        raise PictureError(
            f"{name} has {width} x {height} pixels, more than {max_pixels // 10**6} million; make it smaller"
        )
    if not width * height:
        raise PictureError(f"{name} has no pixels")
    with _without_standard_error(image):
        image.load()
    with suppress(Exception):  # a damaged orientation tag beside sound pixels
        ImageOps.exif_transpose(image, in_place=True)
    profile = image.info.get("icc_profile")
    image = resize(_to_8_bit(image, profile))
    if profile:  # after the image has become small, which is faster
        image = _to_srgb(image, profile)
    if image.mode == "RGBA":  # likewise; the resizing weighs colors by their opacity
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """RGB, RGBA or CMYK with an embedded ICC profile -> the same in sRGB. A profile that cannot be used is ignored."""
    with suppress(Exception):  # littlecms raises many types for damaged profiles
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        colors = image.convert({"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[space])
        converted = ImageCms.profileToProfile(colors, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        shift = np.abs(np.asarray(converted, np.int16) - np.asarray(colors.convert("RGB"), np.int16)).max()
        if shift <= 1:  # the profile is that of sRGB: nothing but rounding errors
            return image
        if image.mode == "RGBA":
            converted.putalpha(image.getchannel("A"))
        return converted
    return image


def _without_border(image: Image.Image) -> Image.Image:
    """Crop a border of one color, up to 32 px and equal on all sides, around a whole multiple of 64x64."""
    width, height = image.size
    if width % 64 != height % 64 or width % 2 or not width % 64:
        return image
    for border in (width % 64 // 2, width % 64 // 2 + 32):
        right, bottom = width - border, height - border
        if border >= min(right, bottom):
            continue
        sides = [(0, 0, width, border), (0, bottom, width, height), (0, 0, border, height), (right, 0, width, height)]
        colors = [image.crop(side).getcolors(1) for side in sides]
        if all(colors) and len({color for [(_, color)] in colors}) == 1:
            return image.crop((border, border, right, bottom))
    return image


def _to_square(image: Image.Image) -> Image.Image:
    image = _without_border(image)
    if image.size == SIZE:
        return image
    # by area if whole pixels make one, so that an enlarged picture is restored exactly
    whole = not (image.width % SIZE[0] or image.height % SIZE[1])
    return image.resize(SIZE, Image.BOX if whole else Image.BICUBIC)


def _to_8_bit(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Any mode -> RGB, RGBA if some of it is transparent, or CMYK if a profile says how to convert it."""
    if image.mode == "CMYK" and profile:
        return image
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


def _scale_levels(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits or floating point -> L, by the range that its file format has."""
    levels = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    if image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
        top = 65535.0
    else:  # unknown: the smallest usual range that holds the brightest level
        ranges = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        top = next((t for t in ranges if levels.max() <= t), 2.0**31)
    return Image.fromarray((levels.clip(0, top) * (255 / top)).round().astype(np.uint8))
