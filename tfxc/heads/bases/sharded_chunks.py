"""Chunks of labels' weights that are sharded over the replicas of a strategy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfxc.heads.bases.label_chunks import LabelChunks, Piece
from tfxc.heads.bases.shards import ShardLayout, Shards
from tfxc.ops.distributed.cross_replica import CrossReplica
from tfxc.ops.distributed.sharded_table import ShardedTable
from tfxc.ops.fused.logit_chunks import ChunkUpdate


class ShardedChunks:
    """The table of ``LabelChunks``, of which each replica holds and updates only its own labels.

    Every chunk of one device is a ``ShardedTable``: replica r of n has the r-th of n equal ranges
    of its labels. So all have the same work, a chunk of all replicas' examples needs as much memory
    as one of a device's own did, and weights have the names, the first values and the places in
    files that they have on one device. What travels in a step are the vectors of the examples and
    their gradient, never weights or logits; with a softmax a sum per example, too.

    Args:
        strategy: a ``tf.distribute.Strategy``; build this inside its scope, in every process.
        layout: whose chunks are those of one device.
        dim: of a label's weights.
        start: function (first label, shape) -> (labels, dim), first values of a chunk, float32 or
            bfloat16.
        start_bias: first value of the biases.
        seed: of the stochastic rounding of bfloat16.

    Attributes:
        tables: a ``ShardedTable`` per chunk, and last that of the biases, whose rows are in the
            order of the replicas' columns.
        variables: the shards that are here, of all tables.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        layout: ShardLayout,
        dim: int,
        start: Callable[[int, tuple[int, int]], tf.Tensor],
        start_bias: float,
        seed: int,
    ) -> None:
        self.layout = layout
        self.dim = dim
        self.seed = seed
        self.ranges = list(layout.chunks())
        count = layout.count

        def kernel(number, begin, end):
            size = -(-(end - begin) // count)
            shape = (end - begin, dim)

            def rows(first, last):
                # A copy: a variable that begins as a slice keeps the memory of the whole.
                return tf.gather(start(begin, shape), tf.range(first, last))

            return ShardedTable(strategy, shape, size, rows, f"kernel_{number}")

        def biases(first, last):
            return tf.fill([last - first, 1], start_bias)

        self._kernels = [kernel(number, *labels) for number, labels in enumerate(self.ranges)]
        places = count * layout.columns, 1
        self._bias = ShardedTable(strategy, places, layout.columns, biases, "bias")
        self.tables = [*self._kernels, self._bias]
        self.variables = [shard for table in self.tables for shard in table.shards.values()]
        self._own = {number: self._of_replica(number) for number in self._bias.shards}

    def _of_replica(self, number):
        """Returns the ``LabelChunks`` of a replica of this process."""
        pieces = []
        for at, ((begin, _), table) in enumerate(zip(self.ranges, self._kernels, strict=True)):
            first, last = table.rows_of(number)
            if first < last:  # the last chunk may have fewer labels than there are replicas
                kernel = table.shards[number]
                place = at * self.layout.size
                pieces.append(
                    Piece(kernel, begin + first, begin + last, place, self.seed + at, first)
                )
        bias = self._bias.shards[number]
        all_labels = self.layout.num_labels
        return LabelChunks(pieces, bias, all_labels, CrossReplica())

    def step(
        self, features: tf.Tensor, labels: tf.Tensor, update: ChunkUpdate
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns a step of gradient descent on a replica, see ``heads.base.Head.fused_step``.

        Every replica scores the examples of all of them against its own labels.
        """
        cross_replica = CrossReplica()
        rows = cross_replica.gather(tf.cast(features, tf.float32))
        share = cross_replica.gather(update.share)
        labels = cross_replica.gather_labels(labels)
        own = self._own[cross_replica.number]
        parts = own.step(rows, labels, update._replace(share=share))
        losses, of_features = cross_replica.sum(list(parts))
        return cross_replica.local_rows(losses), cross_replica.local_rows(of_features)

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logits of all labels, float32 (batch, num_labels), outside of a step."""
        score = self.scores(features)
        return tf.concat([score(begin, end) for begin, end in self.ranges], axis=1)

    def scores(self, features: tf.Tensor) -> Callable[[int, int], tf.Tensor]:
        """Returns a function (begin, end) -> logits of these labels, which have to be a chunk."""
        numbers = {labels: number for number, labels in enumerate(self.ranges)}

        def score(begin, end):
            size = self._kernels[numbers[begin, end]].size
            first = numbers[begin, end] * self.layout.size
            of_shards = self._bias.on_every_shard(
                lambda number, _, x: self._columns(number, x)(first, first + size), features
            )
            rows = tf.reshape(tf.transpose(of_shards, (1, 0, 2)), [tf.shape(features)[0], -1])
            return rows[:, : end - begin]

        return score

    def search(self) -> Shards:
        """Returns a search over the labels of all replicas."""
        return Shards(self._bias, self.layout, self._columns, self.layout.size, unrolled=True)

    def _columns(self, number, features):
        """Returns a function (begin, end) -> scores of a tile of a replica's columns."""
        own = self._own[number]
        score = own.scores(features)
        pieces = {piece.place: piece for piece in own.pieces}

        def padded(begin, end):
            piece = pieces.get(begin)
            if piece is None:
                return tf.fill([tf.shape(features)[0], end - begin], -np.inf)
            missing = end - begin - (piece.end - piece.begin)
            return tf.pad(
                score(piece.begin, piece.end), [[0, 0], [0, missing]], constant_values=-np.inf
            )

        return padded

    def rows(self, begin: int, end: int) -> tf.Tensor:
        """Returns the rows of the table, float32 (end - begin, dim), gathered from the replicas."""
        parts = [
            table.gathered()[max(begin - first, 0) : end - first]
            for table, (first, last) in zip(self._kernels, self.ranges, strict=True)
            if first < end and begin < last
        ]
        return tf.concat([tf.cast(part, tf.float32) for part in parts], axis=0)

    def bias_of_labels(self) -> np.ndarray:
        """Returns all biases in the order of the labels, float32 (num_labels,)."""
        return self._bias.gathered()[self._places, 0]

    def weights(self) -> list[Any]:
        """Functions that return the weights of one device, in their order, as arrays."""
        return [*(table.gathered for table in self._kernels), self.bias_of_labels]

    def assign(self, weights: Sequence[np.ndarray]) -> None:
        """Gives every replica its part of the weights of one device."""
        for table, values in zip(self._kernels, weights, strict=False):
            table.assign(np.asarray(values))
        bias = np.zeros(self._bias.shape, np.float32)
        bias[self._places, 0] = np.asarray(weights[-1])
        self._bias.assign(bias)

    @property
    def _places(self):
        """Rows of the labels in the table of biases, int64 (num_labels,)."""
        places = np.empty(self.layout.num_labels, np.int64)
        for at, ((begin, _), table) in enumerate(zip(self.ranges, self._kernels, strict=True)):
            for number in range(self.layout.count):
                first, last = table.rows_of(number)
                place = number * self.layout.columns + at * self.layout.size
                places[begin + first : begin + last] = np.arange(place, place + last - first)
        return places
