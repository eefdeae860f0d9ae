import numpy as np
import pytest

from tests.contracts.technique import TechniqueContract
from tests.techniques.table_attack import TableAttackTests
from tfxc.core.errors import ConfigError
from tfxc.techniques.pgd import PGD


class TestPGD(TechniqueContract, TableAttackTests):
    name = "pgd"

    def strong(self):
        return PGD(rounds=3, alpha=0.5, epsilon=0.8)  # the second move leaves the ball

    def expected_moves(self, gradient_at):
        move = None
        for _ in range(3):
            gradient = gradient_at(move)
            move = (0 if move is None else move) + 0.5 * gradient / np.linalg.norm(gradient)
            if np.linalg.norm(move) > 0.8:
                move = 0.8 * move / np.linalg.norm(move)
        return move


@pytest.mark.parametrize(
    ("argument", "expected"),
    [("rounds", "an integer of at least 1"), ("alpha", "a positive"), ("epsilon", "a positive")],
)
def test_bad_arguments(argument, expected):
    with pytest.raises(ConfigError, match=f"{argument}: must be {expected}.*, not 0"):
        PGD(**{argument: 0})
