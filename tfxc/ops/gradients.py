"""Gradients that are dense tensors or rows of a table."""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from tfxc.core.thread_value import ThreadValue

_without = ThreadValue(False)


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """As ``tf.custom_gradient``, but that a graph traced in ``without_gradients`` has no gradient.

    Args:
        function: returns the result, and the function of its gradient.

    Example:
        >>> @custom_gradient
        ... def doubled(x):
        ...     return 2 * x, lambda upstream: 2 * upstream
        >>> float(doubled(tf.constant(3.0)))
        6.0
    """
    with_gradient = tf.custom_gradient(function)

    @functools.wraps(function)
    def call(*arguments: object) -> Any:
        if _without.value:
            return function(*arguments)[0]
        return with_gradient(*arguments)

    return call


def without_gradients() -> AbstractContextManager[None]:
    """Inside, graphs are traced that are never differentiated.

    TensorFlow keeps the gradient of ``tf.custom_gradient`` for the life of the process, once for
    each time it is traced, and with it the graph and the weights of the model it belongs to.
    """
    return _without.set_to(True)


def sum_repeated_rows(
    gradient: tf.Tensor | tf.IndexedSlices, on_gpu: bool = False
) -> tf.Tensor | tf.IndexedSlices:
    """Returns an ``IndexedSlices`` with each row once, repeated rows summed; a dense tensor as it
    is.

    Args:
        gradient: of a variable.
        on_gpu: whether the variable is on one; the result is the same.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(tf.cast(gradient.indices, tf.int64), tf.int64)

    def summed() -> tf.Tensor:
        return tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))

    # Elsewhere it is worth a look: on one device the rows are mostly distinct already, and in this
    # order, so that there is nothing to sum.
    repeated = tf.size(rows) < tf.size(gradient.indices)
    values = summed() if on_gpu else tf.cond(repeated, summed, lambda: gradient.values)
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def global_norm(gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> tf.Tensor:
    """Returns the Euclidean norm over all gradients; rows must be distinct."""
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    # One pass without a copy of the gradient, unlike the sum of its squares.
    return tf.sqrt(2 * tf.add_n([tf.nn.l2_loss(value) for value in values]))


def scale(
    gradient: tf.Tensor | tf.IndexedSlices, factor: float | tf.Tensor
) -> tf.Tensor | tf.IndexedSlices:
    """Returns a gradient times a scalar."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor


def add(
    first: tf.Tensor | tf.IndexedSlices | None, second: tf.Tensor | tf.IndexedSlices | None
) -> tf.Tensor | tf.IndexedSlices | None:
    """Returns the sum of two gradients, either may be None.

    Rows are only listed one after the other, for ``sum_repeated_rows`` to sum up.
    """
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, tf.IndexedSlices) and isinstance(second, tf.IndexedSlices):
        values = tf.concat([first.values, second.values], axis=0)
        indices = tf.concat([first.indices, second.indices], axis=0)
        return tf.IndexedSlices(values, indices, first.dense_shape)
    return tf.convert_to_tensor(first) + tf.convert_to_tensor(second)
