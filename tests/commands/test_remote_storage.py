"""Commands on runs, outputs and data of remote storages."""

import io
import json
import shutil

import pytest

pytest.importorskip("fsspec", reason="the extra remote is not installed")
import h5py
import numpy as np

from tests import tiny
from tests.commands.calls import call
from tests.data.reading.inspection.test_contents import pairs
from tfxc.commands import evaluate, info, init, predict, train
from tfxc.core.storage.mirror import mirror_path
from tfxc.data.reading.inspection.completion import load_config

RUN = "memory://bucket/runs/mine"


@pytest.fixture
def storage(memory, monkeypatch, tmp_path):
    """A file system in memory with a training file."""
    monkeypatch.chdir(tmp_path)
    memory.pipe("/bucket/train.csv", ("text,label\n" + "\n".join(pairs(94)) + "\n").encode())
    return memory


def weights(storage):
    """The arrays of the weights of the run on the storage, by name."""
    found = {}
    content = io.BytesIO(storage.cat("/bucket/runs/mine/model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(
            lambda name, item: found.update(
                {name: item[()]} if isinstance(item, h5py.Dataset) else {}
            )
        )
    return found


def test_a_file_a_run_and_answers_on_a_storage(storage, capsys, tmp_path, monkeypatch):
    command = ("memory://bucket/train.csv", "--preset", "fast", "--run", RUN)
    outcome = call(capsys, train, *command)
    assert outcome.code == 0, outcome.err
    assert f"run: {RUN}" in outcome.out and f"{RUN}: " in outcome.err
    there = {name.removeprefix("/bucket/runs/mine/") for name in storage.find("/bucket/runs/mine")}
    assert there >= {".tfxc.json", "config.json", "summary.json", "checksums.json"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "prepared"]
    assert "already finished" in call(capsys, train, *command).out

    shutil.rmtree(tmp_path / "cache")  # as on another machine
    (tmp_path / "new.txt").write_text("red blue fox sea rose number 0\n")
    output = ("--output", "memory://bucket/answers.jsonl")
    assert call(capsys, predict, "--run", RUN, "new.txt", *output).code == 0
    assert json.loads(storage.cat("/bucket/answers.jsonl"))["labels"][0] == "animal"
    (tmp_path / "true.csv").write_text("text,label\nred blue fox sea rose number 0,animal\n")
    table = "memory://bucket/answers.csv"
    assert call(capsys, predict, "--run", RUN, "true.csv", "--output", table).code == 0
    assert storage.cat("/bucket/answers.csv").startswith(b"text,label,label_1,score_1,")
    compared = ("--predictions", table, "--truth", "true.csv", "--k", "1", "--json")
    assert json.loads(call(capsys, evaluate, *compared).out)["metrics"]["P@1"] == 1
    measured = call(capsys, evaluate, "--run", RUN, "--json")
    assert json.loads(measured.out)["examples"] == 94, measured.err
    here = {path for path in mirror_path(RUN).rglob("*") if path.is_file()}
    assert len(storage.find("/bucket/runs/mine")) == len(here)
    storage.rm(["/bucket/answers.jsonl", "/bucket/answers.csv"])
    assert call(capsys, train, *command, "--set", "seed=1", "--fresh").code == 0
    names = {path.relative_to(mirror_path(RUN)).as_posix() for path in here if path.exists()}
    assert {name.removeprefix("/bucket/runs/mine/") for name in storage.store
            if name.startswith("/bucket/runs/")} == names  # fmt: skip
    shown = call(capsys, info, "--run", RUN, "--verify")
    assert shown.code == 0 and f" in {RUN}" in shown.out and str(tmp_path) not in shown.out


def test_a_stopped_training_goes_on_elsewhere(storage, capsys, tmp_path):
    # Adam would be compiled again, into the new cache.
    training = {"epochs": 2, "keep_checkpoints": 2, "optimizer": {"name": "sgd"}}
    path = tiny.write_config(tmp_path, run=RUN, training=training)
    command = (train, "--config", path, "--prepared", tmp_path / "prepared")
    assert call(capsys, *command).code == 0
    expected = weights(storage)
    (checkpoint, *_) = sorted(storage.glob("/bucket/runs/mine/checkpoints/ckpt-*.json"))
    # As it is when a machine is lost after the first of two epochs.
    kept = checkpoint.removesuffix("json")
    for name in storage.find("/bucket/runs/mine"):
        late = "/checkpoints/" in name and not name.startswith(kept)
        if late or name.endswith(("summary.json", "model.weights.h5", "checksums.json")):
            storage.rm_file(name)
    shutil.rmtree(tmp_path / "cache")
    again = call(capsys, *command)
    assert again.code == 0 and "resum" in again.out, again.err
    found = weights(storage)
    assert found.keys() == expected.keys() and len(found) >= 4
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6)


def test_a_config_is_written_there(storage, capsys, tmp_path):
    command = ("memory://bucket/train.csv", "--output", "memory://bucket/my.json", "--run", RUN)
    assert call(capsys, init, *command).code == 0
    (tmp_path / "my.json").write_bytes(storage.cat("/bucket/my.json"))
    config = load_config(tmp_path / "my.json")
    assert config.run == RUN and config.data.train == "memory://bucket/train.csv"
    assert "this file already exists" in call(capsys, init, *command).problem()


def test_messages_name_the_address(storage, capsys, tmp_path):
    problem = call(capsys, evaluate, "--run", "memory://bucket/absent").problem()
    assert problem.startswith("memory://bucket/absent") and str(tmp_path) not in problem
    storage.pipe("/bucket/bad.csv", b"text,label\na,x\nb,y,z\n")
    problem = call(capsys, train, "memory://bucket/bad.csv").problem()
    assert problem.startswith("memory://bucket/bad.csv:3: the row has 3 cells")


def test_several_machines_need_a_shared_folder(storage, capsys, tmp_path, monkeypatch):
    task = {"type": "worker", "index": 0}
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    training = {"strategy": "multi_worker"}
    path = tiny.write_config(tmp_path, run=RUN, training=training)
    problem = call(capsys, train, "--config", path, "--prepared", tmp_path / "p").problem()
    assert problem.startswith("run: 'memory://") and "all machines share" in problem
