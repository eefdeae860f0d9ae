import pytest

from tests.objectives.hinges import HingeContract
from tfxc.objectives.hinge import Hinge


class TestHinge(HingeContract):
    kind = Hinge


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost_positive": -1.0}, "cost_positive: .*number of at least 0, not -1.0"),
        (
            {"padded_columns": 0},
            "padded_columns: must be an integer of at least 1, not 0",
        ),
        (
            {"padded_columns": 2.5},
            "padded_columns: must be an integer of at least 1, not 2.5",
        ),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Hinge(**arguments)
