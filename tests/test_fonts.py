"""Letters of any script on pictures: in a font that has them, in lines that fit, or with one warning."""

import matplotlib
import pytest
import torch
from fontTools import subset
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw

from imaging import fonts
from visualization import grid_sheet, round_trips, scene_sheet

SCRIPTS = {"Latin": "ñöäßłőğ", "Cyrillic": "жяёі", "Greek": "αβψώ", "Hebrew": "אבש", "Arabic": "كرة", "Armenian": "աբգ"}
PICTURES = torch.full((2, 3, 64, 64), 0.5)


@pytest.fixture
def fresh():
    """No font is known and nothing was warned of."""
    caches = (fonts.letters_of, fonts.system_fonts, fonts.font_for, fonts._load)
    for cache in caches:
        cache.cache_clear()
    told = set(fonts._warned)
    fonts._warned.clear()
    yield
    fonts._warned.update(told)
    for cache in caches:
        cache.cache_clear()


def sheet(path, text):
    scene_sheet(PICTURES[:1], [text], path)
    return path.read_bytes()


@pytest.mark.parametrize("script", SCRIPTS)
def test_two_letters_look_different_on_every_picture_so_none_is_a_box(tmp_path, script, capsys):
    letters = SCRIPTS[script]
    assert len({sheet(tmp_path / "a.png", letter) for letter in letters}) == len(letters)
    for draw in (
        lambda text, path: round_trips([text], PICTURES[:1], [text], path),
        lambda text, path: grid_sheet(PICTURES, [text], ["a", "b"], path),
    ):
        seen = set()
        for letter in letters[:2]:
            draw(letter, tmp_path / "b.png")
            seen.add((tmp_path / "b.png").read_bytes())
        assert len(seen) == 2
    assert capsys.readouterr().err == ""


def test_what_no_font_has_is_one_warning_that_names_it_and_the_cure(tmp_path, monkeypatch, capsys, fresh):
    monkeypatch.setattr(fonts, "system_fonts", lambda: [])
    for _ in range(2):
        round_trips(["a 犬 runs", "größe"], PICTURES, ["a 猫 runs", "größe"], tmp_path / "a.png")
        scene_sheet(PICTURES, ["a 犬", "b"], tmp_path / "b.png")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no font here has 犬 猫;" in said and "Noto Sans CJK" in said
    scene_sheet(PICTURES, ["लाल", "b"], tmp_path / "b.png")
    assert "no font here has ल" in capsys.readouterr().err  # others are told of, too


def test_a_font_of_the_system_draws_what_the_first_one_lacks(tmp_path, monkeypatch, capsys, fresh):
    whole = fonts.BASE
    font = TTFont(whole)
    cutter = subset.Subsetter()
    cutter.populate(unicodes=range(32, 127))
    cutter.subset(font)
    font.save(tmp_path / "latin.ttf")
    monkeypatch.setattr(fonts, "BASE", str(tmp_path / "latin.ttf"))
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    monkeypatch.setattr(fonts, "system_fonts", lambda: [str(broken), whole])
    assert fonts.runs_of_fonts("a жя b") == [(fonts.BASE, "a "), (whole, "жя"), (fonts.BASE, " b")]
    assert sheet(tmp_path / "a.png", "a ж") != sheet(tmp_path / "b.png", "a я")
    assert capsys.readouterr().err == ""


def test_the_fonts_of_this_machine_are_looked_through(fresh):
    assert all(isinstance(path, str) for path in fonts.system_fonts())
    assert fonts.letters_of(fonts.BASE) > {ord(c) for c in "aßжψ"}
    assert fonts.BASE.startswith(matplotlib.get_data_path())


def test_signs_that_show_nothing_draw_nothing(tmp_path, fresh, capsys):
    assert sheet(tmp_path / "a.png", "a\u200b\ufe0f\u2066b\u2069") == sheet(tmp_path / "b.png", "ab")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "text", ["the quick brown fox jumps over the lazy dog", "犬が走る" * 20, "x" * 300, "word " * 200, "", "a"]
)
def test_lines_fit_their_width(text):
    lines = fonts.wrap(text, 120, 12)
    assert 1 <= len(lines) <= 4 and all(fonts.width_of(line, 12) <= 120 for line in lines)
    shown = "".join(lines).replace(" ", "")
    assert shown == text.replace(" ", "") or shown.endswith("…") and text.replace(" ", "").startswith(shown[:-1])


def test_a_line_on_a_picture_ends_where_its_width_says():
    image = Image.new("L", (300, 40), 255)
    fonts.draw_text(ImageDraw.Draw(image), (5, 5), "größe и снег", 13, 0)
    left, top, right, bottom = image.point(lambda v: 255 - v).getbbox()
    assert 4 <= left and right <= 5 + fonts.width_of("größe и снег", 13) + 2 and 4 <= top and bottom <= 25
