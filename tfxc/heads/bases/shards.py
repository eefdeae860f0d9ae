"""Searches over weights of labels that are sharded over the replicas."""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfxc.ops.distributed.sharded_table import ShardedTable
from tfxc.ops.search.tiled_softmax import mean_cross_entropy, tiled_softmax
from tfxc.ops.search.top_k import merge_top_k, tiled_top_k


class ShardLayout:
    """Which labels a replica has: an equal range of each chunk of labels, in their order.

    Of a chunk of c labels, replica r of n has those from ``r · ceil(c / n)`` on. Its columns are
    those ranges one after the other, each with room for as many labels as the first one.

    Args:
        num_labels: of all replicas.
        chunk: labels of a chunk; the last one may have fewer.
        count: number of replicas.

    Attributes:
        size: columns of a chunk.
        columns: of a replica; the last ones may have no label.

    Example:
        >>> layout = ShardLayout(7, chunk=4, count=2)
        >>> layout.size, layout.columns, [layout.labels(r, tf.range(4)).numpy().tolist()
        ...                               for r in range(2)]
        (2, 4, [[0, 1, 4, 5], [2, 3, 6, 7]])
        >>> layout.columns_of(1, tf.constant([3, 0, 6, -1])).numpy().tolist()
        [1, -1, 2, -1]
    """

    def __init__(self, num_labels: int, chunk: int, count: int) -> None:
        self.num_labels = num_labels
        self.chunk = chunk
        self.count = count
        self.size = -(-chunk // count)
        self._last, of_last = divmod(num_labels - 1, chunk)
        self._last_size = -(-(of_last + 1) // count)
        self.columns = self._last * self.size + self._last_size

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yields first label of each chunk and the one after its last."""
        for begin in range(0, self.num_labels, self.chunk):
            yield begin, min(begin + self.chunk, self.num_labels)

    def labels(self, number: int, columns: tf.Tensor) -> tf.Tensor:
        """Returns the labels of columns of replica ``number``; without meaning where there is
        none.
        """
        chunk = columns // self.size
        return columns + chunk * (self.chunk - self.size) + number * self._size_of(chunk)

    def columns_of(self, number: int, labels: tf.Tensor) -> tf.Tensor:
        """Returns where replica ``number`` has labels; -1 where it has not, and at padding."""
        chunk = labels // self.chunk
        size = self._size_of(chunk)
        place = labels - chunk * self.chunk - number * size
        own = (labels >= 0) & (labels < self.num_labels) & (place >= 0) & (place < size)
        return tf.where(own, chunk * self.size + place, -1)

    def _size_of(self, chunk):
        most, of_last = (tf.constant(n, chunk.dtype) for n in (self.size, self._last_size))
        return tf.where(chunk < self._last, most, of_last)


class Shards:
    """The labels of all replicas, searched side by side.

    Args:
        table: one of the tables that are sharded so.
        layout: which labels are where.
        scores: function (replica number, features) -> function (begin, end) -> float32 (batch,
            end - begin) of these columns, -inf where there is no label.
        tile: columns scored at a time.
        unrolled: see ``ops.search.top_k.over_tiles``.
    """

    def __init__(
        self,
        table: ShardedTable,
        layout: ShardLayout,
        scores: Callable[[int, tf.Tensor], Callable[..., tf.Tensor]],
        tile: int,
        unrolled: bool = False,
    ) -> None:
        self._table = table
        self._layout = layout
        self._scores = scores
        self._tiles: tuple[int, bool] = tile, unrolled

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the best k labels; arguments and results of ``heads.base.Head.top_k``."""
        columns = self._layout.columns
        layout = self._layout

        def of_shard(number, _, features):
            score = self._scores(number, features)
            ids, scores = tiled_top_k(score, columns, min(k, columns), *self._tiles)
            return layout.labels(number, ids), scores

        return merge_top_k(*by_label(*self._table.on_every_shard(of_shard, features)), k)

    def top_k_and_loss(
        self, features: tf.Tensor, labels: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the best k labels and the loss over all; as
        ``heads.base.Head.top_k_and_loss``.
        """
        columns = self._layout.columns
        layout = self._layout

        def of_shard(number, _, features, labels):
            score = self._scores(number, features)
            own = layout.columns_of(number, labels)
            ids, *rest = tiled_softmax(score, columns, own, min(k, columns), *self._tiles)
            return layout.labels(number, ids), *rest

        of_shards: Any = self._table.on_every_shard(of_shard, features, labels)
        ids, scores, log_sums, of_true = of_shards
        log_sum = tf.reduce_logsumexp(log_sums, axis=0)
        of_true = tf.reduce_sum(of_true, axis=0)
        best = merge_top_k(*by_label(ids, scores), k)
        return *best, mean_cross_entropy(log_sum, of_true, labels >= 0)


def by_label(ids: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what shards have found as one part, sorted by label, so that ties go to the lower
    one.

    Args:
        ids: int32 (shards, batch, n).
        scores: float32 of that shape.

    Returns:
        Both as (1, batch, shards · n).
    """
    batch = tf.shape(ids)[1]
    ids, scores = (tf.reshape(tf.transpose(x, (1, 0, 2)), [batch, -1]) for x in (ids, scores))
    order = tf.argsort(ids, axis=1)
    ids, scores = (tf.gather(x, order, batch_dims=1) for x in (ids, scores))
    return ids[None], scores[None]
