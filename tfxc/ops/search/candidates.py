"""Candidate columns of a batch: each example's own choice, with all its true ones in it."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfxc.ops.losses import distinct_positives


class Candidates(NamedTuple):
    """Candidates of each example.

    Attributes:
        nodes: int64 (batch, slots), distinct in a row where ``valid``.
        valid: bool (batch, slots), False where a slot is empty.
        positives: int64 (batch, max_positives), slots of the true nodes, padded with -1.
    """

    nodes: Any
    valid: Any
    positives: Any


def best_columns(scores: tf.Tensor, positives: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the columns of the best scores, the true ones first.

    Args:
        scores: float32 (batch, columns), at most 0; -inf marks a column that does not count.
        positives: int64 (batch, max_positives), distinct columns padded with -1.
        count: columns to choose, at most all.

    Returns:
        int64 (batch, count), distinct; -1 where no column is left.

    Example:
        >>> scores = tf.math.log([[0.9, 0.2, 0.6]])
        >>> best_columns(scores, tf.constant([[1]]), 2).numpy().tolist()
        [[1, 0]]
    """
    _, columns = _true_places(positives, positives >= 0)
    true_scores = 1 + 1 / (1 - tf.gather_nd(scores, columns))  # in the same order, but above 0
    keys = tf.tensor_scatter_nd_update(scores, columns, true_scores)
    keys, chosen = tf.math.top_k(keys, count)
    return tf.where(keys > float("-inf"), chosen, -1)


def take(values: tf.Tensor, columns: tf.Tensor, empty: float) -> tf.Tensor:
    """Returns ``values`` of each row at its columns; ``empty`` where a column is -1."""
    taken = tf.gather(values, tf.maximum(columns, 0), batch_dims=1)
    return tf.where(columns >= 0, taken, tf.constant(empty, taken.dtype))


def sample_with_true(bits: tf.Tensor, true: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the true columns of each row first, then others at random without replacement.

    Args:
        bits: uint32 (batch, columns), random.
        true: int64 (batch, max_true), distinct columns padded with -1.
        count: columns to choose of all.

    Returns:
        chosen int64 (batch, width), distinct, where width is ``count``, or the largest number of
        true columns if that is larger; counts int64 (batch,), how many of a row's first ones
        count: ``count``, or its own true ones if they are more.
    """
    keys = tf.cast(tf.bitwise.right_shift(bits, tf.constant(2, tf.uint32)), tf.int32)
    _, places = _true_places(true, true >= 0)
    keys = tf.tensor_scatter_nd_add(keys, places, tf.fill(tf.shape(places)[:1], 1 << 30))
    counts = tf.reduce_sum(tf.cast(true >= 0, true.dtype), axis=1)
    counts = tf.maximum(counts, tf.constant(count, counts.dtype))
    width = count if true.shape[1] in (0, 1) else tf.cast(tf.reduce_max(counts), tf.int32)
    return tf.cast(tf.math.top_k(keys, width).indices, true.dtype), counts


def children_with_positives(
    parents: tf.Tensor, positives: tf.Tensor, size: int, num_nodes: int
) -> "Candidates":
    """Returns the children of the candidate parents, and every positive among them.

    The children of node n are ``n·size .. n·size + size − 1``. A positive whose parent is no
    candidate takes the place of the first candidate that is not true; if there are more positives
    than slots, slots are added.

    Args:
        parents: int64 (batch, count), distinct, -1 for none.
        positives: int64 (batch, max_positives), distinct nodes padded with -1.
        size: children of a node.
        num_nodes: children from here on do not exist.

    Returns:
        ``Candidates`` with ``max(count·size, max_positives)`` slots, parent by parent.

    Example:
        >>> found = children_with_positives(tf.constant([[0]]), tf.constant([[0, 5]]), 2, 6)
        >>> found.nodes.numpy().tolist(), found.positives.numpy().tolist()
        ([[0, 5]], [[0, 1]])
    """
    children = parents[:, :, None] * size + tf.range(size, dtype=parents.dtype)
    valid = (parents >= 0)[:, :, None] & (children < num_nodes)
    nodes, valid = (_slots(part, positives) for part in (children, valid))
    true = positives >= 0
    place, here = find(positives // size, parents, true)
    columns = tf.where(here, place * size + positives % size, -1)
    _, taken = _true_places(columns, here)
    taken = tf.scatter_nd(taken, tf.ones_like(taken[:, 0]), tf.shape(nodes, taken.dtype))
    missing = true & ~here
    rank = tf.cumsum(tf.cast(missing, positives.dtype), axis=1)
    # The slot of the r-th missing positive is the first with r untaken ones up to it.
    untaken = tf.cumsum(1 - taken, axis=1)
    slots = tf.searchsorted(untaken, tf.maximum(rank, 1), out_type=tf.int64)
    columns = tf.where(missing, tf.cast(slots, columns.dtype), columns)
    places, written = _true_places(columns, missing)
    nodes = tf.tensor_scatter_nd_update(nodes, written, tf.gather_nd(positives, places))
    valid = tf.tensor_scatter_nd_update(valid, written, tf.ones_like(written[:, 0], tf.bool))
    return Candidates(nodes, valid, columns)


def find(wanted: tf.Tensor, listed: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Says where each row's wanted values are in its list.

    Args:
        wanted: int64 (batch, wanted).
        listed: int64 (batch, listed), distinct where not -1.
        mask: bool (batch, wanted), False where nothing is wanted.

    Returns:
        place int64 (batch, wanted), 0 where not found; found bool (batch, wanted).
    """
    listed = tf.cast(listed, wanted.dtype)
    same = (wanted[:, :, None] == listed[:, None, :]) & mask[:, :, None]
    return tf.argmax(same, axis=2, output_type=wanted.dtype), tf.reduce_any(same, axis=2)


def _slots(parts: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
    """Reshapes (batch, count, size) to (batch, slots), as many slots as positives at least."""
    empty = tf.constant(False if parts.dtype == tf.bool else -1, parts.dtype)
    slots = parts.shape[1] * parts.shape[2]
    parts = tf.reshape(parts, [tf.shape(parts)[0], slots])
    extra = tf.maximum(0, tf.shape(positives)[1] - slots)
    return tf.pad(parts, [[0, 0], [0, extra]], constant_values=empty)


def _true_places(columns: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the index pairs of the entries where the mask holds: into ``columns``, and (row,
    column).
    """
    places = tf.cast(tf.where(mask), columns.dtype)
    return places, tf.stack([places[:, 0], tf.gather_nd(columns, places)], axis=1)


def distinct(numbers: tf.Tensor) -> tf.Tensor:
    """Returns the distinct non-negative numbers of a vector, ascending."""
    return tf.sort(tf.unique(tf.boolean_mask(numbers, numbers >= 0)).y)


def distinct_or_zero(numbers: tf.Tensor) -> tf.Tensor:
    """As ``distinct``, but the number 0 where there is none: a softmax needs a column.

    Example:
        >>> [distinct_or_zero(tf.constant(n)).numpy().tolist() for n in ([5, -1, 2, 5], [-1, -1])]
        [[2, 5], [0]]
    """
    # Padding becomes a number that is there, so that it has not to be sorted out before.
    some = tf.maximum(tf.reduce_max(numbers), 0)
    return tf.sort(tf.unique(tf.where(numbers >= 0, numbers, some)).y)


def ranks_in(ordered: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Returns places of a matrix of numbers within an ordered vector that holds them, int64."""
    wanted = tf.cast(tf.reshape(numbers, [-1]), ordered.dtype)
    return tf.reshape(tf.searchsorted(ordered, wanted, out_type=tf.int64), tf.shape(numbers))


def distinct_with_counts(nodes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the distinct nodes of each row, and how often each occurs.

    Args:
        nodes: int64 (batch, n) padded with -1.

    Returns:
        int64 (batch, n) distinct nodes, descending, -1 in between and at the end; float32 (batch,
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
    """Returns the distinct nodes of several lists in each row, only as wide as the batch needs.

    Args:
        parts: int64 (batch, n) padded with -1.

    Returns:
        int64 (batch, at least 1), descending, padded with -1 at the end.

    Example:
        >>> union(tf.constant([[3, -1], [1, 1]]), tf.constant([[2], [1]])).numpy().tolist()
        [[3, 2], [1, -1]]
    """
    nodes = distinct_positives(tf.concat(parts, axis=1))
    nodes = tf.sort(nodes, axis=1, direction="DESCENDING")
    widest = tf.reduce_max(tf.reduce_sum(tf.cast(nodes >= 0, nodes.dtype), axis=1))
    return nodes[:, : tf.maximum(widest, 1)]


def children_candidates(
    parents: tf.Tensor,
    positives: tf.Tensor,
    positive_parents: tf.Tensor,
    children: tf.Tensor,
    ranks: tf.Tensor,
) -> Candidates:
    """Returns the children of chosen parents, and every positive.

    Args:
        parents: int64 (batch, count), distinct, -1 for none.
        positives: int64 (batch, max_positives), distinct nodes padded with -1.
        positive_parents: int64 (batch, max_positives), their parents.
        children: int32 (nodes above, most), see ``labels.tree_shape.children_table``.
        ranks: int32 (nodes,), the same.

    Returns:
        ``Candidates`` with ``count * most`` slots, parent by parent, and after them those of the
        positives whose parent is not chosen.

    Example:
        >>> children, ranks = tf.constant([[0, 2], [1, -1]]), tf.constant([0, 0, 1])
        >>> found = children_candidates(
        ...     tf.constant([[0]]), tf.constant([[2, 1]]), tf.constant([[0, 1]]), children, ranks
        ... )
        >>> found.nodes.numpy().tolist(), found.positives.numpy().tolist()
        ([[0, 2, 1]], [[1, 2]])
    """
    most = children.shape[1]
    true = positives >= 0
    slots = tf.shape(parents)[1] * most
    below = tf.cast(tf.gather(children, tf.maximum(parents, 0)), parents.dtype)
    nodes = tf.where(parents[:, :, None] >= 0, below, -1)
    nodes = tf.reshape(nodes, [-1, slots])
    place, here = find(positive_parents, parents, true)
    columns = place * most + tf.cast(tf.gather(ranks, tf.maximum(positives, 0)), place.dtype)
    missing = true & ~here
    order = tf.cumsum(tf.cast(missing, positives.dtype), axis=1)
    behind = tf.cast(slots, order.dtype) + order - 1
    columns = tf.where(here, columns, tf.where(missing, behind, -1))
    first = tf.argsort(tf.where(missing, 0, 1), axis=1, stable=True)
    behind = tf.gather(tf.where(missing, positives, -1), first, batch_dims=1)
    behind = behind[:, : tf.reduce_max(order[:, -1])]
    nodes = tf.concat([nodes, behind], axis=1)
    return Candidates(nodes, nodes >= 0, columns)
