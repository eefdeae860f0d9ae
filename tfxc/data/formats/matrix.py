"""NumPy archives of dense vectors and label ids, for the ``precomputed`` encoder."""

import contextlib
import itertools

import numpy as np

from tfxc.data.chunk import Chunk
from tfxc.data.formats.arrays import array_error, array_names, load_array, open_rows
from tfxc.data.formats.base import Reader


class DenseMatrix(Reader):
    """Reads the arrays ``features`` and ``labels`` of an ``.npz`` file.

    ``features`` is (n, dim) of any float or integer type; it is read a chunk at a time and comes
    as float32. ``labels`` holds ids from 0 in one of three forms:

    * (n,) — one label each;
    * (n, max_labels) — padded with −1;
    * (total,) with ``label_splits`` (n + 1,) — example i has ``labels[splits[i]:splits[i + 1]]``.

    An id given twice counts once.

    Args:
        path: ``.npz`` file of ``numpy.savez`` or ``numpy.savez_compressed``.
        labelled: False gives the features without labels; there need be none.

    Raises:
        DataError: the file is damaged, an array is missing or of another shape or type, a label
            is negative, a feature is not a finite float32.

    Example:
        >>> np.savez("train.npz", features=vectors, labels=ids)    # doctest: +SKIP
        >>> DenseMatrix("train.npz").num_features                  # doctest: +SKIP
        768
    """

    def __init__(self, path, *, labelled=True):
        super().__init__(path)
        self._labelled = labelled
        with self._features() as rows:
            self.num_examples, self.num_features = rows.shape

    def _read(self, size):
        labels = self._label_lists()
        with self._features() as rows:
            for start in range(0, self.num_examples, size):
                count = min(size, self.num_examples - start)
                with np.errstate(over="ignore"):
                    features = rows.read(count).astype(np.float32)
                wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
                if wrong.size:
                    row = start + wrong[0] + 1
                    raise self._error(f"features: finite float32 values are expected in row {row}")
                yield Chunk(labels=list(itertools.islice(labels, count)), features=features)

    @contextlib.contextmanager
    def _features(self):
        with open_rows(self.path, "features") as rows:
            if len(rows.shape) != 2 or rows.dtype.kind not in "fiu":
                raise self._error(
                    "features: a two-dimensional array of numbers is expected, found "
                    f"{rows.dtype} {rows.shape}"
                )
            yield rows

    def _label_lists(self):
        """An iterator of one list of ids per example."""
        if not self._labelled:
            return ([] for _ in range(self.num_examples))
        labels = load_array(self.path, "labels")
        splits = None
        if "label_splits" in array_names(self.path):
            splits = load_array(self.path, "label_splits")
        if labels.dtype.kind not in "iu":
            raise self._error(f"labels: integers are expected, found {labels.dtype}")
        lowest = -1 if labels.ndim == 2 else 0
        if labels.size and not lowest <= labels.min() <= labels.max() < 2**31:
            raise self._error(
                f"labels: ids of 0 to {2**31 - 1:,} are expected, found {labels.min()} to "
                f"{labels.max()}"
            )
        if splits is not None:
            self._check_splits(labels, splits)
            return (_distinct(labels[a:b]) for a, b in itertools.pairwise(splits.tolist()))
        if labels.ndim not in (1, 2) or len(labels) != self.num_examples:
            raise self._error(
                f"labels: shape ({self.num_examples},) or ({self.num_examples}, max_labels) is "
                f"expected, found {labels.shape}"
            )
        if labels.ndim == 1:
            return ([label] for label in labels.tolist())
        return (_distinct(row[row >= 0]) for row in labels)

    def _check_splits(self, labels, splits):
        if (
            splits.shape != (self.num_examples + 1,)
            or splits.dtype.kind not in "iu"
            or labels.ndim != 1
            or splits[0] != 0
            or splits[-1] != labels.size
            or (splits[1:] < splits[:-1]).any()
        ):
            raise self._error(
                f"label_splits: {self.num_examples + 1} integers rising from 0 to the number of "
                f"labels ({labels.size}) are expected"
            )

    def _error(self, problem):
        return array_error(self.path, problem)


def _distinct(ids):
    return list(dict.fromkeys(ids.tolist()))


READER = DenseMatrix
