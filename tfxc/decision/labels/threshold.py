"""One threshold for all labels."""

import numpy as np

from tfxc.core.declared import Natural
from tfxc.decision.decision import Decision
from tfxc.decision.held_out import HeldOut
from tfxc.decision.labels.base import Labels


class Threshold(Labels):
    """Labels that reach one threshold: that of the highest micro-F1 on the held-out examples.

    Args:
        value: the threshold, a probability or, of a model without, a score; None learns it.
        at_least: labels that are returned however low their scores are.
    """

    def __init__(self, value: float | None = None, at_least: Natural = 0) -> None:
        self.value = value
        self.at_least = at_least

    def fit(self, held_out: HeldOut, probabilities: bool) -> Decision:
        value = common_threshold(held_out) if self.value is None else self.value
        return Decision(value, probabilities, at_least=self.at_least, at_most=held_out.ids.shape[1])


def common_threshold(held_out: HeldOut) -> float:
    """Returns the score of the highest micro-F1 if labels that reach it are returned."""
    listed = held_out.listed
    order = np.argsort(-held_out.scores[listed], kind="stable")
    scores = held_out.scores[listed][order]
    found = np.cumsum(held_out.hits[listed][order])
    f1 = 2 * found / (np.arange(1, len(found) + 1) + held_out.truths)
    f1[:-1][scores[:-1] == scores[1:]] = 0  # equal scores are above it together
    return float(scores[np.argmax(f1)])
