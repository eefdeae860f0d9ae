import json
import re

import numpy as np
import pytest
import tensorflow as tf

from tfxc.core.errors import ConfigError
from tfxc.data.examples.lists import pad_tokens
from tfxc.data.text.ngrams import fnv1a, subword_hashes
from tfxc.data.text.registry import build_text_features, load_text_features

TEXTS = [
    "The red fox, the red hen!",
    "",
    "naïve 日本語 fox fox",
    "hen",
    "unseen wörds héré",
    "fox " * 12,
    "[UNK] [PAD] ]]",
]
SECTIONS = [
    {"name": "fasttext", "word_ngrams": 4, "max_length": 9, "buckets": 97},
    {"name": "fasttext", "word_ngrams": 1, "min_chars": 3, "max_chars": 6, "buckets": 5000},
    {"name": "fasttext", "word_ngrams": 3, "min_chars": 1, "max_chars": 2, "min_count": 2,
     "token_pattern": "[^ ]+", "stop_words": ["hen"]},
]  # fmt: skip


def hash32(text):
    """fastText's hash by NumPy: bytes are signed, all is modulo 2^32."""
    state = np.uint32(2166136261)
    with np.errstate(over="ignore"):
        for byte in np.frombuffer(text.encode(), np.int8):
            state = (state ^ np.uint32(np.int64(byte) & 0xFFFFFFFF)) * np.uint32(16777619)
    return int(state)


def by_hand(section, words, known, size):
    """The ids of one text, an n-gram at a time, with Python's integers."""
    buckets = section.get("buckets", 200_000)
    ids = [known[word] for word in words if word in known]
    least, most = section.get("min_chars", 0), section.get("max_chars", 0)
    for word in words:
        marked = f"<{word}>"
        for length in range(max(least, 1), most + 1):
            for start in range(len(marked) - length + 1):
                ngram = marked[start : start + length]
                if length > 1 or 0 < start < len(marked) - 1:
                    ids.append(size + hash32(ngram) % buckets)
    signed = [hash32(word) - (hash32(word) >= 2**31) * 2**32 for word in words]
    for length in range(2, section.get("word_ngrams", 2) + 1):
        for start in range(len(words) - length + 1):
            state = signed[start]
            for number in signed[start + 1 : start + length]:
                state = state * 116049371 + number
            ids.append(size + state % 2**64 % buckets)
    return ids


def test_hashes():
    # The published test vectors of 32-bit FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv).
    assert fnv1a(b"") == 0x811C9DC5 and fnv1a(b"a") == 0xE40C292C
    assert fnv1a(b"foobar") == 0xBF9CF968
    assert [fnv1a(text.encode()) for text in TEXTS] == [hash32(text) for text in TEXTS]
    assert fnv1a(b"\xe9") == (2166136261 ^ 0xFFFFFFE9) * 16777619 % 2**32, "bytes are signed"


def test_subwords():
    found = subword_hashes("日b", 1, 3)
    ngrams = ["日", "b", "<日", "日b", "b>", "<日b", "日b>"]
    assert found == [hash32(ngram) for ngram in ngrams]
    assert subword_hashes("word", 0, 0) == []


@pytest.mark.parametrize("section", SECTIONS, ids=["words", "letters", "both"])
def test_ids_in_python_and_in_the_graph(section, tmp_path):
    features = build_text_features(section).fit([TEXTS])
    vocabulary = features.vocabulary()
    known = {word: number for number, word in enumerate(vocabulary[1:-1], 1)}
    assert features.num_features == len(vocabulary) + section.get("buckets", 200_000)
    words = build_text_features({k: v for k, v in section.items() if k in
        ("min_count", "token_pattern", "stop_words")} | {"name": "words"})  # fmt: skip
    assert words.fit([TEXTS]).vocabulary() == vocabulary
    rows = features.transform(TEXTS)
    found = [part.tolist() for part in np.split(rows.tokens, rows.indptr[1:-1])]
    pattern = section.get("token_pattern", r"\w+")
    cut = [re.findall(pattern, text.lower()) for text in TEXTS]
    left_out = section.get("stop_words", ())
    cut = [[w for w in words if w not in left_out][: section.get("max_length", 256)]
           for words in cut]  # fmt: skip
    assert found == [by_hand(section, words, known, len(vocabulary)) for words in cut]

    features.save(tmp_path / "saved")
    loaded = load_text_features(tmp_path / "saved")
    assert loaded.settings() == json.loads(json.dumps(features.settings()))
    np.testing.assert_array_equal(loaded.transform(TEXTS).tokens, rows.tokens)
    signature = [tf.TensorSpec([None], tf.string)]
    module = loaded.graph(tmp_path / "saved")
    graph = tf.function(module, input_signature=signature, autograph=False)
    np.testing.assert_array_equal(graph(tf.constant(TEXTS)), pad_tokens(rows.indptr, rows.tokens))
    assert graph(tf.constant([], tf.string)).shape == (0, 8)


def test_cut_texts_are_counted():
    features = build_text_features({"name": "fasttext", "max_length": 2, "min_count": 1})
    features.fit([["a b c"]]).transform(["a b", "a b c"])
    assert features.num_truncated == 1


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"min_chars": 3}, r"max_chars: min_chars 3 and max_chars 0 are not a range"),
        ({"min_chars": 4, "max_chars": 3}, "min_chars 4 and max_chars 3"),
        ({"buckets": 0}, "buckets: must be an integer from 1"),
        ({"word_ngrams": 0}, "word_ngrams: must be an integer of at least 1"),
        ({"fill": True}, "'fasttext' has no argument 'fill'"),
    ],
)
def test_bad_settings(section, message):
    with pytest.raises(ConfigError, match=message):
        build_text_features({"name": "fasttext", **section})
