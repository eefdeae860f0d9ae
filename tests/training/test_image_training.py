"""Batch normalisation in the training step: micro-batches, resume, precision, replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.contracts.technique import eagerly
from tests.processes import Started, finish
from tfxc.core.settings import TrainingSettings
from tfxc.encoders import resnet
from tfxc.encoders.resnet import ResNet
from tfxc.heads.dense import Dense
from tfxc.model import XCModel
from tfxc.objectives.softmax import Softmax
from tfxc.training.optimization.optimizers import SGD
from tfxc.training.optimization.schedules import Schedule
from tfxc.training.step import TrainStep

BATCH, STEPS = 8, 6


def batches():
    """Images of 8 x 8; the label says which half is bright. One dict of arrays per step."""
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        labels = np.arange(BATCH) % 2
        images = rng.integers(0, 100, (BATCH, 8, 8, 1))
        images[labels == 0, :4] += 150
        images[labels == 1, 4:] += 150
        yield {
            "features": images.astype(np.uint8),
            "labels": labels[:, None].astype(np.int32),
            "example_index": np.arange(BATCH, dtype=np.int64) + step * BATCH,
        }


def make_model(precision="float32", **arguments):
    keras.config.set_dtype_policy(precision)
    encoder = ResNet((8, 8, 1), depth=10, width=2, **arguments)
    model = XCModel(encoder, Dense(2), Softmax())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.BLOCKS, 10, (1, 1))  # two blocks show it as well as four
        model(tf.zeros((2, 8, 8, 1), tf.uint8))
    return model


def make_step(model, strategy=None, optimizer=None, **settings):
    return TrainStep(
        model,
        optimizer or SGD(0.05, 0.9),
        Schedule(100),
        TrainingSettings(batch_size=BATCH, **settings),
        strategy or tf.distribute.get_strategy(),
    )


def train(step_function, first=0, last=STEPS):
    """Trains some steps; returns their losses."""
    losses = []
    for batch in list(batches())[first:last]:
        parts = step_function.settings.accumulate
        whole = tf.data.Dataset.from_tensor_slices(batch).batch(BATCH // parts)
        if step_function.strategy.num_replicas_in_sync > 1:
            whole = step_function.strategy.experimental_distribute_dataset(whole)
        losses.append(float(step_function.run(iter(whole))))
    return losses


def statistics(model):
    return [v.numpy() for v in model.encoder.non_trainable_variables]


def state(step_function):
    return [variable.numpy() for variable in step_function.variables_to_save]


def assert_close(found, expected, tolerance=1e-4):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("parts", [1, 2])
def test_statistics_move_once_per_micro_batch(parts):
    model, other = make_model(), make_model()
    with eagerly():
        train(make_step(model, accumulate=parts), last=1)
    images = next(batches())["features"]
    for rows in np.split(images, parts):
        other.encoder(tf.constant(rows), training=True)
    assert_close(statistics(model), statistics(other))


def test_learns():
    step_function = make_step(make_model())
    losses = [loss for _ in range(4) for loss in train(step_function)]
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])


def test_going_on_from_the_saved_state_is_exact():
    whole, first, second = (make_step(make_model(dropout=0.3)) for _ in range(3))
    with eagerly():
        train(whole)
        train(first, last=3)
        for variable, value in zip(second.variables_to_save, state(first), strict=True):
            variable.assign(value)
        train(second, first=3)
    for one, other in zip(state(second), state(whole), strict=True):
        np.testing.assert_array_equal(one, other)


# float16 with its loss scale: training/test_loop.py.
@pytest.mark.parametrize(
    "precision", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_mixed_precision(precision):
    model = make_model(precision)
    step_function = make_step(model, precision=precision)
    losses = train(step_function)
    assert np.isfinite(losses).all()
    found = statistics(model)
    assert {values.dtype for values in found} == {np.dtype(np.float32)}
    assert all(np.isfinite(values).all() for values in found)
    plain = make_model()
    assert losses == pytest.approx(train(make_step(plain)), abs=0.2)


def replicas(folder):
    """Runs in a process with two logical CPUs; writes what came out."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, parts)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for name, synchronized in (("apart", False), ("together", True)):
        with strategy.scope():
            model = make_model(synchronized_batch_norm=synchronized)
            optimizer = SGD(0.05, 0.9, weight_decay=0.5, coupled=True, no_decay=["gamma", "b*"])
            step_function = make_step(model, strategy, optimizer)
        for last in (1, STEPS):
            train(step_function, first=0 if last == 1 else 1, last=last)
            np.savez(folder / f"{name}-{last}.npz", *(v.numpy() for v in model.variables))
        for variable in model.variables:
            one, other = (copy.numpy() for copy in variable.value.values)
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow  # two replicas: training/test_strategies.py
def test_two_replicas(tmp_path):
    finish(Started(replicas, tmp_path))

    def saved(name):
        with np.load(tmp_path / f"{name}.npz") as stored:
            return [stored[key] for key in stored.files]

    optimizer = SGD(0.05, 0.9, weight_decay=0.5, coupled=True, no_decay=["gamma", "b*"])
    single = make_model()
    step_function = make_step(single, optimizer=optimizer)
    with eagerly():
        train(step_function)
    assert_close(saved(f"together-{STEPS}"), [v.numpy() for v in single.variables], 1e-3)
    # Apart, each replica moves the statistics by its own half, and the results are averaged.
    halves = []
    for rows in np.split(next(batches())["features"], 2):
        other = make_model()
        other.encoder(tf.constant(rows), training=True)
        halves.append(statistics(other))
    expected = [np.mean(pair, axis=0) for pair in zip(*halves, strict=True)]
    names = [v.path for v in single.variables]
    found = [v for v, name in zip(saved("apart-1"), names, strict=True) if "moving" in name]
    assert_close(found, expected)
