import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.objective import ObjectiveContract
from tests.objectives.true_columns import repeated_columns
from tfxc.objectives.zlpr import ZLPR
from tfxc.ops.logit_group import LogitGroup


class TestZLPR(ObjectiveContract):
    def make(self):
        return ZLPR()

    def reference(self, logits, target, valid):
        false = np.where(valid & (target == 0), np.exp(logits), 0).sum(axis=1)
        true = np.where(target > 0, np.exp(-logits), 0).sum(axis=1)
        return np.log(1 + false) + np.log(1 + true)


def test_exact_at_extreme_logits():
    group = LogitGroup(tf.constant([[1e4, -1e4, -1e4], [1e4, -1e4, -1e4]]), tf.constant([[1], [0]]))
    assert ZLPR()(group).numpy().tolist() == [2e4, 0.0]


def test_the_best_logits_part_true_from_false_at_zero():
    # Labels that come with given chances: the minimum of the expected loss has z > 0 for the
    # sets that hold a label more often than not.
    chances, labels = [0.7, 0.2, 0.1], [[0, 1], [0, -1], [2, -1]]
    logits = tf.Variable(tf.zeros((1, 3)))

    @tf.function(autograph=False)
    def descend():
        with tf.GradientTape() as tape:
            losses = ZLPR()(LogitGroup(tf.tile(logits, [3, 1]), tf.constant(labels)))
            loss = tf.reduce_sum(losses * chances)
        logits.assign_sub(tape.gradient(loss, logits))

    for _ in range(400):
        descend()
    assert (logits.numpy() > 0).tolist() == [[True, True, False]]


def test_invariant_to_the_order_of_columns():
    logits = np.array([0.3, -2.0, 1.5], np.float32)
    found = []
    for order in itertools.permutations(range(3)):
        place = order.index(2)
        group = LogitGroup(tf.constant(logits[list(order)][None]), tf.constant([[place]]))
        found.append(float(ZLPR()(group)[0]))
    expected = math.log(1 + math.exp(0.3) + math.exp(-2)) + math.log(1 + math.exp(-1.5))
    assert found == pytest.approx([expected] * 6, rel=1e-6)


def test_columns_that_stand_for_several():
    weighted, copied = repeated_columns()
    np.testing.assert_allclose(ZLPR()(weighted), ZLPR()(copied), rtol=1e-5)


def test_link():
    assert ZLPR.link == "sigmoid"
