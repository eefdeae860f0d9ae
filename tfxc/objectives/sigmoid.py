"""One binary decision per column."""

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfxc.core.arguments import OneOf, checked
from tfxc.objectives.base import Objective, masked_logits
from tfxc.ops.losses import sigmoid_cross_entropy, weighted_sigmoid_cross_entropy

if TYPE_CHECKING:
    from tfxc.ops.logit_group import LogitGroup


@keras.saving.register_keras_serializable("tfxc")
class Sigmoid(Objective):
    """Binary cross-entropy over the columns of a group.

    Args:
        reduction: ``"sum"`` over columns, or ``"mean"`` as the MACH reference. The mean divides
            gradients by the number of columns, down to the size of Adam's epsilon where there
            are many; the sum does not.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.zeros((1, 4)), tf.constant([[2, -1]]))
        >>> round(float(Sigmoid()(group)[0]), 4)  # 4 ln 2
        2.7726
    """

    link = "sigmoid"

    @checked(reduction=OneOf("sum", "mean"))
    def __init__(self, *, reduction: str = "sum", **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.reduction = reduction

    def call(self, group: "LogitGroup", example_index: tf.Tensor | None = None) -> tf.Tensor:
        """Per-example loss, (batch,)."""
        logits, weights = masked_logits(group), 1.0
        if group.log_weights is None:
            loss = sigmoid_cross_entropy(logits, group.positives)
        else:
            weights = tf.exp(group.log_weights)
            loss = weighted_sigmoid_cross_entropy(logits, group.positives, group.log_weights)
        if self.reduction == "sum":
            return loss
        if group.valid is None and group.log_weights is None:
            return loss / tf.cast(tf.shape(group.logits)[1], loss.dtype)
        return loss / tf.reduce_sum(tf.where(logits > float("-inf"), weights, 0.0), axis=1)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "reduction": self.reduction}
