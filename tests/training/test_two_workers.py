"""Two workers give the numbers of a single device."""

import json
from functools import partial

import numpy as np
import pytest

from tests import label_text_runs as texts
from tests import tiny
from tests.processes import finish, two_workers
from tests.training.test_dual import changes as dual
from tests.training.test_dual import check_copies
from tests.training.test_sharding import assert_same
from tests.training.test_sharding import changes as sharded
from tests.training.test_strategies import arrays, assert_close, training
from tfxc.core.config import parse_config
from tfxc.data.store.preparation import ensure_prepared
from tfxc.runs import resuming
from tfxc.runs.folder import RunFolder
from tfxc.training.job import TrainingJob
from tfxc.training.strategies import make_strategy
from tfxc.training.tf_config import is_chief

WORKERS = {"strategy": "multi_worker"}
TEXTS = {
    "mined": 1, "mined_candidates": 4, "mine_from": 1, "refresh": 2, "pre_batch": 1,
    "batching": "near", "near_size": 8, "free_vectors": True,
}  # fmt: skip
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


def train_on_texts(index, folder, run, **training):
    """As ``train``, with head ``label_text``."""
    optimizer = {"name": "adam", "learning_rate": 0.02, "epsilon": 1e-3}
    training |= {"epochs": 1.5, "optimizer": optimizer}  # mined after the first
    config = parse_config(texts.tree_of(folder, run=run, head=TEXTS, training=training))
    data = ensure_prepared(config.data, folder / "prepared", jobs=1)
    run_folder = RunFolder(folder / run, is_chief())
    resuming.start(run_folder, config, data)
    strategy = make_strategy(config.training)
    trainer = TrainingJob(config, data, run_folder.path).trainer(strategy)
    trainer.fit()
    np.savez(folder / f"{run}-{index}.npz", *tiny.weights(trainer))


def test_labels_with_texts(tmp_path):
    """The columns of both workers, mined labels, a queue, and groups that the chief has made."""
    texts.write_data(tmp_path)
    train_on_texts(0, tmp_path, "single")
    workers = two_workers(partial(train_on_texts, **WORKERS), tmp_path, "both")
    finish(*workers)
    for index in range(2):
        assert "retracing" not in workers[index].communicate()[1]
        assert_close(arrays(tmp_path / "single-0.npz"), arrays(tmp_path / f"both-{index}.npz"))


def test_shards_equal_a_whole_table(tmp_path):
    train_on_both(tmp_path, "sharded", **sharded(DRAWN, **WORKERS, accumulate=2))
    model = tiny.train(tmp_path, "single", **sharded({"sharded": True})).model
    assert_same((tmp_path, model, model.get_weights()), "sharded")
    files = {path.name for path in (tmp_path / "sharded/checkpoints").glob("shard-*-13.index")}
    assert files == {"shard-0-of-2-13.index", "shard-1-of-2-13.index"}
