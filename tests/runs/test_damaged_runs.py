"""Damaged records, checkpoints and weights, and a full disk: named in one line, nothing lost."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from tests import tiny
from tests.commands.calls import call, listing
from tests.folders import record_again
from tests.small_runs import make_run
from tests.training.test_resume import Killed
from tfxc.commands import evaluate, prepare, train
from tfxc.core.errors import DataError
from tfxc.core.storage import checksums
from tfxc.core.storage.ownership import MARKER
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import load_run
from tfxc.runs.writer import RunWriter
from tfxc.training.reporting import Reporter


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder for the records of the tiny set, shared by the tests that only read them."""
    return tmp_path_factory.mktemp("prepared")


def command(folder, prepared=None, **changes):
    config = tiny.write_config(folder, **{"training": {"epochs": 0.2}, **changes})
    return ["--config", config, "--prepared", prepared or folder / "prepared"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(cut, "bytes instead of"), (flip, "damaged"), (lambda p: p.unlink(), "no such file")],
)
def test_damaged_records_are_named(tmp_path, capsys, damage, message):
    arguments = command(tmp_path)
    assert call(capsys, prepare, *arguments).code == 0
    (shard,) = (tmp_path / "prepared").glob("*/train*")
    damage(shard)
    problem = call(capsys, train, *arguments).problem()
    assert problem.startswith(f"{shard}") and message in problem and "prepare" in problem
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["", "{}", '{"format_version": 99}'])
def test_a_damaged_manifest_is_named(tmp_path, capsys, content):
    arguments = command(tmp_path)
    assert call(capsys, prepare, *arguments).code == 0
    (manifest,) = (tmp_path / "prepared").glob("*/manifest.json")
    manifest.write_text(content)
    problem = call(capsys, train, *arguments).problem()
    assert problem.startswith(str(manifest)) and "Run prepare again" in problem


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folder of a training that was killed behind its checkpoint of step 7."""
    folder = tmp_path_factory.mktemp("killed")

    class Killed(BaseException):
        pass

    def fault(trainer):
        check = trainer._check_finite

        def dying(step, loss):
            check(step, loss)
            if step == 9:
                raise Killed

        trainer._check_finite = dying

    with pytest.raises(Killed):
        tiny.train(folder, fault=fault, training={"epochs": 1})
    assert (folder / "run/checkpoints/ckpt-7.index").exists()
    return folder


@pytest.fixture
def stopped(killed, tmp_path):
    """Command line of that training, whose run a test may change."""
    shutil.copytree(killed / "run", tmp_path / "run")
    return [*command(killed, training={"epochs": 1}), "--set", f"run={tmp_path / 'run'}"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path, stopped, capsys):
    other = tmp_path / "other"
    tiny.train(other, training={"epochs": 0.5, "keep_checkpoints": 2}, encoder={"hidden": [8]})
    for path in (tmp_path / "run/checkpoints").iterdir():
        path.unlink()
    shutil.copytree(other / "run/checkpoints", tmp_path / "run/checkpoints", dirs_exist_ok=True)
    problem = call(capsys, train, *stopped).problem()
    assert problem.startswith(f"{tmp_path / 'run/checkpoints/ckpt-7'}: does not contain this")
    assert "--fresh" in problem
    assert call(capsys, train, *stopped, "--fresh").code == 0


def test_a_damaged_checkpoint_is_named(tmp_path, stopped, capsys):
    for path in (tmp_path / "run/checkpoints").glob("ckpt-7.data*"):
        cut(path)
    outcome = call(capsys, train, *stopped)
    assert outcome.code == 2 and "ckpt-7: skipped" not in outcome.err
    assert "no checkpoint is intact: ckpt-7.data-00000-of-00001 has" in outcome.err
    assert "--fresh" in outcome.err


def test_weights_of_another_model_are_refused(tmp_path, prepared, capsys):
    arguments = command(tmp_path, prepared)
    assert call(capsys, train, *arguments).code == 0
    tree = json.loads((tmp_path / "run/config.json").read_text())
    tree["encoder"]["hidden"] = [8]
    (tmp_path / "run/config.json").write_text(json.dumps(tree))
    problem = call(capsys, evaluate, "--run", tmp_path / "run", "--prepared", prepared).problem()
    assert problem.startswith(f"{tmp_path / 'run/config.json'}: ") and "Restore it" in problem
    record_again(tmp_path / "run")
    problem = call(capsys, evaluate, "--run", tmp_path / "run", "--prepared", prepared).problem()
    assert problem.startswith(f"{tmp_path / 'run/model.weights.h5'}: does not fit the model")


def test_full_disk_at_a_checkpoint(tmp_path, stopped, capsys, monkeypatch):
    folder = tmp_path / "run/checkpoints"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(self, path):
        Path(f"{path}_temp").mkdir()
        Path(f"{path}.data-00000-of-00001").write_bytes(b"half")
        raise tf.errors.ResourceExhaustedError(None, None, "ckpt; No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tf.train.Checkpoint, "write", full)
        problem = call(capsys, train, *stopped).problem(code=1)
    assert problem.startswith(f"{folder}: cannot write: the disk is full. Free some")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    outcome = call(capsys, train, *stopped)
    assert outcome.code == 0 and "resumed at step 7" in outcome.out


# The log is written as metrics.jsonl is.
@pytest.mark.parametrize(
    "name",
    [".new-model.weights.h5", "metrics.jsonl", pytest.param("log.txt", marks=pytest.mark.slow)],
)
def test_full_disk_at_other_files(tmp_path, stopped, capsys, monkeypatch, name):
    """/dev/full answers every write as a full disk does."""
    run, begin = tmp_path / "run", Reporter.__init__

    def begin_on_a_full_disk(self, *arguments):
        begin(self, *arguments)  # reads metrics.jsonl, and /dev/full has no end
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to("/dev/full")

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "__init__", begin_on_a_full_disk)
        problem = call(capsys, train, *stopped).problem(code=1)
    file = run / name.removeprefix(".new-")
    assert problem.startswith(f"{file}: cannot write: the disk is full. Free some space")
    assert not (run / "model.weights.h5").exists() and not (run / "summary.json").exists()
    (run / name).unlink(missing_ok=True)
    assert [path.name for path in run.glob(".*")] == [MARKER]
    outcome = call(capsys, train, *stopped)
    assert outcome.code == 0 and "resumed at step" in outcome.out


def test_a_run_folder_in_an_impossible_place(tmp_path, prepared, capsys):
    (tmp_path / "file").write_text("x")
    arguments = command(tmp_path, prepared, run=str(tmp_path / "file"))
    before = listing(tmp_path)
    problem = call(capsys, train, *arguments).problem()
    assert problem.startswith(f"{tmp_path / 'file'}: there is a file where")
    assert listing(tmp_path) == before


def test_checksums_may_vanish_while_another_fold_begins(tmp_path, monkeypatch):
    """A fold removes those of the common run, to write them anew, while another compares."""
    run = RunFolder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    compare = checksums.check

    def removed_and_compared(folder, *arguments, **options):
        (folder / checksums.FILE).unlink()
        compare(folder, *arguments, **options)

    monkeypatch.setattr(checksums, "check", removed_and_compared)
    checksums.record(tmp_path)
    run.check_files(required=False)
    (tmp_path / "summary.json").write_text("{}")
    checksums.record(tmp_path)
    with pytest.raises(DataError, match="the folder is incomplete"):
        run.check_files()


@pytest.mark.parametrize("last", ["checksums.json", "environment.json", "summary.json"])
def test_killed_while_another_summary_is_written(tmp_path, monkeypatch, last):
    run = make_run(tmp_path / "run")
    RunWriter(run).write_summary({"dev": {"P@1": 0.5}})
    replace = os.replace

    def dies_behind(source, target, **options):
        replace(source, target, **options)
        if Path(target).name == last:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", dies_behind)
        RunWriter(run).write_summary({"dev": {"P@1": 0.6}})
    load_run(run).folder.verify()
    RunWriter(run).write_summary({"dev": {"P@1": 0.7}})
    assert load_run(run).folder.summary()["dev"]["P@1"] == 0.7
    load_run(run).folder.verify()
