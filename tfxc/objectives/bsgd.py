"""BSGD: the softmax over the classes of the batch, uncorrected."""

from typing import TYPE_CHECKING, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import LayerArguments
from tfxc.objectives.base import Objective
from tfxc.objectives.bases.dual import negatives_of

if TYPE_CHECKING:
    from tfxc.ops.logit_group import LogitGroup


@keras.saving.register_keras_serializable("tfxc")
class BSGD(Objective):
    """``log sum_k exp(s_k)`` over the negatives of the true column, as if they were all there are.

    Here s is the logit minus the true one. It has no dual variable, and the bias that the dual
    methods remove. ``softmax`` is the same with the true column inside the sum. Several true
    columns share the target evenly, none of them is a negative; an example without a true column or
    without a negative has loss 0.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.zeros((1, 4)), tf.constant([[2, -1]]))
        >>> round(float(BSGD()(group)[0]), 4)  # ln 3
        1.0986

    Reference: Hu et al., NeurIPS 2020 (arXiv 2002.10790), as compared in arXiv 2602.02877.
    """

    link = "softmax"
    partial_loss = True

    def __init__(self, **kwargs: Unpack[LayerArguments]) -> None:
        super().__init__(autocast=False, **kwargs)

    def call(self, group: "LogitGroup", example_index: tf.Tensor | None = None) -> tf.Tensor:
        """Returns per-example loss, (batch,)."""
        negatives = negatives_of(group)
        loss = tf.reduce_logsumexp(negatives.scores + negatives.log_weights, axis=1)
        return tf.where(negatives.exist, loss, 0.0)
