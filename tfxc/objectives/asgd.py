"""ASGD: alternating gradient steps on weights and dual variables."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from tfxc.objectives.bases.dual import CappedDual

if TYPE_CHECKING:
    from tfxc.objectives.bases.dual import Negatives


@keras.saving.register_keras_serializable("tfxc")
class ASGD(CappedDual):
    """Stochastic optimisation of the cross-entropy over the classes of a batch, by ASGD.

    With m the batch mean, nu takes a gradient step, ``nu' = nu - g (1 - m exp(-nu))``; the loss
    takes nu. The step size g decreases along a cosine, ``dual_learning_rate`` at the start and 0 in
    the last epoch. A step that float32 could not reverse is capped, see ``CappedDual``.

    Args:
        num_examples, num_groups: see ``DualObjective`` (from the data and the head).
        dual_learning_rate: gamma, positive.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.constant([[0.0, 1.0, 2.0]]), tf.constant([[1]]))
        >>> round(float(ASGD(num_examples=10)(group, tf.constant([7]))[0]), 4)
        1.0

    Reference: as compared in Wei et al. 2026, arXiv 2602.02877.
    """

    def step(self, nu: tf.Tensor, negatives: "Negatives") -> tuple[tf.Tensor, tf.Tensor]:
        """Returns a gradient step, which the loss does not see yet unless it is capped."""
        new, capped = self.gradient_step(nu, negatives)
        return tf.where(capped, new, nu), new
