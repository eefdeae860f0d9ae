"""Killed while a run is taken back to an earlier checkpoint: the run can still be read and ends."""

import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import train
from tfxc.core.errors import CheckpointError
from tfxc.core.storage.reading import read_json
from tfxc.runs import resuming
from tfxc.runs.checkpoint_files import CheckpointFiles
from tfxc.runs.folder import RunFolder
from tfxc.runs.loaded import load_run

KEPT = {"epochs": 2, "keep_checkpoints": 3}  # 26 steps; those of 14, 21 and 26 are kept


class Stop(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with runs that have kept checkpoints, of the last weights and of the best."""
    folder = tmp_path_factory.mktemp("back")
    for keep in ("last", "best"):
        tiny.train(folder, keep, seed=1, training={**KEPT, "keep": keep})
    return folder


def killed_before(monkeypatch, run, name):
    """Goes back to step 14 until a file of that name is to be removed."""
    unlink = Path.unlink

    def dying(path, *arguments, **options):
        if path.name == name:
            raise Stop
        unlink(path, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Path, "unlink", dying)
        resuming.drop_later(run, 14)


def test_killed_before_the_weights_are_removed(folder, tmp_path, monkeypatch):
    run = RunFolder(shutil.copytree(folder / "last", tmp_path / "run"))
    assert resuming.check_go_back(run, 14, may_drop=True)
    killed_before(monkeypatch, run, "model.weights.h5")
    run.check_files()
    assert run.summary() is None and (run / "model.weights.h5").exists()


@pytest.mark.parametrize("keep", ["last", "best"])
def test_killed_before_the_newest_checkpoint_is_removed(
    folder, tmp_path, capsys, monkeypatch, keep
):
    """The weights are gone, and a run that is then at its end has to write them."""
    run = RunFolder(shutil.copytree(folder / keep, tmp_path / "run"))
    best = read_json(run / "summary.json").get("best_step", 0)
    assert keep == "last" or best > 14
    killed_before(monkeypatch, run, "ckpt-26.json")
    run.check_files()
    assert run.summary() is None and not (run / "model.weights.h5").exists()
    config = tiny.write_config(folder, seed=1, training={**KEPT, "keep": keep})
    prepared = ("--prepared", folder / "prepared")
    assert call(capsys, train, "--config", config, *prepared, "--set", f"run={run.path}").code == 0
    assert run.summary()["steps"] == 26
    run.check_files()
    assert load_run(run.path).model.built


def test_a_damaged_newest_checkpoint_says_nothing_of_the_best_weights(folder, tmp_path):
    """The summary says what they are of; where there is none either, they go."""
    for known in (True, False):
        run = RunFolder(shutil.copytree(folder / "best", tmp_path / str(known)))
        (run / "checkpoints/ckpt-26.json").write_text("{}")
        best = run.summary()["best_step"]
        if not known:
            resuming.reopen(run)
        resuming.drop_later(run, 21)
        assert (run / "model.weights.h5").exists() == (known and best <= 21)


@pytest.mark.parametrize("fault", ["damaged", "missing"])
def test_shards_are_checked_before_anything_is_dropped(folder, tmp_path, fault):
    run = RunFolder(shutil.copytree(folder / "last", tmp_path / "run"))
    for number in (0, 1):
        shard = CheckpointFiles(run / "checkpoints", f"shard-{number}-of-2", [tf.Variable([1.0])])
        shard.save(14)
    assert resuming.check_go_back(run, 14, may_drop=True)
    if fault == "missing":
        (run / "checkpoints/shard-1-of-2-14.json").unlink()
    else:
        (data,) = run.path.glob("checkpoints/shard-1-of-2-14.data*")
        data.write_bytes(data.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=rf"shard-1-of-2-14.* {fault}.*another step"):
        resuming.check_go_back(run, 14, may_drop=True)
