"""Set-valued predictions at a score threshold, and accuracy of single-label data.

Definitions as in scikit-learn with ``zero_division=0``.
"""

import numpy as np

from tfxc.errors import DataError
from tfxc.metrics.base import Metric, grown, named, ratio
from tfxc.metrics.ranking import RankingMetric


class ThresholdMetrics(Metric):
    """Precision, recall and F1 of the labels whose score reaches a threshold.

    The predicted set of an example is taken from its top-K list, so K must be large enough for
    the list to reach below the threshold. An example whose K-th score still passes may miss
    predictions: ``counts()`` tells how many there were; ask the model for more if it is not 0.

    * ``micro-…``: from the hits, predictions and true labels of all examples together.
    * ``macro-…``: mean over labels of the label's own value. A label that is neither true nor
      predicted in any example has none and is left out, so a large label space of which the
      evaluated set holds a small part does not pull the mean to 0. A true label never seen in
      training counts with 0.
    * ``samples-F1``: mean over examples of the F1 of their two sets, 0 where both are empty.
    * ``subset accuracy``: share of examples whose two sets are equal, both empty included.

    Args:
        threshold: smallest score that counts as a prediction.
        num_labels: size of the label space, if known: with K equal to it no list is cut off.

    Example:
        >>> metric = ThresholdMetrics(threshold=0.5)
        >>> metric.update(np.array([[5, 2]]), np.array([[0.9, 0.1]]), np.array([[5, 7]]))
        >>> metric.result()["micro-F1"]
        0.6666666666666666
    """

    _averages = tuple(f"{a}-{v}" for a in ("micro", "macro") for v in ("precision", "recall", "F1"))
    _of_examples = ("samples-F1", "subset accuracy")
    names = _averages + _of_examples

    def __init__(self, threshold, num_labels=None):
        self.threshold = threshold
        self.num_labels = num_labels
        super().__init__()

    def settings(self):
        return self.names, self.threshold, self.num_labels

    def initial_state(self):
        # Per label; they grow to the largest id met, since true ids have no upper bound.
        per_label = {key: np.zeros(0, np.int32) for key in ("hits", "predicted", "true")}
        return per_label | {
            "examples": np.int64(0),
            "cut off": np.int64(0),
            "samples-F1": np.float64(0),
            "subset accuracy": np.float64(0),
        }

    def update_ranked(self, batch):
        predicted = self._predicted(batch)
        self._count("hits", batch.ids[predicted & batch.hits])
        self._count("predicted", batch.ids[predicted])
        self._count("true", batch.labels[batch.labels >= 0])
        for name, values in self.per_example_ranked(batch).items():
            self.state[name] += values.sum()
        self.state["examples"] += len(batch)
        if batch.ids.shape[1] != self.num_labels:
            self.state["cut off"] += np.count_nonzero(predicted[:, -1])

    def per_example_ranked(self, batch):
        predicted = self._predicted(batch)
        num_hits = np.count_nonzero(predicted & batch.hits, axis=1)
        num_predicted = np.count_nonzero(predicted, axis=1)
        equal = (num_hits == num_predicted) & (num_hits == batch.num_true)
        f1 = ratio(2 * num_hits, num_predicted + batch.num_true)
        return {"samples-F1": f1, "subset accuracy": equal.astype(np.float64)}

    def result(self):
        hits, predicted, true = self._per_label()
        occurring = (predicted > 0) | (true > 0)
        micro = _precision_recall_f1(hits.sum(), predicted.sum(), true.sum())
        macro = _precision_recall_f1(hits[occurring], predicted[occurring], true[occurring])
        macro = [values.mean() if values.size else 0.0 for values in macro]
        of_examples = ratio([self.state[n] for n in self._of_examples], self.state["examples"])
        return named(self.names, [*micro, *macro, *of_examples])

    def support(self):
        """Examples; for the macro averages the number of labels that occur."""
        _, predicted, true = self._per_label()
        num_labels = int(np.count_nonzero((predicted > 0) | (true > 0)))
        examples = int(self.state["examples"])
        return {n: num_labels if n.startswith("macro") else examples for n in self.names}

    def counts(self):
        return {"examples whose predictions are cut off at K": int(self.state["cut off"])}

    def _predicted(self, batch):
        return (batch.scores >= self.threshold) & (batch.ids >= 0)

    def _count(self, key, ids):
        if ids.size:
            self.state[key] = grown(self.state[key], ids.max() + 1)
            np.add.at(self.state[key], ids, 1)

    def _per_label(self):
        arrays = [self.state[key] for key in ("hits", "predicted", "true")]
        size = max(map(len, arrays))
        return [grown(array, size) for array in arrays]


class Accuracy(RankingMetric):
    """Share of examples whose one label is the first prediction, or among the first k.

    For single-label data; an example without a label counts with 0.

    Args:
        ks: 1 gives ``accuracy``, any other k ``top-k accuracy`` under its number.

    Raises:
        ConfigError: ``ks`` are not distinct positive integers.

    Example:
        >>> metric = Accuracy(ks=(1, 2))
        >>> metric.update(np.array([[5, 2]]), np.array([[0.9, 0.1]]), np.array([[2]]))
        >>> metric.result()
        {'accuracy': 0.0, 'top-2 accuracy': 1.0}
    """

    def __init__(self, ks=(1,)):
        super().__init__(ks)

    def name_at(self, k):
        return "accuracy" if k == 1 else f"top-{k} accuracy"

    def values_at(self, batch, k):
        if len(batch) and batch.num_true.max() > 1:
            raise DataError(
                f"one label per example expected, {batch.num_true.max()} labels found",
                fix="do not ask for single-label metrics on multi-label data",
            )
        return batch.cumulative_hits[:, k - 1].astype(np.float64)


def _precision_recall_f1(hits, predicted, true):
    return ratio(hits, predicted), ratio(hits, true), ratio(2 * hits, predicted + true)
