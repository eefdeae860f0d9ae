"""Propensity-scored precision and nDCG: hits on rare labels weigh more.

A label missing from the data is the likelier the rarer it is, so each hit is weighted by the
inverse propensity of its label (Jain, Prabhu and Varma, "Extreme Multi-label Loss Functions for
Recommendation, Tagging, Ranking & Other Missing Label Applications", KDD 2016).

The metric reported is that of the Extreme Classification Repository's MATLAB scripts: the sum
over **all** examples of the weighted gains, divided by the sum over all examples of the best
weighted gains possible (true labels by descending weight). It is a ratio of sums, not a mean of
ratios, so it has no per-example values, and an example without a true label adds 0 to both.

pyxclib gives the same PSP@k; its PSnDCG@k also divides both gains of each example by that
example's unweighted ideal DCG before summing, so it differs in the examples with fewer than k true
labels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.labels.propensity import checked_counts, counts_of, propensities
from tfxc.labels.propensity_constants import propensity_constants
from tfxc.metrics.base import Metric, checked_ks, named, names_at, ratio
from tfxc.metrics.ranking import rank_discounts

if TYPE_CHECKING:
    from tfxc.metrics.base import RankedBatch


class PropensityScoredMetric(Metric):
    """Ratio of weighted gain to the best possible; a subclass defines the ranks' discounts.

    Args:
        label_counts: (num_labels,) number of training examples of each label.
        num_examples: number of training examples.
        propensity: name in ``labels.propensity_constants.DATASET_CONSTANTS`` or a pair (A, B).
        ks: cut-offs.

    Raises:
        ConfigError: an argument is out of its range or the constants' name is unknown.
    """

    prefix = ""

    def __init__(
        self,
        label_counts: Sequence[int] | np.ndarray,
        num_examples: int,
        propensity: str | Sequence[float] = "default",
        ks: Sequence[int] = (1, 3, 5),
    ) -> None:
        self.label_counts = checked_counts(label_counts)
        self.num_examples = num_examples
        self.constants = propensity_constants(propensity)
        self.ks = checked_ks(ks)
        self.names = names_at(self.prefix, self.ks)
        self.min_predictions = max(self.ks)
        self._weights(np.zeros((1, 1), int))  # fails now, not after training
        super().__init__()

    def discounts(self) -> np.ndarray:
        """Returns float64 (largest k,): what a hit at each rank counts."""
        raise NotImplementedError

    def initial_state(self) -> dict[str, Any]:
        zeros = np.zeros(len(self.ks))
        return {"gain": zeros, "best": zeros.copy(), "examples": np.int64(0)}

    def update_ranked(self, batch: "RankedBatch") -> None:
        depth = max(self.ks)
        gains = np.where(batch.hits, self._weights(batch.ids), 0.0)[:, :depth]
        weights = np.where(batch.labels >= 0, self._weights(batch.labels), 0.0)
        best = -np.sort(-weights, axis=1)[:, :depth]
        self.state["gain"] += self._sums(gains)
        self.state["best"] += self._sums(best)
        self.state["examples"] += len(batch)

    def settings(self) -> tuple[Any, ...]:
        return self.names, self.constants, self.num_examples, len(self.label_counts)

    def result(self) -> dict[str, float]:
        return named(self.names, ratio(self.state["gain"], self.state["best"]))

    def support(self) -> dict[str, int]:
        return dict.fromkeys(self.names, int(self.state["examples"]))

    def _weights(self, ids: np.ndarray) -> np.ndarray:
        counts = counts_of(ids, self.label_counts)
        return 1 / propensities(counts, self.num_examples, *self.constants)

    def _sums(self, gains: np.ndarray) -> np.ndarray:
        """Returns (len(ks),): discounted sum of the first k columns, over all rows."""
        discounted = gains.sum(axis=0) * self.discounts()[: gains.shape[1]]
        return np.array([discounted[:k].sum() for k in self.ks])


class PropensityScoredPrecision(PropensityScoredMetric):
    """PSP@k: ``Σ Σ_{i ≤ k, r_i ∈ y} 1/p(r_i)`` over its best possible value.

    Example:
        >>> metric = PropensityScoredPrecision([90, 9, 1], num_examples=100, ks=(1, 2))
        >>> metric.update(np.array([[0, 2], [1, 2]]), np.array([[9, 5], [8, 2]]), [[0], [2]])
        >>> {name: round(value, 4) for name, value in metric.result().items()}
        {'PSP@1': 0.2454, 'PSP@2': 1.0}
    """

    prefix = "PSP"

    def discounts(self) -> np.ndarray:
        return np.ones(max(self.ks))


class PropensityScoredNDCG(PropensityScoredMetric):
    """PSnDCG@k: ``Σ Σ_{i ≤ k, r_i ∈ y} 1/(p(r_i) log2(i + 1))`` over its best possible value."""

    prefix = "PSnDCG"

    def discounts(self) -> np.ndarray:
        return rank_discounts(max(self.ks))
