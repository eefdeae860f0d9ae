"""What every way to learn probabilities shares."""

import abc

from tfxc.core.declared import Declared
from tfxc.decision.calibration import Calibration
from tfxc.decision.held_out import HeldOut


class Probabilities(Declared, abc.ABC):
    """Learns probabilities of a model's scores."""

    @abc.abstractmethod
    def fit(self, held_out: HeldOut) -> Calibration:
        """Learns from the best labels of held-out examples.

        Raises:
            DataError: the share of true labels falls where the scores rise.
        """
