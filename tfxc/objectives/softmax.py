"""One decision among all columns."""

import keras

from tfxc.objectives.base import Objective, masked_logits
from tfxc.ops.losses import softmax_cross_entropy


@keras.saving.register_keras_serializable("tfxc")
class Softmax(Objective):
    """Softmax cross-entropy; several true columns share the target evenly.

    An example without a true column has loss 0.

    Example:
        >>> import tensorflow as tf
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.zeros((1, 4)), tf.constant([[2, -1]]))
        >>> round(float(Softmax()(group)[0]), 4)  # ln 4
        1.3863
    """

    link = "softmax"

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, group, example_index=None):
        """Per-example loss, (batch,)."""
        return softmax_cross_entropy(masked_logits(group), group.positives)
