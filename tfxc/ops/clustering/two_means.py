"""Balanced 2-means: cuts sets of rows into halves of prescribed sizes.

Two centres, a row belongs to the first if it is among those that lean to it most; centres and
sides follow each other until no row moves (Prabhu et al., WWW 2018, "Parabel"; Yu et al., JMLR
2022, "PECOS"), from two rows far apart (Arthur and Vassilvitskii, SODA 2007, "k-means++").
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.resources import thread_count
from tfxc.ops.csr import Matrix

try:
    from tfxc.ops.clustering import _two_means
except ImportError:  # not built: NumPy does the work
    _two_means = None  # type: ignore[assignment]


def has_native() -> bool:
    """Says whether the compiled kernel is there (``python setup.py build_ext --inplace``)."""
    return _two_means is not None


class Bisection:
    """An order of rows that is cut into halves, level by level.

    The rows of a node are a slice of ``order``, and are sorted there by ascending number. The
    result depends on the seed alone, not on the number of threads.

    Args:
        vectors: float (n, width), CSR or dense.
        seed: of the first centres and of samples.
        spherical: whether centres are scaled to unit length.
        rounds: rounds of centres and sides per node at most, at least 1.
        threads: of the native kernel; None = all cores.
        native: whether to use the native kernel; None = where it is built.

    Attributes:
        order: int32 (n,), at first 0 to n - 1.

    Raises:
        DataError: a value is NaN or infinite.

    Example:
        >>> halves = Bisection(np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32), seed=0)
        >>> halves.cut([(0, 4, 2)])
        >>> sorted(halves.order[:2].tolist()) in ([0, 2], [1, 3])
        True
    """

    def __init__(
        self,
        vectors: np.ndarray | scipy.sparse.coo_matrix | scipy.sparse.csr_matrix,
        seed: int,
        spherical: bool = True,
        rounds: int = 20,
        threads: int | None = None,
        native: bool | None = None,
    ) -> None:
        self.order = np.arange(vectors.shape[0], dtype=np.int32)
        self._generator = np.random.default_rng(seed)
        self._spherical = spherical
        self._rounds = rounds
        self._threads = thread_count(threads)
        self._native = has_native() if native is None else native
        if scipy.sparse.issparse(vectors):
            self._vectors = scipy.sparse.csr_matrix(vectors, dtype=np.float32)
            values = self._vectors.data
        else:
            self._vectors = values = np.ascontiguousarray(vectors, np.float32)
        if not np.isfinite(values).all():
            raise DataError("the label vectors contain NaN or infinity")
        if self._native:
            self._arrays = _flat(self._vectors)

    def cut(self, nodes: Sequence[Sequence[int]] | np.ndarray, sample_rate: float = 1.0) -> None:
        """Cuts nodes, rows ``begin`` to ``end`` of ``order`` each, in place.

        Args:
            nodes: int (nodes, 3), ``begin, end, left``: the ``left`` rows, 1 to end - begin - 1,
                that lean to the first centre go to the front. Nodes do not overlap; nodes of a
                later call lie inside those of an earlier one.
            sample_rate: share of the rows the centres are found from; all rows are then cut by
                the last centres.
        """
        nodes = np.asarray(nodes, np.int64).reshape(-1, 3)
        draws = self._generator.random((len(nodes), 2))
        luck = np.zeros(len(self.order), np.float32)
        if sample_rate < 1:
            luck = self._generator.random(len(self.order), np.float32)
        if not len(nodes):
            return
        if self._native:
            values, starts, columns, width = self._arrays
            options = (sample_rate, self._spherical, self._rounds, self._threads)
            width = _two_means.halve_nodes(
                values, starts, columns, width, self.order, nodes, draws, luck, *options
            )
            self._arrays = (values, starts, columns, width)
            return
        for (begin, end, left), draw in zip(nodes, draws, strict=True):
            rows = self.order[begin:end]
            chosen = np.flatnonzero(luck[rows] < sample_rate)
            chosen = chosen if len(chosen) > 1 else np.arange(len(rows))
            vectors = self._vectors[rows]
            if scipy.sparse.issparse(vectors) and 4 * vectors.nnz <= vectors.shape[1]:
                # Without the columns that are empty in it.
                used, places = np.unique(vectors.indices, return_inverse=True)
                shape = (len(rows), max(1, len(used)))
                vectors = scipy.sparse.csr_matrix((vectors.data, places, vectors.indptr), shape)
            is_left = _halve(vectors, chosen, left, draw, self._spherical, self._rounds)
            self.order[begin:end] = np.concatenate([rows[is_left], rows[~is_left]])


def _flat(vectors: Matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
    """Returns values, row starts, an own copy of the columns, and the width, as the kernel takes
    them.
    """
    if not scipy.sparse.issparse(vectors):
        # The kernel needs an address even where there is no value.
        values = vectors.ravel() if vectors.size else np.zeros(1, np.float32)
        return values, np.zeros(1, np.int64), None, vectors.shape[1]
    values = vectors.data
    columns = np.array(vectors.indices, np.int32)
    if not len(values):
        values = np.zeros(1, np.float32)
        columns = np.zeros(1, np.int32)
    return values, vectors.indptr.astype(np.int64), columns, max(1, vectors.shape[1])


def _halve(
    vectors: Matrix,
    chosen: np.ndarray,
    left: int,
    draw: np.ndarray,
    spherical: bool,
    rounds: int,
) -> np.ndarray:
    """Returns the mask of the ``left`` rows nearer to the first of two centres, found from
    ``chosen`` rows.
    """
    sample = vectors if len(chosen) == vectors.shape[0] else vectors[chosen]
    count = len(chosen)
    sample_left = max(1, min(count - 1, count * left // vectors.shape[0]))
    direction = _first_direction(sample, *draw)
    total = np.asarray(sample.sum(axis=0, dtype=np.float64)).ravel()
    is_left = None
    for _ in range(rounds):
        if is_left is not None:
            of_left = sample.T @ is_left.astype(np.float64)
            direction = _centre(total - of_left, count - sample_left, spherical)
            direction -= _centre(of_left, sample_left, spherical)
        before = is_left
        is_left = _lowest(sample @ direction, sample_left)
        if before is not None and (is_left == before).all():
            break
    assert is_left is not None, "there is at least one round"
    return is_left if sample is vectors else _lowest(vectors @ direction, left)


def _lowest(scores: np.ndarray, left: int) -> np.ndarray:
    is_left = np.zeros(len(scores), bool)
    is_left[np.argsort(scores, kind="stable")[:left]] = True
    return is_left


def _centre(total: np.ndarray, count: int, spherical: bool) -> np.ndarray:
    if not spherical:
        return total / count
    norm = np.linalg.norm(total)
    return total / norm if norm > 0 else total


def _first_direction(vectors: Matrix, first_draw: float, second_draw: float) -> np.ndarray:
    """Returns points from a random row to one that is drawn by its squared distance to it."""
    count = vectors.shape[0]
    first = min(int(first_draw * count), count - 1)
    squares = vectors.multiply(vectors) if scipy.sparse.issparse(vectors) else vectors * vectors
    norms = np.asarray(squares.sum(axis=1, dtype=np.float64)).ravel()
    far = np.maximum(norms[first] + norms - 2 * (vectors @ _dense_row(vectors, first)), 0)
    far[first] = 0
    sums = np.cumsum(far)
    second = (first + 1) % count
    if sums[-1] > 0:
        second = min(int(np.searchsorted(sums, second_draw * sums[-1], "right")), count - 1)
    return _dense_row(vectors, second) - _dense_row(vectors, first)


def _dense_row(vectors: Matrix, row: int) -> np.ndarray:
    rows = vectors[row : row + 1]
    return (rows.toarray() if scipy.sparse.issparse(rows) else rows)[0].astype(np.float64)
