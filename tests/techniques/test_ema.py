import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.technique import AverageContract, TinyTraining
from tfxc.core.errors import ConfigError
from tfxc.techniques.ema import EMA


class TestEMA(AverageContract):
    name = "ema"
    arguments = {"decay": 0.8}  # noqa: RUF012 (read only)


class TestEMAOfEveryOtherStep(TestEMA):
    variant = True
    arguments = {"decay": 0.8, "every": 2}  # noqa: RUF012 (read only)


# Another decay is another number in the same formula.
@pytest.mark.parametrize(
    ("decay", "every"), [(0.5, 1), pytest.param(0.99, 1, marks=pytest.mark.slow), (0.9, 3)]
)
def test_average(decay, every):
    technique = EMA(decay=decay, every=every)
    training = TinyTraining(technique)
    expected = [weight.astype(np.float64) for weight in training.weights]
    for step in range(1, 14):
        training.run(1)
        if step % every == 0:
            count = step // every
            past = min(decay**every, (1 + count) / (10 + count))
            pairs = zip(expected, training.weights, strict=True)
            expected = [past * average + (1 - past) * weight for average, weight in pairs]
    for average, right in zip(technique.variables_to_save, expected, strict=True):
        np.testing.assert_allclose(average, right, rtol=1e-4, atol=1e-6)
    raw = np.concatenate([weight.ravel() for weight in training.weights])
    averages = np.concatenate([v.numpy().ravel() for v in technique.variables_to_save])
    with technique.evaluation_weights():
        lent = np.concatenate([weight.ravel() for weight in training.weights])
    np.testing.assert_array_equal(lent, averages)
    assert np.abs(lent - raw).max() > 1e-3


def test_training_goes_on_with_the_raw_weights():
    plain, averaged = TinyTraining(), TinyTraining(EMA(decay=0.9))
    plain.run(5)
    averaged.run(5)
    for one, other in zip(plain.weights, averaged.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_bad_decay(decay):
    with pytest.raises(ConfigError, match=r"decay: must be .*a number above 0 and below 1"):
        EMA(decay=decay)


def test_bad_every():
    with pytest.raises(ConfigError, match="every: must be an integer of at least 1, not 0"):
        EMA(every=0)


def test_an_evaluation_holds_no_copy_of_the_weights_on_the_host():
    weight = tf.Variable(tf.zeros(1 << 20))
    model = SimpleNamespace(trainable_variables=[SimpleNamespace(value=weight)])
    technique = EMA(decay=0.5)
    technique.build(model, tf.distribute.get_strategy())
    weight.assign_add(tf.ones(1 << 20))
    with technique.evaluation_weights():
        assert float(weight[0]) == 0
    tracemalloc.start()
    with technique.evaluation_weights():
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20, "the weight takes four times as much"
    assert float(weight[0]) == 1
