"""Softmax cross-entropy that down-weights what is already classified well."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Unpack

import keras
import tensorflow as tf
from annotated_types import MinLen

from tfxc.core.declared import FromData, LayerArguments, NotNegative
from tfxc.objectives.base import Objective
from tfxc.objectives.bases.class_weights import NEEDED, check_columns
from tfxc.objectives.bases.true_columns import (
    focal_factor,
    mean_over_true,
    true_log_probabilities,
)

if TYPE_CHECKING:
    from tfxc.ops.logit_group import LogitGroup


@keras.saving.register_keras_serializable("tfxc")
class Focal(Objective):
    """Focal loss ``-alpha_y (1 - p_y)^gamma log p_y`` of the softmax probabilities p.

    With several true columns it is the mean of their losses; an example without one has loss 0.

    Args:
        num_labels, num_groups: labels and logit groups of an example (from the data and the head).
        columns_are_labels: see ``heads.base.Head`` (from the head).
        gamma: the larger, the less columns count that are already likely; 0 is ``softmax``.
        alpha: weight of each label, for heads that score all labels in one group, in order of
            their ids; None weights all as 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.zeros((1, 4)), tf.constant([[2, -1]]))
        >>> round(float(Focal()(group)[0]), 4)  # (3 / 4)^2 ln 4
        0.7798

    Reference: Lin et al. 2017, arXiv 1708.02002.
    """

    link = "softmax"

    def __init__(
        self,
        num_labels: FromData[int | None] = None,
        num_groups: FromData[int] = 1,
        columns_are_labels: FromData[bool] = True,
        *,
        gamma: NotNegative = 2.0,
        alpha: Annotated[Sequence[NotNegative], MinLen(1)] | None = None,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.gamma = gamma
        self.alpha = None if alpha is None else [float(weight) for weight in alpha]
        if alpha is not None:
            check_columns("alpha", len(alpha), num_labels, num_groups, columns_are_labels)

    def call(self, group: "LogitGroup", example_index: tf.Tensor | None = None) -> tf.Tensor:
        """Returns per-example loss, (batch,)."""
        log_probabilities, mask = true_log_probabilities(group)
        losses = -focal_factor(log_probabilities, self.gamma) * log_probabilities
        if self.alpha is not None:
            columns = group.logits.shape[1]
            if columns != len(self.alpha) or group.log_weights is not None:
                raise ValueError(f"alpha: {NEEDED}: columns {columns}, labels {len(self.alpha)}")
            losses *= tf.gather(tf.constant(self.alpha), tf.maximum(group.positives, 0))
        return mean_over_true(losses, mask)
