"""The search of ``bucket_search.gather`` in the graph: sums of gathered bucket scores."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfxc.ops.search.top_k import tiled_top_k

_TILE_VALUES = 4_194_304  # gathered bucket scores a tile holds per example block


def sum_of(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the sum of tensors in their order, to the bit as ``gather.top_k`` adds them up."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def top_k_of_buckets(
    tables: Sequence[tf.Tensor],
    buckets_between: Callable[..., Sequence[tf.Tensor]],
    num_labels: int,
    k: int,
    combine: Callable[[list[tf.Tensor]], tf.Tensor] = sum_of,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the best k labels, exact, where a label's score joins the scores of its bucket in
    each table.

    Args:
        tables: float32 (batch, buckets) each, the scores of the buckets.
        buckets_between: function of (begin, end) int32 scalars -> for each table, int32
            (end - begin,), the buckets of these labels.
        num_labels: Python int.
        k: Python int, at most num_labels.
        combine: joins the list of a label's scores.

    Returns:
        ids int32 (batch, k), scores float32 (batch, k); ties go to the lower id.

    Example:
        >>> tables = [tf.constant([[0.0, 2.0]]), tf.constant([[1.0, 0.0]])]
        >>> lookups = tf.constant([[0, 1, 1], [1, 1, 0]])  # 3 labels
        >>> ids, _ = top_k_of_buckets(tables, lambda a, b: tf.unstack(lookups[:, a:b]), 3, k=2)
        >>> ids.numpy().tolist()
        [[2, 1]]
    """

    def score(begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        columns = buckets_between(begin, end)
        pairs = zip(tables, columns, strict=True)
        return combine([tf.gather(table, buckets, axis=1) for table, buckets in pairs])

    tile = max(1024, _TILE_VALUES // (64 * len(tables)))
    return tiled_top_k(score, num_labels, k, tile)
