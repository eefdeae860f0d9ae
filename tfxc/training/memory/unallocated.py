"""Models whose weights take no memory: they can be traced, but not run."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tfxc.ops.private_apis import UninitializedVariable
from tfxc.ops.tables.large_weights import without_starts

# Variables of fewer numbers are made as usual: counters and the like are read while a step is made.
_SMALL = 1000


@contextlib.contextmanager
def unallocated() -> Iterator[None]:
    """Inside, variables have a shape and no memory, apart from the smallest.

    Example:
        >>> with unallocated():
        ...     table = tf.Variable(lambda: tf.zeros((10**9, 1000)))
        >>> table.shape
        TensorShape([1000000000, 1000])
    """
    with tf.variable_creator_scope(_without_memory), without_starts():
        yield


@contextlib.contextmanager
def in_a_graph() -> Iterator[None]:
    """Inside, operations are written into a graph that is thrown away instead of run."""
    with tf.__internal__.FuncGraph("thrown_away").as_default():
        yield


class _Unallocated(UninitializedVariable):
    """A variable without values: it reads as zeros, and forgets what it is given."""

    def numpy(self):
        """Zeros that take no memory."""
        return np.broadcast_to(np.zeros((), self.dtype.as_numpy_dtype), self.shape)

    def assign(self, value, use_locking=None, name=None, read_value=True):
        """Assigns in a graph, as a variable does; else does nothing."""
        if not tf.executing_eagerly() and not isinstance(value, np.ndarray):
            return super().assign(value, use_locking, name, read_value)
        return self


def _without_memory(make: Callable[..., tf.Variable], **arguments: object) -> tf.Variable:
    initial = arguments.get("initial_value")
    dtype = arguments.get("dtype")
    if callable(initial):
        with tf.Graph().as_default():
            initial = tf.convert_to_tensor(initial(), dtype)
            shape = initial.shape
            dtype = initial.dtype
    elif isinstance(initial, tf.Tensor | tf.Variable | np.ndarray):
        shape = tf.TensorShape(initial.shape)
        dtype = dtype or initial.dtype
    else:
        return make(**arguments)
    if shape.num_elements() < _SMALL:
        return make(**arguments)
    with tf.init_scope():
        return _Unallocated(
            trainable=arguments.get("trainable"),
            name=arguments.get("name"),
            shape=shape,
            dtype=tf.as_dtype(dtype),
            aggregation=arguments.get("aggregation"),
        )
