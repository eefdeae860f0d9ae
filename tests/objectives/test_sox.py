import pytest

from tests.objectives.dual import DualContract, objective_of
from tests.objectives.dual_by_numpy import Method
from tfxc.objectives.sox import SOX


class TestSOX(DualContract):
    method = Method("sox", 0.2)
    golden = "sox"


def test_the_share_falls_along_a_cosine():
    objective = objective_of(Method("sox", 0.2), 3)
    shares = [objective.rate_at(epoch, 4) for epoch in (0, 2, 4)]
    assert shares == pytest.approx([1.0, 0.6, 0.2])
    objective.on_epoch(2, 4)
    assert float(objective.rate.numpy()) == pytest.approx(0.6)


@pytest.mark.parametrize(("epochs", "last"), [(50, 0.24354), (1, 1.0)])
def test_without_a_last_share_the_number_of_epochs_decides(epochs, last):
    objective = SOX(3, last_share=0)
    assert objective.rate_at(epochs, epochs) == pytest.approx(last, rel=1e-4)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"last_share: .*a number from 0 to 1, not 1.5"):
        SOX(3, last_share=1.5)
