"""A vector of each label, from the features of its training examples."""

import math

import numpy as np
import scipy.sparse
from sklearn.preprocessing import normalize

_BATCH = 65_536
_MOST_PIXELS = 16


def label_vectors(source, num_labels, batch_size=_BATCH):
    """Positive instance features aggregation (PIFA; Yu et al., JMLR 2022, "PECOS").

    A label's vector is the sum of the unit-length features of its examples, scaled to unit length.
    Labels without an example get zeros. Examples are read once, a batch at a time.

    The features of an image are its pixels, averaged to at most 16 a side. What all labels' images
    have in common is taken away from them: the mean over the labels, before the last scaling.

    Args:
        source: a ``Source``.
        num_labels: N; ids from N on are left out.
        batch_size: examples a batch.

    Returns:
        float32 (N, num_features or pixels), a ``scipy.sparse.csr_matrix`` for sparse features (of
        texts with both features and tokens, these), else an array.

    Example:
        >>> from tfxc.data.rows import Rows
        >>> from tfxc.data.sampling import ArraySource
        >>> rows = Rows.from_dense(np.array([[2.0, 0], [0, 5.0]]), [[0], [0, 1]])
        >>> label_vectors(ArraySource(rows), 2)[1].tolist()
        [0.0, 1.0]
    """
    total = _Sum()
    for batch in source.sequential(batch_size):
        labels = batch["labels"]
        rows, places = np.nonzero((labels >= 0) & (labels < num_labels))
        ones = np.ones(len(rows), np.float32)
        shape = (num_labels, len(labels))
        true = scipy.sparse.csr_matrix((ones, (labels[rows, places], rows)), shape)
        total.add(true @ normalize(_matrix(batch["features"], source.num_features)))
    found = normalize(total.result(), copy=False)
    if source.image_shape is None:
        return found
    known = np.any(found, axis=1, keepdims=True)
    return normalize(np.where(known, found - found.mean(axis=0, where=known), 0), copy=False)


def _matrix(features, num_features):
    if not isinstance(features, dict):
        if features.ndim == 4:
            features = _shrunk(features).reshape(len(features), -1)
        return np.asarray(features, np.float32)
    parts = (features["weights"], features["ids"], features["row_splits"])
    return scipy.sparse.csr_matrix(parts, (len(features["row_splits"]) - 1, num_features))


def _shrunk(images):
    """Means over squares of pixels, so that at most 16 a side are left; a rest is cut off."""
    count, height, width, channels = images.shape
    side = math.ceil(max(height, width) / _MOST_PIXELS)
    rows, columns = max(1, height // side), max(1, width // side)
    whole = images[:, : rows * side, : columns * side]
    shape = (count, rows, min(side, height), columns, min(side, width), channels)
    return whole.reshape(shape).mean(axis=(2, 4), dtype=np.float32)


class _Sum:
    """Sum of matrices; sparse ones are added pairwise, so that none is copied too often."""

    def __init__(self):
        self._parts = []  # (number of summands, matrix), numbers falling

    def add(self, matrix):
        count = 1
        while self._parts and (self._parts[-1][0] <= count or not scipy.sparse.issparse(matrix)):
            more, other = self._parts.pop()
            count, matrix = count + more, matrix + other
        self._parts.append((count, matrix))

    def result(self):
        return sum((matrix for _, matrix in self._parts[1:]), self._parts[0][1])
