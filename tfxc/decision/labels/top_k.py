"""As many labels for every example."""

from tfxc.core.declared import Count
from tfxc.decision.decision import NEVER, Decision
from tfxc.decision.held_out import HeldOut
from tfxc.decision.labels.base import Labels


class TopK(Labels):
    """The best labels, as many for every example; nothing is learned.

    Args:
        count: how many.
    """

    def __init__(self, count: Count) -> None:
        self.count = count

    def fit(self, held_out: HeldOut, probabilities: bool) -> Decision:
        return Decision(NEVER, probabilities, at_least=self.count, at_most=self.count)
