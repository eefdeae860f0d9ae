import numpy as np
import tensorflow as tf

from tests.contracts.objective import ObjectiveContract
from tests.objectives.dual import TrajectoryTests
from tests.objectives.dual_by_numpy import Method
from tfxc.objectives.bsgd import BSGD
from tfxc.ops.logit_group import LogitGroup


class TestBSGD(TrajectoryTests, ObjectiveContract):
    method = Method("bsgd")
    golden = "bsgd"

    def make(self):
        return BSGD()

    def reference(self, logits, target, valid):
        count = target.sum(axis=1)
        true = (target * logits).sum(axis=1) / np.maximum(count, 1)
        negatives = np.where(valid & (target == 0), np.exp(logits), 0).sum(axis=1)
        return np.where(count > 0, np.log(negatives) - true, 0)


def test_a_batch_of_one_class():
    loss = BSGD()(LogitGroup(tf.ones((3, 1)), tf.zeros((3, 1), tf.int32)))
    assert not loss.numpy().any()


def test_a_weight_is_that_many_columns():
    positives = tf.constant([[0]])
    log_weights = tf.constant([0.0, np.log(3.0)])
    one = LogitGroup(tf.constant([[0.5, 2.0]]), positives, log_weights=log_weights)
    other = LogitGroup(tf.constant([[0.5, 2.0, 2.0, 2.0]]), positives)
    np.testing.assert_allclose(BSGD()(one), BSGD()(other), rtol=1e-6)
