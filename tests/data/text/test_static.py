"""Text features of static tables: against NumPy, the graph, saved copies and other programs."""

import pickle

import numpy as np
import pytest

from tests.data.text.static_tables import (
    KINDS,
    WORDS,
    binary_file,
    byte_pairs,
    folder_of,
    make_table,
    vectors,
    word_file,
    word_pieces,
)
from tests.exports.standalone.test_tokenize import LINES, random_texts, save_for_tokenizer
from tfxc.core.errors import ConfigError, DataError
from tfxc.data.text.registry import build_text_features, load_text_features
from tfxc.data.text.static import zipf_weights
from tfxc.exports.standalone.tokenize import load
from tfxc.pretrained.static_tables import wordllama_folder

TERMS = {"name": "tfidf", "ngram_range": [1, 2], "characters": [2, 3]}
TEXTS = ["The red fox", "fox, fox and hens!", "unknowns", "", "owl", "<s> red  [SEP] hen", *LINES]


def built(table, texts=TEXTS, **settings):
    return build_text_features({"name": "static", "table": table, **settings}).fit([texts])


def unit(row):
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("write", [word_file, binary_file])
def test_mean_of_the_words_that_the_file_has(tmp_path, write):
    path = write(tmp_path / "x.bin" if write is binary_file else tmp_path / "x.vec")
    rows = built(str(path), weight=0.5).transform(["The FOX, fox; owl", "", "owl", "हिन्दी"])
    table = vectors(len(WORDS))
    np.testing.assert_allclose(rows.toarray()[0], 0.5 * unit(table[0] + 2 * table[2]), rtol=1e-6)
    assert np.diff(rows.indptr).tolist() == [4, 0, 0, 4]
    np.testing.assert_allclose(rows.toarray()[3], 0.5 * unit(table[5]), rtol=1e-6)


def test_capital_letters_count_if_the_table_has_some(tmp_path):
    rows = built(str(word_file(tmp_path / "x.vec", ["Red", "red"]))).transform(["Red", "RED"])
    np.testing.assert_allclose(rows.toarray()[0], unit(vectors(2)[0]), rtol=1e-6)
    assert rows[1].nnz == 0


def test_first_words_only(tmp_path, caplog):
    caplog.set_level("INFO", "tfxc")
    for path in (word_file(tmp_path / "x.vec"), binary_file(tmp_path / "x.bin")):
        assert built(str(path), max_words=2).transform(["red", "fox"]).getnnz(1).tolist() == [4, 0]
        assert f"{path}: only the first 2 words are read" in caplog.text
        caplog.clear()
        built(str(path), max_words=len(WORDS))
        assert "only the first" not in caplog.text
    with open(tmp_path / "x.vec", "a") as stream:
        stream.write("this line is damaged, and never read\n")
    words = built(str(tmp_path / "x.vec"), max_words=len(WORDS))
    assert words.transform([WORDS[3]]).nnz > 0


def test_a_mapping_beyond_the_table_is_refused(tmp_path):
    folder = folder_of(tmp_path / "m", word_pieces(), mapping=np.arange(1, 12))
    with pytest.raises(ConfigError, match="names rows beyond the 11 of the table"):
        built(str(folder))


def test_weights_of_zipf(tmp_path):
    rows = built(str(word_file(tmp_path / "x.vec")), pooling="zipf").transform(["red fox"])
    table = vectors(len(WORDS)) * zipf_weights(len(WORDS))[:, None]
    np.testing.assert_allclose(rows.toarray()[0], unit(table[1] + table[2]), rtol=1e-6)
    shares = np.array([1 / 2, 1 / 3]) / (1 / 2 + 1 / 3)
    np.testing.assert_allclose(zipf_weights(2), 1e-4 / (1e-4 + shares), rtol=1e-6)


def test_rows_and_factors_of_tokens(tmp_path):
    mapping = np.arange(11)[::-1].copy()
    weights = np.linspace(1, 2, 11).astype(np.float32)
    folder = folder_of(tmp_path / "m", word_pieces(), mapping=mapping, weights=weights)
    rows = built(str(folder)).transform(["red unknown [CLS] fox fox fox"])
    table = vectors(11)[mapping] * weights[:, None]
    used = [4, 7, 9, 5, 5, 5]  # no piece for a bracket; nothing is cut off
    np.testing.assert_allclose(rows.toarray()[0], unit(table[used].sum(0)), rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("terms", [None, TERMS, {"name": "hashing", "num_features": 32}])
def test_saved_pickled_alone_and_in_a_graph(tmp_path, kind, terms):
    texts = [*TEXTS, *random_texts(20)]
    features = built(make_table(tmp_path, kind), texts, terms=terms, pooling="zipf", weight=0.7)
    expected = features.transform([*texts, "half \ud800 a pair"])
    save_for_tokenizer(features, tmp_path / "saved")
    for other in (load_text_features(tmp_path / "saved"), pickle.loads(pickle.dumps(features))):
        assert (other.transform([*texts, "half \ud800 a pair"]) != expected).nnz == 0
        assert other.num_features == features.num_features == expected.shape[1]
    if terms is not None:
        np.testing.assert_array_equal(
            expected[:, :-4].toarray(), features.terms.transform([*texts, "half \ud800 a pair"])
            .toarray())  # fmt: skip
    alone = load(tmp_path / "saved")([*texts, "half \ud800 a pair"])
    graph = features.graph(tmp_path / "saved")(texts)
    arrays = (expected.indices, expected.data, expected.indptr)
    for name, values in zip(("ids", "weights", "row_splits"), arrays, strict=True):
        np.testing.assert_allclose(alone[name], values, rtol=1e-5, atol=1e-6)
    assert (alone["ids"].dtype, alone["row_splits"].dtype) == (np.int32, np.int64)
    count = expected.indptr[-2]
    np.testing.assert_array_equal(graph["row_splits"], expected.indptr[:-1])
    np.testing.assert_array_equal(graph["ids"], expected.indices[:count])
    np.testing.assert_allclose(graph["weights"], expected.data[:count], rtol=1e-5, atol=1e-6)


def test_no_texts(tmp_path):
    features = built(make_table(tmp_path, "byte pairs"), terms=TERMS)
    assert features.transform([]).shape == (0, features.num_features)
    with pytest.raises(ConfigError, match="have not been fitted"):
        build_text_features({"name": "static", "table": "x"}).transform(["a"])


def test_what_is_no_table(tmp_path):
    def problem(table):
        with pytest.raises(ConfigError) as error:
            built(str(table))
        return str(error.value)

    assert "there is no static table at" in problem(tmp_path / "absent.vec")
    (tmp_path / "x.vec").write_text("red 1 2\nfox 1\n")
    assert "x.vec:2: the line has 1 numbers after the word" in problem(tmp_path / "x.vec")
    (tmp_path / "short.bin").write_bytes(b"2 4\nred " + bytes(16) + b"\nfox " + bytes(3))
    assert "ends after 1 of 2 words" in problem(tmp_path / "short.bin")
    (tmp_path / "text.bin").write_bytes(b"red 1 2 3\n")
    assert "the first line does not hold" in problem(tmp_path / "text.bin")
    (tmp_path / "empty.vec").write_text("0 4\n")
    assert "the table is empty" in problem(tmp_path / "empty.vec")
    folder = folder_of(tmp_path / "m", byte_pairs(), embeddings=vectors(3)[0])
    assert "it holds no table named 'embeddings'" in problem(folder)
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json is missing" in problem(folder)


def test_a_damaged_copy_is_refused(tmp_path):
    built(make_table(tmp_path, "words")).save(tmp_path / "saved")
    np.save(tmp_path / "saved" / "table.npy", vectors(3))
    with pytest.raises(DataError, match=r"table\.npy: this is not a table of vectors"):
        load_text_features(tmp_path / "saved")


def test_a_graph_cannot_cut_by_every_tokenizer(tmp_path):
    tokenizer = word_pieces()
    tokenizer["normalizer"] = {"type": "Lowercase"}
    features = built(str(folder_of(tmp_path / "m", tokenizer)))
    with pytest.raises(ConfigError, match="a graph cannot cut texts by a tokenizer of type Word"):
        features.graph(tmp_path)


def test_the_same_as_model2vec(tmp_path):
    """Model2Vec 0.10.0 encoded these texts, without and with rows and factors of tokens."""
    more = {"mapping": np.arange(11)[::-1].copy()}
    more["weights"] = np.linspace(1, 2, 11).astype(np.float32)
    expected = [[-0.50559, 0.38609, -0.20224, -0.74459], [0.30168, 0.10056, 0.13408, 0.93856]]
    others = [[-0.27341, 0.68264, 0.42334, -0.52918], [-0.1811, 0.59505, 0.10349, -0.77615]]
    for name, tensors, wanted in (("plain", {}, expected), ("more", more, others)):
        features = built(str(folder_of(tmp_path / name, word_pieces(), **tensors)))
        found = features.transform(["The Red fox, unknown hens!", "red"]).toarray()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4)


def test_the_same_as_wordllama():
    """WordLlama 0.4.0.post1 encoded these texts; the first five of 256 values."""
    if wordllama_folder() is None:
        pytest.skip("the extra static is not installed")
    expected = [
        [-0.0295, 0.06043, -0.08088, 0.05609, -0.00121],
        [-0.10971, 0.13003, 0.04873, -0.14638, 0.01687],
        [-0.05243, -0.03019, 0.01022, 0.0008, -0.07422],
    ]
    texts = ["Where is my card?", "naïve 日本語 🦊", "two  blanks\nand a line"]
    rows = built("wordllama").transform(texts).toarray()
    assert rows.shape == (3, 256)
    np.testing.assert_allclose(rows[:, :5], expected, rtol=0, atol=2e-5)
