"""As many labels for every example, so that as many labels as possible are found once."""

import numpy as np

from tfxc.core.declared import Count, Share
from tfxc.decision.decision import Decision
from tfxc.decision.held_out import RankedLists
from tfxc.decision.labels.base import WeightedLabels
from tfxc.decision.weighted import weighted_rule

_MOST = 1 - 1e-6  # of a probability: no label is certainly found


class CoverageAtK(WeightedLabels):
    """The ``count`` labels that add most to the share of labels that are ever found (coverage@k).

    A label's probability is weighted by the chance that no other held-out example has found it. By
    itself that returns rare labels nearly at random, where a tenth is right: ``precision`` bounds
    what it costs. Learned as ``macro_f1_at_k``, see there for the references.

    Args:
        count: labels for every example.
        precision: share of the precision of these labels in what is maximised.
    """

    name = "coverage_at_k"

    def __init__(self, count: Count = 5, precision: Share = 0.3) -> None:
        self.count = count
        self.precision = precision

    def fit_to(self, lists: RankedLists) -> Decision:
        num_labels = len(lists.label_counts)
        of_precision = self.precision * num_labels / (len(lists.ids) * self.count)

        def weights(missed: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            gains = (1 - self.precision) * np.exp(missed) + of_precision
            return gains, np.zeros(num_labels)

        likely = np.clip(lists.scores.astype(np.float64), 0, _MOST)
        return weighted_rule(lists, self.count, np.log1p(-likely), weights)
