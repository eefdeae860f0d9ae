"""Ranking metrics at a cut-off k: precision, normalised precision, recall, nDCG.

With y the set of true labels and r_1, r_2, … the predictions by descending score.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.metrics.base import MeanMetric, checked_ks, ratio

if TYPE_CHECKING:
    from tfxc.metrics.base import RankedBatch


class RankingMetric(MeanMetric):
    """A mean over examples at several cut-offs; a subclass defines ``prefix`` and ``values_at``.

    Args:
        ks: cut-offs.

    Raises:
        ConfigError: ``ks`` are not distinct positive integers.
    """

    prefix = ""

    def __init__(self, ks: Sequence[int] = (1, 3, 5)) -> None:
        self.ks = checked_ks(ks)
        self.names = tuple(self.name_at(k) for k in self.ks)
        self.min_predictions = max(self.ks)
        super().__init__()

    def name_at(self, k: int) -> str:
        """Returns the name of the value at cut-off k."""
        return f"{self.prefix}@{k}"

    def values_at(self, batch: "RankedBatch", k: int) -> np.ndarray:
        """Returns float64 (batch,): the value of each example at cut-off k, NaN to leave it out."""
        raise NotImplementedError

    def per_example_ranked(self, batch: "RankedBatch") -> dict[str, np.ndarray]:
        values = (self.values_at(batch, k) for k in self.ks)
        return dict(zip(self.names, values, strict=True))


class Precision(RankingMetric):
    """Precision at k: ``|{r_1 … r_k} ∩ y| / k``, the mean over all examples.

    The field's measure: it divides by k even where an example has fewer than k true labels, and
    an example without a true label counts with 0.

    Example:
        >>> metric = Precision(ks=(1, 3))
        >>> metric.update(np.array([[5, 2, 7]]), np.array([[3.0, 2.0, 1.0]]), np.array([[2, 7]]))
        >>> metric.result()
        {'P@1': 0.0, 'P@3': 0.6666666666666666}
    """

    prefix = "P"

    def values_at(self, batch: "RankedBatch", k: int) -> np.ndarray:
        return batch.cumulative_hits[:, k - 1] / k


class NormalisedPrecision(RankingMetric):
    """Precision at k that divides by ``min(k, |y|)`` instead of k.

    A model can reach 1 at any k, so the metric is larger than P@k and is not to be compared with
    it. The code published with MACH (Medini et al., NeurIPS 2019, arXiv 1910.13830) reports this
    one. An example without a true label counts with 0.
    """

    prefix = "normalised P"

    def values_at(self, batch: "RankedBatch", k: int) -> np.ndarray:
        return ratio(batch.cumulative_hits[:, k - 1], np.minimum(batch.num_true, k))


class Recall(RankingMetric):
    """Recall at k: ``|{r_1 … r_k} ∩ y| / |y|``, the mean over examples that have a true label.

    Examples without one have no recall and are left out; ``counts()`` says how many.
    """

    prefix = "R"

    def initial_state(self) -> dict[str, Any]:
        return super().initial_state() | {"examples": np.int64(0)}

    def update_ranked(self, batch: "RankedBatch") -> None:
        super().update_ranked(batch)
        self.state["examples"] += len(batch)

    def values_at(self, batch: "RankedBatch", k: int) -> np.ndarray:
        share = ratio(batch.cumulative_hits[:, k - 1], batch.num_true)
        return np.where(batch.num_true > 0, share, np.nan)

    def counts(self) -> dict[str, int]:
        left_out = self.state["examples"] - self.state["count"][0]
        return {"examples without labels": int(left_out)}


class RecallOfAll(RankingMetric):
    """Recall at k, the mean over all examples; one without a true label counts with 0.

    So PECOS counts (``pecos.xmc.xlinear.evaluate``). It equals ``Recall`` where every example has a
    label.

    Example:
        >>> metric = RecallOfAll(ks=(1,))
        >>> metric.update(np.array([[5], [2]]), np.array([[3.0], [2.0]]), np.array([[5], [-1]]))
        >>> metric.result()
        {'R of all@1': 0.5}
    """

    prefix = "R of all"

    def values_at(self, batch: "RankedBatch", k: int) -> np.ndarray:
        return ratio(batch.cumulative_hits[:, k - 1], batch.num_true)


class NDCG(RankingMetric):
    """Normalised discounted cumulative gain at k with binary gains.

    ``DCG@k = Σ_{i ≤ k, r_i ∈ y} 1 / log2(i + 1)``, divided by the DCG of the best possible list,
    ``Σ_{i ≤ min(k, |y|)} 1 / log2(i + 1)``; the mean over all examples, 0 for an example without
    a true label. As in the Extreme Classification Repository's evaluation.
    """

    prefix = "nDCG"

    def values_at(self, batch: "RankedBatch", k: int) -> np.ndarray:
        discounts = rank_discounts(k)
        gain = batch.hits[:, :k] @ discounts
        ideal = np.concatenate([[0.0], np.cumsum(discounts)])
        return ratio(gain, ideal[np.minimum(batch.num_true, k)])


def rank_discounts(k: int) -> np.ndarray:
    """Returns float64 (k,): ``1 / log2(rank + 1)`` of the ranks 1 … k."""
    return 1 / np.log2(np.arange(2, k + 2))
