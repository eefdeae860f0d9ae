"""One decision for each true column, against the columns that are not true."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Unpack

import keras
import numpy as np
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments
from tfxc.objectives.base import masked_logits
from tfxc.objectives.bases.class_weights import ClassWeight, ClassWeighted
from tfxc.ops.losses import add_at_positives, gather_positives, set_at_positives
from tfxc.ops.search.tiled_softmax import LEAST

if TYPE_CHECKING:
    from tfxc.ops.fused.logit_chunks import LogitChunks
    from tfxc.ops.logit_group import LogitGroup


class DecoupledState(NamedTuple):
    """What all chunks of a batch share.

    Attributes:
        log_sum: float32 (batch,), logarithm of the sum of the exponentials of the columns that are
            not true; -inf where there is none.
        shares: float32 (batch, max_positives), factors of the true columns' terms, 0 at padding.
        total: float32 (batch,), derivative of the loss with respect to ``log_sum``.
    """

    log_sum: tf.Tensor
    shares: tf.Tensor
    total: tf.Tensor


@keras.saving.register_keras_serializable("tfxc")
class DecoupledSoftmax(ClassWeighted):
    """Softmax cross-entropy of each true column against those that are not true.

    ``mean over the true columns p of log(1 + exp(LSE - z_p))`` with ``LSE = log sum exp z_n`` over
    the columns n that are not true. True columns do not compete: the softmax over all columns
    lowers the logit of a true column once its probability exceeds one over their number. With one
    true column both are the same. An example without a true column, or with true ones only, has
    loss 0.

    Args:
        num_labels, num_groups, columns_are_labels, class_weight, label_counts: see
            ``ClassWeighted``; the weight of a label multiplies its term.
        reduction: over several true columns, ``"mean"`` or ``"sum"`` of their losses.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.constant([[2.0, 0, 1, -1]]), tf.constant([[0, 2]]))
        >>> round(float(DecoupledSoftmax()(group)[0]), 4)
        0.2887

    Reference: Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024,
    arXiv 2310.10636.
    """

    link = "softmax"
    fused = True

    def __init__(
        self,
        num_labels: FromData[int | None] = None,
        num_groups: FromData[int] = 1,
        columns_are_labels: FromData[bool] = True,
        *,
        reduction: Literal["mean", "sum"] = "mean",
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
        positives = group.positives
        of_positives, mask = gather_positives(logits, positives)
        if group.log_weights is not None:
            logits += group.log_weights
        others = set_at_positives(logits, positives, float("-inf"))
        # Relative to a finite number, also where no column is left: the sum of none is 0.
        largest = tf.stop_gradient(tf.maximum(tf.reduce_max(others, axis=1), LEAST))
        log_sum = _log(tf.reduce_sum(tf.exp(others - largest[:, None]), axis=1)) + largest
        terms = tf.nn.softplus(log_sum[:, None] - of_positives)
        shares = self._shares(mask, self.weights_of_true(group))
        return tf.reduce_sum(tf.where(mask, shares * terms, 0.0), axis=1)

    def _shares(self, mask, weights):
        """Factors of the true columns' terms, 0 at padding."""
        shares = tf.cast(mask, tf.float32)
        count = tf.reduce_sum(shares, axis=1, keepdims=True)
        if weights is not None:
            shares *= weights
        return tf.math.divide_no_nan(shares, count) if self.reduction == "mean" else shares

    def begin(self, chunks: "LogitChunks") -> DecoupledState:
        """Returns the sum over the columns that are not true, and the terms of those that are."""
        positives = chunks.positives
        rows = tf.shape(positives)[0]
        none = tf.zeros(tf.shape(positives))
        start = tf.fill([rows], LEAST), tf.zeros([rows]), none
        largest, total, of_positives = chunks.fold(_more_columns, start)
        weights = self.weights_at(positives, chunks.num_columns)
        shares = self._shares(positives >= 0, weights)
        log_sum = chunks.log_sum(largest, total)
        falls = shares * tf.sigmoid(log_sum[:, None] - chunks.sum(of_positives))
        return DecoupledState(log_sum, shares, tf.reduce_sum(falls, axis=1))

    def loss_of_logits(
        self, logits: tf.Tensor, positives: tf.Tensor, state: DecoupledState
    ) -> tf.Tensor:
        """Returns the terms of the chunk's true columns."""
        of_positives, mask = gather_positives(logits, positives)
        terms = state.shares * tf.nn.softplus(state.log_sum[:, None] - of_positives)
        return tf.reduce_sum(tf.where(mask, terms, 0.0), axis=1)

    def gradient_of_logits(
        self, logits: tf.Tensor, positives: tf.Tensor, state: DecoupledState
    ) -> tf.Tensor:
        """Returns, of a column that is not true, its probability among these; of a true one, its
        term's.
        """
        of_positives, _ = gather_positives(logits, positives)
        exists = state.log_sum > float("-inf")
        log_sum = tf.where(exists, state.log_sum, 0.0)
        others = set_at_positives(logits - log_sum[:, None], positives, float("-inf"))
        gradient = tf.exp(others) * state.total[:, None]
        falls = state.shares * tf.sigmoid(state.log_sum[:, None] - of_positives)
        return add_at_positives(gradient, positives, -falls)


def _log(total):
    """Returns the logarithm; -inf for 0, with a gradient of 0 there."""
    exists = total > 0
    return tf.where(exists, tf.math.log(tf.where(exists, total, 1.0)), float("-inf"))


def _more_columns(state, logits, positives):
    """Returns the largest logit so far and the sum of the exponentials relative to it, of columns
    that are not true, and the logits of those that are, with a chunk more.
    """
    largest, total, of_positives = state
    in_chunk, _ = gather_positives(logits, positives)  # 0 for those of other chunks
    others = set_at_positives(logits, positives, float("-inf"))
    new = tf.maximum(largest, tf.reduce_max(others, axis=1))
    total *= tf.exp(largest - new)
    total += tf.reduce_sum(tf.exp(others - new[:, None]), axis=1)
    return new, total, of_positives + in_chunk
