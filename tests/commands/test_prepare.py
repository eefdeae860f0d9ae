"""The command prepare."""

import json

import pytest

from tests import tiny
from tests.commands.calls import call, listing
from tfxc.commands import prepare


@pytest.fixture
def arguments(tmp_path):
    config = tiny.write_config(tmp_path, data={"shard_examples": 100})
    return ["--config", config, "--prepared", tmp_path / "prepared", "--jobs", 1]


@pytest.fixture
def folder(arguments, tmp_path, capsys):
    """The prepared folder."""
    assert call(capsys, prepare, *arguments).code == 0
    (folder,) = (tmp_path / "prepared").iterdir()
    return folder


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_tells_what_the_folder_holds(arguments, folder, capsys):
    outcome = call(capsys, prepare, *arguments)
    lines = outcome.out.splitlines()
    assert lines[0] == f"{folder}: 30 labels, 60 features (sparse), layout blocks"
    for split, examples, shards in (("train", 203, 3), ("dev", 60, 1)):
        rows = (folder.parents[1] / f"{split}.txt").read_text().splitlines()[1:]
        features = sum(row.count(":") for row in rows) / examples
        (line,) = [line for line in lines if line.split()[0] == split]
        assert line.split(maxsplit=1)[1].strip() == (
            f"{examples} examples, {shards} shards, {features:.1f} features and 2.00 labels each"
        )
    assert len(list(folder.glob("train*"))) == 3
    assert json.loads((folder / "manifest.json").read_text())["num_labels"] == 30


def test_is_done_once_unless_forced(arguments, folder, capsys):
    before, content = times(folder), {p.name: p.read_bytes() for p in folder.iterdir()}
    assert call(capsys, prepare, *arguments).code == 0
    assert times(folder) == before
    assert call(capsys, prepare, *arguments, "--force").code == 0
    assert all(times(folder)[name] > before[name] for name in before)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == content, "same input, same bytes"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_verify_finds_a_changed_byte(arguments, folder, capsys):
    assert "all checksums match" in call(capsys, prepare, *arguments, "--verify").out
    shard = sorted(folder.glob("train*"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    problem = call(capsys, prepare, *arguments, "--verify").problem()
    assert problem.startswith(f"{shard}: changed or damaged") and "Run prepare again" in problem
    assert call(capsys, prepare, *arguments, "--force", "--verify").code == 0


def test_verify_finds_a_missing_shard(arguments, folder, capsys):
    shard = sorted(folder.glob("train*"))[2]
    shard.unlink()
    problem = call(capsys, prepare, *arguments, "--verify").problem()
    assert problem.startswith(f"{shard}: ") and "no such file" in problem


def test_a_changed_source_is_reported(arguments, folder, tmp_path, capsys):
    before = listing(tmp_path)
    tiny.write_split(tmp_path / "dev.txt", 60, seed=7)
    problem = call(capsys, prepare, *arguments).problem()
    assert "dev.txt" in problem and "prepare" in problem
    assert listing(tmp_path).keys() == before.keys()
    assert call(capsys, prepare, *arguments, "--force").code == 0


@pytest.mark.parametrize(("jobs", "shown"), [("0", "0"), ("-1", "-1"), ("two", "'two'")])
def test_impossible_jobs(arguments, capsys, jobs, shown):
    outcome = call(capsys, prepare, *arguments[:-1], jobs)
    assert outcome.code == 2
    assert "--jobs: must be an integer of at least 1, not" in outcome.err
