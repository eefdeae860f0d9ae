"""A step of plain gradient descent on given batches, and small models to try it on."""

import functools

import numpy as np
import tensorflow as tf

from tests.contracts.technique import eagerly
from tfxc.core.config import TrainingSettings
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.encoders.bases.repeated import Repeated
from tfxc.encoders.fasttext import FastText
from tfxc.heads.dense import Dense
from tfxc.heads.mach import MACH
from tfxc.model import XCModel
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax
from tfxc.training.optimization.optimizers import SGD
from tfxc.training.optimization.schedules import Schedule
from tfxc.training.step import TrainStep

NUM_FEATURES, NUM_LABELS = 12, 9
IDS = np.array([[3, 1, 4, 1], [5, 9, 0, 0], [2, 6, 5, 0], [7, 0, 0, 0]], np.int32)
LABELS = np.array([[2, -1], [0, 7], [8, -1], [4, 1]], np.int32)


def bags(rows=range(4)):
    """The batch of some of the texts, as sparse bags."""
    texts = [IDS[row][IDS[row] > 0] for row in rows]
    splits = np.cumsum([0, *map(len, texts)])
    weights = 0.5 + 0.25 * np.arange(splits[-1])
    features = {"ids": np.concatenate(texts), "weights": weights.astype(np.float32)}
    return _batch({**features, "row_splits": splits.astype(np.int64)}, rows)


def texts(rows=range(4)):
    """The batch of some of the texts, as token ids."""
    return _batch(IDS[list(rows)], rows)


def _batch(features, rows):
    rows = list(rows)
    return {"features": features, "labels": LABELS[rows], "example_index": np.array(rows, np.int64)}


def bag_model(repetitions=0, **encoder):
    """A multi-layer perceptron over bags; with MACH, and a trunk for each of its repetitions."""
    encoders = [BagMLP(NUM_FEATURES, hidden=[6], seed=n, **encoder) for n in range(repetitions)]
    if not repetitions:
        encoder = BagMLP(NUM_FEATURES, hidden=[6], **encoder)
        return started(XCModel(encoder, Dense(NUM_LABELS), Softmax()), bags())
    if len(encoders) == 1:
        head = MACH(NUM_LABELS, num_buckets=5, num_repetitions=3)
        return started(XCModel(encoders[0], head, Sigmoid()), bags())
    head = MACH(NUM_LABELS, num_buckets=5, num_repetitions=repetitions, trunk="separate")
    return started(XCModel(Repeated(encoders), head, Sigmoid()), bags())


def text_model(head=None, objective=None, **encoder):
    """Mean of words, dense layer, head."""
    encoder = FastText(NUM_FEATURES, embedding_dim=5, hidden_dim=6, **encoder)
    model = XCModel(encoder, head or Dense(NUM_LABELS), objective or Softmax())
    return started(model, texts())


def started(model, batch):
    """The model with other than zero weights everywhere, but in the row of the padding."""
    model(batch["features"])
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        noise = rng.normal(0, 0.3, variable.shape)
        noise[0] *= 0 if variable.name == "table" and model.encoder.input_kind == "tokens" else 1
        variable.assign(variable.numpy() + noise)
    return model


def values_of(model):
    """The trainable weights as arrays."""
    return [variable.numpy() for variable in model.trainable_variables]


def applied(model, techniques, batches, learning_rate=1.0, eager=True, **settings):
    """Takes one step; returns its loss and how far it moved each weight, dense.

    Args:
        eager: without a graph.
    """
    size = sum(len(batch["labels"]) for batch in batches)
    settings = TrainingSettings(batch_size=size, accumulate=len(batches), **settings)
    for technique in techniques:
        technique.on_train_begin(10.0, 100)
    schedule, strategy = Schedule(9), tf.distribute.get_strategy()
    step = TrainStep(model, SGD(learning_rate), schedule, settings, strategy, techniques)
    parts = [tf.data.Dataset.from_tensors(batch) for batch in batches]
    batches = iter(functools.reduce(lambda a, b: a.concatenate(b), parts))
    before = values_of(model)
    with eagerly(eager):
        loss = float(step.run(batches))
    after = values_of(model)
    return loss, [old - new for old, new in zip(before, after, strict=True)]


def dense_gradients(model, batch, moved=(), batch_size=None, losses_of=None):
    """Loss and gradients, dense, by eager TensorFlow with weights that are really moved.

    Args:
        moved: pairs of a Keras variable and what is added to it meanwhile.
        losses_of: function of a batch -> losses, in place of the model's.
    """
    kept = [variable.numpy() for variable, _ in moved]
    for variable, by in moved:
        variable.assign(variable.numpy() + by)
    losses_of = losses_of or functools.partial(model.losses_of, training=False)
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(losses_of(batch)) / (batch_size or len(batch["labels"]))
    gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, variables)]
    for (variable, _), value in zip(moved, kept, strict=True):
        variable.assign(value)
    return float(loss), gradients


def assert_gradients(found, expected, tolerance=2e-6):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)
