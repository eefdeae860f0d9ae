"""As many labels for every example, for the highest mean of the labels' F-measures."""

import numpy as np

from tfxc.core.declared import Count, Share
from tfxc.decision.decision import Decision
from tfxc.decision.held_out import RankedLists
from tfxc.decision.labels.base import WeightedLabels
from tfxc.decision.weighted import weighted_rule

_PSEUDO = 0.5  # examples of the common F-measure that each label's own starts from


class MacroF1AtK(WeightedLabels):
    """The ``count`` labels that add most to the mean of all labels' F-measures (macro-F1@k).

    One more prediction of a label, of probability p, adds 2 (p - F / 2) / D to its F-measure F,
    where D is the number of its predictions and of its true examples together. F and D are
    expected values of the predictions for the held-out examples; they are found by turns with the
    predictions (the algorithm of Frank and Wolfe, whose last classifier is what is learned). So an
    example is decided for by itself. Rare labels are returned before frequent ones that are about
    as likely.

    References: Schultheis et al., "Generalized Test Utilities for Long-tail Performance in Extreme
    Multi-label Classification", NeurIPS 2023, and "Consistent Algorithms for Multi-label
    Classification with Macro-at-k Metrics", ICLR 2024.

    Args:
        count: labels for every example.
        precision: share of the precision of these labels in what is maximised.
    """

    name = "macro_f1_at_k"

    def __init__(self, count: Count = 5, precision: Share = 0) -> None:
        self.count = count
        self.precision = precision

    def fit_to(self, lists: RankedLists) -> Decision:
        counts = lists.label_counts
        num_labels = len(counts)
        listed = lists.listed
        ids = lists.ids[listed]
        likely = counts * (lists.truths / max(1, counts.sum()))
        positives = np.maximum(np.bincount(ids, lists.scores[listed], num_labels), likely)
        of_precision = self.precision * num_labels / (len(lists.ids) * self.count)

        def weights(found: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            sizes = predicted + positives
            common = 2 * found.sum() / max(sizes.sum(), _PSEUDO)
            shares = (1 - self.precision) / (sizes + _PSEUDO)
            own = (2 * found + _PSEUDO * common) / (sizes + _PSEUDO)
            return 2 * shares + of_precision, shares * own

        return weighted_rule(lists, self.count, lists.scores.astype(np.float64), weights)
