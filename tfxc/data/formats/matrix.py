"""NumPy archives of dense vectors and label ids, for the ``precomputed`` encoder."""

import contextlib
from pathlib import Path

import numpy as np

from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.chunk import Chunk
from tfxc.data.formats.base import Reader
from tfxc.data.lists import LabelLists
from tfxc.data.parsing.arrays import array_error, array_names, open_rows
from tfxc.ops.csr import bounds_of


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
        labelled: if False, yields the features without labels, which are optional.
        max_line_bytes: longest row of ``features`` and of padded ``labels``.

    Raises:
        DataError: the file is damaged, an array is missing or of another shape or type, a label
            is negative, a feature is not a finite float32.

    Example:
        >>> np.savez("train.npz", features=vectors, labels=ids)    # doctest: +SKIP
        >>> DenseMatrix("train.npz").num_features                  # doctest: +SKIP
        768
    """

    suffixes = (".npz",)
    summary = ".npz with features"

    def __init__(
        self, path: str | Path, *, labelled: bool = True, max_line_bytes: int = MAX_LINE_BYTES
    ) -> None:
        super().__init__(path, max_line_bytes)
        self._labelled = labelled
        with self._features() as rows:
            self.num_examples, self.num_features = rows.shape

    def _read(self, size):
        with self._features() as rows, self._labels() as (labels_of, at_once):
            size = at_once(rows.at_once(size))
            for start in range(0, self.num_examples, size):
                count = min(size, self.num_examples - start)
                with np.errstate(over="ignore"):
                    features = rows.read(count).astype(np.float32)
                wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
                if wrong.size:
                    row = start + wrong[0] + 1
                    raise self._error(f"features: finite float32 values expected in row {row}")
                yield Chunk(labels=labels_of(start, count), features=features)

    @contextlib.contextmanager
    def _features(self):
        with self._open("features") as rows:
            if len(rows.shape) != 2 or rows.dtype.kind not in "fiu":
                raise self._error(
                    "features: a two-dimensional array of numbers expected, found "
                    f"{rows.dtype} {rows.shape}"
                )
            yield rows

    def _open(self, name):
        return open_rows(self.path, name, self._lines.max_line_bytes)

    @contextlib.contextmanager
    def _labels(self):
        """A function of first row and count that reads on, and how many rows fit at once."""
        if not self._labelled:
            yield lambda _, count: LabelLists.none(count), lambda size: size
            return
        with self._open("labels") as labels:
            if labels.dtype.kind not in "iu":
                raise self._error(f"labels: integers expected, found {labels.dtype}")
            if "label_splits" in array_names(self.path):
                yield self._by_splits(labels), lambda size: size
                return
            if len(labels.shape) not in (1, 2) or labels.shape[0] != self.num_examples:
                raise self._error(
                    f"labels: shape ({self.num_examples},) or ({self.num_examples}, max_labels) is "
                    f"expected, found {labels.shape}"
                )
            read = self._padded if len(labels.shape) == 2 else self._single
            yield (lambda _, count: read(labels, count)), labels.at_once

    def _single(self, labels, count):
        return LabelLists(np.arange(count + 1), self._checked(labels.read(count), 0))

    def _padded(self, labels, count):
        block = self._checked(labels.read(count), -1)
        given = block >= 0
        return LabelLists(bounds_of(given.sum(axis=1)), block[given]).distinct()

    def _by_splits(self, labels):
        with self._open("label_splits") as rows:
            if rows.shape != (self.num_examples + 1,) or rows.dtype.kind not in "iu":
                raise self._splits_error(labels)
            splits = rows.read(self.num_examples + 1)
        self._check_splits(labels, splits)

        def read(start, count):
            bounds = splits[start : start + count + 1].astype(np.int64)
            ids = labels.read(int(bounds[-1] - bounds[0]))
            return LabelLists(bounds - bounds[0], self._checked(ids, 0)).distinct()

        return read

    def _checked(self, block, lowest):
        if block.size and not lowest <= block.min() <= block.max() < 2**31:
            raise self._error(
                f"labels: ids of 0 to {2**31 - 1:,} expected, found {block.min()} to {block.max()}"
            )
        return block

    def _check_splits(self, labels, splits):
        wrong = len(labels.shape) != 1 or splits[0] != 0 or splits[-1] != labels.shape[0]
        if wrong or (splits[1:] < splits[:-1]).any():
            raise self._splits_error(labels)

    def _splits_error(self, labels):
        return self._error(
            f"label_splits: {self.num_examples + 1} integers ascending from 0 to the number of "
            f"labels ({labels.shape[0] if labels.shape else 0}) expected"
        )

    def _error(self, problem):
        return array_error(self.path, problem)
