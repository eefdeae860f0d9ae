import numpy as np
import pytest
import tensorflow as tf

from tests.objectives.dual import CappedContract
from tests.objectives.dual_by_numpy import Method
from tfxc.objectives.umax import UMax
from tfxc.ops.logit_group import LogitGroup


class TestUMax(CappedContract):
    method = Method("umax", 0.5, 0.3, 0.2)
    golden = "umax"


def test_nu_does_not_fall_far_behind():
    objective = UMax(2, dual_learning_rate=1e-3, slack=2.0)
    objective.build(None)
    objective.tables[0].assign([1.5, 0.5])
    group = LogitGroup(tf.constant([[0.0, 3.0]] * 2), tf.zeros((2, 1), tf.int32))
    loss = objective(group, tf.constant([0, 1], tf.int64))
    step = 1.5 - 1e-3 * (1 - np.exp(1.5))
    np.testing.assert_allclose(objective.tables[0].numpy(), [step, 3.0], rtol=1e-6)
    np.testing.assert_allclose(loss, [np.exp(3 - step), 1.0], rtol=1e-5)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="slack: must be a number of at least 0, not -1"):
        UMax(3, slack=-1)
