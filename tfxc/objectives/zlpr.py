"""True columns above zero, the others below, in one loss."""

from typing import TYPE_CHECKING, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import LayerArguments
from tfxc.objectives.base import Objective, masked_logits
from tfxc.ops.losses import gather_positives, set_at_positives

if TYPE_CHECKING:
    from tfxc.ops.logit_group import LogitGroup


@keras.saving.register_keras_serializable("tfxc")
class ZLPR(Objective):
    """``log(1 + sum of exp(z) over false columns) + log(1 + sum of exp(-z) over true columns)``.

    A loss for several true columns that is not a sum over columns: it is not dominated by the many
    false ones. A column is predicted where z > 0, i.e. where its sigmoid is above one half. An
    example without a true column pulls all logits below zero.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.zeros((1, 4)), tf.constant([[2, -1]]))
        >>> round(float(ZLPR()(group)[0]), 4)  # ln 4 + ln 2
        2.0794

    Reference: Su et al. 2022, arXiv 2208.02955.
    """

    link = "sigmoid"

    def __init__(self, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(autocast=False, **kwargs)

    def call(self, group: "LogitGroup", example_index: tf.Tensor | None = None) -> tf.Tensor:
        """Returns per-example loss, (batch,)."""
        logits = masked_logits(group)
        positives = group.positives
        of_true, mask = gather_positives(logits, positives)
        of_false = set_at_positives(logits, positives, float("-inf"))
        if group.log_weights is not None:
            of_false += group.log_weights
        of_true = tf.where(mask, -of_true, float("-inf"))
        return _softplus_of_sum(of_false) + _softplus_of_sum(of_true)


def _softplus_of_sum(values):
    """Returns ``log(1 + sum exp(values))`` over the columns, (batch,); -inf is not a column."""
    largest = tf.stop_gradient(tf.maximum(tf.reduce_max(values, axis=1), 0.0))
    total = tf.reduce_sum(tf.exp(values - largest[:, None]), axis=1)
    return largest + tf.math.log(tf.exp(-largest) + total)
