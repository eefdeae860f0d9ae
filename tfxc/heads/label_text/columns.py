"""Which labels are the columns of a step, and which of them count for each example."""

from typing import NamedTuple

import tensorflow as tf

from tfxc.ops.distributed.cross_replica import labels_everywhere
from tfxc.ops.search.candidates import distinct_or_zero, ranks_in


class Columns(NamedTuple):
    """Labels that a step scores.

    Attributes:
        ids: int64 (C,), distinct, ascending; the same in all replicas.
        positives: int64 (batch, max_positives), columns of the true labels that count, padded
            with -1.
        valid: bool (batch, C), False where a column is a true label that does not count, or does
            not concern the example.
    """

    ids: tf.Tensor
    positives: tf.Tensor
    valid: tf.Tensor


def drawn_labels(labels: tf.Tensor, bits: tf.Tensor, count: int) -> tf.Tensor:
    """Returns some labels of each example, at random without replacement.

    Args:
        labels: int64 (batch, max_labels), distinct in a row, padded with -1.
        bits: uint32 of their shape, random.
        count: how many; of fewer labels all.

    Returns:
        int64 (batch, at most count), padded with -1.

    Example:
        >>> bits = tf.constant([[1, 2, 3]], tf.uint32) * 2**24
        >>> drawn_labels(tf.constant([[7, 8, -1]], tf.int64), bits, 1).numpy().tolist()
        [[8]]
    """
    high = tf.cast(tf.bitwise.right_shift(bits, tf.constant(1, tf.uint32)), tf.int32)
    keys = tf.where(labels >= 0, high, -1)
    count = tf.minimum(count, tf.shape(labels)[1])
    places = tf.math.top_k(keys, count).indices
    return tf.gather(labels, places, batch_dims=1)


def columns_of(
    labels: tf.Tensor,
    drawn: tf.Tensor,
    trained: tf.Tensor,
    more: tf.Tensor | None = None,
    always: tf.Tensor | None = None,
) -> Columns:
    """Returns the columns of a step.

    Args:
        labels: int64 (batch, max_labels), all true labels, padded with -1.
        drawn: int64 (batch, some), those that count.
        trained: bool (num_labels,), which labels have training examples.
        more: int64 (batch, at least 1), other labels of each example: its own one and mined ones,
            padded with -1. One that was not trained is a column for its example alone.
        always: int64 (any,), labels that are columns of every step; None for none.

    Example:
        >>> columns = columns_of(
        ...     tf.constant([[3, 5], [4, -1]], tf.int64), tf.constant([[5], [4]], tf.int64),
        ...     tf.fill([6], True),
        ... )
        >>> columns.ids.numpy().tolist(), columns.positives.numpy().tolist()
        ([4, 5], [[1], [0]])
    """
    here = drawn if more is None else tf.concat([drawn, more], axis=1)
    everywhere = labels_everywhere(here)
    if always is not None:
        everywhere = tf.concat([always, everywhere], axis=0)
    ids = distinct_or_zero(everywhere)
    positives = tf.where(drawn >= 0, ranks_in(ids, drawn), -1)
    true = _marked(ids, labels)
    counts = _marked(ids, drawn)
    known = tf.gather(trained, ids)[None, :]
    if more is not None:
        known |= _marked(ids, more)
    return Columns(ids, positives, tf.where(true, counts, known))


def without_twins(columns: Columns, labels: tf.Tensor, groups: tf.Tensor) -> Columns:
    """Returns the columns, of which those with the text of a true label do not count as wrong.

    Args:
        columns: of a step.
        labels: int64 (batch, max_labels), all true labels, padded with -1.
        groups: int64 (num_labels,), equal for labels with the same text.

    Example:
        >>> labels = tf.constant([[0], [1]], tf.int64)
        >>> columns = columns_of(labels, labels, tf.fill([3], True))
        >>> without_twins(columns, labels, tf.constant([7, 7, 8], tf.int64)).valid.numpy().tolist()
        [[True, False], [False, True]]
    """
    of_true = tf.where(labels >= 0, tf.gather(groups, tf.maximum(labels, 0)), -1)
    of_columns = tf.gather(groups, columns.ids)
    alike = tf.reduce_any(tf.equal(of_true[:, :, None], of_columns[None, None, :]), axis=1)
    places = columns.positives
    of_positives = tf.where(places >= 0, tf.gather(columns.ids, tf.maximum(places, 0)), -1)
    counts = _marked(columns.ids, of_positives)
    return columns._replace(valid=columns.valid & (counts | ~alike))


def _marked(ids, labels):
    """Returns bool (batch, C): the columns of each example's labels, as far as there are any."""
    places = ranks_in(ids, labels)
    last = tf.cast(tf.size(ids), tf.int64) - 1
    places = tf.minimum(places, last)
    is_column = (labels >= 0) & (tf.gather(ids, places) == labels)
    rows = tf.where(is_column)
    columns = tf.gather_nd(places, rows)
    at = tf.stack([rows[:, 0], columns], axis=1)
    marked = tf.fill(tf.stack([tf.shape(labels, tf.int64)[0], last + 1]), False)
    return tf.tensor_scatter_nd_update(marked, at, tf.fill(tf.shape(at)[:1], True))
