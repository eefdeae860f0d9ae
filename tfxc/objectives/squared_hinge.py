"""The squared hinge loss, column by column."""

import keras

from tfxc.objectives._hinge import HingeObjective


@keras.saving.register_keras_serializable("tfxc")
class SquaredHinge(HingeObjective):
    """Mean over a group's columns of ``max(0, 1 - y z)^2`` with y = 1 where true, else -1.

    Columns that do not count are left out of the mean. For the arguments see
    ``objectives._hinge.HingeObjective``: ``weighted``, ``cost_positive``, ``cost_negative``,
    ``padded_columns``.

    Reference: Zhang et al., NeurIPS 2021, "Fast Multi-Resolution Transformer Fine-tuning for
    Extreme Multi-label Text Classification", arXiv 2110.00685.

    Example:
        >>> import tensorflow as tf
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.constant([[0.0, 0.0, 0.4, 0.0]]), tf.constant([[2, -1]]))
        >>> round(float(SquaredHinge()(group)[0]), 4)  # (1 + 1 + 1 + 0.36) / 4
        0.84
    """

    power = 2
