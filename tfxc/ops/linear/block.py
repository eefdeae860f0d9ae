"""The weights of one parent's children: pieces of single children, put together by feature."""

from typing import NamedTuple

import numpy as np
import scipy.sparse

try:
    from tfxc.ops.linear import _linear_solver
except ImportError:  # not built: SciPy does the work
    _linear_solver = None  # type: ignore[assignment]

#: Bytes of a weight in a piece: a position and a value.
PIECE_BYTES = 8


class Block(NamedTuple):
    """Weights of one parent's children, by feature.

    Attributes:
        rows: int32, the ascending features with a weight; the bias is number D.
        counts: int64, weights of each of them.
        columns: int32, the weights' children, ascending for each feature.
        values: float32, the weights.
        unfinished: number of labels that ``max_passes`` were too few for.
    """

    rows: np.ndarray
    counts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    unfinished: int


def assembled(
    pieces: list[tuple[int, np.ndarray, np.ndarray]],
    ids: np.ndarray,
    num_children: int,
    unfinished: int,
) -> "Block":
    """Returns the ``Block`` of pieces.

    Args:
        pieces: list of (child, positions in ``ids`` int32, values float32), at most one of each
            child. It is emptied, so that weights are not in memory three times.
        ids: int32, features.
        num_children: number of children.
        unfinished: see ``Block``.

    Example:
        >>> pieces = [(1, np.int32([2, 0]), np.float32([5, 6])), (0, np.int32([2]), np.ones(1))]
        >>> block = assembled(pieces, np.int32([10, 20, 30]), 2, 0)
        >>> block.rows.tolist(), block.columns.tolist(), block.values.tolist()
        ([10, 30], [1, 0, 1], [6.0, 1.0, 5.0])
    """
    splits = np.zeros(num_children + 1, np.int64)
    for child, places, _ in pieces:
        splits[child + 1] = len(places)
    np.cumsum(splits, out=splits)
    indices = np.empty(splits[-1], np.int32)
    data = np.empty(splits[-1], np.float32)
    while pieces:
        child, places, values = pieces.pop()
        part = slice(splits[child], splits[child + 1])
        indices[part] = places
        data[part] = values
        del places, values  # the last holds those of its whole group
    # A counting sort, by which a feature's weights come in the order of the children.
    counts, columns, data = (_by_place if _linear_solver is None else _linear_solver.by_place)(
        splits, indices, data, len(ids)
    )
    used = np.flatnonzero(counts)
    return Block(ids[used], counts[used].astype(np.int64), columns, data, unfinished)


def _by_place(
    splits: np.ndarray, places: np.ndarray, values: np.ndarray, num_places: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Does what ``_linear_solver.by_place`` does, by SciPy."""
    shape = (len(splits) - 1, num_places)
    matrix = scipy.sparse.csr_matrix((values, places, splits), shape).tocsc()
    return np.diff(matrix.indptr), matrix.indices.astype(np.int32, copy=False), matrix.data


def greatest(places: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Picks the ``count`` of a child's weights of the greatest magnitude; all for 0.

    Returns:
        ``(places, values)``.
    """
    if not count:
        return places, values
    if len(values) <= count:  # copies, since the arrays may be parts of much longer ones
        return places.copy(), values.copy()
    order = np.argsort(-np.abs(values), kind="stable")[:count]
    return places[order], values[order]
