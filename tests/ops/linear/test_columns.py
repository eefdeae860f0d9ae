"""What the compiled solver's columns and blocks are made of, against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.sparse

from tfxc.ops.linear import block
from tfxc.ops.linear.columns import Columns, cache_aligned
from tfxc.ops.linear.solver import has_native

pytestmark = pytest.mark.skipif(not has_native(), reason="the extension is not built")


def drawn(seed, shape=(40, 300), density=0.01):
    return scipy.sparse.random(*shape, density, "csr", np.float32, np.random.default_rng(seed))


@pytest.mark.parametrize(("seed", "density"), [(0, 0.01), (1, 0.2), (2, 0)])
def test_numbers_of_columns(seed, density):
    matrix = drawn(seed, density=density)
    columns, counts = Columns(matrix, 1.0), np.bincount(matrix.indices, minlength=300)
    ids = np.flatnonzero(counts)
    assert columns.ids.tolist() == [*ids, 300]
    assert columns.num_slots == (counts > 1).sum()
    kept = matrix[:, counts > 1]
    assert (columns.slots[: kept.nnz] == kept.indices).all()
    assert (np.diff(columns.row_splits) == np.diff(kept.indptr)).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("compress", [True, False])
def test_kept_weights(kind, compress):
    matrix, draw = drawn(3), np.random.default_rng(4)
    columns = Columns(matrix, 1.0, compress)
    weights, duals = cache_aligned(columns.num_slots + 1, 16, kind), cache_aligned(40, 16, kind)
    weights[:], duals[:] = draw.normal(size=weights.shape), draw.random(duals.shape)
    terms = draw.choice(np.float32([-0.5, 0.5]), (40, 16))
    bounds, places, values = columns.kept(weights, duals, terms, 0.3)
    assert bounds[-1] == len(values) - 1  # the last is room that nothing needed
    # The signed duals times the features are the weights of what only one row has.
    expected = matrix.T @ np.copysign(duals, terms)
    counts = np.bincount(matrix.indices, minlength=300)
    shared = counts > 1 if compress else np.ones(300, bool)
    expected[shared] = weights[:-1]
    expected = np.append(expected, weights[-1:], axis=0).astype(np.float32)
    for lane in range(16):
        found = np.zeros(301, np.float32)
        mine = slice(bounds[lane], bounds[lane + 1])
        found[columns.ids[places[mine]]] = values[mine]
        own = np.where(np.abs(expected[:, lane]) >= np.float32(0.3), expected[:, lane], 0)
        np.testing.assert_allclose(found, own, rtol=1e-6)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5])
def test_entries_by_place(density):
    matrix = drawn(5, density=density)
    arguments = (matrix.indptr.astype(np.int64), matrix.indices, matrix.data, 300)
    for found, expected in zip(
        block._linear_solver.by_place(*arguments), block._by_place(*arguments), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
