"""A split as matrices, against its rows one by one."""

import numpy as np
import pytest
import scipy.sparse

from tests.data.prepared import dense_rows, numbered_rows
from tfxc.core.errors import DataError
from tfxc.data.examples.kinds import TOKENS
from tfxc.data.examples.rows import Rows
from tfxc.data.reading.parsing.arrays import load_matrix
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.matrices import matrices


@pytest.mark.parametrize("batch_size", [4, 100])
def test_sparse_rows(batch_size):
    source = ArraySource(numbered_rows(11), num_labels=8)
    features, labels = matrices(source, batch_size)
    assert features.shape == (11, 15) and labels.shape == (11, 8)
    assert features.dtype == labels.dtype == np.float32
    for row in range(11):
        expected = {row + place: float(row + place) for place in range(row % 4)}
        found = features[[row]].tocoo()
        assert dict(zip(found.col.tolist(), found.data.tolist(), strict=True)) == expected
        known = [label for label in range(row, row + row % 3) if label < 8]
        assert labels[[row]].toarray()[0].nonzero()[0].tolist() == known
    assert set(labels.data) == {1.0}


def test_dense_rows():
    features, labels = matrices(ArraySource(dense_rows(7), num_labels=7), 3)
    expected = np.arange(7)[:, None] + np.arange(5) / 10
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    np.testing.assert_array_equal(labels.toarray(), np.eye(7))


def test_other_kinds_are_refused():
    rows = Rows.from_csr(scipy.sparse.csr_matrix((1, 2), dtype=np.float32), [[0]])
    source = ArraySource(rows)
    source.kind = TOKENS
    with pytest.raises(DataError, match="features of the kind tokens are not a matrix"):
        matrices(source)


def test_files(tmp_path):
    sparse = scipy.sparse.random(5, 6, 0.5, format="coo")
    scipy.sparse.save_npz(tmp_path / "x.npz", sparse)
    np.save(tmp_path / "x.npy", sparse.toarray())
    for name in ("x.npz", "x.npy"):
        found = load_matrix(tmp_path / name)
        assert found.dtype == np.float32 and scipy.sparse.issparse(found) == (name == "x.npz")
        found = found.toarray() if scipy.sparse.issparse(found) else found
        np.testing.assert_allclose(found, sparse.toarray(), rtol=1e-6)


def test_files_that_are_no_matrices(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_matrix(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", a=np.eye(2))
    (tmp_path / "text.npy").write_text("text")
    for name in ("other.npz", "text.npy"):
        with pytest.raises(
            DataError, match=r"does not contain a sparse matrix|neither a dense matrix in"
        ):
            load_matrix(tmp_path / name)
    np.save(tmp_path / "flat.npy", np.ones(3))
    with pytest.raises(DataError, match=r"the shape \(3,\) is not that of a matrix"):
        load_matrix(tmp_path / "flat.npy")
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
    with pytest.raises(DataError, match="finite"):
        load_matrix(tmp_path / "nan.npy")
