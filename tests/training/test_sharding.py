"""Class centres shared out over replicas give the numbers of a whole table on one device."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.contracts.technique import NUM_FEATURES, NUM_LABELS, TinyTraining
from tests.data.store.feature_sets.examples import write_set
from tests.processes import Started, finish
from tests.training.test_resume import Killed, dies_after
from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.data.examples.kinds import SPARSE
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.heads.bases.class_centres.checks import labels_of_a_shard
from tfxc.heads.dense import Dense
from tfxc.model import XCModel, example_features
from tfxc.objectives.sigmoid import Sigmoid
from tfxc.objectives.softmax import Softmax
from tfxc.ops.distributed.cross_replica import CrossReplica, labels_everywhere
from tfxc.runs.folder import RunFolder
from tfxc.techniques.ema import EMA
from tfxc.training.checkpoints import Checkpoints


def train(folder, run, changes):
    """Trains on replicas."""
    return tiny.train(folder, run, **changes)


def train_and_load(folder, changes):
    """Trains "mirrored", killed on the way; loads "single", a whole table, saves it as "loaded"."""
    with pytest.raises(Killed):
        tiny.train(folder, "mirrored", dies_after(9), **changes)
    trainer = tiny.train(folder, "mirrored", **changes)
    trainer.model.load_weights(folder / "single/model.weights.h5")
    (folder / "loaded").mkdir()
    RunFolder(folder / "loaded").save_weights(trainer.model)

    @tf.function(autograph=False)
    def gathered():
        def on_replica():
            number = CrossReplica().number
            labels = tf.fill([2, 1 + number], number)
            return labels_everywhere(labels), CrossReplica().gather_labels(labels)

        return trainer.strategy.run(on_replica)

    flat, rows = map(trainer.strategy.experimental_local_results, gathered())
    rectangle = [[n] * (1 + n) + [-1] * (3 - n) for n in range(4) for _ in range(2)]
    for found, found_rows in zip(flat, rows, strict=True):
        np.testing.assert_array_equal(found, [n for row in rectangle for n in row if n >= 0])
        np.testing.assert_array_equal(found_rows, rectangle)


def changes(head=(), **training):
    head = {"name": "margin", "scale": 8.0, "m2": 0.2, "sub_centers": 2, **dict(head)}
    objective = {"name": "softmax", "label_smoothing": 0.1, "reduction": "sum"}
    # A larger epsilon: Adam would blow the rounding of gradients near 0 up.
    optimizer = {"name": "adam", "learning_rate": 0.02, "epsilon": 1e-3}
    training = {"epochs": 1, "clip_norm": 0.5, "optimizer": optimizer, **training}
    training["keep_checkpoints"] = 2
    measured = {"full_loss": True, "train_slice": 64, "batch_size": 32}
    return {"head": head, "objective": objective, "training": training, "evaluation": measured}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Folder, model and weights of a training without shards."""
    folder = tmp_path_factory.mktemp("sharding")
    model = tiny.train(folder, "single", **changes({"sharded": True})).model
    return folder, model, model.get_weights()


def assert_same(single, run, tolerance=1e-5):
    """The weights of a run, loaded into the whole model, and its dev results are the single's."""
    folder, model, expected = single
    model.load_weights(folder / run / "model.weights.h5")
    for one, other in zip(expected, model.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, atol=tolerance)
    summaries = folder / "single/summary.json", folder / run / "summary.json"
    if summaries[1].exists():
        one, other = (json.loads(path.read_text()) for path in summaries)
        assert other["dev"] == pytest.approx(one["dev"])
        assert other["train"] == pytest.approx(one["train"])
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)


@pytest.mark.slow  # sharding on two workers: training/test_two_workers.py
def test_four_mirrored_replicas_killed_and_resumed_equal_one_device(single):
    """30 labels over 4 replicas: the last shard has two rows of labels to spare."""
    folder = single[0]
    devices = [f"CPU:{number}" for number in range(4)]
    settings = changes({"sharded": True}, strategy="mirrored", devices=devices)
    finish(Started(train_and_load, folder, settings))
    assert_same(single, "mirrored")
    assert_same(single, "loaded", 0)
    names = {path.name for path in (folder / "mirrored/checkpoints").glob("shard-*.index")}
    assert names == {f"shard-{r}-of-4-{step}.index" for r in range(4) for step in (7, 13)}


@pytest.mark.parametrize(
    ("head", "more"),
    [
        pytest.param({}, {}, marks=pytest.mark.slow),  # with an encoder: test_strategies.py
        pytest.param({}, {"clip_norm": None, "precision": "mixed_float16"}, marks=pytest.mark.slow),
        # With statistics besides the shards, and with a loss of the vectors' lengths.
        pytest.param({"name": "adaface", "concentration": 20.0}, {}, marks=pytest.mark.slow),
        pytest.param({"name": "magface", "least_length": 1.0}, {}, marks=pytest.mark.slow),
    ],
    ids=["float32", "float16", "adaface", "magface"],
)
def test_vectors_without_an_encoder(tmp_path, head, more):
    """Nothing but the shards is trained: no weight is mirrored."""
    random = np.random.default_rng(0)
    for name, count in (("train", 64), ("dev", 20)):
        vectors = random.normal(size=(count, 6)).astype(np.float32)
        write_set(tmp_path / name, vectors, random.integers(0, 30, count), num_labels=30)
    settings = {name: str(tmp_path / name) for name in ("train", "dev")}
    settings = {**changes(), "data": {"name": "set", "normalise": None, **settings}}
    settings["encoder"] = {"name": "precomputed"}
    settings["training"] |= more
    if head:
        settings["head"] = {"scale": 8.0, "sub_centers": 2, **head}
    model = tiny.train(tmp_path, "single", **settings).model
    settings["head"]["sharded"] = True
    settings["training"] |= {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}
    finish(Started(train, tmp_path, "shards", settings))
    assert_same((tmp_path, model, model.get_weights()), "shards")


class Workers:
    """The checkpoints of a chief with shard 0 and a worker with shard 1."""

    def __init__(self, folder, count=2):
        self.variables = [tf.Variable([0.0]) for _ in range(count)]
        self.step = tf.Variable(0)
        self.all = [
            Checkpoints(folder, [self.step], number == 0, {number: [variable]}, count)
            for number, variable in enumerate(self.variables)
        ]

    def set(self, value):
        for variable in (*self.variables, self.step):
            variable.assign(tf.cast(tf.fill(variable.shape, value), variable.dtype))

    def save(self, step, numbers=(1, 0)):
        self.set(step)
        for number in numbers:
            self.all[number].save(step)

    def restored(self):
        self.set(-1)
        assert all(checkpoints.restore() for checkpoints in self.all)
        return [int(variable.numpy().max()) for variable in (self.step, *self.variables)]


def test_a_checkpoint_counts_when_all_shards_are_there(tmp_path):
    workers = Workers(tmp_path)
    assert not workers.all[1].restore()
    for step in (5, 10, 15):
        workers.save(step)
    assert workers.restored() == [15, 15, 15]
    assert len(list(tmp_path.glob("shard-*.index"))) == 4
    workers.save(20, numbers=[1])  # killed before the chief wrote
    assert workers.restored() == [15, 15, 15]
    workers.save(20)
    next(tmp_path.glob("shard-1-of-2-20.index")).unlink()
    assert workers.restored() == [15, 15, 15]


def test_another_number_of_replicas_is_refused(tmp_path):
    Workers(tmp_path).save(5)
    with pytest.raises(CheckpointError, match=r"files of 3 shards, and there are those of 2"):
        Workers(tmp_path, 3).all[0].restore()
    for path in tmp_path.glob("shard-*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="2 shards, and there are none"):
        Workers(tmp_path).all[0].restore()


@pytest.mark.parametrize(
    ("objective", "techniques"), [(Sigmoid, []), (Softmax, [EMA])], ids=["sigmoid", "ema"]
)
def test_what_cannot_be_sharded_is_refused(objective, techniques):
    model = XCModel(BagMLP(NUM_FEATURES, hidden=[6]), Dense(NUM_LABELS), objective())
    model(example_features(SPARSE, {"num_features": NUM_FEATURES}))
    model.head.sharded_tables = [SimpleNamespace(shape=(2, 2), name="centres", shards={})]
    with pytest.raises(
        ConfigError, match=r"head\.sharded: .* cannot train .* 'softmax' and no techniques"
    ):
        TinyTraining(*(make() for make in techniques), model=model)


def test_more_replicas_than_labels_are_refused():
    assert labels_of_a_shard(30, 4) == 8
    with pytest.raises(ConfigError, match="5 labels cannot be sharded over 4 replicas"):
        labels_of_a_shard(5, 4)
