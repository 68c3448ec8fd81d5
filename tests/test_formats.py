"""Files as other data sets and programs write them, read by the formats that they are."""

import csv
import gzip
import io
import json

import pytest
from text.formats import CaptionsReader
from text.lines import CaptionsFileError


def reader(tmp_path, content, name="captions.txt", column=""):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return CaptionsReader(str(path), column)


def read(tmp_path, content, **options):
    return [(c.text, c.picture) for c in reader(tmp_path, content, **options) if c.text]


def lines(*rows):
    return "".join(row + "\n" for row in rows)


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
EXCEL = [["Bild", "Beschreibung"], ["a.jpg", 'Ein Hund; er läuft "schnell"'], ["b.jpg", "Zwei Katzen,\nsie sitzen"]]
EXCEL_READ = [('Ein Hund; er läuft "schnell"', "a.jpg"), ("Zwei Katzen,\nsie sitzen", "b.jpg")]


def excel(delimiter, encoding, before=""):
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n").writerows(EXCEL)
    return (before + buffer.getvalue()).encode(encoding)


RECORDS = [
    {"image": "a.jpg", "caption": "A dog runs."},
    {"image": "a.jpg", "caption": "It is big."},
    {"image": "b.jpg", "caption": "Cats"},
]
RECORDS_READ = [("A dog runs.", "a.jpg"), ("It is big.", "a.jpg"), ("Cats", "b.jpg")]
KARPATHY = {
    "dataset": "flickr8k",
    "images": [
        {"imgid": 0, "filename": "a.jpg", "split": "train", "sentids": [0, 1],
         "sentences": [{"tokens": ["a", "dog"], "raw": "A dog.", "sentid": 0}, {"tokens": ["it"], "raw": "It runs.", "sentid": 1}]},
        {"imgid": 1, "filename": "b.jpg", "split": "val", "sentids": [2], "sentences": [{"tokens": ["cats"], "raw": "Cats.", "sentid": 2}]},
    ],
}  # fmt: skip
HF = lines(
    "raw,sentids,split,filename",
    '"[""Two young guys"", ""Two men""]","[0, 1]",train,a.jpg',
    '"[\'A dog\']","[2]",val,b.jpg',
)

FORMATS = {
    "flickr8k token file": (
        FLICKR8K,
        [
            ("A child in a pink dress .", "1000268201_693b08cb0e.jpg"),
            ('"Big Ben" at night , in London', "1000268201_693b08cb0e.jpg"),
            ('A black dog and a "spotted" dog', "b.jpg.1"),
        ],
    ),
    "kaggle captions.txt": (
        KAGGLE,
        [("A child in a pink dress .", "a.jpg"), ('A girl , going into a "house" .', "a.jpg"), ("Dogs , two .", "b.jpg")],
    ),
    "flickr30k results.csv": (
        FLICKR30K,
        [("Two young guys , with hair .", "a.jpg"), ('"Big Ben" at night , in London', "a.jpg"), ("A dog runs .", "b.jpg")],
    ),
    "coco in one line": (json.dumps(COCO), COCO_READ),
    "coco indented": (json.dumps(COCO, indent=2), COCO_READ),
    "coco in other letters": (json.dumps(COCO, indent=1, ensure_ascii=False).encode("utf-16"), COCO_READ),
    "jsonl": (lines(*map(json.dumps, RECORDS)), RECORDS_READ),
    "jsonl with empty lines": ("\n" + "\n\n".join(map(json.dumps, RECORDS)), RECORDS_READ),
    "list of records": (json.dumps(RECORDS), RECORDS_READ),
    "records one behind another": ("\n".join(json.dumps(r, indent=1) for r in RECORDS), RECORDS_READ),
    "list of lists of captions": (
        json.dumps([{"image": "a.jpg", "caption": ["A dog runs.", "It is big."]}, {"image": "b.jpg", "caption": "Cats"}]),
        RECORDS_READ,
    ),
    "pictures with their captions": (json.dumps({"a.jpg": ["A dog runs.", "It is big."], "b.jpg": ["Cats"]}), RECORDS_READ),
    "columns": (json.dumps({k: [r[k] for r in RECORDS] for k in RECORDS[0]}), RECORDS_READ),
    "columns of pandas": (json.dumps({k: {i: r[k] for i, r in enumerate(RECORDS)} for k in RECORDS[0]}), RECORDS_READ),
    "list of strings": (json.dumps(["A dog runs.", "Cats"], indent=1), [("A dog runs.", None), ("Cats", None)]),
    "karpathy": (json.dumps(KARPATHY), [("A dog.", "0"), ("It runs.", "0"), ("Cats.", "1")]),
    "excel, utf-8": (excel(",", "utf-8-sig"), EXCEL_READ),
    "excel, semicolons": (excel(";", "utf-8-sig"), EXCEL_READ),
    "excel, said separator": (excel(";", "utf-8", "sep=;\r\n"), EXCEL_READ),
    "excel, unicode text": (excel("\t", "utf-16"), EXCEL_READ),
    "one column": (lines("caption", '"A dog, running"', "A cat sits"), [("A dog, running", None), ("A cat sits", None)]),
    "one column, no header": (lines('"A dog, running"', "A cat sits"), [("A dog, running", None), ("A cat sits", None)]),
    "lines in quotes": (lines('"A dog runs"', '"A ""big"" cat"'), [("A dog runs", None), ('A "big" cat', None)]),
    "a space after each comma": (lines("image, caption", 'a.jpg, "A dog, running"'), [("A dog, running", "a.jpg")]),
    "index of pandas": (lines(",image,caption", "0,a.jpg,A dog runs", "1,b.jpg,A cat"), [("A dog runs", "a.jpg"), ("A cat", "b.jpg")]),
    "lists in cells": (HF, [("Two young guys", "a.jpg"), ("Two men", "a.jpg"), ("A dog", "b.jpg")]),
    "no header, commas in captions": (lines("a.jpg,A dog runs", "b.jpg,A cat, asleep,so"), [("A dog runs", "a.jpg"), ("A cat, asleep,so", "b.jpg")]),
    "no header, tabs": (lines("a.jpg\tA dog runs", "b.jpg\tA cat"), [("A dog runs", "a.jpg"), ("A cat", "b.jpg")]),
    "conceptual captions": (
        lines("a very typical bus station\thttp://x.org/1", "interior of a modern living room\thttp://x.org/2"),
        [("a very typical bus station", "http://x.org/1"), ("interior of a modern living room", "http://x.org/2")],
    ),
    "numbers and sentences": (lines("1\tthe dog runs", "2\tthe cat sits"), [("the dog runs", None), ("the cat sits", None)]),
    "labels and sentences": (lines("label,text", "0,I love it", "1,I hate it"), [("I love it", None), ("I hate it", None)]),
    "pictures and spaces": (lines("a.jpg A dog runs", "b.jpg A cat"), [("A dog runs", "a.jpg"), ("A cat", "b.jpg")]),
    "flickr ids and spaces": (
        lines("1000268201_693b08cb0e child in dress", "1001773457_577c3a7d70 black dog"),
        [("child in dress", "1000268201_693b08cb0e"), ("black dog", "1001773457_577c3a7d70")],
    ),
    "comments before the header": (
        lines("# captions, made by me", "# CC-BY", "image,caption", "a.jpg,A dog, running", "b.jpg,A cat"),
        [("A dog, running", "a.jpg"), ("A cat", "b.jpg")],
    ),
    "a title before the header": (
        lines("My captions", "", "image;caption", "a.jpg;A dog, running", "b.jpg;A cat"),
        [("A dog, running", "a.jpg"), ("A cat", "b.jpg")],
    ),
    "files that were joined": (KAGGLE + "\ufeff" + KAGGLE.replace("dress", "hat"), [
        ("A child in a pink dress .", "a.jpg"), ('A girl , going into a "house" .', "a.jpg"), ("Dogs , two .", "b.jpg"),
        ("A child in a pink hat .", "a.jpg"), ('A girl , going into a "house" .', "a.jpg"), ("Dogs , two .", "b.jpg"),
    ]),
    "ends of lines that files do not have": (
        lines("image,caption", "a.jpg,A dog\u2028runs\x0bfast", "b.jpg,A\x1ccat\x85sits"),
        [("A dog\u2028runs\x0bfast", "a.jpg"), ("A\x1ccat\x85sits", "b.jpg")],
    ),
    "tsv of three columns": (
        lines("image\tcaption\tsplit", *(f"{i}.jpg\tA dog {i}\ttrain" for i in range(12))),
        [(f"A dog {i}", f"{i}.jpg") for i in range(12)],
    ),
    "tsv with a header": (
        lines("image\tcaption", *(f"{i}.jpg\tA dog {i}" for i in range(12))), [(f"A dog {i}", f"{i}.jpg") for i in range(12)]
    ),
    "pictures and spaces under a header": (
        lines("image   caption", *(f"{i}.jpg   A dog {i}" for i in range(12))), [(f"A dog {i}", f"{i}.jpg") for i in range(12)]
    ),
    "pictures and colons": (lines("a.jpg: A dog, running", "b.jpg: A cat"), [("A dog, running", "a.jpg"), ("A cat", "b.jpg")]),
    "video clips and spaces": (
        lines("-4wsuPCjDBc_5_15 a dog is eating", "mv89psg6zh4_33_46 a bird is bathing"),
        [("a dog is eating", "-4wsuPCjDBc_5_15"), ("a bird is bathing", "mv89psg6zh4_33_46")],
    ),
    "numbers, commas in captions": (
        lines("0,A dog, running", "1,A cat", "2,A bird, a fish, a cow"),
        [("A dog, running", "0"), ("A cat", "1"), ("A bird, a fish, a cow", "2")],
    ),
    "rows in json, with a header": (
        json.dumps([["image", "caption"], ["a.jpg", "A dog runs."], ["b.jpg", "Cats"]]),
        [("A dog runs.", "a.jpg"), ("Cats", "b.jpg")],
    ),
    "more commas than columns": (
        lines("image,caption", "a.jpg,A dog, running,fast", 'b.jpg,A "big", old cat'),
        [("A dog, running,fast", "a.jpg"), ('A "big", old cat', "b.jpg")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_formats_of_data_sets_and_programs(tmp_path, name):
    content, expected = FORMATS[name]
    content = content if isinstance(content, bytes) else content.encode()
    assert read(tmp_path, content) == expected
    assert read(tmp_path, gzip.compress(content), name="captions.gz") == expected
    assert [*reader(tmp_path, content)] == [*reader(tmp_path, content)]


def test_a_reader_reads_the_same_again(tmp_path):
    for content in (FORMATS["karpathy"][0], FORMATS["jsonl"][0], KAGGLE):
        once = reader(tmp_path, content)
        assert [*once] == [*once]


PROSE = {
    "commas": lines("A dog, running.", "A cat, sitting.", "A bird, flying."),
    "speech": lines('"Hello," he said.', '"Bye," she said, "dear."', "A dog runs."),
    "brackets": lines("[laughs] A man walks.", "{sighs} A dog."),
    "numbers": lines("2 dogs, 3 cats", "4 dogs, 5 cats"),
    "pictures within": lines("The file a.jpg shows a dog.", "A dog runs."),
    "a tab somewhere": lines("A dog\truns.", "A cat sits.", "A bird flies."),
    "a known word first": lines("Captions of dogs.", "A dog runs."),
    "bars": lines("A dog runs.", "Either | or, he said.", "A cat sits."),
    "hashes": lines("#1 dog of the year", "#2 dog of the year"),
    "comments alone": lines("# A dog, running", "# A cat", "# A bird"),
    "speech alone": lines('"Hello," he said.', '"Bye," she said.', '"Well," they said.'),
    "thousands": lines("2,000 dogs ran, and I", "3,000 cats slept", "4,000 birds flew"),
    "a file's name in each": lines("Look at a.jpg now", "Look at b.jpg now"),
    "a tab at the end": lines("A dog sits.", "A cat sits.", "A bird\tflies."),
}


@pytest.mark.parametrize("name", PROSE)
def test_prose_stays_prose(tmp_path, name):
    assert [c.text for c in reader(tmp_path, PROSE[name])] == PROSE[name].splitlines()
    assert reader(tmp_path, PROSE[name]).format == "plain text, one sentence a line"


# ---------------------------------------------------------------------------------------------
# Which column
# ---------------------------------------------------------------------------------------------

TWO = lines("image,caption_en,caption_de", "a.jpg,a dog runs,ein Hund rennt", "b.jpg,a cat sits,eine Katze sitzt")


@pytest.mark.parametrize(
    ("content", "column", "first"),
    [
        (TWO, "caption_de", "ein Hund rennt"),
        (TWO, "Caption DE", "ein Hund rennt"),
        (TWO, "2", "a dog runs"),
        (lines("a dog runs\tein Hund rennt", "a cat sits\teine Katze sitzt"), "2", "ein Hund rennt"),
        (lines("a dog runs,ein Hund rennt", "a cat sits,eine Katze sitzt"), "1", "a dog runs"),
        (lines("a.jpg,A dog, running", "b.jpg,A cat"), "2", "A dog, running"),
        (json.dumps([{"en": "a dog runs", "de": "ein Hund rennt"}]), "de", "ein Hund rennt"),
        (
            lines('{"premise": "a dog runs", "hypothesis": "it is fast"}', '{"premise": "a", "hypothesis": "b"}'),
            "premise",
            "a dog runs",
        ),
        (json.dumps({"annotations": [{"id": 3, "utterance": "a dog runs"}], "images": []}), "utterance", "a dog runs"),
        (json.dumps({"en": ["a dog runs"], "de": ["ein Hund rennt"]}), "de", "ein Hund rennt"),
    ],
)
def test_a_named_column_is_taken(tmp_path, content, column, first):
    assert read(tmp_path, content, column=column)[0][0] == first


@pytest.mark.parametrize(
    ("content", "column", "says"),
    [
        (TWO, "", "its columns 'caption_en', 'caption_de' can all hold captions; name one: --captions_column caption_en"),
        (TWO, "caption_fr", "--captions_column caption_fr is none of its columns: 'image', 'caption_en', 'caption_de'"),
        (lines("a dog runs\tein Hund rennt", "a cat\teine Katze"), "", "its columns '1', '2' can all hold captions"),
        (lines("en,de", "the dog runs,der Hund rennt", "it is big,er ist groß"), "", "its columns 'en', 'de' can all hold captions"),
        (lines('"the dog, it runs","der Hund, er rennt"', '"a cat","eine Katze"'), "", "its columns '1', '2' can all hold captions"),
        (lines("a.jpg", "b.jpg", "c.jpg"), "", "captions.txt is a list of names of pictures, without captions"),
        (lines("http://x.org/1", "http://x.org/2"), "", "is a list of names of pictures, without captions"),
        (lines("image,width", "a.jpg,30"), "", "none of its columns is known to hold captions: 'image', 'width'"),
        (lines("a dog runs", "a cat sits"), "caption", "it is plain text, without columns; leave the flag out"),
        (lines('{"a": "one dog runs", "b": "two dogs run"}', '{"a": "x y", "b": "y z"}'), "", "its columns 'a', 'b' can all"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_plain_is_asked_for(tmp_path, content, column, says):
    with pytest.raises(CaptionsFileError) as error:
        [*reader(tmp_path, content, column=column)]
    assert says in str(error.value) and "captions.txt" in str(error.value) and "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------
# Broken files
# ---------------------------------------------------------------------------------------------

INSTANCES = {
    "images": [{"id": 1, "file_name": "1.jpg"}],
    "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}],
    "categories": [],
}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (json.dumps(COCO)[:-40], "is broken JSON at line 1 .*expected COCO's"),
        (json.dumps(COCO, indent=1)[:-40], "is broken JSON at line 3\\d .*expected COCO's"),
        (json.dumps(INSTANCES), 'has "annotations" without a "caption"; of COCO take captions_'),
        (json.dumps({"type": "FeatureCollection", "features": [{"geometry": {"x": 1}}]}), "is JSON without captions; expected COCO's"),
        (json.dumps({"database": {"a": {"annotations": [{"sentence": "a dog"}]}}}), "is JSON without captions; expected COCO's"),
        (json.dumps({"cells": [], "metadata": {}, "nbformat": 4}, indent=1), "is a notebook"),
        (lines(*map(json.dumps, RECORDS)) + '{"image": "c', "is broken JSON at line 4 .*expected one object a line"),
        (lines(*map(json.dumps, RECORDS)) + "A dog runs\n", "is broken JSON at line 4"),
        (lines('{"caption": "a"}', '["b"]'), "has no JSON object at line 2"),
        ("[" * 100_000, "nested too deeply"),
        (lines("image,caption", 'a.jpg,"A dog runs', "b.jpg,A cat"), "line 2: a quote opens and does not close"),
        (lines("image,caption", "a.jpg,A cat", 'a.jpg,"A dog runs', 'b.jpg,"A cat"', "c.jpg,A dog"), "line 3: a quote opens"),
        (lines("image,caption", "a.jpg;A dog", "b.jpg;A cat"), "line 2: 1 field parted by commas, expected 2: image, caption .2 of 2 rows"),
        (lines("image,caption,split", "a.jpg,A dog, running,train"), "line 2: 4 fields parted by commas, expected 3: image, caption, split"),
        (lines("a.jpg#0\tA dog", "a.jpg#1\tA cat", "b.jpg#0 A bird"), "line 3: expected NAME#NUMBER, a tab and a caption"),
    ],
)  # fmt: skip
def test_a_broken_file_says_where_and_what_was_expected(tmp_path, content, says):
    with pytest.raises(CaptionsFileError, match=says) as error:
        [*reader(tmp_path, content)]
    assert "captions.txt" in str(error.value) and "\n" not in str(error.value)


def test_one_row_without_a_caption_among_many_is_skipped_and_told(tmp_path):
    rows = [f"{i}.jpg| {n}| A dog number {i} ." for i in range(20) for n in range(5)]
    found = reader(
        tmp_path, lines(FLICKR30K.splitlines()[0], *rows, "2199200615.jpg| 4   A dog runs across the grass .")
    )
    assert len([c for c in found if c.text]) == 100
    assert found.broken == 1 and found.complaint.startswith("line 102: 2 fields parted by “|”, expected 3")


def test_a_million_rows_are_not_held_in_memory(tmp_path):
    import tracemalloc

    content = gzip.compress(b"image,caption\n" + b'a.jpg,"A dog, running"\n' * 100_000)
    tracemalloc.start()
    count = sum(1 for _ in reader(tmp_path, content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000 and peak < 3e6


def test_where_a_caption_stands(tmp_path):
    table = reader(tmp_path, FORMATS["excel, utf-8"][0])
    assert [c.line for c in table] == [2, 3]
    document = reader(tmp_path, json.dumps(COCO))
    assert [document.where(c, n).rpartition(", ")[2] for n, c in enumerate(document, 1)] == [
        "caption 1",
        "caption 2",
        "caption 3",
    ]
