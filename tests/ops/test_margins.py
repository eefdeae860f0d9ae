import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.margins import angular_margin, at_positives

MARGINS = [(1, 0.5, 0), (1, 0, 0.35), (1, 0.3, 0.2), (1.35, 0, 0), (4, 0, 0), (1.2, 0.4, 0.1)]
MARGINS += [(1, 3, 0)]


def reference(cosines, m1, m2, m3):
    """The margin by NumPy's arccos, float64."""
    angles = np.arccos(np.asarray(cosines, np.float64))
    reach = np.pi - (np.pi - m2) / m1
    drop = max(reach * np.sin(reach), 1 - np.cos(reach))
    beyond = m1 * angles + m2 >= np.pi
    return np.where(beyond & (reach > 0), cosines - drop, np.cos(m1 * angles + m2)) - m3


def test_published_table():
    cosines = [1, 0.9, 0.5, 0, -0.87, -0.88, -0.95]
    expected = [0.877583, 0.580848, 0.023597, -0.479426, -0.999878, -1.119713, -1.189713]
    np.testing.assert_allclose(angular_margin(tf.constant(cosines)), expected, atol=2e-6)


@pytest.mark.parametrize("margin", MARGINS)
def test_equals_the_formula_and_never_rises_with_the_angle(margin):
    cosines = np.cos(np.linspace(0, np.pi, 2003)).astype(np.float32)
    found = angular_margin(tf.constant(cosines), *margin).numpy()
    # An angle near 0 or pi has half the digits of its cosine.
    np.testing.assert_allclose(found, reference(cosines, *margin), atol=1e-5, rtol=1e-5)
    assert (np.diff(found) <= 1e-6).all()


@pytest.mark.parametrize("margin", MARGINS)
def test_finite_at_the_ends_and_beyond(margin):
    below = np.nextafter(np.float32(1), np.float32(0))
    ends = tf.constant([1, -1, below, -below, 1.0000002, -1.0000002], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(ends)
        values = angular_margin(ends, *margin)
    assert np.isfinite(values).all() and np.isfinite(tape.gradient(values, ends)).all()
    np.testing.assert_allclose(values[:2], reference([1, -1], *margin), atol=1e-6)


@pytest.mark.parametrize("margin", MARGINS)
def test_slope_equals_differences(margin):
    cosines = np.linspace(-0.99, 0.99, 199)
    inside = tf.constant(cosines, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inside)
        values = angular_margin(inside, *margin)
    step = 1e-6
    slope = (reference(cosines + step, *margin) - reference(cosines - step, *margin)) / (2 * step)
    smooth = np.abs(slope) < 1e3  # elsewhere the step crosses the jump
    assert smooth.sum() > 190
    found = tape.gradient(values, inside).numpy()
    np.testing.assert_allclose(found[smooth], slope[smooth], rtol=2e-3, atol=2e-3)


def test_at_positives_changes_value_and_slope_of_the_true_columns_only():
    rng = np.random.default_rng(0)
    scores = tf.constant(rng.normal(size=(3, 4)), tf.float32)
    weights = tf.constant(rng.normal(size=(3, 4)), tf.float32)
    positives = tf.constant([[2, -1], [-1, -1], [0, 3]])
    target = np.array([[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]], bool)

    def gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            values = function(scores)
            total = tf.reduce_sum(weights * values)
        return values, tape.gradient(total, scores)

    found = gradient(lambda x: at_positives(x, positives, tf.sin))
    expected = gradient(lambda x: tf.where(target, tf.sin(x), x))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
