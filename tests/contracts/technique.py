"""What every technique must do; a technique's test class inherits it."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from tests.contracts import general
from tests.contracts.layers import assert_equal
from tfxc.core import registry
from tfxc.core.config import TrainingSettings
from tfxc.data.examples.kinds import SPARSE
from tfxc.data.examples.rows import Rows
from tfxc.data.sources.base import ArraySource
from tfxc.data.sources.dataset import training_dataset
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.heads.dense import Dense
from tfxc.model import XCModel, example_features
from tfxc.objectives.softmax import Softmax
from tfxc.techniques.base import Technique
from tfxc.training.optimization.optimizers import Adam
from tfxc.training.optimization.schedules import Schedule
from tfxc.training.step import TrainStep

NUM_FEATURES, NUM_LABELS, BATCH = 12, 5, 8


@contextlib.contextmanager
def eagerly(eager=True):
    """Inside, steps run without a graph: tracing takes longer than a few steps."""
    tf.config.run_functions_eagerly(eager)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def tiny_source():
    """24 bags of one to four features; the label is the smallest feature id modulo 5."""
    rng = np.random.default_rng(0)
    matrix = np.zeros((24, NUM_FEATURES), np.float32)
    for row in matrix:
        row[rng.permutation(NUM_FEATURES)[: rng.integers(1, 5)]] = 1
    labels = [[int(np.flatnonzero(row)[0] % NUM_LABELS)] for row in matrix]
    return ArraySource(Rows.from_csr(matrix, labels), NUM_LABELS)


def tiny_model():
    """A built model for ``tiny_source``."""
    encoder = BagMLP(NUM_FEATURES, hidden=[6], dropout=0.3)
    model = XCModel(encoder, Dense(NUM_LABELS), Softmax())
    model(example_features(SPARSE, {"num_features": NUM_FEATURES}))
    return model


class TinyTraining:
    """A training with the given techniques, a step at a time.

    Args:
        model: a built model for ``tiny_source``; None for ``tiny_model``.
        settings: further ``TrainingSettings``.
    """

    def __init__(self, *techniques, model=None, **settings):
        self.techniques = techniques
        self.model = model or tiny_model()
        for technique in techniques:
            technique.on_train_begin(24 / BATCH, 100)
        self.step_function = TrainStep(
            self.model,
            Adam(0.05),
            Schedule(100),
            TrainingSettings(batch_size=BATCH, **settings),
            tf.distribute.get_strategy(),
            techniques,
        )

    @property
    def state(self):
        """All that a checkpoint would hold, as arrays."""
        return [variable.numpy() for variable in self.step_function.variables_to_save]

    @property
    def weights(self):
        """The trainable weights as arrays."""
        return [weight.numpy() for weight in self.step_function.variables]

    def run(self, steps):
        """Trains ``steps`` steps more; returns their losses."""
        first = int(self.step_function.step.numpy())
        batches, losses = iter(self.batches(first, steps)), []
        for step in range(first + 1, first + steps + 1):
            losses.append(float(self.step_function.run(batches)))
            for technique in self.techniques:
                technique.after_step(step)
        return losses

    def batches(self, first, steps):
        """Batches of ``steps`` steps from number ``first`` on."""
        parts = self.step_function.settings.accumulate
        return training_dataset(
            tiny_source(), batch_size=BATCH, seed=0, num_steps=steps, start_step=first,
            micro_batches=parts,
        )  # fmt: skip

    def restore(self, state):
        """Sets everything to what ``state`` was."""
        for variable, value in zip(self.step_function.variables_to_save, state, strict=True):
            variable.assign(value)


class TechniqueContract:
    """Inherit, and give the name and arguments.

    Attributes:
        name: name in configs.
        arguments: further keys of its config section.
    """

    name = None
    arguments = {}  # noqa: RUF012 (read only)

    def make(self):
        """The technique of the config section."""
        section = {"name": self.name, **self.arguments}
        registry.check_section("technique", section, where="techniques.0")
        return registry.create("technique", section)

    def training(self):
        """A training with the technique."""
        return TinyTraining(self.make())

    def test_is_a_technique(self):
        assert isinstance(self.make(), Technique)

    @general
    def test_training_learns(self):
        training = self.training()
        losses = training.run(40)
        assert np.isfinite(losses).all()
        assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])

    def test_state_holds_everything(self):
        """Going on from the saved variables equals never having stopped."""
        whole, second = self.training(), self.training()
        with eagerly():
            whole.run(3)
            second.restore(whole.state)
            whole.run(2)
            second.run(2)
        assert_equal(second.state, whole.state)

    def test_variables_to_save(self):
        training = self.training()
        (technique,) = training.techniques
        assert all(isinstance(variable, tf.Variable) for variable in technique.variables_to_save)
        assert all(not variable.trainable for variable in technique.variables_to_save)


class AverageContract(TechniqueContract):
    """For techniques that judge the model by other weights."""

    @general
    def test_weights_are_lent_and_given_back(self):
        training = self.training()
        (technique,) = training.techniques
        training.run(4)
        before = training.state
        with technique.evaluation_weights():
            assert all(np.isfinite(weight).all() for weight in training.weights)
        assert_equal(training.state, before)
        with pytest.raises(KeyboardInterrupt), technique.evaluation_weights():
            raise KeyboardInterrupt
        assert_equal(training.state, before)

    def test_evaluating_does_not_change_the_training(self):
        plain, judged = self.training(), self.training()
        with eagerly():
            plain.run(4)
            for _ in range(4):
                judged.run(1)
                with judged.techniques[0].evaluation_weights():
                    judged.model(example_features(SPARSE, {"num_features": NUM_FEATURES}))
        assert_equal(judged.state, plain.state)
