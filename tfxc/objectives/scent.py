"""SCENT: the dual variable by a step that suits its exponential."""

from typing import TYPE_CHECKING, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments
from tfxc.objectives.bases.dual import DualObjective, moving_average

if TYPE_CHECKING:
    from tfxc.objectives.bases.dual import Negatives


@keras.saving.register_keras_serializable("tfxc")
class SCENT(DualObjective):
    """Stochastic optimisation of the cross-entropy over the classes of a batch, by SCENT.

    ``exp(nu)`` is a moving average of the batch means m: ``exp(nu') = (1 - g) exp(nu) + g m``. The
    share ``g = sigmoid(log a + nu)`` of the new mean depends on nu itself: an example
    forgets faster where its negatives score high. It is the exact proximal step of size a under
    the divergence of ``exp(-nu)``. The loss takes nu'.

    Args:
        num_examples, num_groups: see ``DualObjective`` (from the data and the head).
        log_dual_learning_rate: log a; the higher, the less of the past counts.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.constant([[0.0, 1.0, 2.0]]), tf.constant([[1]]))
        >>> round(float(SCENT(num_examples=10)(group, tf.constant([7]))[0]), 4)
        1.0

    Reference: Wei et al. 2026, arXiv 2602.02877.
    """

    def __init__(
        self,
        num_examples: FromData[int],
        num_groups: FromData[int] = 1,
        *,
        log_dual_learning_rate: float = 12.0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(num_examples, num_groups, **kwargs)
        self.log_dual_learning_rate = log_dual_learning_rate

    def step(self, nu: tf.Tensor, negatives: "Negatives") -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the moving average, used at once."""
        odds = self.log_dual_learning_rate + nu
        log_share = -tf.nn.softplus(-odds)
        log_rest = -tf.nn.softplus(odds)
        new = moving_average(nu, negatives.log_mean, log_share, log_rest)
        return new, new
