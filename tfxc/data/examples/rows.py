"""Examples in memory: features of one kind and CSR label lists, gathered without a loop."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse

from tfxc.data.examples.columns import LABELS, Arrays, Column
from tfxc.data.examples.kinds import DENSE, IMAGE, ROW_KINDS, SPARSE, TOKENS
from tfxc.data.examples.lists import pad_labels
from tfxc.ops.csr import bounds_of

#: Of each row a list of ids; or a CSR matrix whose stored entries are the labels.
Labels: TypeAlias = "Sequence[Sequence[int]] | scipy.sparse.csr_matrix"

if TYPE_CHECKING:
    from tfxc.data.examples.kinds import FeatureKind


_ARRAYS = {name for kind in ROW_KINDS.values() for name in kind.arrays}


class Rows:
    """Examples in memory, all of one kind.

    Sparse features are ``indptr`` int64 (n + 1,), ``indices`` int32 (nnz,) and ``values`` float32
    (nnz,); dense ones ``matrix`` float32 (n, num_features). Texts as lists of tokens are
    ``tokens`` int32 (total,), row r being ``tokens[indptr[r]:indptr[r + 1]]``; texts that are
    sparse features as well, ``"joined"``, have the bounds of their tokens in ``token_indptr``.
    Images are ``images`` uint8 (n, height, width, channels) as pixels; as encoded files they are
    ``content`` uint8 (bytes,), file r being ``content[indptr[r]:indptr[r + 1]]``. The arrays of the
    other kinds are None.
    Labels are ``label_indptr`` int64 (n + 1,) and ``label_ids`` int32 (total,).

    Args:
        kind: ``tfxc.data.examples.kinds.FeatureKind``.
        arrays: the arrays of the features by name.
        num_features: width of the feature space; for images values of one (0 if not known).

    Example:
        >>> rows = Rows.from_csr(scipy.sparse.csr_matrix([[0.0, 2.0], [1.0, 0.0]]), [[3], []])
        >>> rows.take([1, 0])["labels"].tolist()
        [[-1], [3]]
    """

    # Whoever asks for one knows the kind: those of other kinds are None.
    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    matrix: np.ndarray
    tokens: np.ndarray
    token_indptr: np.ndarray
    images: np.ndarray
    content: np.ndarray

    def __init__(
        self,
        kind: "FeatureKind",
        arrays: Mapping[str, np.ndarray],
        *,
        label_indptr: Sequence[int] | np.ndarray,
        label_ids: Sequence[int] | np.ndarray,
        num_features: int,
    ) -> None:
        assert arrays.keys() == kind.arrays.keys(), f"{kind} has no arrays {sorted(arrays)}"
        self.kind = kind
        self.num_features = int(num_features)
        self.label_indptr = np.asarray(label_indptr, np.int64)
        self.label_ids = np.asarray(label_ids, np.int32)
        for name in _ARRAYS:
            array = arrays.get(name)
            setattr(self, name, None if array is None else np.asarray(array, kind.arrays[name]))
        for column in kind.columns:
            count = column.count(self.arrays)
            assert count == len(self), f"{count} rows of {column.values}, {len(self)} label rows"

    @classmethod
    def from_csr(cls, features: np.ndarray | scipy.sparse.csr_matrix, labels: Labels) -> "Rows":
        """Returns the rows of a scipy CSR matrix (n, num_features).

        Args:
            labels: one list of ids per row, or a CSR matrix whose stored entries are the labels.
        """
        features = scipy.sparse.csr_matrix(features)
        arrays = {"indptr": features.indptr, "indices": features.indices, "values": features.data}
        return cls(SPARSE, arrays, **_label_arrays(labels), num_features=features.shape[1])

    @classmethod
    def from_dense(cls, matrix: np.ndarray, labels: Labels) -> "Rows":
        """Returns the rows of a dense matrix (n, dim); ``labels`` as in ``from_csr``."""
        return cls.of(DENSE, matrix, labels)

    @classmethod
    def of(cls, kind: "FeatureKind", features: Any, labels: Labels) -> "Rows":
        """Returns the rows of what text features of a kind made of texts; ``labels`` as in
        ``from_csr``.
        """
        arrays = kind.arrays_of(features)
        width = kind.num_features(features)
        return cls(kind, arrays, **_label_arrays(labels), num_features=width)

    @classmethod
    def concatenate(cls, parts: "Sequence[Rows]") -> "Rows":
        """Returns the rows of several ``Rows`` of one kind and width, one after the other."""
        counts = np.sum([part.counts for part in parts], axis=0).tolist()
        builder = RowsBuilder(parts[0].kind, counts, parts[0].sizes)
        for part in parts:
            builder.append(part)
        return builder.finish()

    def __len__(self) -> int:
        return len(self.label_indptr) - 1

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the features by name."""
        return {name: getattr(self, name) for name in self.kind.arrays}

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """The arrays of the labels by name."""
        return {name: getattr(self, name) for name in LABELS.types}

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of rows, labels, feature values and tokens next to them."""
        return len(self), len(self.label_ids), self.nonzeros, self.num_tokens

    @property
    def sizes(self) -> dict[str, Any]:
        """``num_features`` and ``image_shape``, as ``tfxc.data.examples.kinds`` expects them."""
        return {"num_features": self.num_features, "image_shape": self.image_shape}

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """(height, width, channels) of images stored as pixels, else None."""
        return self.images.shape[1:] if self.kind is IMAGE else None

    @property
    def nonzeros(self) -> int:
        """Number of stored feature values; of encoded files the bytes."""
        return getattr(self, self.kind.columns[0].values).size

    @property
    def num_tokens(self) -> int:
        """Number of tokens next to the feature values: of kind ``"joined"``, else 0."""
        return sum(getattr(self, column.values).size for column in self.kind.columns[1:])

    @property
    def lengths(self) -> np.ndarray | None:
        """Tokens of each text, int64 (n,); None if rows are not lists of tokens."""
        if not self.kind.holds(TOKENS):
            return None
        bounds = self.kind.columns[-1].bounds
        assert bounds is not None, "tokens are lists"
        return np.diff(getattr(self, bounds))

    def by_length(self) -> np.ndarray:
        """Returns row numbers, short texts first; of rows without ``lengths`` in their order."""
        lengths = self.lengths
        return np.arange(len(self)) if lengths is None else np.argsort(lengths, kind="stable")

    @property
    def nbytes(self) -> int:
        """Bytes of memory the arrays take."""
        return sum(array.nbytes for array in (*self.labels.values(), *self.arrays.values()))

    def slice(self, start: int, stop: int) -> "Rows":
        """Returns rows ``start`` to ``stop`` (exclusive); the values are views, not copies."""
        start, stop, _ = slice(start, stop).indices(len(self))
        return self._cut(lambda column, arrays: column.slice(arrays, start, stop))

    def select(self, row_numbers: Sequence[int] | np.ndarray) -> "Rows":
        """Returns the given rows, in the given order, as new ``Rows``."""
        row_numbers = np.asarray(row_numbers, np.int64)
        return self._cut(lambda column, arrays: column.select(arrays, row_numbers))

    def _cut(self, cut: Callable[[Column, Arrays], Arrays]) -> "Rows":
        arrays = self.arrays
        parts: Arrays = {}
        for column in self.kind.columns:
            parts |= cut(column, arrays)
        return Rows(self.kind, parts, **cut(LABELS, self.labels), num_features=self.num_features)

    def take(self, row_numbers: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Returns the batch of the given rows as NumPy arrays (docs/architecture.md, "Rows and
        batches").

        Returns:
            dict: ``features``, either ``{"ids": int32 (nnz,), "weights": float32 (nnz,),
            "row_splits": int64 (n + 1,)}``, float32 (n, dim), int32 (n, length) tokens padded with
            0 (of joined rows a fourth entry ``"tokens"`` of the dict), uint8 (n, height, width,
            channels) or, for encoded files, object (n,) of ``bytes``; ``labels`` int32
            (n, max(1, most labels in these rows)) padded with −1.
        """
        return self.select(row_numbers).batch()

    def batch(self) -> dict[str, Any]:
        """Returns all rows as one batch; see ``take``."""
        labels = pad_labels(self.label_indptr, self.label_ids)
        return {"features": self.kind.batch(self.arrays), "labels": labels}


class RowsBuilder:
    """Fills arrays of a size known beforehand, so that no two copies of the rows are in memory.

    Args:
        kind: of the rows.
        counts: numbers of rows, of labels, and of the values of each column of the kind: see
            ``Rows.nonzeros`` and ``Rows.num_tokens``.
        sizes: ``num_features``, and of images stored as pixels ``image_shape``.
    """

    def __init__(
        self, kind: "FeatureKind", counts: Sequence[int], sizes: Mapping[str, Any]
    ) -> None:
        num_rows, *values = counts
        self._kind = kind
        self._num_features = sizes["num_features"]
        self._num_rows = num_rows
        self._columns = (LABELS, *kind.columns)
        self._arrays = [
            column.empty(num_rows, count, sizes)
            for column, count in zip(self._columns, values, strict=False)
        ]
        self._row = 0
        self._filled = [0] * len(self._columns)

    def append(self, rows: "Rows") -> None:
        """Copies ``rows`` after those appended so far."""
        assert rows.kind is self._kind and rows.num_features == self._num_features
        arrays = {**rows.labels, **rows.arrays}
        for number, (column, target) in enumerate(zip(self._columns, self._arrays, strict=True)):
            filled = column.fill(target, self._row, self._filled[number], arrays)
            self._filled[number] = filled
        self._row += len(rows)

    def finish(self) -> "Rows":
        """Returns the filled ``Rows``."""
        assert self._row == self._num_rows, "fewer rows than announced"
        labels, *columns = self._arrays
        arrays = {name: array for column in columns for name, array in column.items()}
        return Rows(self._kind, arrays, **labels, num_features=self._num_features)


def _label_arrays(labels: Labels) -> dict[str, np.ndarray]:
    if scipy.sparse.issparse(labels):
        labels = scipy.sparse.csr_matrix(labels)
        return {"label_indptr": labels.indptr, "label_ids": labels.indices}
    counts = np.fromiter((len(row) for row in labels), np.int64, len(labels))
    label_indptr = bounds_of(counts)
    ids = np.fromiter((label for row in labels for label in row), np.int32, label_indptr[-1])
    return {"label_indptr": label_indptr, "label_ids": ids}
