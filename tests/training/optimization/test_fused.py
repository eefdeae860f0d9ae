"""Heads that update themselves: as gradient descent of the optimizer, chunk by chunk."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.contracts.technique import BATCH, NUM_FEATURES, NUM_LABELS, TinyTraining, eagerly
from tests.training.test_resume import Killed, dies_after
from tfxc.commands.train import check_config
from tfxc.core.config import TrainingSettings, parse_config
from tfxc.core.errors import ConfigError, NonFiniteLossError
from tfxc.data.examples.kinds import SPARSE
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.heads.bases import label_chunks
from tfxc.heads.dense import Dense
from tfxc.model import XCModel, example_features
from tfxc.objectives.focal import Focal
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax
from tfxc.ops.fused.logit_chunks import ChunkUpdate, Rates
from tfxc.techniques.ema import EMA
from tfxc.techniques.fgm import FGM
from tfxc.techniques.rdrop import RDrop
from tfxc.training.optimization.optimizers import SGD, Adam, get_optimizer
from tfxc.training.optimization.schedules import Schedule, get_schedule
from tfxc.training.step import TrainStep


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of two labels: three of five labels."""
    monkeypatch.setattr(label_chunks, "CHUNK", 2)


def model_of(objective, start=None, **head):
    """A built model for ``tiny_source``, with the weights of another one."""
    encoder = BagMLP(NUM_FEATURES, hidden=[6], dropout=0.3)
    model = XCModel(encoder, Dense(NUM_LABELS, **head), objective)
    model(example_features(SPARSE, {"num_features": NUM_FEATURES}))
    if start is not None:
        for own, other in zip(encoder.weights, start.encoder.weights, strict=True):
            own.assign(other)
        kernel, bias = start.head.get_weights()
        for own, (begin, end) in zip(
            model.head.chunks.kernels, model.head.chunks.ranges, strict=True
        ):
            own.assign(kernel.T[begin:end])
        model.head.bias.assign(bias)
    return model


def training(model, *techniques, optimizer=None, schedule=None, **settings):
    """A ``TinyTraining`` with another optimizer."""
    made = TinyTraining.__new__(TinyTraining)
    made.techniques, made.model = techniques, model
    for technique in techniques:
        technique.on_train_begin(24 / BATCH, 100)
    made.step_function = TrainStep(
        model, optimizer or SGD(0.5), schedule or Schedule(100),
        TrainingSettings(batch_size=BATCH, **settings), tf.distribute.get_strategy(), techniques,
    )  # fmt: skip
    return made


def head_of(model):
    """Kernel (dim, labels) and bias of a head of either kind."""
    *kernels, bias = (np.asarray(weight, np.float32) for weight in model.head.get_weights())
    return (np.concatenate(kernels).T if model.head.chunks else kernels[0]), bias


def changes(dtype):
    """Of the tiny config: a fused head, one epoch."""
    optimizer = {"name": "sgd", "learning_rate": 0.5}
    return {
        "head": {"name": "dense", "update": "fused", "weights": dtype},
        "training": {"epochs": 1, "checkpoint_every": 4, "optimizer": optimizer},
    }


OBJECTIVES = {
    "sigmoid": Sigmoid,
    "softmax": lambda: Softmax(label_smoothing=0.1),
    "weighted": lambda: Sigmoid(NUM_LABELS, class_weight=[0.5, 2.0, 1.0, 0.0, 3.0]),
}


def pair(objective, settings=None, make_optimizer=None, schedule=None, eager=True):
    """Two trainings of the same model, by the optimizer and fused, three steps each."""
    plain = model_of(OBJECTIVES[objective]())
    fused = model_of(OBJECTIVES[objective](), plain, update="fused")
    found = []
    for model in (plain, fused):
        made = training(
            model, optimizer=make_optimizer and make_optimizer(), schedule=schedule,
            **(settings or {}),
        )  # fmt: skip
        with eagerly(eager):
            found.append((made, made.run(3)))
    return found


def assert_same(found):
    """Losses, heads and encoders of both."""
    (plain, losses), (fused, other) = found
    np.testing.assert_allclose(other, losses, rtol=1e-5)
    for one, two in zip(head_of(plain.model), head_of(fused.model), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)
    weights = plain.model.encoder.get_weights(), fused.model.encoder.get_weights()
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)


# "weighted" is sigmoid as well.
COMPARED = [pytest.param("sigmoid", marks=pytest.mark.slow), "softmax", "weighted"]


@pytest.mark.parametrize("objective", COMPARED)
def test_equals_the_optimizer(objective):
    """Head, encoder (so the gradient of the vectors) and losses, dropout included."""
    found = pair(objective, eager=objective != "softmax")
    before, after = model_of(OBJECTIVES[objective]()), found[0][0].model
    assert np.abs(head_of(after)[0] - head_of(before)[0]).max() > 1e-3
    assert_same(found)


@pytest.mark.parametrize(
    ("settings", "section"),
    [
        pytest.param(  # decay and rates together: the next one
            {}, {"weight_decay": 0.1, "no_decay": ["*bias*"]}, marks=pytest.mark.slow
        ),
        ({}, {"weight_decay": 0.1, "coupled": True, "rates": {"encoder": 0.3, "head": 2.0}}),
        ({"clip_norm": 0.01, "clip_part": "encoder"}, {}),
        pytest.param({}, {"rates": {"head/bias": 0.0}}, marks=pytest.mark.slow),
    ],
    ids=["decay", "rates", "clipped encoder", "bias as it was"],
)
def test_equals_the_optimizer_with(settings, section):
    def optimizer():
        return get_optimizer({"name": "sgd", "learning_rate": 0.4, **section})

    schedule = get_schedule({"name": "linear", "warmup": 0.2}, 10, 3)
    assert_same(pair("softmax", settings, optimizer, schedule))


def test_vectors_without_an_encoder():
    from tfxc.encoders.precomputed import Precomputed

    features = np.random.default_rng(0).normal(size=(BATCH, 4)).astype(np.float32)
    batch = {"features": features, "labels": np.int32([[1]] * BATCH),
             "example_index": np.arange(BATCH)}  # fmt: skip
    losses = []
    for update in ("gradient", "fused"):
        model = XCModel(Precomputed(4), Dense(NUM_LABELS, update=update), Softmax())
        model(features)
        for weight in model.head.weights:
            weight.assign(tf.zeros_like(weight))
        step = training(model).step_function
        batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
        with eagerly():
            losses.append([float(step.run(batches)) for _ in range(3)])
    assert losses[0][0] > losses[0][-1]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_weights_of_examples_count():
    objective, ones = Softmax(), Softmax()
    plain = model_of(ones)
    fused = model_of(objective, plain, update="fused")
    weights = tf.constant(np.linspace(0, 2, 24), tf.float32)
    objective.example_weights = ones.example_weights = weights
    made = [training(model) for model in (plain, fused)]
    with eagerly():
        assert_same([(each, each.run(3)) for each in made])


def test_chunks_have_no_slots_but_are_saved():
    made = training(model_of(Softmax(), update="fused"))
    step = made.step_function
    assert not step.optimizer.variables_to_save
    fused = {id(v.value) for v in made.model.head.fused_variables}
    assert len(fused) == 4 and fused <= {id(v) for v in step.variables_to_save}
    assert not fused & {id(v) for v in step.variables}


def test_a_loss_that_nobody_asks_for_is_left_out():
    found = []
    for asked in (True, False):
        made = training(model_of(Sigmoid(), update="fused"))
        made.step_function.wants_loss = asked
        with eagerly():
            losses = made.run(2)
        assert np.isnan(losses).all() != asked
        assert made.step_function.outcome.healthy
        found.append(made.state)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rate_of_its_own_with_any_optimizer():
    """After one step: the head as by SGD at its rate, the encoder as by Adam."""
    schedule = get_schedule({"name": "linear", "end": 0.5}, 10, 3)
    plain = [model_of(Softmax()) for _ in range(2)]
    fused = model_of(Softmax(), plain[0], update="fused", learning_rate=0.7)
    made = [
        training(model, optimizer=optimizer, schedule=schedule)
        for model, optimizer in (
            (plain[0], SGD(0.7)),
            (plain[1], Adam(0.01)),
            (fused, Adam(0.01)),
        )
    ]
    with eagerly():
        for each in made:
            each.run(1)
    for one, other in zip(head_of(plain[0]), head_of(fused), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    weights = plain[1].encoder.get_weights(), fused.encoder.get_weights()
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
    assert len(made[2].step_function.optimizer.variables_to_save) == 2 * len(weights[0])


@pytest.mark.slow  # averages of any weight: tests/techniques/test_ema.py
def test_averages_of_the_chunks():
    found = []
    plain = model_of(Softmax())
    for model in (plain, model_of(Softmax(), plain, update="fused")):
        technique = EMA(decay=0.5)
        made = training(model, technique)
        with eagerly():
            made.run(4)
        with technique.evaluation_weights():
            found.append(head_of(model))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.slow  # a training in bfloat16: below; its rounding: tests/ops/fused
def test_bfloat16_follows_float32():
    plain = model_of(Softmax())
    fused = model_of(Softmax(), plain, update="fused", weights="bfloat16")
    made = [training(model) for model in (plain, fused)]
    with eagerly():
        losses = [each.run(6) for each in made]
    assert losses[0][-1] < 0.95 * losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
    assert all(v.dtype == "bfloat16" for v in fused.head.chunks.kernels)


def test_memory_counts_no_gradient_of_the_chunks(tmp_path):
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.training.memory.estimate import estimate

    labels, dim, chunk = 30, 512, 8
    encoder = 60 * dim + dim
    of_head = labels * dim
    label_chunks.CHUNK = chunk
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        tree = tiny.tiny_tree(tmp_path, **changes(dtype), encoder={"hidden": [dim]})
        config = parse_config(tree)
        config.training.batch_size = config.evaluation.batch_size = 2
        prepared = ensure_prepared(config.data, tmp_path / "prepared", jobs=1)
        memory = estimate(config, prepared).training
        assert memory.parameters == encoder + of_head + labels
        assert memory.weights == 4 * (encoder + labels) + size * of_head
        assert memory.activations < 4 * (encoder + of_head / 2), "a chunk's gradient, not all"
        assert memory.slots == 0


REFUSED = {
    "adam": (
        {"optimizer": Adam()},
        r"optimizer adam does not .* Set head.learning_rate",
    ),
    "momentum": ({"optimizer": SGD(momentum=0.9)}, "optimizer sgd with momentum 0.9 does not"),
    "accumulate": ({"accumulate": 2}, "training.accumulate 2 does not"),
    "clip": ({"clip_norm": 1.0}, "clip_norm of all weights does not .*clip_part to 'encoder'"),
    "float16": ({"precision": "mixed_float16"}, "the scale of the loss in mixed_float16 does not"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_settings(name):
    arguments, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message) as caught:
        training(model_of(Softmax(), update="fused"), **arguments)
    assert caught.value.where == "head.update" and caught.value.fix


@pytest.mark.parametrize(
    ("technique", "dtype"), [(FGM(), "float32"), (RDrop(), "float32"), (EMA(), "bfloat16")]
)
def test_refused_techniques(technique, dtype):
    model = model_of(Softmax(), update="fused", weights=dtype)
    with pytest.raises(
        ConfigError, match=f"technique {type(technique).__name__.lower()}.* does not go"
    ):
        training(model, technique)


def test_averages_of_what_replicas_share_out_are_refused(tmp_path):
    tree = changes("float32") | {"techniques": [{"name": "ema"}]}
    check_config(parse_config(tiny.tiny_tree(tmp_path, **tree)))
    tree["training"] |= {"strategy": "mirrored"}
    with pytest.raises(ConfigError, match=r"technique ema with training.strategy 'mirrored' does"):
        check_config(parse_config(tiny.tiny_tree(tmp_path, **tree)))


def test_a_config_is_refused_before_the_data_are_read(tmp_path):
    tree = tiny.tiny_tree(tmp_path, head={"update": "fused"})
    with pytest.raises(ConfigError, match=r"optimizer adam does not go with"):
        check_config(parse_config(tree))
    check_config(parse_config(tiny.tiny_tree(tmp_path, **changes("bfloat16"))))


def test_refused_objectives():
    with pytest.raises(ConfigError, match=r"objective focal does not .* objective sigmoid, "):
        training(model_of(Focal(), update="fused"))


def noting(losses):
    """A fault that only writes down what each step returns."""

    def fault(trainer):
        run = trainer.step_function.run

        def noted(iterator):
            results = run(iterator)
            losses.append(float(results))
            return results

        trainer.step_function.run = noted

    return fault


# Of float32, checkpoints and resume are those of any weight; see test_resume.py.
@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_killed_and_resumed_is_bit_identical(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(label_chunks, "CHUNK", 15)
    losses = []
    whole = tiny.train(tmp_path, "whole", noting(losses), **changes(dtype))
    with pytest.raises(Killed):
        tiny.train(tmp_path, "killed", dies_after(6), **changes(dtype))
    resumed = tiny.train(tmp_path, "killed", **changes(dtype))
    for one, other in zip(tiny.weights(whole), tiny.weights(resumed), strict=True):
        np.testing.assert_array_equal(np.asarray(one, np.float32), np.asarray(other, np.float32))
    # What evaluate, predict and export read.
    before = whole.model.head.get_weights()
    whole.model.load_weights(tmp_path / "killed/model.weights.h5")
    for one, other in zip(before, whole.model.head.get_weights(), strict=True):
        np.testing.assert_array_equal(np.asarray(one, np.float32), np.asarray(other, np.float32))
    assert_logged(tmp_path / "whole/metrics.jsonl", losses)
    assert whole.summary["loss"] == pytest.approx(losses[-1])


def assert_logged(path, losses):
    """``log_every`` is 5: steps between compute no loss, and lines hold that of those that do."""
    computed = {step for step, loss in enumerate(losses, 1) if not np.isnan(loss)}
    assert computed == {1, 5, 10, 13}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    logged = {row["step"]: row["loss"] for row in rows if "loss" in row}
    expected = {5: (losses[0] + losses[4]) / 2, 10: losses[9], 13: losses[12]}
    assert logged == pytest.approx(expected)


@pytest.mark.slow  # the loop's check of any step: test_loop.py
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    too_fast = {"optimizer": {"name": "sgd", "learning_rate": 1e30}, "epochs": 1}
    head = {"name": "dense", "update": "fused"}
    with pytest.raises(NonFiniteLossError):
        tiny.train(tmp_path, head=head, training=too_fast, objective={"name": "squared_hinge"})


def test_chunks_of_one_size_share_a_function():
    """The graph of a step has no copy of the products for each chunk."""
    head = model_of(Sigmoid(), update="fused").head

    @tf.function
    def step(vectors, labels):
        rates = Rates(tf.constant(0.1), 1.0)
        update = ChunkUpdate(Sigmoid(), tf.fill([4], 0.25), lambda variable: rates)
        return head.fused_step(vectors, labels, update)

    vectors, labels = tf.TensorSpec([4, 6]), tf.TensorSpec([4, 2], tf.int64)
    operations = step.get_concrete_function(vectors, labels).graph.get_operations()
    called = [op.get_attr("f").name for op in operations if op.type.endswith("PartitionedCall")]
    assert (len(called), len(set(called))) == (3, 2)  # the last chunk has one label instead of two
    assert "MatMul" not in {op.type for op in operations}
