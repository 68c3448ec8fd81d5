"""Thousands of damaged and hostile files: each is refused by the error that its reader promises, or read.

FUZZ_CASES=10000 python -m pytest tests/test_fuzz.py runs the long version.
"""

import gzip
import hashlib
import io
import json
import os
import pickle
import signal
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from parrot import blank
from PIL import Image

from checkpoints import CheckpointError, load, load_model, save_export
from data_utils import CaptionsData, CaptionsFileError, read_lines
from pictures import PictureError, open_picture

CASES = int(os.environ.get("FUZZ_CASES", 320))
SECONDS = 20  # one file takes milliseconds; more than this is a hang
LINES = ["a red ball", "", "שלום עולם", "🙂 и ещё", "two words", "x" * 100, "a  b\tc"] * 3


def damage(data, rng, other=b""):
    """A random mutation of some bytes."""
    data = bytearray(data)
    kind = rng.integers(8)
    a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    if kind == 0:
        return bytes(data[:a])
    if kind == 1:
        for at in rng.integers(0, len(data), rng.integers(1, 12)):
            data[at] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.choice([0, 1, 127, 128, 255])
    elif kind == 3:
        data[a:b] = bytes(b - a)
    elif kind == 4:
        data[a:b] = rng.bytes(b - a)
    elif kind == 5:
        data[a:a] = data[a:b]
    elif kind == 6:
        del data[a : min(b, a + 64)]
    else:
        source = other or bytes(data)
        start = int(rng.integers(len(source)))
        data[a : a + 200] = source[start : start + 200]
    return bytes(data)


@contextmanager
def in_time():
    def late(*_):
        raise AssertionError(f"took more than {SECONDS} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    former = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def attempt(action, allowed, path, tally):
    """Only the promised error may escape, on one line that names the file."""
    with in_time():
        try:
            result = action()
        except allowed as error:
            assert "\n" not in str(error) and os.path.basename(path) in str(error)
            tally["refused"] += 1
            return None
    tally["read"] += 1
    return result


def report(name, tally):
    print(f"{name}: {tally['refused']} refused, {tally['read']} read")
    assert tally["refused"] > 0


# ---------------------------------------------------------------------------------------------
# Checkpoints
# ---------------------------------------------------------------------------------------------


def test_damaged_checkpoints(tmp_path):
    rng, tally = np.random.default_rng(0), {"refused": 0, "read": 0}
    whole, path = Path(blank()).read_bytes(), str(tmp_path / "c.pt")
    original = load(blank())["model"]
    for _ in range(CASES // 4):
        mutant = damage(whole, rng)
        Path(path).write_bytes(mutant)
        cycle = attempt(lambda: load_model(path, "cpu")[0], CheckpointError, path, tally)
        if cycle is not None:  # what is read despite a damage is sound: only padding was hit
            assert all(torch.equal(t, original[name]) for name, t in cycle.state_dict().items())
    report("checkpoints", tally)


def test_damaged_pickles_inside_a_sound_archive(tmp_path):
    """Past the checksums, to the reader of the pickle itself."""
    rng, tally = np.random.default_rng(1), {"refused": 0, "read": 0}
    path = str(tmp_path / "c.pt")
    with zipfile.ZipFile(blank()) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    inner = next(name for name in records if name.endswith("data.pkl"))
    for _ in range(CASES // 4):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in records.items():
                archive.writestr(name, damage(data, rng) if name == inner else data)
        attempt(lambda: load_model(path, "cpu"), CheckpointError, path, tally)
    report("pickles", tally)


def test_damaged_exports_whose_hash_fits(tmp_path):
    rng, tally = np.random.default_rng(2), {"refused": 0, "read": 0}
    save_export(tmp_path, load(blank()))
    weights, about = tmp_path / "model.safetensors", tmp_path / "model.json"
    whole, text = weights.read_bytes(), about.read_bytes()
    for case in range(CASES // 4):
        head = 8 + int.from_bytes(whole[:8], "little")  # mostly the header: the rest is plain numbers
        mutant = damage(whole[:head], rng) + whole[head:] if case % 3 else damage(whole, rng)
        weights.write_bytes(mutant)
        description = json.loads(text) | {"sha256": hashlib.sha256(mutant).hexdigest()}
        about.write_bytes(json.dumps(description).encode())
        attempt(lambda: load_model(str(tmp_path), "cpu"), CheckpointError, str(tmp_path), tally)
        weights.write_bytes(whole)
        about.write_bytes(damage(text, rng))
        attempt(lambda: load_model(str(tmp_path), "cpu"), CheckpointError, str(tmp_path), tally)
    report("exports", tally)


class Evil:
    """A pickle that makes a file when it is read by a careless reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("kind", ["plain", "archive", "legacy", "in the weights"])
def test_malicious_pickles_run_nothing(tmp_path, kind):
    trace, path = tmp_path / "trace", tmp_path / "evil.pt"
    evil = Evil(str(trace))
    pickle.loads(pickle.dumps(evil)).close()
    assert trace.exists()  # it is evil indeed
    trace.unlink()
    state = load(blank())
    if kind == "plain":
        path.write_bytes(pickle.dumps({"format": 1, "x": evil}))
    elif kind == "in the weights":
        torch.save({**state, "model": {**state["model"], "x": evil}}, path)
    else:
        torch.save({**state, "x": evil}, path, _use_new_zipfile_serialization=kind == "archive")
    with pytest.raises(CheckpointError):
        load_model(str(path), "cpu")
    assert not trace.exists()


@pytest.mark.parametrize(
    "value",
    [
        None, 3, [], {}, {"format": 1}, {"format": "1"}, {"format": 10**9}, {"format": 1, "settings": 5},
        {"format": 1, "settings": {}}, torch.zeros(3),
        {"format": 1, "settings": {}, "model": [1], "vocabulary": "abc", "articles": 1, "max_tokens": None},
    ],
)  # fmt: skip
def test_foreign_checkpoints(tmp_path, value):
    path = tmp_path / "foreign.pt"
    for new in (True, False):
        torch.save(value, path, _use_new_zipfile_serialization=new)
        with pytest.raises(CheckpointError, match=r"foreign\.pt"):
            load_model(str(path), "cpu")
    path.write_bytes(pickle.dumps(str(value)))
    with pytest.raises(CheckpointError, match=r"foreign\.pt"):
        load_model(str(path), "cpu")


@pytest.mark.parametrize("weight", ["nan", "shape", "missing", "extra", "integer", "no tensor"])
def test_weights_that_do_not_fit(tmp_path, weight):
    state = load(blank())
    name = next(iter(state["model"]))
    tensor = state["model"][name]
    if weight == "missing":
        del state["model"][name]
    elif weight == "extra":
        state["model"]["x"] = tensor
    else:
        kinds = {"nan": tensor * float("nan"), "shape": tensor[:1], "integer": tensor.long(), "no tensor": "x"}
        state["model"][name] = kinds[weight]
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"c\.pt does not fit"):
        load_model(str(tmp_path / "c.pt"), "cpu")


def test_an_archive_that_swells_is_refused(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(blank()) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        target.writestr("archive/data/999", bytes(50_000_000))
    assert path.stat().st_size < 5_000_000
    with pytest.raises(CheckpointError, match=r"bomb\.pt"):
        load(str(path))


# ---------------------------------------------------------------------------------------------
# Pictures and text
# ---------------------------------------------------------------------------------------------


def sound_pictures():
    """Files of many formats, as bytes."""
    x, y = np.meshgrid(np.arange(40), np.arange(30))
    color = Image.fromarray(np.stack([6 * x, 8 * y, 255 - 4 * x], -1).clip(0, 255).astype(np.uint8))
    deep = Image.fromarray((x * y * 50).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    many = {"save_all": True, "append_images": [color.rotate(90)]}
    palette, black = color.convert("P"), color.convert("1")
    wanted = [
        (color, "PNG", {"exif": exif}), (color, "PNG", many), (color.convert("RGBA"), "PNG", {}), (deep, "PNG", {}),
        (palette, "PNG", {"transparency": 3}), (color, "JPEG", {"exif": exif}), (color, "JPEG", {"progressive": True}),
        (color.convert("CMYK"), "JPEG", {}), (color, "GIF", many), (color, "TIFF", many), (deep, "TIFF", {}),
        (color, "TIFF", {"compression": "tiff_lzw"}), (color, "WEBP", {}), (color, "BMP", {}), (color, "ICO", {}),
        (color, "TGA", {"compression": "tga_rle"}), (color, "PPM", {}), (black, "PCX", {}), (color, "SGI", {}), (color, "DDS", {}),
        (color, "JPEG2000", {}), (color, "ICNS", {}), (black, "XBM", {}), (color, "MPO", many),
    ]  # fmt: skip
    out = []
    for image, kind, options in wanted:
        buffer = io.BytesIO()
        try:
            image.save(buffer, kind, **options)
        except (KeyError, OSError):  # this Pillow was built without the format
            continue
        out.append(buffer.getvalue())
    return out


def test_damaged_pictures(tmp_path):
    rng, tally = np.random.default_rng(3), {"refused": 0, "read": 0}
    sound, path = sound_pictures(), str(tmp_path / "picture")
    assert len(sound) > 15
    for data in sound:
        Path(path).write_bytes(data)
        assert open_picture(path).size == (64, 64)
    for case in range(CASES):
        data = damage(sound[case % len(sound)], rng, sound[int(rng.integers(len(sound)))])
        Path(path).write_bytes(data)
        image = attempt(lambda: open_picture(path), PictureError, path, tally)
        assert image is None or (image.size, image.mode) == ((64, 64), "RGB")
    report("pictures", tally)


def test_damaged_text_files(tmp_path):
    rng, tally = np.random.default_rng(4), {"refused": 0, "read": 0}
    sound = [
        end.join(LINES).encode(code) for code in ("utf-8", "utf-8-sig", "utf-16", "utf-32") for end in ("\n", "\r\n")
    ]
    path = str(tmp_path / "captions.txt")
    for case in range(CASES):
        Path(path).write_bytes(damage(sound[case % len(sound)], rng, sound[int(rng.integers(len(sound)))]))
        read = attempt(lambda: [line for line, _ in read_lines(path)], CaptionsFileError, path, tally) or []
        assert not any(sign in line for line in read for sign in "\x00\ufffd")
        data = attempt(lambda: CaptionsData(path, 0), CaptionsFileError, path, tally)
        if data is not None:
            ids = data.batch(0, 0, 8)
            assert ids.max() < len(data.vocab) and data.num_samples + len(data.val) + len(data.test) >= 3
    report("text files", tally)


def sound_formats():
    """A file of each format that captions come in, as bytes."""
    captions = [f'a "red" ball, number {i}' for i in range(9)]
    token = "".join(f"{i // 3}.jpg#{i % 3}\t{c}\n" for i, c in enumerate(captions))
    table = "image,caption\n" + "".join(
        '{}.jpg,"{}"\n'.format(i // 3, c.replace('"', '""')) for i, c in enumerate(captions)
    )
    records = [{"image_id": i // 3, "caption": c} for i, c in enumerate(captions)]
    one_a_line = "".join(json.dumps(r) + "\n" for r in records)
    texts = [
        token,
        table,
        table.replace(",", "\t"),
        one_a_line,
        json.dumps({"annotations": records}),
        json.dumps(records, indent=1),
    ]
    return [text.encode() for text in texts] + [gzip.compress(text.encode(), mtime=0) for text in texts]


def test_damaged_files_of_every_format(tmp_path):
    rng, tally = np.random.default_rng(5), {"refused": 0, "read": 0}
    sound, path = sound_formats(), str(tmp_path / "captions")
    for case in range(CASES):
        Path(path).write_bytes(damage(sound[case % len(sound)], rng, sound[int(rng.integers(len(sound)))]))
        attempt(lambda: CaptionsData(path, 0), CaptionsFileError, path, tally)
    assert tally["read"] > 0
    report("formats", tally)
