"""Sparse matrices in ``.npz`` files, of which any rows are read without the rest."""

import secrets
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError, UserError
from tfxc.core.storage.reading import archive_errors

_PIECE = 16 << 20
_LOCAL_HEADER = 30  # bytes of it before the names, the lengths of which are its last two numbers
_CHECKED = "checked"
_MALFORMED = (ValueError, KeyError, TypeError, NotImplementedError, EOFError, struct.error)


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
    try:
        return _opened(path, folder / f"{path.parent.name}-{path.name}")
    except _MALFORMED as error:
        if isinstance(error, UserError):
            raise
        raise _damaged(path, f"a matrix of scipy.sparse expected ({error})") from error


def _opened(path, own):
    with archive_errors(path), zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        if not {"format.npy", "shape.npy", "data.npy", "indices.npy", "indptr.npy"} <= names:
            return None
        with archive.open("format.npy") as stream:
            if np.lib.format.read_array(stream).item() not in (b"csr", "csr"):
                return None
        with archive.open("shape.npy") as stream:
            shape = np.lib.format.read_array(stream).tolist()
        if not (own / _CHECKED).exists():
            _unpack(archive, own)
        data, ids, bounds = (_located(archive, path, own, n) for n in ("data", "indices", "indptr"))
    if bounds.size != shape[0] + 1 or ids.size != data.size:
        raise _damaged(path, f"{shape[0] + 1:,} bounds of rows expected, found {bounds.size:,}")

    def rows(start, stop):
        indptr = bounds.read(start, stop + 1).astype(np.int64)
        first, last = int(indptr[0]), int(indptr[-1])
        if first < 0 or last > ids.size or (np.diff(indptr) < 0).any():
            raise _damaged(path, f"ascending bounds expected in rows {start + 1} to {stop}")
        indices = ids.read(first, last)
        if len(indices) and (indices.min() < 0 or indices.max() >= shape[1]):
            raise _damaged(path, f"columns below {shape[1]:,} expected, found {indices.max():,}")
        parts = data.read(first, last), indices.astype(np.int32), indptr - first
        return scipy.sparse.csr_matrix(parts, (stop - start, shape[1]))

    return rows


def _unpack(archive, folder):
    """Reads all arrays to their end, which compares their checksums; keeps the compressed ones."""
    folder.mkdir(exist_ok=True)
    for name in ("data.npy", "indices.npy", "indptr.npy"):
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


def _located(archive, path, folder, name):
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
    """The array whose NumPy header is next in the stream."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
        np.lib.format.read_array_header_2_0
    )  # fmt: skip
    shape, _, dtype = read(stream)
    if len(shape) != 1 or dtype.kind not in "biuf":
        raise _damaged(source, f"an array of numbers expected, found {dtype} {shape}")
    return _Array(path, stream.tell(), dtype, shape[0])


def _damaged(path, problem):
    return DataError(problem, where=path, fix="write it with scipy.sparse.save_npz")
