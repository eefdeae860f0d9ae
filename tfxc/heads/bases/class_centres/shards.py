"""Searches over class centres that are sharded over the replicas."""

from typing import TYPE_CHECKING

import tensorflow as tf

from tfxc.ops.search.tiled_softmax import mean_cross_entropy, tiled_softmax
from tfxc.ops.search.top_k import merge_top_k, tiled_top_k

if TYPE_CHECKING:
    from tfxc.heads.bases.class_centres.head import ClassCentres


class Shards:
    """The shards of a built ``ClassCentres`` head, searched side by side.

    Args:
        head: a head whose ``sharded_table`` has ``size`` labels per shard.
        size: labels of a shard; the last may have fewer.
        tile: labels scored at a time.
    """

    def __init__(self, head: "ClassCentres", size: int, tile: int) -> None:
        self.head, self.size, self.tile = head, size, tile
        assert head.sharded_table is not None
        self._table = head.sharded_table

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Best k labels by cosine."""

        def of_shard(number, centres, features):
            score, batch = self._scores(number, centres, features), tf.shape(features)[0]
            ids, scores = tiled_top_k(score, self.size, batch, min(k, self.size), self.tile)
            return ids + number * self.size, scores

        ids, scores = self._table.on_every_shard(of_shard, features)
        return merge_top_k(ids, scores, k)

    def top_k_and_loss(
        self, features: tf.Tensor, labels: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Best k labels, and the loss over the labels of all shards."""

        def of_shard(number, centres, features, labels):
            score = self._scores(number, centres, features)
            own = tf.where(labels >= 0, labels - number * self.size, -1)
            ids, *rest = tiled_softmax(score, self.size, own, min(k, self.size), self.tile)
            return ids + number * self.size, *rest

        found = self._table.on_every_shard(of_shard, features, labels)
        ids, scores, log_sums, of_true = found
        log_sum, of_true = tf.reduce_logsumexp(log_sums, axis=0), tf.reduce_sum(of_true, axis=0)
        return *merge_top_k(ids, scores, k), mean_cross_entropy(log_sum, of_true, labels >= 0)

    def _scores(self, number, centres, features):
        """Function that scores a range of a shard's labels; rows beyond the last come last."""
        score = self.head.tile_scores(features, centres)
        known = min(self.size, self.head.num_labels - number * self.size)
        if known == self.size:
            return score
        return lambda begin, end: tf.where(
            tf.range(begin, end) < known, score(begin, end), float("-inf")
        )
