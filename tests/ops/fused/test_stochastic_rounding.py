"""Stochastic rounding: unbiased, fresh, and the same from C++ and from TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.fused.stochastic_rounding import descend, round_stochastically, rounded_descent
from tfxc.ops.randomness import step_scope

needs_compiler = pytest.mark.usefixtures("compiled_operations")


@pytest.fixture(params=["0", "1"], ids=["TensorFlow", "C++"])
def switch(request, monkeypatch):
    """With and without the compiled operation."""
    if request.param == "1":
        request.getfixturevalue("compiled_operations")
    choose(monkeypatch, request.param)
    yield request.param
    rounded_descent.forget()


def choose(monkeypatch, switch):
    monkeypatch.setenv("TFXC_COMPILE", switch)
    rounded_descent.forget()
    assert (rounded_descent.get() is not None) == (switch == "1")


def descended(variable, gradient, rate, steps, kept=1.0, seed=3):
    """The variable's values, float32, after some steps."""
    gradient = tf.cast(gradient, tf.bfloat16)
    for step in range(steps):
        with step_scope(tf.constant(step, tf.int64), tf.constant(0)):
            descend(variable, gradient, tf.constant(rate), kept, seed)
    return tf.cast(variable, tf.float32).numpy()


def test_rounds_to_both_neighbours_in_the_right_share():
    value = np.float32(1 + 0.3 / 128)  # between 1 and 1 + 1/128
    bits = tf.constant(np.arange(0, 2**32, 2**16).astype(np.uint32))
    found = tf.cast(round_stochastically(tf.fill([2**16], value), bits), tf.float32).numpy()
    assert set(found) == {1.0, 1 + 1 / 128}
    assert (found > 1).mean() == pytest.approx(0.3, abs=1e-3)
    exact = tf.constant([0.0, 1.0, -2.5])
    np.testing.assert_array_equal(
        tf.cast(
            round_stochastically(exact, tf.fill([3], tf.constant(2**32 - 1, tf.uint32))), "float32"
        ),
        exact,
    )


def test_small_steps_are_not_lost(switch):
    """To the nearest, 1 + 1e-4 is 1 a hundred times."""
    variable = tf.Variable(tf.ones((200, 50), tf.bfloat16))
    found = descended(variable, -tf.ones((200, 50)), 1e-4, 100)
    # The deviation of the mean of 10^4 numbers is about 1e-4.
    assert found.mean() == pytest.approx(1.01, abs=5e-4)
    assert len(np.unique(found)) > 2


def test_both_signs_and_decay(switch):
    values = np.random.default_rng(0).normal(size=(60, 40)).astype(np.float32)
    start = tf.cast(values, tf.bfloat16)
    found = [
        descended(tf.Variable(start), values, 0.01, 1, tf.constant(0.9), seed) for seed in range(40)
    ]
    exact = tf.cast(start, tf.float32) * 0.9 - 0.01 * tf.cast(start, tf.float32)
    np.testing.assert_allclose(np.mean(found, axis=0), exact, rtol=4e-3, atol=1e-6)
    assert np.abs(np.std(found, axis=0)).max() > 0  # another seed rounds otherwise


@needs_compiler
def test_compiled_equals_tensorflow(monkeypatch):
    values = np.random.default_rng(0).normal(size=(70, 33)).astype(np.float32)
    results = []
    for choice in "10":
        choose(monkeypatch, choice)
        variable = tf.Variable(tf.cast(values, tf.bfloat16))
        results.append(descended(variable, values, 0.03, 4, tf.constant(0.99)))
    rounded_descent.forget()
    np.testing.assert_array_equal(*results)


@needs_compiler
def test_a_variable_made_from_another_keeps_its_values():
    variable = tf.Variable(tf.ones((3, 2), tf.bfloat16))
    twin = tf.Variable(variable)
    descended(variable, tf.ones((3, 2)), 1.0, 1)
    np.testing.assert_array_equal(tf.cast(twin, tf.float32), np.ones((3, 2)))
    assert rounded_descent.get() is not None
    assert rounded_descent.requested


@needs_compiler
def test_a_gradient_of_another_shape_is_refused():
    variable = tf.Variable(tf.ones((3, 2), tf.bfloat16))
    with pytest.raises(tf.errors.InvalidArgumentError, match="a matrix and its gradient"):
        descended(variable, tf.ones((2, 3)), 1.0, 1)


@pytest.mark.usefixtures("switch")
def test_parts_are_rounded_as_the_whole():
    """So replicas that share out the rows of a matrix have the numbers of one device."""
    random = np.random.default_rng(0)
    start, gradient = (tf.constant(random.normal(size=(7, 5)), tf.bfloat16) for _ in range(2))
    parts = [(0, 7), (0, 3), (3, 7)]
    found = []
    for begin, end in parts:
        variable = tf.Variable(start[begin:end])
        with step_scope(tf.constant(4, tf.int64), tf.constant(0)):
            descend(variable, gradient[begin:end], tf.constant(0.01), 1.0, 3, begin)
        found.append(tf.cast(variable, tf.float32))
    np.testing.assert_array_equal(found[0], tf.concat(found[1:], axis=0))
