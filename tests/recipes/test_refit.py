"""Trained once more on all examples, after a part of them was held out to choose and to measure."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests import tiny
from tests.contracts.recipe import Killed
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import CheckpointError, ConfigError
from tfxc.core.storage.reading import read_json
from tfxc.data.sources.shards import open_source
from tfxc.data.store.manifest import Manifest
from tfxc.data.store.preparation import ensure_prepared
from tfxc.decision.held_out import HeldOut
from tfxc.decision.probabilities.logistic import Logistic
from tfxc.inference.search_options import SearchOptions
from tfxc.metrics.base import hits
from tfxc.metrics.interval import wilson_interval
from tfxc.ranker.store import LayerWriter
from tfxc.recipes.base import Context
from tfxc.reports.measurement import Measurement
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import load_run
from tfxc.runs.refit import held_out_configs
from tfxc.training.step import TrainStep

RANKER = {"name": "xr_linear", "tree": {"nr_splits": 4, "max_leaf_size": 8}}
STOPPING = {"early_stopping": {"patience": 1, "min_delta": 0.02}, "epochs": 12}


def context_of(folder, run, *, network=True, **changes):
    """A context that trains ``folder/run`` on the training file alone."""
    tree = tiny.tiny_tree(folder)
    if not network:
        tree = {"data": tree["data"], "recipe": RANKER}
    data = {key: value for key, value in tree["data"].items() if key != "dev"}
    tree = {**tree, "data": data, "run": str(folder / run)}
    for key, value in changes.items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
    config = parse_config(tree)
    registry.get("recipe", config.recipe.name).check_config(config)
    return Context(config, ensure_prepared(config.data, folder / "prepared", jobs=1), folder / run)


def train(context):
    return registry.create("recipe", context.config.recipe.section()).run(context)


def answers(run, context, **options):
    """Scores of all labels of the examples of the training file."""
    model = load_run(run, options=SearchOptions(**options)).model
    batch = next(open_source(context.data_folder, "train").sequential(1000))
    return model.find_top_k(batch["features"], model.num_labels)


def same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The context of a finished run of a network, and its summary."""
    folder = tmp_path_factory.mktemp("network")
    context = context_of(folder, "whole", refit={"share": 0.25}, training=STOPPING)
    return context, train(context)


@pytest.fixture(scope="module")
def found(network):
    """What the model of that run answers."""
    context, _ = network
    return answers(context.run, context)


IN_FOLDS = {"refit": {"folds": 3}, "decision": {"probabilities": "logistic", "k": 10}}


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    """The context of a finished run of a linear ranker, measured in folds, and its summary."""
    folder = tmp_path_factory.mktemp("ranker")
    context = context_of(folder, "whole", network=False, **IN_FOLDS)
    return context, train(context)


def test_trained_on_all_for_as_long_as_the_best_without_the_rest(network, found, tmp_path):
    """The weights are those that a training on all has at that step of the same schedule."""
    context, summary = network
    without = read_json(context.run / "held-out" / "summary.json")
    inner = RunFolder(context.run / "held-out").config()
    assert inner.data.dev_share == 0.25 and inner.refit is None
    assert without["best_step"] < without["steps"] < 12 * 152 / 16, "stopped early"
    epochs = without["best_step"] * 16 / 152
    assert summary["refit"]["epochs"] == pytest.approx(epochs)
    assert summary["steps"] == np.ceil(epochs * 203 / 16)
    assert context.manifest.split("train").examples == 203
    assert set(context.manifest.splits) == {"train"}
    once = context_of(
        tmp_path, "once", training={**STOPPING, "early_stopping": None, "keep": "last"}
        | {"checkpoint_every": summary["steps"], "keep_checkpoints": 1000},
    )  # fmt: skip
    train(once)
    same(found, answers(once.run, once, step=summary["steps"]))


def test_figures_are_those_of_the_held_out_part(network):
    context, summary = network
    without = read_json(context.run / "held-out" / "summary.json")
    assert summary["dev"] == without["dev"] and summary["dev"]["P@1"] > 0
    assert summary["dev_examples"] == without["dev_examples"] == 51
    interval = wilson_interval(summary["dev"]["P@1"], 51)
    assert summary["dev_interval"]["P@1"] == pytest.approx(interval)
    assert without["dev_interval"]["P@1"] == pytest.approx(interval)
    assert read_json(context.run / "summary.json")["dev"] == summary["dev"]
    assert "best_step" not in summary


@pytest.mark.parametrize("split", [None, "dev"])
def test_examples_that_were_trained_on_are_no_dev_split(network, split):
    context, _ = network
    measurement = Measurement(split=split, prepared=str(context.data_folder.parent))
    loaded = load_run(context.run)
    with pytest.raises(ConfigError, match=r"trained on all examples .*measure .*/held-out, which"):
        measurement.examples(loaded)
    assert dataclasses.replace(measurement, split="train").examples(loaded)[0] == "train"
    held_out = load_run(context.run / "held-out")
    name, rows = measurement.examples(held_out)
    assert name == "dev" and rows.num_examples == 51


@pytest.mark.parametrize("pieces", [1, 12, 20, 27])
def test_a_network_that_was_killed_ends_as_another(network, found, pieces):
    """In the first training, where the second begins, and in it."""
    context, summary = network
    again = context_of(
        context.run.parent, f"killed-{pieces}", refit={"share": 0.25}, training=STOPPING
    )
    first = read_json(context.run / "held-out" / "summary.json")["steps"]
    assert first == 19 and first + summary["steps"] > 27
    resumed = killed_and_resumed(again, (TrainStep, "run"), pieces)
    assert resumed["dev"] == summary["dev"] and resumed["steps"] == summary["steps"]
    same(answers(again.run, again), found)


def killed_and_resumed(context, work, pieces):
    """The summary of a training that was killed in a piece of its work, and gone on with."""
    kind, method = work
    original, calls = getattr(kind, method), []

    def counted(self, *arguments):
        calls.append(1)
        if len(calls) == pieces:
            raise Killed
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, method, counted)
        with pytest.raises(Killed):
            train(context)
        assert RunFolder(context.run).summary() is None
        return train(context)


def test_the_ranker_is_that_of_all_examples(ranker, tmp_path):
    context, summary = ranker
    once = context_of(tmp_path, "once", network=False)
    train(once)
    same(answers(context.run, context), answers(once.run, once))
    assert summary["dev_examples"] == 203 == context.manifest.split("train").examples


def test_every_example_is_measured_once_by_a_ranker_without_it(ranker):
    """Figures and decision are those of all folds together."""
    context, summary = ranker
    scores, true, right = [], [], 0
    for number, config in enumerate(held_out_configs(context.config).values()):
        folder = ensure_prepared(config.data, context.data_folder.parent, jobs=1)
        sizes = {name: split.examples for name, split in Manifest.load(folder).splits.items()}
        assert sum(sizes.values()) == 203 and abs(sizes["dev"] - 203 / 3) < 1
        model = load_run(context.run / f"held-out-{number}").model
        batch = next(open_source(folder, "dev").sequential(1000))
        found = model.find_top_k(batch["features"], 10)
        right += (found[0][:, :1] == batch["labels"]).any(axis=1).sum()
        scores.append(found[1])
        true.append(hits(found[0], batch["labels"]))
    assert summary["dev"]["P@1"] == pytest.approx(right / 203)
    lists = np.concatenate(scores)
    ids = np.where(np.isneginf(lists), -1, 0)
    examples = HeldOut(ids, lists, None, np.concatenate(true), np.ones(len(lists), int))
    expected = Logistic().fit(examples)
    found = load_run(context.run).model.decision.calibration
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)


@pytest.mark.parametrize("pieces", [2, 5, 11])
def test_a_ranker_that_was_killed_ends_as_another(ranker, pieces):
    context, summary = ranker
    again = context_of(context.run.parent, f"killed-{pieces}", network=False, **IN_FOLDS)
    assert killed_and_resumed(again, (LayerWriter, "append"), pieces)["dev"] == summary["dev"]
    same(answers(again.run, again), answers(context.run, context))
    files = [(run / "decision.json").read_bytes() for run in (context.run, again.run)]
    assert files[0] == files[1]


def test_more_epochs_extend_both(tmp_path):
    run = tmp_path / "constant"
    constant = {"schedule": {"name": "constant"}, "epochs": 1}
    context = context_of(tmp_path, "constant", refit={"share": 0.25}, training=constant)
    assert train(context)["steps"] == 13
    longer = {**constant, "epochs": 2}
    context = context_of(tmp_path, "constant", refit={"share": 0.25}, training=longer)
    assert train(context)["steps"] == 26
    assert read_json(run / "held-out" / "summary.json")["steps"] == 19
    at_once = context_of(tmp_path, "at-once", refit={"share": 0.25}, training=longer)
    assert train(at_once)["steps"] == 26
    same(answers(run, context), answers(at_once.run, at_once))


def test_a_step_is_one_of_the_training_on_all(network, tmp_path):
    context, summary = network
    shutil.copytree(context.run, tmp_path / "run")
    (step,) = RunFolder(tmp_path / "run").checkpoints.finished_steps()
    assert step == summary["steps"]
    there = dataclasses.replace(context, run=tmp_path / "run", from_step=step)
    assert train(there)["dev"] == summary["dev"]
    with pytest.raises(CheckpointError, match="no checkpoint of step 3"):
        train(dataclasses.replace(there, from_step=3))
    (tmp_path / "run" / "held-out" / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"held-out.* has not finished\. Run the same"):
        train(there)


def test_started_over(network, tmp_path):
    """With ``fresh`` all of it is trained anew."""
    context, summary = network
    shutil.copytree(context.run, tmp_path / "run")
    (tmp_path / "run" / "held-out" / "log.txt").write_text("old\n")
    again = train(dataclasses.replace(context, run=tmp_path / "run", fresh=True))
    assert again["steps"] == summary["steps"]
    assert "old" not in (tmp_path / "run" / "held-out" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refit": {}}, "refit: neither share nor folds is set"),
        ({"refit": {"share": 0.1, "folds": 2}}, "refit: share and folds are both set"),
        ({"refit": {"share": 0.1}, "data": {"dev_share": 0.1}}, r"data\.dev_share: refit holds"),
        ({"refit": {"share": 0.1}, "data": {"dev": "dev.txt"}}, r"data\.dev: refit holds the dev"),
        (
            {"refit": {"share": 0.1}, "recipe": {"name": "kfold"}},
            "refit: recipe 'kfold' cannot be trained once more on all examples",
        ),
        (
            {"refit": {"share": 0.1}, "training": {"strategy": "multi_worker"}},
            "refit: strategy 'multi_worker' trains once",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        context_of(tmp_path, "run", **changes)


def test_the_interval_is_that_of_wilson():
    """Of the shares whose distance is 1.96 standard deviations: the roots of a parabola."""
    for right, count in ((0, 5), (3, 5), (94, 94), (3400, 3747)):
        share = right / count
        z = 1.959963984540054
        roots = np.roots([1 + z**2 / count, -(2 * share + z**2 / count), share**2])
        assert wilson_interval(share, count) == pytest.approx(sorted(roots), abs=1e-9)
    low, high = wilson_interval(1.0, 1)
    assert low < 0.25 and high == 1, "one right example says little"


def test_summaries_of_other_runs_have_it_too(tmp_path):
    config = tiny.write_config(tmp_path, training={"epochs": 1})
    from tfxc.commands import train as command

    assert command.main(["--config", str(config), "--prepared", str(tmp_path / "prepared")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["dev_examples"] == 60
    assert summary["dev_interval"]["P@1"] == list(wilson_interval(summary["dev"]["P@1"], 60))
