import numpy as np
import pytest

from tests.contracts.objective import ObjectiveContract, group_of, random_logits
from tfxc.objectives.softmax import Softmax


class TestSoftmax(ObjectiveContract):
    def make(self):
        return Softmax()

    def reference(self, logits, target, valid):
        total = np.where(valid, np.exp(logits), 0).sum(axis=1, keepdims=True)
        count = target.sum(axis=1, keepdims=True)
        return -(target / np.maximum(count, 1) * (logits - np.log(total))).sum(axis=1)


class TestSmoothedSoftmax(ObjectiveContract):
    smoothing = 0.1

    def make(self):
        return Softmax(label_smoothing=self.smoothing)

    def reference(self, logits, target, valid):
        total = np.where(valid, np.exp(logits), 0).sum(axis=1, keepdims=True)
        count = target.sum(axis=1, keepdims=True)
        target = (1 - self.smoothing) * target / np.maximum(count, 1)
        target += self.smoothing * valid / valid.sum(axis=1, keepdims=True)
        losses = -(np.where(valid, target, 0) * (logits - np.log(total))).sum(axis=1)
        return np.where(count[:, 0] > 0, losses, 0)


class TestWeightedSoftmax(ObjectiveContract):
    smoothing, weights = 0.0, (0.5, 1.0, 2.0, 0.0, 1.5, 1.0, 3.0, 0.25, 0.1)

    def make(self):
        return Softmax(label_smoothing=self.smoothing, class_weight=list(self.weights))

    def reference(self, logits, target, valid):
        total = np.where(valid, np.exp(logits), 0).sum(axis=1, keepdims=True)
        target = np.array(self.weights) * target / np.maximum(target.sum(axis=1, keepdims=True), 1)
        even = target.sum(axis=1, keepdims=True) * valid / valid.sum(axis=1, keepdims=True)
        target = (1 - self.smoothing) * target + self.smoothing * even
        return -(np.where(valid, target, 0) * (logits - np.log(total))).sum(axis=1)


class TestSmoothedWeightedSoftmax(TestWeightedSoftmax):
    smoothing = 0.2


class TestSumOfSoftmaxes(TestSmoothedSoftmax):
    smoothing = 0.3

    def make(self):
        return Softmax(label_smoothing=self.smoothing, reduction="sum")

    def reference(self, logits, target, valid):
        return super().reference(logits, target, valid) * target.sum(axis=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"label_smoothing": 1.0},
            r"label_smoothing: .* at least 0 and below 1, not 1.0",
        ),
        ({"reduction": "max"}, "reduction: must be one of mean, sum, not 'max'"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        Softmax(**wrong)


def test_no_true_column_no_loss():
    assert float(Softmax()(group_of(random_logits()))[1]) == 0


def test_a_common_constant_changes_nothing():
    logits = random_logits()
    one, other = Softmax()(group_of(logits)), Softmax()(group_of(logits + 7))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_link():
    assert Softmax.link == "softmax"
