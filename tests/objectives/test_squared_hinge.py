from tests.objectives.hinges import HingeContract
from tfxc.objectives.squared_hinge import SquaredHinge


class TestSquaredHinge(HingeContract):
    kind = SquaredHinge
