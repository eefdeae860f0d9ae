"""What every metric must satisfy: subclass ``MetricContract`` and give ``make``."""

import math

import numpy as np
import pytest

from tfxc.core.errors import ConfigError, DataError

NUM_LABELS = 30


def random_batch(seed=0, rows=40, depth=8, max_labels=6, num_labels=NUM_LABELS):
    """ids, scores, labels with missing predictions, rows without labels and unseen labels."""
    rng = np.random.default_rng(seed)
    ids = np.argsort(rng.random((rows, num_labels)), axis=1)[:, :depth].astype(np.int32)
    scores = -np.sort(-rng.random((rows, depth)), axis=1).astype(np.float32)
    for row in range(0, rows, 5):
        ids[row, rng.integers(1, depth) :] = -1
    labels = np.full((rows, max_labels), -1, np.int32)
    for row in range(rows):
        # Labels from num_labels on were never seen in training.
        size = row % (max_labels + 1)
        labels[row, :size] = rng.permutation(num_labels + 3)[:size]
        if size and row % 2:
            labels[row, 0] = ids[row, row % 4]
    return ids, scores, np.where(_repeated(labels), -1, labels)


def single_label(batch):
    """The batch with at most one label per row."""
    ids, scores, labels = batch
    return ids, scores, labels.max(axis=1, keepdims=True)


def true_labels(labels):
    """The label ids of one row as a set."""
    return {int(label) for label in labels if label >= 0}


def _repeated(labels):
    return np.array([[label in row[:place] for place, label in enumerate(row)] for row in labels])


class MetricContract:
    """Inherited by the test class of each metric.

    Attributes:
        largest: of its values.
    """

    largest = 1.0

    def make(self):
        """A fresh metric for labels 0 … NUM_LABELS − 1 and K = 8."""
        raise NotImplementedError

    def batch(self, seed=0):
        """ids, scores, labels the metric accepts."""
        return random_batch(seed)

    def result_of(self, *batches):
        metric = self.make()
        for batch in batches:
            metric.update(*batch)
        return metric.result()

    def test_one_batch_equals_many(self):
        ids, scores, labels = self.batch()
        whole = self.result_of((ids, scores, labels))
        cuts = [slice(0, 1), slice(1, 18), slice(18, 18), slice(18, None)]
        parts = self.result_of(*[(ids[cut], scores[cut], labels[cut]) for cut in cuts])
        assert parts == pytest.approx(whole, abs=1e-12)

    def test_merged_halves_equal_the_whole(self):
        first, second = self.batch(1), self.batch(2)
        left, right = self.make(), self.make()
        left.update(*first)
        right.update(*second)
        left.merge(right)
        assert left.result() == pytest.approx(self.result_of(first, second), abs=1e-12)
        both = self.make()
        both.update(*first)
        both.update(*second)
        assert left.support() == both.support()
        assert left.counts() == both.counts()

    def test_merging_leaves_the_other_as_it_is(self):
        left, right = self.make(), self.make()
        right.update(*self.batch(2))
        before = right.result()
        left.merge(right)
        left.update(*self.batch(1))
        assert right.result() == before

    def test_another_metric_is_not_merged(self):
        class Other:
            pass

        with pytest.raises(ConfigError, match=r"cannot be merged|different"):
            self.make().merge(Other())

    def test_order_and_padding_do_not_matter(self):
        ids, scores, labels = self.batch()
        order = np.random.default_rng(3).permutation(len(ids))
        wide = np.pad(labels[:, ::-1], ((0, 0), (2, 3)), constant_values=-1)
        shuffled = (ids[order], scores[order], wide[order])
        assert self.result_of(shuffled) == pytest.approx(
            self.result_of((ids, scores, labels)), abs=1e-12
        )

    def test_a_label_listed_twice_counts_once(self):
        ids, scores, labels = self.batch()
        doubled = np.concatenate([labels, labels], axis=1)
        assert self.result_of((ids, scores, doubled)) == self.result_of((ids, scores, labels))

    def test_keys_are_stable_and_values_within_0_and_1(self):
        metric = self.make()
        keys = list(metric.names)
        assert list(metric.result()) == list(metric.support()) == keys
        for seed in range(3):
            metric.update(*self.batch(seed))
            assert list(metric.result()) == keys
            assert all(
                type(v) is float and 0 <= v <= self.largest for v in metric.result().values()
            )
            assert all(type(v) is int for v in metric.support().values())
        assert any(metric.result().values())

    def test_an_empty_batch_changes_nothing(self):
        ids, scores, labels = self.batch()
        empty = (ids[:0], scores[:0], labels[:0])
        assert self.result_of(empty) == dict.fromkeys(self.make().names, 0.0)
        assert self.result_of((ids, scores, labels), empty) == self.result_of((ids, scores, labels))

    def test_rows_without_labels(self):
        ids, scores, labels = self.batch()
        for none in (np.full_like(labels, -1), labels[:, :0]):
            result = self.result_of((ids, scores, none))
            assert all(
                math.isfinite(value) and 0 <= value <= self.largest for value in result.values()
            )

    def test_rows_without_predictions(self):
        ids, scores, labels = self.batch()
        result = self.result_of((np.full_like(ids, -1), scores, labels))
        assert all(math.isfinite(value) and 0 <= value <= self.largest for value in result.values())

    def test_reset(self):
        metric = self.make()
        metric.update(*self.batch(1))
        metric.reset()
        metric.update(*self.batch(2))
        assert metric.result() == self.result_of(self.batch(2))

    def test_inputs_are_left_alone(self):
        batch = self.batch()
        before = [array.copy() for array in batch]
        self.result_of(batch)
        for array, copy in zip(batch, before, strict=True):
            np.testing.assert_array_equal(array, copy)

    def test_per_example_values_average_to_the_result(self):
        metric, batch = self.make(), self.batch()
        metric.update(*batch)
        for name, values in metric.per_example(*batch).items():
            assert values.shape == (len(batch[0]),)
            assert np.nanmean(values) == pytest.approx(metric.result()[name], abs=1e-12)
            assert np.count_nonzero(~np.isnan(values)) == metric.support()[name]

    def test_shapes_that_do_not_fit(self):
        ids, scores, labels = self.batch()
        with pytest.raises(DataError, match="ids"):
            self.make().update(ids, scores[:, 1:], labels)
        with pytest.raises(DataError, match="labels"):
            self.make().update(ids, scores, labels[1:])

    def test_too_few_predictions(self):
        ids, scores, labels = self.batch()
        few = self.make().min_predictions - 1
        with pytest.raises(ConfigError, match=f"only {few} predictions per example"):
            self.make().update(ids[:, :few], scores[:, :few], labels)
