"""Texts cut and counted in C, against Python's path, on random texts of all of Unicode."""

import collections
import functools
import pickle
import random

import numpy as np
import pytest
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

from tests.data.text.test_bags import assert_rows_equal
from tfxc.data.text import terms
from tfxc.data.text.bags import HashingFeatures, TfidfFeatures
from tfxc.data.text.ngrams import FastTextTokens
from tfxc.data.text.pecos import PecosTerms
from tfxc.data.text.terms import TermMatrix, WordSequences, WordTerms, known_terms
from tfxc.data.text.tokens import WordTokens
from tfxc.ops.text.token_patterns import combining_marks, without_controls

pytestmark = pytest.mark.skipif(terms._terms is None, reason="not built")
LONG_WORDS = r"(?u)\b\w\w+\b"
# Letters whose lower case depends on what is around them or is longer, marks, joiners, halves of
# surrogate pairs, characters beyond the first plane, and what separates lines.
POOLS = [
    "abAB_ 09,.",
    "ÀßéªµÆ ñ\u00d7²",
    "ΣσςΑ' Ω",
    "İIi\u0131\u0307 ",
    "\u200c\u200d ab",
    "".join(sorted(combining_marks())[::20]),
    "हिन्दी中文日本 ",
    "\U0001d49c\U00010400\U0001f600\U0001d7d8 ",
    "\ud800\udc00\udfff",
    "\0\n\r\t\x85\u2028\ufe0f\ufe00",
]


def random_texts(count, seed=0):
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        pool = "".join(draw.sample(POOLS, draw.randint(1, 4)))
        pool += "".join(chr(draw.randrange(0x110000)) for _ in range(draw.choice([0, 0, 0, 20])))
        texts.append("".join(draw.choices(pool, k=draw.randint(0, 40))))
    return texts


@pytest.fixture
def in_python(monkeypatch):
    """Calls a function as if the extension was not built."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(terms, "_terms", None)
            return function(*args)

    return call


def assert_equal(found, expected):
    assert type(found) is type(expected)
    if isinstance(found, np.ndarray):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    elif scipy.sparse.issparse(found):
        assert found.shape == expected.shape and found.has_canonical_format
        for name in ("indptr", "indices", "data"):
            assert_equal(getattr(found, name), getattr(expected, name))
    else:
        assert found == expected


WORDS = [
    WordTerms(LONG_WORDS, (1, 2)),
    WordTerms(r"\w+", (2, 3), lowercase=False),
    WordTerms(r"\w{3,}", (1, 1)),
    WordTerms(LONG_WORDS, (1, 2), characters=(2, 5)),
    WordTerms(r"\w+", (1, 1), lowercase=False, characters=(5, 6)),
    WordTerms(r"\w+", (2, 2), characters=(1, 1)),
    WordTerms(r"\S", (1, 3)),
    WordTerms(r"\S", (1, 2), lowercase=False, characters=(2, 3)),
]
PECOS = [
    PecosTerms([([1, 2], "word"), ([1, 3], "char")], None, True),
    PecosTerms([([2, 3], "char_wb"), ([2, 2], "word")], None, True),
    PecosTerms([([1, 2], "char_wb")], 10, True),
    PecosTerms([([1, 2], "char_wb"), ([1, 1], "word")], 10, False),
]


@pytest.mark.parametrize("cutter", [*WORDS, *PECOS])
def test_terms_and_counts(cutter, in_python):
    texts = random_texts(1000)
    found = cutter.cut(texts)
    expected = in_python(cutter.cut, texts)
    assert cutter.tree() is not None and in_python(cutter.tree) is None
    for name, value in vars(expected).items():
        assert_equal(getattr(found, name), value)

    vocabulary = [*found.terms[::2], "never seen", ""]
    others = [*random_texts(200, seed=1), *texts[:200]]
    expected = in_python(lambda: TermMatrix(vocabulary, cutter)(others))
    assert_equal(TermMatrix(vocabulary, cutter)(others), expected)


@pytest.mark.parametrize("pattern", [r"\w+", r"\S"])
@pytest.mark.parametrize("left_out", [(), ("ab", "ßé", "中文", "日")])
def test_words_in_order(pattern, left_out, in_python):
    texts = [text.lower() for text in random_texts(1000)]
    words = WordSequences(pattern, frozenset(left_out))
    expected = in_python(words.cut, texts)
    for part, of_python in zip(words.cut(texts), expected, strict=True):
        assert_equal(part, of_python)
    assert not set(left_out) & set(expected[2])


def test_every_character():
    """One text of all characters in their order, but for joiners and the empty planes."""
    points = {*range(0x33480), *range(0xE0000, 0xE0200)} - {0x200C, 0x200D}
    text = "".join(map(chr, sorted(points)))
    marks = combining_marks()
    apart = (c if c.isalnum() or c == "_" or c in marks else " " for c in text)
    assert WordSequences(r"\w+").cut([text])[2] == list(dict.fromkeys("".join(apart).split()))


@pytest.mark.parametrize("characters", [(1, 4), (5, 7)])
def test_characters_as_scikit_learn_cuts_them(characters):
    texts = random_texts(1000)
    oracle = CountVectorizer(analyzer="char_wb", ngram_range=characters).build_analyzer()
    cut = WordTerms(r"\w+", characters=characters).cut(texts)
    for text, row in zip(
        texts, scipy.sparse.csr_matrix((cut.values, cut.ids, cut.indptr)), strict=True
    ):
        found = {cut.terms[i]: count for i, count in zip(row.indices, row.data, strict=True)}
        found = {term[1:]: count for term, count in found.items() if term[0] == " "}
        assert found == collections.Counter(oracle(without_controls(text)))


def test_more_words_than_are_remembered(in_python):
    draw = random.Random(3)
    words = ["".join(draw.choices("abcdefgh", k=60)) for _ in range(18_000)]
    cutter = WordTerms(r"\w+", characters=(2, 4))
    texts = [" ".join([*words[:5], *words, *words[:5]])]
    found = cutter.cut(texts)
    for name, value in vars(in_python(cutter.cut, texts)).items():
        assert_equal(getattr(found, name), value)


@pytest.mark.parametrize("kind", [
    TfidfFeatures,
    functools.partial(TfidfFeatures, characters=(2, 5), min_df=2),
    WordTokens,
    FastTextTokens,
])  # fmt: skip
def test_features_with_and_without_the_extension(kind, in_python):
    def learned():
        features = kind().fit([random_texts(300), random_texts(200, seed=1)])
        rows = features.transform(random_texts(100, seed=2))
        bag = scipy.sparse.issparse(rows)
        arrays = (rows.indices, rows.data) if bag else (rows.tokens,)
        return features.vocabulary(), rows.indptr, *arrays, features.idf

    for found, expected in zip(learned(), in_python(learned), strict=True):
        assert_equal(found, expected)


@pytest.mark.parametrize("alternate_sign", [False, True])
def test_hashed_terms(alternate_sign):
    settings = {"ngram_range": (1, 2), "alternate_sign": alternate_sign, "norm": "l1"}
    torn = combining_marks() | {"\u200c", "\u200d"}  # scikit-learn cuts words there
    texts = [text for text in random_texts(500) if torn.isdisjoint(text.lower())]
    found = HashingFeatures(num_features=100, token_pattern=r"\w+", **settings).transform(texts)
    oracle = HashingVectorizer(n_features=100, token_pattern=r"(?u)\w+", **settings)
    assert_rows_equal(found, oracle.transform(texts).astype(np.float32))


def test_terms_of_a_vocabulary(in_python):
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 9, 500)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    ids = [draw.permutation(10_000)[:count] for count in counts]
    ids = np.concatenate(ids).astype(np.int32)
    ids[draw.random(len(ids)) < 0.3] = -1
    values = draw.random(len(ids), np.float32)
    expected = in_python(known_terms, indptr, ids, values, 10_000)
    assert_equal(known_terms(indptr, ids, values, 10_000), expected)
    for rows in (0, 2):
        arguments = (np.zeros(rows + 1, np.int64), ids[:0], values[:0])
        assert_equal(known_terms(*arguments, 3), in_python(known_terms, *arguments, 3))


def test_what_only_python_can_cut():
    for pattern in ("[a-z]+", r"\w(\d+)"):
        assert WordTerms(pattern).tree() is None and WordSequences(pattern).tree() is None
    assert TfidfFeatures(token_pattern="[a-z]+").fit([["a1b"]]).vocabulary() == ["a", "b"]


def test_no_half_of_a_vocabulary_remains_after_an_error():
    tree = WordTerms(r"\w+").tree(["a", "b"])
    with pytest.raises(TypeError):
        tree.bags(["a a", None])
    assert [part.tolist() for part in tree.bags(["b a b"])] == [[0, 2], [0, 1], [1.0, 2.0]]


def test_features_with_a_tree_can_be_sent_to_processes():
    for kind in (TfidfFeatures, WordTokens):
        features = kind().fit([["red fox", "red hen", "a fox"]])
        features.transform(["fox"])
        again = pickle.loads(pickle.dumps(features)).transform(["a red fox"])
        assert_equal(again.indptr, features.transform(["a red fox"]).indptr)
