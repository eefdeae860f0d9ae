"""The squared hinge loss, column by column."""

import keras

from tfxc.objectives.bases.hinge import HingeObjective


@keras.saving.register_keras_serializable("tfxc")
class SquaredHinge(HingeObjective):
    """``max(0, 1 - y z)^2``; arguments: see ``objectives.bases.hinge.HingeObjective``.

    Example:
        >>> import tensorflow as tf
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.constant([[0.4]]), tf.constant([[0]]))
        >>> round(float(SquaredHinge()(group)[0]), 4)  # (1 - 0.4)^2
        0.36
    """

    power = 2
