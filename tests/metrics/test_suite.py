import numpy as np
import pytest

from tests.contracts.metrics import NUM_LABELS, MetricContract, random_batch, single_label
from tfxc.core.errors import ConfigError
from tfxc.decision.decision import Decision
from tfxc.labels.slices import frequency_slices
from tfxc.metrics.classification import Classification
from tfxc.metrics.ranking import NDCG, Precision
from tfxc.metrics.suite import MetricSuite, build_metrics

COUNTS = np.arange(NUM_LABELS) * 4


class TestMetricSuite(MetricContract):
    def make(self):
        return build_metrics(
            (1, 3), COUNTS, 500, classification=Classification(Decision(0.5), NUM_LABELS)
        )

    def test_values_are_those_of_the_single_metrics(self):
        suite = self.make()
        suite.update(*random_batch())
        for metric in (Precision((1, 3)), NDCG((1, 3))):
            metric.update(*random_batch())
            assert metric.result().items() <= suite.result().items()

    def test_counts(self):
        suite = self.make()
        suite.update(*random_batch())
        labels = random_batch()[2]
        assert suite.counts()["examples"] == len(labels)
        assert suite.counts()["examples without labels"] == (labels < 0).all(axis=1).sum()

    def test_per_example_holds_the_ranking_metrics(self):
        values = self.make().per_example(*random_batch())
        assert {"P@1", "normalised P@3", "R@3", "nDCG@1", "samples-F1"} <= set(values)
        assert "PSP@1" not in values


def test_what_each_fact_adds():
    ranking = ["P", "normalised P", "R", "nDCG"]
    assert build_metrics((2,)).names == tuple(f"{name}@2" for name in ranking)
    with_counts = build_metrics((2,), COUNTS).names
    assert {"R@2/frequent", "P@2/zero-shot", "correct coverage@2"} <= set(with_counts)
    assert {"found@2/1-5", "found@2/0"} <= set(with_counts)
    assert "PSP@2" not in with_counts
    assert {"PSP@2", "PSnDCG@2"} <= set(build_metrics((2,), COUNTS, 500).names)
    deciding = build_metrics((2,), classification=Classification(Decision(0.5)))
    assert "macro-F1" in deciding.names and deciding.decision == Decision(0.5)
    assert build_metrics((2,)).decision == Decision()


def test_own_slices_and_constants():
    slices = frequency_slices(COUNTS, rule="shares")
    suite = build_metrics((1,), COUNTS, 500, propensity=(0.6, 2.6), slices=slices)
    amazon = build_metrics((1,), COUNTS, 500, propensity="amazon")
    default = build_metrics((1,), COUNTS, 500)
    for each in (suite, amazon, default):
        each.update(*random_batch())
    assert "R@1/torso" in suite.names
    assert suite.result()["PSP@1"] == amazon.result()["PSP@1"] != default.result()["PSP@1"]


def test_single_label_accuracy_is_precision_at_one():
    suite = build_metrics((1, 3), classification=Classification(Decision()))
    suite.update(*single_label(random_batch()))
    result = suite.result()
    assert result["accuracy"] == result["P@1"]


def test_facts_that_need_label_counts():
    with pytest.raises(ConfigError, match="label_counts"):
        build_metrics(num_train_examples=100)
    with pytest.raises(ConfigError, match="label_counts"):
        build_metrics(slices=frequency_slices(COUNTS))


def test_the_same_metric_twice_is_refused():
    with pytest.raises(ConfigError, match="several metrics report P@1"):
        MetricSuite([Precision((1,)), Precision((1, 3))])


def test_merge_refuses_another_suite():
    with pytest.raises(ConfigError, match="same arguments"):
        build_metrics((1,)).merge(build_metrics((1, 3)))


def test_best_is_larger():
    suite = build_metrics()
    assert suite.best_is_larger("nDCG@5") and suite.best_is_larger("P@1")
    assert not suite.best_is_larger("loss") and not suite.best_is_larger("dev loss")
    with pytest.raises(ConfigError, match="Write 'P@1'"):
        suite.best_is_larger("p@1")


def test_table():
    suite = build_metrics(
        (1, 5), np.array([60, 3]), classification=Classification(Decision(0.5), 2)
    )
    ids, scores = np.array([[0, 1, -1, -1, -1]] * 2), np.array([[0.9, 0.4, 0, 0, 0]] * 2)
    suite.update(ids, scores, np.array([[0], [1]]))
    lines = suite.table().splitlines()
    assert lines[0].split() == ["%", "@1", "@5"]
    cells = {line[:20].strip(): line[20:].split() for line in lines}
    assert cells["P"] == ["50.00", "20.00"]
    assert cells["nDCG"] == ["50.00", "81.55"]
    assert cells["micro-F1"] == ["50.00"]
    assert cells["R/few-shot"] == ["0.00", "100.00"]
    assert cells["R/zero-shot"] == ["-", "-"]  # no example has such a label
    assert cells["P/zero-shot"] == ["-", "-"] and cells["P/few-shot"] == ["0.00", "10.00"]
    known = suite.known_values()
    assert known["P@1/zero-shot"] is None is known["R@1/zero-shot"] and known["P@1"] == 0.5
    assert lines[-1] == "examples whose predictions are cut off at K: 0"
    assert "examples: 2" in lines
    numbered = [line for line in lines if len(line.split()) and line.startswith(("%", "P ", "R "))]
    assert len({len(line) for line in numbered}) == 1


def test_table_before_the_first_example():
    assert "P" in build_metrics((1,)).table()
