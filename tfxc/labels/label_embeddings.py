"""Vectors of labels to cluster them by, from the labels' training examples.

All take a label matrix Y (examples, labels), CSR, and return float32 vectors (labels, ...): CSR for
sparse features, an array for dense ones. A label without an example gets zeros.
"""

import math
from typing import Any, Literal

import numpy as np
import scipy.sparse

from tfxc.core.declared import Share, checked
from tfxc.core.errors import DataError
from tfxc.ops.clustering.aggregation import pruned_product
from tfxc.ops.csr import Matrix, unit_rows

#: How the features of the labels join PIFA.
Mode = Literal["concat", "convex"]
_BATCH = 65_536
_MAX_PIXELS = 16


class Pifa:
    """Positive instance feature aggregation of examples that come in parts; see ``pifa``.

    Example:
        >>> total = Pifa()
        >>> total.add(scipy.sparse.csr_matrix(np.float32([[1, 0]])), np.array([[3.0, 0]]))
        >>> total.add(scipy.sparse.csr_matrix(np.float32([[1, 1]])), np.array([[0, 1.0]]))
        >>> total.result()[1].tolist()
        [0.0, 1.0]
    """

    def __init__(self) -> None:
        self._parts: list[tuple[int, Any]] = []  # (number of summands, matrix), numbers descending

    def add(self, labels: scipy.sparse.csr_matrix, features: Matrix) -> None:
        """Adds examples: rows of Y and X. Sparse sums are added pairwise, so that none is copied
        too often.

        Raises:
            DataError: X and Y have different numbers of rows.
        """
        _check_rows(labels, features)
        count = 1
        matrix = _matrix(_unit_rows(_matrix(labels)).T @ _matrix(features))
        while self._parts and (self._parts[-1][0] <= count or not scipy.sparse.issparse(matrix)):
            more, summands = self._parts.pop()
            count += more
            matrix = matrix + summands
        self._parts.append((count, matrix))

    def result(self) -> Matrix:
        """Returns float32 (labels, width), rows of unit length or zero."""
        total = sum((matrix for _, matrix in self._parts[1:]), self._parts[0][1])
        return _unit_rows(total, copy=False)


def pifa(
    labels: scipy.sparse.csr_matrix,
    features: Matrix,
    max_nonzeros: int = 0,
    threads: int | None = None,
) -> Matrix:
    """Aggregates the features of positive instances: rows of ``l2(l2(Y)^T X)``.

    An example counts for each of its n labels with 1 / sqrt(n), its features as they are.

    Args:
        labels: Y (examples, labels), sparse.
        features: X (examples, width), CSR or dense.
        max_nonzeros: of a label's sums the greatest that are kept, where X is sparse; 0 for all.
            The sums of all labels are many times as large as X and Y.
        threads: with ``max_nonzeros`` at most this many; None means all cores.

    Returns:
        float32 (labels, width), rows of unit length or zero; sparse where X is.

    Raises:
        DataError: X and Y have different numbers of rows.

    Reference: Yu et al., "PECOS", JMLR 2022.

    Example:
        >>> labels = scipy.sparse.csr_matrix(np.array([[1, 0], [1, 1]], np.float32))
        >>> pifa(labels, np.array([[3.0, 0], [0, 1.0]]))[1].tolist()
        [0.0, 1.0]
    """
    if max_nonzeros and scipy.sparse.issparse(features):
        _check_rows(labels, features)
        shares = _unit_rows(_matrix(labels)).T.tocsr()
        rows = _matrix(features)
        sums = pruned_product(shares, rows, max_nonzeros, threads=threads)
        return _unit_rows(sums, copy=False)
    total = Pifa()
    total.add(labels, features)
    return total.result()


def pifa_of_source(source: Any, num_labels: int, batch_size: int = _BATCH) -> Matrix:
    """Makes ``pifa`` of all examples of a source, which are read once, a batch at a time.

    The features of an image are its pixels, averaged to at most 16 per side, scaled to unit length.
    What all labels' images have in common is taken away from them: the mean over the labels, before
    a last scaling.

    Args:
        source: a ``tfxc.data.sources.base.Source``.
        num_labels: N; ids from N on are left out.
        batch_size: examples per batch.

    Returns:
        float32 (N, num_features or pixels), a ``scipy.sparse.csr_matrix`` for sparse features (of
        texts with both features and tokens, these), else an array.

    Example:
        >>> from tfxc.data.examples.rows import Rows
        >>> from tfxc.data.sources.base import ArraySource
        >>> rows = Rows.from_dense(np.array([[2.0, 0], [0, 5.0]]), [[0], [0, 1]])
        >>> pifa_of_source(ArraySource(rows), 2)[1].tolist()
        [0.0, 1.0]
    """
    total = Pifa()
    for batch in source.sequential(batch_size):
        labels = batch["labels"]
        rows, places = np.nonzero((labels >= 0) & (labels < num_labels))
        shape = (len(labels), num_labels)
        ones = np.ones(len(rows), np.float32)
        true = scipy.sparse.csr_matrix((ones, (rows, labels[rows, places])), shape)
        features = batch["features"]
        if source.kind.is_image:
            # Means over squares of pixels; what is over at the edges is cut off.
            count, height, width, channels = features.shape
            side = math.ceil(max(height, width) / _MAX_PIXELS)
            down = max(1, height // side)
            across = max(1, width // side)
            squares = features[:, : down * side, : across * side].reshape(
                count, down, min(side, height), across, min(side, width), channels
            )
            means = squares.mean(axis=(2, 4), dtype=np.float32)
            total.add(true, _unit_rows(means.reshape(count, -1)))
        else:
            total.add(true, source.kind.matrix(features, source.num_features))
    vectors = total.result()
    if source.image_shape is None:
        return vectors
    known = np.any(vectors, axis=1, keepdims=True)
    return _unit_rows(np.where(known, vectors - vectors.mean(axis=0, where=known), 0), copy=False)


def pii(labels: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Returns the positive instance indices: which examples a label has, rows of ``l2(Y^T)``.

    Args:
        labels: Y (examples, labels), sparse.

    Returns:
        float32 CSR (labels, examples), rows of unit length or zero.

    Reference: Yu et al., "PECOS", JMLR 2022.

    Example:
        >>> pii(scipy.sparse.csr_matrix(np.array([[1, 0], [1, 1]]))).toarray().tolist()[1]
        [0.0, 1.0]
    """
    return _unit_rows(_matrix(labels.T))


@checked
def pifa_with_label_features(
    labels: scipy.sparse.csr_matrix,
    features: Matrix,
    label_features: Matrix,
    mode: Mode = "concat",
    alpha: Share = 0.5,
) -> Matrix:
    """Joins PIFA with features of the labels themselves, such as those of their names.

    Args:
        labels, features: as for ``pifa``.
        label_features: Z (labels, any width; for ``convex`` the features'), CSR or dense.
        mode: ``"concat"`` puts both side by side, ``"convex"`` adds alpha PIFA + (1 - alpha) Z.
        alpha: share of PIFA in ``convex``, 0 to 1.

    Returns:
        float32 (labels, width), sparse where X or Z is; rows are not scaled again.

    Raises:
        ConfigError: an unknown mode, or alpha outside 0 to 1.
        DataError: shapes do not fit.

    Reference: Yu et al., "PECOS", JMLR 2022.

    Example:
        >>> labels = scipy.sparse.csr_matrix(np.eye(2, dtype=np.float32))
        >>> found = pifa_with_label_features(labels, np.eye(2), np.ones((2, 2)), "convex", 0.5)
        >>> found.tolist()
        [[1.0, 0.5], [0.5, 1.0]]
    """
    aggregated = pifa(labels, features)
    given_features = _matrix(label_features)
    shape = aggregated.shape if mode == "convex" else (aggregated.shape[0], given_features.shape[1])
    if given_features.shape != shape:
        raise DataError(
            f"the label features have the shape {given_features.shape} instead of {shape}",
            fix="give one row per label"
            + (", as wide as the features" if mode == "convex" else ""),
        )
    if scipy.sparse.issparse(aggregated) or scipy.sparse.issparse(given_features):
        aggregated = scipy.sparse.csr_matrix(aggregated)
        given_features = scipy.sparse.csr_matrix(given_features)
    if mode == "convex":
        return np.float32(alpha) * aggregated + np.float32(1 - alpha) * given_features
    if scipy.sparse.issparse(aggregated):
        return scipy.sparse.hstack([aggregated, given_features], format="csr", dtype=np.float32)
    return np.concatenate([aggregated, given_features], axis=1)


def _check_rows(labels: scipy.sparse.spmatrix, features: Matrix) -> None:
    if labels.shape[0] != features.shape[0]:
        raise DataError(
            f"there are {features.shape[0]:,} rows of features, but {labels.shape[0]:,} of labels",
            fix="give both matrices of the same examples",
        )


def _matrix(values: Matrix) -> Matrix:
    """Returns float32, as CSR or as an array."""
    if scipy.sparse.issparse(values):
        return scipy.sparse.csr_matrix(values, dtype=np.float32)
    return np.asarray(values, np.float32)


def _unit_rows(values: Matrix, copy: bool = True) -> Matrix:
    """Returns rows scaled to length 1; rows of zeros stay as they are."""
    return unit_rows(values.copy() if copy else values)
