import math

import numpy as np
import pytest

from tests.contracts.metrics import NUM_LABELS, MetricContract, random_batch, true_labels
from tfxc.core.errors import ConfigError
from tfxc.metrics.propensity_scored import PropensityScoredNDCG, PropensityScoredPrecision

KS = (1, 3, 5)
COUNTS = np.random.default_rng(7).zipf(1.5, NUM_LABELS).clip(0, 900)
NUM_EXAMPLES = 1000


def inverse_propensity(label, A=0.55, B=1.5):
    count = COUNTS[label] if label < NUM_LABELS else 0
    return 1 + (math.log(NUM_EXAMPLES) - 1) * ((B + 1) / (count + B)) ** A


def brute_force(k, discount, seed):
    ids, _, labels = random_batch(seed)
    gain = best = 0.0
    for row, truth in zip(ids.tolist(), map(true_labels, labels), strict=True):
        for rank, label in enumerate(row[:k]):
            gain += inverse_propensity(label) * discount(rank) if label in truth else 0
        weights = sorted(map(inverse_propensity, truth), reverse=True)[:k]
        best += sum(weight * discount(rank) for rank, weight in enumerate(weights))
    return gain / best


class PropensityContract(MetricContract):
    metric = None

    def discount(self, rank):
        raise NotImplementedError

    def make(self):
        return self.metric(COUNTS, NUM_EXAMPLES, ks=KS)

    @pytest.mark.parametrize("seed", range(3))
    def test_brute_force(self, seed):
        metric = self.make()
        metric.update(*random_batch(seed))
        expected = [brute_force(k, self.discount, seed) for k in KS]
        assert list(metric.result().values()) == pytest.approx(expected, abs=1e-12)

    def test_the_best_ranking_scores_one(self):
        _, _, labels = random_batch()
        labels = np.where(labels < NUM_LABELS, labels, -1)
        weights = np.array([inverse_propensity(label) for label in range(NUM_LABELS)])
        order = np.argsort(-np.where(labels >= 0, weights[labels], -1), axis=1)
        metric = self.make()
        metric.update(np.take_along_axis(labels, order, 1), np.zeros(labels.shape), labels)
        assert list(metric.result().values()) == pytest.approx([1, 1, 1])

    def test_no_per_example_values(self):
        assert self.make().per_example(*random_batch()) == {}

    def test_merge_refuses_other_propensities(self):
        with pytest.raises(ConfigError, match="same settings"):
            self.make().merge(self.metric(COUNTS, NUM_EXAMPLES, "amazon", KS))

    def test_wrong_arguments_fail_at_once(self):
        with pytest.raises(ConfigError, match="training examples are fewer than 3"):
            self.metric(COUNTS, 2)
        with pytest.raises(ConfigError, match="amazon"):
            self.metric(COUNTS, 100, "amazonn")


class TestPropensityScoredPrecision(PropensityContract):
    metric = PropensityScoredPrecision

    def discount(self, rank):
        return 1


class TestPropensityScoredNDCG(PropensityContract):
    metric = PropensityScoredNDCG

    def discount(self, rank):
        return 1 / math.log2(rank + 2)


def test_worked_example_by_hand():
    # A = 1 and B = 1 make the weight 1 + 2 (log N − 1) / (N_l + 1); with log N = 2 it is
    # 1 + 2 / (N_l + 1): labels 0, 1, 2 with 1, 3, 0 training examples weigh 2, 1.5 and 3.
    metrics = [
        metric([1, 3, 0], num_examples=math.e**2, propensity=(1, 1), ks=(1, 2))
        for metric in (PropensityScoredPrecision, PropensityScoredNDCG)
    ]
    # Row 1 ranks 1, 0 and is right about both; label 9 was never seen and weighs 3.
    # Row 2 ranks 2, 1 and is right about 1 only; row 3 has no label.
    ids = np.array([[1, 0], [2, 1], [0, 2]])
    labels = np.array([[0, 1, 9], [1, -1, -1], [-1, -1, -1]])
    results = {}
    for metric in metrics:
        metric.update(ids, np.zeros(ids.shape), labels)
        results |= metric.result()
    second = 1 / math.log2(3)
    assert results == pytest.approx(
        {
            "PSP@1": 1.5 / (3 + 1.5),
            "PSP@2": (1.5 + 2 + 1.5) / (3 + 2 + 1.5),
            "PSnDCG@1": 1.5 / (3 + 1.5),
            "PSnDCG@2": (1.5 + 2 * second + 1.5 * second) / (3 + 2 * second + 1.5),
        }
    )


def test_rare_hits_weigh_more():
    ids, labels = np.array([[0], [1]]), np.array([[0, 1], [0, 1]])
    values = []
    for row in range(2):
        metric = PropensityScoredPrecision([900, 1], 1000, ks=(1,))
        metric.update(ids[row : row + 1], np.zeros((1, 1)), labels[row : row + 1])
        values.append(metric.result()["PSP@1"])
    assert values[0] < values[1] == 1
