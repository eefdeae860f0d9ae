import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.losses import (
    distinct_positives,
    gather_positives,
    set_at_positives,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)


def random_problem(seed, rows=6, columns=8):
    """Logits, padded distinct positives, dense target."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (rows, columns)).astype(np.float32)
    target = rng.random((rows, columns)) < 0.3
    target[0] = False
    width = max(1, int(target.sum(axis=1).max()))
    positives = np.full((rows, width), -1, np.int32)
    for row, true in enumerate(target):
        columns_of_row = rng.permutation(np.flatnonzero(true))
        positives[row, : len(columns_of_row)] = columns_of_row
    return logits, positives, target.astype(np.float32)


def value_and_gradient(loss, logits, *more):
    logits = tf.constant(logits)
    upstream = tf.range(1.0, 1.0 + len(logits))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = loss(logits, *more)
        total = tf.reduce_sum(values * upstream)
    return values.numpy(), tape.gradient(total, logits).numpy()


@pytest.mark.parametrize("seed", range(4))
def test_sigmoid_equals_tensorflow_on_a_dense_target(seed):
    logits, positives, target = random_problem(seed)
    found = value_and_gradient(sigmoid_cross_entropy, logits, positives)
    expected = value_and_gradient(
        lambda z: tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(target, z), axis=1), logits
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_softmax_equals_tensorflow_on_a_dense_target(seed):
    logits, positives, target = random_problem(seed)
    share = target / np.maximum(target.sum(axis=1, keepdims=True), 1)
    has_any = target.any(axis=1)
    found = value_and_gradient(softmax_cross_entropy, logits, positives)
    expected = value_and_gradient(
        lambda z: tf.where(has_any, tf.nn.softmax_cross_entropy_with_logits(share, z), 0.0), logits
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [sigmoid_cross_entropy, softmax_cross_entropy])
def test_minus_infinity_takes_a_column_out(loss):
    logits, positives, target = random_problem(9)
    target[:, 2] = 0
    positives = np.where(positives == 2, -1, positives)
    masked = logits.copy()
    masked[:, 2] = -np.inf
    without = np.delete(logits, 2, axis=1)
    renumbered = np.where(positives > 2, positives - 1, positives)
    found = value_and_gradient(loss, masked, positives)
    expected = value_and_gradient(loss, without, renumbered)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.delete(found[1], 2, axis=1), expected[1], rtol=1e-4, atol=1e-6)
    assert not found[1][:, 2].any()


def test_no_target_matrix_is_built():
    """Beyond the logits' own size, the sigmoid loss needs nothing of (batch, columns)."""
    graph = tf.function(sigmoid_cross_entropy, autograph=False).get_concrete_function(
        tf.TensorSpec((7, 1009)), tf.TensorSpec((7, 3), tf.int32)
    )
    wide = [op.type for op in graph.graph.get_operations() for x in op.outputs if 1009 in x.shape]
    assert "OneHot" not in wide and "ScatterNd" not in wide


def test_gather_positives():
    values, mask = gather_positives(
        tf.constant([[1.0, 2, 3], [4, 5, 6]]), tf.constant([[2, -1], [-1, 0]])
    )
    np.testing.assert_array_equal(values, [[3, 0], [0, 4]])
    np.testing.assert_array_equal(mask, [[True, False], [False, True]])


def test_distinct_positives():
    rng = np.random.default_rng(0)
    columns = rng.integers(-1, 5, (200, 6)).astype(np.int32)
    found = distinct_positives(tf.constant(columns)).numpy()
    assert found.shape == columns.shape and found.dtype == np.int32
    for row, result in zip(columns, found, strict=True):
        kept = result[result >= 0].tolist()
        assert sorted(kept) == sorted(set(row.tolist()) - {-1})


def test_true_columns_are_set_and_no_gradient_comes_through_them():
    """By NumPy, with padding at any place, and rows of padding alone."""
    logits, positives, target = random_problem(7)
    positives[1:4] = positives[1:4, ::-1]
    found, gradient = value_and_gradient(
        lambda values: tf.reduce_sum(set_at_positives(values, positives, -7.0) ** 2, axis=1), logits
    )
    expected = np.where(target > 0, -7, logits)
    np.testing.assert_allclose(found, (expected**2).sum(axis=1), rtol=1e-6)
    upstream = np.arange(1.0, 1.0 + len(logits))[:, None]
    np.testing.assert_allclose(gradient, np.where(target > 0, 0, 2 * logits * upstream), rtol=1e-6)
