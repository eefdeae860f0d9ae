"""Copies of remote files, from fsspec's file system in memory."""

import gzip
import os
import sys

import pytest

pytest.importorskip("fsspec", reason="the extra remote is not installed")
from fsspec.implementations.memory import MemoryFileSystem

from tfxc.core.errors import ConfigError, DataError, MachineError
from tfxc.core.storage.remote import is_remote, stage, staged_path


def opened(monkeypatch):
    """List of the files that are read from now on."""
    names, original = [], MemoryFileSystem._open

    def counting(self, path, *arguments, **options):
        names.append(path)
        return original(self, path, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "_open", counting)
    return names


def test_addresses():
    assert all(map(is_remote, ("s3://b/x", "gs://b/x", "memory://x", "gs:/b/x")))
    assert not any(map(is_remote, ("a/b", "/a", "./s3", "builtin:glyphs", "~/x", "${A}/x")))


def test_a_file_is_copied_once(memory, monkeypatch):
    content = os.urandom(20 << 20)
    memory.pipe("/b/a.bin", content)
    read = opened(monkeypatch)
    path = stage("memory://b/a.bin")
    assert path == staged_path("memory://b/a.bin") and path.name == "a.bin"
    assert path.read_bytes() == content
    assert stage("memory://b/a.bin") == path and read == ["/b/a.bin"]


def test_a_changed_file_is_copied_again(memory):
    memory.pipe("/a.txt", b"old")
    assert stage("memory://a.txt").read_bytes() == b"old"
    memory.pipe("/a.txt", b"new")  # of the same size
    assert stage("memory://a.txt").read_bytes() == b"new"


def test_folders(memory):
    for name in ("x/1.txt", "x/y/2.txt", ".hidden"):
        memory.pipe(f"/set/{name}", name.encode())
    path = stage("memory://set")
    found = {p.relative_to(path).as_posix(): p.read_text() for p in path.rglob("*") if p.is_file()}
    assert found == {"x/1.txt": "x/1.txt", "x/y/2.txt": "x/y/2.txt"}
    memory.rm("/set/x/1.txt")
    memory.pipe("/set/z.txt", b"3")
    stage("memory://set")
    assert sorted(p.name for p in path.rglob("*.txt")) == ["2.txt", "z.txt"]


def test_what_is_cut_short_is_not_kept(memory, monkeypatch):
    memory.pipe("/a.txt", b"0123456789")
    original = memory.info
    monkeypatch.setattr(
        MemoryFileSystem, "info", lambda self, path, **_: {**original(path), "size": 11}
    )
    with pytest.raises(DataError, match=r"memory://a.txt: 10 of 11 bytes arrived\."):
        stage("memory://a.txt")
    folder = staged_path("memory://a.txt").parent
    assert not folder.exists() or not list(folder.iterdir())


def test_a_broken_connection_leaves_the_old_copy(memory, monkeypatch):
    memory.pipe("/a.txt", b"old")
    path = stage("memory://a.txt")
    memory.pipe("/a.txt", b"newer")

    def broken(self, path, *_, **__):
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(MemoryFileSystem, "_open", broken)
    with pytest.raises(MachineError, match=r"memory://a.txt: cannot read: reset by peer"):
        stage("memory://a.txt")
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.txt", "remote.json"]


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("memory://absent.txt", DataError, "no such file or folder"),
        ("nosuch://b/x", ConfigError, "fsspec knows no storage 'nosuch'"),
    ],
)
def test_wrong_addresses(memory, address, error, message):
    with pytest.raises(error, match=message) as caught:
        stage(address)
    assert str(caught.value).startswith(address)


def test_without_the_package(memory, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"data.train: the package fsspec .*tfxc\[remote\]"):
        stage("memory://a.txt", "data.train")


def test_a_storage_whose_package_is_missing(memory, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigError, match="the package that reads gs:// is not installed"):
        stage("gs://bucket/a.txt")


def test_compressed_names_are_kept(memory):
    memory.pipe("/a.jsonl.gz", gzip.compress(b"{}"))
    assert stage("memory://a.jsonl.gz").name == "a.jsonl.gz"
