"""Pickles read without running what they name."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import IO, Any

from tfxc.core.errors import DataError

_ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("builtins", "bytes"),
    ("builtins", "bytearray"),
}
_NUMBERED = ("PUT", "BINPUT", "LONG_BINPUT")
#: What reading a damaged pickle raises.
PICKLE_FAILURES = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError,
    MemoryError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip


class RestrictedUnpickler(pickle.Unpickler):
    """Reads a pickle from a seekable binary stream; classes override ``find_class``."""

    def __init__(self, stream: IO[bytes], **settings: Any) -> None:
        super().__init__(stream, **settings)
        self._stream = stream

    def load(self) -> Any:
        """The object.

        Objects are numbered as they are read; memory is reserved up to the highest number, so that
        one changed bit could ask for more than the machine has.

        Raises:
            pickle.UnpicklingError: a number is higher than that of the operations before it; any of
                ``PICKLE_FAILURES``.
        """
        start = self._stream.tell()
        for count, (opcode, number, place) in enumerate(pickletools.genops(self._stream)):
            if opcode.name in _NUMBERED and not 0 <= int(number or 0) <= count:
                raise pickle.UnpicklingError(f"object {number} at byte {place}")
        self._stream.seek(start)
        return super().load()


class _PlainUnpickler(RestrictedUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not imported")
        return super().find_class(module, name)


def load_plain(stream: IO[bytes], where: str | Path) -> Any:
    """The object of a pickle made of plain values, containers, NumPy arrays and scalars.

    A pickle can name any function to be called; here all but the few that rebuild arrays are
    refused. The strings of Python 2 are returned as bytes.

    Args:
        stream: binary stream.
        where: file, for messages.

    Raises:
        DataError: the pickle is truncated, damaged or holds anything else.
    """
    try:
        return _PlainUnpickler(io.BytesIO(stream.read()), encoding="bytes").load()
    except PICKLE_FAILURES as error:
        raise DataError(
            f"a pickle of plain values and arrays expected; it is truncated or damaged, or of "
            f"another kind ({error})",
            where=where,
            fix="copy or download it again",
        ) from error
