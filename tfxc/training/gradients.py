"""Gradients that are dense tensors or rows of a table."""

import tensorflow as tf


def sum_repeated_rows(gradient):
    """An ``IndexedSlices`` with each row once, repeated rows summed; a dense tensor as it is."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    # On one device the rows are mostly distinct already, and in this order: nothing to sum.
    values = tf.cond(
        tf.size(rows) < tf.size(gradient.indices),
        lambda: tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows)),
        lambda: gradient.values,
    )
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def global_norm(gradients):
    """Euclidean norm over all gradients; rows must be distinct."""
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(v)) for v in values]))


def scale(gradient, factor):
    """A gradient times a scalar."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor
