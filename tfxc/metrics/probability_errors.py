"""How far the probabilities of the best k labels are from the truth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.metrics.base import Metric, checked_ks, named, names_at, ratio
from tfxc.metrics.fine_bins import NUM_BINS, counted, fine_bins

if TYPE_CHECKING:
    from tfxc.metrics.base import RankedBatch

_BINS = 15


class ProbabilityErrors(Metric):
    """Errors of the probabilities of the labels at rank 1 to k, all of them together.

    * ``ECE@k``: the expected calibration error over 15 equally wide bins, see ``Reliability``. Of
      all labels of a large label space it says nothing, as nearly all have a probability near 0.
    * ``ECE floor@k``: the ECE that exact probabilities are expected to have by chance on as many
      labels, each right or wrong by itself: sums of these are about normal in each bin.
    * ``adaptive ECE@k``: over 15 bins of as many labels each: it also sees errors among the many
      small probabilities. Labels whose probabilities hardly differ are in one bin.
    * ``Brier@k``: mean square of the difference to 1 for a true label, to 0 for another one.

    References: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017; Nixon et al.,
    "Measuring Calibration in Deep Learning", CVPR workshops 2019; for the best k labels Ullah et
    al., "Labels in Extremes: How Well Calibrated are Extreme Multi-label Classifiers?", KDD 2025.

    Args:
        ks: cut-offs.

    Example:
        >>> metric = ProbabilityErrors(ks=(1,))
        >>> metric.update(np.array([[5], [2]]), np.array([[0.9], [0.7]]), np.array([[5], [1]]))
        >>> {name: round(value, 6) for name, value in metric.result().items()}
        {'ECE@1': 0.4, 'ECE floor@1': 0.302501, 'adaptive ECE@1': 0.4, 'Brier@1': 0.25}
    """

    larger_is_better = False

    def __init__(self, ks: Sequence[int] = (1, 3, 5)) -> None:
        self.ks = checked_ks(ks)
        kinds = ("ECE", "ECE floor", "adaptive ECE", "Brier")
        self.names = tuple(name for kind in kinds for name in names_at(kind, self.ks))
        self.min_predictions = max(self.ks)
        super().__init__()

    def initial_state(self) -> dict[str, np.ndarray]:
        count = len(self.ks)
        return {
            "excess": np.zeros((count, _BINS)),
            "variance": np.zeros((count, _BINS)),
            "fine count": np.zeros((count, NUM_BINS), np.int64),
            "fine excess": np.zeros((count, NUM_BINS)),
            "squares": np.zeros(count),
        }

    def update_ranked(self, batch: "RankedBatch") -> None:
        for row, k in enumerate(self.ks):
            listed = batch.ids[:, :k] >= 0
            scores = batch.scores[:, :k][listed].astype(np.float64)
            excess = batch.hits[:, :k][listed] - scores
            places = np.clip(np.ceil(scores * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
            self.state["excess"][row] += np.bincount(places, excess, _BINS)
            likely = np.clip(scores, 0, 1)
            self.state["variance"][row] += np.bincount(places, likely * (1 - likely), _BINS)
            fine = fine_bins(scores)
            self.state["fine count"][row] += counted(fine)
            self.state["fine excess"][row] += counted(fine, excess)
            self.state["squares"][row] += (excess**2).sum()

    def result(self) -> dict[str, float]:
        totals = self._totals()
        wide = np.abs(self.state["excess"]).sum(axis=1)
        floor = np.sqrt(2 / np.pi * self.state["variance"]).sum(axis=1)  # means of absolute values
        adaptive = np.zeros(len(self.ks))
        for row, count in enumerate(self.state["fine count"]):
            middle = np.cumsum(count) - count / 2
            places = np.minimum(_BINS * middle / max(1, totals[row]), _BINS - 1).astype(np.int64)
            sums = np.bincount(places, self.state["fine excess"][row], _BINS)
            adaptive[row] = np.abs(sums).sum()
        sums_of = (wide, floor, adaptive, self.state["squares"])
        values = [ratio(sums, totals) for sums in sums_of]
        return named(self.names, np.concatenate(values))

    def support(self) -> dict[str, int]:
        """Returns the number of labels."""
        return named(self.names, np.tile(self._totals(), 4))

    def _totals(self) -> np.ndarray:
        return self.state["fine count"].sum(axis=1)


class RiskCoverage(Metric):
    """``AURC``, the area under the risk-coverage curve of the best labels.

    If only the share c of the examples is answered, those of the surest best labels, the risk is
    the share of wrong ones among these; the area is the mean of the risk over all c. It is small
    where the surest are right.

    Reference: Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers", ICLR 2019.

    Example:
        >>> metric = RiskCoverage()
        >>> metric.update(np.array([[5], [2]]), np.array([[0.9], [0.7]]), np.array([[5], [1]]))
        >>> metric.result()
        {'AURC': 0.25}
    """

    names = ("AURC",)
    larger_is_better = False

    def initial_state(self) -> dict[str, np.ndarray]:
        return {"count": np.zeros(NUM_BINS, np.int64), "wrong": np.zeros(NUM_BINS, np.int64)}

    def update_ranked(self, batch: "RankedBatch") -> None:
        listed = batch.ids[:, :1] >= 0
        places = np.zeros(len(batch), np.int64)  # nothing found is surely wrong
        places[listed[:, 0]] = fine_bins(batch.scores[:, :1][listed])
        right = batch.hits[:, :1].any(axis=1)
        self.state["count"] += counted(places)
        self.state["wrong"] += counted(places[~right])

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the risks if 1, 2, … examples are answered, and behind which confidence falls.

        Of examples of equal confidence, any may be answered first: risks are means over that.

        Returns:
            float64 (n,) and bool (n,).
        """
        count = self.state["count"][::-1]
        wrong = self.state["wrong"][::-1]
        there = count > 0
        count = count[there]
        added = np.repeat(ratio(wrong[there], count), count)
        number = np.arange(1, len(added) + 1)
        last = np.zeros(len(added), bool)
        last[np.cumsum(count) - 1] = True
        return np.cumsum(added) / number, last

    def result(self) -> dict[str, float]:
        risks, _ = self.curve()
        return named(self.names, [risks.mean() if len(risks) else 0.0])

    def support(self) -> dict[str, int]:
        """Returns the number of examples."""
        return named(self.names, [self.state["count"].sum()])

    def settings(self) -> tuple[Any, ...]:
        return self.names
