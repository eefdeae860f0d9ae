"""tokenizer.json, read by the package tokenizers, against what cuts the texts of a run."""

import json

import numpy as np
import pytest

from tests.encoders.hub_folders import write_folder
from tests.exports.test_bundle import LINES
from tfxc.core.storage.files import write_json
from tfxc.data.text.registry import build_text_features
from tfxc.data.text.subwords_pruning import ordered_pieces
from tfxc.exports.bundle import missing_in_tokenizer
from tfxc.exports.standalone.tokenize import load
from tfxc.ops.text.subwords_bpe import byte_letters
from tfxc.pretrained.tokenizer_json import tokenizer_json

pytest.importorskip("tensorflow_text", reason="the extra hub is not installed")
pytest.importorskip("tokenizers", reason="it is not installed")

TEXTS = [
    *LINES,
    "A red fox! no UNKNOWN hens, don't",
    "Nö fóx,日a\u3000owls\x00 \ufffd",
    "x" * 101 + " " + "a " * 30,
    "[SEP] [PAD] <s> ΟΔΟΣ  \n\n fox's 123 4",
]


def checked(tmp_path, **settings):
    """Both ways of cutting the texts lead to the same ids; returns the text features."""
    section = {"name": "pretrained", "folder": str(tmp_path / "model"), **settings}
    features = build_text_features(section).fit([TEXTS])
    features.save(folder := tmp_path / "saved")
    pieces, most = ordered_pieces(features.subwords), features.settings()["max_length"]
    write_json(folder / "tokenizer.json", tokenizer_json(features.subwords, pieces, most))
    found = load(folder)([*TEXTS, "a half \ud800"])["tokens"]
    rows = features.transform([*TEXTS, "a half \ud800"])
    expected = features.kind.tensors_of(features.kind.arrays_of(rows))["tokens"]
    np.testing.assert_array_equal(found, expected)
    return features


@pytest.mark.parametrize(
    ("lowercase", "settings"),
    [(True, {"max_length": 10}), (False, {"min_count": 2, "max_length": 200})],
)
def test_word_pieces(tmp_path, lowercase, settings):
    write_folder(tmp_path / "model")
    options = {"do_lower_case": lowercase, "tokenizer_class": "BertTokenizer"}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(options))
    assert missing_in_tokenizer(checked(tmp_path, **settings)) is None


def test_byte_pairs(tmp_path):
    write_folder(tmp_path / "model", model_type="roberta", pad_token_id=1)
    merges = ["f o", "Ġ a", "fo x", "x x", "o w", "Ġ fox", "ow l", "Ã ©", "f f", "a b", "b a"]
    joined = [merge.replace(" ", "") for merge in merges]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *byte_letters(), *joined, "<mask>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    (tmp_path / "model" / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "model" / "merges.txt").write_text("\n".join(merges) + "\n")
    features = checked(tmp_path, max_length=150)
    assert features.vocabulary()[0] == "<pad>" and missing_in_tokenizer(features) is None
    settings = {**features.settings(), "checksum": None, "min_count": 3}
    pruned = build_text_features({"name": "pretrained", **settings}).fit([TEXTS])
    assert "pruned" in missing_in_tokenizer(pruned)
