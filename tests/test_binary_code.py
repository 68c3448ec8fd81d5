"""The code of squares: what it draws comes back, and a picture that is none does not."""

import pytest
import torch

from evaluation.baselines.binary_code import BinaryCode
from evaluation.measures.robustness import corrupt
from text.bpe import BpeVocabulary
from text.vocabulary import Vocabulary

TEXTS = ["A dog's ball.", "Zwei Männer — 犬!", "A zebra."]


def test_texts_come_back_through_blur_and_not_from_a_blank_picture():
    code = BinaryCode(BpeVocabulary.of(TEXTS, 300), 36)
    pictures = code.draw(TEXTS)
    assert pictures.shape == (3, 3, 64, 64) and code.side == 3 and set(pictures.unique().tolist()) == {0.0, 1.0}
    assert code.read(pictures) == TEXTS and code.read(corrupt(pictures, "blur", 1.0)) == TEXTS
    assert code.read(torch.zeros(1, 3, 64, 64)) != TEXTS[:1]


def test_what_has_no_room_is_left_out_or_refused():
    vocab = Vocabulary.of("abcdefgh")
    code = BinaryCode(vocab, 2)
    assert code.read(code.draw(["a b c"])) == ["a b"]
    with pytest.raises(ValueError, match="more than a picture has pixels"):
        BinaryCode(vocab, 2000)
