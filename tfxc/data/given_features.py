"""Features that stand in a file of their own, a row per example: alone, or next to texts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse

from tfxc.core.errors import ConfigError, DataError
from tfxc.core.storage.reading import existing_file, read_array
from tfxc.data.chunk import Chunk
from tfxc.data.kinds import INPUTS, TEXT_AND_FEATURES
from tfxc.data.parsing.arrays import matrix
from tfxc.data.parsing.sparse_file import ArrayFolder, open_rows
from tfxc.ops.csr import load_sparse, sparse_shape

if TYPE_CHECKING:
    from tfxc.data.formats.base import Reader

#: A row for each example.
Features: TypeAlias = "np.ndarray | scipy.sparse.csr_matrix"


class FeatureFile:
    """A matrix of features, one row per example.

    A sparse one of a single file is held in memory while it is read; a dense one, and a sparse one
    in a folder of its arrays, stay on the disk.

    Args:
        path: ``.npz`` of ``scipy.sparse.save_npz``, ``.npy`` (n, num_features) of numbers, or a
            folder with the arrays of a CSR matrix, see ``parsing.sparse_file.ArrayFolder``.

    Attributes:
        path: the file.
        num_examples, num_features: shape of the matrix.

    Raises:
        DataError: the file is missing, damaged, or holds no such matrix.

    Example:
        >>> FeatureFile("X.trn.npz").num_features    # doctest: +SKIP
        186104
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = ArrayFolder(path) if Path(path).is_dir() else None
        self.path = existing_file(Path(path)) if self._folder is None else self._folder.path
        self.num_examples, self.num_features = self._shape()

    def _shape(self) -> tuple[int, int]:
        if self._folder is not None:
            return self._folder.shape
        if self.path.suffix == ".npz":
            return sparse_shape(self.path)
        if self.path.suffix == ".npy":
            return self._mapped().shape
        raise DataError(
            f"{self.path.name} is neither a sparse matrix in .npz nor a dense one in .npy",
            where=self.path,
            fix="write it with scipy.sparse.save_npz or numpy.save, or give the folder of "
            "data.npy, indices.npy and indptr.npy",
        )

    def _mapped(self) -> np.ndarray:
        return matrix(self.path, "features", read_array(self.path, mapped=True))

    def open(self) -> Callable[[int, int], Features]:
        """Opens the matrix.

        Returns:
            Function of the first row and the one after the last -> float32, CSR or an array. It
            raises a ``DataError`` that names the row of a value that is not finite.
        """
        if self._folder is not None:
            rows = self._folder.rows
            return lambda start, stop: self._checked(rows(start, stop), start)
        values = load_sparse(self.path) if self.path.suffix == ".npz" else self._mapped()
        return lambda start, stop: self._checked(values[start:stop], start)

    def ranges(self, folder: Path) -> Callable[[int, int], scipy.sparse.csr_matrix] | None:
        """As ``open``, of a sparse matrix that is not held in memory; see ``Reader.ranges``."""
        if self._folder is not None:
            return self.open()
        rows = open_rows(self.path, folder) if self.path.suffix == ".npz" else None
        if rows is None:
            return None
        return lambda start, stop: self._checked(rows(start, stop), start)

    def _checked(self, values: Features, start: int) -> Features:
        with np.errstate(over="ignore"):
            features = values.astype(np.float32)
        self._check_finite(features, start)
        if not isinstance(features, np.ndarray):
            features.sum_duplicates()
        return features

    def _check_finite(self, features: Features, start: int) -> None:
        if isinstance(features, np.ndarray):
            rows = np.flatnonzero(~np.isfinite(features).all(axis=1)) + 1
        else:
            wrong = np.flatnonzero(~np.isfinite(features.data))
            rows = np.searchsorted(features.indptr, wrong, side="right")
        if rows.size:
            raise DataError(
                f"row {start + rows[0]} has a value that is NaN or infinite",
                where=self.path,
                fix="correct the value",
            )


class WithFeatures:
    """Another reader's examples with the rows of a feature file as their features.

    Args:
        reader: the ``Reader``.
        path: see ``FeatureFile``.

    Raises:
        DataError: the file holds no features, or another number of rows than there are examples.

    Example:
        >>> both = WithFeatures(open_reader("texts.txt"), "X.tst.npz")  # doctest: +SKIP
    """

    def __init__(self, reader: "Reader", path: str | Path) -> None:
        self._reader = reader
        self._file = FeatureFile(path)
        self.num_features = self._file.num_features
        self.num_examples = reader.num_examples
        if self.num_examples is None:  # reading is cheap next to an encoder
            self.num_examples = sum(len(chunk) for chunk in reader.chunks())
        if self.num_examples != self._file.num_examples:
            raise DataError(
                f"there are {self._file.num_examples:,} rows for the {self.num_examples:,} "
                f"examples of {reader.path}",
                where=path,
                fix="give the features of these examples, in their order",
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """Yields the reader's ``Chunk``s with their features."""
        rows = self._file.open()
        first = 0
        for chunk in self._reader.chunks(size):
            chunk.features = rows(first, first + len(chunk))
            yield chunk
            first += len(chunk)


def with_features(reader: Any, features: str | None, input_kind: str) -> Any:
    """A reader, with the features of the option ``--features`` next to its examples.

    Args:
        reader: a ``Reader``.
        features: the option, None if it was not given.
        input_kind: what an example is, a name in ``tfxc.data.kinds.INPUTS``.

    Raises:
        ConfigError: features are given, and the model does not take any next to its texts.
        DataError: as ``WithFeatures``.
    """
    if features is None:
        return reader
    if input_kind != TEXT_AND_FEATURES.name:
        raise ConfigError(
            f"the option is for models on {TEXT_AND_FEATURES.description}, but this one is on "
            f"{INPUTS[input_kind].description}",
            where="--features",
            fix="leave it out",
        )
    return WithFeatures(reader, features)
