"""Files that are no captions, known by how they begin: their name, and what to do with them."""

import re
import zipfile

SENTENCES = "save its sentences as a text file, one a line"
ROWS = "export it as CSV, or as JSON with one object a line"
UNPACK = "unpack it first, or pack it with gzip"
ANOTHER = "name a file of sentences"

# How the bytes of a file begin
MAGIC = [
    (rb"\s*%PDF-", "a PDF document", SENTENCES),
    (rb"%!PS", "a PostScript document", SENTENCES),
    (rb"\{\\rtf", "an RTF document", SENTENCES),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an old Office (.doc, .xls)", SENTENCES),
    (rb"\x89PNG\r\n", "a PNG picture", ANOTHER),
    (rb"\xff\xd8\xff", "a JPEG picture", ANOTHER),
    (rb"GIF8[79]a", "a GIF picture", ANOTHER),
    (rb"II\*\0|MM\0\*", "a TIFF picture", ANOTHER),
    (rb"BM.{4}\0\0\0\0", "a BMP picture", ANOTHER),
    (rb"RIFF.{4}WEBP", "a WebP picture", ANOTHER),
    (rb"\0\0\0.ftyp(?:hei|mif1|avif)", "a HEIF picture", ANOTHER),
    (rb"RIFF.{4}WAVE|ID3[\x02-\x04]|\xff[\xfb\xf3\xf2]|OggS\0|fLaC\0", "a sound file", ANOTHER),
    (rb"RIFF.{4}AVI |\0\0\0.ftyp|\x1a\x45\xdf\xa3", "a video", ANOTHER),
    (rb"PAR1", "a Parquet table", ROWS),
    (rb"ARROW1\0|FEA1|\xff\xff\xff\xff.{2}\0\0", "an Arrow table", ROWS),
    (rb"Obj\x01", "an Avro table", ROWS),
    (rb"SQLite format 3\0", "an SQLite database", ROWS),
    (rb"\x89HDF\r\n", "an HDF5 file", ROWS),
    (rb"\x93NUMPY", "a NumPy array", ROWS),
    (rb"\x80[\x02-\x05]", "a Python pickle", ROWS),
    (rb"BZh\d1AY&SY", "a bzip2 archive", UNPACK),
    (rb"\xfd7zXZ\0", "an xz archive", UNPACK),
    (rb"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (rb".{257}ustar[\0 ]", "a tar archive", UNPACK),
    (rb"\x1f\x8b", "a gzip file inside a gzip file", UNPACK),
    (rb"\x7fELF|MZ\x90\0", "a program", ANOTHER),
]
# What a ZIP archive is, by a name inside
IN_ZIP = [
    (r"word/", "a Word document", SENTENCES),
    (r"xl/", "an Excel workbook", "save it as “CSV UTF-8”"),
    (r"ppt/", "a PowerPoint document", SENTENCES),
    (r"META-INF/container\.xml|content\.xml", "an OpenDocument or EPUB document", SENTENCES),
    (r".*data\.pkl$", "a PyTorch checkpoint", ANOTHER),
    (r".*\.npy$", "a NumPy archive", ROWS),
]
# How the characters of a file begin, after white space
TEXT = [
    (r"(?s:<(?:\?xml|!--).{,2000}?)?(?:<!DOCTYPE svg\b|<svg\b)", "an SVG picture", ANOTHER),
    (r"(?i:<!DOCTYPE html|<html\b|<body\b)", "an HTML page", SENTENCES),
    (
        r"<\?xml|<!DOCTYPE|<!--|<\w+ [\w:]+=\"|<([\w.-]+)>(?:\s*<[\w.-]+>|.*</\1>[ \t]*\n)",
        "an XML or HTML document",
        SENTENCES,
    ),
    (r"(?:\d+\s*\n\s*)?\d+:\d\d:\d\d[,.]\d+ *-->", "a file of subtitles (SRT)", SENTENCES),
    (r"\d+:\d\d:\d\d\.\d+,\d+:\d\d:\d\d\.\d+\s*\n", "a file of subtitles (SBV)", SENTENCES),
    (r"WEBVTT\b", "a file of subtitles (WebVTT)", SENTENCES),
    (r"\[Script Info\]", "a file of subtitles (ASS)", SENTENCES),
    (r"\{\d+\}\{\d+\}", "a file of subtitles (MicroDVD)", SENTENCES),
    (r"(?:\[\w+:[^\]\n]*\]\s*)*\[\d+:\d\d(?:[.:]\d+)?\]", "a file of lyrics (LRC)", SENTENCES),
    (r"(?:%.*\n\s*)*\\(?:documentclass|begin\{)", "a LaTeX document", SENTENCES),
    (r"@\w+\{[\w:-]*,\s*\n", "a BibTeX file", SENTENCES),
    (r"(?:#.*\n\s*)*msgid \"", "a file of translations (PO)", SENTENCES),
    (r"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch it with: git lfs pull"),
    (r"\|.*\|[ \t]*\n[ \t]*\|[-:| \t]+\||\+-[-+]*\+[ \t]*\n\|", "a Markdown table", ROWS),
    (r"#{1,6} .*\n[ \t]*\n|\S.*\n(?:={3,}|-{3,})[ \t]*\n|```", "a Markdown document", SENTENCES),
    (r"%YAML|---[ \t]*\n[\w-]+:|- \w+: .*\n  \w+: |[\w-]+:[ \t]*\n(?:[ \t]*- |[ \t]+\w+: )", "a YAML file", ROWS),
    (r"(?i:(?:image|img|file|id|url|caption|text)\w*: ?.+\n\w+: )", "a YAML file", ROWS),
    (r"\[\[?[\w.-]+\]?\][ \t]*\n[\w.-]+ ?= ?", "a TOML or INI file", ROWS),
    (
        r"[\[(]?\s*\{'[\w ]+': |\[\s*'.*'\s*,?\]?[ \t]*(?:\n|$)",
        "a list or dict as Python prints it",
        "write it with json.dumps",
    ),
    (r"(?:var|let|const|export|module\.exports)\b.*=\s*[\[{]", "a JavaScript file", ROWS),
    (r".*\[/EN#\d+", "a file of Flickr30k Entities, whose sentences hold marks such as [/EN#1/people", SENTENCES),
    (r"(?:--.*\n\s*)*(?:CREATE TABLE|INSERT INTO) [`\"\w.]+ ?(?:\(|VALUES)", "an SQL dump", ROWS),
    (r"BEGIN:V[A-Z]+\n", "a calendar or an address book", SENTENCES),
    (r"#!\s*/", "a script", ANOTHER),
]
ENDINGS = {
    ".yaml": ("a YAML file", ROWS),
    ".yml": ("a YAML file", ROWS),
    ".toml": ("a TOML file", ROWS),
    ".py": ("a Python program", ANOTHER),
    ".tex": ("a LaTeX document", SENTENCES),
}


def name_of_binary(head, path):
    """(name, cure) of a file that is no text, by its first bytes; None for text."""
    for pattern, name, cure in MAGIC:
        if re.match(pattern, head, re.DOTALL):
            return name, cure
    if head.startswith(b"PK\x03\x04"):
        return _name_of_zip(path)
    controls = sum(byte < 32 and byte not in b"\0\t\n\r\f\v\x1b" for byte in head)
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"))  # UTF-16 and UTF-32 have all bytes
    return ("binary data", ANOTHER) if controls > len(head) / 50 and not wide else None


def _name_of_zip(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        names = []
    for pattern, name, cure in IN_ZIP:
        if any(re.match(pattern, inside) for inside in names):
            return name, cure
    return "a ZIP archive", UNPACK


def name_of_text(head, path):
    """(name, cure) of a text that holds something else than captions, by its beginning; None otherwise."""
    start = head.lstrip("\ufeff \t\r\n")
    for pattern, name, cure in TEXT:
        if re.match(pattern, start):
            return name, cure
    name = str(path).lower().removesuffix(".gz")
    return next((found for ending, found in ENDINGS.items() if name.endswith(ending)), None)
