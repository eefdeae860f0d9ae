"""Decoupled and coupled weight decay, and weights without it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.training.optimization.test_optimizers import (
    DIM,
    ROWS,
    row_gradient,
    sparse_gradients,
    start_values,
    trained,
)
from tfxc.core.errors import ConfigError
from tfxc.ops.gradients import sum_repeated_rows
from tfxc.training.optimization.optimizers import SGD, Adagrad, Adam


def test_weight_decay_is_decoupled():
    """w shrinks by rate * decay before (dense) or next to (rows) the plain update."""
    start, gradient = start_values(), np.full((ROWS, DIM), 0.5, np.float32)
    plain = trained(Adam(0.1), [tf.constant(gradient)], start)
    decayed = trained(Adam(0.1, weight_decay=0.2), [tf.constant(gradient)], start)
    np.testing.assert_allclose(decayed, plain - 0.1 * 0.2 * start, rtol=1e-5, atol=1e-6)
    rows = [1, 4]
    slices = row_gradient(gradient[rows], rows)
    found = trained(Adam(0.1, weight_decay=0.2), [slices], start)
    np.testing.assert_allclose(found[rows], decayed[rows], rtol=1e-5, atol=1e-6)
    others = [0, 2, 3, 5, 6, 7, 8]
    np.testing.assert_array_equal(found[others], start[others])


def coupled_reference(start, gradients, decay, nesterov):
    """PyTorch's rule in float64."""
    weight, velocity = start.astype(np.float64), 0.0
    for gradient in gradients:
        gradient = gradient + decay * weight
        velocity = 0.9 * velocity + gradient
        weight = weight - 0.1 * (gradient + 0.9 * velocity if nesterov else velocity)
    return weight


@pytest.mark.parametrize("nesterov", [False, True])
def test_coupled_weight_decay_is_a_part_of_the_gradient(nesterov):
    rng = np.random.default_rng(5)
    gradients = [rng.normal(size=(ROWS, DIM)).astype(np.float32) for _ in range(5)]
    expected = coupled_reference(start_values(), gradients, 0.3, nesterov)
    options = {"momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.3}
    found = trained(SGD(0.1, coupled=True, **options), map(tf.constant, gradients), start_values())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_coupled_weight_decay_of_rows(nesterov):
    """Rows of each step get the dense result; a row no batch touched is not decayed."""
    optimizer = SGD(0.1, 0.9, nesterov, weight_decay=0.3, coupled=True)
    found = trained(optimizer, (g for g, _ in sparse_gradients()), start_values())
    dense = [d for _, d in sparse_gradients()]
    expected = coupled_reference(start_values(), dense, 0.3, nesterov)
    np.testing.assert_allclose(found[[2, 5]], expected[[2, 5]], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[[1, 3]], start_values()[[1, 3]])


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: SGD(0.1, 0.9, coupled=True, **more),
        lambda **more: SGD(0.1, **more),
        lambda **more: Adagrad(0.1, **more),
        lambda **more: Adam(0.1, **more),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_weights_without_decay(make, sparse):
    gradient = next(sparse_gradients())[0 if sparse else 1]
    if not sparse:
        gradient = tf.constant(gradient, tf.float32)

    def ends(**more):
        optimizer, results = make(**more), []
        variables = [tf.Variable(start_values(), name=f"layer/{n}") for n in ("kernel", "bias_1")]
        optimizer.build(variables)
        for variable in variables:
            slots = optimizer.slots[variable.ref()]
            rate = tf.constant(0.1)
            optimizer.update(
                variable, sum_repeated_rows(gradient), slots, rate, tf.constant(1, tf.int64)
            )
            results.append(variable.numpy())
        return results

    plain, decayed = ends(), ends(weight_decay=0.5)
    kernel, bias = ends(weight_decay=0.5, no_decay=["bias*"])
    np.testing.assert_array_equal(kernel, decayed[0])
    np.testing.assert_array_equal(bias, plain[1])
    assert (plain[0] != decayed[0]).any()


def test_a_name_that_fits_no_weight_is_refused():
    variables = [tf.Variable(tf.zeros(3), name=name) for name in ("net/kernel", "net/gamma")]
    with pytest.raises(ConfigError, match=r"no_decay: no weight matches 'gama'.*gamma, kernel"):
        SGD(0.1, weight_decay=0.1, no_decay=["gama"]).build(variables)
