"""Recipe 'kfold': every example is held out once, the served model averages."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.commands.calls import call
from tests.contracts.recipe import RecipeContract
from tests.training.test_resume import Killed
from tfxc.commands import evaluate, export, info, predict, train
from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.core.storage.reading import read_json
from tfxc.data.sources.shards import open_source
from tfxc.data.store.preparation import ensure_prepared
from tfxc.exports.savedmodel import export_savedmodel
from tfxc.heads.bases import label_chunks
from tfxc.inference.searcher import Searcher
from tfxc.model import build_model
from tfxc.recipes.kfold.recipe import KFold
from tfxc.runs.loaded import load_run


class TestKFold(RecipeContract):
    name = "kfold"
    arguments = {"folds": 3}  # noqa: RUF012 (read only)
    trained = {"folds": 2}  # noqa: RUF012 (read only)


CHANGES = {
    "recipe": {"name": "kfold", "folds": 2},
    "training": {"checkpoint_every": None, "epochs": 1},
}


@pytest.fixture
def config(tmp_path):
    return tiny.write_config(tmp_path, **CHANGES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the run of ``CHANGES`` that was trained in this process, and its summary."""
    folder = tmp_path_factory.mktemp("kfold")
    config = tiny.write_config(folder, **CHANGES)
    assert train.main(["--config", str(config), "--prepared", str(folder / "prepared")]) == 0
    return folder, read_json(folder / "run" / "summary.json")


def test_killed_while_another_decision_is_written(finished, tmp_path, monkeypatch, capsys):
    """Behind whichever file: the run can be read, and the same command goes on."""
    folder, _ = finished
    shutil.copytree(folder / "prepared", tmp_path / "prepared")
    replace, written = os.replace, []

    def dies(source, target, **options):
        replace(source, target, **options)
        written.append(Path(target).name)
        if len(written) == number:
            raise Killed

    command = ["--config", str(folder / "config.json"), "--prepared", str(tmp_path / "prepared")]
    command += ["--set", f"run={tmp_path / 'run'}", "--set", "decision.probabilities=isotonic"]
    for number in range(1, 20):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(folder / "run", tmp_path / "run")
        written.clear()
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "replace", dies)
            train.main(command)
        load_run(tmp_path / "run").folder.verify()
        if len(written) < number:
            break
    else:
        pytest.fail("it never ends")
    assert {"decision.json", "config.json", "environment.json", "summary.json"} < set(written)
    assert load_run(tmp_path / "run").model.decision.calibration is not None
    written.clear()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        train.main(command)
    assert "decision.json" not in written, "it is not learned again"


def test_train_evaluate_and_export(finished, tmp_path, capsys):
    folder, summary = finished
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.copytree(folder / "prepared", tmp_path / "prepared")
    command = ("--config", folder / "config.json", "--prepared", tmp_path / "prepared")
    command += ("--set", f"run={tmp_path / 'run'}")
    folds = [one["dev"]["P@1"] for one in summary["folds"]]
    assert len(folds) == 2 and summary["dev"]["P@1"] == pytest.approx(np.mean(folds))
    assert summary["dev_deviation"]["P@1"] == pytest.approx(np.std(folds, ddof=1))
    assert [one["dev_examples"] for one in summary["folds"]] == [102, 101]
    assert summary["dev_examples"] == 203
    low, high = summary["dev_interval"]["P@1"]
    assert low < np.mean(folds) < high < low + 0.2

    run = load_run(tmp_path / "run")
    assert run.model.head.num_labels == tiny.NUM_LABELS
    features = {
        "ids": tf.constant([0, 1, 5, 9]),
        "weights": tf.constant([0.5, 0.5, 0.3, 0.2]),
        "row_splits": tf.constant([0, 2, 4], tf.int64),
    }
    expected = []
    for number in range(2):
        one = build_model(run.config, **run.dimensions)
        one.load_weights(tmp_path / "run" / f"fold-{number:02d}" / "model.weights.h5")
        expected.append(one(features).numpy())
    assert np.abs(expected[0] - expected[1]).max() > 0.01, "the folds differ"
    expected = np.mean(expected, axis=0)
    np.testing.assert_allclose(run.model(features), expected, atol=1e-5)
    ids, scores = run.model.top_k(features, 4)
    np.testing.assert_array_equal(ids, np.argsort(-expected, axis=1, kind="stable")[:, :4])
    np.testing.assert_allclose(scores, np.sort(expected, axis=1)[:, ::-1][:, :4], atol=1e-5)

    _streamed_equals(run, tmp_path)
    arguments = ("--run", tmp_path / "run", "--prepared", tmp_path / "prepared", "--full-loss")
    assert "full_loss" in call(capsys, evaluate, *arguments).out
    assert export_savedmodel(run, tmp_path / "served", k=3).score_difference < 1e-5
    assert "2 times" in call(capsys, info, "--run", tmp_path / "run").out

    (tmp_path / "run" / "fold-01" / "summary.json").unlink()
    again = call(capsys, train, *command, "--json")
    assert again.code == 0 and again.err.count("already finished") == 1
    assert json.loads(again.out)["dev"] == summary["dev"]
    (tmp_path / "run" / "fold-00" / "model.weights.h5").unlink()
    with pytest.raises(CheckpointError, match="fold-00: this run has no trained weights yet"):
        load_run(tmp_path / "run").model.summary()


def _streamed_equals(run, folder):
    """One fold in memory at a time: as all, but for the rounding of sums that TensorFlow fuses."""
    streamed = run.with_options(streamed=True)
    rows = open_source(ensure_prepared(run.config.data, folder / "prepared"), "dev")
    for options in ({}, {"full_loss": True}, {"probabilities": True}):
        given = Searcher(run.model, 4, **options), Searcher(streamed.model, 4, **options)
        for one, other in zip(*(searcher.over(rows, 16) for searcher in given), strict=True):
            np.testing.assert_array_equal(one.ids, other.ids)
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
            if one.losses is not None:
                np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)


def test_one_fold_alone(finished, config, tmp_path, capsys):
    """It is what it is among the others."""
    command = ("--config", config, "--prepared", tmp_path / "prepared")
    assert call(capsys, train, *command, "--repetition", "1").code == 0
    assert [path.name for path in (tmp_path / "run").glob("fold-*")] == ["fold-01"]
    _same_fold(finished[0] / "run", tmp_path / "run", 1)
    assert "there is no fold 7" in call(capsys, train, *command, "--repetition", "7").problem()


def _same_fold(one, other, number):
    name = f"fold-{number:02d}/model.weights.h5"
    with h5py.File(one / name) as mine, h5py.File(other / name) as theirs:
        np.testing.assert_allclose(mine["encoder/vars/0"], theirs["encoder/vars/0"], atol=1e-6)


# Does what a training does, as far as its parent sees it: notes its options, leaves a fold.
STAND_IN = """#!/bin/bash
r=$(sed 's/.*--repetition \\([0-9]*\\).*/\\1/' <<<"$*")
echo "$*" >"$FOLDER/arguments-$r"; cp -r "$HERE/fold-0$r" "$FOLDER/run"
"""


def test_the_parent_of_processes(finished, config, tmp_path, capsys, monkeypatch):
    program = tmp_path / "python"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("HERE", str(finished[0] / "run"))
    monkeypatch.setattr(sys, "executable", str(program))
    command = ("--config", config, "--prepared", tmp_path / "prepared", "--json")
    outcome = call(capsys, train, *command, "--set", "recipe.parallel=2")
    assert outcome.code == 0, outcome.err
    assert "2 folds, 2 at a time; logs: " in outcome.err
    for number in range(2):
        arguments = (tmp_path / f"arguments-{number}").read_text()
        assert arguments.startswith(f"-m tfxc.train --config {tmp_path}/run/config.json ")
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["dev"] == finished[1]["dev"] and len(summary["folds"]) == 2


@pytest.mark.slow  # stand-ins for processes: above; one fold in a command of its own: above
def test_folds_in_processes(finished, config, tmp_path, capsys):
    """Each is what it is when it is trained here."""
    command = ("--config", config, "--prepared", tmp_path / "prepared", "--json")
    outcome = call(capsys, train, *command, "--set", "recipe.parallel=2")
    assert outcome.code == 0, outcome.err
    assert "2 folds, 2 at a time; logs: " in outcome.err
    there = read_json(tmp_path / "run" / "summary.json")
    assert there["dev"] == pytest.approx(finished[1]["dev"]) and len(there["folds"]) == 2
    for number in range(2):
        _same_fold(finished[0] / "run", tmp_path / "run", number)


@pytest.mark.parametrize("folds", [1, 0])
def test_too_few_folds(folds):
    with pytest.raises(ConfigError, match="folds: must be an integer of at least 2"):
        KFold(folds=folds)


def test_a_head_without_scores_of_all_labels(tmp_path, capsys):
    head = {"name": "mhp", "num_heads": 2}
    config = tiny.write_config(tmp_path, recipe={"name": "kfold"}, head=head)
    command = ("--config", config, "--prepared", tmp_path / "prepared")
    assert "and 'mhp' has none" in call(capsys, train, *command).problem()


def test_a_dev_share_would_be_in_no_fold(tmp_path, capsys):
    tree = tiny.tiny_tree(tmp_path, recipe={"name": "kfold"})
    del tree["data"]["dev"]
    tree["data"]["dev_share"] = 0.2
    (tmp_path / "share.json").write_text(json.dumps(tree))
    command = ("--config", tmp_path / "share.json", "--prepared", tmp_path / "prepared")
    problem = call(capsys, train, *command).problem()
    assert problem.startswith("data.dev_share: no model would learn from the share")
    assert not (tmp_path / "prepared").exists()
    assert call(capsys, train, *command, "--set", "data.dev_share=null", "--dry-run").code == 0


def test_a_fused_head_in_several_chunks(tmp_path, monkeypatch, capsys):
    """What is trained is evaluated, searched and exported, too."""
    monkeypatch.setattr(label_chunks, "CHUNK", 16)
    parts = {
        "recipe": {"name": "kfold", "folds": 2},
        "head": {"name": "dense", "update": "fused", "learning_rate": 0.1},
        "training": {"epochs": 1, "checkpoint_every": None},
    }
    config = tiny.write_config(tmp_path, **parts)
    prepared = ("--prepared", tmp_path / "prepared")
    assert call(capsys, train, "--config", config, *prepared).code == 0
    run = ("--run", tmp_path / "run")
    assert call(capsys, evaluate, *run, *prepared, "--full-loss").code == 0
    assert call(capsys, predict, *run, tmp_path / "dev.txt", "--k", "3").code == 0
    exported = call(capsys, export, *run, "--output", tmp_path / "served", "--k", "3")
    assert exported.code == 0, exported.err
