"""Softmax over all columns in the graph, a tile of columns at a time."""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfxc.ops.search.top_k import first_tile, merged_with_tile, over_tiles

# Less than any score, and finite: the difference of two of them is 0, that of infinities is none.
LEAST = -3.0e38


def tiled_softmax(
    score_tile: Callable[..., tf.Tensor],
    num_columns: int,
    positives: tf.Tensor,
    k: int,
    tile: int,
    unrolled: bool = False,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the best k columns and what a cross-entropy needs, from one pass over the scores.

    The sum of the exponentials is kept relative to the largest score so far, so it neither
    overflows nor vanishes.

    Args:
        score_tile: function of (begin, end) int32 scalars -> float32 (batch, end - begin).
        num_columns: Python int.
        positives: int32 (batch, max_positives); what is outside 0 .. num_columns - 1 is padding.
        k: Python int, at most num_columns.
        tile: Python int, columns per tile.
        unrolled: see ``over_tiles``.

    Returns:
        ids int32 (batch, k), scores float32 (batch, k), ties to the lower id; log_sum float32
        (batch,), the logarithm of the sum of the exponentials; of_positives float32
        (batch, max_positives), their scores, 0 at padding.

    Example:
        >>> scores = tf.math.log([[1.0, 2.0, 5.0]])
        >>> found = tiled_softmax(lambda b, e: scores[:, b:e], 3, tf.constant([[1, -1]]), 1, 2)
        >>> int(found[0][0, 0]), round(float(tf.exp(found[2])[0]), 4)
        (2, 8.0)
    """

    def sums(
        begin: tf.Tensor | int,
        end: tf.Tensor | int,
        fresh: tf.Tensor,
        largest: tf.Tensor,
        total: tf.Tensor,
        of_positives: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        new = tf.maximum(largest, tf.reduce_max(fresh, axis=1))
        total *= tf.exp(largest - new)
        total += tf.reduce_sum(tf.exp(fresh - new[:, None]), axis=1)
        inside = (positives >= begin) & (positives < end)
        values = tf.gather(fresh, tf.where(inside, positives - begin, 0), batch_dims=1)
        return new, total, of_positives + tf.where(inside, values, 0.0)

    def body(
        begin: tf.Tensor, end: tf.Tensor, ids: tf.Tensor, scores: tf.Tensor, *state: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        fresh = score_tile(begin, end)
        best = merged_with_tile(ids, scores, fresh, begin, end, k)
        return *best, *sums(begin, end, fresh, *state)

    batch = tf.shape(positives)[0]
    first = first_tile(num_columns, k, tile, unrolled)
    fresh = score_tile(0, first)
    nothing = tf.fill([batch], LEAST), tf.zeros([batch]), tf.zeros(tf.shape(positives))
    state: Sequence[tf.Tensor] = sums(0, first, fresh, *nothing)
    scores, ids = tf.math.top_k(fresh, min(k, first))
    if first < num_columns:
        shapes = [tf.TensorShape([None, k])] * 2 + [value.shape for value in nothing]
        ids, scores, *state = over_tiles(
            body, (ids, scores, *state), shapes, num_columns, tile, unrolled, first
        )
    largest, total, of_positives = state
    return ids, scores, largest + tf.math.log(total), of_positives


def log_sum_and_top_k(
    score_tile: Callable[..., tf.Tensor], num_columns: int, batch: tf.Tensor, k: int, tile: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Does what ``tiled_softmax`` does, without positives, and without a loop for one tile.

    Args:
        batch: int32 scalar.
        score_tile, num_columns, k, tile: as there.

    Returns:
        ids int32 (batch, k), scores float32 (batch, k), log_sum float32 (batch,).
    """
    if num_columns > tile:
        return tiled_softmax(score_tile, num_columns, tf.fill([batch, 0], -1), k, tile)[:3]
    all_scores = score_tile(0, num_columns)
    scores, ids = tf.math.top_k(all_scores, k)
    return ids, scores, tf.reduce_logsumexp(all_scores, axis=1)


def mean_cross_entropy(log_sum: tf.Tensor, of_positives: tf.Tensor, exist: tf.Tensor) -> tf.Tensor:
    """Returns the mean over the true columns of ``log_sum - score``, (batch,); NaN without true
    columns.

    With several true columns the target is the uniform distribution over them, as in
    ``losses.softmax_cross_entropy``.

    Args:
        log_sum: float32 (batch,).
        of_positives: float32 (batch, max_positives), 0 at padding.
        exist: bool (batch, max_positives).
    """
    count = tf.reduce_sum(tf.cast(exist, tf.float32), axis=1)
    return log_sum - tf.reduce_sum(of_positives, axis=1) / tf.where(count > 0, count, math.nan)
