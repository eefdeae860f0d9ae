"""Products of sparse matrices of which only the greatest entries of each row are kept."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import scipy.sparse

from tfxc.core.resources import thread_count
from tfxc.ops.csr import bounds_of

try:
    from tfxc.ops.clustering import _aggregation
except ImportError:  # not built: NumPy does the work
    _aggregation = None  # type: ignore[assignment]

_ROWS = 8192  # of the product that are computed at once


def has_native() -> bool:
    """Says whether the compiled kernel is there (``python setup.py build_ext --inplace``)."""
    return _aggregation is not None


def pruned_product(
    left: scipy.sparse.csr_matrix,
    right: scipy.sparse.csr_matrix,
    most: int,
    *,
    threads: int | None = None,
    native: bool | None = None,
) -> scipy.sparse.csr_matrix:
    """Returns ``left @ right`` with the entries of the greatest magnitude of each row.

    Blocks of rows are multiplied, so that the whole product is never there. Of entries of the same
    magnitude those of the smaller columns are kept.

    Args:
        left: float32 CSR (n, m).
        right: float32 CSR (m, width).
        most: entries of a row that are kept, at least 1.
        threads: of the compiled kernel; None means all cores. The result does not depend on it.
        native: whether the compiled kernel is used; None means where it is built.

    Returns:
        float32 CSR (n, width), columns ascending.

    Example:
        >>> left = scipy.sparse.csr_matrix(np.float32([[1, 1]]))
        >>> right = scipy.sparse.csr_matrix(np.float32([[1, 0, 2], [1, 1, 0]]))
        >>> pruned_product(left, right, 2).toarray().tolist()
        [[2.0, 0.0, 2.0]]
    """
    blocks = (left[begin : begin + _ROWS] for begin in range(0, left.shape[0], _ROWS))
    if has_native() if native is None else native:
        prepared = _arrays(right)
        with ThreadPoolExecutor(thread_count(threads)) as pool:
            parts = list(pool.map(partial(_native, right=prepared, most=most), blocks))
    else:
        parts = [_plain(block, right, most) for block in blocks]
    if not parts:
        return scipy.sparse.csr_matrix((0, right.shape[1]), dtype=np.float32)
    counts, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    shape = (left.shape[0], right.shape[1])
    return scipy.sparse.csr_matrix((values, columns, bounds_of(counts)), shape)


def _arrays(matrix: scipy.sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Returns the row starts, columns and values as the kernel takes them, and the width."""
    starts = matrix.indptr.astype(np.int64)
    columns = matrix.indices.astype(np.int32, copy=False)
    return starts, columns, matrix.data.astype(np.float32, copy=False), matrix.shape[1]


def _native(
    block: scipy.sparse.csr_matrix, right: tuple[np.ndarray, np.ndarray, np.ndarray, int], most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts by row, columns and values of a block's product."""
    starts, members, factors, _ = _arrays(block)
    rows = block.shape[0]
    counts = np.zeros(rows, np.int64)
    columns = np.empty(rows * most, np.int32)
    values = np.empty(rows * most, np.float32)
    enough_memory = _aggregation.greatest_of_sums(
        starts, members, factors, *right, most, counts, columns, values
    )
    if not enough_memory:
        raise MemoryError(f"no memory for sums of {right[-1]:,} columns")
    filled = np.arange(most) < counts[:, None]
    return counts, columns.reshape(rows, most)[filled], values.reshape(rows, most)[filled]


def _plain(
    block: scipy.sparse.csr_matrix, right: scipy.sparse.csr_matrix, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the same by SciPy and NumPy."""
    product = (block @ right).tocsr()
    product.sort_indices()
    rows = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
    order = np.lexsort((product.indices, -np.abs(product.data), rows))
    ranks = np.arange(len(order)) - product.indptr[rows]
    chosen = np.sort(order[ranks < most])
    counts = np.bincount(rows[chosen], minlength=product.shape[0])
    return counts, product.indices[chosen].astype(np.int32), product.data[chosen]
