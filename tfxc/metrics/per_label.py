"""Precision and recall of each label, and which labels are confused with which."""

import heapq
from collections.abc import Sequence

import numpy as np

from tfxc.core.errors import ConfigError
from tfxc.decision.decision import Decision
from tfxc.metrics.base import RankedBatch, ratio, zero_padded
from tfxc.metrics.classification import Classification

_MAX_PAIRS = 1_000_000
_Wrong = tuple[int, np.ndarray, np.ndarray, np.ndarray]  # row, predicted ids, scores, true ids


class PerLabel:
    """Counts of each label, pairs of confused labels, and which examples went wrong.

    Args:
        num_labels: number of labels N.
        decision: ``Decision``; the best label alone where none is given.
        most: keep this many wrong examples, the most confident, and a million pairs of confused
            labels, the most frequent; None keeps all.
        positive: see ``Classification``.

    Attributes:
        classification: ``Classification`` of the same examples: averages and counts.
        num_examples, num_wrong: examples counted, and those whose predictions are not their labels
            (where the best label alone is predicted: whose best label is none of theirs, as that
            of an example without labels).
        pairs_left_out: whether rare pairs were forgotten, so that counts of others may be low.

    Example:
        >>> found = PerLabel(3)
        >>> found.update(np.array([[2], [0]]), np.array([[0.9], [0.8]]), np.array([[2], [1]]))
        >>> found.confusions().tolist()
        [[1, 0, 1]]
    """

    def __init__(
        self,
        num_labels: int,
        decision: Decision | None = None,
        most: int | None = None,
        positive: int | None = None,
    ) -> None:
        self.num_labels = num_labels
        self.decision = decision or Decision()
        self.most = most
        self.classification = Classification(self.decision, num_labels, positive)
        self.num_examples = 0
        self.num_wrong = 0
        self.pairs_left_out = False
        self._wrong_ones: list[tuple[float, int, _Wrong]] = []
        self._pairs: dict[tuple[int, int], int] = {}

    @property
    def true(self) -> np.ndarray:
        """int64 (N,): examples with the label."""
        return self._known("true")

    @property
    def predicted(self) -> np.ndarray:
        """int64 (N,): examples the label is predicted for."""
        return self._known("predicted")

    @property
    def hits(self) -> np.ndarray:
        """int64 (N,): examples with the label it is predicted for."""
        return self._known("hits")

    @property
    def wrong(self) -> list[_Wrong]:
        """List of (row, predicted ids, scores, true ids) of wrong examples, in order."""
        return sorted((entry for *_, entry in self._wrong_ones), key=lambda entry: entry[0])

    def update(
        self,
        ids: Sequence[Sequence[int]] | np.ndarray,
        scores: Sequence[Sequence[float]] | np.ndarray,
        labels: Sequence[Sequence[int]] | np.ndarray,
        losses: np.ndarray | None = None,
        ranks: np.ndarray | None = None,
    ) -> None:
        """Counts one batch; arrays see ``Metric.update``.

        Raises:
            ConfigError: an example's last score still reaches the threshold: more labels have to
                be searched.
        """
        batch = RankedBatch.of(ids, scores, labels, 1, losses)
        if self.classification.truncated(batch).any():
            raise ConfigError(
                f"an example has {batch.ids.shape[1]} labels above the threshold, all that were "
                "searched, so it may have more",
                where="--threshold",
                fix="raise it, or search more labels with --labels",
            )
        self.classification.update_ranked(batch)
        predicted = self.decision.predicted(batch.ids, batch.scores)
        right = np.count_nonzero(predicted & batch.hits, axis=1)
        good = right > 0
        if not self.decision.best_alone:
            good = (right == np.count_nonzero(predicted, axis=1)) & (right == batch.num_true)
        for row in np.flatnonzero(~good):
            chosen = np.flatnonzero(predicted[row])
            taken = batch.ids[row, chosen]
            true = batch.labels[row][batch.labels[row] >= 0]
            self._keep(self.num_examples + int(row), taken, batch.scores[row, chosen], true)
        self.num_examples += len(batch)

    def _known(self, key: str) -> np.ndarray:
        return zero_padded(self.classification.state[key], self.num_labels)[: self.num_labels]

    def _keep(self, row: int, ids: np.ndarray, scores: np.ndarray, true: np.ndarray) -> None:
        """Remembers a wrong example and its pairs of confused labels."""
        self.num_wrong += 1
        entry = (max(scores.tolist(), default=-np.inf), -row, (row, ids, scores, true))
        if self.most is None:
            self._wrong_ones.append(entry)
        elif len(self._wrong_ones) < self.most:
            heapq.heappush(self._wrong_ones, entry)
        else:
            heapq.heappushpop(self._wrong_ones, entry)
        for missed in np.setdiff1d(true, ids):
            for taken in np.setdiff1d(ids, true):
                pair = int(missed), int(taken)
                self._pairs[pair] = self._pairs.get(pair, 0) + 1
        if self.most is not None and len(self._pairs) > 2 * _MAX_PAIRS:
            frequent = heapq.nlargest(_MAX_PAIRS, self._pairs.items(), key=lambda pair: pair[1])
            self._pairs = dict(frequent)
            self.pairs_left_out = True

    def confusions(self) -> np.ndarray:
        """Returns int64 (pairs, 3): true label missed, label predicted in its place, examples.

        The most frequent pairs come first. An example with several of either counts for each pair.
        """
        pairs = [(*pair, count) for pair, count in self._pairs.items()]
        pairs.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
        return np.array(pairs, np.int64).reshape(-1, 3)

    def precision_recall_f1(self) -> tuple[np.ndarray, ...]:
        """Returns three float64 (N,); NaN for labels that neither occur nor are predicted."""
        hits = self.hits
        predicted = self.predicted
        true = self.true
        never = (true == 0) & (predicted == 0)
        values = ratio(hits, predicted), ratio(hits, true), ratio(2 * hits, predicted + true)
        return tuple(np.where(never, np.nan, value) for value in values)
