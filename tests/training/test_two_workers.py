"""Two workers give the numbers of a single device."""

import json

import numpy as np
import pytest

from tests import tiny
from tests.processes import finish, two_workers
from tests.training.test_dual import changes as dual
from tests.training.test_dual import check_copies
from tests.training.test_sharding import assert_same
from tests.training.test_sharding import changes as sharded
from tests.training.test_strategies import arrays, assert_close, training

WORKERS = {"strategy": "multi_worker"}
DRAWN = {"sharded": True, "sampling": "partial", "sample_rate": 1.0}


def train(index, folder, trainings):
    """What each worker does: ``{run: changes}``, one after the other."""
    for name, changes in trainings.items():
        trainer = tiny.train(folder, name, **changes)
        check_copies(trainer)
        if not changes.get("head", {}).get("sharded"):
            np.savez(folder / f"{name}-{index}.npz", *tiny.weights(trainer))


def train_on_both(folder, name, **changes):
    """Two workers train; the data is there before, as both would write it."""
    tiny.tiny_tree(folder)
    finish(*two_workers(train, folder, {name: changes}))


def check(folder, name, changes):
    """Both workers have the weights of one device."""
    expected = tiny.weights(tiny.train(folder, f"{name}-single", **changes))
    for index in range(2):
        assert_close(expected, arrays(folder / f"{name}-{index}.npz"))
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if '"loss"' in line]
    assert len(steps) == len(set(steps)), "only the chief reports"


@pytest.mark.slow  # on two replicas: training/test_dual.py
def test_a_dual_objective(tmp_path):
    train_on_both(tmp_path, "dual", **dual(**WORKERS, epochs=1))
    check(tmp_path, "dual", dual(epochs=1))


@pytest.mark.slow
def test_a_dense_head(tmp_path):
    train_on_both(tmp_path, "dense", training=training(**WORKERS))
    check(tmp_path, "dense", {"training": training()})


def test_shards_equal_a_whole_table(tmp_path):
    train_on_both(tmp_path, "sharded", **sharded(DRAWN, **WORKERS, accumulate=2))
    model = tiny.train(tmp_path, "single", **sharded({"sharded": True})).model
    assert_same((tmp_path, model, model.get_weights()), "sharded")
    files = {path.name for path in (tmp_path / "sharded/checkpoints").glob("shard-*-13.index")}
    assert files == {"shard-0-of-2-13.index", "shard-1-of-2-13.index"}
