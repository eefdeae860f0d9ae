"""Recipe 'repetitions': alone or together, what the parent of several processes does."""

import dataclasses
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from sklearn.utils import murmurhash3_32

from tests import tiny
from tests.commands.calls import call
from tests.contracts.recipe import RecipeContract
from tfxc.commands import evaluate
from tfxc.core import registry
from tfxc.core.config import parse_config
from tfxc.core.errors import CheckpointError, ConfigError, UserError
from tfxc.core.interrupts import Stopped
from tfxc.core.storage import checksums
from tfxc.core.storage.reading import read_json
from tfxc.data.sources.shards import ShardSource
from tfxc.data.store.preparation import ensure_prepared
from tfxc.inference import streamed
from tfxc.inference.search_options import SearchOptions
from tfxc.inference.searcher import Searcher
from tfxc.model import build_model
from tfxc.recipes.base import Context
from tfxc.recipes.repetitions.recipe import Repetitions, repetition_count
from tfxc.runs import resuming
from tfxc.runs.checkpoint_files import CheckpointFiles
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import load_run


class TestRepetitions(RecipeContract):
    name = "repetitions"
    arguments = {"parallel": 2, "together": True}  # noqa: RUF012 (read only)
    sections = {  # noqa: RUF012 (read only)
        "head": {"name": "mach", "num_buckets": 10, "num_repetitions": 2}
    }
    pieces = 18  # in the second of them

    def train(self, context):
        """One after the other in this process; all at once they are processes of their own."""
        parts = [super(TestRepetitions, self).train(dataclasses.replace(context, repetition=r))
                 for r in range(2)]  # fmt: skip
        return {"dev": [part["dev"] for part in parts]}


def config_with_head(**head):
    return parse_config(
        {
            "run": "unused",
            "data": {"name": "unused", "train": "unused"},
            "encoder": {"name": "bag_mlp"},
            "head": head,
            "objective": {"name": "sigmoid"},
        }
    )


def test_count_of_the_config_or_the_head():
    assert repetition_count(config_with_head(name="mach", num_buckets=4, num_repetitions=3)) == 3
    assert repetition_count(config_with_head(name="mach", num_buckets=4)) == 16


def test_only_one_goes_back_to_a_step(tmp_path):
    config = config_with_head(name="mach", num_buckets=4)
    with pytest.raises(
        ConfigError, match=r"--from-step: all repetitions would be trained.*--repetition R"
    ):
        Repetitions().run(Context(config, tmp_path, tmp_path / "run", from_step=3))


def test_a_head_without_repetitions():
    with pytest.raises(
        ConfigError, match=r"needs a head with repetitions, and 'dense' has none.*'mach'"
    ):
        repetition_count(config_with_head(name="dense"))


def test_impossible_parallel():
    with pytest.raises(
        ConfigError,
        match=r"parallel: must be an integer of at least 1, not 0",
    ):
        Repetitions(parallel=0)


def tree_of(**changes):
    """Config changes of a tiny training in three repetitions."""
    head = {"name": "mach", "num_buckets": 10, "num_repetitions": 3}
    return {"head": head, "recipe": {"name": "repetitions"}, **changes}


def context(folder, run, repetition=None, **changes):
    """What the recipe is given; every run reads the same records."""
    changes = {**tree_of(), **changes, "run": str(folder / run)}
    config = parse_config(tiny.tiny_tree(folder, **changes))
    data = ensure_prepared(config.data, folder / "prepared", jobs=1)
    return Context(config, data, folder / run, repetition, command=("--prepared", str(data.parent)))


def train(folder, run, repetition=None, **changes):
    """Trains by the config's recipe in this process."""
    given = context(folder, run, repetition, **changes)
    return registry.create("recipe", given.config.recipe.section()).run(given)


def answers(folder, run, k=7):
    """Best ids and scores of the dev examples by the assembled model, in the graph."""
    loaded = load_run(folder / run)
    data = ensure_prepared(loaded.config.data, folder / "prepared")
    batch = next(ShardSource(data, "dev").sequential(100))
    ids, scores = loaded.model.top_k(tf.nest.map_structure(tf.constant, batch["features"]), k)
    return ids.numpy(), scores.numpy(), batch["features"], loaded.model


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder with run ``alone``, trained one repetition after the other, last one first."""
    folder = tmp_path_factory.mktemp("repetitions")
    for repetition in (2, 0, 1):
        train(folder, "alone", repetition)
    return folder


def test_trained_alone_equals_trained_together(alone):
    """Oracle (h): the same seeds and batches, R processes or one vectorised model."""
    train(alone, "together", recipe={"name": "repetitions", "together": True})
    ids, scores, _, model = answers(alone, "alone")
    ids_together, scores_together, _, model_together = answers(alone, "together")
    np.testing.assert_array_equal(ids, ids_together)
    np.testing.assert_allclose(scores, scores_together, atol=1e-5)
    for one, other in zip(model.weights, model_together.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)
    assert not (alone / "together/repetition-00").exists()


def test_the_assembled_model_sums_the_repetitions(alone):
    """Scores by matrix products over the weights that each repetition's own folder holds."""
    ids, scores, bag, model = answers(alone, "alone", k=30)
    rows = scipy.sparse.csr_matrix((bag["weights"], bag["ids"], bag["row_splits"]), (60, 60))
    total = np.zeros((60, 30))
    for r in range(3):
        config = RunFolder(alone / f"alone/repetition-{r:02d}").config()
        one = build_model(config, num_features=60, num_labels=30, repetition=r)
        RunFolder(alone / f"alone/repetition-{r:02d}").load_weights(one)
        table, bias, kernel, head_bias = [w.numpy() for w in one.trainable_variables]
        logits = np.maximum(rows @ table + bias, 0) @ kernel[0] + head_bias[0]
        lookup = np.mod(murmurhash3_32(np.arange(30, dtype=np.int32), seed=r), 10)
        np.testing.assert_array_equal(model.head.lookups[r], lookup)
        total += logits[:, lookup]
    np.testing.assert_allclose(scores, np.take_along_axis(total, ids, 1), atol=1e-5)
    np.testing.assert_array_equal(ids, np.argsort(-total, axis=1, kind="stable"))


def bucket_totals(folder, run, repetitions):
    """(scores (60, 30), labels) of the dev examples: sums over some repetitions' own folders."""
    loaded = load_run(folder / run)
    data = ensure_prepared(loaded.config.data, folder / "prepared")
    batch = next(ShardSource(data, "dev").sequential(100))
    total = np.zeros((60, 30))
    for r in repetitions:
        one = build_model(loaded.config, num_features=60, num_labels=30, repetition=r)
        RunFolder(folder / run / f"repetition-{r:02d}").load_weights(one)
        logits = one(tf.nest.map_structure(tf.constant, batch["features"])).numpy()[:, 0]
        total += logits[:, np.mod(murmurhash3_32(np.arange(30, dtype=np.int32), seed=r), 10)]
    return total, batch["labels"]


def precision_at(k, total, labels):
    """P@k of scores (n, labels), ties by lower id."""
    best = np.argsort(-total, axis=1, kind="stable")[:, :k]
    return np.mean([np.isin(row, true).mean() for row, true in zip(best, labels, strict=True)])


@pytest.mark.parametrize("search", ["auto", pytest.param("approximate", marks=pytest.mark.slow)])
def test_precision_over_the_number_of_repetitions(alone, tmp_path, capsys, search):
    """Table, file and picture; each row by NumPy over the first repetitions."""
    options = ("--run", alone / "alone", "--prepared", alone / "prepared", "--split", "dev")
    more = ("--curve", tmp_path, "--search", search, "--k", "1,3", "--output", tmp_path)
    outcome = call(capsys, evaluate, *options, *more)
    assert outcome.code == 0, outcome.err
    assert "3 of 3 repetitions count: 0-2\n" in outcome.out
    lines = (tmp_path / "repetitions.csv").read_text().splitlines()
    assert lines[0] == "repetitions,P@1,P@3" and len(lines) == 4
    for count, line in enumerate(lines[1:], start=1):
        found = [float(value) for value in line.split(",")]
        total, labels = bucket_totals(alone, "alone", range(count))
        assert found[0] == count
        expected = [precision_at(k, total, labels) for k in (1, 3)]
        np.testing.assert_allclose(found[1:], expected, atol=1e-6)
        shown = "  ".join([f"{count:11}", *(f"{100 * value:7.2f}" for value in found[1:])])
        assert shown in outcome.out
    assert (tmp_path / "repetitions.svg").read_text().startswith("<svg ")
    last = read_json(tmp_path / "evaluation-dev.json")["metrics"]
    assert last["P@3"] == pytest.approx(found[2])


def results(loaded, prepared, search=None, k=7):
    """``SearchResult``s of the dev examples, batch by batch."""
    data = ensure_prepared(loaded.config.data, prepared)
    return list(Searcher(loaded.model, k, search).over(ShardSource(data, "dev"), 16))


def counted_calls(function, numbers):
    """The function, which adds what it is called with to a list."""

    def called(number):
        numbers.append(number)
        function(number)

    return called


@pytest.mark.parametrize(("search", "counted"), [(None, None), ("approximate", [0, 2])])
def test_streamed_equals_assembled(alone, monkeypatch, search, counted):
    """But for the order of sums, whatever the size of a block; each is loaded once for a block."""
    whole = load_run(alone / "alone", options=SearchOptions(repetitions=counted))
    expected = results(whole, alone / "prepared", search)
    for free, blocks in ((2**40, 1), (0, len(expected))):
        run = whole.with_options(streamed=True)
        network, count = run.model.network, len(counted or range(3))
        loads: list[int] = []
        space = SimpleNamespace(free=free)
        monkeypatch.setattr(streamed, "disk_usage", lambda _, space=space: space)
        monkeypatch.setattr(run.model, "load", counted_calls(run.model.load, loads))
        found = results(run, alone / "prepared", search)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.ids, other.ids)
            np.testing.assert_array_equal(one.labels, other.labels)
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6, atol=1e-6)
        assert loads == [*range(count)] * blocks and run.model.network is network


def test_damage_is_found_before_the_first_repetition_runs(alone, tmp_path):
    run = RunFolder(shutil.copytree(alone / "alone", tmp_path / "alone"))
    with (run / "repetition-02" / "model.weights.h5").open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"!")
    loaded = load_run(run.path, options=SearchOptions(streamed=True))
    with pytest.raises(UserError, match="repetition-02"):
        loaded.model.check_k(1)


def test_some_repetitions_count(alone, capsys, tmp_path):
    shutil.copytree(alone / "alone", tmp_path / "partly")
    for name in ("summary.json", "checksums.json", "model.weights.h5"):
        (tmp_path / "partly/repetition-01" / name).unlink()
    options = ("--run", tmp_path / "partly", "--prepared", alone / "prepared", "--split", "dev")
    problem = call(capsys, evaluate, *options).problem()
    assert "have no weights after 3 epochs: 1. " in problem and "with --repetitions" in problem
    outcome = call(capsys, evaluate, *options, "--repetitions", "0-2")
    assert outcome.code == 0, outcome.err
    assert "2 of 3 repetitions count: 0, 2; not trained: 1\n" in outcome.out
    record = read_json(tmp_path / "partly/evaluation-dev-repetitions-0_2.json")
    assert record["repetitions"] == [0, 2] and record["step"] is None
    found = record["metrics"]
    total, labels = bucket_totals(alone, "alone", [0, 2])
    assert found["P@5"] == pytest.approx(precision_at(5, total, labels), abs=1e-6)
    problem = call(capsys, evaluate, *options, "--repetitions", 1).problem()
    assert "none of the repetitions 1 is trained" in problem
    problem = call(capsys, evaluate, *options, "--repetitions", "2-3").problem()
    assert problem.startswith("--repetitions: the head has no repetition 3. Choose from 0 to 2")


def test_a_subset_is_no_evaluation_of_the_whole(alone, capsys, tmp_path):
    """Neither of the run, nor of the one it is compared with, whose files stay."""
    for name in ("one", "other"):
        shutil.copytree(alone / "alone", tmp_path / name)
    both = ("--run", tmp_path / "one", "--compare", tmp_path / "other")
    options = (*both, "--prepared", alone / "prepared", "--split", "dev")
    assert call(capsys, evaluate, *options, "--repetitions", "0-1").code == 0
    for name in ("one", "other"):
        names = [path.name for path in (tmp_path / name).glob("evaluation-*.json")]
        assert names == ["evaluation-dev-repetitions-0-1.json"]
    shutil.rmtree(tmp_path / "other")
    tree = read_json(tmp_path / "one/config.json")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    tree.update(head={"name": "dense"}, recipe={"name": "fit"})
    RunFolder(tmp_path / "other").write_config(parse_config(tree))
    checksums.add(tmp_path / "other", "config.json")
    outcome = call(capsys, evaluate, *options, "--repetitions", "0-1")
    assert "head 'dense' has no repetitions" in outcome.problem()
    assert "examples" not in outcome.out  # before the first run is measured


def test_a_repetition_of_fewer_epochs_does_not_count(alone, tmp_path):
    """Begun to be extended, none is as long as the run; a weights file says nothing."""
    run = RunFolder(shutil.copytree(alone / "alone", tmp_path / "alone"))
    config = run.config()
    training = config.training.model_copy(update={"epochs": config.training.epochs + 1})
    longer = config.model_copy(update={"training": training})
    part = RunFolder(run / "repetition-01")
    resuming.reopen(part)
    part.write_config(longer)
    with pytest.raises(CheckpointError, match=r"have no weights after 3 epochs: 1\."):
        load_run(run.path).model  # noqa: B018
    trained = SearchOptions(repetitions=())
    assert load_run(run.path, options=trained).count_of_repetitions() == (
        "2 of 3 repetitions count: 0, 2; not trained: 1"
    )
    resuming.reopen(run)
    run.write_config(longer)
    checksums.add(run.path, "config.json")
    with pytest.raises(CheckpointError, match=r"repetitions have no weights after 4 epochs: 0-2\."):
        load_run(run.path).model  # noqa: B018


def test_a_step_is_asked_of_the_repetitions_that_count(alone, tmp_path):
    run = RunFolder(shutil.copytree(alone / "alone", tmp_path / "alone"))
    for number in range(3):
        shutil.rmtree(run / f"repetition-{number:02d}/checkpoints", ignore_errors=True)
    (run / "repetition-00/checkpoints").mkdir()
    CheckpointFiles(run / "repetition-00/checkpoints", "ckpt", [tf.Variable([1.0])]).save(7)
    loaded = load_run(run.path, options=SearchOptions(step=7, repetitions=()))
    assert loaded.count_of_repetitions() == "1 of 3 repetitions count: 0; not trained: 1-2"
    with pytest.raises(
        CheckpointError, match=r"repetition-01: --step: there is no checkpoint of step 7"
    ):
        load_run(run.path, options=SearchOptions(step=7)).model  # noqa: B018


def test_repetitions_differ_and_share_the_records(alone):
    """Oracle (g): one preparation serves all; each folder is a run of its own."""
    (records,) = (alone / "prepared").iterdir()
    manifest = (records / "manifest.json").read_bytes()
    for r in range(3):
        folder = alone / f"alone/repetition-{r:02d}"
        assert (folder / "assets/manifest.json").read_bytes() == manifest
        assert (folder / "summary.json").exists()
    contents = {path.read_bytes() for path in alone.glob("alone/repetition-*/model.weights.h5")}
    assert len(contents) == 3


def test_one_repetition_of_another_config_is_refused(alone):
    with pytest.raises(
        CheckpointError, match=r"alone: this run was trained with other settings.*encoder"
    ):
        train(alone, "alone", 1, encoder={"hidden": [8]})
    assert (alone / "alone/repetition-01/summary.json").exists()


def test_fresh_throws_one_repetition_away(alone):
    before = {path: path.read_bytes() for path in alone.glob("alone/repetition-*/*.h5")}
    given = dataclasses.replace(context(alone, "alone", 1), fresh=True)
    marker = alone / "alone/repetition-01/report"
    marker.touch()
    Repetitions().run(given)
    assert not marker.exists()
    after = {path: path.read_bytes() for path in alone.glob("alone/repetition-*/*.h5")}
    assert before.keys() == after.keys()
    kept = [path for path in before if "repetition-01" not in str(path)]
    assert all(before[path] == after[path] for path in kept)


# Does what a training does, as far as its parent sees it: notes its options, then the behaviour.
STAND_IN = """#!/bin/bash
r=$(sed 's/.*--repetition \\([0-9]*\\).*/\\1/' <<<"$*")
cd "$FOLDER"; echo "$*" >arguments-$r; echo "output of $r"; echo "$OMP_NUM_THREADS" >threads-$r
echo "$TF_FORCE_GPU_ALLOW_GROWTH" >growth-$r
trap 'echo INT >>signals-$r; exit 130' INT
trap 'echo TERM >>signals-$r; sleep 0.3; echo saved >>signals-$r; exit 143' TERM
touch started-$r
[ -f behaviour-$r ] && . ./behaviour-$r
exit 0
"""


@pytest.fixture
def parent(alone, tmp_path, monkeypatch):
    """A function (recipe arguments) -> result of the recipe with stand-ins for children."""
    program = tmp_path / "python"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(program))
    given = dataclasses.replace(context(alone, "unused"), run=tmp_path / "run")
    return lambda **arguments: Repetitions(**arguments).run(given)


def test_the_parent_starts_each_child(parent, tmp_path, capsys):
    assert parent(parallel=2) == dict.fromkeys(range(3), "finished")
    out = capsys.readouterr().out
    assert f"3 repetitions, 2 at a time; logs: {tmp_path}/run/repetition-*.log" in out
    for r in range(3):
        found = (tmp_path / f"arguments-{r}").read_text()
        expected = f"-m tfxc.train --config {tmp_path}/run/config.json --repetition {r} --prepared "
        assert found.startswith(expected)
        assert (tmp_path / f"run/repetition-{r:02d}.log").read_text() == f"output of {r}\n"
        assert (tmp_path / f"threads-{r}").read_text() == f"{max(1, os.cpu_count() // 2)}\n"
        assert f"repetition {r} finished" in out


def test_the_parent_reports_that_all_are_extended(parent, alone, tmp_path, capsys):
    parent(parallel=2)
    assert "extended" not in capsys.readouterr().out
    given = context(alone, "unused", training={"epochs": 5})
    Repetitions(parallel=2).run(dataclasses.replace(given, run=tmp_path / "run"))
    line = "extended from 3 to 5 epochs: schedule 'linear' is computed for the new length\n"
    assert capsys.readouterr().out.startswith(line)
    assert RunFolder(tmp_path / "run").config().training.epochs == 5


def test_more_processes_than_repetitions(parent, capsys):
    parent(parallel=50)
    assert "3 repetitions, 3 at a time" in capsys.readouterr().out


def test_failing_children_are_named(parent, tmp_path, capsys):
    (tmp_path / "behaviour-0").write_text("exit 2")
    (tmp_path / "behaviour-2").write_text("kill -TERM $$")  # by somebody else: a failure
    with pytest.raises(UserError, match="2 of 3 repetitions failed: 0, 2") as caught:
        parent(parallel=1)
    for r in (0, 2):
        assert f"{tmp_path}/run/repetition-{r:02d}.log" in str(caught.value)
    assert "repetition-01.log" not in str(caught.value)
    out = capsys.readouterr().out
    assert "repetition 0 failed with exit code 2" in out and "repetition 1 finished" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_each_child_once(parent, tmp_path, number):
    for r in range(3):
        (tmp_path / f"behaviour-{r}").write_text("for i in {1..600}; do sleep 0.1; done")

    def interrupt():
        while not all((tmp_path / f"started-{r}").exists() for r in range(2)):
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Stopped, match=f"stopped by {number.name}; the repetitions") as caught:
        parent(parallel=2)
    assert caught.value.signal_number == number
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    expected = ["INT"] if number == signal.SIGINT else ["TERM", "saved"]
    for r in range(2):
        assert (tmp_path / f"signals-{r}").read_text().split() == expected
    assert not (tmp_path / "started-2").exists(), "no further repetition begins"


@pytest.mark.slow  # stand-ins for children: above; training in a process: commands/test_train.py
def test_real_children_skip_what_is_finished_and_name_what_fails(alone, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    head = {"name": "mach", "num_buckets": 10, "num_repetitions": 2}
    train(alone, "children", 0, head=head)
    weights = (alone / "children/repetition-00/model.weights.h5").read_bytes()
    blocked = alone / "children/repetition-01"
    blocked.write_text("a file in the folder's place")
    with pytest.raises(UserError, match=r"children: 1 of 2 repetitions failed: 1\. "):
        train(alone, "children", head=head)
    assert "repetition 1 failed with exit code 2" in capsys.readouterr().out
    assert "already finished" in (alone / "children/repetition-00.log").read_text()
    log = (alone / "children/repetition-01.log").read_text()
    assert "there is a file where a folder is to be written" in log and "Traceback" not in log
    assert (alone / "children/repetition-00/model.weights.h5").read_bytes() == weights
    with pytest.raises(CheckpointError, match=r"some repetitions have no weights after .*: 1"):
        answers(alone, "children")
    blocked.unlink()
    train(alone, "children", 1, head=head)
    assert answers(alone, "children")[0].shape == (60, 7)


def test_each_child_has_a_gpu_in_turn(parent, tmp_path, monkeypatch):
    gpus, shared = ["GPU:0", "GPU:1"], []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, on: shared.append((gpu, on))
    )
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert parent() == dict.fromkeys(range(3), "finished")
    found = [(tmp_path / f"arguments-{r}").read_text() for r in range(3)]
    assert [text.split(" --gpu ")[1][0] for text in found] == ["0", "1", "0"]
    assert {(tmp_path / f"growth-{r}").read_text() for r in range(3)} == {"true\n"}
    assert (tmp_path / "threads-0").read_text() == "8\n", "two at a time, one for each GPU"
    assert shared == [("GPU:0", True), ("GPU:1", True)]
