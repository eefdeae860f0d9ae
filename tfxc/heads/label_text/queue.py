"""Labels of the last batches, as more wrong columns of the next one."""

import tensorflow as tf

from tfxc.heads.label_text.columns import Columns
from tfxc.ops.randomness import current_step
from tfxc.ops.search.candidates import ranks_in

WEIGHT = 0.5  # of their logits: the vectors are those of weights that have changed since


class LabelQueue:
    """Ids and vectors of the columns of the last batches; no gradient goes through them.

    A batch has its slot by the number of its step, so that several passes of a step write the same.
    There is one slot more than batches are kept: the one that the step writes is not read in it.

    Args:
        batches: how many are kept.
        capacity: the most columns that a batch has.
        dim: of the vectors.

    Attributes:
        ids: int64 (batches + 1, capacity), each at most once, -1 where there is none.
        rows: float32 (batches + 1, capacity, dim).

    Reference: Wang et al., "SimKGC", ACL 2022 ("pre-batch negatives").
    """

    def __init__(self, batches: int, capacity: int, dim: int) -> None:
        kind = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.ids = tf.Variable(
            tf.fill([batches + 1, capacity], tf.constant(-1, tf.int64)),
            trainable=False, aggregation=kind, name="queue_ids",
        )  # fmt: skip
        self.rows = tf.Variable(
            tf.zeros([batches + 1, capacity, dim]),
            trainable=False, aggregation=kind, name="queue_rows",
        )  # fmt: skip

    def wrong(
        self, columns: Columns, labels: tf.Tensor, groups: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what is kept, for the examples of a step.

        Args:
            columns: of the step, which do not count again.
            labels: int64 (batch, max_labels), all true labels, padded with -1.
            groups: int64 (num_labels,), equal for labels with the same text; None where no two
                labels have the same one.

        Returns:
            rows float32 (slots, dim), and bool (batch, slots), where one is a wrong label.
        """
        known = self._others() & (self.ids >= 0) & ~_among(self.ids, columns.ids)
        ids = tf.reshape(self.ids, [-1])
        known = tf.reshape(known, [-1])
        true = labels
        some = tf.maximum(ids, 0)
        if groups is not None:
            true = tf.where(labels >= 0, tf.gather(groups, tf.maximum(labels, 0)), -1)
            some = tf.gather(groups, some)
        right = tf.reduce_any(tf.equal(true[:, :, None], some[None, None, :]), axis=1)
        rows = tf.reshape(self.rows, [-1, self.rows.shape[-1]])
        return rows, known[None, :] & ~right

    def push(self, ids: tf.Tensor, rows: tf.Tensor, kept: tf.Tensor) -> None:
        """Keeps columns of this step instead of those of the oldest one.

        Args:
            ids: int64 (C,), ascending.
            rows: float32 (C, dim), their vectors.
            kept: bool (C,), which are kept.
        """
        empty = self.ids.shape[1] - tf.size(ids)
        older = tf.where(_among(self.ids, ids), tf.constant(-1, tf.int64), self.ids)
        here = tf.pad(tf.where(kept, ids, -1), [[0, empty]], constant_values=-1)
        self.ids.assign(tf.where(self._others(), older, here[None]))
        padded = tf.pad(tf.stop_gradient(rows), [[0, empty], [0, 0]])
        self.rows.assign(tf.where(self._others()[:, :, None], self.rows, padded[None]))

    def _others(self):
        """Returns bool (batches + 1, 1): the slots that this step does not write."""
        slots = self.ids.shape[0]
        here = tf.cast(current_step() % tf.constant(slots, tf.uint32), tf.int64)
        return tf.range(slots, dtype=tf.int64)[:, None] != here


def _among(ids, ascending):
    """Returns the bool of the shape of ``ids``: which are in the other list."""
    flat = tf.reshape(ids, [1, -1])
    places = tf.minimum(ranks_in(ascending, flat), tf.size(ascending, tf.int64) - 1)
    return tf.reshape(tf.gather(ascending, places) == flat, tf.shape(ids))
