"""U-max: ASGD whose dual variable cannot fall far behind."""

from typing import TYPE_CHECKING, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments, NotNegative, Positive
from tfxc.objectives.bases.dual import CappedDual

if TYPE_CHECKING:
    from tfxc.objectives.bases.dual import Negatives


@keras.saving.register_keras_serializable("tfxc")
class UMax(CappedDual):
    """Stochastic optimisation of the cross-entropy over the classes of a batch, by U-max.

    As ``asgd``, nu takes a gradient step, ``nu' = nu - g (1 - m exp(-nu))`` with m the batch mean;
    but where nu' then is more than ``slack`` below log m, it is set to log m. The loss takes nu'.
    A step that float32 could not reverse is capped, see ``CappedDual``.

    Args:
        num_examples, num_groups: see ``DualObjective`` (from the data and the head).
        dual_learning_rate: gamma, positive; decreases as in ``asgd``.
        slack: delta, at least 0.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.constant([[0.0, 1.0, 2.0]]), tf.constant([[1]]))
        >>> round(float(UMax(num_examples=10)(group, tf.constant([7]))[0]), 4)
        1.0

    Reference: Fagan and Iyengar 2018, arXiv 1803.08577, as compared in arXiv 2602.02877.
    """

    def __init__(
        self,
        num_examples: FromData[int],
        num_groups: FromData[int] = 1,
        *,
        dual_learning_rate: Positive = 1.0,
        slack: NotNegative = 1.0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(num_examples, num_groups, dual_learning_rate=dual_learning_rate, **kwargs)
        self.slack = slack

    def step(self, nu: tf.Tensor, negatives: "Negatives") -> tuple[tf.Tensor, tf.Tensor]:
        """Returns a gradient step, not too far below the batch, and used at once."""
        new, _ = self.gradient_step(nu, negatives)
        new = tf.where(new < negatives.log_mean - self.slack, negatives.log_mean, new)
        return new, new
