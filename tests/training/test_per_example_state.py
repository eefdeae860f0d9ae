"""Tables with a number of each example: their size, their moves, their memory."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.contracts.layers import assert_equal
from tests.contracts.technique import eagerly, tiny_model, tiny_source
from tfxc.core.config import TrainingSettings, parse_config
from tfxc.core.errors import CheckpointError, DataError
from tfxc.data.examples.kinds import SPARSE
from tfxc.data.sources.dataset import training_dataset
from tfxc.encoders.bag_mlp import BagMLP
from tfxc.heads.sampled.head import Sampled
from tfxc.model import XCModel, example_features
from tfxc.objectives.scent import SCENT
from tfxc.objectives.sox import SOX
from tfxc.runs.folder import RunFolder
from tfxc.techniques.base import Technique
from tfxc.training.loop import Trainer
from tfxc.training.optimization.optimizers import SGD
from tfxc.training.optimization.schedules import Schedule
from tfxc.training.per_example_state import check_examples
from tfxc.training.step import TrainStep

SOX_MODEL = {"head": {"name": "sampled", "initial_std": 0.1}, "objective": {"name": "sox"}}


class Passes(Technique):
    """Goes ``count`` times over each batch and takes the gradients of the last time."""

    def __init__(self, count):
        self.count = count

    def gradients(self, compute, batch):
        for _ in range(self.count):
            result = compute(batch)
        return result


def dual_model(num_examples):
    """A built model for ``tiny_source`` with SOX."""
    model = XCModel(BagMLP(12, hidden=[6]), Sampled(5, initial_std=0.5), SOX(num_examples))
    model(example_features(SPARSE, {"num_features": 12}))
    return model


def test_several_passes_over_a_batch_move_the_table_once():
    tables, accumulate = [], 2
    for count in (1, 2):
        model = dual_model(24)
        model.objective.tables[0].assign(np.linspace(-1, 1, 24))
        settings = TrainingSettings(batch_size=8, accumulate=accumulate)
        strategy = tf.distribute.get_strategy()
        step = TrainStep(model, SGD(1e-30), Schedule(9), settings, strategy, [Passes(count)])
        batches = training_dataset(
            tiny_source(), batch_size=8, seed=0, num_steps=2, micro_batches=accumulate
        )
        iterator = iter(batches)
        with eagerly():
            for _ in range(2):
                step.run(iterator)
        tables.append(model.objective.tables[0].numpy())
        start = np.linspace(-1, 1, 24, dtype=np.float32)
        assert np.count_nonzero(tables[-1] != start) == 16
    assert_equal(*tables)


def test_losses_leave_the_table_alone_where_asked():
    model, batch = dual_model(24), tiny_source().batch(0, 0, 8)
    model.losses_of(batch, update_state=False)
    assert np.isnan(model.objective.tables[0].numpy()).all()
    model.losses_of(batch)
    assert np.isfinite(model.objective.tables[0].numpy()).sum() == 8


def test_a_model_for_another_number_of_examples_is_refused(tmp_path):
    message = r"data.train: objective SOX .* built for 1,000 of them, but the training split has 24"
    with pytest.raises(DataError, match=message):
        config = parse_config(tiny.tiny_tree(tmp_path))
        Trainer(dual_model(1000), tiny_source(), config, RunFolder(tmp_path))
    check_examples(dual_model(24).objective, tiny_source())
    check_examples(tiny_model().objective, tiny_source())


def test_the_loop_names_an_example_outside_the_table(tmp_path):
    def renumber(trainer):
        batch = trainer.source.batch

        def shifted(*arguments, **more):
            found = batch(*arguments, **more)
            return {**found, "example_index": found["example_index"] + 10_000}

        trainer.source.batch = shifted

    with pytest.raises(
        DataError, match=r"a batch contains the example_index 1\d{4}, .* from 0 to 202"
    ):
        tiny.train(tmp_path, fault=renumber, **SOX_MODEL)


def test_a_checkpoint_of_another_training_set_is_refused(tmp_path):
    first = tiny.train(
        tmp_path, "first", **SOX_MODEL, training={"epochs": 1, "keep_checkpoints": 1}
    )
    other = tmp_path / "other"
    other.mkdir()
    tiny.write_split(other / "train.txt", 150, seed=0)
    tiny.write_split(other / "dev.txt", 60, seed=1)

    def goes_on(trainer):
        shutil.copytree(first.checkpoints.folder, trainer.checkpoints.folder)

    message = r"values of 203 training examples, the data has 150.*--fresh"
    with pytest.raises(CheckpointError, match=message):
        tiny.train(other, "run", goes_on, **SOX_MODEL)


def test_the_log_says_how_many_rows_taught_nothing(tmp_path):
    objective = SCENT(num_examples=24)
    objective.build(None)
    assert objective.final_message() == ""
    trainer = tiny.train(
        tmp_path,
        fault=lambda made: made.model.objective.skipped.assign(1234),
        **SOX_MODEL,
        training={"epochs": 0.1},
    )
    assert trainer.model.objective.logged_metrics() == {"rows_without_negatives": 1234}
    text = (tmp_path / "run/log.txt").read_text()
    assert "SOX: nothing was learned from 1,234 rows, as all labels of their batch" in text


@pytest.mark.parametrize(("objective", "size"), [("sox", 4 * 203), ("bsgd", 0), ("softmax", 0)])
def test_memory_counts_the_tables(tmp_path, objective, size):
    from tfxc.core.config import parse_config
    from tfxc.data.store.manifest import Manifest
    from tfxc.data.store.preparation import ensure_prepared
    from tfxc.training.memory.estimate import allocated

    for head, groups in (({"name": "sampled"}, 1), ({"name": "mhp", "heads": [6, 5]}, 2)):
        config = parse_config(tiny.tiny_tree(tmp_path, head=head, objective={"name": objective}))
        manifest = Manifest.load(ensure_prepared(config.data, tmp_path / "prepared", jobs=1))
        memory = allocated(config, manifest)
        assert memory.tables == groups * size
        assert memory.total == sum(memory[1:])
