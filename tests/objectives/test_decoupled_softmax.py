"""Each true column against those that are not true."""

import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.objective import ObjectiveContract, group_of, random_logits
from tfxc.objectives.decoupled_softmax import DecoupledSoftmax
from tfxc.objectives.softmax import Softmax
from tfxc.ops.logit_group import LogitGroup


class TestDecoupledSoftmax(ObjectiveContract):
    def make(self):
        return DecoupledSoftmax()

    def reference(self, logits, target, valid):
        others = np.where(valid & (target == 0), np.exp(logits), 0).sum(axis=1, keepdims=True)
        terms = target * np.log1p(others / np.exp(logits))
        return terms.sum(axis=1) / np.maximum(target.sum(axis=1), 1)


class TestSumOfDecoupledSoftmaxes(TestDecoupledSoftmax):
    def make(self):
        return DecoupledSoftmax(reduction="sum")

    def reference(self, logits, target, valid):
        return super().reference(logits, target, valid) * target.sum(axis=1)


class TestWeightedDecoupledSoftmax(TestDecoupledSoftmax):
    weights = (0.5, 1.0, 2.0, 0.0, 1.5, 1.0, 3.0, 0.25, 0.1)

    def make(self):
        return DecoupledSoftmax(class_weight=list(self.weights))

    def reference(self, logits, target, valid):
        others = np.where(valid & (target == 0), np.exp(logits), 0).sum(axis=1, keepdims=True)
        terms = np.array(self.weights) * target * np.log1p(others / np.exp(logits))
        return terms.sum(axis=1) / np.maximum(target.sum(axis=1), 1)


def test_numbers_by_hand():
    logits = tf.constant([[2.0, 0, 1, -1]])
    group = LogitGroup(logits, tf.constant([[0, 2]]))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = DecoupledSoftmax()(LogitGroup(logits, group.positives))
    assert float(loss[0]) == pytest.approx(0.288726, abs=1e-6)
    expected = [-0.078103, 0.179462, -0.167380, 0.066020]
    np.testing.assert_allclose(tape.gradient(loss, logits)[0], expected, atol=1e-6)


def test_one_true_column_is_a_softmax():
    positives = tf.constant([[4], [0], [8], [-1], [2]])
    group = LogitGroup(tf.constant(random_logits()), positives)
    np.testing.assert_allclose(DecoupledSoftmax()(group), Softmax()(group), atol=1e-6)


@pytest.mark.parametrize("chunked", [False, True])
def test_no_other_column_no_loss(chunked):
    """Nor a gradient, though the logarithm of an empty sum is -inf."""
    logits = tf.constant([[1.0, -2.0]])
    positives = tf.constant([[1, 0]])
    objective = DecoupledSoftmax()
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = objective(LogitGroup(logits, positives))
    gradient = tape.gradient(loss, logits)
    if chunked:
        from tfxc.ops.fused.logit_chunks import LogitChunks

        chunks = LogitChunks(lambda _: logits, [(0, 2)], positives)
        state = objective.begin(chunks)
        loss = objective.loss_of_logits(logits, positives, state)
        gradient = objective.gradient_of_logits(logits, positives, state)
    assert float(loss[0]) == 0 and not gradient.numpy().any()


def test_columns_that_stand_for_several():
    """A column that stands for three others counts as three."""
    logits = random_logits()
    repeats = np.array([1, 3, 1, 1, 1, 1, 1, 1, 1])
    positives = tf.constant([[4, -1], [8, 0], [3, 2], [-1, -1], [5, 0]])
    weighted = LogitGroup(
        tf.constant(logits), positives, log_weights=tf.math.log(tf.constant(repeats, tf.float32))
    )
    columns = np.concatenate([logits, logits[:, [1, 1]]], axis=1)
    expected = DecoupledSoftmax()(LogitGroup(tf.constant(columns), positives))
    np.testing.assert_allclose(DecoupledSoftmax()(weighted), expected, atol=1e-6)


def test_no_true_column_no_loss():
    assert float(DecoupledSoftmax()(group_of(random_logits()))[1]) == 0


def test_wrong_arguments():
    with pytest.raises(ValueError, match="reduction: must be one of mean, sum, not 'max'"):
        DecoupledSoftmax(reduction="max")
