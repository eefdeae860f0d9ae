import numpy as np
import pytest

from tests.contracts.objective import COLUMNS, random_logits
from tests.objectives.dual import DualContract, objective_of
from tests.objectives.dual_by_numpy import Method
from tfxc.objectives.asgd_softplus import ASGDSoftplus


class TestASGDSoftplus(DualContract):
    method = Method("asgd_softplus", 0.5, 0.1, 0.2)
    golden = "softplus"

    def test_without_smoothing_it_is_asgd(self):
        """Up to (K - 1) / K, for rows with one true column."""
        plain, soft = objective_of(Method("asgd", 0.5), 7), ASGDSoftplus(7, smoothing=1e-6)
        for objective in (plain, soft):
            objective.build(None)
            objective.tables[0].assign(np.full(7, 0.5))
        one, other = (self.loss(random_logits(), objective=x) for x in (plain, soft))
        assert float(other[0]) == pytest.approx(float(one[0]) * (COLUMNS - 1) / COLUMNS, rel=1e-4)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="smoothing: must be a positive number, not 0"):
        ASGDSoftplus(3, smoothing=0)
