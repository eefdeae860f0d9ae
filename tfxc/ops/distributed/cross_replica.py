"""Columns of a logit group that are sharded over the replicas of a strategy."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfxc.ops.losses import gather_positives


class CrossReplica(NamedTuple):
    """What the replicas of one step exchange if each holds some of the columns.

    Every replica scores the examples of all replicas against its own columns. All methods take
    part in a collective operation: each replica has to call them in the same order. It is an
    empty tuple, which Keras lets pass between layers, and represents the replica that runs.
    """

    @property
    def _context(self) -> tf.distribute.ReplicaContext:
        return tf.distribute.get_replica_context()

    @property
    def number(self) -> int:
        """Number of this replica, a Python int."""
        return replica_number(self._context)

    @property
    def count(self) -> int:  # type: ignore[override]  # no tuple's ``count``: it is empty
        """Number of replicas."""
        return self._context.num_replicas_in_sync

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the rows of all replicas, which have equally many each, float (count · batch,
        dim).
        """

        @tf.custom_gradient
        def gathered(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            def gradient(upstream: tf.Tensor) -> tf.Tensor:
                return self.local_rows(self._context.all_reduce("SUM", upstream))

            return self._context.all_gather(values, axis=0), gradient

        return gathered(rows)

    def gather_labels(self, labels: tf.Tensor) -> tf.Tensor:
        """Gathers padded label rows of all replicas, int64 (count · batch, longest row)."""
        lengths = tf.fill(tf.shape(labels)[:1], tf.shape(labels, tf.int64)[1])
        flat = self._context.all_gather(tf.reshape(labels, [-1]), axis=0)
        lengths = self._context.all_gather(lengths, axis=0)
        return tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False).to_tensor(-1)

    def sum(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns sums of a list of tensors over the replicas; gradients flow to all of them."""
        return self._context.all_reduce("SUM", tensors)

    def max(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the largest values of a vector over the replicas, without a gradient."""
        return tf.reduce_max(self._context.all_gather(tf.stop_gradient(values)[None], 0), axis=0)

    def local_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the part of all replicas' rows that this replica has brought."""
        size = tf.shape(rows)[0] // self.count
        return rows[self.number * size : (self.number + 1) * size]


def replica_number(context: tf.distribute.ReplicaContext) -> int:
    """Returns a replica's number as a Python int."""
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def labels_everywhere(labels: tf.Tensor) -> tf.Tensor:
    """Returns the labels of all replicas of the running step as a vector, with padding.

    Args:
        labels: int32 (batch, max_labels) of this replica.
    """
    return rows_everywhere(tf.reshape(labels, [-1]))


def rows_everywhere(rows: tf.Tensor) -> tf.Tensor:
    """Returns the rows of all replicas of the running step, without a gradient."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return rows
    return context.all_gather(rows, axis=0)


def softmax_over_shards(
    logits: tf.Tensor,
    positives: tf.Tensor,
    cross_replica: CrossReplica,
    label_smoothing: float = 0.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes ``ops.losses.softmax_cross_entropy`` where each replica has some columns.

    Args:
        logits: float (examples of all replicas, own columns); -inf marks a column that does not
            count.
        positives: int32 (examples of all replicas, max_positives), own columns.
        cross_replica: ``CrossReplica``.
        label_smoothing: as there.

    Returns:
        losses and numbers of true columns of the replica's own examples, both float (batch,).
    """
    of_positives, mask = gather_positives(logits, positives)
    highest = cross_replica.max(tf.reduce_max(logits, axis=1))
    counts = logits > float("-inf")
    parts = [
        tf.reduce_sum(tf.exp(logits - highest[:, None]), axis=1),
        tf.reduce_sum(of_positives, axis=1),
        tf.reduce_sum(tf.cast(mask, logits.dtype), axis=1),
    ]
    if label_smoothing:
        parts.append(tf.reduce_sum(tf.where(counts, logits, 0.0), axis=1))
        parts.append(tf.reduce_sum(tf.cast(counts, logits.dtype), axis=1))
    total, true, number, *of_all = [
        cross_replica.local_rows(part) for part in cross_replica.sum(parts)
    ]
    mean = tf.math.divide_no_nan(true, number)
    if label_smoothing:
        mean += label_smoothing * (of_all[0] / of_all[1] - mean)
    loss = tf.math.log(total) + cross_replica.local_rows(highest) - mean
    return tf.where(number > 0, loss, 0.0), number
