"""What every objective must do; an objective's test class inherits it and gives a reference."""

import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.layers import assert_close, assert_equal, copy_from_config
from tfxc.ops.fused.logit_chunks import LogitChunks
from tfxc.ops.logit_group import LogitGroup

COLUMNS = 9
# One, none, several, many true columns; padding may stand anywhere.
POSITIVES = np.array(
    [[4, -1, -1, -1], [-1, -1, -1, -1], [8, 0, -1, -1], [-1, 2, 3, -1], [1, 5, 6, 7]], np.int32
)


def random_logits(scale=2.0, seed=0):
    """float32 (5, COLUMNS)."""
    return np.random.default_rng(seed).normal(0, scale, (5, COLUMNS)).astype(np.float32)


def some_valid(seed=1):
    """A mask (5, COLUMNS) under which all true columns, and one in two others, count."""
    return (np.random.default_rng(seed).random((5, COLUMNS)) < 0.5) | (dense_target() > 0)


def dense_target():
    """Multi-hot float64 (5, COLUMNS), the matrix that the objectives themselves never build."""
    target = np.zeros((5, COLUMNS))
    for row, columns in enumerate(POSITIVES):
        target[row, [c for c in columns if c >= 0]] = 1
    return target


def group_of(logits, valid=None):
    """A ``LogitGroup`` of tensors."""
    valid = None if valid is None else tf.constant(valid)
    return LogitGroup(tf.convert_to_tensor(logits), tf.constant(POSITIVES), valid)


class ObjectiveContract:
    """Inherit, and write ``make`` and ``reference``."""

    index = np.arange(5)

    def make(self):
        """A new objective for examples numbered 0 to 4."""
        raise NotImplementedError

    def reference(self, logits, target, valid):
        """The loss by NumPy alone.

        Args:
            logits, target: float64 (batch, columns).
            valid: bool (batch, columns).

        Returns:
            float64 (batch,).
        """
        raise NotImplementedError

    def loss(self, logits, valid=None, objective=None):
        """Loss of a batch, (5,)."""
        objective = objective or self.make()
        return objective(group_of(logits, valid), tf.constant(self.index, tf.int64))

    def gradient(self, logits, valid=None, weights=None):
        """Gradient of the weighted sum of losses with respect to the logits."""
        logits = tf.constant(logits)
        weights = tf.ones(5) if weights is None else tf.constant(weights, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = tf.reduce_sum(self.loss(logits, valid) * weights)
        return tape.gradient(total, logits).numpy()

    @pytest.mark.parametrize("valid", [None, some_valid()], ids=["all", "some"])
    def test_equals_the_dense_formula(self, valid):
        logits = random_logits()
        loss = self.loss(logits, valid)
        assert loss.dtype == tf.float32 and loss.shape == (5,)
        np.testing.assert_allclose(loss, self.expected(logits, valid), rtol=1e-4, atol=1e-5)

    def expected(self, logits, valid):
        """``reference`` with a mask that may be None."""
        valid = np.ones((5, COLUMNS), bool) if valid is None else valid
        return self.reference(np.asarray(logits, np.float64), dense_target(), valid)

    @pytest.mark.parametrize("valid", [None, some_valid()], ids=["all", "some"])
    def test_gradient_equals_differences_of_the_formula(self, valid):
        logits = random_logits(1.0)
        weights = np.array([1.0, 0.5, 2.0, -1.0, 0.25])
        found, step = self.gradient(logits, valid, weights), 1e-5
        for row, column in np.ndindex(5, COLUMNS):
            shifted = np.zeros((5, COLUMNS))
            shifted[row, column] = step
            above = self.expected(logits + shifted, valid) @ weights
            below = self.expected(logits - shifted, valid) @ weights
            assert found[row, column] == pytest.approx((above - below) / (2 * step), abs=2e-4)
        if valid is not None:
            assert not found[~valid].any()

    @pytest.mark.parametrize("valid", [None, some_valid()], ids=["all", "some"])
    @pytest.mark.parametrize("reach", [1e4, -1e4, None])
    def test_finite_at_extreme_logits(self, reach, valid):
        signs = np.where(random_logits() > 0, 1e4, -1e4).astype(np.float32)
        logits = signs if reach is None else np.full((5, COLUMNS), reach, np.float32)
        assert np.isfinite(self.loss(logits, valid)).all()
        assert np.isfinite(self.gradient(logits, valid)).all()

    def test_chunks_of_columns_add_up(self):
        """What a fused head computes chunk by chunk is the loss, and its gradient."""
        objective, logits = self.make(), random_logits()
        if not objective.fused:
            with pytest.raises(TypeError, match="must define begin"):
                objective.begin(None)
            return
        objective.build(None)
        columns = [(0, 4), (4, 8), (8, COLUMNS)]
        chunks = LogitChunks(lambda n: parts[n], columns, tf.constant(POSITIVES))
        parts = [tf.constant(part) for part in (logits[:, :4], logits[:, 4:8], logits[:, 8:])]
        state = objective.begin(chunks)
        arguments = [
            (part, positives, state)
            for part, (_, positives) in zip(parts, chunks.ranges(), strict=True)
        ]
        losses = tf.add_n([objective.loss_of_logits(*chunk) for chunk in arguments])
        np.testing.assert_allclose(losses, self.loss(logits), rtol=1e-5, atol=1e-6)
        gradient = [objective.gradient_of_logits(*chunk) for chunk in arguments]
        assert all(part.dtype == tf.float32 for part in gradient)
        found = np.concatenate(gradient, axis=1)
        np.testing.assert_allclose(found, self.gradient(logits), rtol=1e-5, atol=1e-6)

    def test_no_true_column_anywhere(self):
        positives = tf.fill((5, 1), -1)
        logits = tf.constant(random_logits())
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = self.make()(LogitGroup(logits, positives), tf.constant(self.index, tf.int64))
        assert np.isfinite(loss).all()
        assert np.isfinite(tape.gradient(loss, logits)).all()

    def test_a_row_without_columns_that_count(self):
        """Nor has it true ones; the other rows are what they are without it."""
        valid = some_valid()
        empty = next(row for row, columns in enumerate(POSITIVES) if max(columns) < 0)
        valid[empty] = False
        logits = random_logits()
        loss, gradient = self.loss(logits, valid).numpy(), self.gradient(logits, valid)
        assert np.isfinite(loss).all() and np.isfinite(gradient).all()
        assert not gradient[empty].any()
        others = np.arange(5) != empty
        np.testing.assert_array_equal(loss[others], self.loss(logits, some_valid())[others])

    def test_order_and_padding_of_positives_do_not_matter(self):
        logits = tf.constant(random_logits())
        wide = np.pad(POSITIVES[:, ::-1], ((0, 0), (1, 2)), constant_values=-1)
        index = tf.constant(self.index, tf.int64)
        one = self.make()(LogitGroup(logits, tf.constant(POSITIVES)), index)
        other = self.make()(LogitGroup(logits, tf.constant(wide)), index)
        assert_close(one, other, 1e-6)

    def test_half_precision_logits(self):
        rounded = tf.cast(random_logits(), tf.bfloat16)
        loss = self.loss(rounded)
        assert loss.dtype == tf.float32
        assert_close(loss, self.loss(tf.cast(rounded, tf.float32)), 1e-6)

    @pytest.mark.parametrize("valid", [None, some_valid()], ids=["all", "some"])
    def test_compiled_equals_eager(self, valid):
        logits, objective = random_logits(), self.make()
        compiled = tf.function(lambda x: self.loss(x, valid, objective), autograph=False)
        assert_close(compiled(tf.constant(logits)), self.loss(logits, valid))

    def test_config_round_trip(self):
        objective = self.make()
        example = group_of(random_logits()), tf.constant(self.index, tf.int64)
        objective(*example)
        copy = copy_from_config(objective, *example)
        assert copy.get_config() == objective.get_config()
        assert_equal(copy(*example), objective(*example))

    def test_epochs_can_be_announced(self):
        objective = self.make()
        for epoch in (1, 2, 3):
            objective.on_epoch(epoch, 3)
            assert np.isfinite(self.loss(random_logits(), objective=objective)).all()

    def test_link(self):
        assert self.make().link in ("sigmoid", "softmax", "hinge")
