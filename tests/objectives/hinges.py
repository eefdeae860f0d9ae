"""What the tests of both hinge losses share."""

import numpy as np
import tensorflow as tf

from tests.contracts.objective import (
    COLUMNS,
    POSITIVES,
    ObjectiveContract,
    dense_target,
    random_logits,
    some_valid,
)
from tfxc.ops.logit_group import LogitGroup

COUNTS = np.array([[3, 9, 9, 9], [9, 9, 9, 9], [1, 2, 9, 9], [9, 2, 5, 9], [1, 1, 4, 1]])


def dense_counts():
    """``COUNTS`` of the true columns, float64 (5, COLUMNS)."""
    found = np.zeros((5, COLUMNS))
    for row, (columns, counts) in enumerate(zip(POSITIVES, COUNTS, strict=True)):
        found[row, columns[columns >= 0]] = counts[columns >= 0]
    return found


def hinges(logits, target, power, positive=1.0, negative=1.0):
    """Costs of all columns, as the published formula has them."""
    signs = 2 * target - 1
    return np.maximum(0, 1 - signs * logits) ** power * (
        positive * target + negative * (1 - target)
    )


class HingeContract(ObjectiveContract):
    """Inherit, and name the class of the objective as ``kind``."""

    kind = None

    def make(self):
        return self.kind()

    def reference(self, logits, target, valid):
        costs = np.where(valid, hinges(logits, target, self.kind.power), 0)
        return costs.sum(axis=1) / valid.sum(axis=1)

    def test_costs_and_counts(self):
        logits, valid = random_logits(), some_valid()
        group = LogitGroup(
            tf.constant(logits), tf.constant(POSITIVES), tf.constant(valid), counts=COUNTS
        )
        objective = self.kind(weighted=True, cost_positive=0.5, cost_negative=2.0)
        costs = hinges(logits, dense_target(), self.kind.power, 0.5 * dense_counts(), 2.0)
        expected = np.where(valid, costs, 0).sum(axis=1) / valid.sum(axis=1)
        np.testing.assert_allclose(objective(group), expected, rtol=1e-5)
        plain = self.kind()
        np.testing.assert_array_equal(plain(group), plain(group._replace(counts=None)))
        np.testing.assert_array_equal(
            self.kind(weighted=True)(group._replace(counts=None)), plain(group)
        )

    def test_published_scale(self):
        """Rows padded with logits 0 to 14 columns, and the mean over all of them."""
        logits, valid = random_logits(), some_valid()
        objective = self.kind(padded_columns=14, cost_negative=3.0)
        group = LogitGroup(tf.constant(logits), tf.constant(POSITIVES), tf.constant(valid))
        wide = np.zeros((5, 14))
        wide[:, :COLUMNS] = np.where(valid, logits, 0)
        target = np.pad(dense_target(), ((0, 0), (0, 14 - COLUMNS)))
        expected = hinges(wide, target, self.kind.power, 1.0, 3.0).mean(axis=1)
        np.testing.assert_allclose(objective(group), expected, rtol=1e-5)

    def test_a_row_without_columns(self):
        group = LogitGroup(tf.ones((1, 3)), tf.fill((1, 2), -1), tf.zeros((1, 3), bool))
        assert self.kind()(group).numpy().tolist() == [0.0]

    def test_drawn_columns_stand_for_several(self):
        logits = random_logits()
        weights = np.where(dense_target().any(axis=0), 1.0, 3.0)
        group = LogitGroup(
            tf.constant(logits), tf.constant(POSITIVES),
            log_weights=tf.constant(np.log(weights), tf.float32),
        )  # fmt: skip
        costs = hinges(logits, dense_target(), self.kind.power) * weights
        np.testing.assert_allclose(self.kind()(group), costs.sum(axis=1) / weights.sum(), rtol=1e-5)

    def test_margins_are_no_probabilities(self):
        assert self.kind.link == "hinge"
