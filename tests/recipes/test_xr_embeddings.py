"""Vectors of all training texts: written once, by length, next to the terms."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource
from tfxc.data.text.tokens import TokenRows
from tfxc.recipes.xr_transformer import embeddings
from tfxc.recipes.xr_transformer.embeddings import (
    as_csr,
    concatenated,
    concatenated_on_disk,
    write_embeddings,
)


def test_embeddings_of_all_examples(tmp_path):
    given = np.arange(18, dtype=np.float32).reshape(6, 3)
    source = ArraySource(Rows.from_dense(given, [[0]] * 6))
    path = tmp_path / "new" / "vectors.npy"
    write_embeddings(path, lambda features: features * 2, source, 2, "embedding")
    np.testing.assert_array_equal(np.load(path), given * 2)
    given[3, 0] = np.nan
    source = ArraySource(Rows.from_dense(given, [[0]] * 6))
    with pytest.raises(DataError, match=r"NaN or infinity for example 3 \(counted from 0\)"):
        write_embeddings(tmp_path / "bad.npy", lambda features: features, source, 2, "embedding")
    assert [file.name for file in tmp_path.iterdir()] == ["new"]


def test_texts_are_encoded_by_length_and_written_in_order(tmp_path, monkeypatch):
    lengths = (24, 8, 32, 8, 40, 72, 16, 48, 40, 24)
    splits = np.concatenate([[0], np.cumsum(lengths)])
    tokens = TokenRows(splits, np.full(splits[-1], 7, np.int32), num_features=8)
    source = ArraySource(Rows.of(TOKENS, tokens, [[0]] * 10))
    widths = []

    def encode(tokens):
        widths.append(tokens.shape[1])
        return (tokens > 0).sum(1, keepdims=True).astype(np.float32)

    monkeypatch.setattr(embeddings, "_BLOCK", 3)  # 6 texts at once, then the other 4
    write_embeddings(tmp_path / "vectors.npy", encode, source, 2, "embedding")
    assert np.load(tmp_path / "vectors.npy").ravel().tolist() == list(lengths)
    assert widths == [8, 32, 72, 24, 48]


@pytest.mark.parametrize(("changes", "remaining"), [({}, 3), ({"weights": "b"}, 11)])
def test_a_stopped_encoding_goes_on(tmp_path, capsys, changes, remaining):
    """What is done is not encoded again, unless it is of other weights."""
    given = np.arange(33, dtype=np.float32).reshape(11, 3)
    source, seen = ArraySource(Rows.from_dense(given, [[0]] * 11)), []

    def encode(features):
        seen.append(len(features))
        if sum(seen) > 8:
            raise KeyboardInterrupt
        return features * 2

    path, of = tmp_path / "vectors.npy", {"data": "a", "weights": "a"}
    with pytest.raises(KeyboardInterrupt):
        write_embeddings(path, encode, source, 2, "embedding", of)
    assert sum(seen) == 10 and not path.exists()
    asked = []

    def again(features):
        asked.extend(features[:, 0].tolist())
        return features * 3 if changes else features * 2

    write_embeddings(path, again, source, 2, "embedding", {**of, **changes})
    np.testing.assert_array_equal(np.load(path), given * (3 if changes else 2))
    assert asked == given[-remaining:, 0].tolist()
    assert ("starting over" in capsys.readouterr().err) == bool(changes)
    assert [file.name for file in tmp_path.iterdir()] == ["vectors.npy"]


def test_terms_and_vectors_side_by_side():
    terms = scipy.sparse.csr_matrix(np.float32([[0, 2], [0, 0]]))
    vectors = np.float32([[0, 3], [0, 0]])
    assert concatenated(terms, vectors).toarray().tolist() == [[0, 2, 0, 1], [0, 0, 0, 0]]
    assert concatenated(terms, vectors, 0.5).toarray().tolist() == [[0, 2, 0, 0.5], [0, 0, 0, 0]]
    assert as_csr(vectors).nnz == 4


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_concatenated_in_files(rows, tmp_path, monkeypatch):
    """As in memory, from blocks of any size; nothing is left behind, also after an error."""
    monkeypatch.setattr(embeddings, "_ROWS", rows)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    terms = scipy.sparse.random(7, 20, 0.2, "csr", np.float32, random_state=0)
    vectors = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    expected = concatenated(terms, vectors, 0.5)
    with concatenated_on_disk(terms, vectors, 0.5) as found:
        assert len(list(tmp_path.iterdir())) == 1
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
        assert found.shape == expected.shape and found.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            found.data[:] = 0
        with pytest.raises(ValueError, match="read-only"):
            found.indices[:] = 0
    with pytest.raises(KeyboardInterrupt), concatenated_on_disk(terms, vectors):
        raise KeyboardInterrupt
    with concatenated_on_disk(terms[:0], vectors[:0]) as found:
        assert found.shape == (0, 24)
    assert not list(tmp_path.iterdir())
