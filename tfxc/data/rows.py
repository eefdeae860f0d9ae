"""Examples in memory: CSR (or dense) features and CSR label lists, gathered without a loop."""

import numpy as np
import scipy.sparse

PADDING = -1


class Rows:
    """Examples in memory, sparse or dense.

    Sparse features are ``indptr`` int64 (n + 1,), ``indices`` int32 (nnz,) and ``values`` float32
    (nnz,); dense ones are ``matrix`` float32 (n, num_features), and the other three are None.
    Labels are ``label_indptr`` int64 (n + 1,) and ``label_ids`` int32 (total,).

    Args:
        num_features: width of the feature space.

    Example:
        >>> rows = Rows.from_csr(scipy.sparse.csr_matrix([[0.0, 2.0], [1.0, 0.0]]), [[3], []])
        >>> rows.take([1, 0])["labels"].tolist()
        [[-1], [3]]
    """

    def __init__(
        self, *, label_indptr, label_ids, num_features, indptr=None, indices=None, values=None,
        matrix=None,
    ):  # fmt: skip
        assert (matrix is None) == (indptr is not None), "either sparse or dense features"
        self.label_indptr = np.asarray(label_indptr, np.int64)
        self.label_ids = np.asarray(label_ids, np.int32)
        self.num_features = int(num_features)
        self.matrix = None if matrix is None else np.asarray(matrix, np.float32)
        self.indptr = None if indptr is None else np.asarray(indptr, np.int64)
        self.indices = None if indices is None else np.asarray(indices, np.int32)
        self.values = None if values is None else np.asarray(values, np.float32)
        features = len(self.matrix) if self.dense else len(self.indptr) - 1
        assert features == len(self), f"{features} feature rows, {len(self)} label rows"

    @classmethod
    def from_csr(cls, features, labels):
        """Rows of a scipy CSR matrix (n, num_features).

        Args:
            labels: one list of ids per row, or a CSR matrix whose stored entries are the labels.
        """
        features = scipy.sparse.csr_matrix(features)
        label_indptr, label_ids = _label_arrays(labels)
        return cls(
            indptr=features.indptr, indices=features.indices, values=features.data,
            label_indptr=label_indptr, label_ids=label_ids, num_features=features.shape[1],
        )  # fmt: skip

    @classmethod
    def from_dense(cls, matrix, labels):
        """Rows of a dense matrix (n, dim); ``labels`` as in ``from_csr``."""
        label_indptr, label_ids = _label_arrays(labels)
        return cls(
            matrix=matrix, label_indptr=label_indptr, label_ids=label_ids,
            num_features=matrix.shape[1],
        )  # fmt: skip

    @classmethod
    def concatenate(cls, parts):
        """The rows of several ``Rows`` of one kind and width, one after the other."""
        builder = RowsBuilder(
            num_examples=sum(len(part) for part in parts),
            num_nonzeros=sum(part.nonzeros for part in parts),
            num_labels=sum(len(part.label_ids) for part in parts),
            num_features=parts[0].num_features,
            dense=parts[0].dense,
        )
        for part in parts:
            builder.append(part)
        return builder.finish()

    def __len__(self):
        return len(self.label_indptr) - 1

    @property
    def dense(self):
        """Whether the features are dense vectors."""
        return self.matrix is not None

    @property
    def nonzeros(self):
        """Number of stored feature values."""
        return self.matrix.size if self.dense else len(self.values)

    @property
    def nbytes(self):
        """Bytes of memory the arrays take."""
        arrays = (
            self.indptr, self.indices, self.values, self.matrix, self.label_indptr, self.label_ids,
        )  # fmt: skip
        return sum(array.nbytes for array in arrays if array is not None)

    def slice(self, start, stop):
        """Rows ``start`` to ``stop`` (exclusive); the values are views, not copies."""
        start, stop, _ = slice(start, stop).indices(len(self))
        label_indptr, label_ids = _slice_lists(self.label_indptr, start, stop, self.label_ids)
        labels = {
            "label_indptr": label_indptr,
            "label_ids": label_ids,
            "num_features": self.num_features,
        }
        if self.dense:
            return Rows(matrix=self.matrix[start:stop], **labels)
        indptr, indices, values = _slice_lists(self.indptr, start, stop, self.indices, self.values)
        return Rows(indptr=indptr, indices=indices, values=values, **labels)

    def select(self, row_numbers):
        """The given rows, in the given order, as new ``Rows``."""
        row_numbers = np.asarray(row_numbers, np.int64)
        label_indptr, label_ids = _gather_lists(self.label_indptr, row_numbers, self.label_ids)
        labels = {
            "label_indptr": label_indptr,
            "label_ids": label_ids,
            "num_features": self.num_features,
        }
        if self.dense:
            return Rows(matrix=self.matrix[row_numbers], **labels)
        indptr, indices, values = _gather_lists(self.indptr, row_numbers, self.indices, self.values)
        return Rows(indptr=indptr, indices=indices, values=values, **labels)

    def take(self, row_numbers):
        """The batch of the given rows as NumPy arrays (docs/architecture.md, "Rows and batches").

        Returns:
            dict: ``features``, either ``{"ids": int32 (nnz,), "weights": float32 (nnz,),
            "row_splits": int64 (n + 1,)}`` or float32 (n, dim); ``labels`` int32
            (n, max(1, most labels in these rows)) padded with −1.
        """
        return self.select(row_numbers).batch()

    def batch(self):
        """All rows as one batch; see ``take``."""
        features = self.matrix
        if not self.dense:
            features = {"ids": self.indices, "weights": self.values, "row_splits": self.indptr}
        return {"features": features, "labels": pad_labels(self.label_indptr, self.label_ids)}


class RowsBuilder:
    """Fills arrays of a size known beforehand, so that the parts never stand beside the whole."""

    def __init__(self, *, num_examples, num_nonzeros, num_labels, num_features, dense):
        self._row = self._nonzero = self._label = 0
        arrays = {
            "label_indptr": np.zeros(num_examples + 1, np.int64),
            "label_ids": np.empty(num_labels, np.int32),
        }
        if dense:
            arrays["matrix"] = np.empty((num_examples, num_features), np.float32)
        else:
            arrays["indptr"] = np.zeros(num_examples + 1, np.int64)
            arrays["indices"] = np.empty(num_nonzeros, np.int32)
            arrays["values"] = np.empty(num_nonzeros, np.float32)
        self._arrays, self._num_features, self._dense = arrays, num_features, dense

    def append(self, rows):
        """Copies ``rows`` behind those appended so far."""
        assert rows.dense == self._dense and rows.num_features == self._num_features
        arrays, start, stop = self._arrays, self._row, self._row + len(rows)
        arrays["label_indptr"][start + 1 : stop + 1] = rows.label_indptr[1:] + self._label
        arrays["label_ids"][self._label : self._label + len(rows.label_ids)] = rows.label_ids
        if self._dense:
            arrays["matrix"][start:stop] = rows.matrix
        else:
            arrays["indptr"][start + 1 : stop + 1] = rows.indptr[1:] + self._nonzero
            arrays["indices"][self._nonzero : self._nonzero + rows.nonzeros] = rows.indices
            arrays["values"][self._nonzero : self._nonzero + rows.nonzeros] = rows.values
        self._row = stop
        self._nonzero += rows.nonzeros
        self._label += len(rows.label_ids)

    def finish(self):
        """The filled ``Rows``."""
        assert self._row == len(self._arrays["label_indptr"]) - 1, "fewer rows than announced"
        return Rows(num_features=self._num_features, **self._arrays)


def pad_labels(label_indptr, label_ids):
    """Label lists in CSR form as an int32 matrix (n, max(1, longest list)) padded with −1.

    Example:
        >>> pad_labels(np.array([0, 2, 2]), np.array([4, 5])).tolist()
        [[4, 5], [-1, -1]]
    """
    counts = np.diff(label_indptr)
    width = max(1, int(counts.max(initial=0)))
    padded = np.full((len(counts), width), PADDING, np.int32)
    # A boolean mask fills row by row, which is the order of the ids.
    padded[np.arange(width) < counts[:, None]] = label_ids
    return padded


def _label_arrays(labels):
    if scipy.sparse.issparse(labels):
        labels = scipy.sparse.csr_matrix(labels)
        return labels.indptr, labels.indices
    counts = np.fromiter((len(row) for row in labels), np.int64, len(labels))
    label_indptr = np.concatenate([[0], np.cumsum(counts)])
    ids = np.fromiter((label for row in labels for label in row), np.int32, label_indptr[-1])
    return label_indptr, ids


def _slice_lists(indptr, start, stop, *values):
    first, last = indptr[start], indptr[stop]
    return indptr[start : stop + 1] - first, *(array[first:last] for array in values)


def _gather_lists(indptr, row_numbers, *values):
    starts = indptr[row_numbers]
    gathered = np.zeros(len(row_numbers) + 1, np.int64)
    np.cumsum(indptr[row_numbers + 1] - starts, out=gathered[1:])
    positions = np.repeat(starts - gathered[:-1], np.diff(gathered))
    positions += np.arange(gathered[-1])
    return gathered, *(array[positions] for array in values)
