"""What the hinge losses share: one margin per column, masked, with costs."""

from typing import TYPE_CHECKING, Unpack

import tensorflow as tf

from tfxc.core.declared import Count, LayerArguments, NotNegative
from tfxc.objectives.base import Objective
from tfxc.ops.losses import add_at_positives, gather_positives, set_at_positives

if TYPE_CHECKING:
    from tfxc.ops.fused.logit_chunks import LogitChunks
    from tfxc.ops.logit_group import LogitGroup


class HingeObjective(Objective):
    """Mean over a group's columns of ``max(0, 1 - y z)^power`` with y = 1 where true, else -1.

    Columns that do not count are left out of the mean.

    Args:
        weighted: whether a positive costs its ``LogitGroup.counts`` times as much, e.g. a cluster
            the number of the example's labels under it.
        cost_positive, cost_negative: cost of a column that is true, and of one that is not.
        padded_columns: divide by this number of columns instead of those that count, and let each
            missing one count as a negative with logit 0: the published code does so with the
            largest number of candidates of any training example. Gradients of all examples then
            have one scale, which depends on the data set. None divides by the columns that count.

    Attributes:
        power: exponent of the hinge.

    Raises:
        ValueError: a cost below 0, or fewer than one column.

    Reference: Zhang et al., NeurIPS 2021, "Fast Multi-Resolution Transformer Fine-tuning for
    Extreme Multi-label Text Classification", arXiv 2110.00685.
    """

    link = "hinge"
    fused = True
    power: int

    def __init__(
        self,
        *,
        weighted: bool = False,
        cost_positive: NotNegative = 1.0,
        cost_negative: NotNegative = 1.0,
        padded_columns: Count | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.weighted = weighted
        self.padded_columns = padded_columns
        self.cost_positive = cost_positive
        self.cost_negative = cost_negative

    def call(self, group: "LogitGroup", example_index: tf.Tensor | None = None) -> tf.Tensor:
        """Returns per-example loss, (batch,)."""
        logits = tf.cast(group.logits, tf.float32)
        of_positives, mask = gather_positives(logits, group.positives)
        costs = self.cost_positive * tf.cast(mask, tf.float32)
        if self.weighted and group.counts is not None:
            costs *= tf.where(mask, tf.cast(group.counts, tf.float32), 0.0)
        positive = tf.reduce_sum(costs * self._hinge(1 - of_positives), axis=1)
        # All columns as negatives, 0 of those that are true or do not count: a negative with logit
        # -1 costs nothing and has no gradient.
        negatives = set_at_positives(logits, group.positives, -1.0)
        if group.valid is not None:
            negatives = tf.where(group.valid, negatives, -1.0)
        hinges = self._hinge(1 + negatives)
        if group.log_weights is not None:
            hinges *= tf.exp(group.log_weights)
        negative = tf.reduce_sum(hinges, axis=1)
        total = positive + self.cost_negative * negative
        columns = self._columns(logits, group)
        if self.padded_columns is None:
            return tf.math.divide_no_nan(total, columns)
        missing = tf.maximum(self.padded_columns - columns, 0.0)
        return (total + self.cost_negative * missing) / self.padded_columns

    def begin(self, chunks: "LogitChunks") -> tf.Tensor:
        """Returns the columns that the mean is over and those that are missing, float32 (2,)."""
        columns = chunks.num_columns
        over = self.padded_columns or columns
        missing = max(over - columns, 0) / columns  # per column, so that chunks add up
        return tf.constant([over, missing], tf.float32)

    def loss_of_logits(
        self, logits: tf.Tensor, positives: tf.Tensor, state: tf.Tensor
    ) -> tf.Tensor:
        """Costs of the chunk's columns."""
        of_positives, mask = gather_positives(logits, positives)
        true = self.cost_positive * tf.where(mask, self._hinge(1 - of_positives), 0.0)
        negative = self._hinge(1 + logits)
        negative = add_at_positives(negative, positives, -self._hinge(1 + of_positives))
        of_negatives = tf.reduce_sum(negative, axis=1) + state[1] * logits.shape[1]
        return (tf.reduce_sum(true, axis=1) + self.cost_negative * of_negatives) / state[0]

    def gradient_of_logits(
        self, logits: tf.Tensor, positives: tf.Tensor, state: tf.Tensor
    ) -> tf.Tensor:
        """Returns the slope of each column's hinge."""
        of_positives, _ = gather_positives(logits, positives)
        gradient = (self.cost_negative / state[0]) * self._slope(1 + logits)
        true = (self.cost_positive / state[0]) * self._slope(1 - of_positives)
        as_negative = (self.cost_negative / state[0]) * self._slope(1 + of_positives)
        return add_at_positives(gradient, positives, -true - as_negative)

    def _slope(self, distance):
        if self.power == 1:
            return tf.cast(distance > 0, tf.float32)
        return 2 * tf.nn.relu(distance)

    def _columns(self, logits, group):
        """Returns how many columns count, (batch,) or a scalar."""
        weights = 1.0 if group.log_weights is None else tf.exp(group.log_weights)
        valid = tf.ones_like(logits) if group.valid is None else tf.cast(group.valid, tf.float32)
        return tf.reduce_sum(valid * weights, axis=1)

    def _hinge(self, distance):
        distance = tf.nn.relu(distance)
        return distance if self.power == 1 else tf.square(distance)
