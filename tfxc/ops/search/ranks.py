"""Exact ranks of labels among all, a tile of columns at a time."""

import math
from collections.abc import Callable

import tensorflow as tf

from tfxc.ops.search.top_k import over_tiles


def tiled_ranks(
    score_tile: Callable[..., tf.Tensor],
    num_columns: int,
    labels: tf.Tensor,
    excluded: tf.Tensor,
    tile: int,
    unrolled: bool = False,
) -> tf.Tensor:
    """Returns the rank of each label of an example: 1 + better columns + half of the equal ones.

    The example's other labels and its excluded columns do not count.

    Args:
        score_tile: function of (begin, end) int32 scalars -> float32 (batch, end - begin), which
            returns the same numbers again when it is called again.
        num_columns: Python int.
        labels: int32 (batch, max_labels), distinct in a row, padded with -1.
        excluded: int32 (batch, any), distinct in a row and none of the labels, padded with -1.
        tile: Python int, columns per tile.
        unrolled: see ``over_tiles``.

    Returns:
        float32 (batch, max_labels): NaN at padding, infinity for labels from ``num_columns`` on.

    Example:
        >>> scores = tf.constant([[0.9, 0.5, 0.5, 0.1]])
        >>> ranks = lambda *labels: tiled_ranks(
        ...     lambda b, e: scores[:, b:e], 4, tf.constant([labels]), tf.constant([[0]]), 3
        ... ).numpy().tolist()
        >>> ranks(1, 3), ranks(2)
        ([[1.5, 2.0]], [[1.5]])
    """
    count = tf.shape(labels)[1]
    others = tf.concat([labels, excluded], axis=1)
    known = (others >= 0) & (others < num_columns)

    def gathered(begin: tf.Tensor, end: tf.Tensor, so_far: tf.Tensor) -> tuple[tf.Tensor]:
        inside = (others >= begin) & (others < end)
        places = tf.where(inside, others - begin, 0)
        here = tf.gather(score_tile(begin, end), places, batch_dims=1)
        return (so_far + tf.where(inside, here, 0),)

    start = tf.zeros(tf.shape(others))
    open_shape = tf.TensorShape([None, None])
    (scores,) = over_tiles(gathered, (start,), [open_shape], num_columns, tile, unrolled)
    label_scores = scores[:, :count, None]

    def counted(
        begin: tf.Tensor, end: tf.Tensor, above: tf.Tensor, equal: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # Sorted, as a comparison of each label with each column would take their product of memory.
        fresh = tf.sort(score_tile(begin, end), axis=1)
        upto = tf.searchsorted(fresh, label_scores[:, :, 0], side="right")
        below = tf.searchsorted(fresh, label_scores[:, :, 0], side="left")
        more = tf.shape(fresh)[1] - upto
        same = upto - below
        return above + tf.cast(more, tf.float32), equal + tf.cast(same, tf.float32)

    start = tf.zeros(tf.shape(labels))
    above, equal = over_tiles(
        counted, (start, start), [open_shape, open_shape], num_columns, tile, unrolled
    )
    rivals = scores[:, None, :]
    exist = known[:, None, :]
    above -= _count((rivals > label_scores) & exist)
    equal -= _count(tf.equal(rivals, label_scores) & exist)  # itself, too
    ranks = tf.where(labels < num_columns, 1 + above + 0.5 * equal, math.inf)
    return tf.where(labels >= 0, ranks, math.nan)


def _count(mask: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(mask, tf.float32), axis=2)
