"""Sparse matrices of which any rows are read without the rest: ``.npz`` files, and folders.

A folder has the arrays of the matrix in files of their own: ``data.npy``, ``indices.npy`` and
``indptr.npy`` of CSR form, and ``shape.npy``; what an ``.npz`` of ``scipy.sparse.save_npz`` is
unpacked to.
"""

import secrets
import shutil
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError, UserError
from tfxc.core.storage.reading import MALFORMED, archive_errors, existing_file, read_array
from tfxc.data.reading.parsing.arrays import read_header

_PIECE = 16 << 20
_AT_ONCE = 4 << 20  # numbers
_LOCAL_HEADER = 30  # bytes of it before the names, the lengths of which are its last two numbers
_CHECKED = "checked"
_ARRAYS = ("data", "indices", "indptr")
_FOLDER_FIX = (
    "write data.npy, indices.npy, indptr.npy and shape.npy of a CSR matrix with numpy.save, or "
    "unpack the .npz of scipy.sparse.save_npz"
)
_MALFORMED = (*MALFORMED, struct.error)


class _Array(NamedTuple):
    """Where a one-dimensional array lies uncompressed."""

    path: Path
    place: int
    dtype: np.dtype
    size: int

    def read(self, start: int, stop: int) -> np.ndarray:
        with open(self.path, "rb", buffering=0) as stream:
            stream.seek(self.place + start * self.dtype.itemsize)
            return np.fromfile(stream, self.dtype, stop - start)


def open_rows(path: Path, folder: Path) -> Callable[[int, int], scipy.sparse.csr_matrix] | None:
    """Opens a matrix of ``scipy.sparse.save_npz`` row by row; it may be larger than memory.

    The file's checksums are compared once. Compressed arrays are unpacked into ``folder``, in
    pieces; others stay where they are.

    Args:
        path: the file.
        folder: of files that this takes; who opens the same file with the same folder shares them.

    Returns:
        Function of the first row and the one after the last -> CSR, checked; None if the matrix is
        not CSR.

    Raises:
        DataError: the file is damaged, or rows are.
        OSError: the disk is full.
    """
    unpacked = folder / f"{path.parent.name}-{path.name}"
    try:
        with archive_errors(path), zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if not {"format.npy", "shape.npy", "data.npy", "indices.npy", "indptr.npy"} <= names:
                return None
            with archive.open("format.npy") as stream:
                if np.lib.format.read_array(stream).item() not in (b"csr", "csr"):
                    return None
            with archive.open("shape.npy") as stream:
                shape = np.lib.format.read_array(stream).tolist()
            if not (unpacked / _CHECKED).exists():
                _unpack(archive, unpacked)
            data, ids, bounds = (_located(archive, path, unpacked, name) for name in _ARRAYS)
        if bounds.size != shape[0] + 1:
            problem = f"there are {bounds.size:,} bounds of rows instead of {shape[0] + 1:,}"
            raise _damaged(path, problem)
        if ids.size != data.size:
            raise _damaged(path, f"there are {ids.size:,} indices, but {data.size:,} values")
    except _MALFORMED as error:
        if isinstance(error, UserError):
            raise
        raise _damaged(path, f"the file is not a scipy.sparse matrix ({error})") from error

    def damaged(problem: str) -> DataError:
        return _damaged(path, problem)

    return lambda start, stop: _csr_rows((data, ids, bounds), shape, (start, stop), damaged)


def is_array_folder(path: str | Path) -> bool:
    """Tells whether there is a folder with the arrays of a sparse matrix in files of their own."""
    return all((Path(path) / f"{name}.npy").is_file() for name in _ARRAYS)


class ArrayFolder:
    """A CSR matrix in a folder of its arrays, which are never read as a whole.

    Args:
        path: folder of ``data.npy``, ``indices.npy`` and ``indptr.npy``. Without ``shape.npy``
            there are as many columns as the greatest index says, for which all indices are read.

    Attributes:
        path: the folder.
        shape: (rows, columns).

    Raises:
        DataError: a file is missing or damaged, or the arrays do not fit together.

    Example:
        >>> ArrayFolder("data/X.trn").rows(0, 1000).shape    # doctest: +SKIP
        (1000, 135909)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._data, self._ids, self._bounds = map(self._located, _ARRAYS)
        if self._data.size != self._ids.size:
            raise self._damaged(
                f"there are {self._ids.size:,} indices, but {self._data.size:,} values"
            )
        if not self._bounds.size:
            raise self._damaged("indptr.npy has no bounds of rows")
        self.shape = self._shape()
        if self._bounds.size != self.shape[0] + 1:
            raise self._damaged(
                f"indptr.npy has {self._bounds.size:,} bounds of rows instead of "
                f"{self.shape[0] + 1:,}"
            )

    def rows(self, start: int, stop: int) -> scipy.sparse.csr_matrix:
        """Returns rows ``start`` to ``stop`` (exclusive), fewer where the matrix ends, CSR.

        Raises:
            DataError: bounds that do not ascend, or a column beyond the last.
        """
        stop = min(stop, self.shape[0])
        arrays = (self._data, self._ids, self._bounds)
        return _csr_rows(arrays, self.shape, (start, stop), self._damaged)

    def _shape(self) -> tuple[int, int]:
        path = self.path / "shape.npy"
        form = self.path / "format.npy"
        if form.is_file() and read_array(form).item() not in (b"csr", "csr"):
            raise self._damaged(f"the matrix is {read_array(form).item()!r} instead of CSR")
        if not path.is_file():
            starts = range(0, self._ids.size, _AT_ONCE)
            most = (self._ids.read(a, min(self._ids.size, a + _AT_ONCE)).max() for a in starts)
            return self._bounds.size - 1, int(max(most, default=-1)) + 1
        shape = read_array(path)
        if shape.shape != (2,) or shape.dtype.kind not in "iu" or (shape < 0).any():
            raise self._damaged(f"shape.npy holds {shape.tolist()} instead of two sizes")
        return int(shape[0]), int(shape[1])

    def _located(self, name: str) -> _Array:
        path = existing_file(self.path / f"{name}.npy", fix=_FOLDER_FIX)
        try:
            with open(path, "rb") as stream:
                array = _array(path, stream, path)
        except _MALFORMED as error:
            if isinstance(error, UserError):
                raise
            raise DataError(
                f"this is not a .npy file ({error})", where=path, fix=_FOLDER_FIX
            ) from error
        num_bytes = array.place + array.size * array.dtype.itemsize
        if path.stat().st_size < num_bytes:
            raise DataError(
                f"the file has {path.stat().st_size:,} bytes instead of {num_bytes:,}",
                where=path,
                fix="copy it again",
            )
        return array

    def _damaged(self, problem: str) -> DataError:
        return DataError(problem, where=self.path, fix=_FOLDER_FIX)


def _csr_rows(
    arrays: tuple[_Array, _Array, _Array],
    shape: Sequence[int],
    span: tuple[int, int],
    damaged: Callable[[str], DataError],
) -> scipy.sparse.csr_matrix:
    """Returns the CSR of some rows of located arrays; ``damaged`` makes the error of a problem."""
    data, ids, bounds = arrays
    start, stop = span
    indptr = bounds.read(start, stop + 1).astype(np.int64)
    first = int(indptr[0])
    last = int(indptr[-1])
    if first < 0 or last > ids.size or (np.diff(indptr) < 0).any():
        raise damaged(f"the bounds of rows {start + 1} to {stop} do not ascend")
    indices = ids.read(first, last)
    if len(indices) and (indices.min() < 0 or indices.max() >= shape[1]):
        raise damaged(f"the column {indices.max():,} is not below {shape[1]:,}")
    parts = (data.read(first, last), indices.astype(np.int32), indptr - first)
    return scipy.sparse.csr_matrix(parts, (stop - start, shape[1]))


def _unpack(archive: zipfile.ZipFile, folder: Path) -> None:
    """Reads all arrays to their end, which compares their checksums; keeps the compressed ones."""
    folder.mkdir(exist_ok=True)
    for name in (f"{array}.npy" for array in _ARRAYS):
        stored = archive.getinfo(name).compress_type == zipfile.ZIP_STORED
        unfinished = folder / f"{name}.{secrets.token_hex(4)}"
        with archive.open(name) as source:
            if stored:
                while source.read(_PIECE):
                    pass
                continue
            with open(unfinished, "wb") as target:
                shutil.copyfileobj(source, target, _PIECE)
        unfinished.replace(folder / name)
    (folder / _CHECKED).touch()


def _located(archive: zipfile.ZipFile, path: Path, folder: Path, name: str) -> _Array:
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        with open(folder / info.filename, "rb") as stream:
            return _array(folder / info.filename, stream, path)
    with open(path, "rb") as stream:
        stream.seek(info.header_offset)
        lengths = struct.unpack("<HH", stream.read(_LOCAL_HEADER)[-4:])
        stream.seek(info.header_offset + _LOCAL_HEADER + sum(lengths))
        return _array(path, stream, path)


def _array(path: Path, stream: IO[bytes], source: Path) -> _Array:
    """Returns the array whose NumPy header is next in the stream."""
    shape, _, dtype = read_header(stream)
    if len(shape) != 1 or dtype.kind not in "biuf":
        raise _damaged(source, f"an array is {dtype} {shape} instead of numbers in one dimension")
    return _Array(path, stream.tell(), dtype, shape[0])


def _damaged(path: Path, problem: str) -> DataError:
    return DataError(problem, where=path, fix="write it with scipy.sparse.save_npz")
