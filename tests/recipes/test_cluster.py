"""Trainings by command on a Dask cluster: the same runs as without."""

import signal

import numpy as np
import pytest
import scipy.sparse

from tests import tiny
from tests.commands.calls import call
from tests.dask_workers import dask_workers
from tests.linear_runs import command
from tfxc.commands import search, train
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.parallel import cluster
from tfxc.ranker import shared_layer
from tfxc.ranker.chain import train_ranker
from tfxc.tuning import trainings


@pytest.fixture(scope="module")
def address():
    with dask_workers() as found:
        yield found


def contents(folder, pattern):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.glob(pattern))}


def test_a_linear_ranker(address, run, tmp_path, capsys):
    """The same files as those of the run that was trained here."""
    outcome = call(capsys, train, *command(tmp_path), "--cluster", address)
    assert outcome.code == 0, outcome.err
    assert f"2 tasks at a time on the workers of {address}" in outcome.err
    found = contents(tmp_path / "run", "ranker/**/*.npy")
    assert found and found == contents(run, "ranker/**/*.npy")


def test_a_worker_that_knows_another_training(tmp_path, capsys):
    """Layers of the same name, examples and folder, trained before with other settings."""
    with dask_workers(1) as address:
        there = ("--cluster", address)
        for cost, options in ((1.0, there), (3.0, there), (3.0, ())):
            name = "there" if options else "here"
            setting = f"recipe.ranker.cost_positive={cost}"
            arguments = command(tmp_path, "--fresh", "--set", setting, *options, name=name)
            outcome = call(capsys, train, *arguments)
            assert outcome.code == 0, outcome.err
    found = contents(tmp_path / "there", "ranker/**/*.npy")
    assert found and found == contents(tmp_path / "here", "ranker/**/*.npy")


def test_features_are_written_once_for_all_layers(address, tmp_path, monkeypatch):
    """And removed with all else that the workers read; so is what a killed training left."""
    random = scipy.sparse.random(60, 20, 0.3, "csr", np.float32, random_state=0)
    labels = scipy.sparse.eye(60, 12, format="csr", dtype=np.float32)
    tree = ClusterTree([[0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]])
    left = tmp_path / "model" / "ranker" / ".shared-0123"
    left.mkdir(parents=True)
    (left / "features-data.npy").touch()
    written, write = [], shared_layer._write_matrix
    monkeypatch.setattr(
        shared_layer, "_write_matrix", lambda *found: (written.append(found[1]), write(*found))[1]
    )
    with cluster(address):
        train_ranker(random, labels, tree, tmp_path / "model")
        assert sorted(written) == ["examples", "features", "targets", "targets"]
        written.clear()
        train_ranker(random, labels, tree, tmp_path / "model")
    assert not written, "both layers are complete"
    names = sorted(path.name for path in (tmp_path / "model" / "ranker").iterdir())
    assert names == ["checksums.json", "layer-0", "layer-1", "param.json"]


MACH = {"name": "mach", "num_buckets": 10, "num_repetitions": 2}


@pytest.mark.slow  # what a worker starts and how it is stopped: tests/test_parallel.py
@pytest.mark.parametrize(
    ("unit", "parts"),
    [
        ("repetition", {"recipe": {"name": "repetitions"}, "head": MACH}),
        ("fold", {"recipe": {"name": "kfold", "folds": 2, "parallel": 2}}),
    ],
)
def test_a_recipe_of_runs(unit, parts, address, tmp_path, capsys):
    """A process each on the workers; weights as of processes started here."""
    for name, options in (("here", ()), ("there", ("--cluster", address))):
        config = tiny.write_config(tmp_path, run=str(tmp_path / name), **parts)
        command = ("--config", config, "--prepared", tmp_path / "prepared", *options)
        outcome = call(capsys, train, *command)
        assert outcome.code == 0, outcome.err + outcome.out
        assert f"2 {unit}s, 2 at a time" in outcome.out
    here = contents(tmp_path / "here", f"{unit}-*/model.weights.h5")
    assert len(here) == 2 and here == contents(tmp_path / "there", f"{unit}-*/model.weights.h5")


@pytest.mark.slow
def test_settings_of_a_search(address, tmp_path, capsys):
    """Trained by the workers, each with a log."""
    config = tiny.write_config(tmp_path)
    command = ["--config", config, "--runs", tmp_path / "runs", "--prepared", tmp_path / "prepared"]
    command += ["--set", "training.epochs=1", "--try", "encoder.dropout=0.1,0.2"]
    outcome = call(capsys, search, *command, "--cluster", address)
    assert outcome.code == 0, outcome.err
    *table, best = outcome.out.splitlines()
    assert len(table) == 3 and best.startswith("best: ")
    logs, summaries = (
        sorted((tmp_path / "runs").glob(name)) for name in ("*.log", "*/summary.json")
    )
    assert len(logs) == len(summaries) == 2
    assert [log.stem for log in logs] == [summary.parent.name for summary in summaries]


@pytest.mark.parametrize(
    ("number", "hopeless", "code"),
    [(None, None, 3), (signal.SIGTERM, None, 143), (None, lambda: True, 143)],
    ids=["ends", "stopped", "pruned"],
)
def test_a_setting_on_a_worker(number, hopeless, code, address, tmp_path):
    """Its exit code, at its end and when it is stopped."""
    seconds = 60 if number or hopeless else 0
    program = (
        f"import time; print('begins', flush=True); time.sleep({seconds}); raise SystemExit(3)"
    )
    arguments = ["-c", program]
    run = tmp_path / "runs/one"

    def received():
        return number if "begins" in log.read_text() else None

    log = tmp_path / "runs/one.log"
    with cluster(address):
        assert trainings._train_there(arguments, run, received, hopeless) == code
    assert log.read_text().startswith("begins") or hopeless


def test_what_has_no_use_for_a_cluster(tmp_path, capsys):
    config = tiny.write_config(tmp_path)
    outcome = call(capsys, train, "--config", config, "--cluster", "tcp://127.0.0.1:9")
    assert outcome.code == 2 and "does not use a cluster" in outcome.problem()
