"""Whether probabilities can be believed: reliability diagram and expected calibration error."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.metrics.base import Metric, named, ratio

if TYPE_CHECKING:
    from tfxc.metrics.base import RankedBatch


class Bin(NamedTuple):
    """Predictions of like probability.

    Attributes:
        low, high: bounds; the upper one belongs to the bin.
        size: number of predictions.
        confidence: mean of their probabilities.
        correct: share of them that are true labels.
    """

    low: float
    high: float
    size: int
    confidence: float
    correct: float


class Reliability(Metric):
    """Expected calibration error of probabilities, with equally wide bins.

    ECE = sum over bins of (size / all) * ``|correct - confidence|``, see ``Bin``: 0 where of the
    predictions with probability p the share p is right.

    Reference: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3 (there
    M is ``num_bins``, and the best label alone is counted).

    Args:
        num_bins: number of bins between 0 and 1.
        first, last: ranks of the predictions that are counted, from 1; ``last`` None means all
            from the first one on. The best label alone by default.

    Raises:
        ConfigError: fewer than 1 bin.

    Example:
        >>> metric = Reliability(num_bins=2)
        >>> metric.update(np.array([[5], [2]]), np.array([[0.9], [0.7]]), np.array([[5], [1]]))
        >>> round(metric.result()["ECE"], 6)
        0.3
    """

    names = ("ECE",)
    larger_is_better = False

    def __init__(self, num_bins: int = 15, first: int = 1, last: int | None = 1) -> None:
        if num_bins < 1:
            raise ConfigError(f"{num_bins} is less than 1", where="num_bins")
        self.num_bins = num_bins
        self.ranks = slice(first - 1, last)
        super().__init__()

    def settings(self) -> tuple[Any, ...]:
        return self.num_bins, self.ranks.start, self.ranks.stop

    def initial_state(self) -> dict[str, np.ndarray]:
        whole = np.zeros(self.num_bins, np.int64)
        real = np.zeros(self.num_bins)
        return {"count": whole, "hits": whole.copy(), "probability": real}

    def update_ranked(self, batch: "RankedBatch") -> None:
        counted = batch.ids[:, self.ranks] >= 0
        scores = batch.scores[:, self.ranks][counted].astype(np.float64)
        place = np.ceil(scores * self.num_bins).astype(np.int64) - 1
        place = np.clip(place, 0, self.num_bins - 1)
        np.add.at(self.state["count"], place, 1)
        np.add.at(self.state["hits"], place, batch.hits[:, self.ranks][counted])
        np.add.at(self.state["probability"], place, scores)

    def result(self) -> dict[str, float]:
        gaps = np.abs(self.state["hits"] - self.state["probability"]).sum()
        return named(self.names, [ratio(gaps, self.state["count"].sum())])

    def support(self) -> dict[str, int]:
        """Returns the number of predictions."""
        return named(self.names, [self.state["count"].sum()])

    def bins(self) -> list[Bin]:
        """Returns those with predictions, in ascending order."""
        count = self.state["count"]
        means = [ratio(self.state[name], count) for name in ("probability", "hits")]
        edges = np.linspace(0, 1, self.num_bins + 1)
        columns = (edges[:-1], edges[1:], count, *means)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [Bin(*row) for row in rows if row[2]]
