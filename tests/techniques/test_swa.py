import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.technique import AverageContract, TinyTraining
from tfxc.core.errors import ConfigError
from tfxc.encoders.resnet import ResNet
from tfxc.heads.dense import Dense
from tfxc.model import XCModel
from tfxc.objectives.softmax import Softmax
from tfxc.techniques.swa import Swa


class TestSwa(AverageContract):
    name = "swa"
    arguments = {"start_epoch": 0.5, "every": 1}  # noqa: RUF012 (read only)


class TestSwaOfEveryOtherStep(TestSwa):
    arguments = {"start_epoch": 1, "every": 2}  # noqa: RUF012 (read only)


class TestSwaThatStartsLater(TestSwa):
    arguments = {"start_epoch": 30, "every": 2}  # noqa: RUF012 (read only)


class OneWeight:
    """Stands for a model: one trainable weight."""

    def __init__(self, start):
        self.trainable_variables = [self]
        self.value = tf.Variable(start)


def test_plain_mean():
    """The reference's example: 0, then 1, 2, 3 give 0.5, 1, 1.5."""
    model, technique, found = OneWeight(0.0), Swa(start_epoch=0, every=1), []
    technique.begin(10, 100)
    technique.build(model, tf.distribute.get_strategy())
    for step in (1, 2, 3):
        model.value.assign(step)
        technique.after_step(step)
        with technique.evaluation_weights():
            found.append(float(model.value))
        assert float(model.value) == step
    assert found == [0.5, 1.0, 1.5]


@pytest.mark.parametrize(("start_epoch", "every", "first"), [(2, 1, 6), (1.5, 3, 5), (0, 4, 0)])
def test_terms(start_epoch, every, first):
    """An epoch has three steps here."""
    technique = Swa(start_epoch=start_epoch, every=every)
    training = TinyTraining(technique)
    terms = [training.weights] if first == 0 else []
    for step in range(1, 14):
        training.run(1)
        raw = training.weights
        if step >= first and (step - first) % every == 0:
            terms.append(raw)
        expected = [np.mean(each, axis=0) for each in zip(*terms, strict=True)] or raw
        with technique.evaluation_weights():
            for found, right in zip(training.weights, expected, strict=True):
                np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-6)


def test_the_first_term_is_the_weights_to_the_bit():
    technique = Swa(start_epoch=1, every=100)
    training = TinyTraining(technique)
    training.run(3)
    raw = training.weights
    training.run(2)
    with technique.evaluation_weights():
        for found, right in zip(training.weights, raw, strict=True):
            np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("average_statistics", [False, True])
def test_moving_statistics(average_statistics):
    model = XCModel(ResNet((8, 8, 1), depth=10, width=2), Dense(2), Softmax())
    model(tf.zeros((2, 8, 8, 1)))
    technique = Swa(start_epoch=0, every=1, average_statistics=average_statistics)
    technique.begin(3, 10)
    technique.build(model, tf.distribute.get_strategy())
    statistics = model.encoder.non_trainable_variables[0]
    start = statistics.numpy()
    statistics.assign(start + 4)
    technique.after_step(1)
    with technique.evaluation_weights():
        lent = statistics.numpy()
    np.testing.assert_array_equal(lent, start + (2 if average_statistics else 4))
    np.testing.assert_array_equal(statistics.numpy(), start + 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_epoch": -1}, "start_epoch: .*number of at least 0 expected, found -1"),
        ({"every": 0}, "every: .*integer of at least 1 expected, found 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Swa(**arguments)


def test_an_average_that_never_starts_is_refused():
    with pytest.raises(ConfigError, match=r"start_epoch: .* within the 30 steps .* found step 30"):
        Swa(start_epoch=3).begin(10, 30)
