"""Files of captions as data sets and programs write them, plain text, and files that are refused."""

import csv
import doctest
import gzip
import io
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

import generate
import train
from captions import columns
from captions import lines as lines_module
from captions import reader as reader_module
from captions.lines import CaptionsFileError, read_lines, shown
from captions.reader import CaptionsReader


def written(tmp_path, content, name="captions.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def reader(tmp_path, content, name="captions.txt", column="", file_format="auto"):
    return CaptionsReader(written(tmp_path, content, name), column, file_format)


def read(tmp_path, content, *options):
    return [(c.text, c.picture) for c in reader(tmp_path, content, *options) if c.text]


def refusal(tmp_path, content, *options):
    """The one line by which a file is refused."""
    with pytest.raises(CaptionsFileError) as error:
        list(reader(tmp_path, content, *options))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
    return str(error.value)


def lines(*rows):
    return "".join(row + "\n" for row in rows)


# ---------------------------------------------------------------------------------------------
# Formats
# ---------------------------------------------------------------------------------------------

FLICKR8K = lines(
    "1000268201_693b08cb0e.jpg#0\tA child in a pink dress .",
    '1000268201_693b08cb0e.jpg#1\t"Big Ben" at night , in London',
    'b.jpg.1#0\tA black dog and a "spotted" dog',
)
KAGGLE = lines(
    "image,caption",
    "a.jpg,A child in a pink dress .",
    'a.jpg,"A girl , going into a ""house"" ."',
    "b.jpg,Dogs , two .",
)
KAGGLE_READ = [
    ("A child in a pink dress .", "a.jpg"),
    ('A girl , going into a "house" .', "a.jpg"),
    ("Dogs , two .", "b.jpg"),
]
FLICKR30K = lines(
    "image_name| comment_number| comment",
    "a.jpg| 0| Two young guys , with hair .",
    'a.jpg| 1| "Big Ben" at night , in London',
    "b.jpg| 0| A dog runs .",
)
COCO = {
    "info": {"description": "COCO 2017 Dataset", "year": 2017},
    "licenses": [{"url": "http://creativecommons.org/", "id": 1, "name": "Attribution License of some kind"}],
    "images": [{"id": 7, "file_name": "7.jpg", "coco_url": "http://images.cocodataset.org/7.jpg"}],
    "annotations": [
        {"image_id": 70001, "id": 1, "caption": "A dog runs.\n"},
        {"image_id": 70001, "id": 2, "caption": "A dog, in the “grass”."},
        {"image_id": 70002, "id": 3, "caption": "Two cats"},
    ],
}
COCO_READ = [("A dog runs.", "70001"), ("A dog, in the “grass”.", "70001"), ("Two cats", "70002")]
EXCEL = [["Bild", "Beschreibung"], ["a.jpg", 'Ein Hund; er läuft "schnell"'], ["b.jpg", "Zwei Katzen, sie sitzen"]]
EXCEL_READ = [('Ein Hund; er läuft "schnell"', "a.jpg"), ("Zwei Katzen, sie sitzen", "b.jpg")]
RECORDS = [
    {"image": "a.jpg", "caption": "A dog runs."},
    {"image": "a.jpg", "caption": "It is big."},
    {"image": "b.jpg", "caption": "Cats"},
]
RECORDS_READ = [("A dog runs.", "a.jpg"), ("It is big.", "a.jpg"), ("Cats", "b.jpg")]
JSONL = lines(*map(json.dumps, RECORDS))
KARPATHY = {
    "dataset": "flickr8k",
    "images": [
        {"imgid": 0, "filename": "a.jpg", "split": "train", "sentids": [0, 1],
         "sentences": [{"tokens": ["a", "dog"], "raw": "A dog.", "sentid": 0}, {"tokens": ["it"], "raw": "It runs.", "sentid": 1}]},
        {"imgid": 1, "filename": "b.jpg", "split": "val", "sentids": [2], "sentences": [{"tokens": ["cats"], "raw": "Cats.", "sentid": 2}]},
    ],
}  # fmt: skip


def excel(delimiter, encoding):
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n").writerows(EXCEL)
    return buffer.getvalue().encode(encoding)


FORMATS = [  # name, content, captions and pictures
    ("Flickr8k.token.txt", FLICKR8K, [
        ("A child in a pink dress .", "1000268201_693b08cb0e.jpg"), ('"Big Ben" at night , in London', "1000268201_693b08cb0e.jpg"),
        ('A black dog and a "spotted" dog', "b.jpg.1"),
    ]),
    ("captions.txt", KAGGLE, KAGGLE_READ),
    ("captions.csv", KAGGLE, KAGGLE_READ),
    ("joined.csv", KAGGLE + "\ufeff" + KAGGLE.replace("dress", "hat"),
     [*KAGGLE_READ, ("A child in a pink hat .", "a.jpg"), *KAGGLE_READ[1:]]),
    ("results.csv", FLICKR30K, [
        ("Two young guys , with hair .", "a.jpg"), ('"Big Ben" at night , in London', "a.jpg"), ("A dog runs .", "b.jpg"),
    ]),
    ("excel.csv", excel(",", "utf-8-sig"), EXCEL_READ),
    ("excel.csv", excel(";", "utf-8-sig"), EXCEL_READ),
    ("excel.txt", excel("\t", "utf-16"), EXCEL_READ),
    ("multiline.csv", 'image,caption\na.jpg,"A dog\nruns"\n', [("A dog\nruns", "a.jpg")]),
    ("ends.csv", lines("image,caption", "a.jpg,A dog\u2028runs\x0bfast"), [("A dog\u2028runs\x0bfast", "a.jpg")]),
    ("short.csv", lines("caption,split,image", "A dog runs,train,a.jpg", "A cat"), [("A dog runs", "a.jpg"), ("A cat", None)]),
    ("pandas.csv", lines(",image,caption", "0,a.jpg,A dog runs", "1,b.jpg,A cat"), [("A dog runs", "a.jpg"), ("A cat", "b.jpg")]),
    ("lists.csv", lines("raw,split,filename", '"[""Two guys"", ""Two men""]",train,a.jpg'), [("Two guys", "a.jpg"), ("Two men", "a.jpg")]),
    ("unknown.csv", lines("id,picture file,Satz hier", "1,a.jpg,Ein Hund", "2,b.jpg,Eine Katze"), [("Ein Hund", "a.jpg"), ("Eine Katze", "b.jpg")]),
    ("one.csv", lines("caption", '"A dog, running"', "A cat"), [("A dog, running", None), ("A cat", None)]),
    ("bare.csv", lines("a.jpg,A dog runs", "b.jpg,A cat, asleep,so"), [("A dog runs", "a.jpg"), ("A cat, asleep,so", "b.jpg")]),
    ("bare.tsv", lines("1\tthe dog runs", "2\tthe cat sits"), [("the dog runs", None), ("the cat sits", None)]),
    ("conceptual.tsv", lines("a bus station\thttp://x.org/1", "a modern room\thttp://x.org/2"),
     [("a bus station", "http://x.org/1"), ("a modern room", "http://x.org/2")]),
    ("a.tsv", lines("image\tcaption\tsplit", *(f'{i}.jpg\t"Dog {i}," he said\ttrain' for i in range(9))),
     [(f'"Dog {i}," he said', f"{i}.jpg") for i in range(9)]),
    ("captions_val.json", json.dumps(COCO), COCO_READ),
    ("captions_val.json", json.dumps(COCO, indent=1, ensure_ascii=False).encode("utf-16"), COCO_READ),
    ("dataset.json", json.dumps(KARPATHY), [("A dog.", "0"), ("It runs.", "0"), ("Cats.", "1")]),
    ("a.jsonl", JSONL, RECORDS_READ),
    ("a.json", "\n" + JSONL.replace("\n", "\n\n"), RECORDS_READ),
    ("without_ending", JSONL, RECORDS_READ),
    ("a.jsonl", JSONL.splitlines()[0], RECORDS_READ[:1]),
    ("a.json", json.dumps(RECORDS, indent=1), RECORDS_READ),
    ("a.json", json.dumps([{"image": "a.jpg", "caption": ["A dog runs.", "It is big."]}, RECORDS[2]]), RECORDS_READ),
    ("a.json", '["half \\ud83d", "Cats"]', [("half ?", None), ("Cats", None)]),
    ("a.json", json.dumps(["A dog runs.", "Cats"], indent=1), [("A dog runs.", None), ("Cats", None)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected"), FORMATS)
def test_formats_of_data_sets_and_programs(tmp_path, name, content, expected):
    content = content if isinstance(content, bytes) else content.encode()
    assert read(tmp_path, content, name) == expected
    assert read(tmp_path, gzip.compress(content, mtime=0), name + ".gz") == expected
    once = reader(tmp_path, content, name)
    assert [*once] == [*once]


PLAIN = [
    lines("More than 10,000 people stand in a square."),
    lines(*(f"More than {i},000 people stand in a square." for i in range(10, 310))),
    lines("Idea: a red house", "Idea: a blue house"),
    lines("[10:15] Anna comes", "[10:16] Bert goes"),
    lines("a red\u3000ball", "犬が\u3000走る"),
    lines("A dog, running.", "A cat, sitting."),
    lines("A dog,ein Hund", "A cat,eine Katze"),
    lines('"Hello," he said.', '"Bye," she said.'),
    lines("[laughs] A man walks.", "{sighs} A dog."),
    lines("A dog\truns.", "A cat sits."),
    lines("one\ttab"),
    lines("Image, text", "A dog runs."),
    lines("# Captions", "", "- a dog", "1. a cat", "| a | b |", "key = 1"),
    lines("1", "00:00:01,000 --> 00:00:02,000", "A dog runs."),
    lines("a.jpg", "b.jpg"),
    lines("<start> a dog <end>", "<start> a cat <end>"),
]


@pytest.mark.parametrize("content", PLAIN)
@pytest.mark.parametrize("name", ["captions.txt", "train.en", "captions"])
def test_lines_of_plain_text_are_read_as_they_stand(tmp_path, content, name):
    found = reader(tmp_path, content, name)
    assert [c.text for c in found] == content.splitlines() and found.format == "plain text, one sentence a line"


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", KAGGLE), ("a.txt", FLICKR8K), ("a.json", JSONL), ("a.txt", "a\tb\nc\td\n")]
)
def test_a_file_is_plain_text_if_the_user_says_so(tmp_path, name, content):
    assert [c.text for c in reader(tmp_path, content, name, "", "text")] == content.splitlines()


@pytest.mark.parametrize(
    ("content", "file_format", "expected"),
    [(KAGGLE, "csv", KAGGLE_READ), (JSONL, "jsonl", RECORDS_READ), (json.dumps(COCO), "json", COCO_READ)],
)
def test_a_format_that_is_given_counts_more_than_the_name(tmp_path, content, file_format, expected):
    assert read(tmp_path, content, "captions.en", "", file_format) == expected


# ---------------------------------------------------------------------------------------------
# Which column
# ---------------------------------------------------------------------------------------------

TWO = lines("image,caption_en,caption_de", "a.jpg,a dog runs,ein Hund rennt", "b.jpg,a cat sits,eine Katze sitzt")
PAIRS = [
    ("Go.", "Va !"),
    ("Hi.", "Salut !"),
    ("Run!", "Cours !"),
    ("Who?", "Qui ?"),
    ("I see.", "Je vois."),
    ("Stop!", "Stop !"),
]
ANKI = lines(*(f"{en}\t{fr}\tCC-BY 2.0 (France) Attribution: tatoeba.org #{i}" for i, (en, fr) in enumerate(PAIRS)))


@pytest.mark.parametrize(
    ("name", "content", "column", "first"),
    [
        ("a.csv", TWO, "caption_de", "ein Hund rennt"),
        ("a.csv", TWO, "Caption DE", "ein Hund rennt"),
        ("a.csv", TWO, "2", "a dog runs"),
        ("a.txt", TWO, "caption_de", "ein Hund rennt"),
        ("a.csv", lines("text,lines", "a dog runs,ein Hund rennt"), "lines", "ein Hund rennt"),
        ("a.csv", lines("a dog runs,ein Hund rennt", "a cat sits,eine Katze sitzt"), "1", "a dog runs"),
        ("fra.txt", ANKI, "1", "Go."),
        ("fra.txt", ANKI, "2", "Va !"),
        ("a.json", json.dumps([{"en": "a dog runs", "de": "ein Hund rennt"}]), "de", "ein Hund rennt"),
        ("a.jsonl", lines('{"premise": "a dog", "other": "it is"}', '{"premise": "a", "other": "b"}'), "premise", "a dog"),
        ("a.json", json.dumps({"annotations": [{"id": 3, "words": "a dog runs"}], "images": []}), "words", "a dog runs"),
    ],
)  # fmt: skip
def test_a_named_column_is_taken(tmp_path, name, content, column, first):
    assert read(tmp_path, content, name, column)[0][0] == first


@pytest.mark.parametrize(
    ("name", "content", "column", "says"),
    [
        ("a.csv", TWO, "", "columns are 'image' (a.jpg), 'caption_en' (a dog runs), 'caption_de' (ein Hund rennt); name the one with "
         "the captions, such as --captions_column caption_en"),
        ("a.csv", TWO, "fr", "--captions_column fr is none of its columns: 'image' (a.jpg), 'caption_en'"),
        ("a.csv", lines("en,de", "the dog runs,der Hund rennt", "it is,er ist"), "", "such as --captions_column en"),
        ("fra.txt", ANKI, "", "its columns are '1' (Go.), '2' (Va !), '3' (CC-BY 2.0 (France) A); name the one"),
        ("fra.tsv", ANKI, "", "its columns are '1' (Go.), '2' (Va !), '3' (CC-BY 2.0 (France) A); name the one"),
        ("a.csv", lines(",,", ",,"), "", "name the one"),
        ("a.csv", lines("image,width", "a.jpg,30"), "", "its columns are 'image' (a.jpg), 'width' (30); name the one"),
        ("a.tsv", lines("file\tlicense note", *(f"{i}.jpg\tCC-BY 2.0 by {i} x" for i in range(9))), "", "its columns are 'file'"),
        ("a.jsonl", lines('{"a": "one dog", "b": "two dogs"}', '{"a": "x y", "b": "y z"}'), "", "its columns are 'a' (one dog)"),
        ("a.txt", lines("More than 10,000 people", "a cat"), "1", "plain text has no columns; leave it out, or give --captions_format"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_plain_is_asked_for(tmp_path, name, content, column, says):
    assert says in refusal(tmp_path, content, name, column)


# ---------------------------------------------------------------------------------------------
# Broken files
# ---------------------------------------------------------------------------------------------

INSTANCES = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}
TEXT_INSTEAD = "or read its lines as plain text with --captions_format text"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", json.dumps(COCO)[:-40], "is broken JSON at line 1 (Expecting"),
        ("a.json", json.dumps(COCO, indent=1)[:-40], "is broken JSON at line 3"),
        ("a.json", "", "is broken JSON at line 1"),
        ("a.json", json.dumps(INSTANCES), "is JSON without captions; expected"),
        ("a.json", "9" * 9999, "is JSON that cannot be read"),
        ("a.json", "[3]", "its list has a value that is no object and no string; expected"),
        ("a.json", "[" * 100_000, "is JSON that cannot be read (maximum recursion depth"),
        ("a.jsonl", JSONL + '{"image": "c', "is broken JSON at line 4"),
        ("a.jsonl", JSONL + "A dog runs\n", "is broken JSON at line 4"),
        ("a.jsonl", lines('{"caption": "a"}', "[1]"), "line 2 has a value that is no object"),
        ("a.csv", lines("image,caption", 'a.jpg,"A dog runs', "b.jpg,A cat"), "line 2: broken CSV (unexpected end of data); put a cell"),
        ("a.csv", lines("image,caption", "a.jpg,A cat", 'a.jpg,"A "big" dog"'), "line 3: broken CSV"),
        ("a.csv", lines("image,caption", "a.jpg;A dog", "b.jpg;A cat"),
         f"line 2: 1 cell separated by commas, expected 2: image, caption; 2 of 2 rows are like that; correct them, {TEXT_INSTEAD}"),
        ("a.csv", lines("image,caption,split", "a.jpg,A dog, running,train"), "line 2: 4 cells separated by commas, expected 3"),
        ("a.token", lines("a.jpg#0\tA dog", "a.jpg#1\tA cat", "b.jpg#0 A bird"), "line 3: 1 cell separated by tabs, expected 2: NAME#NUMBER"),
    ],
)  # fmt: skip
def test_a_broken_file_says_where_and_what_was_expected(tmp_path, name, content, says):
    assert says in refusal(tmp_path, content, name)


def test_few_rows_without_a_caption_are_skipped_and_counted(tmp_path):
    rows = [f"{i}.jpg| {n}| A dog number {i} ." for i in range(20) for n in range(5)]
    found = reader(tmp_path, lines(FLICKR30K.splitlines()[0], *rows, "2199200615.jpg| 4   A dog runs ."), "results.csv")
    assert len([c for c in found if c.text]) == 100
    assert found.broken == 1 and found.complaint.startswith("line 102: 2 cells separated by “|”, expected 3")


def test_rows_are_not_held_in_memory(tmp_path):
    content = gzip.compress(b"image,caption\n" + b'a.jpg,"A dog, running"\n' * 100_000, mtime=0)
    tracemalloc.start()
    count = sum(1 for _ in reader(tmp_path, content, "a.csv.gz"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000 and peak < 3e6


def test_examples_in_the_docstrings():
    for module in (columns, lines_module, reader_module):
        done = doctest.testmod(module)
        assert done.attempted and not done.failed


def test_where_a_caption_stands(tmp_path):
    table = reader(tmp_path, 'image,caption\na.jpg,"A dog\nruns"\nb.jpg,A cat\n', "a.csv")
    assert [c.line for c in table] == [2, 4]
    document = reader(tmp_path, json.dumps(COCO), "a.json")
    assert [document.where(c, n).rpartition(", ")[2] for n, c in enumerate(document, 1)] == [
        f"caption {n}" for n in (1, 2, 3)
    ]


# ---------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------

TEXT = ["ein blaues Öl", "שלום עולם", "🙂 und 日本語", "rot"]


def text_of(path):
    return "".join(line for line, _ in read_lines(path)).splitlines()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_encodings_line_ends_and_gzip_under_any_name(tmp_path, encoding, end, pack):
    assert text_of(written(tmp_path, pack(end.join(TEXT).encode(encoding)))) == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-32-be", "utf-32-le"])
def test_either_order_of_bytes_with_a_mark(tmp_path, encoding):
    assert text_of(written(tmp_path, ("\ufeff" + "\n".join(TEXT)).encode(encoding))) == TEXT


def test_surrogate_pairs_that_were_encoded_one_by_one_are_joined(tmp_path):
    pair = "🙂".encode("utf-16-be")
    cesu = b"".join(
        pair[i : i + 2].decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass") for i in (0, 2)
    )
    assert text_of(written(tmp_path, b"a dog\nsmile " + cesu + " dû\n".encode())) == ["a dog", "smile 🙂 dû"]
    with pytest.raises(CaptionsFileError, match="line 2 is not UTF-8 text"):
        text_of(written(tmp_path, b"a dog\nhalf " + cesu[:3] + b"\n"))


@pytest.mark.parametrize("path", ["/dev/zero", "."])
def test_what_is_no_file_never_hangs(path):
    with pytest.raises(CaptionsFileError, match="not a regular file"):
        next(read_lines(path))


def test_a_line_of_exactly_the_limit_is_not_cut(tmp_path):
    for extra, cut in ((0, False), (1, True)):
        for end in ("", "\n", "\r\n"):
            path = written(tmp_path, " " * (lines_module.LINE_CHARACTERS - 1 + extra) + "x" + end)
            assert [c for _, c in read_lines(path)] == [cut]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("eine weiße Wand\n".encode() + "Der Bär\nläuft".encode("cp1252"), "line 2 is not UTF-8 text .as Windows-1252 it reads 'Der Bär'.; save"),
        ("der Bär\nläuft".encode("utf-16-le"), "is not a text file .it has NUL bytes.; save it as plain text or CSV, in UTF-8"),
        ("a dog\nder B\ufffdr\n".encode(), "line 2 has the character U\\+FFFD"),
        (("a dog\n" * 20_000).encode() + b"the \0 cat\n", "line 20001 has the character U\\+0000"),
        (("\ufeff" + "a dog\n" * 9).encode("utf-16-le")[:-1], "line 9 has the character U\\+FFFD"),
        (gzip.compress(b"a dog runs\n" * 500, mtime=0)[:-9], "is a damaged gzip file"),
        (gzip.compress(bytes(np.random.default_rng(0).integers(97, 123, 9999, np.uint8)), mtime=0)[:-4000], "is a damaged gzip file"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, content, says):
    with pytest.raises(CaptionsFileError, match=says):
        text_of(written(tmp_path, content))


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("my.docx", b"PK\x03\x04\x14\0\x06\0[Content_Types].xml", "is an Office document or a ZIP archive; save its sentences as plain text or CSV"),
        ("my.xlsx", b"PK\x03\x04\x14\0\x06\0xl/workbook.xml", "is an Office document or a ZIP archive; save"),
        ("my.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "is a PDF document; save its sentences as plain text or CSV"),
        ("my.txt", b"{\\rtf1\\ansi A dog runs.\\par A cat sits.}", "is an RTF document; save"),
        ("my.html", b"\n<!DOCTYPE html>\n<html><body><p>a dog</p></body></html>\n", "is a web page; save"),
        ("my.svg", b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg><text>a dog</text></svg>\n", "is an XML document; save"),
        ("my.txt", b"version https://git-lfs.github.com/spec/v1\nsize 5\n", "is a Git LFS pointer; fetch the file with: git lfs pull"),
        ("my.png", png(), "is not a text file (it has NUL bytes); save it as plain text or CSV"),
        ("captions.txt.gz", gzip.compress(gzip.compress(b"a dog", mtime=0), mtime=0), "is not a text file"),
    ],
)  # fmt: skip
def test_files_that_are_not_text_are_refused(tmp_path, name, content, says):
    assert says in refusal(tmp_path, content, name)
    assert says in refusal(tmp_path, gzip.compress(content, mtime=0), "packed.gz")


def test_train_and_generate_refuse_the_same_file_with_the_same_words(tmp_path, monkeypatch, capsys):
    from parrot import parrot

    monkeypatch.chdir(tmp_path)
    written(tmp_path, b"the bear runs\nDer B\xe4r l\xe4uft\na dog sits\nthe dog runs\n")
    assert train.main(["--captions_file", "captions.txt"]) == 1
    assert generate.main(["--checkpoint", parrot(), "--texts_file", "captions.txt", "--out_dir", "o"]) == 1
    what = "line 2 is not UTF-8 text (as Windows-1252 it reads 'Der Bär läuft'); save the file with the encoding UTF-8"
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{program}.py: captions.txt, {what}" for program in ("train", "generate")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["captions.txt"]


def test_a_sentence_in_a_message_is_short_and_does_not_change_the_terminal():
    assert shown(" a\tred\nball ") == "a red ball" and shown("犬\u200d🙂") == "犬\u200d🙂"
    assert "\x1b" not in shown("\x1b[31mred") and len(shown("a" * 60_000)) == lines_module.SHOWN + 1
