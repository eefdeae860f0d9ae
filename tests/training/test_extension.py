"""A finished run with more epochs: as if it had had them from the start."""

import json
import re
import shutil

import h5py
import numpy as np
import pytest

from tests import tiny
from tests.commands.calls import call, listing
from tests.training.test_resume import Killed, dies_after
from tfxc.commands import train

CONSTANT = {"schedule": {"name": "constant"}}


def training(epochs, **more):
    return {"training": {"epochs": epochs, **CONSTANT, **more}}


def trained(folder, capsys, run, *changes):
    """Calls ``tfxc train``; tiny's config is of 1 epoch (13 steps)."""
    config = tiny.write_config(folder, **training(1))
    options = [part for change in changes for part in ("--set", change)]
    command = (
        "--config",
        config,
        "--prepared",
        folder / "prepared",
        "--set",
        f"run={folder / run}",
    )
    return call(capsys, train, *command, *options)


def arrays(path):
    """{name: array} of a file of weights."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, node: found.update({name: node[()]}) if hasattr(node, "shape") else None
        )
    return found


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A folder with a run of one epoch, to be copied."""
    folder = tmp_path_factory.mktemp("extension")
    tiny.train(folder, "short", **training(1))
    config = json.loads((folder / "short/config.json").read_text())
    assert config["training"]["keep_checkpoints"] == 1, "the default"
    return folder


def copied(folder, name):
    shutil.copytree(folder / "short", folder / name)
    return name


EMA = {"name": "ema", "decay": 0.9, "every": 3}


@pytest.mark.parametrize(
    "technique", [None, pytest.param(EMA, marks=pytest.mark.slow)], ids=["plain", "ema"]
)
def test_extended_equals_trained_at_once(short, tmp_path, technique):
    changes, folder = {"techniques": [technique] if technique else []}, tmp_path
    if technique:
        for epochs in (1, 1.5):
            tiny.train(folder, "parts", **training(epochs), **changes)
    else:
        folder = short
        copied(folder, "parts")
    parts = tiny.train(folder, "parts", **training(2), **changes)
    whole = tiny.train(folder, "at-once", **training(2), **changes)
    for one, other in zip(tiny.weights(whole), tiny.weights(parts), strict=True):
        np.testing.assert_array_equal(one, other)
    one, other = (arrays(folder / run / "model.weights.h5") for run in ("at-once", "parts"))
    assert one.keys() == other.keys() and len(one) >= 4
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert parts.summary["dev"] == whole.summary["dev"]
    assert json.loads((folder / "parts/config.json").read_text())["training"]["epochs"] == 2


def test_the_schedule_is_that_of_the_new_length(tmp_path, capsys):
    linear = "training.schedule.name=linear"
    assert trained(tmp_path, capsys, "run", linear).code == 0
    outcome = trained(tmp_path, capsys, "run", linear, "training.epochs=2")
    assert "extended from 1 to 2 epochs: schedule 'linear' is computed for 26 steps" in outcome.out
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
    assert rates[13] == pytest.approx(0.02 * 1 / 13)
    assert rates[15] == pytest.approx(0.02 * 12 / 26), "step 15 follows 14 of 26 updates"


@pytest.mark.slow
def test_killed_while_it_is_extended(short, capsys):
    run = copied(short, "killed")
    with pytest.raises(Killed):
        tiny.train(short, run, dies_after(9), **training(2))
    assert not (short / run / "summary.json").exists(), "no longer a finished run"
    killed = tiny.train(short, run, **training(2))
    assert "resumed at step 21 of 26" in capsys.readouterr().out
    whole = tiny.train(short, "whole", **training(2))
    for one, other in zip(tiny.weights(whole), tiny.weights(killed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.epochs=0.5"], r"with other settings: training.epochs \(1.0 -> 0.5\)"),
        (["training.epochs=2", "seed=3"], r"settings: seed \(0 -> 3\), training.epochs"),
        (["training.batch_size=8"], r"settings: training.batch_size \(16 -> 8\)"),
    ],
)
def test_other_changes_are_refused(short, capsys, changes, message):
    before = listing(short / "short")
    problem = trained(short, capsys, "short", *changes).problem()
    assert re.search(message, problem)
    assert listing(short / "short") == before


def test_without_what_it_goes_on_from(short, capsys):
    run = copied(short, "emptied")
    shutil.rmtree(short / run / "checkpoints")
    before = listing(short / run)
    problem = trained(short, capsys, run, "training.epochs=2").problem()
    assert problem.startswith(f"{short / run}: this finished run has no checkpoint")
    assert "recipe.start" in problem and "training.keep_checkpoints=1" in problem
    assert listing(short / run) == before
    assert trained(short, capsys, run).code == 0, "it is still finished"


def test_a_damaged_checkpoint_leaves_the_run_as_it_was(short, capsys):
    run = copied(short, "damaged")
    (data,) = (short / run).glob("checkpoints/ckpt-13.data*")
    data.write_bytes(data.read_bytes()[:-1])
    before = listing(short / run)
    assert "no checkpoint is intact" in trained(short, capsys, run, "training.epochs=2").problem()
    assert listing(short / run) == before


@pytest.mark.slow
def test_what_stopped_early_is_not_trained_further(tmp_path, capsys):
    stops = {"early_stopping": {"patience": 1, "min_delta": 1}, "evaluate_every": 2}
    before = tiny.train(tmp_path, **training(1, **stops)).summary
    assert before["steps"] == 4
    after = tiny.train(tmp_path, **training(2, **stops)).summary
    assert (after["steps"], after["dev"]) == (4, before["dev"])
    assert "early stopping has ended the training here" in capsys.readouterr().out
