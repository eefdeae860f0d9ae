"""Matrices and arrays of NumPy's and SciPy's files: at once, mapped, or as a stream of rows."""

import contextlib
import dataclasses
import math
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError, UserError
from tfxc.core.resources import require_memory
from tfxc.core.settings import MAX_LINE_BYTES
from tfxc.core.storage.reading import (
    MALFORMED,
    archive_errors,
    existing_file,
    read_array,
    read_errors,
)
from tfxc.data.parsing.lines import BLOCK_BYTES, line_too_long
from tfxc.ops.csr import load_sparse

# What NumPy raises over a damaged header.
_BAD_HEADER = (ValueError, SyntaxError, TypeError, MemoryError, tokenize.TokenError)


@dataclasses.dataclass
class ArrayRows:
    """The rows of one array of an ``.npz`` file, in order.

    Attributes:
        path: the file.
        name: name of the array.
        shape: shape of the whole array.
        dtype: its type.
        stream: the bytes of the rows not yet read.
    """

    path: str | Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    stream: IO[bytes]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def at_once(self, size: int) -> int:
        """How many rows to read at a time: ``size``, or fewer where these exceed 64 MB."""
        return max(1, min(size, BLOCK_BYTES // max(1, self.row_bytes)))

    def read(self, rows: int) -> np.ndarray:
        """The next ``rows`` rows, (rows, …) of ``dtype``, read only.

        Raises:
            DataError: the archive is damaged or the array ends early.
        """
        shape = (rows, *self.shape[1:])
        length = math.prod(shape) * self.dtype.itemsize
        with archive_errors(self.path):
            content = self.stream.read(length) if length else b""
        if len(content) != length:
            raise array_error(self.path, f"{self.name}: the array ends early")
        return np.frombuffer(content, self.dtype).reshape(shape)


@contextlib.contextmanager
def open_rows(
    path: str | Path, name: str, max_row_bytes: int = MAX_LINE_BYTES
) -> Iterator[ArrayRows]:
    """Opens the array ``name`` of an ``.npz`` file; yields ``ArrayRows``.

    Args:
        max_row_bytes: longer rows are refused before any is read.

    Raises:
        DataError: the archive is damaged, the array is missing, holds Python objects or is in
            Fortran order, or its rows are too long.
    """
    with _open_member(path, name) as stream:
        shape, fortran, dtype = _header(stream, path, name)
        if fortran and len(shape) > 1:
            raise array_error(
                path,
                f"{name}: a row-major array expected, found {dtype} {shape} in Fortran order",
            )
        rows = ArrayRows(path, name, shape, dtype, stream)
        if dtype.hasobject:
            raise array_error(path, f"{name}: an array of numbers expected, found Python objects")
        if rows.row_bytes > max_row_bytes:
            raise line_too_long(f"{path}: {name}", max_row_bytes, "row")
        yield rows


def array_names(path: str | Path) -> list[str]:
    """Names of the arrays of an ``.npz`` file.

    Raises:
        DataError: the archive is damaged.
    """
    with archive_errors(path), zipfile.ZipFile(path) as archive:
        return [member.removesuffix(".npy") for member in archive.namelist()]


def array_error(path: str | Path, problem: str) -> DataError:
    """The DataError of an array that is not what is expected."""
    return DataError(problem, where=path, fix="see numpy.savez and the format's reference")


@contextlib.contextmanager
def _open_member(path, name):
    """Yields the stream of a member of the archive."""
    with contextlib.ExitStack() as stack:
        with archive_errors(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            found = [member.removesuffix(".npy") for member in archive.namelist()]
            if name not in found:
                raise array_error(path, f"array {name!r} is missing; found {', '.join(found)}")
            try:
                stream = stack.enter_context(archive.open(f"{name}.npy"))
            except (KeyError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
                raise zipfile.BadZipFile(str(error)) from error
        yield stream


def _header(stream, path, name):
    with archive_errors(path):
        try:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                header = np.lib.format.read_array_header_1_0(stream)
            else:
                header = np.lib.format.read_array_header_2_0(stream)
        except _BAD_HEADER as error:
            raise array_error(path, f"{name}: {error}") from error
    if any(side < 0 for side in header[0]):
        raise array_error(path, f"{name}: a shape expected, found {header[0]}")
    return header


def matrix(path: str | Path, name: str, values: np.ndarray) -> np.ndarray:
    """The array ``values`` called ``name``, if it is a matrix of numbers.

    Raises:
        DataError: it is not.
    """
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise DataError(
            f"{name}: numbers (m, dim) expected, found {values.dtype} {values.shape}", where=path
        )
    return values


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """``{name: array}`` of an ``.npz`` file; Python objects are refused.

    Raises:
        DataError: the file is missing or damaged, or holds Python objects.
    """
    with read_errors(path):
        existing_file(path)
        with zipfile.ZipFile(path) as archive:
            require_memory(sum(member.file_size for member in archive.infolist()), path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def load_embeddings(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Embeddings (m, dim) of an ``.npy`` file or the array ``embeddings`` of an ``.npz`` file.

    An ``.npy`` file stays on the disk and is read in blocks.

    Returns:
        ``(embeddings, names)``; names (m,) are the ``.npz`` file's array of that name, or None.

    Raises:
        DataError: the file is missing, damaged or of another shape.
    """
    names = None
    if Path(path).suffix == ".npz":
        arrays = read_arrays(path)
        if "embeddings" not in arrays:
            raise DataError(
                f"an array 'embeddings' expected, found {', '.join(arrays)}", where=path
            )
        values, names = arrays["embeddings"], arrays.get("names")
        if names is not None and names.shape != (len(values),):
            raise DataError(f"{len(values)} names expected, found {names.shape}", where=path)
    else:
        values = read_array(path, mapped=True)
    return matrix(path, "embeddings", values), names


def load_matrix(path: str | Path) -> np.ndarray | scipy.sparse.csr_matrix:
    """A matrix from a file: ``.npy`` (dense) or ``.npz`` (sparse, ``scipy.sparse.save_npz``).

    Args:
        path: the file.

    Returns:
        float32 array or CSR matrix.

    Raises:
        DataError: the file is missing, damaged, no matrix, or holds NaN or infinity.
        MachineError: it does not fit into memory.

    Example:
        >>> load_matrix("X.trn.npz").shape    # doctest: +SKIP
        (15449, 186104)
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such file", where=path, fix="check the path")
    try:
        if path.suffix == ".npz":
            found = load_sparse(path).astype(np.float32)
        else:
            require_memory(2 * path.stat().st_size, path)
            found = np.load(path).astype(np.float32)
    except (*MALFORMED, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise DataError(
            f"a dense matrix in .npy or a sparse one in .npz expected: {error}", where=path
        ) from error
    if found.ndim != 2:
        raise DataError(f"a matrix expected, found shape {found.shape}", where=path)
    if not np.isfinite(found.data if scipy.sparse.issparse(found) else found).all():
        raise DataError("finite numbers expected, found NaN or infinity", where=path)
    return found
