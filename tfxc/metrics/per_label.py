"""What each label's predictions are worth, and which labels are taken for which."""

import numpy as np

from tfxc.errors import ConfigError
from tfxc.metrics.base import RankedBatch, ratio


class PerLabel:
    """Counts of each label, pairs of confused labels, and which examples went wrong.

    Predicted are the labels whose score reaches ``threshold``, or the best one alone without it.

    Args:
        num_labels: number of labels N.
        threshold: smallest score that counts as a prediction, or None.

    Attributes:
        true, predicted, hits: int64 (N,), examples with the label, with it predicted, with both;
            labels never seen in training are left out.
        wrong: list of (row, predicted ids, scores, true ids) of the examples whose predictions are
            not their labels, in order; without a threshold, whose best label is none of theirs.

    Example:
        >>> found = PerLabel(3)
        >>> found.update(np.array([[2], [0]]), np.array([[0.9], [0.8]]), np.array([[2], [1]]))
        >>> found.confusions().tolist()
        [[1, 0, 1]]
    """

    def __init__(self, num_labels, threshold=None):
        self.num_labels, self.threshold = num_labels, threshold
        self.true, self.predicted, self.hits = (np.zeros(num_labels, np.int64) for _ in range(3))
        self.wrong, self.num_examples, self._pairs = [], 0, {}

    def update(self, ids, scores, labels, losses=None):
        """Counts one batch; arrays as of ``Metric.update``.

        Raises:
            ConfigError: an example's last score still reaches the threshold: more labels have to
                be searched.
        """
        batch = RankedBatch.of(ids, scores, labels, 1, losses)
        predicted = self._chosen(batch)
        self._count(self.predicted, batch.ids[predicted])
        self._count(self.hits, batch.ids[predicted & batch.hits])
        self._count(self.true, batch.labels[batch.labels >= 0])
        right = np.count_nonzero(predicted & batch.hits, axis=1)
        good = right > 0
        if self.threshold is not None:
            good = (right == np.count_nonzero(predicted, axis=1)) & (right == batch.num_true)
        for row in np.flatnonzero(~good & (batch.num_true > 0)):
            self._wrong(batch, predicted, row)
        self.num_examples += len(batch)

    def _chosen(self, batch):
        if self.threshold is None:
            return (np.arange(batch.ids.shape[1]) < 1) & (batch.ids >= 0)
        chosen = (batch.scores >= self.threshold) & (batch.ids >= 0)
        if batch.ids.shape[1] < self.num_labels and chosen[:, -1].any():
            raise ConfigError(
                f"an example has {batch.ids.shape[1]} labels or more above the threshold",
                where="--threshold",
                fix="raise it, or search more labels with --k",
            )
        return chosen

    def _wrong(self, batch, predicted, row):
        chosen = np.flatnonzero(predicted[row])
        ids, true = batch.ids[row, chosen], batch.labels[row][batch.labels[row] >= 0]
        scores = batch.scores[row, chosen]
        self.wrong.append((self.num_examples + int(row), ids, scores, true))
        for missed in np.setdiff1d(true, ids):
            for taken in np.setdiff1d(ids, true):
                pair = int(missed), int(taken)
                self._pairs[pair] = self._pairs.get(pair, 0) + 1

    def _count(self, total, ids):
        total += np.bincount(ids[ids < self.num_labels], minlength=self.num_labels)

    def confusions(self):
        """int64 (pairs, 3): true label missed, label predicted in its place, examples; most first.

        An example with several of either counts for each pair of them.
        """
        pairs = [(*pair, count) for pair, count in self._pairs.items()]
        pairs.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
        return np.array(pairs, np.int64).reshape(-1, 3)

    def averages(self):
        """``{"micro": (precision, recall, F1), "macro": ...}``, as scikit-learn defines them.

        Macro averages go over the labels that occur or are predicted.
        """
        hits, predicted, true = (
            counts.sum(keepdims=True) for counts in (self.hits, self.predicted, self.true)
        )
        micro = (ratio(hits, predicted), ratio(hits, true), ratio(2 * hits, predicted + true))
        macro = (values[~np.isnan(values)] for values in self.precision_recall_f1())
        return {
            "micro": tuple(float(value[0]) for value in micro),
            "macro": tuple(float(value.mean()) if value.size else 0.0 for value in macro),
        }

    def precision_recall_f1(self):
        """Three float64 (N,); NaN for labels that neither occur nor are predicted."""
        never = (self.true == 0) & (self.predicted == 0)
        values = (
            ratio(self.hits, self.predicted),
            ratio(self.hits, self.true),
            ratio(2 * self.hits, self.predicted + self.true),
        )
        return tuple(np.where(never, np.nan, value) for value in values)
