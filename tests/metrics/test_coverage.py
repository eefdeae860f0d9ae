import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.contracts.metrics import NUM_LABELS, MetricContract, random_batch, true_labels
from tfxc.core.errors import ConfigError
from tfxc.labels.slices import LabelSlices
from tfxc.metrics.coverage import (
    FoundLabels,
    LabelCoverage,
    MacroF1,
    SlicedPrecision,
    SlicedRecall,
)
from tfxc.metrics.ranking import Precision

KS = (1, 3, 5)
SLICES = LabelSlices(np.arange(NUM_LABELS, dtype=np.int8) % 3, ("head", "torso", "tail"))


def rows_of(batch):
    ids, _, labels = batch
    return zip(ids.tolist(), map(true_labels, labels), strict=True)


def slice_of(label):
    return label % 3 if label < NUM_LABELS else 2


class TestLabelCoverage(MetricContract):
    def make(self):
        return LabelCoverage(NUM_LABELS, KS)

    def test_brute_force(self):
        metric, batches = self.make(), [random_batch(seed, rows=6) for seed in (1, 2)]
        true, expected = set(), {}
        for batch in batches:
            metric.update(*batch)
            true |= set().union(*(truth for _, truth in rows_of(batch)))
        for k in KS:
            predicted, correct = set(), set()
            for batch in batches:
                for row, truth in rows_of(batch):
                    predicted |= {i for i in row[:k] if i >= 0}
                    correct |= set(row[:k]) & truth
            expected[f"correct coverage@{k}"] = len(correct) / len(true)
            expected[f"predicted coverage@{k}"] = len(predicted) / NUM_LABELS
        assert metric.result() == pytest.approx(expected)
        assert metric.support()["correct coverage@1"] == len(true)

    def test_no_labels_at_all_are_refused(self):
        with pytest.raises(ConfigError, match=r"num_labels: .* is less than 1"):
            LabelCoverage(0)


class TestMacroF1(MetricContract):
    def make(self):
        return MacroF1(NUM_LABELS, KS)

    def test_equals_scikit_learn(self):
        batches = [random_batch(seed, rows=9) for seed in (1, 2)]
        metric = self.make()
        for batch in batches:
            metric.update(*batch)
        rows = [pair for batch in batches for pair in rows_of(batch)]
        for k in KS:
            matrices = np.zeros((2, len(rows), NUM_LABELS), bool)
            for number, (ids, true) in enumerate(rows):
                matrices[0, number, [label for label in true if label < NUM_LABELS]] = True
                matrices[1, number, [label for label in ids[:k] if label >= 0]] = True
            expected = f1_score(*matrices, average="macro", zero_division=0)
            assert metric.result()[f"macro-F1@{k}"] == pytest.approx(expected)


class TestSlicedRecall(MetricContract):
    def make(self):
        return SlicedRecall(SLICES, KS)

    def test_brute_force(self):
        metric, batch = self.make(), random_batch(4)
        metric.update(*batch)
        for number, part in enumerate(SLICES.names):
            for k in KS:
                values = []
                for row, truth in rows_of(batch):
                    inside = {label for label in truth if slice_of(label) == number}
                    if inside:
                        values.append(len(inside & set(row[:k])) / len(inside))
                assert metric.result()[f"R@{k}/{part}"] == pytest.approx(np.mean(values))
                assert metric.support()[f"R@{k}/{part}"] == len(values)

    def test_merge_refuses_other_slices(self):
        other = LabelSlices(np.zeros(NUM_LABELS, np.int8), SLICES.names)
        with pytest.raises(ConfigError, match="same settings"):
            self.make().merge(SlicedRecall(other, KS))


class TestFoundLabels(MetricContract):
    def make(self):
        return FoundLabels(SLICES, KS)

    def test_brute_force(self):
        metric = self.make()
        batches = [random_batch(seed) for seed in (4, 5)]
        for batch in batches:
            metric.update(*batch)
        for number, part in enumerate(SLICES.names):
            for k in KS:
                found = [
                    label in row[:k]
                    for batch in batches
                    for row, truth in rows_of(batch)
                    for label in truth
                    if slice_of(label) == number
                ]
                assert metric.result()[f"found@{k}/{part}"] == pytest.approx(np.mean(found))
                assert metric.support()[f"found@{k}/{part}"] == len(found)


class TestSlicedPrecision(MetricContract):
    def make(self):
        return SlicedPrecision(SLICES, KS)

    def test_slices_add_up_to_precision(self):
        metric, precision, batch = self.make(), Precision(KS), random_batch(4)
        metric.update(*batch)
        precision.update(*batch)
        for k in KS:
            parts = [metric.result()[f"P@{k}/{part}"] for part in SLICES.names]
            assert sum(parts) == pytest.approx(precision.result()[f"P@{k}"])
            assert all(parts)

    def test_brute_force(self):
        metric, batch = self.make(), random_batch(5)
        metric.update(*batch)
        hits = [i for row, truth in rows_of(batch) for i in row[:3] if i in truth]
        expected = sum(slice_of(i) == 1 for i in hits) / (3 * len(batch[0]))
        assert metric.result()["P@3/torso"] == pytest.approx(expected)

    def test_a_slice_without_a_true_label_has_no_value(self):
        metric = self.make()
        metric.update([[0, 1, 2, 3, 4]], np.zeros((1, 5)), [[3, 4]])
        assert metric.result()["P@1/torso"] == 0 and metric.support()["P@1/torso"] == 1
        assert metric.support()["P@1/tail"] == 0
        metric.update([[0, 1, 2, 3, 4]], np.zeros((1, 5)), [[NUM_LABELS, -1]])  # unknown: tail
        assert metric.support()["P@1/tail"] == 2
