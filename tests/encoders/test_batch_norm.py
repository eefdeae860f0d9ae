import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.layers import copy_from_config
from tfxc.encoders.layers.batch_norm import BatchNorm


def moved_layer(shape=(6, 4, 5, 3), calls=2, **arguments):
    """A layer after some calls in training, its inputs and their outputs, as NumPy."""
    rng = np.random.default_rng(0)
    layer, inputs, outputs = BatchNorm(**arguments), [], []
    layer.build(shape)
    layer.beta.assign(rng.normal(size=shape[-1]))
    if layer.scale:
        layer.gamma.assign(rng.normal(size=shape[-1]))
    for _ in range(calls):
        inputs.append(rng.normal(2, 3, size=shape).astype(np.float32))
        outputs.append(layer(tf.constant(inputs[-1]), training=True).numpy())
    return layer, inputs, outputs


@pytest.mark.parametrize("shape", [(6, 4, 5, 3), (9, 3)])
@pytest.mark.parametrize("scale", [True, False])
def test_equals_numpy(shape, scale):
    """PyTorch's rule: biased variance to normalise, unbiased variance to remember."""
    layer, inputs, outputs = moved_layer(shape, scale=scale, momentum=0.8, epsilon=1e-3)
    gamma, beta = (layer.gamma.numpy() if scale else 1.0), layer.beta.numpy()
    mean, variance = np.zeros(3), np.ones(3)
    for x, y in zip(inputs, outputs, strict=True):
        rows = x.reshape(-1, 3).astype(np.float64)
        expected = (x - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-3) * gamma + beta
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        mean = 0.8 * mean + 0.2 * rows.mean(0)
        variance = 0.8 * variance + 0.2 * rows.var(0, ddof=1)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-4)
    expected = (inputs[0] - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    found = layer(tf.constant(inputs[0]), training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_gradient_equals_that_of_keras():
    layer, (x, _), _ = moved_layer()
    other = keras.layers.BatchNormalization(epsilon=1e-5)
    other.build(x.shape)
    other.gamma.assign(layer.gamma)
    other.beta.assign(layer.beta)
    found, expected = (_gradients(one, tf.constant(x)) for one in (layer, other))
    for one, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-3, atol=1e-3)


def _gradients(layer, x):
    weights = [layer.gamma.value, layer.beta.value]
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True) ** 3)
    return tape.gradient(loss, [x, *weights])


def test_config_round_trip():
    layer, (x, _), _ = moved_layer(scale=False, momentum=0.7, synchronized=True)
    copy = copy_from_config(layer, x)
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(copy(x), layer(x))


def test_one_example_without_a_variance():
    layer = BatchNorm()
    assert np.isfinite(layer(tf.ones((1, 1, 1, 2)), training=True)).all()
    assert np.isfinite(layer.moving_variance).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_statistics_stay_float32(policy):
    """Also the sums: 40,000 values beyond float16's integers."""
    layer = BatchNorm(dtype=policy)
    x = tf.random.stateless_normal((40, 32, 32, 2), (1, 2)) + 3
    found = layer(tf.cast(x, layer.compute_dtype), training=True)
    assert found.dtype == layer.compute_dtype
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    np.testing.assert_allclose(layer.moving_mean, [0.3, 0.3], rtol=0.02)
    np.testing.assert_allclose(layer.moving_variance, [1, 1], rtol=0.02)
