"""How much of the label space a model serves: coverage, and recall and precision by slice."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.metrics.base import MeanMetric, Metric, checked_ks, named, names_at, ratio, zero_padded

if TYPE_CHECKING:
    from tfxc.labels.slices import LabelSlices
    from tfxc.metrics.base import RankedBatch


class LabelCoverage(Metric):
    """Shares of labels that occur at all in the top k.

    * ``correct coverage@k``: of the labels true in at least one example (labels never seen in
      training included), the share that is correctly predicted in the top k at least once.
    * ``predicted coverage@k``: of all ``num_labels`` labels, the share that is predicted in the
      top k at least once, right or wrong.

    Args:
        num_labels: size of the label space.
        ks: cut-offs.

    Raises:
        ConfigError: ``num_labels`` or ``ks`` are not positive integers.

    Example:
        >>> metric = LabelCoverage(num_labels=4, ks=(1,))
        >>> metric.update(np.array([[3], [3]]), np.array([[0.9], [0.8]]), np.array([[3], [2]]))
        >>> metric.result()
        {'correct coverage@1': 0.5, 'predicted coverage@1': 0.25}
    """

    def __init__(self, num_labels: int, ks: Sequence[int] = (1, 3, 5)) -> None:
        if num_labels < 1:
            raise ConfigError(f"{num_labels} is less than 1", where="num_labels")
        self.num_labels = num_labels
        self.ks = checked_ks(ks)
        self.names = names_at("correct coverage", self.ks) + names_at("predicted coverage", self.ks)
        self.min_predictions = max(self.ks)
        super().__init__()

    def settings(self) -> tuple[Any, ...]:
        return self.names, self.num_labels

    def initial_state(self) -> dict[str, np.ndarray]:
        return {name: np.zeros(self.num_labels, bool) for name in (*self.names, "true")}

    def update_ranked(self, batch: "RankedBatch") -> None:
        for k in self.ks:
            ids = batch.ids[:, :k]
            hits = batch.hits[:, :k]
            self._mark(f"predicted coverage@{k}", ids[ids >= 0])
            self._mark(f"correct coverage@{k}", ids[hits])
        self._mark("true", batch.labels[batch.labels >= 0])

    def result(self) -> dict[str, float]:
        marked = [np.count_nonzero(self.state[name]) for name in self.names]
        return named(self.names, ratio(marked, list(self.support().values())))

    def support(self) -> dict[str, int]:
        """Returns numbers of labels: those true at least once, and all."""
        num_true = int(np.count_nonzero(self.state["true"]))
        sizes = [num_true] * len(self.ks) + [self.num_labels] * len(self.ks)
        return named(self.names, sizes)

    def _mark(self, key: str, ids: np.ndarray) -> None:
        if ids.size:
            self.state[key] = zero_padded(self.state[key], ids.max() + 1)
            self.state[key][ids] = True


class MacroF1(Metric):
    """``macro-F1@k``: mean over all labels of the F1 of each, if the best k are what is predicted.

    Labels that no example has count with 0, as in xcolumns and in Schultheis et al., "Generalized
    test utilities for long-tail performance in extreme multi-label classification", NeurIPS 2023.

    Args:
        num_labels: size of the label space; labels outside of it do not count.
        ks: cut-offs.

    Example:
        >>> metric = MacroF1(num_labels=4, ks=(1,))
        >>> metric.update(np.array([[3], [3]]), np.array([[0.9], [0.8]]), np.array([[3], [2]]))
        >>> round(metric.result()["macro-F1@1"], 6)
        0.166667
    """

    def __init__(self, num_labels: int, ks: Sequence[int] = (1, 3, 5)) -> None:
        self.num_labels = num_labels
        self.ks = checked_ks(ks)
        self.names = names_at("macro-F1", self.ks)
        self.min_predictions = max(self.ks)
        super().__init__()

    def settings(self) -> tuple[Any, ...]:
        return self.names, self.num_labels

    def initial_state(self) -> dict[str, np.ndarray]:
        # They grow to the largest id met, of 2^31 examples at most.
        kinds = ("hits", "predicted")
        keys = ("true", *(f"{kind}@{k}" for kind in kinds for k in self.ks))
        return {key: np.zeros(0, np.int32) for key in keys}

    def update_ranked(self, batch: "RankedBatch") -> None:
        for k in self.ks:
            ids = batch.ids[:, :k]
            self._count(f"predicted@{k}", ids[ids >= 0])
            self._count(f"hits@{k}", ids[batch.hits[:, :k]])
        self._count("true", batch.labels[batch.labels >= 0])

    def result(self) -> dict[str, float]:
        true = zero_padded(self.state["true"], self.num_labels)
        values = []
        for k in self.ks:
            found, predicted = (
                zero_padded(self.state[f"{kind}@{k}"], self.num_labels)
                for kind in ("hits", "predicted")
            )
            values.append(ratio(2.0 * found, predicted + true).sum() / self.num_labels)
        return named(self.names, values)

    def support(self) -> dict[str, int]:
        """Returns the number of labels."""
        return named(self.names, [self.num_labels] * len(self.ks))

    def _count(self, key: str, ids: np.ndarray) -> None:
        ids = ids[ids < self.num_labels]
        if ids.size:
            self.state[key] = zero_padded(self.state[key], ids.max() + 1)
            np.add.at(self.state[key], ids, 1)


class BySlice(Metric):
    """What the metrics by slice of the label set share, under names such as ``R@5/few-shot``.

    Args:
        slices: ``labels.slices.LabelSlices``.
        ks: cut-offs.

    Raises:
        ConfigError: ``ks`` are not distinct positive integers.
    """

    prefix = ""

    def __init__(self, slices: "LabelSlices", ks: Sequence[int] = (1, 3, 5)) -> None:
        self.slices = slices
        self.ks = checked_ks(ks)
        self.names = tuple(
            name for part in slices.names for name in names_at(self.prefix, self.ks, f"/{part}")
        )
        self.min_predictions = max(self.ks)
        super().__init__()

    def settings(self) -> tuple[Any, ...]:
        return self.names, tuple(self.slices.sizes().items())


class SlicedMetric(BySlice, MeanMetric):
    """Base of those that are means over the examples that have labels of the slice."""

    def values_of(self, cumulative_hits: np.ndarray, num_true: np.ndarray) -> np.ndarray:
        """Returns float64 (batch, K): values at every cut-off of one slice, NaN to leave them out.

        Args:
            cumulative_hits: int (batch, K), hits within the slice.
            num_true: int (batch, 1), true labels within the slice.
        """
        raise NotImplementedError

    def per_example_ranked(self, batch: "RankedBatch") -> dict[str, np.ndarray]:
        slice_of_label = self.slices.lookup(batch.labels)
        slice_of_hit = np.where(batch.hits, self.slices.lookup(batch.ids), -1)
        values: dict[str, np.ndarray] = {}
        for number, part in enumerate(self.slices.names):
            cumulative_hits = np.cumsum(slice_of_hit == number, axis=1)
            num_true = np.count_nonzero(slice_of_label == number, axis=1)[:, None]
            table = self.values_of(cumulative_hits, num_true)
            values |= {f"{self.prefix}@{k}/{part}": table[:, k - 1] for k in self.ks}
        return values


class SlicedRecall(SlicedMetric):
    """Recall at k with only the labels of one slice counted as true.

    The mean over the examples that have a true label in the slice; ``support()`` says how many.

    Example:
        >>> from tfxc.labels.slices import frequency_slices
        >>> metric = SlicedRecall(frequency_slices([90, 9, 0]), ks=(1,))
        >>> metric.update(np.array([[0], [1]]), np.array([[9], [8]]), [[0], [2]])
        >>> metric.result()
        {'R@1/frequent': 1.0, 'R@1/few-shot': 0.0, 'R@1/zero-shot': 0.0}
    """

    prefix = "R"

    def values_of(self, cumulative_hits: np.ndarray, num_true: np.ndarray) -> np.ndarray:
        return np.where(num_true > 0, ratio(cumulative_hits, num_true), np.nan)


class TrainedRecall(SlicedRecall):
    """Recall of labels with training examples and of those without, and their harmonic mean.

    Both are searched among all labels. The harmonic mean is high only where both are.

    Args:
        slices: those of ``labels.slices.trained_slices``.
        ks: cut-offs.

    Example:
        >>> from tfxc.labels.slices import trained_slices
        >>> metric = TrainedRecall(trained_slices([90, 9, 0]), ks=(1,))
        >>> metric.update(np.array([[0], [2]]), np.array([[9], [8]]), [[0], [2]])
        >>> metric.update(np.array([[0]]), np.array([[9]]), [[2]])
        >>> metric.result()["R@1/untrained"], round(metric.result()["R@1/harmonic mean"], 4)
        (0.5, 0.6667)
    """

    def __init__(self, slices: "LabelSlices", ks: Sequence[int] = (1, 3, 5)) -> None:
        super().__init__(slices, ks)
        self._means = names_at("R", self.ks, "/harmonic mean")
        self._of_slices = self.names
        self.names = self.names + self._means

    def initial_state(self) -> dict[str, np.ndarray]:
        count = len(self.slices.names) * len(self.ks)
        return {"sum": np.zeros(count), "count": np.zeros(count, np.int64)}

    def update_ranked(self, batch: "RankedBatch") -> None:
        values = self.per_example_ranked(batch)
        table = np.array([values[name] for name in self._of_slices])
        self.state["sum"] += np.nansum(table, axis=1)
        self.state["count"] += np.count_nonzero(~np.isnan(table), axis=1)

    def result(self) -> dict[str, float]:
        parts = ratio(self.state["sum"], self.state["count"])
        trained, untrained = parts.reshape(2, -1)
        means = ratio(2 * trained * untrained, trained + untrained)
        return named(self.names, [*parts, *means])

    def support(self) -> dict[str, int]:
        """Returns numbers of examples; of the mean the smaller one."""
        counts = self.state["count"]
        return named(self.names, [*counts, *counts.reshape(2, -1).min(axis=0)])


class FoundLabels(BySlice):
    """``found@k/1-5``: of the true labels with 1 to 5 training examples, the share in the best k.

    Counts pairs of an example and a true label (micro), so that an example with many rare labels
    counts as often as it has them. The slice ``0`` are the new labels, those that no training
    example has.

    Args:
        slices: ``labels.slices.LabelSlices``.
        ks: cut-offs.

    Raises:
        ConfigError: ``ks`` are not distinct positive integers.

    Example:
        >>> from tfxc.labels.slices import frequency_slices
        >>> metric = FoundLabels(frequency_slices([90, 9, 0], bounds=(0, 5)), ks=(1,))
        >>> metric.update(np.array([[0], [1]]), np.array([[9], [8]]), [[0, 1], [2, -1]])
        >>> metric.result()
        {'found@1/>5': 0.5, 'found@1/1-5': 0.0, 'found@1/0': 0.0}
    """

    prefix = "found"

    def initial_state(self) -> dict[str, np.ndarray]:
        parts = len(self.slices.names)
        return {
            "true": np.zeros(parts, np.int64),
            "hits": np.zeros((parts, len(self.ks)), np.int64),
        }

    def update_ranked(self, batch: "RankedBatch") -> None:
        self.state["true"] += self._sizes(batch.labels)
        found = np.where(batch.hits, batch.ids, -1)
        for column, k in enumerate(self.ks):
            self.state["hits"][:, column] += self._sizes(found[:, :k])

    def result(self) -> dict[str, float]:
        return named(self.names, ratio(self.state["hits"], self.state["true"][:, None]).ravel())

    def support(self) -> dict[str, int]:
        """Returns numbers of pairs of an example and a true label."""
        return named(self.names, self.state["true"].repeat(len(self.ks)))

    def _sizes(self, ids: np.ndarray) -> np.ndarray:
        slices = self.slices.lookup(ids)
        return np.bincount(slices[slices >= 0], minlength=len(self.slices.names))


class SlicedPrecision(SlicedMetric):
    """Contribution of each slice to precision at k: the slices' values add up to P@k.

    A slice without any true label has no value: its ``support()`` is 0.
    """

    prefix = "P"

    def initial_state(self) -> dict[str, np.ndarray]:
        return super().initial_state() | {"true": np.zeros(len(self.slices.names), np.int64)}

    def update_ranked(self, batch: "RankedBatch") -> None:
        super().update_ranked(batch)
        slices = self.slices.lookup(batch.labels)
        self.state["true"] += np.bincount(slices[slices >= 0], minlength=len(self.slices.names))

    def support(self) -> dict[str, int]:
        """Returns examples; 0 for a slice of which no label was true in any."""
        occurring = np.repeat(self.state["true"] > 0, len(self.ks))
        return named(self.names, np.where(occurring, self.state["count"], 0))

    def values_of(self, cumulative_hits: np.ndarray, num_true: np.ndarray) -> np.ndarray:
        return cumulative_hits / np.arange(1, cumulative_hits.shape[1] + 1)
