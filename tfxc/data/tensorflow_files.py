"""Failed writes of TensorFlow as the errors that Python has for them."""

import contextlib
import errno

import tensorflow as tf

_REASONS = {
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
    tf.errors.PermissionDeniedError: errno.EACCES,
}


@contextlib.contextmanager
def os_errors(path):
    """Turns what TensorFlow raises where it cannot write a file into an ``OSError``.

    ``tfxc.files.write_errors`` and what is built on it tell that to the user.

    Args:
        path: what is written, for the message.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    try:
        yield
    except tuple(_REASONS) as error:
        raise OSError(_REASONS[type(error)], error.message, str(path)) from error
