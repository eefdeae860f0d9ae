"""ASGD on a softened dual: no exponential can blow up."""

import math
from typing import TYPE_CHECKING, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments, Positive
from tfxc.objectives.bases.dual import GradientDual

if TYPE_CHECKING:
    from tfxc.objectives.bases.dual import Negatives


@keras.saving.register_keras_serializable("tfxc")
class ASGDSoftplus(GradientDual):
    """``asgd`` with ``log(1 + r exp(s - nu)) / r`` instead of ``exp(s - nu)`` of each negative.

    The loss is the mean of that over the K classes of the batch, the true one counting 0, and the
    slope of the dual is ``1 - q`` with q the mean of ``exp(s - nu) / (1 + r exp(s - nu))``. Means
    divide by K, not by K - 1, as published. nu starts at the logarithm of q for nu = 0. The loss
    takes nu before its step. For r to 0 this is ``asgd``, up to (K - 1) / K.

    Args:
        num_examples, num_groups: see ``DualObjective`` (from the data and the head).
        dual_learning_rate: gamma, positive; decreases as in ``asgd``.
        smoothing: rho, positive; q stays below 1 / rho.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.constant([[0.0, 1.0, 2.0]]), tf.constant([[1]]))
        >>> round(float(ASGDSoftplus(num_examples=10)(group, tf.constant([7]))[0]), 2)
        1.0

    Reference: Wei et al. 2026, arXiv 2602.02877.
    """

    def __init__(
        self,
        num_examples: FromData[int],
        num_groups: FromData[int] = 1,
        *,
        dual_learning_rate: Positive = 1.0,
        smoothing: Positive = 1e-3,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(num_examples, num_groups, dual_learning_rate=dual_learning_rate, **kwargs)
        self.smoothing = smoothing

    @property
    def _log_smoothing(self):
        return math.log(self.smoothing)

    def first(self, negatives: "Negatives") -> tf.Tensor:
        """Returns log q for nu = 0."""
        logs = tf.math.log_sigmoid(negatives.scores + self._log_smoothing) + negatives.log_weights
        return (
            tf.reduce_logsumexp(logs, axis=1) - self._log_smoothing - tf.math.log(negatives.count)
        )

    def step(self, nu: tf.Tensor, negatives: "Negatives") -> tuple[tf.Tensor, tf.Tensor]:
        """Returns a gradient step, which neither the loss nor a first visit sees."""
        parts = tf.sigmoid(negatives.scores - nu[:, None] + self._log_smoothing)
        slope = 1 - self._mean(parts, negatives)
        return nu, nu - self.rate.value * slope

    def loss(self, negatives: "Negatives", nu: tf.Tensor) -> tf.Tensor:
        """Returns the mean of the softened exponentials."""
        parts = tf.nn.softplus(negatives.scores - nu[:, None] + self._log_smoothing)
        return self._mean(parts, negatives)

    def _mean(self, parts, negatives):
        parts = tf.reduce_sum(parts * tf.exp(negatives.log_weights), axis=1)
        return parts / (self.smoothing * negatives.count)
