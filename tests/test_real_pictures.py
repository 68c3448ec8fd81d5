"""Real pictures beside scenes: where they come from, their statistics, and whether a model knows its own scenes from them."""

import json
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawings import scene, thing
from evaluation_cases import SMALL, ignore
from parrot import blank
from PIL import Image

import caption
import evaluate
import generate
from channel import shift
from checkpoints import PRETRAINED
from evaluation.measures import picture_statistics
from evaluation.measures.robustness import STANDARD, corrupt
from evaluation.picture_folder import crops_of, open_real_pictures, shipped_pictures
from evaluation.protocol import open_model
from evaluation.sections import real_captions
from evaluation.sections import real_pictures as real_section
from pictures import read_pictures, to_image
from runtime.command_line import UserError
from scene_check import SceneCheck, unexplained
from text.grammar import different_sentences


@pytest.fixture(scope="module")
def pretrained():
    return open_model(PRETRAINED, torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with three pictures, one of them in a subfolder, a text, and a hidden file."""
    path = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (path / "more").mkdir()
    for name, size in (("wide.png", (200, 90)), ("small.png", (20, 30)), ("more/gray.jpg", (100, 100))):
        noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)
        (noise.convert("L") if "gray" in name else noise).save(path / name)
    (path / "readme.txt").write_text("no picture", encoding="utf-8")
    (path / ".hidden").write_text("not looked at", encoding="utf-8")
    return path


# ---------------------------------------------------------------------------------------------
# Where they come from
# ---------------------------------------------------------------------------------------------


def test_crops_of_a_folder_are_as_many_of_each_picture(folder):
    real = open_real_pictures(str(folder), 10, 0)
    assert real.crops.shape == (12, 3, 64, 64) and 0 <= real.crops.min() < real.crops.max() <= 1
    assert [p.rsplit("/", 1)[1] for p in real.paths] == ["small.png", "wide.png", "gray.jpg"]
    assert np.bincount(real.picture_of_crop).tolist() == [4, 4, 4]
    assert len(real.left_out) == 1 and "readme.txt has no name of a picture" in real.description()[1]
    assert torch.equal(real.crops, open_real_pictures(str(folder), 10, 0).crops)
    assert not torch.equal(real.crops, open_real_pictures(str(folder), 10, 1).crops)


def test_of_many_pictures_some_are_drawn_by_lot(folder):
    drawn = {tuple(open_real_pictures(str(folder), 4, seed).paths) for seed in range(4)}
    assert {len(paths) for paths in drawn} == {2} and len(drawn) > 1


def test_crops_are_near_and_far_views():
    x = np.arange(640)
    ramp = Image.fromarray(np.broadcast_to(x * 255 // 639, (640, 640)).astype(np.uint8)).convert("RGB")
    spans = [float(np.ptp(crop[0])) for crop in crops_of(ramp, 60, np.random.default_rng(0)).numpy()]
    assert min(spans) < 0.15 and max(spans) > 0.8  # a tenth of the picture, nearly all of it


def test_photographs_come_with_the_requirements():
    packages, paths = shipped_pictures()
    assert {"sklearn", "matplotlib"} <= set(packages) and len(paths) >= 3
    assert len(open_real_pictures(True, 9, 0).paths) == min(4, len(paths))


def bomb(path):
    """A PNG file whose header claims 60,000 x 60,000 pixels."""
    Image.new("1", (8, 8)).save(path)
    small = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 60000, 60000) + small[24:29]
    path.write_bytes(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])


def make_bad_folder(path, kind):
    if kind == "missing":
        return "does not exist"
    if kind == "a file":
        path.write_text("x", encoding="utf-8")
        return "is a file"
    path.mkdir()
    if kind == "text":
        (path / "a.txt").write_text("x", encoding="utf-8")
        return "holds no picture that can be read .*a.txt has no name of a picture"
    if kind == "one picture":
        Image.new("RGB", (80, 80)).save(path / "a.png")
        return "holds one picture that can be read; at least 2"
    if kind == "huge":
        bomb(path / "a.png")
        return "holds no picture that can be read .*a.png has more than 80 million pixels"
    return "is empty"


@pytest.mark.parametrize("kind", ["missing", "a file", "empty", "text", "one picture", "huge"])
def test_bad_folders_are_one_line(tmp_path, capsys, kind):
    path = tmp_path / "photos"
    expected = make_bad_folder(path, kind)
    with pytest.raises(UserError, match=expected):
        open_real_pictures(str(path), 10, 0)
    out = str(tmp_path / "report")
    assert evaluate.main(["--checkpoint", PRETRAINED, "--out_dir", out, "--quick", "--real_pictures", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("evaluate.py: --real_pictures") and error.count("\n") == 1
    assert not (tmp_path / "report").exists()


# ---------------------------------------------------------------------------------------------
# Statistics
# ---------------------------------------------------------------------------------------------


def test_statistics_of_pictures_that_are_known():
    flat, halves = torch.full((2, 3, 64, 64), 0.3)
    halves[:, :, 16:] = 0.8
    disc = scene([thing((32, 32), (0.9, 0.5, 0.2), 10)])
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    pictures = torch.stack([flat, halves, torch.as_tensor(disc, dtype=torch.float32), noise])
    colors = picture_statistics.number_of_colors(pictures)
    assert colors[0] == pytest.approx(1) and colors[1] == pytest.approx(
        np.exp(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))
    )
    assert colors[2] < 4 and colors[3] > 400
    regions = picture_statistics.number_of_regions(pictures)
    assert regions[:2].tolist() == [1, 2] and regions[2] == 2 and regions[3] < 5
    edges = picture_statistics.edge_density(pictures)
    assert edges[0] == 0 and edges[1] == pytest.approx(64 / (2 * 64 * 63)) and edges[3] > 0.95
    share, objects, contrast = picture_statistics.foreground_and_background(pictures)
    assert objects[[0, 2]].tolist() == [0, 1] and contrast[0] == 0 < 30 < contrast[2]
    assert share[0] == 0 and share[2] == pytest.approx(np.pi * 10**2 / 64**2, rel=0.15)


def test_shuffled_squares_hold_the_same_pixels():
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mixed = real_section.shuffled_blocks(pictures, torch.Generator().manual_seed(1))
    assert not torch.equal(mixed, pictures)
    assert torch.equal(mixed.flatten(2).sort(-1)[0], pictures.flatten(2).sort(-1)[0])
    squares = {s.numpy().tobytes() for s in pictures[0].unfold(1, 16, 16).unfold(2, 16, 16).flatten(1, 2).movedim(1, 0)}
    assert {
        s.numpy().tobytes() for s in mixed[0].unfold(1, 16, 16).unfold(2, 16, 16).flatten(1, 2).movedim(1, 0)
    } == squares


# ---------------------------------------------------------------------------------------------
# Is it a scene?
# ---------------------------------------------------------------------------------------------


def left_by(model, pictures):
    captions, _ = read_pictures(model.cycle, model.vocab, pictures, model.device)
    return unexplained(pictures, model.draw(captions))


def test_unexplained_is_nothing_for_the_same_picture_and_much_for_another():
    a, b = (
        torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        .round()
        .repeat_interleave(4, 3)
        .repeat_interleave(4, 4)
    )
    assert unexplained(a, a).tolist() == [0.0] and 0.9 < float(unexplained(a, b)) < 2.5
    assert (
        float(unexplained(shift(a, 2, -2), a)) < 0.2 < 0.35 < float(unexplained(shift(a, 4, 0), a))
    )  # not where it stands
    plain = torch.full((1, 3, 64, 64), 0.5)
    assert float(unexplained(plain, plain + 0.1)) > 50  # little is left over, but there was little to explain


def test_a_trained_model_knows_its_scenes_from_real_pictures(pretrained):
    scenes = pretrained.draw(pretrained.sentences(40, "val", 1))
    real = left_by(pretrained, open_real_pictures(True, 40, 1).crops)
    check = SceneCheck.of(pretrained.cycle, pretrained.vocab, pretrained.settings, pretrained.device)
    assert float((check.probability(real) < 0.5).double().mean()) >= 0.95
    for kind in ("jpeg_50", "blur_1", "noise_0.1"):
        own = left_by(pretrained, corrupt(scenes, *STANDARD[kind]))
        assert real_section.area(-own.numpy(), -real.numpy()) >= 0.99
        assert float((check.probability(own) >= 0.5).double().mean()) >= 0.95


def test_caption_says_how_likely_a_picture_is_a_scene(tmp_path, capsys):
    assert (
        generate.main(
            ["--checkpoint", PRETRAINED, "--out_dir", str(tmp_path), "--text", "a large red ball in the left"]
        )
        == 0
    )
    capsys.readouterr()
    photo = shipped_pictures()[1][0]
    assert caption.main(["--checkpoint", PRETRAINED, str(tmp_path / "00000.png"), photo]) == 0
    scene_row, photo_row = map(json.loads, capsys.readouterr().out.splitlines())
    assert scene_row["caption"] == "a large red ball in the left" and scene_row["scene_probability"] > 0.9
    assert photo_row["scene_probability"] < 0.1


def test_a_model_that_reads_nothing_right_is_not_sure(pretrained):
    check = SceneCheck(offset=0.0, slope=0.0)
    assert check.probability(torch.tensor([0.0, 0.1, 9.0])).tolist() == [0.5] * 3
    untrained = open_model(blank(), torch.device("cpu"))
    check = SceneCheck.of(untrained.cycle, untrained.vocab, untrained.settings, untrained.device)
    assert check.slope <= 0 and torch.isfinite(check.probability(torch.tensor([0.0, 1.0, 1e9]))).all()


@pytest.mark.slow
def test_the_section_has_other_models_where_there_are_some(pretrained):
    other = open_model(blank(), torch.device("cpu"))
    pretrained.real, pretrained.others = open_real_pictures(True, 9, 0), [other]
    try:
        section = real_section.real_pictures_section(pretrained, SMALL, 0, ignore)
    finally:
        pretrained.real, pretrained.others = None, ()
    ids = set(section["metrics"])
    assert {"real/auroc/other_models", "real/taken_for_scene/other_models", "real/auroc/real_pictures/jpeg_50"} <= ids
    assert "this_model/blur_1" in section["details"]["quantiles"]
    for plot in real_section.distribution_plots(section["details"]):
        assert all(0 <= row[part] <= 100 for row in plot["rows"] for part in ("low", "middle", "high"))


# ---------------------------------------------------------------------------------------------
# Captions that name their pictures
# ---------------------------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path):
    """A model whose captions file names a picture in a folder for each caption: that caption's own scene -> (model, folder)."""
    model = open_model(blank(), torch.device("cpu"))
    sentences = different_sentences(24, "val", 0)
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = []
    for number, (sentence, picture) in enumerate(zip(sentences, model.draw(sentences))):
        to_image(picture).save(folder / f"COCO_val_{number:012d}.png")
        lines.append({"image_id": number, "caption": sentence.capitalize() + "."})
    for name, some in (("test", lines), ("train", [{"image_id": 99, "caption": "a cat"}])):
        (tmp_path / f"{name}.json").write_text(json.dumps(some), encoding="utf-8")
    model.data = SimpleNamespace(
        files={"train": str(tmp_path / "train.json"), "test": str(tmp_path / "test.json")},
        column="",
        file_format="auto",
    )
    model.lines = [line["caption"] for line in lines]
    return model, folder


def test_captions_with_like_pictures_have_like_scenes_where_the_pictures_are_the_scenes(named):
    model, folder = named
    found = real_captions.like_pictures_like_scenes(model, str(folder), SMALL, 0)[
        "real/like_pictures_like_scenes/pixels"
    ]
    assert found["n"] == 24 and found["value"] == pytest.approx(1, abs=1e-6) and found["note"] == "Mantel p = 0.05"
    assert abs(found["baselines"]["shuffled_pictures"]) < 0.5
    for path in sorted(folder.iterdir())[5:]:
        path.unlink()
    assert real_captions.like_pictures_like_scenes(model, str(folder), SMALL, 0) == {}  # five are too few
