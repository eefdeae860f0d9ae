"""Recipe 'distill' with matches: the student is drawn to what the teacher computes on the way."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.commands.calls import call
from tests.contracts.layers import assert_equal
from tests.contracts.technique import eagerly
from tests.folders import record_again
from tests.recipes.test_distill import teacher, tree  # noqa: F401 (a fixture)
from tests.techniques.matching import batch, distillation, model, training
from tests.techniques.one_step import applied
from tfxc.commands import distill, train
from tfxc.core.errors import ConfigError
from tfxc.recipes.distill.distances import hidden_mse
from tfxc.recipes.distill.match_settings import read_matches
from tfxc.recipes.distill.objective import TemperatureSettings
from tfxc.recipes.distill.recipe import Distill
from tfxc.runs.loaded import load_run

MATCH = {"layer_teacher": 2, "layer_student": 1, "loss": "hidden_mse"}
WORDS = {"name": "words", "max_length": 12, "min_count": 1}
NARROW = {"name": "transformer", "embedding_dim": 8, "num_heads": 2, "num_layers": 1}


def test_loss_is_the_sum_of_its_parts():
    """Example by example without its padding, the projection by NumPy."""
    matches = [
        {**MATCH, "weight": [2.0, 0.0], "projection": "tanh"},
        {"layer_teacher": 3, "layer_student": 2, "loss": "attention_ce", "weight": 0.5},
    ]
    technique, body = distillation(matches, hard_weight=(0.3, 0.3))
    plain, _ = distillation([], hard_weight=(0.3, 0.3))
    student, data = model(2, 6), batch()
    found = []
    for each in (technique, plain):
        each.on_train_begin(1, 101)
        each.build(student, None)
        each.before_step(50)
        found.append(each.losses(student, student.head.groups_of_passes, data, False).numpy())
    kernel, bias = (variable.numpy() for variable in technique.trainable_variables)
    expected = []
    for row in data["features"]:
        ids = tf.constant(row[row != 0][None])
        own, other = (each.watched(ids, attention=True) for each in (student.encoder, body))
        projected = np.tanh(own.states[1][0].numpy() @ kernel + bias)
        apart = np.mean((projected - other.states[2][0].numpy()) ** 2)
        p, q = (tf.nn.softmax(scores).numpy() for scores in (other.scores[2], own.scores[1]))
        expected.append(1.0 * apart - 0.5 * np.mean((p * np.log(q)).sum(axis=-1)))
    np.testing.assert_allclose(found[0] - found[1], expected, rtol=2e-4, atol=2e-5)


# Of the two, float16 has the narrower range, and a loss scale.
@pytest.mark.parametrize(
    "precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"]
)
def test_mixed_precision(precision):
    found = []
    for policy in ("float32", precision):
        keras.config.set_dtype_policy("float32")
        technique, _ = distillation([{**MATCH, "projection": "linear", "weight": 3.0}])
        keras.config.set_dtype_policy(policy)
        moved = applied(model(2, 6), [technique], [batch()], precision=policy)[1]
        found.append(np.concatenate([each.ravel() for each in moved]))
    assert np.linalg.norm(found[0]) > 0.1
    assert np.linalg.norm(found[0] - found[1]) < 0.04 * np.linalg.norm(found[0])


def test_going_on_is_exact_and_projections_are_trained():
    whole, second = training(), training()
    before = [variable.numpy() for variable in whole.techniques[0].trainable_variables]
    with eagerly():
        whole.run(3)
        second.restore(whole.state)
        whole.run(2)
        second.run(2)
    assert_equal(second.state, whole.state)
    after = [variable.numpy() for variable in second.techniques[0].trainable_variables]
    assert all((one != other).any() for one, other in zip(before, after, strict=True))
    names = {variable.path.rsplit("/", 1)[-1] for variable in second.model.variables}
    assert not any("projection" in name for name in names)


def test_training_comes_nearer():
    body = model(2, 8, seed=1).encoder
    technique, _ = distillation([{**MATCH, "weight": 1.0}], hard_weight=(1.0, 1.0), body=body)
    steps = training(technique, width=8)
    encoder, ids = steps.model.encoder, tf.constant(batch()["features"])

    def apart():
        own, other = encoder.watched(ids), body.watched(ids)
        return float(tf.reduce_mean(hidden_mse(own.states[1], other.states[2], own.mask)))

    before = apart()
    steps.run(40)
    assert apart() < 0.5 * before


@pytest.mark.parametrize("scheduler", ["flsw", "cwsm"])
def test_temperatures_of_examples(scheduler):
    rng = np.random.default_rng(0)
    student, other = rng.normal(0, 3, (2, 5, 4)).astype(np.float32)
    technique, _ = distillation([], tempering=TemperatureSettings(scheduler, 2.0, 1.5))
    found = technique._temperatures(tf.constant(3.0), tf.constant(student), tf.constant(other))
    if scheduler == "flsw":
        lengths = np.linalg.norm(student, axis=1) * np.linalg.norm(other, axis=1)
        hard = (1 - (student * other).sum(axis=1) / lengths) ** 1.5
    else:
        shares = np.exp(student) / np.exp(student).sum(axis=1, keepdims=True)
        hard = 1 / (shares.max(axis=1) + 1e-3)
    expected = np.maximum(3 + 2 * (hard.mean() - hard), 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(set(expected)) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "cosine"}, r"matches.0.loss: must be one of hidden_mse, .* not 'cosine'"),
        ({"layer": 3}, r"matches.0.layer: a match has no argument 'layer', did you mean"),
        ({"layer_student": "all"}, r"matches.0.layer_student: must be .* not 'all'"),
        ({"layer_student": [1, 2]}, "compares single layers, and .1, 2. does not"),
        (
            {"loss": "gram", "layer_teacher": [1]},
            "'gram' compares pairs of layers, and .1. does not",
        ),
        ({"feature": "attention"}, "'hidden_mse' compares 'hidden', not 'attention'"),
        ({"projection": "sigmoid"}, "must be one of linear, relu, tanh.*, not 'sigmoid'"),
        ({"loss": "attention_ce", "projection": "relu"}, "only hidden states can be projected"),
        ({"weight": "much"}, r"matches.0.weight: must be .* not 'much'"),
    ],
)
def test_bad_matches(change, message):
    with pytest.raises(ConfigError, match=message):
        read_matches([{**MATCH, **change}])


def test_missing_keys_and_other_arguments():
    with pytest.raises(ConfigError, match="a match needs layer_student"):
        read_matches([{"layer_teacher": 1, "loss": "cos"}])
    for arguments, message in (
        ({"matches": 3}, "matches: must be a list, .* not 3"),
        ({"matches": [3]}, "matches: must be a list"),
        ({"start_layers": "all"}, "start_layers: must be a list, .* not 'all'"),
        ({"teachers": ["a", "b"], "matches": [MATCH]}, "work with one teacher, not with 2"),
        ({"temperature_scheduler": "cosine"}, "must be one of constant, flsw, cwsm, not"),
        ({"gamma": 0}, "gamma: must be a positive number"),
    ):
        with pytest.raises(ConfigError, match=message):
            Distill(**{"teachers": "a", **arguments})


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (MATCH, "equally many values per word, and the student has 6, the teacher 8"),
        ({**MATCH, "layer_teacher": 4}, "the teacher has no layer 4 .* one from 0 to 3"),
        (
            {**MATCH, "loss": "attention_mse", "layer_student": 0},
            "the student has no layer 0 .* from 1 to 2",
        ),
        ({**MATCH, "loss": "attention_mse"}, "equally many heads, and the student has 1"),
    ],
)
def test_matches_that_do_not_fit_the_models(match, message):
    technique, _ = distillation([match])
    student = model(2, 6, num_heads=1 if match["loss"] == "attention_mse" else 2)
    with pytest.raises(ConfigError, match=message):
        technique.build(student, None)


def test_start_from_layers_of_the_teacher():
    body = model(3, 8).encoder
    technique, _ = distillation([], start_layers=(1, 3), body=body)
    student = model(2, 8, seed=5)
    technique.build(student, None)
    assert_equal([student.encoder.table.numpy()], [body.table.numpy()])
    for number, layer in ((1, 1), (2, 3)):
        own, theirs = student.encoder.weights_of_layer(number), body.weights_of_layer(layer)
        assert_equal([w.numpy() for w in own.values()], [w.numpy() for w in theirs.values()])
    for encoder, layers, message in (
        (student, (1,), r"1 of a Transformer; give one for each, of the same kind of network"),
        (student, (1, 4), "the teacher has no layer 4"),
        (model(2, 6), (1, 2), "weight table of the student is"),
    ):
        with pytest.raises(ConfigError, match=message):
            distillation([], start_layers=layers, body=body)[0].build(encoder, None)


@pytest.mark.slow  # the command: recipes/test_distill.py
def test_from_the_command_line(teacher, tmp_path, capsys):  # noqa: F811 (the fixture writes data)
    """A student of one layer, its matches in the config; another tokenisation is refused."""

    def config_of(run, encoder, **changes):
        path = tmp_path / f"{run}.json"
        path.write_text(json.dumps(tree(teacher.parent, tmp_path / run, WORDS, encoder, **changes)))
        return path

    settings = ("training.epochs=12", "training.optimizer.learning_rate=0.005")
    options = ("--prepared", tmp_path / "prepared", *(f"--set={one}" for one in settings))
    encoder = {"name": "transformer", "embedding_dim": 16, "num_heads": 2, "num_layers": 2}
    assert call(capsys, train, "--config", config_of("large", encoder), *options).code == 0
    shutil.copytree(tmp_path / "large", tmp_path / "other")
    features = tmp_path / "other" / "assets" / "text_features" / "features.json"
    features.write_text(json.dumps({**json.loads(features.read_text()), "max_length": 20}))
    record_again(tmp_path / "other")
    recipe = {
        "name": "distill",
        "teachers": ["unused"],
        "matches": [{**MATCH, "projection": "linear"}, {**MATCH, "loss": "attention_ce"}],
        "temperature_scheduler": "flsw",
    }
    config = config_of("small", NARROW, recipe=recipe)
    command = ("--config", config, *options)
    large = tmp_path / "large"
    for more, message in (
        (("--teacher", tmp_path / "other"), "features.json differs between"),
        (("--teacher", teacher), "an encoder with layers of self-attention"),
        (("--teacher", large, "--set", "recipe.start_layers=[2]"), "weight table of the student"),
    ):
        problem = call(capsys, distill, *command, *more).problem()
        assert message in problem
    assert not (tmp_path / "small").exists(), "all this is found before a run is started"
    outcome = call(capsys, distill, *command, "--teacher", large, "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["dev"]["P@1"] > 0.9
    run = load_run(tmp_path / "small")
    assert run.model.encoder.depth == 1 and run.model.encoder.embedding_dim == 8
