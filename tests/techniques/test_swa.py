import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.technique import AverageContract, TinyTraining
from tfxc.core.errors import ConfigError
from tfxc.encoders.resnet import ResNet
from tfxc.heads.dense import Dense
from tfxc.model import XCModel
from tfxc.objectives.softmax import Softmax
from tfxc.techniques.swa import SWA


class TestSWA(AverageContract):
    name = "swa"
    arguments = {"start_epoch": 0.5, "every": 1}  # noqa: RUF012 (read only)


class TestSWAOfEveryOtherStep(TestSWA):
    variant = True
    arguments = {"start_epoch": 1, "every": 2}  # noqa: RUF012 (read only)


class TestSWAThatStartsLater(TestSWA):
    variant = True
    arguments = {"start_epoch": 30, "every": 2}  # noqa: RUF012 (read only)


class OneWeight:
    """Stands for a model: one trainable weight."""

    def __init__(self, start):
        self.trainable_variables = [self]
        self.value = tf.Variable(start)


def test_plain_mean():
    """The reference's example: 0, then 1, 2, 3 give 0.5, 1, 1.5."""
    model, technique, found = OneWeight(0.0), SWA(start_epoch=0, every=1), []
    technique.on_train_begin(10, 100)
    technique.build(model, tf.distribute.get_strategy())
    for step in (1, 2, 3):
        model.value.assign(step)
        technique.after_step(step)
        with technique.evaluation_weights():
            found.append(float(model.value))
        assert float(model.value) == step
    assert found == [0.5, 1.0, 1.5]


# Steps that are not whole epochs include those that are.
@pytest.mark.parametrize(
    ("start_epoch", "every", "first"),
    [pytest.param(2, 1, 6, marks=pytest.mark.slow), (1.5, 3, 5), (0, 4, 0)],
)
def test_terms(start_epoch, every, first):
    """An epoch has three steps here."""
    technique = SWA(start_epoch=start_epoch, every=every)
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
    technique = SWA(start_epoch=1, every=100)
    training = TinyTraining(technique)
    training.run(3)
    raw = training.weights
    training.run(2)
    with technique.evaluation_weights():
        for found, right in zip(training.weights, raw, strict=True):
            np.testing.assert_array_equal(found, right)


def torch_swalr(rates, start, epochs, last, cosine):
    """The rates of PyTorch's SWALR as its documentation has them, each step a call."""
    found = list(rates[:start])
    for number in range(len(rates) - start):
        share = min(1, number / epochs) if epochs else 1
        share = (1 - np.cos(np.pi * share)) / 2 if cosine else share
        found.append(last * share + rates[start] * (1 - share))
    return found


@pytest.mark.parametrize(
    ("arguments", "epochs", "cosine"),
    [
        ({"anneal": "linear", "anneal_epochs": 2}, 6, False),
        ({"anneal_epochs": 4}, 12, True),
        ({}, 3, True),
        ({"anneal_epochs": 0}, 0, True),
    ],
)
def test_a_learning_rate_of_its_own(arguments, epochs, cosine):
    """An epoch has three steps here; the schedule is linear."""
    technique = SWA(start_epoch=2, every=1, learning_rate=0.05, **arguments)
    technique.on_train_begin(3, 20)
    scheduled = [0.4 * (1 - step / 20) for step in range(20)]

    def rate_at(step):
        return 0.4 * (1 - tf.cast(step, tf.float32) / 20)

    found = [float(technique.learning_rate(rate_at, tf.constant(s, tf.int64))) for s in range(20)]
    expected = torch_swalr(scheduled, 6, epochs, 0.05, cosine)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_step_takes_the_rate_of_the_average():
    """With plain SGD a step moves the weights by the rate times the gradient."""
    small, large = (
        TinyTraining(SWA(start_epoch=1, every=1, learning_rate=rate, anneal_epochs=0))
        for rate in (1e-6, 10.0)
    )
    for training in (small, large):
        training.run(3)
    moved = []
    for training in (small, large):
        before = training.weights
        training.run(1)
        pairs = zip(before, training.weights, strict=True)
        moved.append(max(abs(one - other).max() for one, other in pairs))
    assert moved[0] < 1e-4 < moved[1]


def test_annealing_needs_a_rate():
    with pytest.raises(ConfigError, match="learning_rate: is missing"):
        SWA(anneal="linear")
    with pytest.raises(ValueError, match="anneal: must be one of cosine, linear"):
        SWA(learning_rate=0.1, anneal="steps")


@pytest.mark.parametrize("average_statistics", [False, True])
def test_moving_statistics(average_statistics):
    model = XCModel(ResNet((8, 8, 1), depth=10, width=2), Dense(2), Softmax())
    model(tf.zeros((2, 8, 8, 1)))
    technique = SWA(start_epoch=0, every=1, average_statistics=average_statistics)
    technique.on_train_begin(3, 10)
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
        ({"start_epoch": -1}, "start_epoch: must be .*number of at least 0, not -1"),
        ({"every": 0}, "every: must be .*integer of at least 1, not 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        SWA(**arguments)


def test_an_average_that_never_starts_is_refused():
    message = "start_epoch: begins at step 30, but the training has only 30 steps"
    with pytest.raises(ConfigError, match=message):
        SWA(start_epoch=3).on_train_begin(10, 30)
