"""Features and labels of a split as two matrices, for methods that need all of them."""

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError

if TYPE_CHECKING:
    from tfxc.data.sources.base import Source


_BATCH = 65_536


def matrices(source: "Source", batch_size: int = _BATCH) -> tuple[Any, scipy.sparse.csr_matrix]:
    """Returns all examples of a source, in its order, as X and Y.

    Labels that training does not know are left out.

    Args:
        source: a ``Source`` of sparse or dense features, or of texts with both features and tokens.
        batch_size: examples read at once.

    Returns:
        ``(features, labels)``: float32 (n, num_features), CSR or an array as the source has them,
        and float32 CSR (n, num_labels) of ones.

    Raises:
        DataError: the source holds images or lists of tokens.

    Example:
        >>> from tfxc.data.examples.rows import Rows
        >>> from tfxc.data.sources.base import ArraySource
        >>> rows = Rows.from_dense(np.array([[2.0, 0], [0, 5.0]]), [[0], [0, 1]])
        >>> [matrix.shape for matrix in matrices(ArraySource(rows, num_labels=2))]
        [(2, 2), (2, 2)]
    """
    if not source.kind.is_matrix:
        raise DataError(
            f"features of the kind {source.kind.name} are not a matrix",
            fix="prepare the texts with tfidf or joined, or give vectors of the images",
        )
    features = []
    rows = []
    ids = []
    count = 0
    for batch in source.sequential(batch_size):
        labels = batch["labels"]
        rows_here, places = np.nonzero((labels >= 0) & (labels < source.num_labels))
        rows.append(rows_here + count)
        ids.append(labels[rows_here, places])
        features.append(source.kind.matrix(batch["features"], source.num_features))
        count += len(labels)
    entries = np.concatenate(rows), np.concatenate(ids)
    ones = np.ones(len(entries[0]), np.float32)
    shape = (count, source.num_labels)
    labels = scipy.sparse.csr_matrix((ones, entries), shape)
    if scipy.sparse.issparse(features[0]):
        return scipy.sparse.vstack(features, format="csr"), labels
    return np.concatenate(features), labels
