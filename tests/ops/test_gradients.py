import pytest
import tensorflow as tf

from tfxc.ops.gradients import (
    custom_gradient,
    global_norm,
    scale,
    sum_repeated_rows,
    without_gradients,
)


def test_sum_repeated_rows():
    values = tf.constant([[1.0, 2], [3, 4], [5, 6], [7, 8]])
    for on_gpu in (False, True):
        gradient = tf.IndexedSlices(values, tf.constant([4, 1, 4, 4]), (9, 2))
        found = sum_repeated_rows(gradient, on_gpu)
        assert found.indices.numpy().tolist() == [4, 1]
        assert found.values.numpy().tolist() == [[13, 16], [3, 4]]
        assert tuple(found.dense_shape) == (9, 2)
    dense = tf.ones((2, 2))
    assert sum_repeated_rows(dense) is dense


def test_norm_and_scale():
    slices = tf.IndexedSlices(tf.constant([[3.0], [0.0]]), tf.constant([4, 1]), (9, 1))
    gradients = [slices, tf.constant([[2.0, 6.0]])]
    assert float(global_norm(gradients)) == pytest.approx(7)
    halves = [scale(gradient, 0.5) for gradient in gradients]
    assert float(global_norm(halves)) == pytest.approx(3.5)
    assert halves[0].indices.numpy().tolist() == [4, 1]


def test_a_custom_gradient_is_used_unless_none_is_wanted():
    @custom_gradient
    def doubled(x):
        return 2 * x, lambda upstream: 10 * upstream

    with tf.GradientTape(persistent=True) as tape:
        x = tf.constant(3.0)
        tape.watch(x)
        result = doubled(x)
        with without_gradients():
            plain = doubled(x)
    assert (float(result), float(plain)) == (6.0, 6.0)
    assert float(tape.gradient(result, x)) == 10.0 and float(tape.gradient(plain, x)) == 2.0
