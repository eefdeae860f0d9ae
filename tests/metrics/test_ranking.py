import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, precision_score, recall_score

from tests.contracts.metrics import MetricContract, random_batch, true_labels
from tfxc.metrics.ranking import NDCG, NormalisedPrecision, Precision, Recall, rank_discounts

KS = (1, 3, 5)


def brute_force(value_of_row, k, seed):
    """Mean of ``value_of_row(hit flags of the first k, number of true labels)`` over the rows."""
    ids, _, labels = random_batch(seed)
    values = []
    for row, truth in zip(ids.tolist(), map(true_labels, labels), strict=True):
        values.append(value_of_row([i in truth for i in row[:k]], len(truth)))
    values = [value for value in values if value is not None]
    return sum(values) / len(values)


def ndcg_of_row(flags, num_true):
    gain = sum(flag / math.log2(rank + 2) for rank, flag in enumerate(flags))
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(len(flags), num_true)))
    return gain / ideal if num_true else 0.0


ROWS = {
    Precision: lambda flags, num_true: sum(flags) / len(flags),
    NormalisedPrecision: lambda flags, n: sum(flags) / min(len(flags), n) if n else 0.0,
    Recall: lambda flags, num_true: sum(flags) / num_true if num_true else None,
    NDCG: ndcg_of_row,
}


class RankingContract(MetricContract):
    metric = None

    def make(self):
        return self.metric(KS)

    @pytest.mark.parametrize("seed", range(3))
    def test_brute_force(self, seed):
        metric = self.make()
        metric.update(*random_batch(seed))
        expected = [brute_force(ROWS[self.metric], k, seed) for k in KS]
        assert list(metric.result().values()) == pytest.approx(expected, abs=1e-12)


class TestPrecision(RankingContract):
    metric = Precision


class TestNormalisedPrecision(RankingContract):
    metric = NormalisedPrecision


class TestRecall(RankingContract):
    metric = Recall


class TestNDCG(RankingContract):
    metric = NDCG


def full_ranking(seed=0, rows=50, num_labels=20):
    """Scores without ties and a dense indicator, with the same as ids and padded labels."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(rows * num_labels).reshape(rows, num_labels).astype(np.float32)
    truth = rng.random((rows, num_labels)) < 0.2
    truth[:, 0] |= ~truth.any(axis=1)  # scikit-learn's nDCG and ours differ on rows without labels
    ids = np.argsort(-scores, axis=1)
    labels = np.where(truth, np.arange(num_labels), -1)
    return scores, truth, (ids[:, :5], np.take_along_axis(scores, ids, 1)[:, :5], labels)


def test_against_scikit_learn():
    scores, truth, batch = full_ranking()
    metrics = [Precision(KS), Recall(KS), NDCG(KS)]
    for metric in metrics:
        metric.update(*batch)
    for k in KS:
        top = np.zeros_like(truth)
        np.put_along_axis(top, batch[0][:, :k], True, axis=1)
        found = [metric.result()[metric.name_at(k)] for metric in metrics]
        assert found == pytest.approx(
            [
                precision_score(truth, top, average="samples", zero_division=0),
                recall_score(truth, top, average="samples", zero_division=0),
                ndcg_score(truth, scores, k=k),
            ]
        )


def test_worked_example_with_three_labels():
    # One row, ranking 2, 0, 1 and truth {0, 1}: hits at the ranks 2 and 3.
    batch = np.array([[2, 0, 1]]), np.array([[3.0, 2.0, 1.0]]), np.array([[0, 1]])
    results = {}
    for metric in (Precision((1, 3)), NormalisedPrecision((1, 3)), Recall((1, 3)), NDCG((1, 3))):
        metric.update(*batch)
        results |= metric.result()
    assert results == pytest.approx(
        {
            "P@1": 0,
            "P@3": 2 / 3,
            "normalised P@1": 0,
            "normalised P@3": 1,
            "R@1": 0,
            "R@3": 1,
            "nDCG@1": 0,
            "nDCG@3": (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3)),
        }
    )


def test_rows_without_labels_lower_precision_and_are_left_out_of_recall():
    ids, scores = np.array([[1], [1]]), np.ones((2, 1))
    labels = np.array([[1], [-1]])
    precision, recall = Precision((1,)), Recall((1,))
    for metric in (precision, recall):
        metric.update(ids, scores, labels)
    assert precision.result() == {"P@1": 0.5} and precision.support() == {"P@1": 2}
    assert recall.result() == {"R@1": 1.0} and recall.support() == {"R@1": 1}
    assert recall.counts() == {"examples without labels": 1}


def test_a_label_never_seen_in_training_is_a_positive():
    # Label 99 is outside of any model's label space and still counts as missed.
    recall = Recall((1,))
    recall.update(np.array([[1]]), np.ones((1, 1)), np.array([[1, 99]]))
    assert recall.result() == {"R@1": 0.5}


def test_discounts():
    assert rank_discounts(3).tolist() == pytest.approx([1, 1 / math.log2(3), 0.5])
