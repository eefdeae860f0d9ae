"""What a run is finished on."""

import subprocess

from tfxc.core.environment import Environment, source_commit


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_versions_and_machine():
    import numpy

    found = Environment.now(["GPU one"])
    assert found.packages["numpy"] == numpy.__version__
    assert found.memory_bytes > 1 << 28
    shown = found.machine()
    assert shown["accelerators"] == "GPU one" and int(shown["threads"]) >= 1
    assert shown["memory"].endswith(" GB") and shown["processor"]


def test_the_commit_is_that_of_the_sources(tmp_path):
    git(tmp_path, "init", "-q")
    package, other = tmp_path / "package", tmp_path / "installed"
    for folder in (package, other):
        folder.mkdir()
        (folder / "code.py").write_text("1\n")
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "tag", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert source_commit(package) == commit
    (package / "code.py").write_text("2\n")
    assert source_commit(package) == f"{commit}-dirty"
    assert source_commit(other) is None, "not tracked"


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_commit() is None
