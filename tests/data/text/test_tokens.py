import json

import numpy as np
import pytest
import tensorflow as tf

from tests.marked_words import find_words
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.examples.lists import pad_tokens
from tfxc.data.examples.rows import Rows
from tfxc.data.text.registry import build_text_features, load_text_features
from tfxc.ops.text.tokens import TextTokens

TEXTS = [
    "The  red\tfox, the RED hen!",
    "",
    " a_b c-d\u3000日本語 ",
    "İstanbul, ΟΔΟΣ: naïve x\0y",
    "[UNK] [PAD] fox",
    "\u2028Straße\x1c!",
    "red red fox fox hen hen",
    "!?",
    "two\nlines\r\nOf  [FILL]\t",
    "हिन्दी ශ්\u200dරී- e\u0301t\u200c! e\u0301",
]
SECTIONS = [
    {"name": "characters"},
    {"name": "characters", "letters_only": True, "lowercase": False, "max_length": 7},
    {"name": "characters", "min_count": 3},
    {"name": "words", "min_count": 1},
    {"name": "words", "stop_words": ["the", "hen"], "max_length": 3},
    {"name": "words", "lowercase": False, "token_pattern": r"\w\w+"},
    {"name": "characters", "raw": True},
    {"name": "characters", "raw": True, "lowercase": True, "fill": True, "max_length": 12},
    {"name": "words", "token_pattern": "[^ ]+", "fill": True, "max_length": 4, "min_count": 1},
]
IDS = ["characters", "letters", "frequent", "words", "stop_words", "cased", "raw", "filled"]
IDS += ["filled_words"]


def lists(rows):
    return [part.tolist() for part in np.split(rows.tokens, rows.indptr[1:-1])]


def by_hand(section, texts):
    """Vocabulary and id lists, a token at a time."""

    def tokens(text):
        lowercase = section.get("lowercase", not section.get("raw", False))
        text = (text.lower() if lowercase else text).replace("\0", " ")
        if section["name"] == "words":
            found = find_words(section.get("token_pattern", r"\w+"), text)
            return [word for word in found if word not in section.get("stop_words", ())]
        if section.get("letters_only"):
            text = " ".join(find_words(r"\w+", text.replace("_", " ")))
        return list(text) if section.get("raw") else list(" ".join(text.split()))

    counts = {}
    for text in texts:
        for token in tokens(text):
            counts[token] = counts.get(token, 0) + 1
    least = section.get("min_count", 2 if section["name"] == "words" else 1)
    kept = [t for t in counts if counts[t] >= least and not set("\n\r") & set(t)]
    kept = sorted(kept, key=lambda t: (-counts[t], t))
    fill = ["[FILL]"] * section.get("fill", False)
    vocabulary = ["[PAD]", *kept, *fill, "[UNK]"]
    known = {token: number for number, token in enumerate(kept, 1)}
    most = section.get("max_length", 256)
    ids = [[known.get(t, len(vocabulary) - 1) for t in tokens(x)][:most] for x in texts]
    if fill:
        ids = [row + [len(vocabulary) - 2] * (most - len(row)) for row in ids]
    return vocabulary, ids


@pytest.mark.parametrize("section", SECTIONS, ids=IDS)
def test_equals_one_by_one(section, tmp_path):
    features = build_text_features(section).fit([TEXTS[:3], TEXTS[3:]])
    vocabulary, ids = by_hand(section, TEXTS)
    assert features.vocabulary() == vocabulary and features.num_features == len(vocabulary)
    found = features.transform(TEXTS)
    assert lists(found) == ids
    assert found.tokens.dtype == np.int32 and found.indptr.dtype == np.int64
    assert found.shape == (len(TEXTS), len(vocabulary))

    features.save(tmp_path / "saved")
    loaded = load_text_features(tmp_path / "saved")
    assert loaded.settings() == json.loads(json.dumps(features.settings()))
    assert lists(loaded.transform(TEXTS)) == ids


@pytest.mark.parametrize("section", SECTIONS, ids=IDS)
def test_graph_equals_python(section, tmp_path):
    features = build_text_features(section).fit([TEXTS])
    features.save(tmp_path / "saved")
    file = tmp_path / "saved" / "vocabulary.txt"
    graph = TextTokens(features.name, features.settings(), file, features.num_features)
    texts = [*TEXTS, "fox 未知 zebra", "I" * 300]
    rows = features.transform(texts)
    found = tf.function(graph, autograph=False)(tf.constant(texts))
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, pad_tokens(rows.indptr, rows.tokens))


def test_cut_texts_are_counted():
    features = build_text_features({"name": "characters", "max_length": 3}).fit([["abcd"]])
    features.transform(["abc", "abcd", "abcde"])
    assert features.num_truncated == 2


def test_padding():
    rows = Rows(
        TOKENS,
        {"indptr": [0, 0, 9, 10], "tokens": np.arange(1, 11)},
        label_indptr=[0, 1, 1, 2],
        label_ids=[5, 6],
        num_features=11,
    )
    batch = rows.take([2, 1, 0])
    assert batch["features"].shape == (3, 16) and batch["features"].dtype == np.int32
    assert batch["features"][:, 0].tolist() == [10, 1, 0]
    assert not batch["features"][1, 9:].any()
    assert rows.slice(2, 3).batch()["features"].shape == (1, 8)
    again = Rows.concatenate([rows.slice(0, 1), rows.slice(1, 3)])
    np.testing.assert_array_equal(again.tokens, rows.tokens)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"name": "characters", "max_length": 0},
            "data.text_features.max_length: must be an integer of at least 1",
        ),
        ({"name": "words", "min_count": 1.5}, "min_count: must be an integer of at least 1"),
        (
            {"name": "words", "token_pattern": "(a)(b)"},
            "has 2 groups, of which only one can be the word",
        ),
        ({"name": "words", "segmenter": "mecab"}, "segmenter: must be 'jieba', not 'mecab'"),
        (
            {"name": "words", "stop_words": "no/such/file"},
            "'no/such/file' cannot be read as a file of words",
        ),
        (
            {"name": "words", "stop_words": [3]},
            "stop_words: must be a text or a list, each item a text, not",
        ),
        ({"name": "words", "stop_words": ["a", " "]}, "stop_words: a word of the list is blank"),
        ({"name": "words", "dictionary": ["x"]}, "a dictionary has no effect without a segmenter"),
        (
            {"name": "characters", "raw": True, "letters_only": True},
            "letters_only cannot be combined with raw",
        ),
        ({"name": "words", "minimum": 3}, "text features 'words' has no argument 'minimum'"),
    ],
)
def test_bad_settings(section, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        build_text_features(section)


def test_stop_words_from_a_file(tmp_path):
    (tmp_path / "stop.txt").write_text("the\nhen\n")
    section = {"name": "words", "min_count": 1, "stop_words": str(tmp_path / "stop.txt")}
    features = build_text_features(section).fit([["the red hen"]])
    assert features.vocabulary() == ["[PAD]", "red", "[UNK]"]
    assert features.settings()["stop_words"] == ["hen", "the"], "the words are saved, not the path"


def test_nothing_left():
    with pytest.raises(DataError, match="none of 2 tokens is left"):
        build_text_features({"name": "words", "min_count": 9}).fit([["red fox"]])
    with pytest.raises(ConfigError, match="have not been fitted"):
        build_text_features({"name": "words"}).transform(["red"])


@pytest.mark.parametrize("content", ["[PAD]\na\n", "a\n[UNK]\n", ""])
def test_damaged_vocabulary(tmp_path, content):
    build_text_features({"name": "characters"}).fit([["a"]]).save(tmp_path / "saved")
    (tmp_path / "saved" / "vocabulary.txt").write_text(content)
    with pytest.raises(DataError, match=r"does not begin with .PAD. and end with .UNK."):
        load_text_features(tmp_path / "saved")
    (tmp_path / "saved" / "vocabulary.txt").unlink()
    with pytest.raises(DataError, match="no such file"):
        load_text_features(tmp_path / "saved")


def test_chinese_words(tmp_path):
    pytest.importorskip("jieba", reason="the extra zh is not installed")
    section = {"name": "words", "min_count": 1, "segmenter": "jieba"}
    features = build_text_features(section).fit([["我们喜欢机器学习"]])
    assert "机器" in features.vocabulary() and "学习" in features.vocabulary()
    with pytest.raises(ConfigError, match="that works in a served model"):
        TextTokens("words", features.settings(), tmp_path, 4)


def test_chinese_words_between_white_space(tmp_path):
    """text_classifier_torch drops blanks alone; its words are what is between these."""
    pytest.importorskip("jieba", reason="the extra zh is not installed")
    section = {"name": "words", "min_count": 1, "segmenter": "jieba", "token_pattern": "[^ ]+"}
    features = build_text_features(section).fit([[" \u3000我们 喜欢\t "]])
    assert {"\u3000", "我们", "喜欢", "\t"} <= set(features.vocabulary())


def test_a_dictionary_of_words(tmp_path):
    pytest.importorskip("jieba", reason="the extra zh is not installed")
    (tmp_path / "words.txt").write_text("云计算 5\n\n创新办 3 i\n", encoding="utf-8")
    section = {"name": "words", "min_count": 1, "segmenter": "jieba"}
    texts = ["李小福是创新办主任也是云计算方面的专家"]
    without = build_text_features(section).fit([texts]).vocabulary()
    assert not {"云计算", "创新办"} & set(without)
    features = build_text_features({**section, "dictionary": str(tmp_path / "words.txt")})
    assert {"云计算", "创新办"} <= set(features.fit([texts]).vocabulary())
    features.save(tmp_path / "saved")
    (tmp_path / "words.txt").unlink()
    loaded = load_text_features(tmp_path / "saved")
    assert lists(loaded.transform(texts)) == lists(features.transform(texts))
    assert build_text_features(section).fit([texts]).vocabulary() == without


def test_chinese_words_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    section = {"name": "words", "segmenter": "jieba", "dictionary": ["not seen before"]}
    features = build_text_features(section)
    with pytest.raises(ConfigError, match=r"segmenter: the package jieba is not .*tfxc\[zh\]"):
        features.fit([["我们"]])
