import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tests.contracts.metrics import NUM_LABELS, MetricContract, random_batch, single_label
from tfxc.decision.decision import Decision
from tfxc.metrics.classification import Classification, positive_label

VALUES = ("precision", "recall", "F1")


def dense(ids, keep, width=40):
    matrix = np.zeros((len(ids), width), bool)
    rows = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)
    matrix[rows[keep], ids[keep]] = True
    return matrix


def by_scikit_learn(truth, predicted, positive=None):
    """All values, of indicator matrices with a column for every label, unknown ones included."""
    present = np.flatnonzero((truth | predicted).any(axis=0))
    averages = {"micro": present, "macro": present, "samples": None}
    if positive is not None:
        averages["binary"] = [positive]
    expected = {"accuracy": accuracy_score(truth, predicted)}
    for average, counted in averages.items():
        how = "macro" if average == "binary" else average
        values = precision_recall_fscore_support(
            truth, predicted, labels=counted, average=how, zero_division=0
        )
        expected |= {f"{average}-{n}": v for n, v in zip(VALUES, values, strict=False)}
    return expected


class TestClassification(MetricContract):
    def make(self):
        return Classification(Decision(0.5), NUM_LABELS)

    @pytest.mark.parametrize("seed", range(3))
    def test_scikit_learn(self, seed):
        ids, scores, labels = random_batch(seed)
        metric = Classification(Decision(0.5), NUM_LABELS, positive=4)
        metric.update(ids, scores, labels)
        truth = dense(labels, labels >= 0)
        predicted = dense(ids, (ids >= 0) & (scores >= 0.5))
        assert metric.result() == pytest.approx(by_scikit_learn(truth, predicted, 4), abs=1e-12)
        occurring = np.count_nonzero((truth | predicted).any(axis=0))
        assert metric.support()["macro-F1"] == occurring
        unknown = metric.counts()["labels unknown to training"]
        assert unknown == np.count_nonzero(labels >= NUM_LABELS) > 0

    def test_a_label_beyond_all_that_was_met_is_a_possible_positive_one(self):
        metric = Classification(Decision(), 2, positive=1)
        metric.update(np.array([[0]]), np.array([[0.9]]), np.array([[0]]))
        assert metric.result()["binary-F1"] == 0

    def test_lists_cut_off_are_counted(self):
        ids = np.array([[0, 1], [1, 0], [1, -1]])
        scores = np.array([[0.9, 0.5], [0.9, 0.4], [0.9, 0.8]])
        name = "examples whose predictions are cut off at K"
        for num_labels, expected in ((None, 1), (3, 1), (2, 0)):
            metric = Classification(Decision(0.5), num_labels)
            metric.update(ids, scores, np.array([[0], [0], [0]]))
            assert metric.counts()[name] == expected

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
                "samples-precision": (1 / 2 + 0) / 2,
                "samples-recall": (1 + 0) / 2,
                "samples-F1": (2 / 3 + 0) / 2,
                "accuracy": 0,
            }
        )

    def test_equal_empty_sets_are_right_without_f1(self):
        metric = self.make()
        metric.update(np.array([[0]]), np.array([[0.1]]), np.array([[-1]]))
        result = metric.result()
        assert result["accuracy"] == 1 and result["samples-F1"] == 0


class TestBestLabelAlone(MetricContract):
    def make(self):
        return Classification(Decision(), NUM_LABELS)

    def batch(self, seed=0):
        return single_label(random_batch(seed))

    @pytest.mark.parametrize("seed", range(3))
    def test_scikit_learn(self, seed):
        ids, scores, labels = self.batch(seed)
        metric = Classification(Decision(), NUM_LABELS, positive=7)
        metric.update(ids, scores, labels)
        truth, predicted = dense(labels, labels >= 0), dense(ids[:, :1], ids[:, :1] >= 0)
        assert metric.result() == pytest.approx(by_scikit_learn(truth, predicted, 7), abs=1e-12)

    def test_one_label_per_example_has_one_micro_value(self):
        """With labels unknown to training, which are missed: P = R = F1 = accuracy."""
        random = np.random.default_rng(0)
        true, best = random.integers(0, NUM_LABELS + 6, 300), random.integers(0, NUM_LABELS, 300)
        metric = self.make()
        metric.update(best[:, None], np.ones((300, 1)), true[:, None])
        found = metric.result()
        assert found["accuracy"] == pytest.approx(accuracy_score(true, best))
        for value in VALUES:
            assert found[f"micro-{value}"] == pytest.approx(found["accuracy"])
            own = precision_recall_fscore_support(true, best, average="macro", zero_division=0)
            assert found[f"macro-{value}"] == pytest.approx(own[VALUES.index(value)])

    def test_an_example_without_labels_is_decided_wrongly(self):
        metric = self.make()
        metric.update(np.array([[3], [4]]), np.ones((2, 1)), np.array([[3], [-1]]))
        found = metric.result()
        assert (found["accuracy"], found["micro-precision"], found["micro-recall"]) == (0.5, 0.5, 1)
        assert found["samples-recall"] == 0.5


def test_the_positive_label():
    assert positive_label(["0", "1"]) == 1 and positive_label(["yes", "no"]) == 0
    assert positive_label(["a"]) is None and positive_label(["a", "b", "c"]) is None
