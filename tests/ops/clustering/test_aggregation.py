"""Pruned products against products of whole matrices."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.ops.clustering import aggregation
from tfxc.ops.clustering.aggregation import has_native, pruned_product

NATIVE = [False, pytest.param(True, marks=pytest.mark.skipif(not has_native(), reason="not built"))]


def matrices(rows=60, inner=40, width=90):
    """Whole numbers, so that sums are exact and many are as large as others."""
    random = np.random.default_rng(0)
    left = random.integers(0, 3, (rows, inner)) * (random.random((rows, inner)) < 0.2)
    right = random.integers(-2, 3, (inner, width)) * (random.random((inner, width)) < 0.2)
    left[3], right[:, 5] = 0, 0
    return left.astype(np.float32), right.astype(np.float32)


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("most", [1, 3, 17, 1000])
def test_the_greatest_of_each_row_are_kept(monkeypatch, native, most):
    monkeypatch.setattr(aggregation, "_ROWS", 16)
    left, right = matrices()
    sparse = map(scipy.sparse.csr_matrix, (left, right))
    found = pruned_product(*sparse, most, native=native)
    assert found.dtype == np.float32 and found.shape == (60, 90) and found.has_sorted_indices
    expected = np.zeros((60, 90), np.float32)
    for row, sums in enumerate(left @ right):
        kept = np.argsort(-np.abs(sums), kind="stable")[:most]
        expected[row, kept] = sums[kept]
    np.testing.assert_array_equal(found.toarray(), expected)


@pytest.mark.parametrize("native", NATIVE)
def test_sums_are_those_of_the_whole_product(native):
    random = np.random.default_rng(1)
    left = scipy.sparse.random(50, 80, 0.2, "csr", np.float32, random)
    right = scipy.sparse.random(80, 30, 0.3, "csr", np.float32, random)
    found, whole = pruned_product(left, right, 30, native=native), left @ right
    assert abs(found - whole).nnz == 0


@pytest.mark.parametrize("native", NATIVE)
def test_without_rows_or_columns(native):
    for rows, width in ((0, 4), (4, 0)):
        left = scipy.sparse.csr_matrix((rows, 3), dtype=np.float32)
        right = scipy.sparse.csr_matrix((3, width), dtype=np.float32)
        assert pruned_product(left, right, 2, native=native).shape == (rows, width)
