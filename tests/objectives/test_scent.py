import numpy as np
import tensorflow as tf

from tests.objectives.dual import DualContract, objective_of
from tests.objectives.dual_by_numpy import Method
from tfxc.ops.logit_group import LogitGroup


class TestSCENT(DualContract):
    method = Method("scent", 1.0)
    golden = "scent"


def test_the_step_is_proximal():
    """nu' minimises ``m exp(-nu') + nu' + D(nu', nu) / a``, D the divergence of ``exp(-nu)``."""
    objective = objective_of(Method("scent", 0.7), 1)
    objective.build(None)
    objective.tables[0].assign([0.4])
    group = LogitGroup(tf.constant([[0.0, 1.5, -0.5]]), tf.constant([[0]]))
    objective(group, tf.constant([0], tf.int64))
    mean, nu = np.mean(np.exp([1.5, -0.5])), np.linspace(-2, 3, 500_001)
    divergence = np.exp(-nu) - np.exp(-0.4) + np.exp(-0.4) * (nu - 0.4)
    best = nu[np.argmin(mean * np.exp(-nu) + nu + divergence / np.exp(0.7))]
    np.testing.assert_allclose(objective.tables[0].numpy(), [best], atol=1e-4)
