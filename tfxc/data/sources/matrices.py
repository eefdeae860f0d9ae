"""Features and labels of a split as two matrices, for methods that need all of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError, UserError
from tfxc.core.resources import require_memory
from tfxc.ops.csr import load_sparse

if TYPE_CHECKING:
    from tfxc.data.sources.base import Source


_BATCH = 65_536


def matrices(source: "Source", batch_size: int = _BATCH) -> tuple[Any, scipy.sparse.csr_matrix]:
    """All examples of a source, in its order, as X and Y.

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
        >>> from tfxc.data.rows import Rows
        >>> from tfxc.data.sources.base import ArraySource
        >>> rows = Rows.from_dense(np.array([[2.0, 0], [0, 5.0]]), [[0], [0, 1]])
        >>> [matrix.shape for matrix in matrices(ArraySource(rows, num_labels=2))]
        [(2, 2), (2, 2)]
    """
    if not source.kind.is_matrix:
        raise DataError(
            f"sparse or dense features expected, found {source.kind.name}",
            fix="prepare the texts with tfidf or joined, or give vectors of the images",
        )
    features, rows, ids, count = [], [], [], 0
    for batch in source.sequential(batch_size):
        labels = batch["labels"]
        found, places = np.nonzero((labels >= 0) & (labels < source.num_labels))
        rows.append(found + count)
        ids.append(labels[found, places])
        features.append(source.kind.matrix(batch["features"], source.num_features))
        count += len(labels)
    entries = np.concatenate(rows), np.concatenate(ids)
    ones, shape = np.ones(len(entries[0]), np.float32), (count, source.num_labels)
    labels = scipy.sparse.csr_matrix((ones, entries), shape)
    if scipy.sparse.issparse(features[0]):
        return scipy.sparse.vstack(features, format="csr"), labels
    return np.concatenate(features), labels


def load_matrix(path: str | Path) -> np.ndarray | scipy.sparse.csr_matrix:
    """A matrix from a file: ``.npy`` (dense) or ``.npz`` (sparse, ``scipy.sparse.save_npz``).

    Args:
        path: the file.

    Returns:
        float32 array or CSR matrix.

    Raises:
        DataError: the file is missing, damaged, no matrix, or holds NaN or infinity.
        MachineError: it does not fit into memory.

    Example:
        >>> load_matrix("X.trn.npz").shape    # doctest: +SKIP
        (15449, 186104)
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", where=path, fix="check the path")
    try:
        if path.suffix == ".npz":
            found = load_sparse(path).astype(np.float32)
        else:
            require_memory(2 * path.stat().st_size, path)
            found = np.load(path).astype(np.float32)
    except (OSError, EOFError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise DataError(
            f"a dense matrix in .npy or a sparse one in .npz expected: {error}", where=path
        ) from error
    if found.ndim != 2:
        raise DataError(f"a matrix expected, found shape {found.shape}", where=path)
    if not np.isfinite(found.data if scipy.sparse.issparse(found) else found).all():
        raise DataError("finite numbers expected, found NaN or infinity", where=path)
    return found
