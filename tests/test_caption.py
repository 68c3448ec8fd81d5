"""caption.py and the opening of pictures: every kind that Pillow reads, and every kind of broken file."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from conftest import run_forked, run_unheard
from parrot import KNOWN, parrot
from PIL import Image, ImageCms, ImageOps

import caption
import generate
from pictures import PictureError, as_64x64, open_picture

LEVELS = np.add.outer(np.arange(64), np.arange(64)) * 2  # gray levels 0 ... 252 of a test picture


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with the pictures of KNOWN as 00000.png ..."""
    folder = tmp_path_factory.mktemp("pictures")
    assert generate.main(["--checkpoint", parrot(), "--out_dir", str(folder), "--text", *KNOWN]) == 0
    return folder


def rgb(path):
    return np.array(open_picture(str(path)), np.int16)


def save(image, path, **options):
    image.save(path, **options)
    return path


def color_picture():
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    return Image.fromarray(np.stack([4 * x, 4 * y, 255 - 2 * x - 2 * y], -1).clip(0, 255).astype(np.uint8))


def close(path, want, most=2):
    got = rgb(path)
    assert got.shape == (64, 64, 3)
    return np.abs(got - want).max() <= most


# ---------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------


def test_real_command_keeps_order_and_names_each_bad_file(pictures, tmp_path):
    names = ["a b.png", "new\nline.png", "emoji 🙂.png"]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes((pictures / f"{i:05d}.png").read_bytes())
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    whole = (pictures / "00003.png").read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    bad = ["missing.png", "empty.png", "folder", "pipe.png", "short.png", "no\nsuch.png"]
    done = run_forked("caption.py", "--checkpoint", parrot(), names[0], *bad, *names[1:], "/dev/zero", cwd=tmp_path)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["image"] for r in rows] == names
    assert [r["caption"] for r in rows] == KNOWN[:3]
    assert all(-1 < r["log_prob"] <= 0 for r in rows)
    errors = done.stderr.splitlines()
    assert len(errors) == len(bad) + 1 and done.returncode == 1
    for line, name in zip(errors, [*bad[:-1], "no\\nsuch.png", "/dev/zero"], strict=True):
        assert line.startswith("caption.py: ") and name in line


def test_closed_pipe_is_no_error(pictures, tmp_path):
    done = run_unheard("caption.py", "--checkpoint", parrot(), *[pictures / "00000.png"] * 3, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""


def test_blocks_keep_the_order(pictures, monkeypatch, capsys):
    monkeypatch.setattr(caption, "BLOCK", 3)
    order = [2, 0, 3, 1, 1, 0, 2]
    assert caption.main(["--checkpoint", parrot(), *[str(pictures / f"{i:05d}.png") for i in order]]) == 0
    assert [json.loads(line)["caption"] for line in capsys.readouterr().out.splitlines()] == [KNOWN[i] for i in order]


def test_a_folder_and_a_pattern_are_their_pictures_in_the_order_of_their_names(pictures, tmp_path, capsys):
    for i, name in enumerate(["b.PNG", "a.jpg.png", "c [1].png"]):
        (tmp_path / name).write_bytes((pictures / f"{i:05d}.png").read_bytes())
    for name in ("notes.txt", "._a.png"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    for typed, want in [("", [1, 0, 2]), ("*.png", [1, 2]), ("c [1].png", [2]), ("?.PNG", [0])]:
        assert caption.main(["--checkpoint", parrot(), str(tmp_path / typed) if typed else str(tmp_path)]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [r["caption"] for r in rows] == [KNOWN[i] for i in want], typed
    for typed, says in [("*.gif", "no file matches"), ("sub", "is a folder without pictures")]:
        assert caption.main(["--checkpoint", parrot(), str(tmp_path / typed), str(tmp_path / "b.PNG")]) == 1
        out, err = capsys.readouterr()
        assert says in err and err.count("\n") == 1 and json.loads(out)["caption"] == KNOWN[0]


def test_missing_checkpoint_is_one_line(pictures, capsys):
    assert caption.main(["--checkpoint", "nowhere.pt", str(pictures / "00000.png")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("caption.py: nowhere.pt does not exist") and err.count("\n") == 1


def test_captions_survive_enlarging_and_other_files(pictures, tmp_path, capsys):
    paths = []
    for i in range(len(KNOWN)):
        with Image.open(pictures / f"{i:05d}.png") as image:
            paths.append(save(image.resize((256, 256), Image.NEAREST), tmp_path / f"{i}big.png"))
            paths.append(save(image.resize((192, 128), Image.NEAREST), tmp_path / f"{i}.tiff"))
            paths.append(save(image, tmp_path / f"{i}.webp", lossless=True))
            paths.append(save(image, tmp_path / f"{i}.bmp"))
    assert caption.main(["--checkpoint", parrot(), *map(str, paths)]) == 0
    assert [json.loads(line)["caption"] for line in capsys.readouterr().out.splitlines()] == [
        k for k in KNOWN for _ in range(4)
    ]


# ---------------------------------------------------------------------------------------------
# Modes and sizes
# ---------------------------------------------------------------------------------------------


def test_64x64_rgb_keeps_every_value(tmp_path):
    image = color_picture()
    assert (rgb(save(image, tmp_path / "a.png")) == np.array(image)).all()


@pytest.mark.parametrize("mode", "1 L P RGB RGBA LA CMYK YCbCr LAB HSV I F I;16 PA RGBX La RGBa".split())
def test_every_mode_of_pillow(mode):
    gray = Image.fromarray(LEVELS.astype(np.uint8))
    if mode in ("I", "F"):
        image = gray.convert(mode)
    elif mode == "I;16":
        image = Image.fromarray((LEVELS * 257).astype(np.uint16))
    elif mode == "LAB":
        planes = np.stack([LEVELS, LEVELS * 0 + 128, LEVELS * 0 + 128], -1).astype(np.uint8)
        image = Image.frombytes("LAB", (64, 64), planes.tobytes())
    elif mode in ("La", "RGBa"):
        image = gray.convert(mode.upper()).convert(mode)
    elif mode in ("P", "PA"):
        image = gray.convert("P").convert(mode)
    else:
        image = gray.convert("RGB").convert(mode)
    assert image.mode == mode
    got = np.array(as_64x64(image, "x"), np.int16)
    assert got.shape == (64, 64, 3)
    # dithering of "1" and the curve of LAB's lightness keep the mean only
    off = abs(got.mean() - LEVELS.mean()) if mode in ("1", "LAB") else np.abs(got - LEVELS[..., None]).max()
    assert off <= (20 if mode in ("1", "LAB") else 3)


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_gray_is_scaled_not_clipped(tmp_path, name):
    assert close(save(Image.fromarray((LEVELS * 257).astype(np.uint16)), tmp_path / name), LEVELS[..., None], 1)


def test_dark_16_bit_stays_dark(tmp_path):
    path = save(Image.fromarray((LEVELS // 2).astype(np.uint16)), tmp_path / "dark.png")  # levels below 127 of 65535
    assert rgb(path).max() <= 1


def test_big_endian_16_bit(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 64 64 65535\n" + (LEVELS * 257).astype(">u2").tobytes())
    assert close(path, LEVELS[..., None], 1)
    image = Image.frombytes("I;16B", (64, 64), (LEVELS * 257).astype(">u2").tobytes())
    assert np.abs(np.array(as_64x64(image, "x"), np.int16) - LEVELS[..., None]).max() <= 1


def test_floating_point_with_holes():
    levels = (LEVELS / 255).astype(np.float32)
    levels[0, :3] = [np.nan, np.inf, -np.inf]
    got = np.array(as_64x64(Image.fromarray(levels), "x"), np.int16)
    assert np.abs(got - LEVELS[..., None])[1:].max() <= 1 and (got[0, :3] == 0).all()


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (200, 100)])
def test_transparency_is_white(tmp_path, size):
    image = color_picture().convert("RGBA").resize(size, Image.NEAREST)
    image.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    got = rgb(save(image, tmp_path / "a.png"))
    assert (got[:, :30] == 255).all() and np.abs(got - np.array(color_picture()))[:, 34:].max() <= 8
    half = Image.new("RGBA", size, (255, 0, 0, 128))
    assert close(save(half, tmp_path / "b.png"), [255, 127, 127])


def test_palette_and_colour_key_transparency(tmp_path):
    indexed = Image.fromarray((LEVELS > 126).astype(np.uint8))
    indexed = Image.frombytes("P", (64, 64), indexed.tobytes())
    indexed.putpalette([200, 10, 10, 10, 10, 200])
    want = np.where((LEVELS > 126)[..., None], [10, 10, 200], 255)
    assert close(save(indexed, tmp_path / "a.png", transparency=0), want)
    assert close(save(indexed, tmp_path / "a.gif", transparency=0), want)
    assert close(save(indexed, tmp_path / "b.png", transparency=bytes([0, 255])), want)
    assert close(save(Image.new("L", (64, 64), 7), tmp_path / "c.png", transparency=7), 255)


def test_cmyk_jpeg(tmp_path):
    image = Image.new("CMYK", (64, 64), (0, 255, 255, 0))
    assert close(save(image, tmp_path / "a.jpg", quality=95), [255, 0, 0], 12)


def test_first_frame_of_an_animation(tmp_path):
    red, blue = (Image.new("RGB", (64, 64), c) for c in ("red", "blue"))
    for name in ("a.gif", "a.png", "a.webp"):
        assert close(save(red, tmp_path / name, save_all=True, append_images=[blue]), [255, 0, 0], 4)


@pytest.mark.parametrize(("orientation", "turn"), [(3, Image.ROTATE_180), (6, Image.ROTATE_270), (8, Image.ROTATE_90)])
def test_exif_rotation(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(color_picture(), tmp_path / "a.png", exif=exif)
    assert close(path, np.array(color_picture().transpose(turn)), 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (63, 65), (3, 64), (2000, 10)])
def test_odd_sizes(tmp_path, size):
    assert close(save(Image.new("RGB", size, (10, 200, 90)), tmp_path / "a.png"), [10, 200, 90], 1)


def test_shrinking_averages(tmp_path):
    fine = np.indices((512, 512)).sum(0) % 2 * 255  # a checkerboard of single pixels is gray from afar
    assert close(save(Image.fromarray(fine.astype(np.uint8)), tmp_path / "a.png"), 127.5, 1)
    assert close(save(Image.fromarray(fine[:500, :300].astype(np.uint8)), tmp_path / "b.png"), 127.5, 4)


def test_enlarged_by_whole_pixels_comes_back_as_it_was(tmp_path):
    image = color_picture()
    assert close(save(image.resize((320, 192), Image.NEAREST), tmp_path / "a.png"), np.array(image), 0)


@pytest.mark.parametrize("border", [1, 2, 4, 7])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_plain_border_around_an_enlarged_scene_is_cropped(tmp_path, border, mode):
    image = color_picture().convert(mode)
    want = np.array(image.convert("RGB"), np.int16)
    for zoom in (1, 3):
        framed = ImageOps.expand(image.resize((64 * zoom,) * 2, Image.NEAREST), border, fill=0)
        assert close(save(framed, tmp_path / "a.png"), want, 0)


def test_no_other_border_is_cropped():
    image = color_picture()
    for odd in (
        ImageOps.expand(image, (2, 2, 2, 3)),
        ImageOps.expand(image, 32),
        image.resize((68, 68), Image.NEAREST),
    ):
        assert (
            np.array(as_64x64(odd, "x"))
            == np.array(odd.resize((64, 64), Image.BOX if odd.size == (128, 128) else Image.BICUBIC))
        ).all()


# ---------------------------------------------------------------------------------------------
# Color profiles
# ---------------------------------------------------------------------------------------------

# Red, green and blue of each color space in XYZ (D50), and its gamma
PROFILES = {
    "Display P3": ([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]], 2.2),
    "Adobe RGB": ([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]], 2.19921875),
    "ProPhoto RGB": ([[0.79767, 0.13519, 0.03134], [0.28804, 0.71188, 0.00009], [0.0, 0.0, 0.82491]], 1.8),
}
D50 = (0.9642, 1.0, 0.8249)


def fixed(*numbers):
    return struct.pack(f">{len(numbers)}i", *(round(65536 * x) for x in numbers))


def profile_bytes(space, tags):
    """An ICC profile (version 2) of a display; tags: {name: data}."""
    tags = {"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78), "wtpt": xyz(*D50), **tags}
    at, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name.encode() + struct.pack(">II", at + len(body), len(data))
        body += data
    size = struct.pack(">I", at + len(body))
    header = size + b"lcms" + bytes.fromhex("02100000") + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    return header + fixed(*D50) + bytes(48) + struct.pack(">I", len(tags)) + table + body


def xyz(*values):
    return b"XYZ " + bytes(4) + fixed(*values)


def gamma_curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma))


def display_profile(name):
    primaries, gamma = PROFILES[name]
    tags = {f"{c}XYZ": xyz(*column) for c, column in zip("rgb", np.transpose(primaries).tolist())}
    return profile_bytes(b"RGB ", {**tags, **{f"{c}TRC": gamma_curve(gamma) for c in "rgb"}})


def in_profile(image, profile):
    """An sRGB image -> the same colors in another color space, with its profile."""
    srgb, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    out = ImageCms.profileToProfile(image.convert("RGB"), srgb, target, outputMode="RGB")
    if alpha:
        out.putalpha(alpha)
    return out


def muted_picture():
    """Colors that all color spaces hold."""
    return Image.fromarray((np.array(color_picture()) * 0.4 + 80).astype(np.uint8))


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("size", [64, 192])
def test_an_embedded_profile_is_converted_to_srgb(tmp_path, name, size):
    image, profile = muted_picture(), display_profile(name)
    tagged = in_profile(image, profile).resize((size, size), Image.NEAREST)
    assert np.abs(np.array(tagged.resize((64, 64)), np.int16) - np.array(image)).max() > 10
    for kind in ("png", "tiff"):
        assert close(save(tagged, tmp_path / f"a.{kind}", icc_profile=profile), np.array(image, np.int16), 4)
    transparent = tagged.copy()
    transparent.putalpha(128)
    white = (np.array(image, np.int32) * 128 + 255 * 127) // 255
    assert close(save(transparent, tmp_path / "b.png", icc_profile=profile), white, 4)


def test_gray_and_srgb_profiles(tmp_path):
    gray = profile_bytes(b"GRAY", {"kTRC": gamma_curve(1.0)})  # linear light
    image = Image.new("L", (64, 64), 55)
    assert close(save(image, tmp_path / "a.png", icc_profile=gray), [128] * 3, 3)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert close(save(color_picture(), tmp_path / "b.png", icc_profile=srgb), np.array(color_picture()), 0)


@pytest.mark.parametrize("damage", [lambda p: p[:200], lambda p: b"junk" * 50, lambda p: p[:16] + b"CMYK" + p[20:]])
def test_a_broken_profile_is_ignored(tmp_path, damage):
    path = save(color_picture(), tmp_path / "a.png", icc_profile=damage(display_profile("Display P3")))
    assert close(path, np.array(color_picture()), 0)


# ---------------------------------------------------------------------------------------------
# Refusals
# ---------------------------------------------------------------------------------------------


def test_too_many_pixels_are_refused_without_decoding(tmp_path):
    small = save(Image.new("1", (8, 8)), tmp_path / "a.png").read_bytes()
    for side in (9000, 12000, 60000):  # above the own limit, above Pillow's warning, above Pillow's error
        header = b"IHDR" + struct.pack(">II", side, side) + small[24:29]
        (tmp_path / "bomb.png").write_bytes(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])
        with pytest.raises(PictureError, match=r"bomb\.png .*80 million"):
            open_picture(str(tmp_path / "bomb.png"))


def test_postscript_is_not_run(tmp_path):
    save(Image.new("RGB", (64, 64)), tmp_path / "a.eps")
    with pytest.raises(PictureError, match="no picture format"):
        open_picture(str(tmp_path / "a.eps"))


def test_damaged_tiff_is_one_line(tmp_path, capfd):
    whole = save(color_picture(), tmp_path / "a.tiff", compression="tiff_lzw").read_bytes()
    (tmp_path / "a.tiff").write_bytes(
        whole[:1000] + bytes(len(whole) - 1300) + whole[-300:]
    )  # the directory is at the end
    assert caption.main(["--checkpoint", parrot(), str(tmp_path / "a.tiff")]) == 1
    out, err = capfd.readouterr()  # what the C library writes counts too
    assert out == "" and "a.tiff" in err and err.count("\n") == 1


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "tiff", "webp", "ico", "ppm", "tga"])
def test_truncated_files_of_each_format(tmp_path, kind):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = save(image, tmp_path / f"a.{kind}").read_bytes()
    assert rgb(tmp_path / f"a.{kind}").shape == (64, 64, 3)
    (tmp_path / f"b.{kind}").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(PictureError) as error:
        open_picture(str(tmp_path / f"b.{kind}"))
    assert f"b.{kind}" in str(error.value) and "\n" not in str(error.value)
