"""Real pictures to compare scenes with: a folder of picture files, or photographs that installed packages ship."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from decoders.base import PICTURE_SIZE
from pictures import PictureError, from_image, open_picture, printable
from runtime.command_line import UserError

LEAST = 2  # pictures, for a comparison of halves
LARGEST_SIDE = 2048  # px; larger pictures are scaled down before they are cropped, so that memory stays flat
# Photographs in the installed packages: (package, folder, names). Drawings, plots and second views are left out.
SHIPPED = (
    ("sklearn", "datasets/images", "china.jpg flower.jpg"),
    ("matplotlib", "mpl-data/sample_data", "grace_hopper.jpg"),
    (
        "skimage",
        "data",
        "astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png coins.png grass.png "
        "gravel.png hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png page.png retina.jpg rocket.jpg text.png",
    ),
)


@dataclass
class RealPictures:
    """Square crops of real pictures, made to the size of scenes."""

    source: str  # the folder, or the packages
    folder: str | None  # None for those of packages
    paths: list[str]  # of the readable pictures
    crops: torch.Tensor  # (n, 3, 64, 64) in [0, 1]
    picture_of_crop: np.ndarray  # (n,) indices of paths
    left_out: list[str]  # a line for each file that is no picture, with the reason

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def digest(self) -> str:
        """A digest of the crops."""
        return hashlib.sha256((self.crops * 255).round().byte().numpy().tobytes()).hexdigest()[:16]

    def description(self) -> list[str]:
        """Lines about the pictures for the user."""
        lines = [f"real pictures: {len(self)} crops of {len(self.paths)} pictures, {self.source}"]
        if self.left_out:
            lines.append(f"{len(self.left_out)} files there are left out; the first: {self.left_out[0]}")
        return lines


def shipped_pictures() -> tuple[list[str], list[str]]:
    """(packages that are installed, paths of the photographs that they ship)."""
    packages, paths = [], []
    for package, folder, names in SHIPPED:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        at = Path(spec.origin).parent / folder
        found = [str(at / name) for name in names.split() if (at / name).is_file()]
        packages += [package] if found else []
        paths += found
    return packages, paths


def files_of(folder: str) -> list[str]:
    """Paths of the files in a folder and its subfolders, hidden ones left out, sorted. Raises UserError."""
    if not os.path.isdir(folder):
        what = "is a file" if os.path.exists(folder) else "does not exist"
        raise UserError(f"--real_pictures {folder} {what}; name a folder of pictures")
    paths = []
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [os.path.join(at, name) for name in sorted(names) if not name.startswith(".")]
    if not paths:
        raise UserError(f"--real_pictures {folder} is empty; name a folder of pictures")
    return paths


def open_real_pictures(folder: str | bool, n: int, seed: int) -> RealPictures:
    """About n crops of the pictures in a folder, or of those that packages ship (True).

    Two or more crops of each picture, equally many; of more than n / 2 pictures, n / 2 are chosen at random by the
    seed. Raises UserError.
    """
    rng, left_out = np.random.default_rng([seed, 41]), []
    if folder is True:
        packages, paths = shipped_pictures()
        more = "" if "skimage" in packages else "; more with pip install scikit-image"
        source = f"shipped by {', '.join(packages)}{more}"
    else:
        source, paths = printable(folder), []
        for path in files_of(folder):
            if os.path.splitext(path)[1].lower() in Image.registered_extensions():
                paths.append(path)
            else:
                left_out.append(f"{printable(path)} has no name of a picture")
    paths = [paths[i] for i in sorted(rng.permutation(len(paths))[: n // 2])]
    crops, used, of_each = [], [], -(-n // max(1, len(paths)))
    for path in paths:
        try:
            crops.append(crops_of(open_picture(path, resize=no_larger), of_each, rng))
            used.append(path)
        except PictureError as error:
            left_out.append(str(error))
    if len(used) < LEAST:
        reason = f" (the first of {len(left_out)} others: {left_out[0]})" if left_out else ""
        count = "no picture" if not used else "one picture"
        found = f"{source} holds {count} that can be read{reason}"
        raise UserError(f"--real_pictures: {found}; at least {LEAST} are needed")
    picture_of_crop = np.repeat(np.arange(len(used)), of_each)
    return RealPictures(source, None if folder is True else folder, used, torch.cat(crops), picture_of_crop, left_out)


def no_larger(image: Image.Image) -> Image.Image:
    """A Pillow image with sides of at most 2,048 px."""
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return image


def crops_of(image: Image.Image, n: int, rng: np.random.Generator) -> torch.Tensor:
    """n random square crops of a Pillow image, scaled to 64x64 -> (n, 3, 64, 64) in [0, 1].

    Their sides are between 64 px and the shorter side of the picture, uniform on a logarithmic scale.
    """
    shorter = min(image.size)
    out = []
    for _ in range(n):
        side = shorter * (min(1.0, PICTURE_SIZE / shorter) ** rng.random())
        left, top = (rng.random() * (length - side) for length in image.size)
        box = (left, top, min(left + side, image.width), min(top + side, image.height))
        out.append(from_image(image.resize((PICTURE_SIZE, PICTURE_SIZE), Image.BICUBIC, box)))
    return torch.stack(out)
