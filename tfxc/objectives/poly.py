"""Softmax cross-entropy with the first term of its series made larger."""

from typing import TYPE_CHECKING, Annotated, Unpack

import keras
from annotated_types import Ge

from tfxc.core.declared import LayerArguments, NotNegative
from tfxc.objectives.base import Objective
from tfxc.objectives.bases.true_columns import (
    focal_factor,
    mean_over_true,
    true_log_probabilities,
)

if TYPE_CHECKING:
    import tensorflow as tf

    from tfxc.ops.logit_group import LogitGroup


@keras.saving.register_keras_serializable("tfxc")
class Poly(Objective):
    """Poly-1 loss ``-log p_y + epsilon (1 - p_y)`` of the softmax probabilities p.

    With ``focal`` it is ``-(1 - p_y)^gamma log p_y + epsilon (1 - p_y)^(gamma + 1)``. With several
    true columns it is the mean of their losses; an example without one has loss 0.

    Args:
        epsilon: weight of the added term, at least -1, where the slope at p = 1 is gone.
        focal: whether the focal loss takes the place of the cross-entropy.
        gamma: exponent of the focal loss; None means 2. Without ``focal`` there is none.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> import tensorflow as tf
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.zeros((1, 4)), tf.constant([[2, -1]]))
        >>> round(float(Poly()(group)[0]), 4)  # ln 4 + 3 / 4
        2.1363

    Reference: Leng et al., ICLR 2022 (arXiv 2204.12511).
    """

    link = "softmax"

    def __init__(
        self,
        *,
        epsilon: Annotated[float, Ge(-1)] = 1.0,
        focal: bool = False,
        gamma: NotNegative | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        if gamma is not None and not focal:
            raise ValueError(f"gamma {gamma} has no effect without focal")
        self.epsilon = epsilon
        self.focal = focal
        self.gamma = gamma
        self._exponent = (2.0 if gamma is None else gamma) * focal

    def call(self, group: "LogitGroup", example_index: "tf.Tensor | None" = None) -> "tf.Tensor":
        """Returns per-example loss, (batch,)."""
        log_probabilities, mask = true_log_probabilities(group)
        losses = -focal_factor(log_probabilities, self._exponent) * log_probabilities
        losses += self.epsilon * focal_factor(log_probabilities, self._exponent + 1)
        return mean_over_true(losses, mask)
