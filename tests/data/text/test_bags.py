"""Text features, against scikit-learn's vectorisers fitted on all texts at once."""

import itertools
import json
import lzma
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfVectorizer,
)
from sklearn.preprocessing import normalize

from tests.data.reading.formats import data_folder
from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.ownership import MARKER
from tfxc.data.text.bags import HashingFeatures, TfidfFeatures
from tfxc.data.text.registry import build_text_features, load_text_features

WORDS = [f"w{number}" for number in range(40)] + ["Käse", "KÄSE", "naïve", "中文", "x"]


def sample_texts(count=300, seed=0):
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, len(WORDS) + 1)
    texts = [
        " ".join(random.choice(WORDS, random.integers(0, 25), p=shares / shares.sum()))
        for _ in range(count)
    ]
    return ["", "unknown words only", *texts]


def lists_of(texts, size=37):
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def assert_rows_equal(rows, expected):
    expected = expected.tocsr()
    expected.sort_indices()
    assert rows.shape == expected.shape
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows.indptr, expected.indptr)
    np.testing.assert_array_equal(rows.indices, expected.indices)
    np.testing.assert_allclose(rows.data, expected.data, rtol=3e-7)


WORDS_OF_ANY_LENGTH = r"\w+"
# Where the defaults are not scikit-learn's.
OWN = {"sublinear_tf": True, "token_pattern": WORDS_OF_ANY_LENGTH}
SETTINGS = [
    {},
    {"token_pattern": r"(?u)\b\w\w+\b"},
    {"sublinear_tf": False, "norm": "l1"},
    {"use_idf": False, "norm": None},
    {"ngram_range": (1, 2), "min_df": 3},
    {"ngram_range": (2, 3), "max_df": 0.02},
    {"min_df": 0.05, "max_df": 60},
    {"max_features": 7, "lowercase": False},
    {"ngram_range": (1, 2), "max_features": 150, "min_df": 2, "max_df": 0.5},
    {"token_pattern": r"(?u)\w(\d+)"},
]


def views_of_scikit_learn(characters, settings):
    """scikit-learn's vectorisers of words and of the characters within words."""
    own = {key: value for key, value in settings.items() if key != "token_pattern"}
    return [
        TfidfVectorizer(**settings),
        TfidfVectorizer(**own | {"analyzer": "char_wb", "ngram_range": characters}),
    ]


@pytest.mark.parametrize("settings", [
    {"characters": (2, 5)},
    {"characters": (4, 5), "ngram_range": (1, 2), "min_df": 2},
    {"characters": (6, 6), "max_features": 30, "norm": "l1", "sublinear_tf": False},
    {"characters": (1, 3), "lowercase": False, "max_df": 0.3},
    {"characters": (1, 2), "norm": None},
])  # fmt: skip
def test_characters_next_to_words_like_scikit_learn(settings):
    texts = [*sample_texts(), "a ab\x1cabc\u3000\xa0abcd\n\n abcde"]
    other = [*sample_texts(50, seed=1), "Zürich\tzur zz", "\U0001f600 ."]
    own = OWN | settings
    views = views_of_scikit_learn(own.pop("characters"), own)
    words, characters = (view.fit(texts) for view in views)
    features = TfidfFeatures(**settings).fit(iter(lists_of(texts)))
    names = [f" {name}" for name in characters.get_feature_names_out()]
    assert features.vocabulary() == [*words.get_feature_names_out(), *names]
    assert features.blocks == [len(words.vocabulary_)]
    np.testing.assert_array_equal(features.idf, np.concatenate([words.idf_, characters.idf_]))
    for some in (texts, other):
        expected = scipy.sparse.hstack([view.transform(some) for view in views], format="csr")
        if features.settings()["norm"]:
            expected = normalize(expected, features.settings()["norm"])
        assert_rows_equal(features.transform(some), expected)


def test_one_part_may_have_no_terms():
    features = TfidfFeatures(characters=(1, 1)).fit([["!", "!! ?"]])
    assert features.vocabulary() == ["  ", " !", " ?"] and features.blocks == [0]
    features = TfidfFeatures(characters=(2, 2), min_df=2).fit([["red", "RED-"]])
    assert features.vocabulary() == ["red", "  r", " ed", " re"]
    with pytest.raises(DataError, match="none of"):
        TfidfFeatures(characters=(2, 2), min_df=2).fit([["red", "fox"]])


def test_words_of_one_letter_or_digit_count():
    texts = ["vitamin D", "type 2, C++"]
    assert TfidfFeatures().fit([texts]).vocabulary() == ["2", "c", "d", "type", "vitamin"]
    assert HashingFeatures().transform(texts).getnnz(axis=1).tolist() == [2, 3]
    of_scikit_learn = TfidfFeatures(token_pattern=r"(?u)\b\w\w+\b")
    assert of_scikit_learn.fit([texts]).vocabulary() == ["type", "vitamin"]


@pytest.mark.parametrize("settings", SETTINGS)
def test_tfidf_like_scikit_learn(settings):
    texts, other = sample_texts(), sample_texts(50, seed=1)
    oracle = TfidfVectorizer(**(OWN | settings)).fit(texts)
    features = TfidfFeatures(**settings).fit(iter(lists_of(texts)))
    assert features.vocabulary() == oracle.get_feature_names_out().tolist()
    assert features.num_features == len(oracle.vocabulary_)
    if settings.get("use_idf", True):
        np.testing.assert_array_equal(features.idf, oracle.idf_)
    else:
        assert features.idf is None
    assert_rows_equal(features.transform(texts), oracle.transform(texts))
    assert_rows_equal(features.transform(other), oracle.transform(other))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_features": 64},
        {"num_features": 1000, "ngram_range": (1, 2), "norm": "l1", "lowercase": False},
        {"num_features": 50, "alternate_sign": True, "norm": None, "token_pattern": r"\d"},
        {"num_features": 999, "characters": (2, 4)},
        {"num_features": 999, "characters": (5, 5), "token_pattern": r"[wx](\d)"},
    ],
)
def test_hashing_like_scikit_learn(settings):
    texts = sample_texts()
    arguments = {"alternate_sign": False, "token_pattern": WORDS_OF_ANY_LENGTH} | settings
    characters = arguments.pop("characters", None)
    oracle = HashingVectorizer(n_features=arguments.pop("num_features"), **arguments)
    if characters is not None:
        of_words = oracle.build_analyzer()
        of_characters = CountVectorizer(analyzer="char_wb", ngram_range=characters).build_analyzer()
        oracle.set_params(analyzer=lambda t: [*of_words(t), *(f" {c}" for c in of_characters(t))])
    features = HashingFeatures(**settings)
    assert features.fit([]) is features
    assert_rows_equal(features.transform(texts), oracle.transform(texts).astype(np.float32))
    assert features.vocabulary() is None
    assert features.idf is None


def test_how_many_texts_come_at_a_time_changes_nothing():
    texts = sample_texts()
    for settings in ({"max_features": 30}, {"ngram_range": (1, 2)}):
        one = TfidfFeatures(**settings).fit(lists_of(texts))
        two = TfidfFeatures(**settings).fit(lists_of(texts, 50))
        assert one.vocabulary() == two.vocabulary()
        np.testing.assert_array_equal(one.idf, two.idf)
    assert HashingFeatures(32).transform([]).shape == (0, 32)
    assert one.transform([]).shape == (0, one.num_features)


def test_the_vocabulary_is_all_that_is_kept():
    """Lists are taken one by one, each only after the one before it was counted."""
    alive = []

    class Texts(list):
        def __init__(self, texts):
            super().__init__(texts)
            alive.append(1)

        def __del__(self):
            alive.pop()

    def stream():
        for texts in lists_of(sample_texts(), 10):
            assert len(alive) <= 1
            yield Texts(texts)

    TfidfFeatures().fit(stream())


@pytest.mark.parametrize(
    "features",
    [
        TfidfFeatures(ngram_range=[1, 2], min_df=2).fit([sample_texts()]),
        TfidfFeatures(use_idf=False, norm=None).fit([["a\u2028bc de\x85f", "Ä\u00a0öü"]]),
        HashingFeatures(num_features=100, norm=None),
        TfidfFeatures(characters=[2, 4], min_df=2).fit([sample_texts()]),
    ],
)
def test_saved_and_pickled(features, tmp_path):
    texts = sample_texts(30)
    expected = features.transform(texts)
    features.save(tmp_path / "features")
    features.save(tmp_path / "features")  # replaces
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert set(names) <= {MARKER, "features.json", "vocabulary.txt", "idf.npy"}
    assert [path.name for path in tmp_path.iterdir()] == ["features"]
    for other in (load_text_features(tmp_path / "features"), pickle.loads(pickle.dumps(features))):
        assert other.settings() == features.settings()
        assert other.vocabulary() == features.vocabulary()
        assert other.num_features == features.num_features
        assert (other.transform(texts) != expected).nnz == 0


def test_damaged_folders(tmp_path):
    folder = tmp_path / "features"
    with pytest.raises(DataError, match=r"features\.json: no such file"):
        load_text_features(folder)
    TfidfFeatures().fit([sample_texts()]).save(folder)
    vocabulary = (folder / "vocabulary.txt").read_bytes()
    (folder / "vocabulary.txt").write_bytes(vocabulary + b"more\n")
    with pytest.raises(
        DataError, match=r"idf\.npy: vocabulary\.txt has .* but there are .* weights"
    ):
        load_text_features(folder)
    (folder / "vocabulary.txt").unlink()
    with pytest.raises(DataError, match=r"vocabulary\.txt: no such file"):
        load_text_features(folder)
    (folder / "features.json").write_text(json.dumps({"version": 99, "name": "", "settings": {}}))
    with pytest.raises(DataError, match="of version 99 instead of 1"):
        load_text_features(folder)
    (folder / "features.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        load_text_features(folder)


def test_nothing_left():
    with pytest.raises(DataError, match="none of 2 terms in 2 texts is left"):
        TfidfFeatures(min_df=2).fit([["one", "two"]])
    with pytest.raises(DataError, match="none of 0 terms in 0 texts is left"):
        TfidfFeatures(max_df=1).fit([])
    with pytest.raises(DataError, match=r"max_df means 0\.2 texts, fewer than min_df \(1 texts\)"):
        TfidfFeatures(max_df=0.1).fit([["one", "two"]])
    with pytest.raises(ConfigError, match="token_pattern: a term contains a line break"):
        TfidfFeatures(token_pattern="[^,]+").fit([["a\nb"]])
    with pytest.raises(ConfigError, match="Call fit first"):
        TfidfFeatures().transform(["a"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "tfidf", "ngram_range": (2, 1)}, "ngram_range: "),
        ({"name": "tfidf", "ngram_range": [1]}, "ngram_range: "),
        ({"name": "tfidf", "min_df": 0}, "min_df: "),
        ({"name": "tfidf", "min_df": True}, "min_df: "),
        ({"name": "tfidf", "min_df": float("nan")}, "min_df: "),
        ({"name": "tfidf", "max_df": float("inf")}, "max_df: "),
        ({"name": "tfidf", "max_df": 3.0}, "max_df: must be an integer of at least 1 or a number"),
        ({"name": "tfidf", "lowercase": 1}, "lowercase: must be true or false, not 1"),
        ({"name": "tfidf", "token_pattern": 3}, "token_pattern: must be a text, not 3"),
        ({"name": "tfidf", "max_df": 1.5}, "max_df: "),
        ({"name": "tfidf", "max_features": 0}, "max_features: "),
        ({"name": "tfidf", "norm": "l3"}, "norm: "),
        ({"name": "tfidf", "token_pattern": "("}, "token_pattern: "),
        ({"name": "hashing", "token_pattern": "(a)(b)"}, "token_pattern: "),
        ({"name": "hashing", "num_features": 2**31}, "num_features: "),
        ({"name": "tfidf", "mindf": 2}, "no argument 'mindf', did you mean 'min_df'"),
        ({"name": "tf-idf"}, "unknown kind of text features 'tf-idf'.*'tfidf'"),
        ({}, "the section names no kind of text features"),
    ],
)
def test_bad_configs(config, message):
    with pytest.raises(ConfigError, match=message):
        build_text_features(config)


def test_build():
    built = build_text_features({"name": "tfidf", "min_df": 3, "ngram_range": [1, 2]})
    assert isinstance(built, TfidfFeatures)
    assert built.settings() == TfidfFeatures(min_df=3, ngram_range=(1, 2)).settings()


def test_real_data_like_scikit_learn():
    with lzma.open(data_folder("cooking") / "train.jsonl.xz", "rt", encoding="utf-8") as stream:
        texts = [json.loads(line)["text"] for line in stream]
    oracle = TfidfVectorizer(ngram_range=(1, 2), **OWN).fit(texts)
    features = TfidfFeatures(ngram_range=(1, 2)).fit(lists_of(texts, 1000))
    assert features.vocabulary() == oracle.get_feature_names_out().tolist()
    assert_rows_equal(features.transform(texts), oracle.transform(texts))


@pytest.mark.slow
def test_eurlex_vocabulary():
    def lists():
        path = data_folder("eurlex57k") / "train.jsonl.xz"
        with lzma.open(path, "rt", encoding="utf-8") as stream:
            while lines := list(itertools.islice(stream, 2000)):
                yield [json.loads(line)["text"] for line in lines]

    features = TfidfFeatures(min_df=3, token_pattern=r"(?u)\b\w\w+\b").fit(lists())
    assert features.num_features == 29_443, "as many as scikit-learn has"


def test_no_tensorflow_needed():
    code = "import sys, tfxc.data.text.registry, tfxc.data.reading.builtin.apidocs.reader"
    code += ", tfxc.data.reading.formats.matrix"
    code += "; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
