"""What every metric shares: the ranked batch, additive state, means over examples.

Metrics see top-k lists only, never a (batch, num_labels) matrix. A batch is

* ``ids`` int32 (batch, K): predicted label ids by descending score, distinct within a row; −1
  means "no prediction";
* ``scores`` float32 (batch, K): their scores;
* ``labels`` int32 (batch, max_labels): true label ids padded with −1. An id of ``num_labels`` or
  more is a true label never seen in training: it counts as a positive that cannot be retrieved;
* ``losses`` float (batch,), for the one metric that needs them: losses of the examples, NaN where
  there is none;
* ``ranks`` float (batch, max_labels), for those that need them: the place of each of ``labels``
  among all labels, from 1, infinity where it cannot be found.

Examples without a true label count with the value 0 unless a metric says otherwise, as in the
evaluation scripts of the Extreme Classification Repository
(http://manikvarma.org/downloads/XC/XMLRepository.html).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfxc.core.errors import ConfigError, DataError


def hits(ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Says which predictions are true labels.

    One sorted search over (row, label) keys: no Python per example, and memory in proportion to
    the two inputs only.

    Args:
        ids: int (batch, K), −1 where there is no prediction.
        labels: int (batch, max_labels), padded with −1, in any order.

    Returns:
        bool (batch, K).

    Example:
        >>> hits(np.array([[4, 2, -1]]), np.array([[2, 9, -1]])).tolist()
        [[False, True, False]]
    """
    return _search(np.asarray(ids), distinct_labels(labels))


def distinct_labels(labels: np.ndarray) -> np.ndarray:
    """Returns labels sorted within each row, with −1 instead of any label listed a second time."""
    labels = np.sort(np.asarray(labels), axis=1)
    repeated = labels[:, 1:] == labels[:, :-1]
    labels[:, 1:][repeated] = -1
    return labels


def _search(ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Finds ``ids`` among ``labels`` that ``distinct_labels`` has sorted."""
    if not ids.size or not labels.size:
        return np.zeros(ids.shape, bool)
    stride = np.int64(max(ids.max(), labels.max())) + 1
    row = np.arange(len(ids), dtype=np.int64)[:, None] * stride
    truth = (labels + row)[labels >= 0]  # rows are sorted, so the keys are as a whole
    if not truth.size:
        return np.zeros(ids.shape, bool)
    keys = ids + row
    place = np.minimum(np.searchsorted(truth, keys), truth.size - 1)
    return (truth[place] == keys) & (ids >= 0)


@dataclasses.dataclass(frozen=True)
class RankedBatch:
    """A checked batch and what several metrics need of it, computed once.

    Attributes:
        ids: int (batch, K).
        scores: float (batch, K).
        labels: int (batch, max_labels), sorted and distinct within a row, −1 elsewhere.
        hits: bool (batch, K), which predictions are true labels.
        losses: float64 (batch,), or None.
        ranks: float64 (batch, max_labels), those of ``labels``, or None.
    """

    ids: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    hits: np.ndarray
    losses: np.ndarray | None = None
    ranks: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[Sequence[int]] | np.ndarray,
        scores: Sequence[Sequence[float]] | np.ndarray,
        labels: Sequence[Sequence[int]] | np.ndarray,
        min_predictions: int = 1,
        losses: np.ndarray | None = None,
        ranks: np.ndarray | None = None,
    ) -> "RankedBatch":
        """Checks and joins the arrays.

        Raises:
            DataError: the shapes do not fit together.
            ConfigError: a row holds fewer than ``min_predictions`` predictions.
        """
        ids = np.asarray(ids)
        scores = np.asarray(scores)
        labels = np.asarray(labels)
        shapes = f"ids {ids.shape}, scores {scores.shape}, labels {labels.shape}"
        fitting = ids.ndim == labels.ndim == 2 and ids.shape == scores.shape
        if not fitting or len(ids) != len(labels):
            raise DataError(
                f"the shapes do not fit together: {shapes}",
                fix="give ids and scores (batch, K), and labels (batch, max_labels)",
            )
        if ids.shape[1] < min_predictions:
            raise ConfigError(
                f"there are only {ids.shape[1]} predictions per example",
                fix=f"search the top {min_predictions} labels, or lower the largest k",
            )
        if losses is not None:
            losses = np.asarray(losses, np.float64)
            if losses.shape != (len(ids),):
                raise DataError(f"there are losses of shape {losses.shape} for {len(ids)} examples")
        if ranks is not None:
            order = np.argsort(labels, axis=1, kind="stable")  # that of ``distinct_labels``
            ranks = np.take_along_axis(np.asarray(ranks, np.float64), order, 1)
        labels = distinct_labels(labels)
        return cls(ids, scores, labels, _search(ids, labels), losses, ranks)

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def num_true(self) -> np.ndarray:
        """int (batch,): number of true labels, those never seen in training included."""
        return np.count_nonzero(self.labels >= 0, axis=1)

    @functools.cached_property
    def cumulative_hits(self) -> np.ndarray:
        """int (batch, K): number of hits among the first 1, 2, …, K predictions."""
        return np.cumsum(self.hits, axis=1)


class Metric:
    """One metric, or several that share their counting, accumulated over batches.

    ``state`` is a dict of NumPy arrays and numbers that add up (bool ones by "or"): the state over
    two sets of examples is the sum of the two states, so workers can be combined by ``merge``.

    Attributes:
        names: keys of ``result()``, in order.
        min_predictions: the smallest K that ``update`` accepts.
        larger_is_better: direction of improvement.
        is_share: whether the values lie in [0, 1] and are shown as percentages.

    Example:
        >>> from tfxc.metrics.ranking import Precision
        >>> metric = Precision(ks=(1, 2))
        >>> metric.update(np.array([[0, 2], [1, 2]]), np.array([[9, 5], [8, 2]]), [[0], [2]])
        >>> metric.result()
        {'P@1': 0.5, 'P@2': 0.5}
    """

    names: tuple[str, ...] = ()
    min_predictions = 1
    larger_is_better = True
    is_share = True

    def __init__(self) -> None:
        self.state = self.initial_state()

    def initial_state(self) -> dict[str, Any]:
        """Returns the state before the first example, a dict of arrays."""
        raise NotImplementedError

    def settings(self) -> tuple[Any, ...]:
        """Returns what two metrics must have in common to be merged."""
        return self.names

    def update_ranked(self, batch: "RankedBatch") -> None:
        """Counts the examples of a ``RankedBatch``."""
        raise NotImplementedError

    def result(self) -> dict[str, float]:
        """Returns ``{name: value}``, in [0, 1] where ``is_share``; 0.0 where ``support()`` is 0."""
        raise NotImplementedError

    def support(self) -> dict[str, int]:
        """Returns ``{name: number of examples or labels the value is an average over}``."""
        raise NotImplementedError

    def counts(self) -> dict[str, int]:
        """Returns numbers to be reported with the result, e.g. of examples left out."""
        return {}

    def per_example_ranked(self, batch: "RankedBatch") -> dict[str, np.ndarray]:
        """Works as ``per_example``, of a ``RankedBatch``."""
        return {}

    def update(
        self,
        ids: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        losses: np.ndarray | None = None,
        ranks: np.ndarray | None = None,
    ) -> None:
        """Counts one batch of examples (arrays as in the module's text).

        Raises:
            DataError: the shapes do not fit together.
            ConfigError: K is smaller than ``min_predictions``.
        """
        batch = RankedBatch.of(ids, scores, labels, self.min_predictions, losses, ranks)
        self.update_ranked(batch)

    def per_example(
        self,
        ids: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        losses: np.ndarray | None = None,
        ranks: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns ``{name: float64 (batch,)}``; empty for metrics that are not a mean over
        examples.

        NaN marks an example that the metric leaves out.

        Raises:
            DataError, ConfigError: as ``update``.
        """
        batch = RankedBatch.of(ids, scores, labels, self.min_predictions, losses, ranks)
        return self.per_example_ranked(batch)

    def merge(self, other: "Metric") -> None:
        """Adds what ``other``, a metric with the same settings, has counted.

        Raises:
            ConfigError: ``other`` is another metric or has other settings.
        """
        same_type = type(self) is type(other)
        if not same_type or self.settings() != other.settings():
            theirs = f"settings {other.settings()}" if same_type else type(other).__name__
            raise ConfigError(
                f"{type(self).__name__} with settings {self.settings()} cannot be merged with "
                f"{theirs}",
                fix="merge metrics built with the same settings",
            )
        self.state = {key: add_padded(value, other.state[key]) for key, value in self.state.items()}

    def reset(self) -> None:
        """Forgets all examples."""
        self.state = self.initial_state()


class MeanMetric(Metric):
    """A mean over examples: a subclass defines ``names`` and ``per_example_ranked``."""

    def initial_state(self) -> dict[str, np.ndarray]:
        return {"sum": np.zeros(len(self.names)), "count": np.zeros(len(self.names), np.int64)}

    def update_ranked(self, batch: "RankedBatch") -> None:
        values = self.per_example_ranked(batch)
        table = np.array([values[name] for name in self.names]).reshape(len(self.names), -1)
        self.state["sum"] += np.nansum(table, axis=1)
        self.state["count"] += np.count_nonzero(~np.isnan(table), axis=1)

    def result(self) -> dict[str, float]:
        return named(self.names, ratio(self.state["sum"], self.state["count"]))

    def support(self) -> dict[str, int]:
        return named(self.names, self.state["count"])


def checked_ks(ks: Sequence[int]) -> tuple[int, ...]:
    """Returns ``ks`` as a tuple.

    Raises:
        ConfigError: not a non-empty list of distinct positive integers.
    """
    ks = tuple(ks)
    whole = all(isinstance(k, int | np.integer) and k > 0 for k in ks)
    if not ks or not whole or len(set(ks)) < len(ks):
        raise ConfigError(
            f"{ks} are not distinct positive integers", where="ks", fix="use e.g. 1, 3, 5"
        )
    return ks


def names_at(prefix: str, ks: Sequence[int], suffix: str = "") -> tuple[str, ...]:
    """Returns ``("P@1", "P@3", …)``."""
    return tuple(f"{prefix}@{k}{suffix}" for k in ks)


def named(names: Sequence[str], values: ArrayLike) -> dict[str, Any]:
    """Returns ``{name: Python number}``."""
    return dict(zip(names, np.asarray(values).tolist(), strict=True))


def ratio(
    numerator: ArrayLike,
    denominator: ArrayLike,
) -> np.ndarray:
    """Returns ``numerator / denominator`` as float64, 0 where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.zeros(numerator.shape)
    return np.divide(numerator, denominator, out=result, where=denominator != 0)


def zero_padded(array: np.ndarray, size: int) -> np.ndarray:
    """Appends zeros to ``array`` up to ``size`` entries, where it is shorter."""
    if len(array) >= size:
        return array
    return np.concatenate([array, np.zeros(size - len(array), array.dtype)])


def add_padded(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the sum of two arrays, the shorter one continued with zeros; "or" of bool arrays."""
    if left.ndim == 0:
        return left + right
    size = max(len(left), len(right))
    return zero_padded(left, size) + zero_padded(right, size)
