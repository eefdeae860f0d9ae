"""Dual objectives over replicas and workers, killed and resumed: the numbers of one device."""

import json
import shutil

import numpy as np
import pytest

from tests import tiny
from tests.processes import Started, finish
from tests.training.test_resume import Killed, dies_after
from tests.training.test_strategies import arrays, assert_close
from tfxc.core.errors import CheckpointError
from tfxc.runs.loaded import load_run


def train_until(folder, run, changes, last):
    """Trains and ends as if killed behind step ``last``."""
    trainers = []

    def fault(trainer):
        trainers.append(trainer)
        dies_after(last)(trainer)

    with pytest.raises(Killed):
        tiny.train(folder, run, fault, **changes)
    check_copies(*trainers)


def check_copies(trainer):
    """All replicas' copies of the tables are the same."""
    for table in getattr(trainer.model.objective, "tables", ()):
        copies = trainer.strategy.experimental_local_results(table.value)
        for copy in copies:
            np.testing.assert_array_equal(copy, copies[0])


def changes(**training):
    """SOX over the batch's labels and five others by their frequency, in micro-batches."""
    optimizer = {"name": "sgd", "learning_rate": 0.5, "momentum": 0.5}
    return {
        "head": {"name": "sampled", "num_extra": 5, "extra": "frequency", "initial_std": 0.1},
        "objective": {"name": "sox", "last_share": 0.3},
        "training": {
            "epochs": 2,
            "accumulate": 2,
            "keep_checkpoints": 1,
            "optimizer": optimizer,
            **training,
        },
    }


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """Folder and trainer on one device."""
    folder = tmp_path_factory.mktemp("dual")
    return folder, tiny.train(folder, "single", **changes())


def test_a_training_visits_every_example_and_its_run_can_be_read(single):
    folder, trainer = single
    (table,) = trainer.model.objective.tables
    assert table.shape == (203,)
    assert np.isfinite(table.numpy()).all()
    model = load_run(folder / "single").model
    np.testing.assert_array_equal(model.objective.tables[0].numpy(), table.numpy())
    counts = np.load(folder / "single/assets/label_counts.npy")
    np.testing.assert_array_equal(model.head.frequencies.numpy(), np.maximum(counts, 1))
    lines = (folder / "single/metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines if '"loss"' in line]
    assert {line["rows_without_negatives"] for line in logged} == {0}


def train_on_two_replicas(folder):
    """Trains "two" and saves its weights."""
    two = changes(strategy="mirrored", devices=["CPU:0", "CPU:1"])
    trainer = tiny.train(folder, "two", **two)
    check_copies(trainer)
    np.savez(folder / "two.npz", *tiny.weights(trainer))


def test_two_replicas_equal_one_device(single):
    folder, trainer = single
    finish(Started(train_on_two_replicas, folder))
    assert_close(tiny.weights(trainer), arrays(folder / "two.npz"))


@pytest.mark.slow  # on two replicas: above; killed: training/test_resume.py
def test_killed_and_resumed_with_fewer_replicas_equals_one_device(single):
    folder, trainer = single
    two, one = (changes(strategy="mirrored", devices=["CPU:0", "CPU:1"][:n]) for n in (2, 1))
    finish(Started(train_until, folder, "mirrored", two, 23))
    assert_close(tiny.weights(trainer), tiny.weights(tiny.train(folder, "mirrored", **one)))
    mirrored = json.loads((folder / "mirrored/summary.json").read_text())
    for split in ("dev", "train"):
        assert mirrored[split] == pytest.approx(trainer.summary[split], rel=1e-4)
        assert mirrored[split]["full_loss"] > 0


def test_a_checkpoint_of_another_number_of_examples_is_refused(single):
    folder, trainer = single
    other = folder / "other"
    other.mkdir()
    tiny.write_split(other / "train.txt", 150, seed=0)
    tiny.write_split(other / "dev.txt", 60, seed=1)

    def restores_the_other(made):
        shutil.copytree(trainer.checkpoints.folder, made.checkpoints.folder)

    with pytest.raises(CheckpointError, match="values of 203 training examples, the data has 150"):
        tiny.train(other, "run", restores_the_other, **changes())
