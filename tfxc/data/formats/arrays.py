"""Arrays of an ``.npz`` file: whole, or as a stream of rows in constant memory."""

import contextlib
import dataclasses
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from tfxc.data.formats.lines import reading_errors
from tfxc.errors import DataError


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

    path: Path
    name: str
    shape: tuple
    dtype: np.dtype
    stream: IO[bytes]

    def read(self, rows):
        """The next ``rows`` rows, (rows, …) of ``dtype``, read only.

        Raises:
            DataError: the archive is damaged or the array ends early.
        """
        shape = (rows, *self.shape[1:])
        count = int(np.prod(shape, dtype=np.int64))
        with reading_errors(self.path):
            content = self.stream.read(count * self.dtype.itemsize)
        if len(content) != count * self.dtype.itemsize:
            raise array_error(self.path, f"{self.name}: the array ends early")
        return np.frombuffer(content, self.dtype).reshape(shape)


@contextlib.contextmanager
def open_rows(path, name):
    """Opens the array ``name`` of an ``.npz`` file; yields ``ArrayRows``.

    Raises:
        DataError: the archive is damaged, the array is missing or in Fortran order.
    """
    with contextlib.ExitStack() as stack:
        with reading_errors(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            if f"{name}.npy" not in archive.namelist():
                raise _missing(path, name, array_names(path))
            stream = stack.enter_context(archive.open(f"{name}.npy"))
            shape, fortran, dtype = _header(stream, path, name)
        if fortran and len(shape) > 1:
            raise array_error(
                path,
                f"{name}: a row-major array is expected, found {dtype} {shape} in Fortran order",
            )
        yield ArrayRows(path, name, shape, dtype, stream)


def load_array(path, name):
    """The whole array ``name`` of an ``.npz`` file.

    Raises:
        DataError: the archive is damaged, the array is missing or holds Python objects.
    """
    with reading_errors(path), np.load(path) as archive:
        if name not in archive:
            raise _missing(path, name, archive)
        try:
            return archive[name]
        except ValueError as error:
            raise array_error(path, f"{name}: {error}") from error


def array_names(path):
    """Names of the arrays of an ``.npz`` file.

    Raises:
        DataError: the archive is damaged.
    """
    with reading_errors(path), zipfile.ZipFile(path) as archive:
        return [member.removesuffix(".npy") for member in archive.namelist()]


def array_error(path, problem):
    """The DataError of an array that is not what is expected."""
    return DataError(problem, where=path, fix="see numpy.savez and the format's reference")


def _missing(path, name, found):
    return array_error(path, f"array {name!r} is missing; found {', '.join(found)}")


def _header(stream, path, name):
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        return np.lib.format.read_array_header_2_0(stream)
    except ValueError as error:
        raise array_error(path, f"{name}: {error}") from error
