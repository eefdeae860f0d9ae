import numpy as np
import pytest

from tests.contracts.metrics import MetricContract, random_batch, true_labels
from tfxc.core.errors import ConfigError
from tfxc.metrics.reliability import Reliability


def by_hand(batches, num_bins, ranks):
    """Expected calibration error, prediction by prediction."""
    bins = [[] for _ in range(num_bins)]
    for ids, scores, labels in batches:
        for row, score, label in zip(ids.tolist(), scores.tolist(), labels, strict=True):
            pairs = [*zip(row, score, strict=True)][ranks]
            for found, probability in pairs:
                place = next(n for n in range(num_bins) if probability <= (n + 1) / num_bins)
                if found >= 0:
                    bins[place].append((probability, found in true_labels(label)))
    total = sum(map(len, bins))
    gaps = (abs(sum(hit - probability for probability, hit in found)) for found in bins)
    return sum(gaps) / total


class TestReliability(MetricContract):
    def make(self):
        return Reliability(num_bins=7)

    @pytest.mark.parametrize(("first", "last"), [(1, 1), (1, None), (2, 2), (3, 5)])
    def test_brute_force(self, first, last):
        metric, batches = Reliability(10, first, last), [random_batch(seed) for seed in (1, 2)]
        ranks = slice(first - 1, last)
        for batch in batches:
            metric.update(*batch)
        assert metric.result()["ECE"] == pytest.approx(by_hand(batches, 10, ranks))
        counted = sum((ids[:, ranks] >= 0).sum() for ids, *_ in batches)
        assert metric.support() == {"ECE": counted}

    def test_bins(self):
        metric = Reliability(num_bins=4)
        ids, labels = np.zeros((5, 1), int), np.array([[0], [1], [0], [0], [0]])
        metric.update(ids, np.array([[0.0], [0.25], [0.26], [1.0], [0.9]]), labels)
        found = metric.bins()
        assert [(b.low, b.high, b.size) for b in found] == [
            (0, 0.25, 2), (0.25, 0.5, 1), (0.75, 1, 2),
        ]  # fmt: skip
        np.testing.assert_allclose([b.correct for b in found], [0.5, 1, 1])
        np.testing.assert_allclose([b.confidence for b in found], [0.125, 0.26, 0.95])

    def test_drawn_with_their_probability_they_are_calibrated(self):
        """The error of labels that are right as often as they say is small, of others not."""
        rng = np.random.default_rng(0)
        scores = rng.random((50_000, 1))
        ids = np.zeros(scores.shape, int)
        right, half = Reliability(), Reliability()
        right.update(ids, scores, np.where(rng.random(scores.shape) < scores, 0, 1))
        half.update(ids, scores, np.where(rng.random(scores.shape) < 0.5, 0, 1))
        assert right.result()["ECE"] < 0.015
        assert half.result()["ECE"] == pytest.approx(0.25, abs=0.01)

    def test_no_bins_are_refused(self):
        with pytest.raises(ConfigError, match=r"num_bins: .* is less than 1"):
            Reliability(0)
