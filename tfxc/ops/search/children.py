"""Candidates of a batch in a tree whose nodes have any children: those of chosen parents."""

import tensorflow as tf

from tfxc.ops.losses import distinct_positives
from tfxc.ops.search.candidates import Candidates, find


def distinct_with_counts(nodes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The distinct nodes of each row, and how often each occurs.

    Args:
        nodes: int32 (batch, n) padded with -1.

    Returns:
        int32 (batch, n) distinct nodes, descending, -1 in between and at the end; float32 (batch,
        n).

    Example:
        >>> nodes, counts = distinct_with_counts(tf.constant([[3, 1, 3, -1]]))
        >>> nodes.numpy().tolist(), counts.numpy().tolist()
        ([[3, -1, 1, -1]], [[2.0, 2.0, 1.0, 1.0]])
    """
    ordered = tf.sort(nodes, axis=1, direction="DESCENDING")
    same = ordered[:, :, None] == ordered[:, None, :]
    return distinct_positives(nodes), tf.reduce_sum(tf.cast(same, tf.float32), axis=2)


def union(*parts: tf.Tensor) -> tf.Tensor:
    """The distinct nodes of several lists in each row, only as wide as the batch needs.

    Args:
        parts: int32 (batch, n) padded with -1.

    Returns:
        int32 (batch, at least 1), descending, padded with -1 at the end.

    Example:
        >>> union(tf.constant([[3, -1], [1, 1]]), tf.constant([[2], [1]])).numpy().tolist()
        [[3, 2], [1, -1]]
    """
    nodes = distinct_positives(tf.concat(parts, axis=1))
    nodes = tf.sort(nodes, axis=1, direction="DESCENDING")
    widest = tf.reduce_max(tf.reduce_sum(tf.cast(nodes >= 0, tf.int32), axis=1))
    return nodes[:, : tf.maximum(widest, 1)]


def family_candidates(
    parents: tf.Tensor,
    positives: tf.Tensor,
    positive_parents: tf.Tensor,
    children: tf.Tensor,
    ranks: tf.Tensor,
) -> Candidates:
    """The children of chosen parents, and every positive.

    Args:
        parents: int32 (batch, count), distinct, -1 for none.
        positives: int32 (batch, max_positives), distinct nodes padded with -1.
        positive_parents: int32 (batch, max_positives), their parents.
        children: int32 (nodes above, most), see ``labels.tree_shape.family_table``.
        ranks: int32 (nodes,), the same.

    Returns:
        ``Candidates`` with ``count * most`` slots, parent by parent, and after them those of the
        positives whose parent is not chosen.

    Example:
        >>> children, ranks = tf.constant([[0, 2], [1, -1]]), tf.constant([0, 0, 1])
        >>> found = family_candidates(
        ...     tf.constant([[0]]), tf.constant([[2, 1]]), tf.constant([[0, 1]]), children, ranks
        ... )
        >>> found.nodes.numpy().tolist(), found.positives.numpy().tolist()
        ([[0, 2, 1]], [[1, 2]])
    """
    most, true = children.shape[1], positives >= 0
    slots = tf.shape(parents)[1] * most
    nodes = tf.where(parents[:, :, None] >= 0, tf.gather(children, tf.maximum(parents, 0)), -1)
    nodes = tf.reshape(nodes, [-1, slots])
    place, here = find(positive_parents, parents, true)
    columns = place * most + tf.gather(ranks, tf.maximum(positives, 0))
    missing = true & ~here
    order = tf.cumsum(tf.cast(missing, tf.int32), axis=1)
    columns = tf.where(here, columns, tf.where(missing, slots + order - 1, -1))
    first = tf.argsort(tf.where(missing, 0, 1), axis=1, stable=True)
    behind = tf.gather(tf.where(missing, positives, -1), first, batch_dims=1)
    behind = behind[:, : tf.reduce_max(order[:, -1])]
    nodes = tf.concat([nodes, behind], axis=1)
    return Candidates(nodes, nodes >= 0, columns)
