"""tokenize.py against the text features of tfxc, on texts of all kinds."""

import json
import random

import numpy as np
import pytest
from sklearn.utils import murmurhash3_32

from tests.exports.test_bundle import LINES
from tfxc.data.text.registry import build_text_features
from tfxc.exports.bundle import write_heads
from tfxc.exports.standalone.tokenize import load, murmur3

SECTIONS = [
    {"name": "characters"},
    {"name": "characters", "letters_only": True, "lowercase": False, "max_length": 7},
    {"name": "characters", "raw": True, "fill": True, "max_length": 12},
    {"name": "words", "min_count": 1},
    {"name": "words", "stop_words": ["the", "hen"], "max_length": 3, "fill": True},
    {"name": "words", "token_pattern": r"(?:\d|[a-z])(\w*)", "min_count": 1},
    {"name": "words", "token_pattern": r"[^\W\d_]|\W[\w'-]+", "min_count": 1},
    {"name": "words", "token_pattern": r"\w{3,}", "min_count": 1},
    {"name": "fasttext", "min_count": 1, "min_chars": 2, "max_chars": 5, "word_ngrams": 3,
     "buckets": 1000},
    {"name": "fasttext", "min_count": 1, "word_ngrams": 1, "min_chars": 1, "max_chars": 1,
     "buckets": 1000},
    {"name": "tfidf"},
    {"name": "tfidf", "ngram_range": [1, 3], "norm": "l1", "sublinear_tf": False,
     "lowercase": False, "token_pattern": r"[^ \n\r]+"},
    {"name": "tfidf", "use_idf": False, "norm": None},
    {"name": "tfidf", "ngram_range": [1, 2], "characters": [2, 5]},
    {"name": "tfidf", "characters": [5, 6], "norm": "l1", "lowercase": False,
     "token_pattern": r"[^ \n\r]+"},
    {"name": "hashing", "num_features": 1000, "characters": [1, 4]},
    {"name": "hashing", "num_features": 64, "ngram_range": [1, 2], "alternate_sign": True},
    {"name": "hashing", "num_features": 1000, "norm": None},
    {"name": "pecos_tfidf"},
    {"name": "pecos_tfidf", "analyzer": ["word", "char_wb", "char"],
     "ngram_range": [[1, 2], [3, 4], [1, 2]], "max_length": 40},
    {"name": "pecos_tfidf", "analyzer": "char", "binary": True, "ngram_range": [1, 3],
     "add_one_idf": True},
    {"name": "pecos_tfidf", "ngram_range": [[1, 1], [2, 3]], "norm": "l1", "sublinear_tf": True},
]  # fmt: skip


def random_texts(count):
    """Texts of letters of many scripts, symbols, blanks and line breaks."""
    draw = random.Random(0)
    spans = [(32, 127), (160, 0x600), (0x3000, 0x9FFF), (0x1F300, 0x1F700), (32, 33), (10, 14)]
    spans += [(0x600, 0xE00), (0x900, 0x950), (0x200C, 0x200E)]
    return [
        "".join(chr(draw.randrange(*draw.choice(spans))) for _ in range(draw.randrange(60)))
        for _ in range(count)
    ]


def save_for_tokenizer(features, folder):
    """As an export has them."""
    features.save(folder)
    write_heads(features, folder)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: "-".join(map(str, one.values())))
def test_equals_the_text_features(tmp_path, section):
    texts = [*LINES, "two\nlines\r\nOf  [FILL]\t [UNK] the red hen", *random_texts(60)]
    features = build_text_features(section).fit([texts])
    save_for_tokenizer(features, tmp_path / "features")
    texts.append("a half \ud800 of a pair")
    expected = features.kind.tensors_of(features.kind.arrays_of(features.transform(texts)))
    found = load(tmp_path / "features")(texts)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert values.dtype == expected[name].dtype and values.shape == expected[name].shape
        np.testing.assert_array_equal(values, expected[name])


def test_no_texts(tmp_path):
    for number, section in enumerate(({"name": "words", "min_count": 1}, {"name": "hashing"})):
        features = build_text_features(section).fit([["a b"]])
        save_for_tokenizer(features, tmp_path / str(number))
    assert load(tmp_path / "0")([])["tokens"].shape == (0, 8)
    assert load(tmp_path / "1")([])["row_splits"].tolist() == [0]


def test_the_hash_is_murmur3():
    texts = [*LINES, "", "a", "ab", "abc", "abcd", "abcde"]
    assert [murmur3(text.encode()) for text in texts] == [murmurhash3_32(text) for text in texts]


def test_what_is_not_known_is_refused(tmp_path, capsys):
    folder = tmp_path / "features"
    save_for_tokenizer(build_text_features({"name": "hashing"}), folder)
    head = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps({**head, "unicode": "99.0"}))
    load(folder)
    assert "cut with the tables of Unicode 99.0" in capsys.readouterr().err
    (folder / "features.json").write_text(json.dumps({**head, "name": "joined"}))
    with pytest.raises(ValueError, match=r"does not know text features 'joined', only characters"):
        load(folder)
