"""Chunks of a fused head that replicas share out give the numbers of one device."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.processes import Started, finish, two_workers
from tests.training.test_resume import Killed, dies_after
from tests.training.test_strategies import TWO, load_h5
from tfxc.core.config import parse_config
from tfxc.core.errors import ConfigError
from tfxc.data.store.preparation import ensure_prepared
from tfxc.heads.bases import label_chunks
from tfxc.heads.dense import Dense
from tfxc.model import build_model
from tfxc.runs.folder import RunFolder
from tfxc.training.memory.estimate import estimate
from tfxc.training.start.run_start import RunStart

CHUNK = 9  # of 30 labels: 9, 9, 9 and 3, none of which two replicas can halve
CLASS_WEIGHT = np.linspace(0.5, 2, tiny.NUM_LABELS).tolist()
OBJECTIVES = {
    "sigmoid": {"name": "sigmoid", "class_weight": CLASS_WEIGHT},
    "softmax": {"name": "softmax", "label_smoothing": 0.1, "class_weight": CLASS_WEIGHT},
    "decoupled": {"name": "decoupled_softmax", "reduction": "sum"},
    "hinge": {"name": "hinge", "padded_columns": 40},
    "squared_hinge": {"name": "squared_hinge"},
}


def changes(objective="softmax", weights="float32", optimizer=(), **training):
    """Of the tiny config: a fused head, one epoch of 13 steps."""
    optimizer = {
        "name": "sgd", "learning_rate": 2.0, "weight_decay": 0.01, "no_decay": ["bias"],
        "rates": {"encoder": 0.3, "head/kernel_1": 2.0}, **dict(optimizer),
    }  # fmt: skip
    return {
        "head": {"name": "dense", "update": "fused", "weights": weights},
        "objective": OBJECTIVES[objective],
        "training": {
            "epochs": 1, "clip_norm": 0.2, "clip_part": "encoder", "optimizer": optimizer,
            "log_every": 1, "keep_checkpoints": 1, **training,
        },
        "evaluation": {"train_slice": 64, "batch_size": 32, "full_loss": True, "ranks": True},
    }  # fmt: skip


def weigh_examples(trainer):
    """A fault that gives the training examples weights."""
    weights = np.linspace(0, 2, 203).astype(np.float32)
    trainer.model.objective.example_weights = weights


def train(folder, trainings, chunk=CHUNK):
    """Trains ``{run: changes}`` with small chunks."""
    label_chunks.CHUNK = chunk
    trainers = []
    for name, tree in trainings.items():
        fault = weigh_examples if name.startswith("sigmoid") else None
        trainers.append(tiny.train(folder, name, fault, **tree))
    return trainers


def found_by(model):
    """What a model finds for some examples, by all ways there are, as a list of arrays."""
    head, random = model.head, np.random.default_rng(0)
    vectors = tf.constant(random.normal(size=(6, 32)), tf.float32)
    labels = tf.constant([[0, 5], [29, -1], [8, 9], [-1, -1], [4, 27], [13, 14]])

    @tf.function(autograph=False)
    def find():
        return (
            head(vectors),
            *head.top_k(vectors, 20),
            *head.top_k_and_loss(vectors, labels, 30),
            head.label_ranks(vectors, labels, tf.constant([[1]] * 6)),
        )

    products = head.inner_products()
    rows = products.rows(7, 21).numpy(), products.queries(vectors).numpy()
    return [*(array.numpy() for array in find()), *rows, head.label_similarities(9)]


def killed_and_resumed(folder, name, tree):
    """Trains 9 of 13 steps, and the rest by another trainer, which is returned."""
    with pytest.raises(Killed):
        tiny.train(folder, name, dies_after(9), **tree)
    (trainer,) = train(folder, {name: tree})
    return trainer


def train_and_look(folder, tree):
    """Trains "two", killed and resumed; what it finds, and what each replica holds."""
    label_chunks.CHUNK = CHUNK
    first = killed_and_resumed(folder, "two", tree)
    np.savez(folder / "found.npz", *found_by(first.model))
    for number, (begin, end) in enumerate([(0, 17), (0, 17)]):
        held = first.step_function.shard_variables[number]
        assert [tuple(v.shape) for v in held] == [(5, 32)] * 3 + [(2, 32), (end - begin, 1)]
        assert {v.device[-5:] for v in held} == {f"CPU:{number}"}
    trained = first.step_function.variables_to_save
    assert not [v.shape for v in trained if v.shape[:1] in ([CHUNK], [tiny.NUM_LABELS])]
    first.model.load_weights(folder / "single/model.weights.h5")
    (folder / "loaded").mkdir()
    RunFolder(folder / "loaded").save_weights(first.model)


@pytest.fixture(scope="module")
def small_chunks():
    before, label_chunks.CHUNK = label_chunks.CHUNK, CHUNK
    yield
    label_chunks.CHUNK = before


@pytest.fixture(scope="module")
def decoupled(tmp_path_factory, small_chunks):
    """Folder of "single" and of "two" replicas, killed and resumed; the first model."""
    folder = tmp_path_factory.mktemp("fused_replicas")
    tiny.tiny_tree(folder)
    (trainer,) = train(folder, {"single": changes("decoupled")})
    finish(Started(train_and_look, folder, changes("decoupled", **TWO)))
    return folder, trainer.model


def losses(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


def assert_same(folder, single, other, tolerance=1e-6):
    """Files of weights, losses of all steps, and what was measured."""
    one, two = (load_h5(folder / run / "model.weights.h5") for run in (single, other))
    assert one.keys() == two.keys() and len(one) >= 7
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=tolerance)
    first, second = (losses(folder / run) for run in (single, other))
    assert len(first) == 13 and first[0] != first[-1]
    np.testing.assert_allclose(second, first, rtol=1e-5)
    one, two = (json.loads((folder / run / "summary.json").read_text()) for run in (single, other))
    assert two["dev"] == pytest.approx(one["dev"]) and two["train"] == pytest.approx(one["train"])


def test_two_replicas_equal_one_device(decoupled):
    assert_same(decoupled[0], "single", "two")


def test_each_replica_saves_its_shards(decoupled):
    names = {path.name for path in (decoupled[0] / "two/checkpoints").glob("shard-*.index")}
    assert names == {f"shard-{number}-of-2-13.index" for number in range(2)}


@pytest.mark.slow  # killed and resumed ones equal one device: above
def test_killed_and_resumed_is_bit_identical(decoupled):
    folder, _ = decoupled
    finish(Started(train, folder, {"whole": changes("decoupled", **TWO)}))
    one, two = (load_h5(folder / run / "model.weights.h5") for run in ("whole", "two"))
    for name, values in one.items():
        np.testing.assert_array_equal(two[name], values)


def test_replicas_find_what_one_device_finds_with_their_weights(decoupled):
    folder, model = decoupled
    model.load_weights(folder / "two/model.weights.h5")
    with np.load(folder / "found.npz") as found:
        for expected, name in zip(found_by(model), found.files, strict=True):
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_replicas_read_and_write_the_weights_of_one_device(decoupled):
    files = (decoupled[0] / run / "model.weights.h5" for run in ("single", "loaded"))
    one, two = map(load_h5, files)
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(two[name], values)


@pytest.mark.slow  # the exchange between replicas: above
def test_other_objectives(tmp_path, small_chunks):
    names = [name for name in OBJECTIVES if name != "decoupled"]
    tiny.tiny_tree(tmp_path)
    train(tmp_path, {name: changes(name) for name in names})
    finish(Started(train, tmp_path, {f"{name}-two": changes(name, **TWO) for name in names}))
    for name in names:
        assert_same(tmp_path, name, f"{name}-two")


@pytest.mark.slow  # as the next ones, of other numbers of replicas
@pytest.mark.parametrize("count", [1, 4])
def test_other_numbers_of_replicas(tmp_path, monkeypatch, count):
    """Of four, one has no label of the last chunk, which has six."""
    monkeypatch.setattr(label_chunks, "CHUNK", 8)
    devices = [f"CPU:{number}" for number in range(count)]
    tiny.tiny_tree(tmp_path)
    train(tmp_path, {"single": changes()}, 8)
    several = {"several": changes(strategy="mirrored", devices=devices)}
    finish(Started(train, tmp_path, several, 8))
    assert_same(tmp_path, "single", "several")


@pytest.mark.slow  # rounding by place: tests/ops/fused; shards of any type: above
def test_bfloat16_is_rounded_as_on_one_device(tmp_path, small_chunks, capsys):
    """Bit for bit, where the vectors' gradient, a sum of bfloat16 products, does not matter."""
    frozen = {"rates": {"encoder": 0.0}}
    tiny.tiny_tree(tmp_path)
    (trainer,) = train(tmp_path, {"one": changes("sigmoid", "bfloat16", frozen)})
    expected = trainer.model.head.get_weights()
    finish(Started(train, tmp_path, {"two": changes("sigmoid", "bfloat16", frozen, **TWO)}))
    trainer.model.load_weights(tmp_path / "two/model.weights.h5")
    for one, other in zip(expected, trainer.model.head.get_weights(), strict=True):
        np.testing.assert_array_equal(np.asarray(one, np.float32), np.asarray(other, np.float32))


def train_as_worker(index, folder, trainings):
    train(folder, trainings)


@pytest.mark.slow  # shards of two workers: training/test_two_workers.py
def test_two_workers(tmp_path, small_chunks):
    tiny.tiny_tree(tmp_path)
    train(tmp_path, {"single": changes()})
    workers = {"both": changes(strategy="multi_worker")}
    finish(*two_workers(train_as_worker, tmp_path, workers))
    assert_same(tmp_path, "single", "both")


def train_by_command(path):
    """``tfxc train`` of a config, with small chunks."""
    from tfxc.commands.train import main

    label_chunks.CHUNK = CHUNK
    assert main(["--config", str(path)]) == 0


@pytest.mark.slow  # files of weights as on one device: above
def test_a_run_is_evaluated_and_exported_on_one_device(tmp_path, small_chunks, capsys):
    from tfxc.commands import evaluate, export

    tree = changes(**TWO)
    tree.pop("evaluation")
    finish(Started(train_by_command, tiny.write_config(tmp_path, **tree)))
    run = tmp_path / "run"
    trained = json.loads((run / "summary.json").read_text())["dev"]
    capsys.readouterr()
    assert not evaluate.main(["--run", str(run), "--data", str(tmp_path / "dev.txt"), "--json"])
    measured = json.loads(capsys.readouterr().out)
    found = {name: measured["metrics"][name] for name in trained}
    assert found == pytest.approx(trained) and len(found) > 5
    assert not export.main(["--run", str(run)])  # which compares the run with the export


def test_fewer_labels_than_replicas_are_refused(monkeypatch):
    strategy = SimpleNamespace(num_replicas_in_sync=4)
    monkeypatch.setattr(tf.distribute, "has_strategy", lambda: True)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: strategy)
    with pytest.raises(
        ConfigError, match=r"are too few for 4 replicas with update 'fused': one would get none"
    ):
        Dense(5, update="fused").build((None, 3))


def test_starts_that_need_the_whole_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Dense, "sharded_tables", [None])
    tree = changes(**TWO)
    sizes = {"num_features": tiny.NUM_FEATURES, "num_labels": tiny.NUM_LABELS}
    model = build_model(parse_config(tiny.tiny_tree(tmp_path, **tree)), **sizes)
    start = RunStart.__new__(RunStart)  # of a run that need not exist
    start.part = "model"
    with pytest.raises(ConfigError, match=r"start_part 'model' cannot .* head.update 'fused'"):
        start.load_weights(model)
    tree["head"]["start"] = "normal"
    with pytest.raises(ConfigError, match=r"head\.start: start 'normal' cannot .* sharded"):
        build_model(parse_config(tiny.tiny_tree(tmp_path, **tree)), **sizes)


def test_memory_counts_the_labels_of_each_replica_once(tmp_path):
    config = parse_config(tiny.tiny_tree(tmp_path, **changes(**TWO)))
    prepared = ensure_prepared(config.data, tmp_path / "prepared", jobs=1)
    memory = estimate(config, prepared).training
    encoder, head = 61 * 32, 33 * tiny.NUM_LABELS
    assert memory.parameters == encoder + head
    assert memory.weights == 4 * (2 * encoder + head)
