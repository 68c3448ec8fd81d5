"""export.py: a folder that every script takes in place of a .pt file, and that is refused in one line when damaged."""

import json

import pytest
import torch
from conftest import run_forked
from parrot import KNOWN, blank, parrot
from safetensors.torch import load as read_weights

import caption
import export
import generate
from checkpoints import CheckpointError, chosen_checkpoint, load, load_model


@pytest.fixture
def exported(tmp_path):
    folder = tmp_path / "model"
    assert export.main(["--checkpoint", parrot(), "--out_dir", str(folder)]) == 0
    return folder


def test_real_command_and_its_folder(tmp_path):
    done = run_forked("export.py", "--checkpoint", parrot(), "--out_dir", "a/b", cwd=tmp_path)
    assert done.returncode == 0 and "model.safetensors" in done.stdout, done.stderr
    folder = tmp_path / "a" / "b"
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "model.safetensors"]
    about, state = json.loads((folder / "model.json").read_text(encoding="utf-8")), load(parrot())
    for key in ("format", "settings", "vocabulary", "articles", "max_tokens"):
        assert about[key] == state[key]
    weights = read_weights((folder / "model.safetensors").read_bytes())
    assert weights.keys() == state["model"].keys()
    assert all(torch.equal(weights[name], state["model"][name]) for name in weights)


def test_every_script_does_the_same_with_the_export(exported, tmp_path, capsys):
    for name, checkpoint in (("pt", parrot()), ("export", exported)):
        out = str(tmp_path / name)
        assert generate.main(["--checkpoint", str(checkpoint), "--out_dir", out, "--text", *KNOWN, "a gray box"]) == 0
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("pt", "export"))
    assert one == two and len(one) == len(KNOWN) + 4
    lines = []
    for checkpoint in (parrot(), exported):
        capsys.readouterr()
        assert (
            caption.main(["--checkpoint", str(checkpoint), *[str(tmp_path / "pt" / f"{i:05d}.png") for i in range(5)]])
            == 0
        )
        lines.append(capsys.readouterr().out)
    assert lines[0] == lines[1] and [json.loads(x)["caption"] for x in lines[0].splitlines()][:4] == KNOWN


def test_an_export_can_be_exported(exported, tmp_path):
    assert export.main(["--checkpoint", str(exported), "--out_dir", str(tmp_path / "again")]) == 0
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()


def test_an_export_is_replaced_with_overwrite_only_and_other_files_stay(exported, capsys):
    (exported / "notes.txt").write_text("mine", encoding="utf-8")
    before = (exported / "model.safetensors").read_bytes()
    command = ["--checkpoint", blank(), "--out_dir", str(exported)]
    assert export.main(command) == 1
    error = capsys.readouterr().err
    assert "--overwrite" in error and error.count("\n") == 1
    assert (exported / "model.safetensors").read_bytes() == before
    assert export.main([*command, "--overwrite"]) == export.main([*command, "--force"]) == 0
    assert (exported / "model.safetensors").read_bytes() != before
    assert (exported / "notes.txt").read_text(encoding="utf-8") == "mine"
    load_model(str(exported), "cpu")


def test_errors_are_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for checkpoint, out in (("no.pt", tmp_path / "o"), (parrot(), tmp_path / "file"), (str(tmp_path), tmp_path / "o")):
        assert export.main(["--checkpoint", checkpoint, "--out_dir", str(out)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("export.py: ") and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def refused(folder):
    with pytest.raises(CheckpointError) as error:
        load_model(str(folder), "cpu")
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_missing_empty_cut_and_flipped_files(exported, name):
    path = exported / name
    whole = path.read_bytes()
    path.unlink()
    assert "missing" in refused(exported)
    for data in (
        b"",
        whole[:100],
        whole[:-1],
        b"\0" * len(whole),
        b"[" * 100000,
        b"[1]",
        b"null",
        whole[: len(whole) // 2] * 2,
    ):
        path.write_bytes(data)
        refused(exported)
    path.write_bytes(whole)
    load_model(str(exported), "cpu")
    if name == "model.safetensors":  # a single bit in the weights shows
        flipped = bytearray(whole)
        flipped[-5] ^= 1
        path.write_bytes(flipped)
        assert "damaged" in refused(exported)
    path.unlink()
    path.mkdir()
    refused(exported)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99}, {"format": "1"}, {"settings": {}}, {"settings": None}, {"settings": {"d_model": "512"}}, {"max_tokens": -3},
        {"max_tokens": 10**15}, {"vocabulary": ["<pad>"]}, {"vocabulary": None}, {"vocabulary": 7}, {"sha256": 5},
        {"articles": None},
    ],
)  # fmt: skip
def test_hostile_descriptions(exported, change):
    about = json.loads((exported / "model.json").read_text(encoding="utf-8"))
    (exported / "model.json").write_text(json.dumps({**about, **change}), encoding="utf-8")
    if change == {"articles": None}:
        assert load_model(str(exported), "cpu")[1].articles is False
    else:
        refused(exported)


@pytest.mark.parametrize("name", ["d_model", "n_layers", "hidden_dim", "z_dim", "n_heads", "n_cells"])
@pytest.mark.parametrize("value", [-1, 0, 10**12, 3.5, "x", None, [1]])
def test_settings_that_ask_for_more_than_the_weights_hold(exported, name, value):
    """Refused before memory is taken: 10**12 would not fit any machine."""
    if (name, value) == ("n_cells", 0):
        pytest.skip("the default of models without cells")
    about = json.loads((exported / "model.json").read_text(encoding="utf-8"))
    about["settings"][name] = value
    (exported / "model.json").write_text(json.dumps(about), encoding="utf-8")
    if (name, value) == ("n_cells", 0):  # chosen by the training sentences
        load_model(str(exported), "cpu")
    else:
        refused(exported)


def test_words_that_are_no_words(exported):
    about = json.loads((exported / "model.json").read_text(encoding="utf-8"))
    for word in (5, "", "ball", None):
        changed = {**about, "vocabulary": [*about["vocabulary"][:-1], word]}
        (exported / "model.json").write_text(json.dumps(changed), encoding="utf-8")
        assert "vocabulary" in refused(exported)


def test_an_export_into_its_own_folder_is_refused(exported, capsys):
    before = {p.name: p.read_bytes() for p in exported.iterdir()}
    for checkpoint in (exported, exported / "model.safetensors"):
        assert export.main(["--checkpoint", str(checkpoint), "--out_dir", str(exported), "--half", "--overwrite"]) == 1
        error = capsys.readouterr().err
        assert "is an input" in error and error.count("\n") == 1
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == before


def test_a_folder_of_a_users_files_may_take_an_export(tmp_path):
    (tmp_path / "model.txt").write_text("mine", encoding="utf-8")
    assert export.main(["--checkpoint", parrot(), "--out_dir", str(tmp_path)]) == 0
    assert (tmp_path / "model.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_file_of_an_export_stands_for_its_folder(exported, tmp_path, name, monkeypatch):
    out = tmp_path / "out"
    assert generate.main(["--checkpoint", str(exported / name), "--out_dir", str(out), "--text", KNOWN[0]]) == 0
    monkeypatch.chdir(exported)
    assert chosen_checkpoint(name) == "."


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "best.pt"])
def test_a_git_lfs_pointer_is_called_one(exported, name):
    path = exported / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        load_model(str(path if name == "best.pt" else exported), "cpu")
