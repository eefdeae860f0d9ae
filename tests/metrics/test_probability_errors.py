import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from tests.contracts.metrics import MetricContract, random_batch, true_labels
from tests.metrics.test_reliability import by_hand
from tfxc.metrics.fine_bins import NUM_BINS, fine_bins
from tfxc.metrics.probability_errors import ProbabilityErrors, RiskCoverage


def pairs_of(batches, k):
    """(probability, whether it is right) of every label at rank 1 to k."""
    return np.array(
        [
            (score, found in true_labels(label))
            for ids, scores, labels in batches
            for row, values, label in zip(ids.tolist(), scores.tolist(), labels, strict=True)
            for found, score in zip(row[:k], values[:k], strict=True)
            if found >= 0
        ]
    )


def known(seed, count, depth=5):
    """Lists of labels that are right as often as their probabilities say; all are label 0."""
    random = np.random.default_rng(seed)
    scores = -np.sort(-random.beta(0.3, 1.5, (count, depth)), axis=1)
    ids = np.tile(np.arange(depth), (count, 1))
    return ids, scores, np.where(random.random(scores.shape) < scores, ids, -1)


class TestProbabilityErrors(MetricContract):
    def make(self):
        return ProbabilityErrors(ks=(1, 5))

    @pytest.mark.parametrize("k", [1, 5])
    def test_brute_force(self, k):
        metric, batches = self.make(), [random_batch(seed) for seed in (1, 2)]
        for batch in batches:
            metric.update(*batch)
        found = metric.result()
        probabilities, right = pairs_of(batches, k).T
        assert found[f"ECE@{k}"] == pytest.approx(by_hand(batches, 15, slice(0, k)))
        assert found[f"Brier@{k}"] == pytest.approx(brier_score_loss(right, probabilities))
        assert metric.support()[f"Brier@{k}"] == len(right)

    def test_adaptive_bins_hold_as_many(self):
        """As of 15 pieces of the sorted labels."""
        batch = random_batch(3, rows=3000)
        metric = self.make()
        metric.update(*batch)
        pairs = pairs_of([batch], 5)
        pieces = np.array_split(pairs[np.argsort(pairs[:, 0])], 15)
        expected = sum(abs((piece[:, 1] - piece[:, 0]).sum()) for piece in pieces) / len(pairs)
        assert metric.result()["adaptive ECE@5"] == pytest.approx(expected, abs=5e-4)

    def test_true_probabilities_have_small_errors_and_others_not(self):
        right, wrong = self.make(), self.make()
        ids, scores, labels = known(0, 20_000)
        right.update(ids, scores, labels)
        wrong.update(ids, scores / 2, labels)
        for name in ("ECE@5", "adaptive ECE@5"):
            assert right.result()[name] < 0.006
            assert wrong.result()[name] == pytest.approx(scores.mean() / 2, rel=0.03)
        assert wrong.result()["Brier@5"] > right.result()["Brier@5"] + 0.01

    def test_floor_is_the_mean_error_of_true_probabilities(self):
        errors = []
        for seed in range(60):
            metric = self.make()
            metric.update(*known(seed, 300))
            errors.append(metric.result())
        for k in (1, 5):
            mean = np.mean([found[f"ECE@{k}"] for found in errors])
            floor = np.mean([found[f"ECE floor@{k}"] for found in errors])
            assert floor == pytest.approx(mean, rel=0.1) and floor > 0.01

    def test_adaptive_bins_see_small_probabilities(self):
        """Half too small and half too large in the lowest of the wide bins, which cancel there."""
        ids = np.zeros((20_000, 1), int)
        scores = np.repeat([0.001, 0.05], 10_000)[:, None]
        random = np.random.default_rng(0)
        labels = np.where(random.random(ids.shape) < 0.0255, 0, -1)
        metric = ProbabilityErrors(ks=(1,))
        metric.update(ids, scores, labels)
        assert metric.result()["ECE@1"] < 0.003
        assert metric.result()["adaptive ECE@1"] == pytest.approx(0.0245, abs=0.003)


class TestRiskCoverage(MetricContract):
    def make(self):
        return RiskCoverage()

    def test_brute_force(self):
        batch = random_batch(4, rows=200)
        metric = self.make()
        metric.update(*batch)
        ids, scores, labels = batch
        wrong = [row[0] not in true_labels(label) for row, label in zip(ids, labels, strict=True)]
        order = np.argsort(-scores[:, 0], kind="stable")
        risks = np.cumsum(np.array(wrong)[order]) / np.arange(1, 201)
        assert metric.result()["AURC"] == pytest.approx(risks.mean(), abs=2e-3)
        found, last = metric.curve()
        np.testing.assert_allclose(found[last], risks[last])
        assert last[-1] and found[-1] == pytest.approx(np.mean(wrong))

    def test_equal_confidences_are_answered_in_any_order(self):
        metric = self.make()
        metric.update(np.zeros((4, 1), int), np.full((4, 1), 0.5), np.array([[0], [1], [1], [0]]))
        assert metric.result() == {"AURC": 0.5}

    def test_it_is_small_where_the_surest_are_right(self):
        ids, scores, labels = known(1, 5000)
        values = {}
        for name, confidence in (("sure", scores), ("unsure", 1 - scores)):
            metric = self.make()
            metric.update(ids[:, :1], confidence[:, :1], labels)
            values[name] = metric.result()["AURC"]
        assert values["sure"] < values["unsure"] / 2


def test_fine_bins_keep_the_order_and_are_narrow():
    values = np.sort(np.random.default_rng(0).beta(0.1, 0.1, 100_000))
    values = values[(values > 0) & (values < 1)]
    places = fine_bins(values)
    assert (np.diff(places) >= 0).all() and places[0] >= 0 and places[-1] < NUM_BINS
    inside = (places[1:] == places[:-1]) & (places[1:] > 0) & (places[1:] < NUM_BINS - 1)
    assert np.diff(values)[inside].max() < 1e-3
    relative = np.diff(values) / np.minimum(values[1:], 1 - values[:-1])
    assert relative[inside].max() < 4e-3
