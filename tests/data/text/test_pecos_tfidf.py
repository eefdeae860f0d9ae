"""TF-IDF as PECOS builds it, against what libpecos 1.2.8 gave for the same texts and settings."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.data.text import base
from tfxc.data.text.pecos_tfidf import PecosTfidfFeatures, split_at_blanks
from tfxc.data.text.registry import build_text_features, load_text_features

FROZEN = json.loads(Path(__file__).with_name("pecos_tfidf.json").read_text("utf-8"))
TEXTS, QUESTIONS, CASES = FROZEN["texts"], FROZEN["questions"], FROZEN["cases"]


def rows_of(case):
    """The rows libpecos gave for the questions."""
    found = np.zeros((len(QUESTIONS), len(case["terms"])), np.float32)
    for row, pairs in enumerate(case["rows"]):
        for column, value in pairs:
            found[row, column] = value
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["settings"]))
def test_like_libpecos(case, tmp_path):
    features = build_text_features({"name": "pecos_tfidf", **case["settings"]})
    assert features.fit(iter([TEXTS[:4], TEXTS[4:]])) is features
    assert features.vocabulary() == case["terms"]
    rows = features.transform(QUESTIONS)
    assert rows.dtype == np.float32 and rows.shape == (len(QUESTIONS), features.num_features)
    np.testing.assert_allclose(rows.toarray(), rows_of(case), atol=1e-6)
    features.save(tmp_path / "saved")
    loaded = load_text_features(tmp_path / "saved")
    assert loaded.settings() == features.settings() and loaded.blocks == features.blocks
    assert (loaded.transform(QUESTIONS) != rows).nnz == 0


def test_several_processes_give_the_same(monkeypatch):
    monkeypatch.setattr(base, "_MIN_CHARACTERS", 1)
    monkeypatch.setattr(base, "_CHARACTERS_PER_TERM", 0)
    one = PecosTfidfFeatures(ngram_range=(1, 2)).fit([TEXTS])
    two = PecosTfidfFeatures(ngram_range=(1, 2)).fit([TEXTS[:3], TEXTS[3:]], jobs=2)
    assert one.vocabulary() == two.vocabulary()
    assert (one.transform(QUESTIONS) != two.transform(QUESTIONS, jobs=2)).nnz == 0


def test_order_of_words_is_that_of_their_bytes():
    words = ["é", "z", "a\x01", "a", "A", "日本", "\U0001d49c"]
    features = PecosTfidfFeatures(ngram_range=(2, 2)).fit([[f"{word} x" for word in words]])
    expected = sorted(words, key=lambda word: word.encode())
    assert features.vocabulary() == [f"{word} x" for word in expected]


def test_line_breaks_count_as_blanks():
    assert split_at_blanks(" one\r\ntwo\tstill two\n\n", most=None) == ["one", "two\tstill", "two"]


def test_texts_without_known_words():
    features = PecosTfidfFeatures(ngram_range=[[1, 1], [2, 2]]).fit([TEXTS])
    assert features.transform(["", "unknown"]).nnz == 0
    assert scipy.sparse.issparse(features.transform([]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ngram_range": [[1, 2], [2, 3]]}, r"ngram_range: ranges that do not overlap"),
        ({"ngram_range": []}, "ngram_range: two positive integers"),
        ({"ngram_range": [[1, 1], [3, 2]]}, "ngram_range: two positive integers"),
        ({"min_df": 0}, "min_df"),
        ({"max_length": 0}, "max_length: a positive integer or null"),
        ({"max_features": 0.5}, "max_features"),
        ({"norm": "max"}, "norm"),
        ({"lowercase": True}, "unknown argument of pecos_tfidf 'lowercase'"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_text_features({"name": "pecos_tfidf", **settings})


def test_nothing_is_left():
    with pytest.raises(DataError, match=r"none of \d+ terms in 9 texts is left.*lower min_df"):
        PecosTfidfFeatures(min_df=9).fit([TEXTS])
    with pytest.raises(ConfigError, match="call fit first"):
        PecosTfidfFeatures().transform(["a"])


def test_vocabularies_from_elsewhere():
    features = PecosTfidfFeatures(ngram_range=[[2, 2], [1, 1]], use_idf=False)
    assert features.assume(["a b", "b", "a"], None).blocks == [1]
    for terms in (["a", "a b"], ["a b c"], ["a b", "a", "a"]):
        with pytest.raises(DataError, match="expected"):
            features.assume(terms, None)
