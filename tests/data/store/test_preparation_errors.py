"""What a failing preparation says, and that it leaves nothing behind."""

import errno
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from tests.data.sources.examples import TFIDF, files_of, sparse_set, write_jsonl, write_xc
from tfxc.core.config import DataSettings
from tfxc.core.errors import DataError, UserError
from tfxc.data.examples.chunk import Chunk
from tfxc.data.examples.kinds import DENSE, SPARSE
from tfxc.data.store.conversion import Converter
from tfxc.data.store.preparation import ensure_prepared, prepare
from tfxc.data.store.records import shard_writer


def test_one_message_for_all_missing_files(tmp_path, monkeypatch):
    monkeypatch.delenv("TOY_DATA", raising=False)
    settings = DataSettings(
        name="toy", train="${TOY_DATA}/train.txt", dev="~/nowhere-at-all/dev.txt",
        where="The toy set of example.org, unpacked into one folder.",
    )  # fmt: skip
    with pytest.raises(DataError) as caught:
        prepare(settings, tmp_path / "out")
    text = str(caught.value)
    assert text.startswith("data.train, data.dev: ")
    for part in (
        "${TOY_DATA}/train.txt (train)",
        f"{Path.home()}/nowhere-at-all/dev.txt (dev)",
        "The toy set of example.org, unpacked into one folder.",
        "set data.train to its path or the environment variable TOY_DATA (TOY_DATA is not set)",
    ):
        assert part in text
    monkeypatch.setenv("TOY_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"no file {tmp_path}/train.txt"):
        prepare(settings, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def failing_sets(folder):
    empty = "0 30 12\n"
    unlabelled = "2 30 12\n 1:1.0\n 2:1.0\n"
    out_of_range = "1 30 12\n12 1:1.0\n"
    for name, text in (("empty", empty), ("unlabelled", unlabelled), ("range", out_of_range)):
        (folder / f"{name}.txt").write_text(text)
    write_jsonl(folder / "texts.jsonl", [("one two", ["a"])])
    write_jsonl(folder / "nothing.jsonl", [])
    np.savez(folder / "nan.npz", features=np.float32([[1], [np.nan]]), labels=np.array([0, 1]))
    return {
        "empty.txt": (None, "the training split is empty"),
        "unlabelled.txt": (None, "no example of the training split has a label"),
        "range.txt": (None, "the label id 12 is not one of 0 to 11"),
        "nan.npz": (None, "row 2"),
        "texts.jsonl": (None, "the examples have no features, but texts"),
        "nothing.jsonl": (TFIDF, "the training split is empty"),
        "fine.txt": (TFIDF, "the examples have no texts, but features"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "empty.txt",
        "unlabelled.txt",
        "range.txt",
        "nan.npz",
        "texts.jsonl",
        "nothing.jsonl",
        "fine.txt",
    ],
)
def test_impossible_data_is_refused_and_leaves_nothing(tmp_path, name):
    sources, root = tmp_path / "sources", tmp_path / "root"
    sources.mkdir()
    root.mkdir()
    write_xc(sources / "fine.txt", *sparse_set(), 12)
    text_features, message = failing_sets(sources)[name]
    settings = DataSettings(name="toy", train=str(sources / name), text_features=text_features)
    with pytest.raises(DataError, match=message) as caught:
        ensure_prepared(settings, root)
    assert name in str(caught.value)
    assert list(root.iterdir()) == []


def test_an_empty_dev_file_is_refused(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [("one two", ["a"]), ("two", ["b"])])
    (tmp_path / "dev.jsonl").write_text("")
    dev = str(tmp_path / "dev.jsonl")
    settings = DataSettings(
        name="toy", train=str(tmp_path / "train.jsonl"), dev=dev, text_features=TFIDF
    )
    with pytest.raises(DataError, match=r"the dev split is empty.* or remove data\.dev"):
        ensure_prepared(settings, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_dev_must_have_the_features_and_label_range_of_train(tmp_path):
    matrix, labels = sparse_set()
    train = write_xc(tmp_path / "train.txt", matrix, labels, 12)
    wide = scipy.sparse.csr_matrix(np.eye(2, 40, 35, dtype=np.float32))
    dev = write_xc(tmp_path / "dev.txt", wide, [[1], [2]], 12)
    settings = DataSettings(name="toy", train=train, dev=dev)
    with pytest.raises(
        DataError, match=r"dev\.txt: these are 37 sparse features, .* has 30 sparse"
    ):
        prepare(settings, tmp_path / "out")
    write_xc(tmp_path / "dev.txt", matrix[:1], [[15]], 20)
    with pytest.raises(
        DataError, match=r"dev\.txt: example .* has label 15, but label ids go from 0 to 11"
    ):
        prepare(settings, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev.txt", "train.txt"]


@pytest.mark.parametrize("dense", [False, True])
def test_features_that_are_not_finite_are_named(dense):
    """Readers refuse them too; a reader that does not must not slip through."""
    none = SimpleNamespace(convert=lambda labels: (np.zeros(5, int), np.zeros(0, int)))
    good, bad = np.ones((4, 3), np.float32), np.ones((4, 3), np.float32)
    bad[2, 1] = np.inf
    chunks = [
        Chunk(labels=[[0]] * 4, features=part if dense else scipy.sparse.csr_matrix(part))
        for part in (good, bad)
    ]
    converter = Converter(numbering=none, num_features=3, kind=DENSE if dense else SPARSE)
    with pytest.raises(DataError, match="source: example 7 has a feature that is NaN"):
        list(converter.rows(chunks, "source"))


@pytest.mark.parametrize("victim", ["write_shard", "checksum"])
def test_full_disk_is_reported_and_leaves_nothing(sparse_settings, tmp_path, monkeypatch, victim):
    original, calls = getattr(shard_writer, victim), []

    def write(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(shard_writer, victim, write)
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(UserError, match=r"the disk is full.*Free some space"):
        ensure_prepared(sparse_settings, root)
    assert len(calls) == 4 and list(root.iterdir()) == []


def test_failed_preparation_keeps_the_former_folder(sparse_settings, tmp_path, monkeypatch):
    prepare(sparse_settings, tmp_path / "out")
    before = files_of(tmp_path / "out")
    Path(sparse_settings.train).write_text("1 30 12\nnonsense\n")
    with pytest.raises(DataError):
        prepare(sparse_settings, tmp_path / "out")
    assert files_of(tmp_path / "out") == before
