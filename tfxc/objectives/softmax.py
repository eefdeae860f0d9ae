"""One decision among all columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.arguments import SHARE_BELOW_ONE, OneOf, checked
from tfxc.objectives.base import masked_logits
from tfxc.objectives.bases.class_weights import CLASS_WEIGHT, ClassWeighted
from tfxc.ops.distributed.cross_replica import softmax_over_shards
from tfxc.ops.losses import softmax_cross_entropy

if TYPE_CHECKING:
    from tfxc.ops.logit_group import LogitGroup


@keras.saving.register_keras_serializable("tfxc")
class Softmax(ClassWeighted):
    """Softmax cross-entropy; several true columns share the target evenly.

    An example without a true column has loss 0.

    Args:
        num_labels, num_groups, columns_are_labels, class_weight, label_counts: see
            ``ClassWeighted``; the weight of a label multiplies its term.
        label_smoothing: share of the target that all columns that count get evenly (Szegedy et
            al. 2016, arXiv 1512.00567).
        reduction: over several true columns, ``"mean"`` or ``"sum"`` of their losses.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.zeros((1, 4)), tf.constant([[2, -1]]))
        >>> round(float(Softmax()(group)[0]), 4)  # ln 4
        1.3863
    """

    link = "softmax"
    over_shards = True

    @checked(
        label_smoothing=SHARE_BELOW_ONE, reduction=OneOf("mean", "sum"), class_weight=CLASS_WEIGHT
    )
    def __init__(
        self,
        num_labels: int | None = None,
        num_groups: int = 1,
        columns_are_labels: bool = True,
        *,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        class_weight: str | Sequence[float] | None = None,
        label_counts: Sequence[int] | np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_labels, num_groups, columns_are_labels, class_weight, label_counts, **kwargs
        )
        self.label_smoothing = label_smoothing
        self.reduction = reduction

    def call(self, group: "LogitGroup", example_index: tf.Tensor | None = None) -> tf.Tensor:
        """Per-example loss, (batch,)."""
        logits, positives = masked_logits(group), group.positives
        if group.cross_replica is None:
            weights = 0.0 if group.log_weights is None else group.log_weights
            loss = softmax_cross_entropy(
                logits, positives, self.label_smoothing, weights, self.weights_of_true(group)
            )
            count = tf.reduce_sum(tf.cast(positives >= 0, loss.dtype), axis=1)
        else:
            self.weights_of_true(group)  # refuses them: nobody has the weights of all columns
            arguments = logits, positives, group.cross_replica, self.label_smoothing
            loss, count = softmax_over_shards(*arguments)
        return loss if self.reduction == "mean" else loss * count

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        own = {"label_smoothing": self.label_smoothing, "reduction": self.reduction}
        return {**super().get_config(), **own}
