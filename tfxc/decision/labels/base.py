"""What every way to choose labels shares."""

import abc

from tfxc.core.declared import Declared
from tfxc.decision.decision import Decision
from tfxc.decision.held_out import HeldOut


class Labels(Declared, abc.ABC):
    """Learns which labels of a ranked list are returned."""

    @abc.abstractmethod
    def fit(self, held_out: HeldOut, probabilities: bool) -> Decision:
        """Learns from the best labels of held-out examples.

        Args:
            held_out: its scores are probabilities where there are any.
            probabilities: whether they are.

        Raises:
            ConfigError: probabilities are needed.
        """
