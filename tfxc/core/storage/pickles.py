"""Pickles read without running what they name."""

import io
import pickle
import pickletools
import types
from collections.abc import Callable
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


class Allowed:
    """Something that a pickle may name, and may not change.

    A pickle can set attributes of what it has named (its operation BUILD): of a Python function its
    defaults, for the rest of the process.

    Args:
        function: what a call of it calls; None refuses calls.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> Any:
        """Returns what the function returns."""
        if self._function is None:
            raise pickle.UnpicklingError("a call of something that is not a function")
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("attributes of something that has none")


class RestrictedUnpickler(pickle.Unpickler):
    """Reads a pickle from a seekable binary stream; classes override ``find_class``."""

    def __init__(self, stream: IO[bytes], **settings: Any) -> None:
        super().__init__(stream, **settings)
        self._stream = stream

    def load(self) -> Any:
        """Returns the object.

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
        value = super().find_class(module, name)
        return Allowed(value) if isinstance(value, types.FunctionType) else value


def load_plain(stream: IO[bytes], where: str | Path) -> Any:
    """Returns the object of a pickle made of plain values, containers, NumPy arrays and scalars.

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
            "the pickle is truncated or damaged, or contains something other than plain values and "
            f"arrays ({error})",
            where=where,
            fix="copy or download it again",
        ) from error
