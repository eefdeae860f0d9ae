"""SOX: the dual variable as a plain moving average."""

from typing import TYPE_CHECKING, Unpack

import keras
import tensorflow as tf

from tfxc.core.declared import FromData, LayerArguments, Share
from tfxc.objectives.bases.dual import ScheduledDual, half_cosine, moving_average

if TYPE_CHECKING:
    from tfxc.objectives.bases.dual import Negatives


@keras.saving.register_keras_serializable("tfxc")
class SOX(ScheduledDual):
    """Stochastic optimisation of the cross-entropy over the classes of a batch, by SOX.

    ``exp(nu)`` is a moving average of the batch means m: ``exp(nu') = (1 - g) exp(nu) + g m``. The
    share g of the new mean decreases from epoch to epoch, from near 1 to ``last_share`` along a
    cosine. The loss takes nu'.

    Args:
        num_examples, num_groups: see ``DualObjective`` (from the data and the head).
        last_share: g in the last epoch, in [0, 1]; 0 takes ``4.177 E^-0.7265`` for E epochs (at
            most 1).

    Raises:
        ValueError: ``last_share`` out of range.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.constant([[0.0, 1.0, 2.0]]), tf.constant([[1]]))
        >>> round(float(SOX(num_examples=10)(group, tf.constant([7]))[0]), 4)
        1.0

    Reference: Wang and Yang, ICML 2022 (arXiv 2202.12396), as compared in arXiv 2602.02877.
    """

    def __init__(
        self,
        num_examples: FromData[int],
        num_groups: FromData[int] = 1,
        *,
        last_share: Share = 1e-5,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(num_examples, num_groups, **kwargs)
        self.last_share = last_share

    @property
    def start_rate(self) -> float:
        """The share of the last epoch, or all."""
        return self.last_share or 1.0

    def rate_at(self, epoch: int, epochs: int) -> float:
        """Returns the share of the new mean."""
        last = self.last_share or min(1.0, 4.177 * epochs**-0.7265)
        return last + (1 - last) * half_cosine(epoch, epochs)

    def step(self, nu: tf.Tensor, negatives: "Negatives") -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the moving average, used at once."""
        share = self.rate.value
        logs = tf.math.log(share), tf.math.log1p(-share)
        new = moving_average(nu, negatives.log_mean, *logs)
        return new, new
