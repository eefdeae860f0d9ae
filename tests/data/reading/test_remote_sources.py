"""Data sets on remote storages: copied, prepared, evaluated."""

import json
import shutil
import urllib.request

import pytest

pytest.importorskip("fsspec", reason="the extra remote is not installed")

from tests import tiny
from tests.commands.calls import call
from tfxc.commands import evaluate, predict, train
from tfxc.core.settings import DataSettings
from tfxc.core.storage.remote import staged_path
from tfxc.data.reading.held_out import open_split
from tfxc.data.store.preparation import ensure_prepared

LINES = [{"text": f"a {name} here", "labels": [name]} for name in ("fox", "hen", "owl") * 8]
CONTENT = "".join(json.dumps(line) + "\n" for line in LINES).encode()


@pytest.fixture
def storage(memory):
    """A file system in memory with a training file."""
    memory.pipe("/bucket/train.jsonl", CONTENT)
    return memory


def settings(**options):
    data = {"name": "animals", "train": "memory://bucket/train.jsonl", "dev_share": 0.25}
    return DataSettings(**{**data, "text_features": {"name": "tfidf"}, **options})


def test_it_is_the_same_data_set_as_a_local_one(storage, tmp_path):
    (tmp_path / "train.jsonl").write_bytes(CONTENT)
    remote = ensure_prepared(settings(), tmp_path / "prepared")
    local = ensure_prepared(settings(train=str(tmp_path / "train.jsonl")), tmp_path / "prepared")
    shards = [sorted(p.read_bytes() for p in f.glob("*.tfrecord*")) for f in (remote, local)]
    assert shards[0] and shards[0] == shards[1]
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (remote, local)]
    sources = [manifest["sources"]["train"] for manifest in manifests]
    assert sources[0]["path"] == "memory://bucket/train.jsonl"
    assert sources[0]["sha256"] == sources[1]["sha256"]


def test_the_prepared_folder_needs_neither_storage_nor_copy(storage, tmp_path):
    folder = ensure_prepared(settings(), tmp_path / "prepared")
    shutil.rmtree(staged_path("memory://bucket/train.jsonl").parent)
    texts = [text for chunk in open_split(settings(), "dev").chunks() for text in chunk.texts]
    assert len(texts) == 8, "copied again for its texts"
    storage.rm("/bucket/train.jsonl")
    assert ensure_prepared(settings(), tmp_path / "prepared") == folder


def test_commands(storage, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BUCKET", "memory://bucket")
    data = {"name": "animals", "train": "${BUCKET}/train.jsonl", "dev": "${BUCKET}/train.jsonl",
            "text_features": {"name": "tfidf"}, "normalise": None}  # fmt: skip
    config = tiny.write_config(tmp_path, data=data, objective={"name": "softmax"})
    prepared = ("--prepared", tmp_path / "prepared")
    few = ("--set", "training.epochs=1", "--set", 'training.optimizer={"name": "sgd"}')
    assert call(capsys, train, "--config", config, *prepared, *few).code == 0
    outcome = call(
        capsys, evaluate, "--run", tmp_path / "run", "--data", "memory://bucket/train.jsonl"
    )
    assert outcome.code == 0 and "24 examples" in outcome.out, outcome.err
    outcome = call(capsys, predict, "--run", tmp_path / "run", "memory://bucket/train.jsonl")
    assert outcome.code == 0 and len(outcome.out.splitlines()) == 24
    problem = call(capsys, evaluate, "--run", tmp_path / "run", "--data", "memory://no.jsonl")
    assert "memory://no.jsonl: no such file or folder" in problem.problem()


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """A bucket of a server that speaks the protocol of S3, on this machine."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
                            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": address,
                            "TFXC_CACHE": str(tmp_path / "cache")}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        reset = urllib.request.Request(f"{address}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset).close()  # of an earlier server of this process
        s3fs.S3FileSystem.clear_instance_cache()
        storage = s3fs.S3FileSystem()
        storage.mkdir("bucket")
        storage.pipe("bucket/train.jsonl", CONTENT)
        yield storage
    finally:
        server.stop()


@pytest.mark.slow  # quick: the tests above, and those of runs in tests/commands
def test_s3(s3, tmp_path):
    found = ensure_prepared(settings(train="s3://bucket/train.jsonl"), tmp_path / "prepared")
    manifest = json.loads((found / "manifest.json").read_text())
    assert manifest["sources"]["train"]["bytes"] == len(CONTENT)
    s3.pipe("bucket/train.jsonl", CONTENT * 2)
    ensure_prepared(settings(train="s3://bucket/train.jsonl", seed=1), tmp_path / "prepared")
    assert staged_path("s3://bucket/train.jsonl").read_bytes() == CONTENT * 2


@pytest.mark.slow  # quick: tests/commands/test_remote_storage.py
def test_a_run_on_s3(s3, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, few = "s3://bucket/runs/animals", ("--set", "training.epochs=2")
    outcome = call(capsys, train, "s3://bucket/train.jsonl", "--run", run, *few)
    assert outcome.code == 0, outcome.err
    s3.invalidate_cache()
    assert s3.exists("bucket/runs/animals/summary.json")
    assert s3.exists("bucket/runs/animals/model.weights.h5")
    shutil.rmtree(tmp_path / "cache")  # as on another machine
    command = ("--run", run, "s3://bucket/train.jsonl", "--output", "s3://bucket/found.jsonl")
    outcome = call(capsys, predict, *command)
    assert outcome.code == 0, outcome.err
    s3.invalidate_cache()
    assert len(s3.cat("bucket/found.jsonl").splitlines()) == 24
    outcome = call(capsys, train, "s3://bucket/train.jsonl", "--run", "s3://absent/run")
    assert outcome.problem().startswith("s3://absent/run: no such file or folder")
    assert "step" not in outcome.out, "before the training"
    assert not s3.exists("absent"), "buckets are the user's to make"
