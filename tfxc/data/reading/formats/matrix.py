"""NumPy archives of dense vectors and label ids, for the ``precomputed`` encoder."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tfxc.core.declared import Count
from tfxc.core.errors import DataError
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.lists import LabelLists
from tfxc.data.reading.formats.base import Reader
from tfxc.data.reading.parsing.arrays import ArrayRows, array_error, array_names, open_rows
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
        max_line_bytes: longest row of ``features`` and of padded ``labels``.

    Raises:
        DataError: the file is damaged, an array is missing or of another shape or type, a label
            is negative, a feature is not a finite float32.

    Example:
        >>> np.savez("train.npz", features=vectors, labels=ids)    # doctest: +SKIP
        >>> DenseMatrix("train.npz").num_features                  # doctest: +SKIP
        768
    """

    num_examples: int
    suffixes = (".npz",)
    summary = ".npz with features"

    def __init__(
        self, path: str | Path, *, labelled: bool = True, max_line_bytes: Count = MAX_LINE_BYTES
    ) -> None:
        super().__init__(path, max_line_bytes)
        self._labelled = labelled
        with self._features() as rows:
            self.num_examples, self.num_features = rows.shape

    def _read(self, size: int) -> Iterator[Chunk]:
        with self._features() as rows, self._labels() as (labels_of, at_once):
            size = at_once(rows.at_once(size))
            for start in range(0, self.num_examples, size):
                count = min(size, self.num_examples - start)
                with np.errstate(over="ignore"):
                    features = rows.read(count).astype(np.float32)
                wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
                if wrong.size:
                    row = start + wrong[0] + 1
                    problem = f"features: row {row} has values that are not finite float32"
                    raise self._error(problem)
                yield Chunk(labels=labels_of(start, count), features=features)

    @contextlib.contextmanager
    def _features(self) -> Iterator[ArrayRows]:
        with self._open("features") as rows:
            if len(rows.shape) != 2 or rows.dtype.kind not in "fiu":
                raise self._error(
                    f"features: the array is {rows.dtype} {rows.shape} instead of numbers in two "
                    "dimensions"
                )
            yield rows

    def _open(self, name: str) -> contextlib.AbstractContextManager[ArrayRows]:
        return open_rows(self.path, name, self._lines.max_line_bytes)

    @contextlib.contextmanager
    def _labels(
        self,
    ) -> Iterator[tuple[Callable[[int, int], LabelLists], Callable[[int], int]]]:
        """Yields a function of first row and count that reads on, and how many rows fit at once."""
        if not self._labelled:
            yield lambda _, count: LabelLists.none(count), lambda size: size
            return
        with self._open("labels") as labels:
            if labels.dtype.kind not in "iu":
                raise self._error(f"labels: the array is {labels.dtype} instead of integers")
            if "label_splits" in array_names(self.path):
                yield self._by_splits(labels), lambda size: size
                return
            if len(labels.shape) not in (1, 2) or labels.shape[0] != self.num_examples:
                raise self._error(
                    f"labels: the shape {labels.shape} is neither ({self.num_examples},) nor "
                    f"({self.num_examples}, max_labels)"
                )
            read = self._padded if len(labels.shape) == 2 else self._single
            yield (lambda _, count: read(labels, count)), labels.at_once

    def _single(self, labels: ArrayRows, count: int) -> LabelLists:
        return LabelLists(np.arange(count + 1), self._checked(labels.read(count), 0))

    def _padded(self, labels: ArrayRows, count: int) -> LabelLists:
        block = self._checked(labels.read(count), -1)
        is_label = block >= 0
        return LabelLists(bounds_of(is_label.sum(axis=1)), block[is_label]).distinct()

    def _by_splits(self, labels: ArrayRows) -> Callable[[int, int], LabelLists]:
        with self._open("label_splits") as rows:
            if rows.shape != (self.num_examples + 1,) or rows.dtype.kind not in "iu":
                raise self._splits_error(labels)
            splits = rows.read(self.num_examples + 1)
        wrong = len(labels.shape) != 1 or splits[0] != 0 or splits[-1] != labels.shape[0]
        if wrong or (splits[1:] < splits[:-1]).any():
            raise self._splits_error(labels)

        def read(start: int, count: int) -> LabelLists:
            bounds = splits[start : start + count + 1].astype(np.int64)
            ids = labels.read(int(bounds[-1] - bounds[0]))
            return LabelLists(bounds - bounds[0], self._checked(ids, 0)).distinct()

        return read

    def _checked(self, block: np.ndarray, lowest: int) -> np.ndarray:
        if block.size and not lowest <= block.min() <= block.max() < 2**31:
            raise self._error(
                f"labels: the ids {block.min()} to {block.max()} are not within 0 to {2**31 - 1:,}"
            )
        return block

    def _splits_error(self, labels: ArrayRows) -> DataError:
        return self._error(
            f"label_splits: these are not {self.num_examples + 1} integers that ascend from 0 to "
            f"the number of labels, {labels.shape[0] if labels.shape else 0}"
        )

    def _error(self, problem: str) -> DataError:
        return array_error(self.path, problem)
