"""Which techniques go together, on one device and on two."""

import itertools
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tests import tiny
from tests.contracts.technique import TinyTraining
from tests.processes import Started, finish
from tests.techniques import replicas
from tests.techniques.one_step import applied, bag_model, bags, text_model, texts
from tfxc.commands.train import check_config
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.techniques.base import Technique, check_together

ATTACKS = ("awp", "fgm", "fgsm", "freelb", "pgd")


def classes(*names):
    return [registry.get("technique", name) for name in names]


class Own(Technique):
    """A technique of a user."""

    role = "attack"


def test_two_attacks_are_refused():
    for pair in itertools.combinations(ATTACKS, 2):
        message = f"'{pair[0]}' and '{pair[1]}' cannot be combined: both perturb the model"
        with pytest.raises(ConfigError, match=message):
            check_together(classes("rdrop", pair[0], "ema", pair[1]))
    with pytest.raises(
        ConfigError, match=r"'fgm' and 'tests\.techniques\.test_together:Own' cannot be"
    ):
        check_together([*classes("fgm"), Own])


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("ema", "swa"), "both evaluate the model with weights"),
        (("rdrop", "rdrop"), "it is listed twice"),
        (("noisy_tune", "noisy_tune"), "it is listed twice"),
    ],
)
def test_others_that_are_refused(names, why):
    with pytest.raises(ConfigError, match=f"techniques: .*{why}"):
        check_together(classes(*names))


def test_refused_before_the_data_is_read(tmp_path):
    tree = tiny.tiny_tree(tmp_path, techniques=[{"name": "fgm"}, {"name": "pgd"}])
    with pytest.raises(ConfigError, match="'fgm' and 'pgd' cannot be combined"):
        check_config(parse_config(tree))


def test_refused_in_a_training():
    with pytest.raises(ConfigError, match="'fgm' and 'awp' cannot be combined"):
        TinyTraining(*(method() for method in classes("fgm", "awp")))


def test_a_sharded_head_names_the_techniques():
    model = bag_model()
    model.head.sharded_tables = [SimpleNamespace(shape=(2, 2), name="centres", shards={})]
    with pytest.raises(ConfigError, match=r"fgm, ema cannot train weights that are sharded"):
        applied(model, [method() for method in classes("fgm", "ema")], [bags()])


def test_one_of_each_role():
    """In any order, in the graph, in micro-batches; the weights learn."""
    sections = [{"name": "fgm"}, {"name": "rdrop", "alpha": 0.1}, {"name": "swa"}]
    sections += [{"name": "multi_sample_dropout", "rate": 0.1}, {"name": "noisy_tune"}]
    training = TinyTraining(*(registry.create("technique", s) for s in sections), accumulate=2)
    losses = training.run(40)
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


def differences(*arguments):
    """What ``replicas`` finds, in a process that makes logical devices."""
    (output,) = finish(Started(replicas.main, *arguments))
    return json.loads(output.splitlines()[-1])


# Of the two, float16 has the narrower range, and a loss scale.
@pytest.mark.parametrize(
    "precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"]
)
@pytest.mark.parametrize("name", sorted(set(registry.names("technique")) - {"ema", "swa"}))
def test_mixed_precision(name, precision):
    """The masks are those of float32, so the weights move nearly alike."""
    arguments = {"start_epoch": 0} if name == "awp" else {}
    found = []
    for policy in ("float32", precision):
        keras.config.set_dtype_policy(policy)
        technique = registry.create("technique", {"name": name, **arguments})
        moved = applied(text_model(dropout=0.2), [technique], [texts()], precision=policy)[1]
        found.append(np.concatenate([each.ravel() for each in moved]))
    assert np.linalg.norm(found[0] - found[1]) < 0.04 * np.linalg.norm(found[0])


@pytest.mark.slow  # two replicas: training/test_strategies.py
def test_two_replicas_equal_one_device():
    found = differences(1, "awp", "fgm+rdrop+multi_sample_dropout", "distillation")
    assert len(found) == 3
    for stack, apart in found.items():
        assert apart < 1e-5, stack


@pytest.mark.slow  # two minutes of tracing
def test_two_replicas_with_micro_batches_equal_one_device():
    names = set(registry.names("technique")) - {"ema", "swa"}
    found = differences(2, *names)
    assert set(found) == names
    for name, apart in found.items():
        assert apart < 1e-5, name
