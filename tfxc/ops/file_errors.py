"""Failed writes of TensorFlow as the errors that Python has for them."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

_ERRORS = (
    "ENOSPC EDQUOT EROFS EACCES EPERM EFBIG EIO EMFILE ENFILE EISDIR ENOTDIR ELOOP ENAMETOOLONG"
)
_NUMBERS = {os.strerror(vars(errno)[name]): vars(errno)[name] for name in _ERRORS.split()}


@contextlib.contextmanager
def os_errors(path: str | Path) -> Iterator[None]:
    """Turns what TensorFlow raises where it cannot write a file into an ``OSError``.

    ``tfxc.core.storage.files.write_errors`` and what is built on it report that to the user.

    Args:
        path: what is written, for the message.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    try:
        yield
    except tf.errors.OpError as error:
        # The message ends with the system's own words: "...; No space left on device".
        number = next((number for name, number in _NUMBERS.items() if name in str(error)), None)
        if number is None:
            raise
        raise OSError(number, error.message, str(path)) from error
