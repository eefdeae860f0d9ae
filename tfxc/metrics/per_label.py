"""What each label's predictions are worth, and which labels are taken for which."""

import heapq

import numpy as np

from tfxc.errors import ConfigError
from tfxc.metrics.base import RankedBatch, ratio

_MOST_PAIRS = 1_000_000


class PerLabel:
    """Counts of each label, pairs of confused labels, and which examples went wrong.

    Predicted are the labels whose score reaches ``threshold``, or the best one alone without it.

    Args:
        num_labels: number of labels N.
        threshold: smallest score that counts as a prediction, or None.
        most: keep so many wrong examples, the surest ones, and a million pairs of confused labels,
            the most frequent ones; None keeps all.

    Attributes:
        true, predicted, hits: int64 (N,), examples with the label, with it predicted, with both;
            labels never seen in training are left out.
        num_examples, num_wrong: examples counted, and those whose predictions are not their labels
            (without a threshold: whose best label is none of theirs).
        pairs_left_out: whether rare pairs were forgotten, so that counts of others may be low.

    Example:
        >>> found = PerLabel(3)
        >>> found.update(np.array([[2], [0]]), np.array([[0.9], [0.8]]), np.array([[2], [1]]))
        >>> found.confusions().tolist()
        [[1, 0, 1]]
    """

    def __init__(self, num_labels, threshold=None, most=None):
        self.num_labels, self.threshold, self.most = num_labels, threshold, most
        self.true, self.predicted, self.hits = (np.zeros(num_labels, np.int64) for _ in range(3))
        self.num_examples, self.num_wrong, self.pairs_left_out = 0, 0, False
        self._wrong_ones, self._pairs, self._of_examples = [], {}, np.zeros(4)

    @property
    def wrong(self):
        """List of (row, predicted ids, scores, true ids) of wrong examples, in order."""
        return sorted((entry for *_, entry in self._wrong_ones), key=lambda entry: entry[0])

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
        else:
            good |= batch.num_true == 0
        for row in np.flatnonzero(~good):
            self._wrong(batch, predicted, row)
        self._count_examples(right, np.count_nonzero(predicted, axis=1), batch.num_true)
        self.num_examples += len(batch)

    def _count_examples(self, right, predicted, true):
        exact = (right == predicted) & (right == true)
        shares = (ratio(right, predicted), ratio(right, true), ratio(2 * right, predicted + true))
        self._of_examples += [part.sum() for part in (*shares, exact)]

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
        self._keep(self.num_examples + int(row), ids, scores, true)
        for missed in np.setdiff1d(true, ids):
            for taken in np.setdiff1d(ids, true):
                pair = int(missed), int(taken)
                self._pairs[pair] = self._pairs.get(pair, 0) + 1
        if self.most is not None and len(self._pairs) > 2 * _MOST_PAIRS:
            self._forget_pairs()

    def _keep(self, row, ids, scores, true):
        self.num_wrong += 1
        entry = (max(scores.tolist(), default=-np.inf), -row, (row, ids, scores, true))
        if self.most is None:
            self._wrong_ones.append(entry)
        elif len(self._wrong_ones) < self.most:
            heapq.heappush(self._wrong_ones, entry)
        else:
            heapq.heappushpop(self._wrong_ones, entry)

    def _forget_pairs(self):
        kept = heapq.nlargest(_MOST_PAIRS, self._pairs, key=self._pairs.get)
        self._pairs = {pair: self._pairs[pair] for pair in kept}
        self.pairs_left_out = True

    def _count(self, total, ids):
        total += np.bincount(ids[ids < self.num_labels], minlength=self.num_labels)

    def confusions(self):
        """int64 (pairs, 3): true label missed, label predicted in its place, examples; most first.

        An example with several of either counts for each pair of them.
        """
        pairs = [(*pair, count) for pair, count in self._pairs.items()]
        pairs.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
        return np.array(pairs, np.int64).reshape(-1, 3)

    def of_examples(self):
        """Means over the examples: precision, recall, F1 and accuracy (both sets equal).

        As scikit-learn defines the average ``samples``, and accuracy for several labels.
        """
        return tuple((self._of_examples / max(1, self.num_examples)).tolist())

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
