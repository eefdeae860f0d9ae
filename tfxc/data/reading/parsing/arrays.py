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
from tfxc.data.reading.parsing.lines import BLOCK_BYTES, line_too_long
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
        """Returns how many rows to read at a time: ``size``, or fewer where these exceed 64 MB."""
        return max(1, min(size, BLOCK_BYTES // max(1, self.row_bytes)))

    def read(self, rows: int) -> np.ndarray:
        """Returns the next ``rows`` rows, (rows, …) of ``dtype``, read only.

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
    with contextlib.ExitStack() as stack:
        with archive_errors(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            names = [member.removesuffix(".npy") for member in archive.namelist()]
            if name not in names:
                raise array_error(path, f"there is no array {name!r}, only {', '.join(names)}")
            try:
                stream = stack.enter_context(archive.open(f"{name}.npy"))
            except (KeyError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
                raise zipfile.BadZipFile(str(error)) from error
            try:
                shape, fortran, dtype = read_header(stream)
            except _BAD_HEADER as error:
                raise array_error(path, f"{name}: {error}") from error
        if any(side < 0 for side in shape):
            raise array_error(path, f"{name}: the shape {shape} is impossible")
        if fortran and len(shape) > 1:
            raise array_error(
                path,
                f"{name}: the array {dtype} {shape} is in Fortran order, not row-major",
            )
        rows = ArrayRows(path, name, shape, dtype, stream)
        if dtype.hasobject:
            raise array_error(path, f"{name}: the array holds Python objects instead of numbers")
        if rows.row_bytes > max_row_bytes:
            raise line_too_long(f"{path}: {name}", max_row_bytes, "row")
        yield rows


def array_names(path: str | Path) -> list[str]:
    """Returns the names of the arrays of an ``.npz`` file.

    Raises:
        DataError: the archive is damaged.
    """
    with archive_errors(path), zipfile.ZipFile(path) as archive:
        return [member.removesuffix(".npy") for member in archive.namelist()]


def array_error(path: str | Path, problem: str) -> DataError:
    """Returns the DataError of an array that cannot be used."""
    return DataError(problem, where=path, fix="see numpy.savez and the format's reference")


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns shape, whether in Fortran order, and type of the array whose ``.npy`` file a stream
    is.

    Raises:
        ValueError: it is none.
    """
    if np.lib.format.read_magic(stream) == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def matrix(path: str | Path, name: str, values: np.ndarray) -> np.ndarray:
    """Returns the array ``values`` called ``name``, if it is a matrix of numbers.

    Raises:
        DataError: it is not.
    """
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        problem = f"{name}: the array is {values.dtype} {values.shape} instead of numbers (m, dim)"
        raise array_error(path, problem)
    return values


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Returns ``{name: array}`` of an ``.npz`` file; Python objects are refused.

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
    """Returns embeddings (m, dim) of an ``.npy`` file or the array ``embeddings`` of an ``.npz``
    file.

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
            raise array_error(path, f"there is no array 'embeddings', only {', '.join(arrays)}")
        values = arrays["embeddings"]
        names = arrays.get("names")
        if names is not None and names.shape != (len(values),):
            problem = f"names: the shape is {names.shape} instead of ({len(values)},)"
            raise array_error(path, problem)
    else:
        values = read_array(path, mapped=True)
    return matrix(path, "embeddings", values), names


def load_matrix(path: str | Path) -> np.ndarray | scipy.sparse.csr_matrix:
    """Returns a matrix from a file: ``.npy`` (dense) or ``.npz`` (sparse,
    ``scipy.sparse.save_npz``).

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
            values = load_sparse(path).astype(np.float32)
        else:
            require_memory(2 * path.stat().st_size, path)
            values = np.load(path).astype(np.float32)
    except (*MALFORMED, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise DataError(
            f"the file is neither a dense matrix in .npy nor a sparse one in .npz: {error}",
            where=path,
            fix="write it with numpy.save or scipy.sparse.save_npz",
        ) from error
    if values.ndim != 2:
        raise DataError(
            f"the shape {values.shape} is not that of a matrix", where=path, fix="save a matrix"
        )
    if not np.isfinite(values.data if scipy.sparse.issparse(values) else values).all():
        raise DataError(
            "the matrix contains NaN or infinity", where=path, fix="give finite numbers only"
        )
    return values
