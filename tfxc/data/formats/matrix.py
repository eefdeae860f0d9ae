"""NumPy archives of dense vectors and label ids, for the ``precomputed`` encoder."""

import contextlib
import itertools
import zipfile

import numpy as np

from tfxc.data.chunk import Chunk
from tfxc.data.formats.base import Reader
from tfxc.data.formats.lines import reading_errors
from tfxc.errors import DataError


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

    Raises:
        DataError: the file is damaged, an array is missing or of another shape or type, a label
            is negative, a feature is not a finite float32.

    Example:
        >>> np.savez("train.npz", features=vectors, labels=ids)    # doctest: +SKIP
        >>> DenseMatrix("train.npz").num_features                  # doctest: +SKIP
        768
    """

    def __init__(self, path):
        super().__init__(path)
        with self._features() as (_, shape, _):
            self.num_examples, self.num_features = shape

    def _read(self, size):
        labels = self._label_lists()
        with self._features() as (stream, shape, dtype):
            for start in range(0, shape[0], size):
                rows = min(size, shape[0] - start)
                features = self._rows(stream, rows, shape[1], dtype)
                wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
                if wrong.size:
                    row = start + wrong[0] + 1
                    raise self._error(f"features: finite float32 values are expected in row {row}")
                yield Chunk(labels=list(itertools.islice(labels, rows)), features=features)

    def _rows(self, stream, rows, dim, dtype):
        with reading_errors(self.path):
            content = stream.read(rows * dim * dtype.itemsize)
        matrix = np.frombuffer(content, dtype)
        if matrix.size != rows * dim:
            raise self._error("features: the array ends early")
        with np.errstate(over="ignore"):
            return matrix.reshape(rows, dim).astype(np.float32)

    @contextlib.contextmanager
    def _features(self):
        """Yields ``(stream of the array's bytes, shape, dtype)``."""
        with contextlib.ExitStack() as stack:
            with reading_errors(self.path):
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                if "features.npy" not in archive.namelist():
                    raise self._error(f"array 'features' is missing; found {_arrays(archive)}")
                stream = stack.enter_context(archive.open("features.npy"))
                shape, fortran, dtype = self._array_header(stream)
            if len(shape) != 2 or dtype.kind not in "fiu" or fortran:
                order = " in Fortran order" if fortran else ""
                raise self._error(
                    "features: a two-dimensional row-major array of numbers is expected, found "
                    f"{dtype} {shape}{order}"
                )
            yield stream, shape, dtype

    def _array_header(self, stream):
        try:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                return np.lib.format.read_array_header_1_0(stream)
            return np.lib.format.read_array_header_2_0(stream)
        except ValueError as error:
            raise self._error(f"features: {error}") from error

    def _label_lists(self):
        """An iterator of one list of ids per example."""
        labels, splits = self._load_labels()
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

    def _load_labels(self):
        with reading_errors(self.path), np.load(self.path) as archive:
            if "labels" not in archive:
                raise self._error(f"array 'labels' is missing; found {', '.join(archive)}")
            try:
                splits = archive.get("label_splits")
                return archive["labels"], splits
            except ValueError as error:
                raise self._error(f"labels: {error}") from error

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
        return DataError(problem, where=self.path, fix="see numpy.savez and the format's reference")


def _arrays(archive):
    return ", ".join(name.removesuffix(".npy") for name in archive.namelist())


def _distinct(ids):
    return list(dict.fromkeys(ids.tolist()))


READER = DenseMatrix
