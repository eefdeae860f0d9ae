"""Several arrays in one file, of which any rows can be read without the rest."""

import functools
import json
import math
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from tfxc.core.escaping import json_text

if TYPE_CHECKING:
    from tfxc.data.examples.columns import Column


_LENGTH = 8  # bytes that say how long the head is


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays; the file is there once it is complete, whoever else writes the same one.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    head = json_text([[n, a.dtype.str, a.shape] for n, a in contiguous.items()]).encode()
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with open(unfinished, "wb") as stream:
            stream.write(len(head).to_bytes(_LENGTH, "little") + head)
            for array in contiguous.values():
                stream.write(array.reshape(-1).view(np.uint8).data)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


class ArrayFile:
    """A file that ``write_arrays`` has written; only its head is read before it is asked for more.

    Args:
        path: the file.

    Example:
        >>> ArrayFile("block-00000").read("ids", 10, 20)        # doctest: +SKIP
        array([4, 7, 9, 1, 3, 5, 5, 2, 0, 8], dtype=int32)
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._arrays: dict[str, tuple[int, np.dtype, tuple[int, ...]]] = {}
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH), "little")
            head = json.loads(stream.read(length))
        place = _LENGTH + length
        for name, dtype, shape in head:
            self._arrays[name] = place, np.dtype(dtype), tuple(shape)
            place += np.dtype(dtype).itemsize * math.prod(shape)

    @property
    def names(self) -> list[str]:
        """Of the arrays, in the order in which they were written."""
        return list(self._arrays)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Returns rows ``start`` to ``stop`` (exclusive) of an array, by default all of it."""
        with open(self._path, "rb", buffering=0) as stream:
            return self._read(stream, name, start, stop)

    def read_all(self) -> dict[str, np.ndarray]:
        """Returns all arrays by name."""
        return {name: self.read(name) for name in self._arrays}

    def read_rows(
        self, columns: "Iterable[Column]", start: int, stop: int
    ) -> dict[str, np.ndarray]:
        """Returns the arrays of some rows.

        Args:
            columns: whose arrays these are, see ``tfxc.data.examples.columns``.
            start, stop: first row, and the one after the last.
        """
        arrays = {}
        with open(self._path, "rb", buffering=0) as stream:
            for column in columns:
                first = start
                last = stop
                if column.bounds is not None:
                    bounds = self._read(stream, column.bounds, start, stop + 1)
                    first = int(bounds[0])
                    last = int(bounds[-1])
                    arrays[column.bounds] = bounds - first
                for name in column.types:
                    if name != column.bounds:
                        arrays[name] = self._read(stream, name, first, last)
        return arrays

    def _read(self, stream: IO[bytes], name: str, start: int, stop: int | None) -> np.ndarray:
        place, dtype, shape = self._arrays[name]
        stop = shape[0] if stop is None else stop
        size = math.prod(shape[1:])
        stream.seek(place + start * size * dtype.itemsize)
        values = np.fromfile(stream, dtype, (stop - start) * size)
        assert len(values) == (stop - start) * size, "the file is complete"
        return values.reshape(stop - start, *shape[1:])


@functools.lru_cache(maxsize=1 << 16)
def opened(path: str) -> ArrayFile:
    """Returns an ``ArrayFile`` whose head is read once per process; the file may not change."""
    return ArrayFile(path)
