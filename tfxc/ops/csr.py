"""CSR: bounds of lists in one array, and matrices in files, checked before and after reading."""

import itertools
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError, UserError
from tfxc.core.resources import require_memory
from tfxc.core.storage.reading import MALFORMED, archive_errors

#: Rows of numbers, dense or sparse.
Matrix = np.ndarray | scipy.sparse.csr_matrix
MatrixT = TypeVar("MatrixT", np.ndarray, scipy.sparse.csr_matrix)

_ENTRIES = 1 << 18


def bounds_of(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Says where each of the lists begins and ends, as the ``indptr`` of a CSR matrix.

    Args:
        counts: (n,) how long each list is.

    Returns:
        int64 (n + 1,): list i is ``values[bounds[i]:bounds[i + 1]]``.

    Example:
        >>> bounds_of([2, 0, 3]).tolist()
        [0, 2, 2, 5]
    """
    bounds = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    return bounds


def as_csr(vectors: np.ndarray) -> scipy.sparse.csr_matrix:
    """Returns a dense matrix with all its entries as float32 CSR."""
    rows, width = vectors.shape
    columns = np.tile(np.arange(width, dtype=np.int32), rows)
    splits = np.arange(rows + 1, dtype=np.int64) * width
    values = np.ascontiguousarray(vectors, np.float32).ravel()
    return scipy.sparse.csr_matrix((values, columns, splits), shape=(rows, width))


def unit_rows(matrix: MatrixT, norm: str = "l2") -> MatrixT:
    """Scales the rows of a matrix to norm 1, in place; rows of zeros stay.

    Bit for bit what ``sklearn.preprocessing.normalize`` makes of it, which takes a second to
    import. Of arrays, rows of almost zero (10 times the machine's precision) stay as well.

    Args:
        matrix: float32 or float64, CSR or an array.
        norm: ``"l1"`` or ``"l2"``.

    Returns:
        The matrix.

    Example:
        >>> unit_rows(scipy.sparse.csr_matrix(np.float32([[3, 4], [0, 0]]))).toarray().tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    if isinstance(matrix, np.ndarray):
        if norm == "l1":
            norms = np.abs(matrix).sum(axis=1)
        else:
            norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
        norms[norms < 10 * np.finfo(norms.dtype).eps] = 1
        matrix /= norms[:, None]
        return matrix
    values = matrix.data
    bounds = matrix.indptr
    # Rows of about so many entries at a time: the numbers of their rows take twice their memory.
    cuts: np.ndarray = np.searchsorted(bounds, np.arange(0, len(values) + 1, _ENTRIES))
    for start, stop in itertools.pairwise([*np.unique(cuts).tolist(), len(bounds) - 1]):
        part = slice(bounds[start], bounds[stop])
        rows = np.repeat(np.arange(stop - start), np.diff(bounds[start : stop + 1]))
        powers = np.abs(values[part]) if norm == "l1" else values[part] * values[part]
        sums = np.bincount(rows, weights=powers, minlength=stop - start)
        norms = sums if norm == "l1" else np.sqrt(sums)
        values[part] = values[part] / np.where(norms == 0, 1, norms)[rows]
    return matrix


def summed_entries(
    matrix: scipy.sparse.csr_matrix, where: str | Path, first_row: int = 0
) -> scipy.sparse.csr_matrix:
    """Returns the matrix with one entry for each place: entries stored twice are summed.

    Args:
        matrix: CSR; it is left as it is.
        where: file or argument that it comes from, for messages.
        first_row: number of its first row there.

    Returns:
        CSR, columns ascending within a row.

    Raises:
        DataError: an entry is NaN or infinite, or entries are no real numbers.

    Example:
        >>> twice = scipy.sparse.csr_matrix(([1.0, 2.0], [4, 4], [0, 2]), (1, 5))
        >>> summed_entries(twice, "P.npz").data.tolist()
        [3.0]
    """
    if matrix.dtype.kind not in "fiub":
        raise DataError(
            f"the entries must be real numbers, not {matrix.dtype}",
            where=where,
            fix="save the matrix as float32",
        )
    if not matrix.has_canonical_format:
        # Sums of integers of few bits would overflow, and booleans have none.
        matrix = matrix.astype(matrix.dtype if matrix.dtype.kind == "f" else np.float64)
        matrix.sum_duplicates()
    infinite = np.flatnonzero(~np.isfinite(matrix.data))
    if infinite.size:
        raise DataError(
            f"an entry is NaN or infinite ({entry_place(matrix, infinite[0], first_row)})",
            where=where,
            fix="correct the value, or leave the entry out",
        )
    return matrix


def entry_place(matrix: scipy.sparse.csr_matrix, entry: int, first_row: int = 0) -> str:
    """Says where an entry stands, for messages; rows and columns are counted from 1.

    Args:
        matrix: CSR.
        entry: its place in ``matrix.data``.
        first_row: number of the matrix's first row among all rows, from 0.
    """
    row = first_row + int(np.searchsorted(matrix.indptr, entry, side="right"))
    return f"row {row:,}, column {int(matrix.indices[entry]) + 1:,}"


def load_sparse(path: str | Path) -> scipy.sparse.csr_matrix:
    """Returns the matrix of a file, CSR, its indices within its shape and its row bounds ascending.

    Raises:
        DataError: the file is missing or damaged, or holds no sparse matrix.
        MachineError: the matrix does not fit into memory.
    """
    _check_archive(path)
    try:
        with archive_errors(path):
            matrix = scipy.sparse.load_npz(path)
            if hasattr(matrix, "check_format"):
                matrix.check_format(full_check=True)
            return scipy.sparse.csr_matrix(matrix)
    except (*MALFORMED, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise _no_matrix(path, error) from error


def sparse_shape(path: str | Path) -> tuple[int, int]:
    """Returns (rows, columns) of the matrix of a file, without reading the rest.

    Raises:
        DataError: as ``load_sparse``.
    """
    _check_archive(path)
    try:
        with archive_errors(path), np.load(path) as archive:
            rows, columns = (int(side) for side in archive["shape"])
            return rows, columns
    except (*MALFORMED, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise _no_matrix(path, error) from error


def _check_archive(path: str | Path) -> None:
    """Refuses a file that is missing or no archive, and one whose arrays exceed the memory."""
    try:
        with archive_errors(path), zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except OSError as error:
        raise _no_matrix(path, error) from error
    require_memory(size, path)


def _no_matrix(path: str | Path, error: BaseException) -> DataError:
    return DataError(
        f"the file does not contain a sparse matrix ({error})",
        where=path,
        fix="write it with scipy.sparse.save_npz",
    )
