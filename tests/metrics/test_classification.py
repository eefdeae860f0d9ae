import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tests.contracts.metrics import MetricContract, random_batch, single_label
from tfxc.errors import DataError
from tfxc.metrics.classification import Accuracy, ThresholdMetrics


def dense(ids, keep, width=40):
    matrix = np.zeros((len(ids), width), bool)
    rows = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)
    matrix[rows[keep], ids[keep]] = True
    return matrix


class TestThresholdMetrics(MetricContract):
    def make(self):
        return ThresholdMetrics(threshold=0.5)

    @pytest.mark.parametrize("seed", range(3))
    def test_scikit_learn(self, seed):
        ids, scores, labels = random_batch(seed)
        metric = self.make()
        metric.update(ids, scores, labels)
        truth = dense(labels, labels >= 0)
        predicted = dense(ids, (ids >= 0) & (scores >= 0.5))
        present = np.flatnonzero((truth | predicted).any(axis=0))
        expected = {"subset accuracy": accuracy_score(truth, predicted)}
        for average in ("micro", "macro", "samples"):
            labels_counted = None if average == "samples" else present
            values = precision_recall_fscore_support(
                truth, predicted, labels=labels_counted, average=average, zero_division=0
            )
            expected |= {
                f"{average}-{name}": value
                for name, value in zip(("precision", "recall", "F1"), values, strict=False)
                if average != "samples" or name == "F1"
            }
        assert metric.result() == pytest.approx(expected, abs=1e-12)
        assert metric.support()["macro-F1"] == len(present)

    def test_lists_cut_off_are_counted(self):
        ids = np.array([[0, 1], [1, 0], [1, -1]])
        scores = np.array([[0.9, 0.5], [0.9, 0.4], [0.9, 0.8]])
        name = "examples whose predictions are cut off at K"
        for num_labels, expected in ((None, 1), (3, 1), (2, 0)):
            metric = ThresholdMetrics(0.5, num_labels)
            metric.update(ids, scores, np.array([[0], [0], [0]]))
            assert metric.counts() == {name: expected}

    def test_worked_example(self):
        # Row 1 predicts {0, 1} of {0}; row 2 predicts {} of {1, 50} with 50 never seen.
        metric = self.make()
        ids, scores = np.array([[0, 1], [1, 0]]), np.array([[0.9, 0.5], [0.4, 0.3]])
        metric.update(ids, scores, np.array([[0, -1], [1, 50]]))
        assert metric.result() == pytest.approx(
            {
                "micro-precision": 1 / 2,
                "micro-recall": 1 / 3,
                "micro-F1": 2 / 5,
                "macro-precision": 1 / 3,
                "macro-recall": 1 / 3,
                "macro-F1": 1 / 3,
                "samples-F1": (2 / 3 + 0) / 2,
                "subset accuracy": 0,
            }
        )

    def test_equal_empty_sets_are_a_correct_subset_without_f1(self):
        metric = self.make()
        metric.update(np.array([[0]]), np.array([[0.1]]), np.array([[-1]]))
        result = metric.result()
        assert result["subset accuracy"] == 1 and result["samples-F1"] == 0


class TestAccuracy(MetricContract):
    def make(self):
        return Accuracy(ks=(1, 5))

    def batch(self, seed=0):
        return single_label(random_batch(seed))

    def test_brute_force(self):
        ids, scores, labels = self.batch()
        metric = self.make()
        metric.update(ids, scores, labels)
        pairs = list(zip(ids.tolist(), labels[:, 0].tolist(), strict=True))
        assert metric.result() == {
            "accuracy": pytest.approx(np.mean([y >= 0 and y == row[0] for row, y in pairs])),
            "top-5 accuracy": pytest.approx(np.mean([y >= 0 and y in row[:5] for row, y in pairs])),
        }

    def test_several_labels_are_refused(self):
        with pytest.raises(DataError, match="one label per example expected, 2 labels"):
            self.make().update([[4, 3, 2, 1, 0]], np.zeros((1, 5)), [[1, 2]])
