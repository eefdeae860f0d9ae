import numpy as np

from tests.contracts.objective import ObjectiveContract, group_of, random_logits
from tfxc.objectives.softmax import Softmax


class TestSoftmax(ObjectiveContract):
    def make(self):
        return Softmax()

    def reference(self, logits, target, valid):
        total = np.where(valid, np.exp(logits), 0).sum(axis=1, keepdims=True)
        count = target.sum(axis=1, keepdims=True)
        return -(target / np.maximum(count, 1) * (logits - np.log(total))).sum(axis=1)


def test_no_true_column_no_loss():
    assert float(Softmax()(group_of(random_logits()))[1]) == 0


def test_a_common_constant_changes_nothing():
    logits = random_logits()
    one, other = Softmax()(group_of(logits)), Softmax()(group_of(logits + 7))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_link():
    assert Softmax.link == "softmax"
