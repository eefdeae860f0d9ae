"""One binary decision per column."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments
from tfxc.objectives.base import masked_logits
from tfxc.objectives.bases.class_weights import ClassWeight, ClassWeighted
from tfxc.ops.losses import (
    add_at_positives,
    gather_positives,
    sigmoid_cross_entropy,
    weighted_sigmoid_cross_entropy,
)

if TYPE_CHECKING:
    from tfxc.ops.fused.logit_chunks import LogitChunks
    from tfxc.ops.logit_group import LogitGroup


class SigmoidState(NamedTuple):
    """What all chunks of a batch share.

    Attributes:
        true_weights: float32 (batch, max_positives), weights of the true columns; 1.0 for none.
        share: 1 / columns for the mean over all of them, else 1.
    """

    true_weights: tf.Tensor | float
    share: tf.Tensor


@keras.saving.register_keras_serializable("tfxc")
class Sigmoid(ClassWeighted):
    """Binary cross-entropy over the columns of a group.

    Args:
        num_labels, num_groups, columns_are_labels, class_weight, label_counts: see
            ``ClassWeighted``; the weight of a label multiplies its term where it is true, and none
            where it is not.
        reduction: ``"sum"`` over columns, or ``"mean"`` over those that count, as the MACH
            reference; an example without any has loss 0. The mean divides gradients by the number
            of columns, down to the size of Adam's epsilon where there are many; the sum does not.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.zeros((1, 4)), tf.constant([[2, -1]]))
        >>> round(float(Sigmoid()(group)[0]), 4)  # 4 ln 2
        2.7726
    """

    link = "sigmoid"
    fused = True

    def __init__(
        self,
        num_labels: FromData[int | None] = None,
        num_groups: FromData[int] = 1,
        columns_are_labels: FromData[bool] = True,
        *,
        reduction: Literal["sum", "mean"] = "sum",
        class_weight: ClassWeight = None,
        label_counts: FromData[Sequence[int] | np.ndarray | None] = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            num_labels, num_groups, columns_are_labels, class_weight, label_counts, **kwargs
        )
        self.reduction = reduction

    def call(self, group: "LogitGroup", example_index: tf.Tensor | None = None) -> tf.Tensor:
        """Returns per-example loss, (batch,)."""
        logits = masked_logits(group)
        weights = 1.0
        true_weights = self.weights_of_true(group)
        if group.log_weights is None:
            loss = sigmoid_cross_entropy(logits, group.positives)
            if true_weights is not None:
                of_positives, mask = gather_positives(logits, group.positives)
                more = (true_weights - 1) * tf.nn.softplus(-of_positives)
                loss += tf.reduce_sum(tf.where(mask, more, 0.0), axis=1)
        else:
            weights = tf.exp(group.log_weights)
            loss = weighted_sigmoid_cross_entropy(logits, group.positives, group.log_weights)
        if self.reduction == "sum":
            return loss
        if group.valid is None and group.log_weights is None:
            return loss / tf.cast(tf.shape(group.logits)[1], loss.dtype)
        valid = tf.ones_like(logits) if group.valid is None else tf.cast(group.valid, logits.dtype)
        return tf.math.divide_no_nan(loss, tf.reduce_sum(valid * weights, axis=1))

    def begin(self, chunks: "LogitChunks") -> SigmoidState:
        """Returns what a chunk does not know; no pass over the logits."""
        weights = self.weights_at(chunks.positives, chunks.num_columns)
        columns = chunks.num_columns if self.reduction == "mean" else 1
        return SigmoidState(1.0 if weights is None else weights, tf.constant(1 / columns))

    def loss_of_logits(
        self, logits: tf.Tensor, positives: tf.Tensor, state: SigmoidState
    ) -> tf.Tensor:
        """Returns the losses of the chunk's columns."""
        loss = sigmoid_cross_entropy(logits, positives)
        of_positives, mask = gather_positives(logits, positives)
        more = (state.true_weights - 1) * tf.nn.softplus(-of_positives)
        return state.share * (loss + tf.reduce_sum(tf.where(mask, more, 0.0), axis=1))

    def gradient_of_logits(
        self, logits: tf.Tensor, positives: tf.Tensor, state: SigmoidState
    ) -> tf.Tensor:
        """Returns sigmoid(z), and w (sigmoid(z) - 1) where true."""
        of_positives, _ = gather_positives(logits, positives)
        more = 1 + (state.true_weights - 1) * tf.sigmoid(-of_positives)
        gradient = add_at_positives(tf.sigmoid(logits), positives, -more)
        return gradient if self.reduction == "sum" else gradient * state.share
