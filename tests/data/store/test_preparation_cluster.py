"""Preparation on a Dask cluster: the same bytes as without."""

import pytest

from tests.commands.calls import call
from tests.dask_workers import dask_workers
from tests.data.sources.examples import TFIDF, files_of, texts_set, write_jsonl
from tests.small_runs import config_tree
from tfxc.commands import prepare as command
from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError
from tfxc.core.storage.files import write_json
from tfxc.data.store import preparation
from tfxc.data.store.preparation import prepare, prepared_folder
from tfxc.parallel import cluster

SYNTHETIC = {"shape": "wn18rr", "examples": 300, "labels": 60}  # 15 features each


@pytest.fixture(scope="module")
def address():
    with dask_workers() as found:
        yield found


@pytest.fixture
def small_blocks(monkeypatch):
    for name, value in (("CHUNK_EXAMPLES", 50), ("MIN_BLOCKS", 1), ("MIN_BYTES", 1)):
        monkeypatch.setattr(preparation, name, value)


@pytest.mark.parametrize("texts", [False, True])
def test_the_same_bytes(address, tmp_path, monkeypatch, small_blocks, texts):
    """Of a source that workers read, and of a file, named from the command's current folder."""
    more = {"train": "builtin:synthetic", "reader_options": SYNTHETIC}
    if texts:
        write_jsonl(tmp_path / "train.jsonl", texts_set(330, words=15))
        monkeypatch.chdir(tmp_path)
        more = {"train": "train.jsonl", "text_features": TFIDF}
    settings = DataSettings(name="toy", dev=more["train"], shard_examples=90, **more)
    prepare(settings, tmp_path / "here", jobs=1)
    seen = []
    read = preparation.map_tasks
    monkeypatch.setattr(
        preparation, "map_tasks", lambda function, *rest: seen.append(function.__name__)
        or read(function, *rest),
    )  # fmt: skip
    with cluster(address):
        prepare(settings, tmp_path / "there")
    assert seen == ["read_block", "convert_block", "write_block_shard"] * 2
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_an_error_of_a_worker_leaves_nothing(address, tmp_path, small_blocks):
    path = write_jsonl(tmp_path / "train.jsonl", texts_set(330, words=15))
    settings = DataSettings(name="x", train=path, text_features=TFIDF | {"min_df": 500})
    with cluster(address), pytest.raises(DataError, match="Lower min_df"):
        prepare(settings, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["train.jsonl"]


def test_the_command(address, tmp_path, capsys, small_blocks):
    tree = config_tree(tmp_path, {"name": "bag_mlp", "hidden": [4]})
    tree["data"] = {"name": "toy", "train": "builtin:synthetic", "reader_options": SYNTHETIC}
    write_json(tmp_path / "config.json", tree)
    options = ("--config", tmp_path / "config.json", "--prepared", tmp_path / "prepared")
    outcome = call(capsys, command, *options, "--cluster", address)
    assert outcome.code == 0, outcome.err
    assert f"2 tasks at a time on the workers of {address}" in outcome.err
    settings = DataSettings(**tree["data"])
    prepare(settings, tmp_path / "here", jobs=1)
    assert files_of(prepared_folder(settings, tmp_path / "prepared")) == files_of(tmp_path / "here")
