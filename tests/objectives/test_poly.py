import numpy as np
import pytest

from tests.contracts.objective import ObjectiveContract, group_of, random_logits
from tests.objectives.true_columns import mean_over_true, probabilities, repeated_columns
from tfxc.objectives.focal import Focal
from tfxc.objectives.poly import Poly
from tfxc.objectives.softmax import Softmax


class TestPoly(ObjectiveContract):
    epsilon, gamma, arguments = 1.0, 0.0, {}

    def make(self):
        return Poly(**self.arguments)

    def reference(self, logits, target, valid):
        p = probabilities(logits, valid)
        with np.errstate(divide="ignore", invalid="ignore"):
            losses = -((1 - p) ** self.gamma) * np.log(p)
        return mean_over_true(losses + self.epsilon * (1 - p) ** (self.gamma + 1), target)


class TestFocalPoly(TestPoly):
    epsilon, gamma = 1.0, 2.0
    arguments = {"focal": True}  # noqa: RUF012 (read only)


class TestNegativePoly(TestPoly):
    epsilon, gamma = -0.5, 0.5
    arguments = {"epsilon": -0.5, "focal": True, "gamma": 0.5}  # noqa: RUF012 (read only)


def test_without_epsilon_it_is_another_loss():
    group = group_of(random_logits())
    np.testing.assert_allclose(Poly(epsilon=0.0)(group), Softmax()(group), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(Poly(epsilon=0.0, focal=True)(group), Focal()(group))


def test_columns_that_stand_for_several():
    weighted, copied = repeated_columns()
    np.testing.assert_allclose(Poly()(weighted), Poly()(copied), rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": -1.5}, "epsilon: .*number of at least -1, not -1.5"),
        ({"gamma": 2.0}, "gamma 2.0 has no effect without focal"),
        ({"focal": True, "gamma": -1.0}, "gamma: .*number of at least 0, not -1.0"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        Poly(**wrong)


def test_link():
    assert Poly.link == "softmax"
