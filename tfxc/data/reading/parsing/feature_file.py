"""Features in a file of their own, a row per example."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import existing_file, read_array
from tfxc.data.reading.parsing.arrays import matrix
from tfxc.data.reading.parsing.sparse_file import ArrayFolder, open_rows
from tfxc.ops.csr import load_sparse, sparse_shape

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
