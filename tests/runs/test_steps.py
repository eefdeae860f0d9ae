"""Older checkpoints: evaluated, predicted with, resumed from."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.commands.calls import call, listing
from tfxc.commands import evaluate, predict, train
from tfxc.core.errors import CheckpointError
from tfxc.core.storage.reading import read_json
from tfxc.data.store.preparation import ensure_prepared
from tfxc.inference.search_options import SearchOptions
from tfxc.recipes.base import Context, Recipe
from tfxc.runs.checkpoint_files import CheckpointFiles
from tfxc.runs.loaded import load_run
from tfxc.training.job import TrainingJob

EMA = {"techniques": [{"name": "ema", "decay": 0.9, "every": 3}]}
SWA = {"techniques": [{"name": "swa", "start_epoch": 1, "every": 3}]}
# 26 steps; those of 14, 21 and 26 are kept, and the dev split is measured there.
KEPT = {"epochs": 2, "keep_checkpoints": 3, "evaluate_every": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run that has kept checkpoints."""
    folder = tmp_path_factory.mktemp("steps")
    tiny.write_config(folder, training=KEPT)
    tiny.train(folder, training=KEPT)
    return folder


def copied(folder, name):
    shutil.copytree(folder / "run", folder / name)
    return name


def weights_at(folder, run, step=None):
    return [
        variable.numpy()
        for variable in load_run(folder / run, options=SearchOptions(step=step)).model.variables
    ]


def same(one, other):
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def trained(capsys, folder, run, *options):
    command = ("--config", folder / "config.json", "--prepared", folder / "prepared")
    return call(capsys, train, *command, "--set", f"run={folder / run}", *options)


@pytest.mark.parametrize(
    "changes",
    [EMA, *(pytest.param(c, marks=pytest.mark.slow) for c in ({}, SWA))],
    ids=["ema", "plain", "swa"],
)
def test_the_weights_of_a_step_are_those_it_would_have_ended_with(tmp_path, changes):
    """The last checkpoint has the weights of the end, also where these are averages."""
    tiny.train(tmp_path, training={**KEPT, "checkpoint_every": 13}, **changes)
    same(weights_at(tmp_path, "run"), weights_at(tmp_path, "run", 26))
    early, late = (weights_at(tmp_path, "run", step) for step in (13, 26))
    assert max(np.abs(a - b).max() for a, b in zip(early, late, strict=True)) > 0.01


def test_evaluate_and_predict_at_a_step(folder, capsys):
    options = ("--run", folder / "run", "--prepared", folder / "prepared", "--split", "dev")
    outcome = call(capsys, evaluate, *options, "--step", 14, "--compare", folder / "run")
    assert outcome.code == 0 and "run at step 14 on dev" in outcome.out
    metrics = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    then = next(line for line in metrics if line["step"] == 14 and "dev P@1" in line)
    now = read_json(folder / "run/evaluation-dev-step-14.json")["metrics"]
    final = read_json(folder / "run/evaluation-dev.json")["metrics"]
    assert now["P@1"] != final["P@1"] and now["P@1"] == pytest.approx(then["dev P@1"], abs=1e-6)
    given = (folder / "dev.txt", "--run", folder / "run", "--k", 2)
    early, late = (
        call(capsys, predict, *given, *step).out for step in (("--step", 14), ("--step", 26))
    )
    assert len(early.splitlines()) == 60 and early != late
    assert call(capsys, predict, *given).out == late


def test_steps_that_do_not_exist(folder, capsys):
    message = "--step: there is no checkpoint of step 15; the run has those of 14, 21, 26. Ch"
    for command in (evaluate, predict):
        outcome = call(capsys, command, "--run", folder / "run", "--step", 15)
        assert message in outcome.problem()
    assert (
        "--from-step: there is no checkpoint of step 15"
        in trained(capsys, folder, "run", "--from-step", 15, "--drop-later").problem()
    )
    run = copied(folder, "emptied")
    shutil.rmtree(folder / run / "checkpoints")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint of step 14; the run has none.*keep_checkpoints=N"
    ):
        load_run(folder / run, options=SearchOptions(step=14))


def test_a_damaged_step(folder):
    run = copied(folder, "damaged")
    (data,) = (folder / run).glob("checkpoints/ckpt-21.data*")
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    with pytest.raises(CheckpointError, match=r"ckpt-21: .*SHA-256 checksum does not match"):
        weights_at(folder, run, 21)


def test_options_that_mean_nothing(folder, capsys):
    run = ("--run", folder / "run")
    problem = call(capsys, predict, *run, "--run", folder, "--step", 14).problem()
    assert problem.startswith("--step: a step belongs to a single run, but 2 runs are given")
    problem = call(capsys, predict, "--model", folder, "--step", 0).problem()
    assert problem.startswith("--step: a SavedModel outputs only the scores that it was exported")
    problem = trained(capsys, folder, "run", "--drop-later").problem()
    assert problem.startswith("--drop-later: this option needs --from-step")


def test_back_to_an_earlier_step_only_with_permission(folder, capsys):
    run = copied(folder, "kept")
    before = listing(folder / run)
    problem = trained(capsys, folder, run, "--from-step", 14).problem()
    assert problem.startswith("--from-step: going back to step 14 removes the checkpoint")
    assert "the checkpoint of step 21, the checkpoint of step 26, the weights of the end" in problem
    assert listing(folder / run) == before
    assert "already finished" in trained(capsys, folder, run, "--from-step", 26).out


def test_from_an_earlier_step_to_the_same_end(folder, capsys):
    run = copied(folder, "again")
    outcome = trained(capsys, folder, run, "--from-step", 14, "--drop-later")
    assert "resumed at step 14 of 26" in outcome.out
    same(weights_at(folder, "run"), weights_at(folder, run))
    same(weights_at(folder, "run", 21), weights_at(folder, run, 21))
    assert (
        read_json(folder / run / "summary.json")["dev"]
        == read_json(folder / "run/summary.json")["dev"]
    )


def test_what_is_refused_costs_no_later_checkpoint(folder, capsys):
    """A key, a checkpoint of other variables: before anything is dropped."""
    run = copied(folder, "refused")
    files = CheckpointFiles(folder / run / "checkpoints", "ckpt", [tf.Variable([1.0])])
    files.save(14, identity=files.content(14)["identity"])
    before = listing(folder / run)
    back = ("--from-step", 14, "--drop-later")
    problem = trained(capsys, folder, run, *back).problem()
    assert "ckpt-14: does not contain this model's variables" in problem
    assert listing(folder / run) == before
    key = ("--set", "evaluation.test_on_improvement=true")
    problem = trained(capsys, folder, run, *back, *key).problem()
    assert problem.startswith("evaluation.test_on_improvement: it needs a test split")
    assert listing(folder / run) == before


def test_a_parent_is_reopened_only_where_something_is_dropped(folder):
    parent = folder / copied(folder, "parent")
    part = shutil.copytree(folder / "run", parent / "repetition-00")
    config = load_run(part).config
    data = ensure_prepared(config.data, folder / "prepared", jobs=1)
    TrainingJob(config, data, part, parent_run=parent).run(from_step=26)
    assert (parent / "summary.json").exists() and (part / "summary.json").exists()


def test_a_step_that_is_not_there_is_refused_before_a_recipe_trains(folder):
    run = copied(folder, "stages")
    shutil.rmtree(folder / run / "checkpoints")
    config = load_run(folder / run).config

    class Never(Recipe):
        def train(self, context):
            raise AssertionError

    data = ensure_prepared(config.data, folder / "prepared", jobs=1)
    with pytest.raises(
        CheckpointError, match=r"--from-step: there is no checkpoint of step 14; .* none"
    ):
        Never().run(Context(config, data, folder / run, from_step=14, drop_later=True))


@pytest.mark.parametrize("best", [pytest.param(4, marks=pytest.mark.slow), 16])
def test_the_best_weights_of_later_steps_are_sought_anew(tmp_path, capsys, best):
    """Those of an earlier step stay the best, those of a dropped one do not."""
    more = {**KEPT, "keep": "best", "evaluate_every": 4}

    def judge(trainer):
        trainer.evaluation.of_dev = lambda: {
            **dict.fromkeys(trainer.evaluation.metrics.names, 0.0),
            trainer.watch.metric: float(int(trainer.step_function.step) == best),
        }

    tiny.train(tmp_path, fault=judge, training=more)
    before = weights_at(tmp_path, "run")
    tiny.write_config(tmp_path, training=more)
    assert trained(capsys, tmp_path, "run", "--from-step", 14, "--drop-later").code == 0
    summary = read_json(tmp_path / "run/summary.json")
    assert (summary["best_step"] == 4) == (best == 4)
    after = weights_at(tmp_path, "run")
    equal = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert equal == (best == 4)
