"""Pickles of plain values and NumPy arrays, read without running what they name."""

import pickle
from pathlib import Path
from typing import IO, Any

from tfxc.core.errors import DataError

_ALLOWED = {
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
_FAILURES = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError,
    MemoryError, OverflowError, TypeError, ValueError,
)  # fmt: skip


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not imported")
        return super().find_class(module, name)


def load_plain(stream: IO[bytes], where: str | Path) -> Any:
    """The object of a pickle made of plain values, containers, NumPy arrays and scalars.

    A pickle can name any function to be called; here all but the few that rebuild arrays are
    refused. The strings of Python 2 come as bytes.

    Args:
        stream: binary stream.
        where: file, for messages.

    Raises:
        DataError: the pickle is truncated, damaged or holds anything else.
    """
    try:
        return _PlainUnpickler(stream, encoding="bytes").load()
    except _FAILURES as error:
        raise DataError(
            f"a pickle of plain values and arrays expected; it is truncated or damaged, or of "
            f"another kind ({error})",
            where=where,
            fix="copy or download it again",
        ) from error
