"""The compiled optimizer step against TensorFlow's own operations."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.training.optimization.optimizers import Adam
from tfxc.training.optimization.row_adam import row_adam

needs_compiler = pytest.mark.usefixtures("compiled_operations")


def state(seed=0, shape=(50, 7)):
    """A variable and its two moments, none zero."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(3, *shape)).astype(np.float32)
    return [tf.Variable(values[0]), tf.Variable(values[1]), tf.Variable(values[2] ** 2)]


@needs_compiler
@pytest.mark.parametrize("shape", [(50, 7), (50, 3, 5), (50,)])
def test_equals_the_textbook(shape):
    weight, first, second = state(shape=shape)
    rows = np.array([3, 49, 0, 17], np.int32)
    gradient = np.random.default_rng(1).normal(size=(4, *shape[1:])).astype(np.float32)
    w, m, v = (np.array(x, np.float64) for x in (weight, first, second))
    m[rows] += 0.1 * (gradient - m[rows])
    v[rows] += 0.01 * (gradient.astype(np.float64) ** 2 - v[rows])
    w[rows] -= 0.05 * m[rows] / (np.sqrt(v[rows]) + 1e-3)
    row_adam.get()(
        variable=weight.handle, first_moment=first.handle, second_moment=second.handle,
        rows=rows, gradient=gradient, rate=0.05, epsilon=1e-3, share_1=0.1, share_2=0.01,
    )  # fmt: skip
    for found, expected in zip((weight, first, second), (w, m, v), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@needs_compiler
def test_a_variable_made_from_another_keeps_its_values():
    weight, first, second = state()
    twin = tf.Variable(weight)  # shares the buffer until one of them is written to
    before = twin.numpy().copy()
    row_adam.get()(
        variable=weight.handle, first_moment=first.handle, second_moment=second.handle,
        rows=[1], gradient=tf.ones((1, 7)), rate=1.0, epsilon=1e-7, share_1=0.1, share_2=0.01,
    )  # fmt: skip
    np.testing.assert_array_equal(twin, before)
    assert (weight.numpy()[1] != before[1]).all()


@needs_compiler
def test_a_row_outside_is_refused():
    weight, first, second = state()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"row 50 is outside of 0 .. 49"):
        row_adam.get()(
            variable=weight.handle, first_moment=first.handle, second_moment=second.handle,
            rows=[50], gradient=tf.ones((1, 7)), rate=1.0, epsilon=1e-7, share_1=0.1, share_2=0.01,
        )  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optimizer_gives_the_same_with_and_without(monkeypatch, weight_decay):
    results = []
    for switch in ("1", "0"):
        monkeypatch.setenv("TFXC_COMPILE", switch)
        row_adam.forget()
        optimizer, variable = Adam(0.1, weight_decay=weight_decay), state()[0]
        optimizer.build([variable])
        for step in range(3):
            rows = tf.constant([step, 9, 20])
            gradient = tf.IndexedSlices(tf.fill((3, 7), 0.5 + step), rows, variable.shape)
            slots = optimizer.slots[variable.ref()]
            optimizer.update(variable, gradient, slots, tf.constant(0.1), tf.constant(step + 1))
        results.append([variable.numpy(), *(slot.numpy() for slot in slots)])
    row_adam.forget()
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_without_a_compiler_there_is_none(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    row_adam.forget()
    assert row_adam.get() is None
    assert "no C++ compiler" in row_adam.problem
    row_adam.forget()
