"""Vectors of all training texts: written once, by length, beside the terms."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.data.rows import Rows
from tfxc.data.sampling import ArraySource
from tfxc.data.tokens_base import TokenRows
from tfxc.errors import DataError
from tfxc.recipes import _xr_embeddings
from tfxc.recipes._xr_embeddings import as_csr, beside, write_embeddings


def test_embeddings_are_written_once(tmp_path):
    given = np.arange(18, dtype=np.float32).reshape(6, 3)
    source, asked = ArraySource(Rows.from_dense(given, [[0]] * 6)), []

    def encode():
        asked.append(1)
        return lambda features: features * 2

    path = tmp_path / "new" / "vectors.npy"
    for _ in range(2):
        write_embeddings(path, encode, source, 2, "embedding")
    assert asked == [1]
    np.testing.assert_array_equal(np.load(path), given * 2)
    given[3, 0] = np.nan
    source = ArraySource(Rows.from_dense(given, [[0]] * 6))
    with pytest.raises(DataError, match=r"NaN or infinity for example 3 \(counted from 0\)"):
        write_embeddings(tmp_path / "bad.npy", encode, source, 2, "embedding")
    assert not (tmp_path / "bad.npy").exists()


def test_texts_are_encoded_by_length_and_written_in_order(tmp_path, monkeypatch):
    lengths = (24, 8, 32, 8, 40, 72, 16, 48, 40, 24)
    splits = np.concatenate([[0], np.cumsum(lengths)])
    tokens = TokenRows(splits, np.full(splits[-1], 7, np.int32), num_features=8)
    source = ArraySource(Rows.from_tokens(tokens, [[0]] * 10))
    widths = []

    def encode(tokens):
        widths.append(tokens.shape[1])
        return (tokens > 0).sum(1, keepdims=True).astype(np.float32)

    monkeypatch.setattr(_xr_embeddings, "_BLOCK", 3)  # 6 texts at once, then the other 4
    write_embeddings(tmp_path / "vectors.npy", lambda: encode, source, 2, "embedding")
    assert np.load(tmp_path / "vectors.npy").ravel().tolist() == list(lengths)
    assert widths == [8, 32, 72, 24, 48]


@pytest.mark.parametrize("batch_size", [2, 3])
def test_a_killed_encoding_goes_on(tmp_path, monkeypatch, batch_size):
    """What was noted is not encoded again, in batches of the same or of another size."""
    given = np.arange(33, dtype=np.float32).reshape(11, 3)
    source, seen = ArraySource(Rows.from_dense(given, [[0]] * 11)), []

    def encode(features):
        seen.append(len(features))
        if sum(seen) > 8:
            raise KeyboardInterrupt
        return features * 2

    monkeypatch.setattr(_xr_embeddings, "_BLOCK", 2)
    monkeypatch.setattr(_xr_embeddings, "_SECONDS_BETWEEN_NOTES", 0.0)
    with pytest.raises(KeyboardInterrupt):
        write_embeddings(tmp_path / "vectors.npy", lambda: encode, source, 2, "embedding")
    assert sum(seen) == 10 and not (tmp_path / "vectors.npy").exists()
    asked = []

    def again(features):
        asked.extend(features[:, 0].tolist())
        return features * 2

    write_embeddings(tmp_path / "vectors.npy", lambda: again, source, batch_size, "embedding")
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), given * 2)
    first = {2: 8, 3: 6}[batch_size]  # whole blocks of 4, and of 6, up to the 8 that were noted
    assert asked == given[first:, 0].tolist()


def test_terms_and_vectors_side_by_side():
    terms = scipy.sparse.csr_matrix(np.float32([[0, 2], [0, 0]]))
    vectors = np.float32([[0, 3], [0, 0]])
    assert beside(terms, vectors).toarray().tolist() == [[0, 2, 0, 1], [0, 0, 0, 0]]
    assert beside(terms, vectors, 0.5).toarray().tolist() == [[0, 2, 0, 0.5], [0, 0, 0, 0]]
    assert as_csr(vectors).nnz == 4
