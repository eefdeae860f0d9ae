"""In-graph text features against scikit-learn and Python."""

import functools
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.utils import murmurhash3_32 as sklearn_hash

from tests.marked_words import find_words, without_marks
from tfxc.data.reading.formats import open_reader
from tfxc.data.text.bags import HashingFeatures, TfidfFeatures
from tfxc.data.text.pecos import PecosTfidfFeatures
from tfxc.ops.text.bags import TextBag, lower, murmurhash3_32, terms, words

PATTERN = r"(?u)\b\w\w+\b"
DATA = Path(os.environ.get("TFXC_DATA", Path(__file__).parents[4] / "shared" / "data"))
# Letters of Unicode 14 and later, which TensorFlow does not lower-case.
NEW_CAPITALS = [(0x2C2F, 0x2C2F), (0xA7C0, 0xA7C0), (0xA7CB, 0xA7DC), (0x10570, 0x10595)]
_UNUSUAL = (
    "ΟΔΟΣ ΣΑΣ Σ ΑΣ’Α İstanbul IJİĮÌÍĨ Straße STRASSE ẞ ÀÉÎõü Ω K Å ǅ ﬁ 日本語テキスト 한국어 हिन्दी"  # noqa: RUF001
    " ශ්\u200dරී می\u200cروم مُحَمَّد \u0301 \u200d "
    "İi\u0307 e\u0301\u0301t snake_case x1 ½ ² ١٢٣ a b co-op don't 𝒜𝓑 Ⅷ \u00adsoft hy\u00adphen "  # noqa: RUF001
    "zero\u200dwidth no\u00a0break \x1c\x85\u2028 tab\tnew\nline \0nul\0 🙂👍🏽 _ __ ª"
)
UNUSUAL = _UNUSUAL.split(" ")


@functools.cache
def random_texts(count, seed):
    """Texts of any Unicode characters and of the unusual words above."""
    draw = np.random.default_rng(seed)
    points = np.concatenate([draw.integers(1, 0x3000, 500), draw.integers(1, 0x30000, 200)])
    points = [c for c in points if not 0xD800 <= c < 0xE000 and not is_new_capital(c)]
    pieces = np.array([*UNUSUAL, *map(chr, points), *[" "] * 400, "the", "The", "fox"])
    return ["".join(draw.choice(pieces, draw.integers(0, 60))) for _ in range(count)]


def is_new_capital(code_point):
    return any(first <= code_point <= last for first, last in NEW_CAPITALS)


def to_csr(rows, num_features):
    ids, weights, splits = (rows[key].numpy() for key in ("ids", "weights", "row_splits"))
    assert ids.dtype == np.int32 and weights.dtype == np.float32 and splits.dtype == np.int64
    return scipy.sparse.csr_matrix((weights, ids, splits), (len(splits) - 1, num_features))


def assert_same(features, texts, folder):
    """The graph gives the rows that ``features.transform`` gives, entry by entry."""
    vocabulary = None
    if features.vocabulary() is not None:
        features.save(folder / "features")
        vocabulary = folder / "features" / "vocabulary.txt"
    settings, columns = features.settings(), features.num_features
    bag = TextBag(settings, columns, vocabulary, features.idf, features.blocks)
    found = to_csr(tf.function(bag, autograph=False)(tf.constant(texts)), features.num_features)
    expected = features.transform(texts)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.data, expected.data, rtol=3e-7)


def test_word_characters_are_pythons_and_marks():
    characters = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    found = words(tf.constant(characters), r"\w+", lowercase=False).row_lengths().numpy() == 1
    others = [c for c in characters if not "\U00030000" <= c < "\U00031000"]
    marked = set(characters) - set(others)  # what find_words takes for marks, if it is in a text
    expected_words = set(find_words(r"\w+", " ".join(others)))
    expected_words |= {c for c in marked if find_words(r"\w+", c)}
    expected = [character in expected_words for character in characters]
    np.testing.assert_array_equal(found, expected)


def test_lower_is_pythons_but_for_new_capitals():
    characters = [chr(c) for c in range(1, sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    characters = [c for c in characters if unicodedata.category(c) != "Cn"]
    found = [text.decode() for text in lower(tf.constant(characters)).numpy()]
    differing = [c for c, low in zip(characters, found, strict=True) if low != c.lower()]
    assert [hex(ord(c)) for c in differing if not is_new_capital(ord(c))] == []


def test_lower_of_sigma_depends_on_its_place_as_in_python():
    draw = np.random.default_rng(0)
    pieces = [*"ΣΣσςAa1 .:'’·_-JI", "\u0301", "\u00ad", "\u0345", "\u0307", "İ"]  # noqa: RUF001
    texts = ["".join(draw.choice(pieces, draw.integers(1, 8))) for _ in range(5000)]
    found = [text.decode() for text in lower(tf.constant(texts)).numpy()]
    assert found == [text.lower() for text in texts]


@pytest.mark.slow
def test_lower_does_not_depend_on_the_locale():
    code = (
        "import tensorflow as tf; from tfxc.ops.text.bags import lower; "
        "print(lower(tf.constant('ISTANBUL İI\u0307 J\u0301')).numpy().decode('utf-8') == "
        "'ISTANBUL İI\u0307 J\u0301'.lower())"
    )
    for locale in ("tr_TR.UTF-8", "lt_LT.UTF-8"):
        environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "1"}
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert result.stdout.strip() == "True", (locale, result.stderr[-500:])


def test_bytes_that_are_no_text_count_as_replacement_characters():
    raw = [b"Good \xff\xfe\xc3 te\xffxt", b"\xc3", b"NUL\0INSIDE a\0"]
    expected = [re.findall(PATTERN, t.decode(errors="replace").lower()) for t in raw]
    for lowercase in (True, False):
        found = words(tf.constant(raw), PATTERN, lowercase).to_list()
        texts = [[word.decode().lower() for word in row] for row in found]
        assert texts == expected


@pytest.mark.parametrize("settings", [
    {},
    {"ngram_range": (1, 2), "min_df": 2},
    {"ngram_range": (2, 3), "sublinear_tf": False, "norm": "l1"},
    {"lowercase": False, "norm": None, "token_pattern": r"(?u)\b\w+\b"},
    {"use_idf": False, "token_pattern": r"\w{3,}"},
    {"ngram_range": (1, 3), "max_features": 40, "token_pattern": r"\w\w\w+"},
    {"ngram_range": (1, 2), "characters": (2, 5), "min_df": 2},
    {"characters": (5, 7), "norm": "l1", "lowercase": False},
    {"characters": (1, 1), "norm": None, "token_pattern": "[a-z]+"},
])  # fmt: skip
def test_tfidf_equals_scikit_learn(settings, tmp_path):
    features = TfidfFeatures(**settings).fit([random_texts(200, seed=1)])
    assert_same(features, [*random_texts(60, seed=2), "", "nothing known"], tmp_path)


@pytest.mark.parametrize("settings", [
    {},
    {"ngram_range": (1, 2), "sublinear_tf": True, "max_length": 9},
    {"ngram_range": (2, 3), "binary": True, "norm": "l1", "add_one_idf": True},
    {"ngram_range": ((1, 1), (2, 3)), "max_features": 90},
    {"ngram_range": ((3, 3), (1, 2)), "norm": "l1", "use_idf": False},
    {"norm": None, "min_df": 3},
    {"analyzer": "char", "ngram_range": (1, 3), "max_length": 20},
    {"analyzer": ["word", "char_wb"], "ngram_range": [[1, 2], [2, 3]], "max_features": 500},
])  # fmt: skip
def test_terms_as_pecos_cuts_them(settings, tmp_path):
    features = PecosTfidfFeatures(**settings).fit([random_texts(200, seed=1)])
    texts = [*random_texts(60, seed=2), "", "nothing  known", "the\r\nfox\nThe the"]
    assert_same(features, texts, tmp_path)


@pytest.mark.parametrize("settings", [
    {"num_features": 64},
    {"num_features": 2**20, "ngram_range": (1, 2)},
    {"num_features": 50, "alternate_sign": True, "norm": "l1"},
    {"num_features": 1000, "lowercase": False, "norm": None, "token_pattern": r"\b\w+\b"},
])  # fmt: skip
def test_hashing_equals_scikit_learn(settings, tmp_path):
    features = HashingFeatures(**settings)
    texts = [*random_texts(60, seed=3), ""]
    assert_same(features, texts, tmp_path)
    own = {key: value for key, value in settings.items() if key != "num_features"}
    direct = HashingVectorizer(
        n_features=settings["num_features"],
        **{"alternate_sign": False, "token_pattern": r"\w+", **own},
    )
    texts = [without_marks(text.replace("İ", "")) for text in texts]  # lower case has a mark
    bag = TextBag(features.settings(), features.num_features)(tf.constant(texts))
    difference = to_csr(bag, features.num_features) - direct.transform(texts)
    assert abs(difference).max() < 1e-6


def test_hashed_characters(tmp_path):
    features = HashingFeatures(num_features=2**20, characters=(2, 4))
    assert_same(features, random_texts(60, seed=3), tmp_path)


def test_murmurhash_equals_scikit_learn():
    draw = np.random.default_rng(4)
    texts = [bytes(draw.integers(0, 256, length).tolist()) for length in [*range(70), 1000, 4097]]
    texts += [text.encode() for text in UNUSUAL]
    found = murmurhash3_32(tf.constant(texts)).numpy()
    assert found.dtype == np.int32
    assert found.tolist() == [sklearn_hash(text, seed=0) for text in texts]
    assert murmurhash3_32(tf.constant([], tf.string)).shape == (0,)


def test_empty_batches(tmp_path):
    features = HashingFeatures(num_features=8, ngram_range=(1, 2))
    bag = TextBag(features.settings(), 8)
    empty = bag(tf.constant([], tf.string))
    assert empty["row_splits"].numpy().tolist() == [0] and empty["ids"].shape == (0,)
    blank = bag(tf.constant(["", "..."]))
    assert blank["row_splits"].numpy().tolist() == [0, 0, 0] and blank["ids"].shape == (0,)
    bag = TextBag(HashingFeatures(num_features=8, characters=(2, 3)).settings(), 8)
    assert bag(tf.constant([], tf.string))["row_splits"].numpy().tolist() == [0]
    assert bag(tf.constant(["", " \0\uffff"]))["row_splits"].numpy().tolist() == [0, 0, 0]


def test_terms_are_the_n_grams_of_a_text():
    settings = {"token_pattern": PATTERN, "lowercase": True, "ngram_range": (1, 2)}
    found = terms(tf.constant(["The red fox", "one"]), settings).to_list()
    assert [sorted(row) for row in found] == [[b"fox", b"red", b"red fox", b"the", b"the red"],
                                              [b"one"]]  # fmt: skip


def test_built_in_texts(tmp_path):
    texts = next(open_reader("builtin:apidocs", split="dev").chunks(500)).texts
    assert_same(TfidfFeatures(ngram_range=(1, 2), min_df=2).fit([texts[:400]]), texts, tmp_path)
    assert_same(HashingFeatures(ngram_range=(1, 2)), texts[:200], tmp_path)


@pytest.mark.parametrize("name", ["cooking", "eurlex57k", "duee", "sentiment"])
def test_real_texts(name, tmp_path):
    files = sorted((DATA / name).glob("*")) if (DATA / name).is_dir() else []
    readable = [f for f in files if f.name.startswith(("train", "test", "dev", "cooking"))]
    if not readable:
        pytest.skip(f"no {name} under {DATA} (TFXC_DATA)")
    texts = raw_texts(readable[0], 60 if name == "eurlex57k" else 300)  # laws are long
    for characters in (None, (2, 5)):
        features = TfidfFeatures(ngram_range=(1, 2), characters=characters)
        # A folder each: graphs share the table of a file.
        assert_same(features.fit([texts[: 2 * len(texts) // 3]]), texts, tmp_path / str(characters))


def raw_texts(path, count):
    """Lines of a file as they are: any text does for comparing two vectorisers."""
    from tfxc.data.reading.parsing.lines import Lines

    lines = (line for _, line in Lines(path).texts())
    return [f"{line}\n" for line, _ in zip(lines, range(count), strict=False)]
