"""generate.py: what it writes, what it refuses before it writes, and that it writes the same twice."""

import gc
import json
import os
import signal
import struct
import sys
import time

import pytest
import torch
from conftest import ROOT, run_script, script_env
from forked import Process
from parrot import KNOWN, blank, parrot
from PIL import Image

import generate
from checkpoints import load_model
from data_utils import Vocabulary
from pictures import load_pngs, read_pictures
from runtime.outputs import MANIFEST
from text.grammar import parse


def run(folder, *args, checkpoint=None):
    return generate.main(
        ["--checkpoint", checkpoint or parrot(), "--out_dir", str(folder), "--device", "cpu", *map(str, args)]
    )


def rows(folder):
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()]


def names(folder):
    """Of the files in a folder, but for the manifest."""
    return sorted(p.name for p in folder.iterdir() if p.name != MANIFEST)


def png_chunks(path):
    data, at, names = path.read_bytes(), 8, []
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        names.append(data[at + 4 : at + 8])
        at += 12 + size
    return names


def test_real_command_draws_writes_and_reads_back(tmp_path):
    strange = "a huge gray pyramid"
    done = run_script(
        "generate.py", "--checkpoint", parrot(), "--text", *KNOWN[:2], "--text", strange, "--out_dir", "o", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    out = rows(tmp_path / "o")
    assert [r["text"] for r in out] == [*KNOWN[:2], strange]
    assert [r["image"] for r in out] == ["00000.png", "00001.png", "00002.png"]
    assert [r["exact_match"] for r in out] == [True, True, False]
    assert "2 of 3 sentences" in done.stdout.splitlines()[-1]
    assert names(tmp_path / "o") == [*(r["image"] for r in out), "captions.jsonl", "contact_sheet.png"]


def test_pictures_are_64x64_rgb_8_bit_with_nothing_beside_the_pixels(tmp_path):
    assert run(tmp_path, "--text", *KNOWN) == 0
    for i in range(len(KNOWN)):
        path = tmp_path / f"{i:05d}.png"
        with Image.open(path) as image:
            assert (image.size, image.mode, image.info) == ((64, 64), "RGB", {})
        assert set(png_chunks(path)) == {b"IHDR", b"IDAT", b"IEND"}


def test_captions_come_from_the_files_on_disk(tmp_path, monkeypatch):
    def swap(paths):
        first, second = (open(p, "rb").read() for p in paths)
        for path, data in zip(paths, (second, first), strict=True):
            with open(path, "wb") as f:
                f.write(data)
        return load_pngs(paths)

    monkeypatch.setattr(generate, "load_pngs", swap)
    assert run(tmp_path, "--text", *KNOWN[:2]) == 0
    assert [r["caption"] for r in rows(tmp_path)] == [KNOWN[1], KNOWN[0]]
    assert [r["exact_match"] for r in rows(tmp_path)] == [False, False]


def test_match_is_with_the_text_as_the_vocabulary_writes_it(tmp_path):
    assert run(tmp_path, "--text", "  A RED, ball.", "a orange box next to a pink cube") == 0
    first, second = rows(tmp_path)
    assert first["exact_match"] and first["text"] == "  A RED, ball." and first["caption"] == "a red ball"
    assert second["exact_match"] and second["caption"].startswith("an orange")


@pytest.mark.parametrize("source", [["--text", *KNOWN], ["--sample", "7"], ["--sample", "7", "--temperature", "1.5"]])
def test_same_command_same_bytes(tmp_path, source):
    for name in ("one", "two"):
        assert run(tmp_path / name, *source) == 0
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_seed_changes_invented_sentences_and_temperature_changes_captions(tmp_path):
    for name, args in {"a": [], "b": ["--seed", 1], "c": ["--temperature", 3]}.items():
        assert run(tmp_path / name, "--sample", 5, *args) == 0
    a, b, c = (rows(tmp_path / name) for name in "abc")
    assert [r["text"] for r in a] != [r["text"] for r in b]
    assert [r["text"] for r in a] == [r["text"] for r in c]
    assert [r["caption"] for r in a] != [r["caption"] for r in c]


def test_texts_file_skips_and_counts_empty_lines(tmp_path, capsys):
    file = tmp_path / "texts.txt"
    file.write_bytes("\ufeff".encode() + b"\n  \r\na red ball\r\n\r\n" + KNOWN[1].encode())
    assert run(tmp_path / "o", "--texts_file", file) == 0
    assert [r["text"] for r in rows(tmp_path / "o")] == KNOWN[:2]
    said = capsys.readouterr()
    assert "3 empty line(s)" in said.out
    assert said.err == f"{file} read as plain text, one sentence a line; first sentence: a red ball\n"


def test_texts_file_may_be_a_table_or_json_as_for_training(tmp_path, capsys):
    table = tmp_path / "texts.csv"
    table.write_text(f'image,caption\na.jpg,{KNOWN[0]}\nb.jpg,"{KNOWN[1]}"\n', encoding="utf-8")
    assert run(tmp_path / "o", "--texts_file", table) == 0
    assert [r["text"] for r in rows(tmp_path / "o")] == KNOWN[:2]
    assert "read as CSV, captions in column 'caption'" in capsys.readouterr().err
    table.write_text(f"a,b\nx.jpg,{KNOWN[0]}\ny.jpg,{KNOWN[1]}\nz.jpg,a red zebra\n", encoding="utf-8")
    assert run(tmp_path / "p", "--texts_file", table, "--captions_column", "b") == 1
    assert "texts.csv, line 4: unknown word 'zebra'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--text", "a red ball", "a red bal"], "--text 2: unknown word 'bal'; the nearest known word is 'ball'"),
        (["--text", "a red ball", ""], "--text 2 is empty"),
        (["--text", " ".join(["red"] * 27)], "--text 1 has 27 words; this model draws at most 24"),
        (["--texts_file", "missing.txt"], "missing.txt: No such file"),
        (["--texts_file", "."], "is not a regular file"),
        (["--texts_file", "/dev/zero"], "is not a regular file"),
    ],
)
def test_bad_sentences_are_one_line_before_anything_is_written(tmp_path, monkeypatch, capsys, args, says):
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path / "o", *args) == 1
    error = capsys.readouterr().err
    assert says in error and error.startswith("generate.py: ") and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a red ball\na zebra\n", "line 2: unknown word 'zebra'"),
        (b"\n \n\n", "holds no sentence"),
        (b"", "holds no sentence"),
        (b"a red ball\na bl\xffe ball", "line 2 is not UTF-8 text"),
        (b"a red ball " * 100000, "line 1 is too long"),
    ],
)
def test_bad_texts_file_is_one_line_before_anything_is_written(tmp_path, capsys, content, says):
    file = tmp_path / "texts.txt"
    file.write_bytes(content)
    assert run(tmp_path / "o", "--texts_file", file) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_too_long_line_of_a_file_is_named_and_the_others_are_drawn(tmp_path, capsys):
    file = tmp_path / "texts.txt"
    long = " ".join(["red"] * 27)
    file.write_text("\n".join([KNOWN[0], long, KNOWN[1], "a " * 40000]), encoding="utf-8")
    assert run(tmp_path / "o", "--texts_file", file) == 1
    out, err = capsys.readouterr()
    assert f"generate.py: {file}, line 2 has 27 words; this model draws at most 24\n" in err
    assert f"generate.py: {file}, line 4 is too long" in err and "2 of 2 sentences" in out
    assert [r["text"] for r in rows(tmp_path / "o")] == KNOWN[:2]


@pytest.mark.parametrize("temperature", ["1e-39", "1e-30", "1e-7", "5e-324"])
def test_a_tiny_temperature_is_greedy(tmp_path, temperature):
    assert run(tmp_path / "a", "--text", *KNOWN, "--temperature", temperature) == 0
    assert [r["caption"] for r in rows(tmp_path / "a")] == KNOWN


@pytest.mark.parametrize(
    "args", [[], ["--text", "a", "--sample", "3"], ["--sample", "0"], ["--sample", "1", "--temperature", "nan"]]
)
def test_wrong_flags_exit_2(tmp_path, args):
    with pytest.raises(SystemExit) as exit_:
        run(tmp_path / "o", *args)
    assert exit_.value.code == 2


def test_out_dir_that_is_a_file(tmp_path, capsys):
    (tmp_path / "o").write_text("mine", encoding="utf-8")
    assert run(tmp_path / "o", "--sample", 1) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "o") in error and error.count("\n") == 1
    assert (tmp_path / "o").read_text(encoding="utf-8") == "mine"


def test_failure_midway_leaves_no_half_written_list(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(generate, "png_bytes", full)
    assert run(tmp_path / "o", "--sample", 1) == 1
    assert capsys.readouterr().err == "generate.py: somewhere: No space left on device\n"
    assert list((tmp_path / "o").iterdir()) == []


def test_many_sentences_go_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "BATCH", 4)
    seen = []
    monkeypatch.setattr(generate, "draw_sentences", lambda *a: seen.append(len(a[2])) or real(*a))
    from pictures import draw_sentences as real

    assert run(tmp_path, "--sample", 10) == 0
    assert seen == [4, 4, 2]
    assert [r["image"] for r in rows(tmp_path)] == [f"{i:05d}.png" for i in range(10)]
    cycle, vocab, _ = load_model(parrot(), "cpu")
    again, _ = read_pictures(cycle, vocab, load_pngs([tmp_path / r["image"] for r in rows(tmp_path)]), "cpu")
    assert again == [r["caption"] for r in rows(tmp_path)]


def test_invented_sentences_have_words_of_the_vocabulary(tmp_path):
    assert run(tmp_path, "--sample", 20, checkpoint=blank()) == 0
    vocab = Vocabulary.of_grammar()
    texts = [r["text"] for r in rows(tmp_path)]
    assert all(vocab.decode(vocab.encode(t)) == t and t for t in texts)
    assert len(set(texts)) > 10
    assert not all(parse(t) for t in texts)  # an untrained model knows no grammar: they are its own


def test_a_sentence_of_another_form_is_drawn_with_a_note(tmp_path, capsys):
    assert run(tmp_path / "a", "--text", "a red ball", "ball red the", "box") == 0
    note = capsys.readouterr().err
    assert "no training sentence has the form of 'ball red the' and 1 more" in note and "[COLOR] OBJECT" in note
    assert run(tmp_path / "b", "--text", "a red ball") == 0
    assert "note" not in capsys.readouterr().err


def test_layers_shows_each_part_over_its_words(tmp_path, capsys):
    for decoder in ("objects", "glyphs"):
        assert run(tmp_path / decoder, "--layers", "--text", *KNOWN, checkpoint=blank(decoder)) == 0
        with Image.open(tmp_path / decoder / "layers.png") as image:
            assert image.height > 64 * len(KNOWN) and len(image.getcolors(1 << 24)) > 100
    assert run(tmp_path / "b", "--layers", "--sample", 1, checkpoint=blank("conv")) == 1
    assert "conv decoder" in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_pictures_of_many_sentences_are_not_kept(tmp_path, monkeypatch):
    """Counted when all is drawn: what any tensor of pictures, a view too, still holds in memory."""

    def held():
        pictures = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.shape[1:] == (3, 64, 64)]
        return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in pictures}

    def count(*_):
        seen.append(sum(size for at, size in held().items() if at not in before) / (3 * 64 * 64 * 4))
        return Image.new("RGB", (1, 1))

    before = held()  # what other tests keep
    seen = []
    monkeypatch.setattr(generate, "BATCH", 50)
    monkeypatch.setattr(generate, "draw_scene_sheet", count)
    assert run(tmp_path, "--sample", 300) == 0
    assert 96 <= seen[0] <= 96 + 96 + 50  # the sheet, its parts, the last block


# ---------------------------------------------------------------------------------------------
# Folders that hold an earlier run, and runs that are stopped
# ---------------------------------------------------------------------------------------------


def start(folder):
    """A process that draws into folder/o, and has drawn some pictures."""
    program = "import sys, generate; generate.BATCH = 16; sys.exit(generate.main(sys.argv[1:]))"
    command = ["-c", program, "--checkpoint", parrot(), "--sample", 10**6, "--out_dir", "o"]
    process = Process(command, folder, script_env({"PYTHONPATH": str(ROOT)}))
    while process.poll() is None and not (folder / "o" / "00016.png").exists():
        time.sleep(0.05)
    return process


def pictures_in(folder):
    return sorted(p.name for p in folder.iterdir() if p.name[:5].isdigit())


def test_a_smaller_run_leaves_no_picture_of_the_one_before(tmp_path):
    mine = ["00099.png", "holiday.png", "notes.txt"]
    assert run(tmp_path, "--text", *KNOWN, "--layers", checkpoint=blank("objects")) == 0
    for name in mine:
        (tmp_path / name).write_text("mine", encoding="utf-8")
    assert run(tmp_path, "--text", *KNOWN[:2]) == 0
    assert names(tmp_path) == sorted(["00000.png", "00001.png", "captions.jsonl", "contact_sheet.png", *mine])
    assert [r["text"] for r in rows(tmp_path)] == KNOWN[:2]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_what_a_killed_run_leaves_is_gone_after_the_next_one(tmp_path):
    process = start(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.finish(timeout=120)
    assert pictures_in(tmp_path / "o") and not (tmp_path / "o" / "captions.jsonl").exists()
    assert run(tmp_path / "o", "--sample", 2) == 0
    assert names(tmp_path / "o") == ["00000.png", "00001.png", "captions.jsonl", "contact_sheet.png"]


def test_a_refused_run_leaves_the_one_before_as_it_was(tmp_path):
    assert run(tmp_path, "--text", *KNOWN) == 0
    before = everything_in(tmp_path)
    assert run(tmp_path, "--text", "a red zebra") == 1 and everything_in(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_list_of_all_pictures_that_are_there(tmp_path, capsys, number):
    process = start(tmp_path)
    assert run(tmp_path / "o", "--sample", 1) == 1
    assert "o is in use by another process" in capsys.readouterr().err
    process.send_signal(number)
    done = process.finish(timeout=120)
    listed = [r["image"] for r in rows(tmp_path / "o")]
    assert done.returncode == 128 + number and len(listed) >= 16
    assert pictures_in(tmp_path / "o") == listed
    assert [p.name for p in (tmp_path / "o").glob(".*")] == [MANIFEST]
    where = os.path.join("o", "captions.jsonl")
    assert (
        done.stderr == f"generate.py: interrupted; {len(listed)} of 1000000 sentences are drawn, each is in {where}\n"
    )
    assert (tmp_path / "o" / "contact_sheet.png").exists()


def test_a_failure_after_some_blocks_leaves_a_list_of_what_is_there(tmp_path, monkeypatch, capsys):
    real, calls = generate.png_bytes, []

    def full_later(*args):
        calls.append(args)
        if len(calls) == 10:  # in the third block
            raise OSError(28, "No space left on device", "somewhere")
        return real(*args)

    monkeypatch.setattr(generate, "BATCH", 4)
    monkeypatch.setattr(generate, "png_bytes", full_later)
    assert run(tmp_path / "o", "--sample", 20) == 1
    assert capsys.readouterr().err.endswith("generate.py: somewhere: No space left on device\n")
    assert (
        pictures_in(tmp_path / "o") == [r["image"] for r in rows(tmp_path / "o")] == [f"{i:05d}.png" for i in range(8)]
    )


@pytest.mark.parametrize("mine", ["00000.png", "captions.jsonl", "contact_sheet.png"])
def test_a_foreign_file_in_the_way_is_refused_before_anything_is_written(tmp_path, capsys, mine):
    (tmp_path / mine).write_text('{"image": "00017.png"}', encoding="utf-8")
    (tmp_path / "00017.png").write_text("mine", encoding="utf-8")
    before = everything_in(tmp_path)
    assert run(tmp_path, "--text", KNOWN[0]) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path / mine} is in the way" in error and "add --overwrite" in error and error.count("\n") == 1
    assert everything_in(tmp_path) == before
    assert run(tmp_path, "--text", KNOWN[0], "--overwrite") == 0
    assert rows(tmp_path)[0]["caption"] == KNOWN[0] and (tmp_path / "00017.png").read_text(encoding="utf-8") == "mine"


def everything_in(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_changed_output_is_a_users_file(tmp_path):
    assert run(tmp_path, "--text", *KNOWN) == 0
    for name in ("00000.png", "00003.png"):
        (tmp_path / name).write_bytes(b"painted over")
    before = everything_in(tmp_path)
    assert run(tmp_path, "--text", KNOWN[0]) == 1 and everything_in(tmp_path) == before
    (tmp_path / "00000.png").unlink()
    assert run(tmp_path, "--text", KNOWN[0]) == 0
    assert names(tmp_path) == ["00000.png", "00003.png", "captions.jsonl", "contact_sheet.png"]
    assert (tmp_path / "00003.png").read_bytes() == b"painted over"


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_an_input_in_the_output_folder_is_never_replaced(tmp_path, capsys, flags):
    folder = tmp_path / "ds"
    folder.mkdir()
    (folder / "captions.jsonl").write_text(json.dumps({"caption": KNOWN[0], "image": "00000.png"}), encoding="utf-8")
    (folder / "00000.png").write_text("mine", encoding="utf-8")
    (tmp_path / "link").symlink_to(folder / "captions.jsonl")
    before = everything_in(folder)
    for file in (folder / "captions.jsonl", tmp_path / "link"):
        assert run(folder, "--texts_file", file, *flags) == 1
        error = capsys.readouterr().err
        assert "is an input" in error and error.count("\n") == 1
    assert everything_in(folder) == before


def test_the_same_command_again_gives_the_same_bytes_in_the_same_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert run(tmp_path, "--text", *KNOWN) == 0
    before = everything_in(tmp_path)
    assert run(tmp_path, "--sample", 9) == 0 and run(tmp_path, "--text", *KNOWN) == 0
    assert everything_in(tmp_path) == before


# ---------------------------------------------------------------------------------------------
# Codes, of models trained with --use_vq
# ---------------------------------------------------------------------------------------------


def test_codes_are_printed_and_drawn_again_as_the_same_picture(tmp_path, capsys):
    model = blank(use_vq=True)
    assert run(tmp_path / "a", "--text", *KNOWN, "--codes", checkpoint=model) == 0
    printed = capsys.readouterr().out.splitlines()[: len(KNOWN)]
    written = [row["codes"] for row in rows(tmp_path / "a")]
    assert printed == [f"{codes}    {text}" for codes, text in zip(written, KNOWN)] and "ground" not in written[0]
    assert run(tmp_path / "b", "--from_codes", *written, "--from_codes", f"  {written[0]} ", checkpoint=model) == 0
    again = rows(tmp_path / "b")
    assert [row["codes"] for row in again] == [*written, written[0]]
    for i in range(len(KNOWN)):
        one, two = (load_pngs([tmp_path / folder / f"{i:05d}.png"]) for folder in "ab")
        assert (one - two).abs().max() <= 1.01 / 255
    captions, _ = read_pictures(
        *load_model(model, "cpu")[:2], load_pngs([tmp_path / "b/00000.png"]), torch.device("cpu")
    )
    assert again[0]["caption"] == captions[0]
    assert "captions have the codes that were typed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, use_vq, named",
    [
        (
            ["--from_codes", "color=0", "colour=1"],
            True,
            "--from_codes 2: 'colour=1' is no code; the codes of this model are color=0...11 ",
        ),
        (["--from_codes", "color=99"], True, "color is a whole number from 0 to 11"),
        (["--from_codes", "color=0", "--layers"], True, "--layers"),
        (["--from_codes", "color=0"], False, "--from_codes needs a model with codes, which train.py --use_vq makes"),
        (["--text", KNOWN[0], "--codes"], False, "--codes needs a model with codes"),
    ],
)
def test_bad_codes_are_one_line_and_nothing_is_written(tmp_path, capsys, flags, use_vq, named):
    assert run(tmp_path / "o", *flags, checkpoint=blank(use_vq=use_vq)) == 1
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1 and not (tmp_path / "o").exists()
