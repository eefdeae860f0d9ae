"""Recipe 'xr_linear': training, stopping, refusals."""

import contextlib
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests import tiny
from tests.commands.calls import call
from tests.contracts.recipe import RecipeContract
from tests.linear_runs import (
    NUM_LABELS,
    SECTION,
    command,
    ranker_files,
    texts_of,
    write_config,
)
from tests.training.test_resume import Killed
from tfxc.commands import evaluate, export, info, predict, train
from tfxc.core.config import load_tree, parse_config
from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.core.storage import checksums
from tfxc.estimator.classifier import XCClassifier
from tfxc.exports.standalone.predict import Predictor
from tfxc.labels.cluster_tree import ClusterTree
from tfxc.ranker.store import LayerWriter
from tfxc.runs.loaded import load_run


class TestXRLinear(RecipeContract):
    name = "xr_linear"
    arguments = {key: value for key, value in SECTION.items() if key != "name"}  # noqa: RUF012
    trained = arguments
    work = (LayerWriter, "append")
    pieces = 5

    def tree(self, folder):
        """Without a network and its training."""
        return {key: tiny.tiny_tree(folder)[key] for key in ("run", "data")}


def test_the_run_folder(run):
    loaded = load_run(run)
    tree = ClusterTree.load(run / "tree.npz")
    assert tree.sizes == loaded.model.ranker.sizes == [2, 8, NUM_LABELS]
    summary = json.loads((run / "summary.json").read_text())
    assert [layer["trained"] for layer in summary["layers"]] == tree.sizes
    assert summary["dev"]["P@1"] > 0.9
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["dev P@1"] == summary["dev"]["P@1"]
    learned = load_run(run).model.decision
    assert learned.calibration is not None and learned.rule is None
    param = json.loads((run / "ranker" / "param.json").read_text())
    assert param["settings"]["only_topk"] == [3, 4, 10]


@pytest.mark.parametrize("blocks", [1, 5])
def test_a_stopped_training_ends_as_another(run, tmp_path, capsys, monkeypatch, blocks):
    append, count = LayerWriter.append, 0

    def interrupted(self, *block):
        nonlocal count
        append(self, *block)
        count += 1
        if count == blocks:
            os.kill(os.getpid(), signal.SIGTERM)

    arguments = command(run.parent, name=f"stopped-{blocks}")
    with monkeypatch.context() as patch:
        patch.setattr(LayerWriter, "append", interrupted)
        outcome = call(capsys, train, *arguments)
    assert outcome.code == 128 + signal.SIGTERM
    text = "stopped by SIGTERM, finished blocks are saved; run the same command again to resume\n"
    assert outcome.out.endswith(text)
    other = run.parent / f"stopped-{blocks}"
    assert not (other / "summary.json").exists()
    with pytest.raises(CheckpointError, match="there is no trained ranker"):
        _ = load_run(other).model
    count = -(10**6)
    with monkeypatch.context() as patch:
        patch.setattr(LayerWriter, "append", interrupted)
        assert call(capsys, train, *arguments).code == 0
    assert count + 10**6 == 11 - blocks, "finished blocks are not solved again"
    assert ranker_files(other) == ranker_files(run)


def test_trains_once(run, capsys):
    before = ranker_files(run)
    outcome = call(capsys, train, *command(run.parent))
    assert outcome.out.startswith(f"{run}: already finished; use --fresh to start over")
    assert ranker_files(run) == before
    less = {**SECTION, "memory_gb": 0.5, "threads": 1}
    assert "already finished" in call(capsys, train, *command(run.parent, recipe=less)).out
    changed = {**SECTION, "tree": {"nr_splits": 4, "max_leaf_size": 5}}
    problem = call(capsys, train, *command(run.parent, recipe=changed)).problem()
    assert "recipe.tree" in problem and "--fresh" in problem
    write_config(run.parent)


def test_dry_run_and_info_of_a_config(run, capsys):
    arguments = command(run.parent, name="dry")
    outcome = call(capsys, train, *arguments, "--dry-run")
    assert outcome.code == 0 and "layers of 2, 8, 30 nodes" in outcome.out
    assert "blocks to train: 11;" in outcome.out and "classifiers" in outcome.out
    assert not (run.parent / "dry").exists()
    shown = call(capsys, info, *arguments).out
    assert "blocks to train: 11;" in shown and "30 labels" in shown


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (
            {"tree": {"nr_split": 4}},
            {},
            "recipe.tree.nr_split: the tree has no argument 'nr_split', did you",
        ),
        ({"tree": {"nr_splits": 1}}, {}, "recipe.tree.nr_splits: must be an integer of at least 2"),
        (
            {"tree": {"label_embedding": "x"}},
            {},
            "recipe.tree.label_embedding: must be one of pifa, pii",
        ),
        ({"ranker": {"treshold": 1}}, {}, "recipe.ranker.treshold: .* did you mean 'threshold'"),
        ({"ranker": {"threshold": "high"}}, {}, "recipe.ranker.threshold: must be a number"),
        (
            {"ranker": {"threshold": [1.0, 2.0]}},
            {},
            "recipe.ranker.threshold: there are 2 values for 3 layers .of 2, 8, 30 nodes.",
        ),
        (
            {"ranker": {"threshold": -1.0}},
            {},
            "recipe.ranker.threshold: must be a number of at least 0",
        ),
        (
            {"ranker": {"post_processor": "x"}},
            {},
            r"recipe.ranker.post_processor.0.: must be one of noop",
        ),
        (
            {"ranker": {"relevance_mode": "indcue"}},
            {},
            "recipe.ranker.relevance_mode: must be one of",
        ),
        (
            {"ranker": {"relevance_norm": "l3"}},
            {},
            "recipe.ranker.relevance_norm: must be one of l1, l2",
        ),
        ({"ranker": {"relevance_mode": "ranker-only"}}, {}, "_mode: 'ranker-only' needs a matrix"),
        (
            {"ranker": {"negatives": "usn"}},
            {},
            "recipe.ranker.negatives: 'usn' needs a matrix. Leave",
        ),
        ({"ranker": {"negatives": ["tfn", "tfn+usn", "tfn"]}}, {}, "negative_labels_file or nega"),
        ({"ranker": {"negatives": "near"}}, {}, "recipe.ranker.negatives: 'near' is not a scheme"),
        ({"ranker": {"mode": "matcher"}}, {}, "recipe.ranker.mode: must be 'full-model' here"),
        ({"memory_gb": 0}, {}, "recipe.memory_gb: must be a positive number"),
        ({}, {"decision": {"probabilities": "platt"}}, "decision.probabilities: unknown prob"),
        ({}, {"decision": {"labels": "top_k"}}, "labels 'top_k' needs count"),
        ({}, {"decision": {"label": "top_k"}}, "unknown key 'decision.label'"),
        ({"threads": 0}, {}, "recipe.threads: must be an integer of at least 1"),
        ({}, {"head": {"name": "dense"}}, "head: 'head' does not apply to recipe 'xr_linear'"),
        ({}, {"training": {"epochs": 3}}, "training.epochs: it does not apply to recipe"),
        ({}, {"techniques": [{"name": "ema"}]}, "techniques: it does not apply to recipe"),
        ({}, {"evaluation": {"full_loss": True}}, "evaluation.full_loss"),
        ({}, {"evaluation": {"test_on_improvement": True}}, "the data have no test split"),
    ],
)
def test_what_cannot_be_trained(run, capsys, recipe, changes, message):
    arguments = command(run.parent, name="bad", recipe={**SECTION, **recipe}, **changes)
    for more in ([], ["--dry-run"]):
        assert re.search(message, call(capsys, train, *arguments, *more).problem())
    assert not (run.parent / "bad").exists()


def test_too_little_memory(run, capsys):
    """What the messages name is enough."""

    def trained(memory_gb, *more):
        recipe = {**SECTION, "memory_gb": memory_gb}
        return call(capsys, train, *command(run.parent, name="little", recipe=recipe), *more)

    assert "too little: recipe.memory_gb of 0.01 is needed\n" in trained(1e-6, "--dry-run").out
    problem = trained(1e-6).problem()
    assert "recipe.memory_gb: 1e-06 is too little for" in problem
    assert "Set recipe.memory_gb to 0.01." in problem
    assert "too little" not in trained(0.01, "--dry-run").out
    assert trained(0.01).code == 0


def test_one_repetition_is_refused(run, capsys):
    problem = call(capsys, train, *command(run.parent, name="one"), "--repetition", 0).problem()
    assert "recipe 'xr_linear' does not train several models" in problem


@pytest.mark.parametrize("recipe", ["kfold", "repetitions"])
def test_recipes_of_networks_need_one(run, capsys, recipe):
    """Commands fill it in, around the text features that the config has."""
    path = write_config(run.parent, name=recipe, recipe={"name": recipe})
    with pytest.raises(ConfigError, match=f"recipe '{recipe}' needs the section 'encoder'"):
        train.check_config(parse_config(load_tree(path)))
    outcome = call(capsys, train, "--config", path, "--print-config")
    printed = json.loads(outcome.out[outcome.out.index("{") :])
    assert printed["encoder"]["name"] == "bag_mlp"
    assert printed["data"]["text_features"]["name"] == "tfidf"


def test_another_decision_needs_no_training(run, tmp_path, capsys):
    folder = tmp_path / "same"
    assert call(capsys, train, *command(folder)).code == 0
    before = ranker_files(folder / "run")
    other = {"probabilities": "rows", "labels": {"name": "f_measure", "balance": 0.25}}
    outcome = call(capsys, train, *command(folder, decision=other))
    assert "already finished" in outcome.out and "decision: micro-F1 " in outcome.out
    after = ranker_files(folder / "run")
    assert {name for name in after if after[name] != before[name]} == {"decision.json"}
    loaded = load_run(folder / "run")
    assert loaded.config.decision.labels.balance == 0.25
    assert loaded.folder.summary()["decision"]["micro-F1"] > 0.8
    outcome = call(capsys, train, *command(folder, decision=other))
    assert "already finished" in outcome.out and "decision:" not in outcome.out


@pytest.mark.parametrize("method", ["isotonic", "logistic"])
def test_killed_while_another_decision_is_written(run, tmp_path, monkeypatch, capsys, method):
    """Behind whichever file: the run can be read, and decides as wanted then, or as before."""
    folder = tmp_path / "same"
    assert call(capsys, train, *command(folder)).code == 0
    shutil.copytree(folder / "run", tmp_path / "before")
    replace, written = os.replace, []

    def dies(source, target, **options):
        replace(source, target, **options)
        written.append(Path(target).name)
        if len(written) == number:
            raise Killed

    for number in range(1, 20):
        shutil.rmtree(folder / "run")
        shutil.copytree(tmp_path / "before", folder / "run")
        written.clear()
        changed = command(folder, decision={"probabilities": "isotonic"})
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "replace", dies)
            train.main([str(argument) for argument in changed])
        if len(written) < number:
            break
        found = load_run(folder / "run").folder
        found.verify()
        assert call(capsys, train, *command(folder, decision={"probabilities": method})).code == 0
        assert found.summary()["decision"]["settings"]["probabilities"]["name"] == method
        calibration = load_run(folder / "run").model.decision.calibration
        assert (calibration.weights is None) is (method == "isotonic"), written
        assert checksums.are_recorded(folder / "run", *set(written) - {"checksums.json"})
    assert {"decision.json", "config.json", "environment.json", "summary.json"} < set(written)


def test_no_decision_in_place_of_one(run, tmp_path, capsys):
    folder = tmp_path / "same"
    assert call(capsys, train, *command(folder)).code == 0
    nothing = command(folder, decision={"probabilities": None})
    assert call(capsys, train, *nothing).code == 0
    assert not (folder / "run" / "decision.json").exists()
    load_run(folder / "run").folder.verify()
    assert "already finished" in call(capsys, train, *nothing).out


def test_what_one_way_out_returns_all_do(run, tmp_path, capsys):
    """Labels of ``predict`` are those that ``evaluate`` measures, and of Python."""
    folder = tmp_path / "decided"
    decision = {"probabilities": "rows", "labels": "f_measure"}
    assert call(capsys, train, *command(folder, decision=decision)).code == 0
    output = tmp_path / "labels.jsonl"
    arguments = (folder / "run", folder / "dev.jsonl", "--output", output)
    outcome = call(capsys, predict, *arguments)
    assert "labels whose probability reaches the label's own threshold" in outcome.err
    predicted = [set(json.loads(line)["labels"]) for line in output.read_text().splitlines()]
    lines = (folder / "dev.jsonl").read_text().splitlines()
    true = [set(json.loads(line)["labels"]) for line in lines]
    hits = sum(len(a & b) for a, b in zip(predicted, true, strict=True))
    micro = 2 * hits / sum(len(a) + len(b) for a, b in zip(predicted, true, strict=True))
    measuring = ("--split", "dev", "--json", "--prepared", folder / "prepared")
    outcome = call(capsys, evaluate, "--run", folder / "run", *measuring)
    assert json.loads(outcome.out)["metrics"]["micro-F1"] == pytest.approx(micro)
    model = XCClassifier.load(folder / "run")
    assert [set(row) for row in model.predict(texts_of(folder / "run"))] == predicted
    for form in ("runtime", "savedmodel"):
        exporting = (folder / "run", "--format", form, "--probabilities")
        assert call(capsys, export, *exporting).code == 0
    alone = Predictor(folder / "run" / "runtime")
    assert [set(answer.labels) for answer in alone(texts_of(folder / "run"))] == predicted
    assert {len(answer.labels) for answer in alone(texts_of(folder / "run"), 3)} == {3}
    serving = ("--model", folder / "run" / "savedmodel", folder / "dev.jsonl", "--output", output)
    for more, is_same in (((), True), (("--k", 3), False)):
        assert call(capsys, predict, *serving, *more).code == 0
        lines = output.read_text().splitlines()
        assert ([set(json.loads(line)["labels"]) for line in lines] == predicted) == is_same


def test_a_decision_needs_a_dev_split(run, capsys):
    arguments = command(run.parent, name="no-dev")
    problem = call(capsys, train, *arguments, "--set", "data.dev=null").problem()
    assert problem.startswith("decision: the data have no dev split")
    assert not (run.parent / "no-dev").exists()
