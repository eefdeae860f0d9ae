import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.objective import ObjectiveContract, group_of, random_logits
from tfxc.objectives.sigmoid import Sigmoid


class TestSigmoid(ObjectiveContract):
    reduction = "sum"

    def make(self):
        return Sigmoid(reduction=self.reduction)

    def reference(self, logits, target, valid):
        chance = 1 / (1 + np.exp(-logits))
        entropy = -(target * np.log(chance) + (1 - target) * np.log(1 - chance))
        return np.where(valid, entropy, 0).sum(axis=1)


class TestSigmoidOfTheMean(TestSigmoid):
    reduction = "mean"

    def reference(self, logits, target, valid):
        return super().reference(logits, target, valid) / valid.sum(axis=1)


class TestWeightedSigmoid(ObjectiveContract):
    weights = (0.5, 1.0, 2.0, 0.0, 1.5, 1.0, 3.0, 0.25, 0.1)

    def make(self):
        return Sigmoid(class_weight=list(self.weights))

    def reference(self, logits, target, valid):
        chance = 1 / (1 + np.exp(-logits))
        terms = np.array(self.weights) * target * np.log(chance) + (1 - target) * np.log(1 - chance)
        return -np.where(valid, terms, 0).sum(axis=1)


def test_equals_tensorflow_on_a_dense_target():
    logits = random_logits()
    target = np.zeros_like(logits)
    target[0, 4] = target[2, [0, 8]] = target[3, [2, 3]] = target[4, [1, 5, 6, 7]] = 1
    expected = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)
    np.testing.assert_allclose(Sigmoid()(group_of(logits)), tf.reduce_sum(expected, 1), rtol=1e-5)


def test_link():
    assert Sigmoid.link == "sigmoid"


def test_unknown_reduction():
    with pytest.raises(ValueError, match="reduction: must be one of sum, mean, not 'max'"):
        Sigmoid(reduction="max")
