"""What every way to choose labels shares."""

import abc

from tfxc.core.declared import Declared
from tfxc.core.errors import ConfigError
from tfxc.decision.decision import Decision
from tfxc.decision.held_out import HeldOut, RankedLists


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


def check_probabilities(name: str, probabilities: bool) -> None:
    """Refuses scores that are no probabilities.

    Args:
        name: of the method.
        probabilities: whether they are.

    Raises:
        ConfigError: they are not.
    """
    if not probabilities:
        raise ConfigError(
            f"labels {name!r} needs probabilities, and the model has none",
            where="decision.labels",
            fix="set decision.probabilities, e.g. to rows",
        )


class WeightedLabels(Labels):
    """Chooses labels by probabilities alone, so that true labels need not be known.

    Class attributes:
        name: of the method.
    """

    name: str

    def fit(self, held_out: HeldOut, probabilities: bool) -> Decision:
        check_probabilities(self.name, probabilities)
        return self.fit_to(held_out)

    @abc.abstractmethod
    def fit_to(self, lists: RankedLists) -> Decision:
        """Learns from the best labels of examples, to choose for all of these together.

        Args:
            lists: their scores are probabilities.
        """
