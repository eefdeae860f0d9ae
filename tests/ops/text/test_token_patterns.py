"""Patterns of words: equal in Python and in the graph, against ``re`` where both mean the same."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tests.marked_words import find_words
from tests.processes import Started, finish
from tfxc.core.errors import ConfigError
from tfxc.data.text.registry import build_text_features
from tfxc.ops.text.bags import words
from tfxc.ops.text.token_patterns import TokenPattern, python_pattern, re2_pattern, shortest_run

TEXTS = [
    "The red-brown fox, aged 12½, isn't naïve; it's 3.5 km away.",
    "Straße ΟΔΟΣ İstanbul ÉCOLE école ÅNGSTRÖM ﬁn ǅ",
    "日本語のテキスト and ١٢٣ Arabic digits, देवनागरी १२",
    "tabs\tand\u00a0blanks\u2003of\u3000all\u001ckinds\nlines\r\nend",
    "a" * 41 + "!",
    "x\0y\uffffz under_score __init__ C++ f(x)=[y]{z}^2 a\\b",
    "e\u0301 \U0001f600 smile \U00010400",
    "हिन्दी தமிழ் বাংলা Vie\u0323\u0302t مُحَمَّد שָׁלוֹם \u0301x\u0327-",
    "می\u200cروم ශ්\u200dරී \u200da\u200c \u200d \u200d\u200cb",
    "b\u200d.\u200dc\u200d\u200c.\u200dd\u200de\u200d",
    "1\ufe0f\u20e3 \u2764\ufe0flove \U0001f469\u200d\U0001f4bb 葛\U000e0100飾",
    "",
    "   ",
]
# What means the same to Python's re, but for marks.
SAME = [
    r"(?u)\b\w\w+\b", r"\w+", r"\w{3,}", r"\S+", r"\S", r"[a-z]+", r"[^,\s]+", r"\d+", r"\w(\d+)",
    r"[\w'-]+",
    r"(?:\w+-)*\w+", r"\w+(?:'\w+)?", r"[^\W\d_]+", r"\D\d", r"[\s\d]", r"[]a]+",
    r"[^]a ]+", r"\[|\\|\]",
    r"[A-ZÉ][a-zé]+", r"red|fox|fo", r"(?:a+)+", r"(?P<word>[a-z]{2,4}) ", r"\(([^)]*)\)",
    r"日本|.", r"x?",
    r"\.\d", r"[\]\[]", r"a*?b", r"[\\]", "\\w\\W",
]  # fmt: skip


def without_nul(text):
    return text.replace("\0", " ").replace("\uffff", " ")


@pytest.mark.parametrize("pattern", SAME)
def test_equals_re_in_python_and_in_the_graph(pattern):
    expected = [find_words(pattern, without_nul(text)) for text in TEXTS]
    assert TokenPattern(pattern).of(TEXTS) == expected
    assert [TokenPattern(pattern)(text) for text in TEXTS] == expected
    graph = tf.function(
        lambda texts: words(texts, pattern, lowercase=False),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    found = graph(tf.constant(TEXTS)).to_list()
    assert [[word.decode() for word in row] for row in found] == expected
    by_python = [re.findall(python_pattern(pattern), without_nul(text)) for text in TEXTS]
    assert [[word for word in row if word] for row in by_python] == expected
    assert graph(tf.constant([], tf.string)).to_list() == []


def test_words_keep_their_marks():
    whole = ["हिन्दी", "தமிழ்", "বাংলা", "Vie\u0323\u0302t", "مُحَمَّد", "שָׁלוֹם", "می\u200cروم", "ශ්\u200dරී"]
    for pattern in (r"\w+", r"(?u)\b\w\w+\b"):
        assert TokenPattern(pattern)(" ".join(whole)) == whole
    assert TokenPattern(r"[\w'-]+")("l'e\u0301te\u0301") == ["l'e\u0301te\u0301"]
    # Neither emoji nor joiners at an end leave anything of theirs to words.
    text = "1\ufe0f\u20e3 \u2764\ufe0flove \U0001f469\u200d\U0001f4bb \u200dred\u200c"
    assert TokenPattern(r"\w+")(text) == ["1", "love", "red"]


@pytest.mark.parametrize(
    "pattern", [r"\pL+", r"\p{Greek}+", r"(?i)école", r"[[:alpha:]_]+", r"\x{e9}", "(?s)a.b"]
)
def test_what_only_re2_has_is_equal_in_python_and_in_the_graph(pattern):
    found = [
        [word.decode() for word in row]
        for row in words(tf.constant(TEXTS), pattern, False).to_list()
    ]
    assert TokenPattern(pattern).of(TEXTS) == found
    if pattern != "(?s)a.b":
        assert any(found)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"a(?=b)", "invalid perl operator"),
        (r"(?<!a)b", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        (r"(a", "missing"),
        (r"a**", "bad repetition operator"),
        (r"\w{2000,}", "invalid repetition size"),
        (r"(?:\w{100}\s){1000}", "repetition"),
        (r"\u00e9", "invalid escape sequence"),
        (r"\b[a-z]+\b", "word boundaries"),
        (r"\bred\B", "word boundaries"),
        (r"\C", "single bytes"),
        (r"\Q.\E", "quoting"),
        (r"(a)(b)", "has 2 groups"),
        (r"(?P<x>a)(?:b)([c])", "has 2 groups"),
        ("a\\", "trailing"),
        (7, "7 is not a regular expression"),
    ],
)
def test_what_re2_does_not_have_is_refused_in_one_line(pattern, message, capfd):
    with pytest.raises(ConfigError, match=message) as caught:
        TokenPattern(pattern)
    assert caught.value.where == "token_pattern" and "\n" not in str(caught.value)
    assert "re2" not in capfd.readouterr().err
    if isinstance(pattern, str):
        for name in ("words", "tfidf", "hashing"):
            with pytest.raises(ConfigError, match="token_pattern"):
                build_text_features({"name": name, "token_pattern": pattern})


# With Python's re their time doubles with every letter, or grows with the square of the letters.
SLOW = [r"(?:a+)+$", r"(?:a|a)+c", r"(?:a|aa)+$", r"(?:\w+\s?)+$", r"\w{900,}"]


def cut_by_slow_patterns():
    texts = ["a" * 41 + "!", "a" * 899 + "!", "a" * 100_000 + "!", "a b " * 1000 + "!"]
    for pattern in SLOW:
        for name in ("words", "tfidf", "hashing"):
            least = {"min_count": 1} if name == "words" else {}
            section = {"name": name, "token_pattern": pattern, **least}
            features = build_text_features(section).fit([["a" * 1000, "aac"]])
            features.transform(texts)


def test_no_pattern_hangs():
    """In a process that can be ended."""
    finish(Started(cut_by_slow_patterns))


@pytest.mark.parametrize("pattern", [r"[\w'-]+", r"\S+", r"\w(\d+)", r"[^,]+", r"\pL+"])
@pytest.mark.parametrize("name", ["words", "tfidf", "hashing"])
def test_features_equal_those_of_the_graph(tmp_path, name, pattern):
    section = {"name": name, "token_pattern": pattern}
    section |= {"min_count": 1} if name == "words" else {"ngram_range": (1, 2)}
    section |= {"num_features": 64} if name == "hashing" else {}
    texts = [text.replace("\n", " ").replace("\r", " ").replace("İ", "I") for text in TEXTS]
    features = build_text_features(section).fit([texts])
    features.save(tmp_path / "texts")
    found = features.graph(tmp_path / "texts")(tf.constant(texts))
    rows = features.transform(texts)
    if name == "words":
        for row, ids in enumerate(found.numpy()):
            expected = rows.tokens[rows.indptr[row] : rows.indptr[row + 1]]
            np.testing.assert_array_equal(ids[: len(expected)], expected)
            assert not ids[len(expected) :].any()
        return
    np.testing.assert_array_equal(found["row_splits"], rows.indptr)
    np.testing.assert_array_equal(found["ids"], rows.indices)
    np.testing.assert_allclose(found["weights"], rows.data, rtol=1e-6)


def test_halves_of_surrogate_pairs_are_no_error():
    assert TokenPattern(r"\S+")("a\ud800b c") == ["a\ufffdb", "c"]
    assert TokenPattern(r"\w+")("a\ud800b c") == ["a", "b", "c"]


def test_shortest_run():
    runs = {
        r"\w+": 1,
        r"\b\w\w+\b": 2,
        r"(?u)\w{3,}": 3,
        r"\w{0,}": None,
        r"\w{1001,}": None,
        r"\w*": None,
    }
    assert {pattern: shortest_run(pattern) for pattern in runs} == runs
    assert re2_pattern(r"a(b)") == "a(b)" and re2_pattern("ab") == "(ab)"
