"""Batches of no examples, which some kernels refuse and which crash others."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import tensorflow as tf

from tfxc.core.thread_value import ThreadValue

_answered = ThreadValue(True)


def handle_empty_batches(answered: bool) -> AbstractContextManager[None]:
    """Inside, ``with_one_example`` works or adds nothing, as graphs of other runtimes need it."""
    return _answered.set_to(answered)


def with_one_example(
    features: Mapping[str, tf.Tensor] | tf.Tensor,
) -> tuple[Mapping[str, tf.Tensor] | tf.Tensor, tf.Tensor | None]:
    """Returns a batch of features that has an example: an empty one is added where there is none.

    A batch whose size is known while the graph is built, and not 0, is returned as it is.

    Args:
        features: of one kind: a dict ``ids``, ``weights``, ``row_splits``; or a tensor (batch, …),
            or a dict of such.

    Returns:
        The features, and the number of examples to keep of the answer: an int64 tensor, or None
        for all.

    Example:
        >>> features, batch = with_one_example(tf.zeros([0, 3]))
        >>> features.shape.as_list(), int(batch)
        ([1, 3], 0)
    """
    if not _answered.value:
        return features, None
    bags = isinstance(features, dict) and "row_splits" in features
    tensor = tf.convert_to_tensor(features["row_splits"] if bags else tf.nest.flatten(features)[0])
    known = tensor.shape[0]
    if known is not None and known > bags:
        return features, None
    batch = tf.shape(tensor, tf.int64)[0] - int(bags)
    missing = 1 - tf.minimum(batch, 1)
    if bags:
        return {**features, "row_splits": tf.concat([tensor, tensor[:missing]], 0)}, batch

    def with_zeros(tensor: tf.Tensor) -> tf.Tensor:
        tensor = tf.convert_to_tensor(tensor)
        added = tf.concat([tf.expand_dims(missing, 0), tf.shape(tensor, tf.int64)[1:]], 0)
        return tf.concat([tensor, tf.zeros(added, tensor.dtype)], 0)

    return tf.nest.map_structure(with_zeros, features), batch
