import numpy as np
import pytest
import tensorflow as tf

from tests.techniques.one_step import (
    IDS,
    applied,
    assert_gradients,
    bag_model,
    bags,
    dense_gradients,
    text_model,
    texts,
    values_of,
)
from tests.techniques.text_contract import TextTechniqueContract
from tfxc.core.errors import ConfigError
from tfxc.ops.randomness import step_scope
from tfxc.techniques.freelb import FreeLB


class TestFreeLB(TextTechniqueContract):
    name = "freelb"
    arguments = {"max_norm": 0.3, "step_size": 0.1}  # noqa: RUF012 (read only)


def losses_at(model, offset):
    """Function of a batch -> losses with the words moved by ``offset``."""

    def losses(batch):
        embedded = tf.gather(model.encoder.table.value, batch["features"]) + offset
        vectors = model.encoder.encode(embedded, batch["features"] != 0)
        groups = model.head.training_groups(vectors, batch["labels"])
        return model.objective.of_groups(groups)

    return losses


def expected(model, batch, rounds, step, limit, norm):
    """Mean gradients from a start of zero, examples moved one by one."""
    offset, total = np.zeros((*batch["features"].shape, 5), np.float32), None
    for _ in range(rounds):
        losses_of = losses_at(model, offset)
        _, gradients = dense_gradients(model, batch, losses_of=losses_of)
        pairs = zip(total, gradients, strict=True) if total else ()
        total = [one + other for one, other in pairs] if total else gradients
        moving = tf.Variable(offset)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(losses_at(model, moving)(batch))
        upward = tape.gradient(loss, moving).numpy()
        for row, gradient in enumerate(upward):
            if norm == "l2":
                offset[row] += step * gradient / np.linalg.norm(gradient)
                offset[row] *= min(1, limit / np.linalg.norm(offset[row]))
            else:
                offset[row] += step * gradient / np.abs(gradient).max()
                offset[row] = np.clip(offset[row], -limit, limit)
    return [each / rounds for each in total]


@pytest.mark.parametrize(("norm", "limit"), [("l2", 0.9), ("linf", 0.5)])
def test_equals_a_computation_example_by_example(norm, limit):
    wanted = expected(text_model(), texts(), 3, 0.6, limit, norm)
    technique = FreeLB(init_magnitude=0, step_size=0.6, max_norm=limit, norm=norm)
    model = text_model()
    loss, found = applied(model, [technique], [texts()])
    assert_gradients(found, wanted)
    clean, gradients = dense_gradients(text_model(), texts())
    assert loss == pytest.approx(clean, rel=1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(found, gradients, strict=True)) > 1e-3


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_start(norm):
    technique = FreeLB(norm=norm, init_magnitude=0.1)

    def start(ids):
        with step_scope(3, 0):
            return technique._start(tf.constant(ids), 50, 0).numpy()

    found = start(IDS)
    assert not found[IDS == 0].any()
    for row, words in enumerate(np.count_nonzero(IDS, axis=1)):
        limit = 0.1 / np.sqrt(words * 50) if norm == "l2" else 0.1
        values = found[row, :words]
        assert 0.9 * limit < np.abs(values).max() <= limit
        assert abs(values.mean()) < 0.25 * limit
    wider = start(np.pad(IDS, [(0, 0), (0, 3)]))
    np.testing.assert_array_equal(wider[:, :4], found)


def test_weights_do_not_change_to_the_bit():
    model = text_model()
    before = values_of(model)
    applied(model, [FreeLB(max_norm=1.0)], [texts()], learning_rate=1e-30)
    for one, other in zip(values_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bags_are_refused():
    with pytest.raises(ConfigError, match="but BagMLP reads 'sparse' features"):
        applied(bag_model(), [FreeLB()], [bags()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l1"}, "norm: must be one of l2, linf, not 'l1'"),
        ({"rounds": 0}, "rounds: must be .*integer of at least 1, not 0"),
        ({"max_norm": -1.0}, "max_norm: must be a number of at least 0, not -1.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        FreeLB(**arguments)
