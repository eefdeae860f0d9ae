"""Reads the memory-mapped matrices of models that libpecos 1.2 has compiled (``.mmap_store``).

Such a file is a list of blocks. Its last 16 bytes are a signature and the place of the list: the
number of blocks, and the first byte and the size of each, all uint64, little-endian. The blocks of
a matrix are its sizes and its arrays, see below.
"""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from tfxc.core.errors import DataError
from tfxc.core.storage.reading import existing_file, read_errors

_SIGNATURE = b"\x93PECOS<\x01"
_FIX = "compile the model again, or copy the whole folder"
_WEIGHT_BLOCKS = 11  # blocks of a file of weights
_CHUNK = np.dtype(
    [
        ("first", "<u4"),
        ("end", "<u4"),
        ("rows", "<u4"),
        ("bias", "<u4"),
        ("addresses", "<u8", 2),  # of the process that wrote them: of no use
    ]
)
_ENTRY = np.dtype([("column", "<u4"), ("weight", "<f4")])


def mapped_matrix(path: str | Path) -> scipy.sparse.csc_matrix:
    """Returns a matrix with one array each of column bounds, rows and values (``C.mmap_store``).

    Args:
        path: the file.

    Returns:
        float32 ``scipy.sparse.csc_matrix``.

    Raises:
        DataError: no such file, or not what libpecos writes.

    Example:
        >>> mapped_matrix("compiled/ranker/0.model/C.mmap_store").shape     # doctest: +SKIP
        (32, 1)
    """
    blocks = _Blocks(path, 6)
    rows = blocks.number(0)
    columns = blocks.number(1)
    count = blocks.number(2)
    bounds = blocks.array(3, "<u8", columns + 1)
    arrays = blocks.array(5, "<f4", count), blocks.array(4, "<u4", count), bounds
    return blocks.checked(arrays, (rows, columns))


def mapped_weights(path: str | Path) -> scipy.sparse.csc_matrix:
    """Returns the weights of a layer, by chunks of sibling nodes (``W.mmap_store``).

    A chunk has the rows where any of its columns has an entry, and the entries of each of these
    rows: column, counted from the first of the chunk, and weight.

    Args:
        path: the file.

    Returns:
        float32 ``scipy.sparse.csc_matrix`` (features and bias, nodes).

    Raises:
        DataError: no such file, or not what libpecos writes.
    """
    blocks = _Blocks(path, _WEIGHT_BLOCKS)
    num_chunks, rows, columns = (blocks.number(place) for place in range(3))
    chunks = blocks.array(4, _CHUNK, num_chunks)
    bounds = [0, *chunks["end"]]
    if chunks["first"].tolist() != bounds[:-1] or bounds[-1] != columns:
        raise blocks.damaged(f"its chunks do not follow one another up to column {columns:,}")
    lengths = chunks["rows"].astype(np.int64)
    places = blocks.array(6, "<u4", int(lengths.sum()))
    bounds = blocks.array(8, "<u8", len(places) + num_chunks).astype(np.int64)
    entries = blocks.array(10, _ENTRY, blocks.number(9))
    # Each chunk's bounds begin with the end of the one before.
    firsts = np.cumsum(lengths + 1) - (lengths + 1)
    last = np.zeros(len(bounds), bool)
    last[firsts + lengths] = True
    counts = np.diff(bounds, append=bounds[-1:])[~last]
    if (counts < 0).any() or counts.sum() != len(entries):
        raise blocks.damaged(f"its rows hold {counts.sum():,} of {len(entries):,} entries")
    own_chunk = np.repeat(np.arange(num_chunks), lengths)
    shift = np.repeat(chunks["first"].astype(np.int64)[own_chunk], counts)
    width = np.repeat((chunks["end"].astype(np.int64) - chunks["first"])[own_chunk], counts)
    inside = entries["column"].astype(np.int64)
    if (inside >= width).any():
        raise blocks.damaged(f"column {inside.max()} is outside its chunk")
    arrays = (entries["weight"], (np.repeat(places, counts), inside + shift))
    return blocks.checked(arrays, (rows, columns))


def mapped_rows(path: str | Path) -> int:
    """Returns rows of the weights of a layer, without reading these.

    Raises:
        DataError: no such file, or not what libpecos writes.
    """
    return _Blocks(path, _WEIGHT_BLOCKS).number(1)


def mapped_order(path: str | Path, nodes: int) -> np.ndarray:
    """Returns the node that each column of a layer is of, where they are not in order (``perm``).

    Args:
        path: the file; without it the columns are in order.
        nodes: how many there are.

    Returns:
        int64 (nodes,).

    Raises:
        DataError: not what libpecos writes, or no permutation.
    """
    if not Path(path).exists():
        return np.arange(nodes)
    blocks = _Blocks(path, 4)
    order = blocks.array(3, "<u4", nodes).astype(np.int64)
    if (np.sort(order) != np.arange(nodes)).any():
        raise blocks.damaged(f"it does not hold each of {nodes:,} nodes once")
    return order


class _Blocks:
    """The blocks of a file, ``count`` in all."""

    def __init__(self, path: str | Path, count: int) -> None:
        self._path = existing_file(path, fix=_FIX)
        with read_errors(path):
            self._bytes: np.ndarray = np.zeros(0, np.uint8)
            if Path(path).stat().st_size:
                self._bytes = np.memmap(path, np.uint8, "r")
        size = len(self._bytes)
        if size < 24 or bytes(self._bytes[-16:-8]) != _SIGNATURE:
            raise self.damaged("it is not a libpecos file of blocks, or it is cut off")
        place = int.from_bytes(bytes(self._bytes[-8:]), "little")
        listed = int.from_bytes(bytes(self._bytes[place : place + 8]), "little")
        if listed != count or place + 8 + 16 * count > size:
            raise self.damaged(f"it has {listed} blocks instead of {count}, or is cut off")
        self._table = self._bytes[place + 8 : place + 8 + 16 * count].view("<u8").reshape(count, 2)

    def damaged(self, problem: str) -> DataError:
        """Returns the error of a file that is not what libpecos writes."""
        return DataError(problem, where=self._path, fix=_FIX)

    def array(self, number: int, dtype: str | np.dtype, length: int) -> Any:
        """Returns a block as an array."""
        first, size = (int(value) for value in self._table[number])
        right_size = length * np.dtype(dtype).itemsize
        if size != right_size or first + size > len(self._bytes):
            raise self.damaged(
                f"block {number} has {size:,} bytes instead of {right_size:,}, or is cut off"
            )
        return self._bytes[first : first + size].view(dtype)

    def number(self, number: int) -> int:
        """Returns a block that is one number."""
        size = int(self._table[number][1])
        return int(self.array(number, "<u8" if size == 8 else "<u4", 1)[0])

    def checked(self, arrays: tuple[Any, ...], shape: tuple[int, int]) -> scipy.sparse.csc_matrix:
        """Returns the matrix of these arrays, if it is one."""
        try:
            matrix = scipy.sparse.csc_matrix(arrays, shape, dtype=np.float32)
            matrix.check_format(full_check=True)
        except (ValueError, OverflowError) as error:
            raise self.damaged(f"its content is not a sparse matrix ({error})") from error
        return matrix
