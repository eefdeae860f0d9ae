"""Keras's files of weights, written so that a full disk is an error and not the process's end."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def write_weights(model: "keras.Model", path: str | Path) -> None:
    """Writes a model's weights as ``model.save_weights`` does.

    Where HDF5 cannot write, it may crash when it closes its file. So the failure is hidden from it:
    the first failure is kept until HDF5 has finished, and raised then.

    Args:
        model: a Keras model.
        path: file that ends in ``.weights.h5``.

    Raises:
        OSError: the disk is full or the folder cannot be written to.

    Example:
        >>> write_weights(model, "runs/quickstart/model.weights.h5")     # doctest: +SKIP
    """
    with open(path, "w+b", buffering=0) as file:
        stream = _DeferredErrorFile(file)
        try:
            model.save_weights(stream)
        finally:
            if stream.failure is not None:
                raise stream.failure
        os.fsync(file.fileno())


class _DeferredErrorFile(io.BytesIO):
    """A file, given to HDF5, that hides its first failure. Keras knows it by its type.

    Args:
        file: an unbuffered binary file.

    Attributes:
        failure: the first ``OSError``, or None.
    """

    def __init__(self, file: "io.FileIO") -> None:
        super().__init__()
        self._file = file
        self.failure: OSError | None = None

    def __str__(self):
        return str(self._file.name)

    def write(self, content):
        """Writes all of it, or nothing any more once that has failed."""
        view = memoryview(content).cast("B")
        size = len(view)
        try:
            while self.failure is None and len(view):
                view = view[self._file.write(view) :]
        except OSError as error:
            self.failure = error
        return size

    def readinto(self, buffer):
        """Fills the buffer; what could not be written is read as zeros."""
        view = memoryview(buffer).cast("B")
        size = len(view)
        while len(view) and (count := self._file.readinto(view)):
            view = view[count:]
        view[:] = bytes(len(view))
        return size

    def seek(self, offset, whence=0):
        """As of a file."""
        return self._file.seek(offset, whence)

    def tell(self):
        """As of a file."""
        return self._file.tell()

    def truncate(self, size=None):
        """As of a file."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size

    def flush(self):
        """Does nothing: nothing waits in memory."""

    def close(self):
        """Does nothing: the file belongs to the caller."""
