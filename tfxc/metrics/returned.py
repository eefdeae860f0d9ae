"""The sets of labels that a decision returns: how often they hold the truth, and how large."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.metrics.base import MeanMetric, Metric, named, ratio

if TYPE_CHECKING:
    from tfxc.decision.decision import Decision
    from tfxc.labels.slices import LabelSlices
    from tfxc.metrics.base import RankedBatch

_ALL = ""


class SetCoverage(MeanMetric):
    """``set coverage``, the share of an example's true labels that are returned.

    The mean over examples with a true label: with one each, how often the set holds it. And
    ``set coverage/head`` and so on, where the labels of a slice alone count as true.

    Args:
        decision: ``Decision``.
        slices: ``labels.slices.LabelSlices``, or None.

    Example:
        >>> from tfxc.decision.decision import Decision
        >>> metric = SetCoverage(Decision(0.5))
        >>> metric.update(np.array([[5, 2]]), np.array([[0.9, 0.1]]), np.array([[5, 2]]))
        >>> metric.result()
        {'set coverage': 0.5}
    """

    prefix = "set coverage"

    def __init__(self, decision: "Decision", slices: "LabelSlices | None" = None) -> None:
        self.decision = decision
        self.slices = slices
        self.names = _names(self.prefix, slices)
        super().__init__()

    def settings(self) -> tuple[Any, ...]:
        sizes = () if self.slices is None else tuple(self.slices.sizes().items())
        return self.names, self.decision, sizes

    def per_example_ranked(self, batch: "RankedBatch") -> dict[str, np.ndarray]:
        found = self.decision.predicted(batch.ids, batch.scores) & batch.hits
        parts = (_insides(self.slices, ids) for ids in (batch.ids, batch.labels))
        values = []
        for predicted, true in zip(*parts, strict=True):
            count = np.count_nonzero(true, axis=1)
            right = np.count_nonzero(found & predicted, axis=1)
            values.append(np.where(count > 0, ratio(right, count), np.nan))
        return dict(zip(self.names, values, strict=True))


class SetSizes(Metric):
    """``mean set size`` and ``median set size``, of the labels that are returned for an example.

    With slices also ``mean set size/head`` and so on, over the examples with a true label there.

    Args:
        decision: ``Decision``.
        slices: ``labels.slices.LabelSlices``, or None.

    Example:
        >>> from tfxc.decision.decision import Decision
        >>> metric = SetSizes(Decision(0.5))
        >>> metric.update(np.array([[5, 2]]), np.array([[0.9, 0.8]]), np.array([[5, -1]]))
        >>> metric.result()
        {'mean set size': 2.0, 'median set size': 2.0}
    """

    larger_is_better = False
    is_share = False

    def __init__(self, decision: "Decision", slices: "LabelSlices | None" = None) -> None:
        self.decision = decision
        self.slices = slices
        self._parts = _names(_ALL, slices)
        self.names = tuple(
            f"{kind} set size{part}" for kind in ("mean", "median") for part in self._parts
        )
        super().__init__()

    def settings(self) -> tuple[Any, ...]:
        sizes = () if self.slices is None else tuple(self.slices.sizes().items())
        return self.names, self.decision, sizes

    def initial_state(self) -> dict[str, np.ndarray]:
        # Examples by the size of their set; they grow to the largest one.
        return {part: np.zeros(0, np.int64) for part in self._parts}

    def update_ranked(self, batch: "RankedBatch") -> None:
        sizes = np.count_nonzero(self.decision.predicted(batch.ids, batch.scores), axis=1)
        insides = _insides(self.slices, batch.labels)
        for part, inside in zip(self._parts, insides, strict=True):
            chosen = sizes if part == _ALL else sizes[inside.any(axis=1)]
            before = self.state[part]
            self.state[part] = np.bincount(chosen, minlength=len(before))
            self.state[part][: len(before)] += before

    def of_all(self) -> np.ndarray:
        """Returns the number of examples by the size of their set, from 0."""
        return self.state[_ALL]

    def result(self) -> dict[str, float]:
        means, medians = [], []
        for part in self._parts:
            counts = self.state[part]
            count = int(counts.sum())
            means.append(float(ratio(np.arange(len(counts)) @ counts, count)))
            upto = np.cumsum(counts)
            middle = np.searchsorted(upto, [(count - 1) // 2, count // 2], "right")
            medians.append(float(middle.mean()) if count else 0.0)
        return named(self.names, means + medians)

    def support(self) -> dict[str, int]:
        """Returns the numbers of examples."""
        return named(self.names, [int(self.state[part].sum()) for part in self._parts] * 2)


def _names(first: str, slices: "LabelSlices | None") -> tuple[str, ...]:
    return (first, *(f"{first}/{part}" for part in (() if slices is None else slices.names)))


def _insides(slices: "LabelSlices | None", ids: np.ndarray) -> Iterator[np.ndarray]:
    """Yields bool of the shape of ``ids``: which are labels at all, and which are of each slice."""
    yield ids >= 0
    if slices is not None:
        numbers = slices.lookup(ids)
        for number in range(len(slices.names)):
            yield numbers == number
