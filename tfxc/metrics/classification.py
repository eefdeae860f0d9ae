"""How good the sets of labels are that a decision predicts.

Definitions as in scikit-learn with ``zero_division=0``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfxc.decision.decision import Decision
from tfxc.metrics.base import Metric, named, ratio, zero_padded

if TYPE_CHECKING:
    from tfxc.metrics.base import RankedBatch


_VALUES = ("precision", "recall", "F1")
_SAMPLES = (*(f"samples-{value}" for value in _VALUES), "accuracy")


class Classification(Metric):
    """Precision, recall, F1 and accuracy of the sets of labels that a decision predicts.

    * ``micro-...``: from the hits, predictions and true labels of all examples together.
    * ``macro-...``: mean over labels of the label's own value. A label that is neither true nor
      predicted in any example has none and is left out, so a large label space of which the
      evaluated set holds a small part does not pull the mean to 0.
    * ``samples-...``: mean over examples of the value of their two sets, 0 where it is 0 / 0.
    * ``accuracy``: share of examples whose two sets are equal, both empty included.
    * ``binary-...``: of the label ``positive`` alone.

    A true label that training does not know counts everywhere as one that was missed: recall and
    F1 of such a label are 0. An example without any label has nothing to be found: each label
    predicted for it is a wrong one, and its samples values are 0.

    With a threshold the predicted set is taken from the top-K list, so K must be large enough for
    the list to reach below the threshold. An example whose K-th score still passes may miss
    predictions: ``counts()`` reports how many there were; search more labels if it is not 0.

    Args:
        decision: ``Decision``.
        num_labels: size of the label space, if known: with K equal to it no list is cut off.
        positive: label of the ``binary`` values; None leaves these out.

    Example:
        >>> metric = Classification(Decision(0.5))
        >>> metric.update(np.array([[5, 2]]), np.array([[0.9, 0.1]]), np.array([[5, 7]]))
        >>> metric.result()["micro-F1"]
        0.6666666666666666
    """

    def __init__(
        self, decision: "Decision", num_labels: int | None = None, positive: int | None = None
    ) -> None:
        self.decision = decision
        self.num_labels = num_labels
        self.positive = positive
        self._averages = ("micro", "macro") if positive is None else ("binary", "micro", "macro")
        averages = tuple(f"{a}-{value}" for a in self._averages for value in _VALUES)
        self.names = (*averages, *_SAMPLES)
        super().__init__()

    def settings(self) -> tuple[Any, ...]:
        return self.names, self.decision, self.num_labels, self.positive

    def initial_state(self) -> dict[str, Any]:
        # Per label; they grow to the largest id met, since true ids have no upper bound.
        per_label = {key: np.zeros(0, np.int64) for key in ("hits", "predicted", "true")}
        totals = {name: np.float64(0) for name in _SAMPLES}
        return per_label | totals | {"examples": np.int64(0), "cut off": np.int64(0)}

    def update_ranked(self, batch: "RankedBatch") -> None:
        predicted = self.decision.predicted(batch.ids, batch.scores)
        self._count("hits", batch.ids[predicted & batch.hits])
        self._count("predicted", batch.ids[predicted])
        self._count("true", batch.labels[batch.labels >= 0])
        for name, values in self.per_example_ranked(batch).items():
            self.state[name] += values.sum()
        self.state["examples"] += len(batch)
        self.state["cut off"] += np.count_nonzero(self.truncated(batch))

    def truncated(self, batch: "RankedBatch") -> np.ndarray:
        """Returns bool (batch,): examples whose last prediction still reaches the threshold."""
        if batch.ids.shape[1] == self.num_labels:
            return np.zeros(len(batch), bool)
        return self.decision.may_go_on(batch.ids, batch.scores)

    def per_example_ranked(self, batch: "RankedBatch") -> dict[str, np.ndarray]:
        predicted = self.decision.predicted(batch.ids, batch.scores)
        num_hits = np.count_nonzero(predicted & batch.hits, axis=1)
        num_predicted = np.count_nonzero(predicted, axis=1)
        equal = (num_hits == num_predicted) & (num_hits == batch.num_true)
        values = _precision_recall_f1(num_hits, num_predicted, batch.num_true)
        return dict(zip(_SAMPLES, (*values, equal.astype(np.float64)), strict=True))

    def result(self) -> dict[str, float]:
        counts = self.per_label()
        occurring = (counts[1] > 0) | (counts[2] > 0)
        averages = {
            "micro": _precision_recall_f1(*(part.sum() for part in counts)),
            "macro": [
                values.mean() if values.size else 0.0
                for values in _precision_recall_f1(*(part[occurring] for part in counts))
            ],
        }
        if self.positive is not None:
            averages["binary"] = _precision_recall_f1(
                *(part[self.positive] if self.positive < len(part) else 0 for part in counts)
            )
        of_examples = ratio([self.state[name] for name in _SAMPLES], self.state["examples"])
        values = [value for average in self._averages for value in averages[average]]
        return named(self.names, [*values, *of_examples])

    def support(self) -> dict[str, int]:
        """Returns examples; for the macro averages the number of labels that occur."""
        _, predicted, true = self.per_label()
        num_labels = int(np.count_nonzero((predicted > 0) | (true > 0)))
        examples = int(self.state["examples"])
        return {n: num_labels if n.startswith("macro") else examples for n in self.names}

    def counts(self) -> dict[str, int]:
        counts = {}
        if self.num_labels is not None:
            unknown = self.state["true"][self.num_labels :].sum()
            counts["labels unknown to training"] = int(unknown)
        if not self.decision.best_alone:
            counts["examples whose predictions are cut off at K"] = int(self.state["cut off"])
        return counts

    def per_label(self) -> list[np.ndarray]:
        """Returns hits, predictions and occurrences of each label, three int64 arrays of one
        length.

        They reach to the largest id met, of labels that training does not know as well.
        """
        arrays = [self.state[key] for key in ("hits", "predicted", "true")]
        size = max(map(len, arrays))
        return [zero_padded(array, size) for array in arrays]

    def _count(self, key: str, ids: np.ndarray) -> None:
        if ids.size:
            self.state[key] = zero_padded(self.state[key], ids.max() + 1)
            np.add.at(self.state[key], ids, 1)


def positive_label(names: Sequence[str]) -> int | None:
    """Returns the label of the ``binary`` values: of two the last one by name (1, positive, true,
    yes).

    Args:
        names: label names by id.

    Returns:
        Its id; None if there are not two labels.

    Example:
        >>> positive_label(["yes", "no"])
        0
    """
    return int(names[1] >= names[0]) if len(names) == 2 else None


def _precision_recall_f1(
    hits: np.ndarray | int, predicted: np.ndarray | int, true: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return ratio(hits, predicted), ratio(hits, true), ratio(2 * hits, predicted + true)
