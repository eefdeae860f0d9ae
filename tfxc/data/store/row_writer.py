"""Rows of one shape and type into an ``.npy`` file, so that a stopped writing can be resumed."""

import collections
import errno
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import DataError, MachineError, UserError
from tfxc.core.escaping import json_text
from tfxc.core.messages import NOTES
from tfxc.core.storage.files import (
    ensured_parent,
    keep_permissions,
    regular_target,
    write_errors,
)
from tfxc.core.storage.locks import NO_LOCKS, is_same, try_lock
from tfxc.data.reading.parsing.row_file import array_header, read_progress, unfinished_files

if TYPE_CHECKING:
    from tfxc.core.progress import Progress
    from tfxc.data.examples.chunk import Chunk
    from tfxc.data.examples.rows import Rows
    from tfxc.data.reading.formats.base import Reader


# What a kill -9 or a power cut can cost is the work of this time.
_SECONDS_BETWEEN_FLUSHES = 20.0
# Rows out of order wait in memory up to this size, so that neighbours are written at once.
_BUFFER_BYTES = 16 << 20
# What a file system answers that cannot reserve space.
_CANNOT_RESERVE = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV}


class RowWriter:
    """Fills an ``.npy`` file with rows, in any order. Use it as a context manager.

    The rows go into ``.NAME.unfinished`` next to the file, and ``.NAME.progress`` says which of
    them are on the disk. Once all are in place, the one is renamed to the file and the other
    removed. After an exception both stay: a later writer of the same computation finds in ``done``
    what it need not do again, and the file is the same bytes as without the interruption. Leftovers
    of another computation are discarded, so that there is never more than one unfinished file.

    Where the number of rows is known, the space of all is reserved before the first is written.
    Nothing is written through a memory map, in which a full disk would kill the process.

    Args:
        path: the file. One that exists is replaced at the end.
        dtype: of the rows.
        computation: what decides the bytes (checksums of weights and data, settings), as a dict for
            JSON. None for work that cannot be repeated: after an exception nothing stays.
        num_rows: number of rows; None if it is not known before the last one.
        row_shape: shape of one row; None means that of the first rows written.

    Raises:
        MachineError: the disk is full (before any row is written, where the number is known), or
            the folder cannot be written to.
        UserError: another process writes the file, or a folder is in its place.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "vectors.npy"
        ...     options = {"dtype": "float32", "computation": {"seed": 0}, "num_rows": 3}
        ...     with RowWriter(path, **options) as writer:
        ...         writer.write([2, 0], [[5, 6], [1, 2]])
        ...         writer.write(1, [[3, 4]])
        ...     np.load(path).tolist()
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dtype: str | type | np.dtype,
        computation: Mapping[str, Any] | None,
        num_rows: int | None = None,
        row_shape: Sequence[int] | None = None,
    ) -> None:
        self.path = Path(path)
        self.dtype = np.dtype(dtype)
        self.num_rows = num_rows
        self.row_shape = None if row_shape is None else tuple(row_shape)
        # Through JSON, so that it equals what is loaded (tuples become lists).
        self._computation = json.loads(json_text(computation))
        self._scratch, self._progress = unfinished_files(self.path)
        self._file = -1  # the number of the open file
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting_bytes = 0
        self._marks = np.zeros(num_rows or 0, bool)
        self._count = num_rows or 0

    def __enter__(self) -> "RowWriter":
        regular_target(self.path)
        with ensured_parent(self.path):
            self._file = _locked(self._scratch, self.path)
            try:
                if not self._resumed():
                    self._progress.unlink(missing_ok=True)
                    os.ftruncate(self._file, 0)
                    if self.row_shape is not None:
                        self._begin()
            except BaseException:
                self._discard()
                raise
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is None and self.row_shape is not None and self.done.all():
            self._finish()
        elif self._computation is None or not self.done.any():
            self._discard()
        else:
            try:
                self.flush()
            except MachineError:
                if error_type is None:  # else what stopped the work is the error to report
                    raise
            finally:
                self._close()

    @property
    def done(self) -> np.ndarray:
        """Which rows have been written, bool (rows,)."""
        return self._marks[: self._count]

    def is_done(self, start: int, stop: int) -> bool:
        """Tells whether the rows ``start`` to ``stop`` are all in place."""
        return stop <= len(self.done) and bool(self.done[start:stop].all())

    def write(
        self, places: int | Sequence[int] | np.ndarray, rows: Sequence[Any] | np.ndarray
    ) -> None:
        """Puts rows in their places.

        Args:
            places: number of the first row, the others follow it; or int (n,), one for each.
            rows: (n, *row_shape).

        Raises:
            DataError: rows of another shape, or beyond the last.
            MachineError: the disk is full.
        """
        rows = np.ascontiguousarray(rows, self.dtype)
        if self.row_shape is None:
            self.row_shape = rows.shape[1:]
            with write_errors(self.path):
                self._begin()
        if isinstance(places, int | np.integer):
            places = np.arange(places, places + len(rows))
        places = np.asarray(places, np.int64)
        if not len(rows):
            return
        self._check(places, rows)
        if (np.diff(places) == 1).all():
            with write_errors(self.path):
                self._put(int(places[0]), rows.reshape(-1).view(np.uint8).data)
        else:
            self._waiting.append((places, rows.copy()))
            self._waiting_bytes += rows.nbytes
            if self._waiting_bytes >= _BUFFER_BYTES:
                self._put_waiting()
        self._mark(places)
        if time.monotonic() - self._flushed > _SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def write_missing(
        self,
        rows: "Rows",
        places: np.ndarray,
        batch_size: int,
        compute: Callable[[Any, np.ndarray], np.ndarray],
        progress: "Progress",
    ) -> None:
        """Computes and writes what is not done of some examples, texts of similar length together.

        The same examples are always computed together, so that the bytes do not depend on a stop.

        Args:
            rows: ``Rows``, n examples.
            places: int (n,), the place of each.
            batch_size: examples at a time.
            compute: function of their features, as of a batch, and their places -> rows.
            progress: ``Progress`` over the examples.
        """
        order = rows.by_length()  # less padding
        for start in range(0, len(rows), batch_size):
            numbers = order[start : start + batch_size]
            targets = places[numbers]
            if not self.done[targets].all():
                self.write(targets, compute(rows.take(numbers)["features"], targets))
                progress.advance(len(numbers))

    def flush(self) -> None:
        """Brings the rows, and then the knowledge that they are done, to the disk.

        Raises:
            MachineError: the disk is full.
        """
        if self.row_shape is None:
            return
        assert self._file >= 0, "it is open"
        self._put_waiting()
        with write_errors(self.path):
            os.fsync(self._file)
        if self._computation is not None:
            text = json_text({**self._description(), "rows_done": len(self.done)})
            content = f"{text}\n".encode() + np.packbits(self.done).tobytes()
            check = hashlib.sha256(content).hexdigest().encode()
            # The lock makes this name ours: a kill leaves one such file at most.
            new = self._progress.with_name(f"{self._progress.name}.new")
            with write_errors(self.path):
                try:
                    with open(new, "wb") as stream:
                        stream.write(check + b"\n" + content)
                        stream.flush()
                        os.fsync(stream.fileno())
                    os.replace(new, self._progress)
                except BaseException:
                    new.unlink(missing_ok=True)
                    raise
        self._flushed = time.monotonic()

    def _description(self) -> dict[str, Any]:
        assert self.row_shape is not None, "a description is of rows of a known shape"
        return {
            "computation": self._computation,
            "dtype": self.dtype.str,
            "num_rows": self.num_rows,
            "row_shape": list(self.row_shape),
        }

    def _resumed(self) -> bool:
        """Takes over the leftovers of the same computation; False where there are none."""
        self._flushed = time.monotonic()
        if self._computation is None or not os.fstat(self._file).st_size:
            return False
        requested_shape = self.row_shape
        description, done = read_progress(self.path)
        if description is not None and done is not None:
            if requested_shape is None:
                self.row_shape = tuple(description["row_shape"])
            if description == self._description():
                self._measure()
                size = os.fstat(self._file).st_size
                needed = self._offset + len(done) * self._row_bytes
                if size == needed or (self.num_rows is None and size > needed):
                    self._marks = done
                    self._count = len(done)
                    return True
        problem = "the unfinished file is damaged, or belongs to other data or settings"
        NOTES.info(f"{self.path}: starting over; {problem}")
        self.row_shape = requested_shape
        return False

    def _begin(self) -> None:
        """Reserves the space and writes the header."""
        self._measure()
        if self.num_rows is not None:
            reserve(self._file, self._offset + self.num_rows * self._row_bytes, self.path)
        os.pwrite(self._file, self._header(self.num_rows or 0), 0)
        self.flush()

    def _header(self, num_rows: int) -> bytes:
        """Returns what opens the file."""
        assert self.row_shape is not None, "the header names the shape"
        return array_header((num_rows, *self.row_shape), self.dtype)

    def _measure(self) -> None:
        """Notes the size of the header and of a row."""
        assert self.row_shape is not None, "the shape says how large a row is"
        self._offset = len(self._header(self.num_rows or 0))
        self._row_bytes = int(np.prod(self.row_shape)) * self.dtype.itemsize

    def _check(self, places: np.ndarray, rows: np.ndarray) -> None:
        least = places.min()
        most = places.max()
        fits = least >= 0 and (self.num_rows is None or most < self.num_rows)
        if fits and rows.shape[1:] == self.row_shape:
            return
        limit = "" if self.num_rows is None else f", and there are {self.num_rows:,} of them"
        raise DataError(
            f"rows {least:,} to {most:,} do not fit: their shape is {rows.shape[1:]}; a row of "
            f"the file has the shape {self.row_shape}{limit}",
            where=self.path,
        )

    def _put(self, place: int, view: memoryview) -> None:
        """Writes the bytes of rows from row ``place`` on."""
        offset = self._offset + place * self._row_bytes
        while len(view):
            count = os.pwrite(self._file, view, offset)
            view = view[count:]
            offset += count

    def _put_waiting(self) -> None:
        """Writes the rows that came out of order, neighbours with one call."""
        if not self._waiting:
            return
        places = np.concatenate([places for places, _ in self._waiting])
        rows = np.concatenate([rows for _, rows in self._waiting])
        order = np.argsort(places, kind="stable")
        places = places[order]
        rows = rows[order]
        view = rows.reshape(-1).view(np.uint8).data
        size = self._row_bytes
        bounds = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
        with write_errors(self.path):
            for first, stop in itertools.pairwise(bounds):
                self._put(int(places[first]), view[first * size : stop * size])
        self._waiting.clear()
        self._waiting_bytes = 0

    def _mark(self, places: np.ndarray) -> None:
        stop = int(places.max()) + 1
        if stop > len(self._marks):
            more = max(stop, 2 * len(self._marks)) - len(self._marks)
            self._marks = np.concatenate([self._marks, np.zeros(more, bool)])
        self._count = max(self._count, stop)
        self._marks[places] = True

    def _finish(self) -> None:
        try:
            self._put_waiting()
            with write_errors(self.path):
                if self.num_rows is None:
                    header = self._header(len(self.done))
                    assert len(header) == self._offset, "NumPy leaves room for the number of rows"
                    os.pwrite(self._file, header, 0)
                    # A stopped writer may have written more rows than it knew of when it stopped.
                    os.ftruncate(self._file, self._offset + len(self.done) * self._row_bytes)
                os.fsync(self._file)
                target = regular_target(self.path)
                keep_permissions(target, self._scratch)
                os.replace(self._scratch, target)
                self._progress.unlink(missing_ok=True)
        finally:
            self._close()

    def _discard(self) -> None:
        self._scratch.unlink(missing_ok=True)
        self._progress.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class RemainingChunks:
    """A reader's chunks without those whose rows are all in place.

    They are read, so that the others are the same chunks as in a writing without interruption, but
    nothing is computed from them.

    Args:
        reader: a ``Reader``.
        is_done: function (first, stop) -> bool, whether these examples are done.

    Attributes:
        path: the reader's.
        firsts: number of the first example of each chunk that was given, to be popped.
    """

    def __init__(self, reader: "Reader", is_done: Callable[[int, int], bool]) -> None:
        self.path = reader.path
        self.firsts: collections.deque[int] = collections.deque()
        self._reader = reader
        self._is_done = is_done

    def chunks(self, size: int) -> "Iterator[Chunk]":
        """Yields ``Chunk``s of ``size`` examples, the last smaller."""
        first = 0
        for chunk in self._reader.chunks(size):
            stop = first + len(chunk)
            if not self._is_done(first, stop):
                self.firsts.append(first)
                yield chunk
            first = stop


def reserve(descriptor: int, size: int, path: str | Path) -> None:
    """Takes the space of a whole file from the disk, so that it cannot be missing later.

    Where the file system cannot do that, the free space is compared with the size.

    Args:
        descriptor: of the open file.
        size: in bytes.
        path: of the file, for messages.

    Raises:
        MachineError: there is not enough space.
    """
    free = shutil.disk_usage(Path(path).parent).free
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (AttributeError, OSError) as error:  # macOS has no such function
        if getattr(error, "errno", errno.ENOSYS) in _CANNOT_RESERVE and size <= free:
            os.ftruncate(descriptor, size)
            return
        if getattr(error, "errno", errno.ENOSPC) not in {errno.ENOSPC, *_CANNOT_RESERVE}:
            raise
        raise MachineError(
            f"cannot write: the disk is full: {_in_units(size)} needed, {_in_units(free)} free",
            where=path,
            fix="free some space or choose another folder",
        ) from error


def _in_units(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size:,} bytes"


def _locked(scratch: Path, path: Path) -> int:
    """Returns a descriptor of the unfinished file, which no other process can get meanwhile."""
    descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not (try_lock(descriptor) and is_same(descriptor, scratch)):
            # It has the file, or had finished and renamed it since this process opened it.
            raise UserError(
                "another process is writing this file", where=path, fix="wait until it has ended"
            )
    except OSError as error:
        if error.errno not in NO_LOCKS:
            os.close(descriptor)
            raise
    except UserError:
        os.close(descriptor)
        raise
    return descriptor
