import keras
import numpy as np
import pytest

from tests.contracts.technique import TechniqueContract, TinyTraining, eagerly
from tests.techniques.one_step import (
    applied,
    assert_gradients,
    bag_model,
    bags,
    dense_gradients,
    text_model,
    texts,
    values_of,
)
from tfxc.core.errors import ConfigError
from tfxc.techniques.awp import AWP


class TestAWP(TechniqueContract):
    name = "awp"
    arguments = {"start_epoch": 1}  # noqa: RUF012 (step 3: the second epoch)


def strong():
    return AWP(rate=0.5, epsilon=0.4, start_epoch=0)


def expected(model, batch, batch_size=None):
    """The gradients at weights moved by hand."""
    loss, clean = dense_gradients(model, batch, batch_size=batch_size)
    moves = []
    for variable, gradient in zip(model.trainable_variables, clean, strict=True):
        weight = variable.numpy()
        if weight.ndim > 1:
            move = 0.5 * np.linalg.norm(weight) * gradient / np.linalg.norm(gradient)
            moves.append((variable, np.clip(move, -0.4 * np.abs(weight), 0.4 * np.abs(weight))))
    _, perturbed = dense_gradients(model, batch, moves, batch_size)
    assert max(np.abs(a - b).max() for a, b in zip(clean, perturbed, strict=True)) > 1e-2
    return loss, perturbed


@pytest.mark.parametrize("make", [bag_model, lambda: bag_model(repetitions=1)])
def test_equals_weights_moved_by_hand(make):
    loss, gradients = expected(make(), bags())
    found_loss, found = applied(make(), [strong()], [bags()])
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert_gradients(found, gradients)


def test_each_micro_batch_is_attacked_by_itself():
    parts = [bags([0, 1]), bags([2, 3])]
    wanted = [expected(bag_model(), part, batch_size=4)[1] for part in parts]
    _, found = applied(bag_model(), [strong()], parts)
    assert_gradients(found, [one + other for one, other in zip(*wanted, strict=True)])


@pytest.mark.parametrize("parts", [[range(4)], [[0, 1], [2, 3]]])
def test_weights_do_not_change_to_the_bit(parts):
    model = bag_model()
    before = values_of(model)
    applied(model, [strong()], [bags(part) for part in parts], learning_rate=1e-30, eager=False)
    for one, other in zip(values_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


# Of the two, float16 has the narrower range, and a loss scale.
@pytest.mark.parametrize(
    "precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"]
)
def test_mixed_precision(precision):
    _, gradients = expected(text_model(), texts())
    keras.config.set_dtype_policy(precision)
    _, found = applied(text_model(), [strong()], [texts()], precision=precision)
    error = sum(np.abs(a - b).sum() for a, b in zip(found, gradients, strict=True))
    assert error < 0.06 * sum(np.abs(g).sum() for g in gradients)


def test_starts_at_its_epoch():
    plain = TinyTraining()
    attacked = TinyTraining(AWP(rate=0.5, epsilon=0.4, start_epoch=1))
    with eagerly():
        plain.run(3)
        attacked.run(3)
    for one, other in zip(attacked.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    with eagerly():
        plain.run(1)
        attacked.run(1)
    pairs = zip(attacked.weights, plain.weights, strict=True)
    assert max(np.abs(one - other).max() for one, other in pairs) > 1e-3


def test_an_attack_that_never_starts_is_refused():
    message = "start_epoch: begins at step 30, but the training has only 30 steps"
    with pytest.raises(ConfigError, match=message):
        AWP(start_epoch=3).on_train_begin(10, 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0}, "rate: must be .*positive number, not 0"),
        ({"epsilon": 0}, "epsilon: must be .*positive number, not 0"),
        ({"start_epoch": -1}, "start_epoch: must be .*number of at least 0, not -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        AWP(**arguments)
