"""Learning rates of single weights and of layers, against one NumPy optimizer per weight."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.commands.calls import call
from tests.contracts.layers import assert_equal
from tests.contracts.technique import eagerly
from tests.techniques.matching import model
from tests.techniques.one_step import dense_gradients, texts
from tfxc.commands import info, train
from tfxc.core.config import TrainingSettings
from tfxc.core.errors import ConfigError
from tfxc.encoders.bases.repeated import Repeated
from tfxc.encoders.pretrained.encoder import Pretrained
from tfxc.heads.dense import Dense
from tfxc.training.optimization.optimizers import get_optimizer
from tfxc.training.optimization.rates import RateFactors, trained_weights
from tfxc.training.optimization.schedules import Schedule
from tfxc.training.step import TrainStep

RATES = {"rates": {"encoder": 0.5, "head/bias": 3.0}, "layer_decay": 0.5}
SECTIONS = {
    "sgd": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    "coupled": {"name": "sgd", "learning_rate": 0.1, "coupled": True},
    "adam": {"name": "adam", "learning_rate": 0.02},
    "adagrad": {"name": "adagrad", "learning_rate": 0.1},
    "rmsprop": {"name": "rmsprop", "learning_rate": 0.01},
    "adadelta": {"name": "adadelta", "learning_rate": 1.0},
}


def step_of(section, network, **more):
    settings = TrainingSettings(batch_size=4)
    strategy = tf.distribute.get_strategy()
    optimizer = get_optimizer({**section, **more})
    return TrainStep(network, optimizer, Schedule(9), settings, strategy, [])


def expected_factor(path):
    """By hand: two layers, the table in front of them."""
    if path.startswith("head"):
        return 3.0 if path.endswith("bias") else 1.0
    above = 2 if path.endswith("table") else 2 - int(path[-1]) - 1
    return 0.5 * 0.5**above


class ByNumpy:
    """One optimizer of one weight, float64."""

    def __init__(self, name, rate, decay):
        self.name, self.rate, self.decay, self.step = name, rate, decay, 0
        self.one, self.two = 0.0, 0.0

    def update(self, weight, gradient, rows):
        """The weight behind a step; of a table only ``rows`` move, and only their moments."""
        self.step += 1
        if np.isscalar(self.one):
            self.one, self.two = np.zeros_like(weight), np.zeros_like(weight)
        if self.name == "coupled":
            gradient = gradient + self.decay * weight
        one, two = self.one.copy(), self.two.copy()
        change, one, two = self.change(gradient, one, two)
        if self.name != "coupled":
            change = change + self.rate * self.decay * weight
        new = weight - change
        if rows is not None:
            new[~rows], one[~rows], two[~rows] = weight[~rows], self.one[~rows], self.two[~rows]
        self.one, self.two = one, two
        return new

    def change(self, g, one, two):
        if self.name == "coupled":
            return self.rate * g, one, two
        if self.name == "sgd":
            one = 0.9 * one + g
            return self.rate * one, one, two
        if self.name == "adagrad":
            one = one + g**2
            return self.rate * g / (np.sqrt(one) + 1e-7), one, two
        if self.name == "rmsprop":
            one = 0.99 * one + 0.01 * g**2
            return self.rate * g / (np.sqrt(one) + 1e-8), one, two
        if self.name == "adadelta":
            one = 0.9 * one + 0.1 * g**2
            change = np.sqrt(two + 1e-6) / np.sqrt(one + 1e-6) * g
            return self.rate * change, one, 0.9 * two + 0.1 * change**2
        one, two = 0.9 * one + 0.1 * g, 0.999 * two + 0.001 * g**2
        first, second = one / (1 - 0.9**self.step), two / (1 - 0.999**self.step)
        return self.rate * first / (np.sqrt(second) + 1e-7), one, two


# The others take their rate as Adam does; what they do with it: test_optimizers.py.
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("adam", "coupled", "sgd") else pytest.param(name, marks=pytest.mark.slow)
        for name in SECTIONS
    ],
)
def test_equals_one_numpy_optimizer_per_weight(name):
    network, data = model(2, 6), texts()
    section = {**SECTIONS[name], "weight_decay": 0.1}
    step = step_of(section, network, **RATES)
    paths = [w.path for w in trained_weights(network.encoder, network.head)]
    optimizers = [
        ByNumpy(name, section["learning_rate"] * expected_factor(path), 0.1) for path in paths
    ]
    read = np.isin(np.arange(12), data["features"])
    batches = iter(tf.data.Dataset.from_tensors(data).repeat(3))
    for _ in range(3):
        before = [variable.numpy().astype(np.float64) for variable in network.trainable_variables]
        _, gradients = dense_gradients(network, data)
        with eagerly():
            step.run(batches)
        rows = [read if path.endswith("table") else None for path in paths]
        for path, weight, *rest in zip(
            paths, network.trainable_variables, optimizers, before, gradients, rows, strict=True
        ):
            expected = rest[0].update(*rest[1:])
            np.testing.assert_allclose(weight.numpy(), expected, rtol=2e-4, atol=3e-6, err_msg=path)


def test_paths_are_those_of_the_weights_in_order():
    network = model(1, 6)
    found = trained_weights(network.encoder, network.head, network.objective)
    assert found[0].path == "encoder/table" and found[-1].path == "head/bias"
    assert [w.path.split("/")[-1] for w in found] == [v.name for v in network.trainable_variables]
    assert [w.size for w in found] == [int(np.prod(v.shape)) for v in network.trainable_variables]
    both = Repeated([model(1, 6).encoder, model(1, 6).encoder])
    assert [w.above for w in trained_weights(both, network.head)].count(1) == 2


def test_shared_layers_go_by_the_highest():
    tiny_bert = {"vocabulary_size": 10, "embedding_dim": 4, "hidden_dim": 8, "num_layers": 3}
    tiny_bert |= {"num_heads": 2, "feed_forward_dim": 8, "family": "albert", "shared_layers": 1}
    encoder, head = Pretrained(10, architecture=tiny_bert), Dense(3)
    head(encoder(tf.constant([[1, 2]])))
    above = {w.path: w.above for w in trained_weights(encoder, head)}
    assert above["encoder/table"] == above["encoder/positions"] == 3
    assert above["encoder/attention_in_kernel_0"] == 0 and above["head/kernel"] is None


def test_nothing_given_changes_nothing_and_0_freezes():
    plain, given, frozen = model(1, 6), model(1, 6), model(1, 6)
    start = [variable.numpy() for variable in frozen.encoder.trainable_variables]
    networks = (plain, {}), (given, {"rates": {"*": 1}}), (frozen, {"rates": {"encoder": 0}})
    for network, more in networks:
        step = step_of({"name": "adamw"}, network, **more)
        batches = iter(tf.data.Dataset.from_tensors(texts()).repeat(2))
        with eagerly():
            step.run(batches)
    assert_equal(*([v.numpy() for v in each.trainable_variables] for each in (plain, given)))
    assert_equal([v.numpy() for v in frozen.encoder.trainable_variables], start)
    assert (plain.head.kernel.numpy() == frozen.head.kernel.numpy()).all()


def test_copies_of_a_mirrored_weight():
    """The copies of a mirrored weight are what is updated."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        network = model(1, 6)
        optimizer = get_optimizer({"name": "sgd", **RATES})
        settings = TrainingSettings(batch_size=4)
        TrainStep(network, optimizer, Schedule(9), settings, strategy, [])
    variable = network.encoder.table.value
    (copy,) = strategy.experimental_local_results(variable)
    assert optimizer._factors[copy.ref()] == 0.25


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"rates": {"encodr": 0.1}},
            r"rates: no weight matches 'encodr', did you mean 'encoder'",
        ),
        (
            {"rates": {"head/kernl": 1}},
            "did you mean 'head/kernel'.*names of the weights: encoder/att.* more",
        ),
        ({"rates": {"head": -1}}, "rates: must be a section, each value a number of at least 0"),
        ({"rates": [1]}, r"must be a section, each value a number of at least 0, not \[1\]"),
        ({"layer_decay": 0}, r"layer_decay: must be a number above 0 and at most 1, not 0"),
        ({"layer_decay": 1.5}, r"layer_decay: must be a number above 0 and at most 1, not 1.5"),
        ({"layer_deca": 0.5}, "layer_decay, lazy, learning_rate, no_decay, rates, weight_decay"),
    ],
)
def test_what_cannot_be(given, message):
    with pytest.raises(ConfigError, match=message):
        step_of({"name": "adam"}, model(1, 6), **given)


@pytest.mark.usefixtures("memory_estimated_once")
def test_layers_are_needed(tmp_path, capsys):
    """Told before a run is started; the groups are printed by two commands."""
    optimizer = {"name": "adam", "learning_rate": 0.01}
    path = tiny.write_config(tmp_path, training={"optimizer": optimizer})
    command = ("--config", path, "--prepared", tmp_path / "prepared")
    problem = call(capsys, train, *command, "--set", "training.optimizer.layer_decay=0.9").problem()
    assert "the encoder has no trained layers" in problem
    assert not (tmp_path / "run").exists()
    rates = ("--set", f"training.optimizer.rates={json.dumps({'encoder': 0.1})}")
    for module, more in ((train, ("--dry-run",)), (info, ())):
        shown = call(capsys, module, *command, *rates, *more).out
        assert "0.001 (0.1 times)" in shown and "0.01 (1 times)" in shown
        assert "learning rates" not in call(capsys, module, *command, *more).out


def test_groups_as_lines():
    network = model(2, 6)
    optimizer = get_optimizer({"name": "adam", "learning_rate": 0.01, "layer_decay": 0.5})
    weights = trained_weights(network.encoder, network.head)
    lines = list(optimizer.rates.lines(weights, optimizer.learning_rate))
    assert [line.split()[0] for line in lines[1:]] == ["0.0025", "0.005", "0.01"]
    assert lines[1].endswith("72 parameters: encoder/table")
    assert RateFactors().trivial and not list(RateFactors().lines(weights, 0.01))
