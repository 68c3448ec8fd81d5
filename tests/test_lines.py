"""Text files of any encoding, packed or not, and what is no text."""

import gzip
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import generate
import train
from data_utils import CaptionsFileError, read_lines
from text import lines


def written(tmp_path, content, name="captions.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def text_of(path):
    return "".join(line for line, _ in read_lines(path)).splitlines()


TEXT = ["ein blaues Öl", "שלום עולם", "🙂 und 日本語", "rot"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_encodings_line_ends_and_gzip(tmp_path, encoding, end, pack):
    assert text_of(written(tmp_path, pack(end.join(TEXT).encode(encoding)))) == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-32-be", "utf-32-le"])
def test_either_order_of_bytes_with_a_mark(tmp_path, encoding):
    assert text_of(written(tmp_path, ("\ufeff" + "\n".join(TEXT)).encode(encoding))) == TEXT


def test_gzip_is_known_by_its_bytes_and_not_by_its_name(tmp_path):
    assert text_of(written(tmp_path, gzip.compress(b"a dog"), "captions.txt")) == ["a dog"]
    assert text_of(written(tmp_path, b"a dog", "captions.txt.gz")) == ["a dog"]


@pytest.mark.parametrize("path", ["/dev/zero", "."])
def test_what_is_no_file_never_hangs(path):
    with pytest.raises(CaptionsFileError, match="not a regular file"):
        next(read_lines(path))


def test_a_line_of_exactly_the_limit_is_not_cut(tmp_path):
    for extra, cut in ((0, False), (1, True)):
        for end in ("", "\n", "\r\n"):
            path = written(tmp_path, " " * (lines.LINE_CHARACTERS - 1 + extra) + "x" + end)
            assert [c for _, c in read_lines(path)] == [cut]


# ---------------------------------------------------------------------------------------------
# Other encodings
# ---------------------------------------------------------------------------------------------

OTHERS = {
    "Windows-1252": ["the bear runs", "Der Bär läuft", "la niña come"],
    "Windows-1251": ["the ball", "красный мяч слева от синего куба"],
    "KOI8-R": ["the ball", "красный мяч слева от синего куба"],
    "CP932": ["赤いボールが左にある", "猫が座っている"],
    "GB18030": ["红色的球在左边", "一只猫坐在桌子上"],
    "Windows-1253": ["ένα κόκκινο αυτοκίνητο"],
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_encoding_is_refused_with_the_line_and_the_likely_encoding(tmp_path, name):
    content = "eine weiße Wand\n".encode() + "\n".join(OTHERS[name]).encode(name)
    number, first = next((i, s) for i, s in enumerate(OTHERS[name], 2) if not s.isascii())
    with pytest.raises(CaptionsFileError) as error:
        text_of(written(tmp_path, content))
    assert f"line {number} is no UTF-8 text (it looks like {name}: {first!r}); save the file as UTF-8" in str(
        error.value
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("der Bär\nläuft".encode("utf-16-le"), "UTF-16-LE without a byte-order mark"),
        ("der Bär\nläuft".encode("utf-16-be"), "UTF-16-BE without a byte-order mark"),
        ("a dog\nder B\ufffdr\n".encode(), "line 2 has the character U\\+FFFD"),
        (b"a dog\nthe \0 cat\n", "line 2 has NUL characters"),
        (("\ufeff" + "a dog\n" * 9).encode("utf-16-le")[:-1], "line 9 is no UTF-16 text"),
        (gzip.compress(b"a dog runs\n" * 500, mtime=0)[:-9], "is a damaged gzip file"),
        (
            gzip.compress(bytes(np.random.default_rng(0).integers(97, 123, 9999, np.uint8)), mtime=0)[:-4000],
            "is a damaged gzip file",
        ),
    ],
)
def test_damage_is_named(tmp_path, content, says):
    with pytest.raises(CaptionsFileError, match=says):
        text_of(written(tmp_path, content))


def test_train_and_generate_refuse_the_same_file_with_the_same_words(tmp_path, monkeypatch, capsys):
    from parrot import parrot

    monkeypatch.chdir(tmp_path)
    written(tmp_path, b"the bear runs\nDer B\xe4r l\xe4uft\na dog sits\nthe dog runs\n")
    assert train.main(["--captions_file", "captions.txt"]) == 1
    assert generate.main(["--checkpoint", parrot(), "--texts_file", "captions.txt", "--out_dir", "o"]) == 1
    said = capsys.readouterr().err.splitlines()
    expected = (
        "captions.txt, line 2 is no UTF-8 text (it looks like Windows-1252: 'Der Bär läuft'); save the file as UTF-8"
    )
    assert said == [f"train.py: {expected}", f"generate.py: {expected}"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["captions.txt"]


# ---------------------------------------------------------------------------------------------
# What is no text, and text that is no captions
# ---------------------------------------------------------------------------------------------


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "a dog runs")
    return buffer.getvalue()


def saved(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def picture(kind):
    return saved(lambda f: Image.new("RGB", (64, 64)).save(f, kind))


BINARY = {
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "an RTF document": b"{\\rtf1\\ansi{\\fonttbl\\f0 Arial;} A dog runs.\\par A cat sits.}",
    "a Word document": zipped("[Content_Types].xml", "word/document.xml"),
    "an Excel workbook": zipped("[Content_Types].xml", "xl/workbook.xml"),
    "an OpenDocument or EPUB document": zipped("mimetype", "content.xml"),
    "a ZIP archive": zipped("captions.txt"),
    "a PyTorch checkpoint": saved(lambda f: torch.save({"a": torch.ones(2)}, f)),
    "a NumPy array": saved(lambda f: np.save(f, np.ones(3))),
    "a PNG picture": picture("PNG"),
    "a JPEG picture": picture("JPEG"),
    "a GIF picture": picture("GIF"),
    "a WebP picture": picture("WEBP"),
    "a BMP picture": picture("BMP"),
    "a TIFF picture": picture("TIFF"),
    "a HEIF picture": b"\0\0\0\x18ftypheic" + bytes(50),
    "a sound file": b"\xff\xfb\x90\0" + bytes(300),
    "an Arrow table": b"FEA1" + bytes(60),
    "a Parquet table": b"PAR1\x15\x04\x15",
    "a Python pickle": b"\x80\x04\x95\x0b\x00",
    "an xz archive": b"\xfd7zXZ\0\0\x04",
    "a bzip2 archive": b"BZh91AY&SY\x01\x02",
    "a gzip file inside a gzip file": gzip.compress(gzip.compress(b"a dog", mtime=0), mtime=0),
    "binary data": bytes(np.random.default_rng(0).integers(0, 256, 9999, np.uint8)),
}
TEXTS = {
    "an SVG picture": '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><text>a dog</text></svg>\n',
    "an HTML page": "<!DOCTYPE html>\n<html><body><p>a dog runs</p></body></html>\n",
    "an XML or HTML document": "<?xml version='1.0'?>\n<captions>\n<c>a dog runs</c>\n</captions>\n",
    "a file of subtitles (SRT)": "1\n00:00:01,000 --> 00:00:02,000\nA dog runs.\n\n2\n00:00:03,000 --> 00:00:04,000\nA cat.\n",
    "a file of subtitles (WebVTT)": "WEBVTT\n\n00:01.000 --> 00:02.000\nA dog runs.\n",
    "a file of subtitles (ASS)": "[Script Info]\nTitle: x\n",
    "a file of lyrics (LRC)": "[ar:Somebody]\n[00:12.00]A dog runs\n[00:15.30]A cat sits\n",
    "a LaTeX document": "% a comment\n\\documentclass{article}\n\\begin{document}\nA dog.\n",
    "a Git LFS pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "a Markdown table": "| image | caption |\n|---|---|\n| a.jpg | a dog runs |\n",
    "a YAML file": "- image: a.jpg\n  caption: a dog runs\n",
    "an SQL dump": "-- dump\nINSERT INTO captions VALUES (1, 'a dog runs');\n",
    "a file of Flickr30k Entities": "[/EN#1/people Two young guys] look at [/EN#2/bodyparts their hands] .\n",
    "a Markdown document": "# Captions\n\n- a dog runs\n- a cat sits\n",
    "a TOML or INI file": '[[captions]]\ntext = "a dog runs"\n',
    "a list or dict as Python prints it": "{'image': 'a.jpg', 'caption': 'a dog runs'}\n",
    "a JavaScript file": 'var captions = [\n"a dog runs",\n];\n',
}


OTHERS_OF_A_KIND = [
    ("an XML or HTML document", "<p>A dog runs.</p>\n<p>A cat sits.</p>\n"),
    ("an XML or HTML document", "<captions><c>a dog runs</c><c>a cat sits</c></captions>"),
    ("an SVG picture", '<!-- made by hand -->\n<svg width="3">\n<text>a dog</text>\n</svg>\n'),
    ("a YAML file", "captions:\n  - a dog runs\n  - a cat sits\n"),
    ("a YAML file", "image: a.jpg\ncaption: a dog runs\n\nimage: b.jpg\ncaption: a cat sits\n"),
    ("a Markdown table", "+---+-----+\n| a | dog |\n+---+-----+\n"),
    ("a Markdown document", "Captions\n========\na dog runs\n"),
    ("a list or dict as Python prints it", "['a dog runs', 'a cat sits']\n"),
    ("a TOML or INI file", "[first]\ncaption=a dog runs\n"),
]


@pytest.mark.parametrize(("name", "content"), OTHERS_OF_A_KIND)
def test_files_of_a_kind_that_begin_otherwise_are_refused_too(tmp_path, name, content):
    with pytest.raises(CaptionsFileError, match=f"captions.txt is {name}"):
        lines.read_head(written(tmp_path, content))


@pytest.mark.parametrize("name", [*BINARY, *TEXTS])
def test_other_kinds_of_files_are_refused_by_name(tmp_path, name):
    content = BINARY.get(name) or TEXTS[name].encode()
    for packed in (content, gzip.compress(content)):
        if packed is not content and ("ZIP" in name or content.startswith(b"PK") or name.startswith("a gzip")):
            continue  # a ZIP archive is looked into where it lies
        with pytest.raises(CaptionsFileError) as error:
            lines.read_head(written(tmp_path, packed, "captions.txt"))
        assert (
            f"captions.txt is {name}" in str(error.value) and ";" in str(error.value) and "\n" not in str(error.value)
        )


@pytest.mark.parametrize(
    "prose",
    [
        "svg is a format\nA dog runs\n", "Insert into the box a ball\nA dog\n", "<start> a dog runs <end>\n<start> a cat <end>\n",
        "[laughs] a man walks\n[cries] a dog\n", "1. a dog\n2. a cat\n", "12:30 a dog runs\n", "# a dog\n# a cat\n",
        "- a dog runs\n- a cat sits\n", "The ftyp of it\n", "A great WEBP image\n", "BM is a bank\n", "Rar! said he\n",
        "Dogs: they run.\nCats: they sit.\n", "[2] a dog runs\n[3] a cat\n", "'Tis late\n'Twas early\n", "A dog runs -\n--- a cat\n",
        "Let x = [y] be\nand so on\n", "Image of a dog: it runs\nIt: what?\n",
    ],
)  # fmt: skip
def test_prose_that_begins_strangely_is_text(tmp_path, prose):
    assert lines.read_head(written(tmp_path, prose)) == prose


def test_a_sentence_in_a_message_is_short_and_does_not_change_the_terminal():
    assert lines.shown(" a\tred\nball ") == "a red ball" and lines.shown("犬\u200d🙂") == "犬\u200d🙂"
    assert "\x1b" not in lines.shown("\x1b[31mred") and len(lines.shown("a" * 60_000)) == lines.SHOWN + 1
