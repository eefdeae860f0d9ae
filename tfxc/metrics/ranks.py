"""Mean reciprocal rank and hits at k over pairs of example and label."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.metrics.base import Metric, checked_ks, named, ratio

if TYPE_CHECKING:
    from tfxc.labels.slices import LabelSlices
    from tfxc.metrics.base import RankedBatch


class Ranks(Metric):
    """MRR and H@k over all pairs of an example and one of its true labels.

    A label's rank is 1 + the number of labels with a better score + half of those with an equal
    one; the example's other true labels do not count. H@k is the share of ranks up to k. A label
    that cannot be found has the rank infinity.

    Args:
        ks: cut-offs of H@k.
        slices: ``labels.slices.LabelSlices``, of each of which they are measured too; or None.

    Example:
        >>> metric = Ranks(ks=(1, 10))
        >>> ids, scores = np.array([[5]]), np.zeros((1, 1))
        >>> metric.update(ids, scores, np.array([[5, 7]]), ranks=np.array([[1.0, 4.0]]))
        >>> metric.result()
        {'MRR': 0.625, 'H@1': 0.5, 'H@10': 1.0}
    """

    def __init__(self, ks: Sequence[int] = (1, 10), slices: "LabelSlices | None" = None) -> None:
        self.ks = checked_ks(ks)
        self.slices = slices
        self._parts = ("", *(f"/{name}" for name in (slices.names if slices else ())))
        kinds = ("MRR", *(f"H@{k}" for k in self.ks))
        self.names = tuple(f"{kind}{part}" for part in self._parts for kind in kinds)
        super().__init__()

    def settings(self) -> tuple[Any, ...]:
        return self.names, () if self.slices is None else tuple(self.slices.sizes().items())

    def initial_state(self) -> dict[str, np.ndarray]:
        values = (len(self._parts), 1 + len(self.ks))
        return {"sum": np.zeros(values).ravel(), "count": np.zeros(len(self._parts), np.int64)}

    def update_ranked(self, batch: "RankedBatch") -> None:
        if batch.ranks is None:
            raise ConfigError(
                "MRR needs the rank of each true label, and the batch has none",
                fix="update the metrics with ranks of Searcher(..., ranks=True)",
            )
        exists = batch.labels >= 0
        part_of = None if self.slices is None else self.slices.lookup(batch.labels)
        for number in range(len(self._parts)):
            chosen = exists if number == 0 or part_of is None else part_of == number - 1
            ranks = batch.ranks[chosen]
            values = [np.sum(1 / ranks), *(np.count_nonzero(ranks <= k) for k in self.ks)]
            first = number * len(values)
            self.state["sum"][first : first + len(values)] += values
            self.state["count"][number] += len(ranks)

    def result(self) -> dict[str, float]:
        return named(self.names, ratio(self.state["sum"], self._counts()))

    def support(self) -> dict[str, int]:
        """Returns numbers of pairs."""
        return named(self.names, self._counts())

    def _counts(self) -> np.ndarray:
        return np.repeat(self.state["count"], 1 + len(self.ks))
