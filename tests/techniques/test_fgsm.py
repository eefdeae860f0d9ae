import numpy as np
import pytest

from tests.contracts.technique import TechniqueContract
from tests.techniques.table_attack import TableAttackTests
from tfxc.core.errors import ConfigError
from tfxc.techniques.fgsm import FGSM


class TestFGSM(TechniqueContract, TableAttackTests):
    name = "fgsm"

    def strong(self):
        return FGSM(epsilon=0.1)

    def expected_moves(self, gradient_at):
        return 0.1 * np.sign(gradient_at(None))


def test_bad_epsilon():
    with pytest.raises(ConfigError, match=r"epsilon: must be .*positive number"):
        FGSM(epsilon=-1.0)
