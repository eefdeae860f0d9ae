"""The hinge loss of linear support vector machines, column by column."""

import keras

from tfxc.objectives.bases.hinge import HingeObjective


@keras.saving.register_keras_serializable("tfxc")
class Hinge(HingeObjective):
    """``max(0, 1 - y z)``; arguments: see ``objectives.bases.hinge.HingeObjective``.

    Example:
        >>> import tensorflow as tf
        >>> from tfxc.ops.logit_group import LogitGroup
        >>> group = LogitGroup(tf.constant([[0.0, 0.0, 0.4, 0.0]]), tf.constant([[2, -1]]))
        >>> round(float(Hinge()(group)[0]), 4)  # (1 + 1 + 1 + 0.6) / 4
        0.9
    """

    power = 1
