"""One decision among all columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments, ShareBelowOne
from tfxc.objectives.base import masked_logits
from tfxc.objectives.bases.class_weights import ClassWeight, ClassWeighted
from tfxc.ops.distributed.cross_replica import softmax_over_shards
from tfxc.ops.losses import add_at_positives, gather_positives, softmax_cross_entropy
from tfxc.ops.search.tiled_softmax import LEAST

if TYPE_CHECKING:
    from tfxc.ops.fused.logit_chunks import LogitChunks
    from tfxc.ops.logit_group import LogitGroup


class SoftmaxState(NamedTuple):
    """What all chunks of a batch share.

    Attributes:
        log_sum: float32 (batch,), logarithm of the sum of the exponentials of all columns.
        shares: float32 (batch, max_positives), factors of the true columns' terms, 0 at padding.
        smoothed: the target that smoothing gives each column.
    """

    log_sum: tf.Tensor
    shares: tf.Tensor
    smoothed: tf.Tensor


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
    fused = True

    def __init__(
        self,
        num_labels: FromData[int | None] = None,
        num_groups: FromData[int] = 1,
        columns_are_labels: FromData[bool] = True,
        *,
        label_smoothing: ShareBelowOne = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
        class_weight: ClassWeight = None,
        label_counts: FromData[Sequence[int] | np.ndarray | None] = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(
            num_labels, num_groups, columns_are_labels, class_weight, label_counts, **kwargs
        )
        self.label_smoothing = label_smoothing
        self.reduction = reduction

    def call(self, group: "LogitGroup", example_index: tf.Tensor | None = None) -> tf.Tensor:
        """Returns per-example loss, (batch,)."""
        logits = masked_logits(group)
        positives = group.positives
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

    def begin(self, chunks: "LogitChunks") -> SoftmaxState:
        """Returns the logarithm of the sum over all columns, from one pass over their logits."""
        positives = chunks.positives
        shares = tf.cast(positives >= 0, tf.float32)
        count = tf.reduce_sum(shares, axis=1, keepdims=True)
        weights = self.weights_at(positives, chunks.num_columns)
        shares = shares if weights is None else shares * weights
        if self.reduction == "mean":
            shares = tf.math.divide_no_nan(shares, count)
        rows = tf.shape(positives)[0]
        start = tf.fill([rows], LEAST), tf.zeros([rows])
        largest, total = chunks.fold(_more_columns, start)
        smoothed = self.label_smoothing / chunks.num_columns
        return SoftmaxState(chunks.log_sum(largest, total), shares, tf.constant(smoothed))

    def loss_of_logits(
        self, logits: tf.Tensor, positives: tf.Tensor, state: SoftmaxState
    ) -> tf.Tensor:
        """Returns the terms of the chunk's true columns, and of all its columns what smoothing
        adds.
        """
        of_positives, mask = gather_positives(logits, positives)
        terms = state.shares * (state.log_sum[:, None] - of_positives)
        loss = tf.reduce_sum(tf.where(mask, terms, 0.0), axis=1)
        if not self.label_smoothing:
            return loss
        of_all = state.log_sum * logits.shape[1] - tf.reduce_sum(logits, axis=1)
        more = state.smoothed * tf.reduce_sum(state.shares, axis=1) * of_all
        return (1 - self.label_smoothing) * loss + more

    def gradient_of_logits(
        self, logits: tf.Tensor, positives: tf.Tensor, state: SoftmaxState
    ) -> tf.Tensor:
        """Returns the probabilities minus the target, times the sum of the true columns'
        weights.
        """
        total = tf.reduce_sum(state.shares, axis=1)
        # exp(z - log sum + log total) is 0 for examples without a true column: their total is 0.
        gradient = tf.exp(logits + (tf.math.log(total) - state.log_sum)[:, None])
        if self.label_smoothing:
            gradient -= (state.smoothed * total)[:, None]
        return add_at_positives(gradient, positives, (self.label_smoothing - 1) * state.shares)


def _more_columns(state, logits, _positives):
    """Returns the largest logit so far and the sum of the exponentials relative to it, with a chunk
    more.
    """
    largest, total = state
    new = tf.maximum(largest, tf.reduce_max(logits, axis=1))
    total *= tf.exp(largest - new)
    return new, total + tf.reduce_sum(tf.exp(logits - new[:, None]), axis=1)
