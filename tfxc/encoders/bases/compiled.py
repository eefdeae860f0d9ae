"""Encoders whose layers XLA compiles, a program per length of a batch's texts."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import tensorflow as tf

from tfxc.core.thread_value import ThreadValue

_BUCKET = 32  # lengths are rounded up to multiples of this: each length is another program

_compiles = ThreadValue(False)


def compiled_encoders(compiles: bool = True) -> AbstractContextManager[None]:
    """Inside, encoders that can have their layers compiled in training."""
    return _compiles.set_to(compiles)


def compiles_encoders() -> bool:
    """Tells whether this is inside of ``compiled_encoders``."""
    return _compiles.value


def compiled(function: Callable[..., tf.Tensor], *tensors: tf.Tensor) -> tf.Tensor:
    """Returns ``function(*tensors)`` as one program, gradients included.

    Example:
        >>> float(compiled(tf.reduce_sum, tf.ones(3)))
        3.0
    """
    # A function of its own for every call: another one would find the dropout masks of this one.
    return tf.function(function, jit_compile=True, autograph=False)(*tensors)


def in_bucket(ids: tf.Tensor, most: int = 0) -> tf.Tensor:
    """Returns token ids padded with 0 to the next multiple of 32, so that there are few lengths.

    Args:
        ids: int (batch, length).
        most: no longer than this, unless they are; 0 for no limit.

    Example:
        >>> in_bucket(tf.ones((2, 33), tf.int32)).shape, in_bucket(tf.ones((2, 9)), 20).shape
        (TensorShape([2, 64]), TensorShape([2, 20]))
    """
    length = tf.shape(ids)[1]
    bucket = -(-length // _BUCKET) * _BUCKET
    if most:
        bucket = tf.minimum(bucket, most)
    return tf.pad(ids, [[0, 0], [0, tf.maximum(bucket - length, 0)]])
