"""How far two replicas with each technique are apart from one device."""

import functools
import json

import numpy as np
import tensorflow as tf

from tests.contracts.technique import BATCH, eagerly, tiny_source
from tests.techniques.matching import MATCHES, distillation
from tests.techniques.matching import model as attention_model
from tests.techniques.one_step import IDS, LABELS, bag_model, text_model
from tfxc.core import registry
from tfxc.core.config import TrainingSettings
from tfxc.data.sources.dataset import Share, training_dataset
from tfxc.recipes.distill.objective import TemperatureSettings
from tfxc.training.optimization.optimizers import SGD
from tfxc.training.optimization.rates import RateFactors
from tfxc.training.optimization.schedules import Schedule
from tfxc.training.step import TrainStep

STEPS = 2
ARGUMENTS = {
    "fgsm": {"epsilon": 0.1},
    "fgm": {"epsilon": 1.0},
    "pgd": {"rounds": 2, "alpha": 0.7},
    "awp": {"rate": 0.5, "epsilon": 0.4, "start_epoch": 0},
    "multi_sample_dropout": {"rounds": 2},
    "freelb": {"rounds": 2, "max_norm": 1.0, "step_size": 0.5, "init_magnitude": 0.3},
}


def bags(accumulate, parts, first_part, here):
    """Batches of a set of bags."""
    return training_dataset(
        tiny_source(), batch_size=BATCH, seed=0, num_steps=STEPS, micro_batches=accumulate,
        share=Share(parts, first_part, here),
    )  # fmt: skip


def texts(accumulate, parts, _first_part, _here):
    """Texts, twice the same four in a batch."""
    rows = np.tile(np.arange(4), BATCH // 4)
    batch = {"features": IDS[rows], "labels": LABELS[rows], "example_index": rows}
    return tf.data.Dataset.from_tensor_slices(batch).batch(BATCH // accumulate // parts).repeat()


def made(names):
    """The techniques of a stack."""
    if names == ["distillation"]:
        return [distillation(MATCHES, tempering=TemperatureSettings("flsw"))[0]]
    sections = [{"name": name, **ARGUMENTS.get(name, {})} for name in names]
    return [registry.create("technique", section) for section in sections]


def weights_after(stack, accumulate, strategy):
    """The weights after some steps with techniques, their names joined by ``+``."""
    names = stack.split("+")
    make_model, batches = (text_model, texts) if "freelb" in names else (bag_model, bags)
    if names == ["distillation"]:
        make_model, batches = functools.partial(attention_model, 2, 6), texts
    settings = TrainingSettings(batch_size=BATCH, accumulate=accumulate, clip_norm=5.0)
    with strategy.scope():
        model = make_model(dropout=0.3)
        techniques = made(names)
        for technique in techniques:
            technique.on_train_begin(3, 100)
        optimizer = SGD(0.5)
        if names == ["distillation"]:
            optimizer.rates = RateFactors({"head": 0.5}, layer_decay=0.7)
        step = TrainStep(model, optimizer, Schedule(9), settings, strategy, techniques)
    if strategy.num_replicas_in_sync == 1:
        iterator = iter(batches(accumulate, 1, 0, 1))
    else:
        make = batches(accumulate, 2, 0, 2)
        iterator = iter(strategy.distribute_datasets_from_function(lambda _: make))
    with eagerly(strategy.num_replicas_in_sync == 1):
        for _ in range(STEPS):
            step.run(iterator)
    return [variable.numpy() for variable in step.variables]


def main(accumulate, *stacks):
    """Prints a dict: stack -> largest difference of a weight. In a process without devices yet.

    Args:
        accumulate: micro-batches of a step.
        stacks: of techniques, names joined by ``+``; or ``distillation``, with matches and a rate
            for each layer.
    """
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategies, found = [tf.distribute.get_strategy()], {}
    strategies.append(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    for stack in stacks:
        one, two = (weights_after(stack, accumulate, strategy) for strategy in strategies)
        found[stack] = max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))
    print(json.dumps(found))
