"""Vectors of many texts whose activations need the memory of a few."""

from collections.abc import Callable

import tensorflow as tf

from tfxc.ops.gradients import custom_gradient
from tfxc.ops.randomness import rows_of_labels


def encoded_in_chunks(
    encode: Callable[[tf.Tensor], tf.Tensor], ids: tf.Tensor, chunks: int
) -> tf.Tensor:
    """The vectors of texts, a chunk after the other, without their activations.

    In the backward pass each chunk is encoded once more: time is saved for memory. The dropout
    masks of a text are those it has in one piece, see ``ops.randomness.rows_of_labels``.

    Args:
        encode: function of int64 ids (n,) -> float vectors (n, dim), n at least 1; of weights that
            a tape watches.
        ids: int64 (C,), C at least 1.
        chunks: how many, a Python int.

    Returns:
        float (C, dim).

    Reference: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup", 2021, arXiv 2101.06983.

    Example:
        >>> double = lambda ids: 2.0 * tf.cast(ids, tf.float32)[:, None]
        >>> encoded_in_chunks(double, tf.constant([1, 2, 5], tf.int64), 2).numpy().ravel().tolist()
        [2.0, 4.0, 10.0]
    """
    count = tf.size(ids, tf.int64)
    if chunks <= 1:
        with rows_of_labels():
            return encode(ids)
    parts: list[tf.Tensor] = []
    for number in range(chunks):
        begin, end = number * count // chunks, (number + 1) * count // chunks
        # An encoder is not given less than one text; what is too many is cut off.
        some = ids[begin : tf.maximum(end, begin + 1)]
        with tf.control_dependencies(parts[-1:]):
            parts.append(_encoded(encode, tf.identity(some), begin)[: end - begin])
    return tf.concat(parts, axis=0)


def _encoded(encode, ids, first):
    """``encode`` of some texts, whose gradient encodes them again."""

    def found():
        with rows_of_labels(first):
            return encode(ids)

    @custom_gradient
    def vectors(ids):
        def gradient(upstream, variables=()):
            # Not before the gradient is there, else the activations of all chunks would be.
            with tf.control_dependencies([upstream]):
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(variables)
                    again = found()
                return [None], tape.gradient(again, list(variables), upstream)

        return found(), gradient

    return vectors(ids)
