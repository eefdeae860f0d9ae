"""Bounds of lists that lie one after the other."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.preprocessing import normalize

from tfxc.ops import csr
from tfxc.ops.csr import bounds_of, unit_rows


@pytest.mark.parametrize("kind", [list, np.int32, np.int64, np.uint16])
def test_bounds(kind):
    counts = [2, 0, 3] if kind is list else np.array([2, 0, 3], kind)
    bounds = bounds_of(counts)
    assert bounds.dtype == np.int64 and bounds.tolist() == [0, 2, 2, 5]
    assert bounds_of(counts[:0]).tolist() == [0]


def test_bounds_of_small_numbers_do_not_overflow():
    assert bounds_of(np.full(3, 200, np.uint8)).tolist() == [0, 200, 400, 600]


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_unit_rows_are_scikit_learns(norm):
    found = scipy.sparse.random(50, 40, 0.1, "csr", dtype=np.float32, random_state=0)
    found.data -= np.float32(0.4)
    found = scipy.sparse.vstack(
        [found[:20], scipy.sparse.csr_matrix((1, 40), dtype=np.float32), found[20:]], "csr"
    )
    expected = normalize(found, norm)
    np.testing.assert_array_equal(unit_rows(found, norm).toarray(), expected.toarray())
    assert found.dtype == np.float32 and not np.diff(found.indptr)[20]


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_rows_of_many_entries_and_of_arrays(monkeypatch, norm, dtype):
    monkeypatch.setattr(csr, "_ENTRIES", 64)
    matrix = scipy.sparse.random(300, 90, 0.2, "csr", dtype=dtype, random_state=1)
    matrix.data -= dtype(0.4)
    dense = np.random.default_rng(0).normal(size=(40, 7)).astype(dtype)
    dense[3] = 0
    dense[5] = 1e-9
    for values in (matrix, dense, dense[:0]):
        found = unit_rows(values.copy(), norm)
        assert found.dtype == dtype
        expected = normalize(values, norm) if values.shape[0] else values
        found, expected = (scipy.sparse.csr_matrix(one).toarray() for one in (found, expected))
        np.testing.assert_array_equal(found, expected)
