import numpy as np
import pytest

from tests.contracts.metrics import NUM_LABELS, MetricContract, random_batch, true_labels
from tfxc.decision.decision import Decision
from tfxc.labels.slices import frequency_slices
from tfxc.metrics.returned import SetCoverage, SetSizes

RULE = Decision(0.6, True, at_least=1, at_most=6)
SLICES = frequency_slices(np.arange(NUM_LABELS)[::-1] ** 2, "shares")
PARTS = {"": None, "/head": 0, "/torso": 1, "/tail": 2}


def by_hand(batch):
    """{part: (share returned, size)} of each example with a true label there."""
    ids, scores, labels = batch
    chosen = RULE.predicted(ids, scores)
    found = {part: [] for part in PARTS}
    for row, kept, label in zip(ids, chosen, labels, strict=True):
        true = true_labels(label)
        returned = set(row[kept].tolist())
        for part, number in PARTS.items():
            inside = {t for t in true if number in (None, SLICES.lookup([t])[0])}
            if inside:
                found[part].append((len(inside & returned) / len(inside), len(returned)))
    return found, chosen.sum(axis=1)


class TestSetCoverage(MetricContract):
    def make(self):
        return SetCoverage(RULE, SLICES)

    def test_brute_force(self):
        batch = random_batch(5)
        metric = self.make()
        metric.update(*batch)
        found, _ = by_hand(batch)
        for part, values in found.items():
            name = f"set coverage{part}"
            assert metric.result()[name] == pytest.approx(np.mean([v for v, _ in values]))
            assert metric.support()[name] == len(values) > 5

    def test_without_slices(self):
        metric = SetCoverage(RULE)
        metric.update(*random_batch())
        assert list(metric.result()) == ["set coverage"]


class TestSetSizes(MetricContract):
    largest = 6.0

    def make(self):
        return SetSizes(RULE, SLICES)

    def test_brute_force(self):
        batch = random_batch(6)
        metric = self.make()
        metric.update(*batch)
        found, sizes = by_hand(batch)
        expected = {part: [size for _, size in values] for part, values in found.items()}
        expected[""] = sizes  # of examples without a label, too
        for part, values in expected.items():
            assert metric.result()[f"mean set size{part}"] == pytest.approx(np.mean(values))
            assert metric.result()[f"median set size{part}"] == np.median(values)
        assert metric.of_all().tolist() == np.bincount(sizes).tolist()
