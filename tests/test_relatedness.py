"""Whether pictures are alike where people find sentences related, on pairs whose answer is known."""

import numpy as np
import pytest
import torch
from conftest import ROOT, run_script

from captions.lines import CaptionsFileError
from evaluation.measures.relatedness import permutation_p, read_pairs, relatedness, spearman
from evaluation.metric import OWN

COLUMNS = ("sentence_A", "sentence_B", "relatedness_score")
PAIRS = [(f"Ball number {i}.", f"Box {i} and {9 - i}.", 5 - i / 10) for i in range(40)]


class Gray:
    """A model under test whose picture of the first sentence is black, and of the second as bright as the pair is unrelated."""

    @staticmethod
    def draw_with_baselines(sentences, seed):
        brightness = {b: (5 - score) / 5 for _, b, score in PAIRS}
        rng = torch.Generator().manual_seed(seed)
        own = torch.stack([torch.full((3, 64, 64), brightness.get(s, 0.0)) for s in sentences])
        return {OWN: own, "random_decoder": torch.rand(len(sentences), 3, 1, 1, generator=rng).expand(-1, -1, 64, 64)}


def write(path, *rows):
    path.write_text("\n".join(["pair_ID\t" + "\t".join(COLUMNS), *rows]), encoding="utf-8")
    return str(path)


def test_pictures_that_follow_relatedness_correlate_and_others_do_not():
    found = {row["what"]: row for row in relatedness(Gray, PAIRS, 0, 99)}
    own, shuffled, random = (found[name, "pixels"] for name in (OWN, "shuffled_pictures", "random_decoder"))
    assert own["rho"] > 0.95 and own["given_words"] > 0.9 and own["p"] == 0.01
    assert abs(shuffled["rho"]) < 0.4 and shuffled["p"] > 0.01 and abs(random["rho"]) < 0.4
    assert (found["words", "overlap"]["given_words"], len(found)) == (None, 7)


def test_what_words_explain_is_taken_out():
    rng = np.random.default_rng(0)
    words = rng.random(500)
    pictures, people = words + rng.random(500) / 5, words + rng.random(500) / 5
    assert spearman(pictures, people) > 0.9 and abs(spearman(pictures, people, words)) < 0.15
    assert permutation_p(rng.random(50), rng.random(50), 0, 99) > 0.01


def test_a_file_without_the_columns_or_with_a_broken_row_is_refused(tmp_path):
    good = write(tmp_path / "good.txt", *(f"{i}\tA dog.\tA cat.\t{i}.5" for i in range(3)), "")
    assert read_pairs(good, *COLUMNS) == [("A dog.", "A cat.", i + 0.5) for i in range(3)]
    with pytest.raises(CaptionsFileError, match="has no column 'score'; its columns are pair_ID, sentence_A"):
        read_pairs(good, *COLUMNS[:2], "score")
    with pytest.raises(CaptionsFileError, match="line 3: expected two sentences and a number"):
        read_pairs(write(tmp_path / "broken.txt", "1\tA dog.\tA cat.\t3", "2\tA dog.\tA cat.\tmuch"), *COLUMNS)


@pytest.mark.slow
def test_the_script_prints_a_table(tmp_path):
    rows = (
        f"{i}\tA dog runs in field {i}.\tA {kind} runs.\t{i}" for i, kind in enumerate(("dog", "cat", "man", "bird"))
    )
    path = write(tmp_path / "pairs.txt", *rows)
    flags = ["--checkpoint", ROOT / "pretrained/captions", "--pairs_file", path, "--permutations", 19]
    done = run_script("scripts/relatedness.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 pairs of" in done.stdout and "pictures, random features: random scene decoder" in done.stdout
