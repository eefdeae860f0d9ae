import pytest

from tests.objectives.dual import CappedContract
from tests.objectives.dual_by_numpy import Method
from tfxc.objectives.asgd import ASGD


class TestASGD(CappedContract):
    method = Method("asgd", 0.5, learning_rate=0.2)
    golden = "asgd"


def test_the_step_size_falls_to_zero():
    objective = ASGD(3, dual_learning_rate=2.0)
    assert [objective.rate_at(epoch, 4) for epoch in (0, 2, 4)] == pytest.approx([2.0, 1.0, 0.0])


def test_wrong_arguments():
    with pytest.raises(ValueError, match="dual_learning_rate: must be a positive number, not 0"):
        ASGD(3, dual_learning_rate=0)
