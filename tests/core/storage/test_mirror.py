"""Copies of remote folders that are written here, with fsspec's file system in memory."""

import resource
import shutil
import subprocess
import sys
import time

import pytest

pytest.importorskip("fsspec", reason="the extra remote is not installed")
from fsspec.implementations.memory import MemoryFileSystem

from tfxc.commands import search
from tfxc.core.command_options import parse
from tfxc.core.errors import ConfigError, DataError, MachineError
from tfxc.core.storage import mirror
from tfxc.core.storage.locks import locked
from tfxc.core.storage.mirror import mirror_path, mirrored, mirrors

ADDRESS = "memory://bucket/runs/mine"


def there(memory):
    return {name.removeprefix("/bucket/runs/mine"): memory.cat(name) for name in memory.store}


def write(path, **files):
    for name, text in files.items():
        file = path / name.replace("__", "/").replace("_json", ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "never true"
        time.sleep(0.01)


def test_what_is_written_here_is_there_at_the_end(memory, capsys):
    with mirrors():
        path = mirrored(ADDRESS, "run")
        assert path == mirror_path(ADDRESS) and path.name == "mine" and not path.exists()
        write(path, a="1", ckpt__b="2")
        (path / ".tfxc.json").write_text("{}")
        (path / ".a.new-12345678").write_text("half")
        assert not there(memory)
    assert there(memory) == {"/a": b"1", "/ckpt/b": b"2", "/.tfxc.json": b"{}"}
    assert f"{ADDRESS}: 3 files written" in capsys.readouterr().err
    with mirrors():
        (mirrored(ADDRESS, "run") / "a").unlink()
    assert sorted(there(memory)) == ["/.tfxc.json", "/ckpt/b"]


def test_a_full_disk_is_no_fault_of_the_storage(memory):
    """A limit on the size of files refuses to write the copy."""
    memory.pipe("/bucket/runs/mine/a", b"x" * 100_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        message = "cannot write: the file would be too large"
        with pytest.raises(MachineError, match=message), mirrors():
            mirrored(ADDRESS, "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nothing_is_copied_twice(memory, monkeypatch, capsys):
    with mirrors():
        write(mirrored(ADDRESS, "run"), a="1", b="2")
    monkeypatch.setattr(MemoryFileSystem, "_open", None)
    monkeypatch.setattr(MemoryFileSystem, "put_file", None)
    capsys.readouterr()
    with mirrors():
        assert (mirrored(ADDRESS, "run") / "a").read_text() == "1"
    assert not capsys.readouterr().err


def test_another_machine_goes_on(memory, monkeypatch, tmp_path):
    with mirrors():
        write(mirrored(ADDRESS, "run"), a="1", b="2")
    monkeypatch.setenv("TFXC_CACHE", str(tmp_path / "other"))
    with mirrors():
        path = mirrored(ADDRESS, "run")
        assert path.is_relative_to(tmp_path / "other") and (path / "a").read_text() == "1"
        write(path, a="new", c="3")
        (path / "b").unlink()
    monkeypatch.setenv("TFXC_CACHE", str(tmp_path / "cache"))
    with mirrors():
        path = mirrored(ADDRESS, "run")
        assert {file.name: file.read_text() for file in path.iterdir()} == {"a": "new", "c": "3"}


@pytest.mark.parametrize("what", ["mine", "mine/a", "."])
def test_a_cache_that_was_cleaned_removes_nothing_there(memory, what):
    with mirrors():
        path = mirrored(ADDRESS, "run")
        write(path, a="1", b="2")
    removed = path.parent / what
    removed.unlink() if removed.is_file() else shutil.rmtree(removed)
    with mirrors():
        assert (mirrored(ADDRESS, "run") / "a").read_text() == "1"
    assert there(memory) == {"/a": b"1", "/b": b"2"}


def test_a_single_file(memory):
    with mirrors():
        mirrored("memory://bucket/x.json", "--output").write_text("{}")
    assert memory.cat("/bucket/x.json") == b"{}"
    memory.pipe("/bucket/x.json", b"[1]")
    with mirrors():
        assert mirrored("memory://bucket/x.json", "--output").read_text() == "[1]"


def test_a_name_with_temp_in_it_is_copied(memory):
    """But not what TensorFlow has not finished."""
    address = "memory://bucket/runs/room_temperature"
    with mirrors():
        write(mirrored(address, "run"), a="1", checkpoints__b="2", checkpoints__c_temp__part="3")
    assert sorted(memory.find("/bucket/runs/room_temperature")) == [
        f"/bucket/runs/room_temperature/{name}" for name in ("a", "checkpoints/b")
    ]


@pytest.mark.parametrize("address", ["memory://bucket/runs/..", "memory://bucket/runs/."])
def test_a_copy_is_in_a_folder_of_its_own(address):
    assert mirror_path(address).name == "run"


def test_a_change_on_both_sides_is_refused(memory):
    with mirrors():
        path = mirrored(ADDRESS, "run")
        write(path, a="1", b="2")
    memory.pipe("/bucket/runs/mine/a", b"there")
    with (
        pytest.raises(DataError, match=f"{ADDRESS}: .* has changed both there and in its copy"),
        mirrors(),
    ):
        write(path, a="here")
        mirrored(ADDRESS, "run")
    assert there(memory)["/a"] == b"there" and (path / "a").read_text() == "here"


@pytest.mark.parametrize(
    ("there_now", "here_now"),
    [
        pytest.param(b"new", "new", id="killed after copying, before it could note that"),
        pytest.param(b"1\n2\n", "1\n2\n3\n", id="a log, killed while larger files were sent"),
    ],
)
def test_what_was_sent_before_a_kill_is_no_conflict(memory, there_now, here_now):
    with mirrors():
        path = mirrored(ADDRESS, "run")
        write(path, log="1\n")
    memory.pipe("/bucket/runs/mine/log", there_now)
    write(path, log=here_now)
    with mirrors():
        assert (mirrored(ADDRESS, "run") / "log").read_text() == here_now
    assert there(memory) == {"/log": here_now.encode()}


def test_a_storage_that_fails_after_it_has_taken_a_file(memory, monkeypatch):
    """How the file is there is asked for again; meanwhile it has changed here."""
    with mirrors():
        path = mirrored(ADDRESS, "run")
        write(path, weights="old")
        found = MemoryFileSystem.find
        with monkeypatch.context() as patch:
            asked = []

            def fail(self, *arguments, **options):
                asked.append(1)
                if len(asked) > 1:
                    raise PermissionError("no answer")
                return found(self, *arguments, **options)

            patch.setattr(MemoryFileSystem, "find", fail)
            memory.pipe("/bucket/runs/mine/other", b"")  # so that there is a folder to be listed
            with pytest.raises(MachineError, match="no answer"):
                mirror._open[0].synchronise()
        assert there(memory)["/weights"] == b"old"
        write(path, weights="newer")
    assert there(memory)["/weights"] == b"newer"


def test_a_folder_that_was_removed_there_stays_here(memory):
    with mirrors():
        path = mirrored(ADDRESS, "run")
        write(path, a="1")
    memory.rm("/bucket/runs/mine", recursive=True)
    message = "all files that were at this address are gone"
    with pytest.raises(DataError, match=message), mirrors():
        mirrored(ADDRESS, "run")
    assert (path / "a").read_text() == "1"


def test_what_says_that_files_are_complete_comes_last(memory, monkeypatch):
    order, original = [], MemoryFileSystem.put_file

    def put(self, file, place, **options):
        order.append(place.rpartition("/")[2])
        original(self, file, place, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put)
    with mirrors():
        names = ("a_json", "b", "checksums_json", "summary_json", "z")
        write(mirrored(ADDRESS, "run"), **dict.fromkeys(names, "1"))
    assert order == ["b", "z", "a.json", "checksums.json", "summary.json"]


def test_a_training_is_copied_while_it_goes_on(memory, monkeypatch):
    monkeypatch.setattr(mirror, "_SECONDS", 0.01)
    with mirrors():
        path = mirrored(ADDRESS, "run", watch=True)
        write(path, ckpt__weights="1")
        time.sleep(0.05)
        assert not there(memory), "nothing is finished yet"
        write(path, ckpt__step_json="{}")
        wait_for(lambda: len(there(memory)) == 2)
        assert there(memory) == {"/ckpt/weights": b"1", "/ckpt/step.json": b"{}"}


def test_a_storage_that_fails_loses_nothing(memory, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("access denied")

    with (
        monkeypatch.context() as patch,
        pytest.raises(MachineError, match="cannot write: access denied") as caught,
        mirrors(),
    ):
        path = mirrored(ADDRESS, "run")
        write(path, a="1")
        patch.setattr(MemoryFileSystem, "put_file", refuse)
    assert f"What was written is in {path.parent}" in str(caught.value)
    assert (path / "a").read_text() == "1" and not there(memory)
    with mirrors():
        mirrored(ADDRESS, "run")
    assert there(memory) == {"/a": b"1"}


def test_a_storage_that_refuses_is_noticed_before_the_work(memory, monkeypatch):
    with mirrors():
        mirrored(ADDRESS, "run", writes=True)
    assert not memory.store

    def refuse(*_, **__):
        raise PermissionError("access denied")

    monkeypatch.setattr(MemoryFileSystem, "put_file", refuse)
    with mirrors(), pytest.raises(MachineError, match=f"{ADDRESS}: cannot write: access denied"):
        mirrored(ADDRESS, "run", writes=True)


def test_an_error_is_the_one_that_is_reported(memory):
    with pytest.raises(DataError, match="first"), mirrors():
        write(mirrored(ADDRESS, "run"), a="1")
        raise DataError("first")
    assert there(memory) == {"/a": b"1"}, "what a stopped training has saved"


def test_one_process_of_a_machine_synchronises(memory):
    """Others, such as those of single repetitions, write into the same copy."""
    with mirrors():
        mirrored(ADDRESS, "run")  # there is nothing
    with holding_the_lock() as other:
        with mirrors():
            write(mirrored(ADDRESS, "run"), a="1")
        assert not there(memory)
        with mirrors():
            mirrored(ADDRESS, "run")
            other.communicate("")
        assert there(memory) == {"/a": b"1"}, "the other has ended meanwhile"


def holding_the_lock():
    """Another process that synchronises, until its standard input ends."""
    lock = mirror_path(ADDRESS).parent / ".mirror.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    program = (
        "import sys\n"
        "from tfxc.core.storage.locks import locked\n"
        f"with locked({str(lock)!r}, print):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    found = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert found.stdout.readline() == "held\n"
    return found


def test_the_first_copy_is_waited_for(memory, monkeypatch, capsys):
    """Another process makes it; when that has failed, it is made here."""
    memory.pipe("/bucket/runs/mine/a", b"1")
    with holding_the_lock() as other, mirrors():
        take_over = mirror.Mirror._take_over
        seen = []

        def look(self):
            take_over(self)
            seen.append(self._owner)
            if len(seen) == 3:
                other.communicate("")

        monkeypatch.setattr(mirror.Mirror, "_take_over", look)
        assert (mirrored(ADDRESS, "run") / "a").read_text() == "1"
        assert seen[:3] == [False] * 3 and seen[-1]
    assert capsys.readouterr().err.count("which copies it") == 1


def test_what_only_reads_leaves_the_copying_to_a_training(memory, monkeypatch):
    """As a server that runs on for days, next to the training of a newer version."""
    monkeypatch.setattr(mirror, "_SECONDS", 0.01)
    with mirrors():
        write(mirrored(ADDRESS, "run"), a="1", old="1")
    with mirrors():
        path = mirrored(ADDRESS, "run")  # the server's
        training = mirror.Mirror(ADDRESS, "run")
        training.begin()
        training.watch()
        write(path, step_json="{}", late="1")
        (path / "old").unlink()
        wait_for(lambda: "/step.json" in there(memory))
        training.close()
        assert sorted(there(memory)) == ["/a", "/late", "/step.json"]
    assert sorted(there(memory)) == ["/a", "/late", "/step.json"]


def test_a_storage_that_cannot_be_written_to(memory, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(MemoryFileSystem, "put_file", refuse)
    with (
        mirrors(),
        pytest.raises(
            ConfigError, match=f"{ADDRESS}: this kind of storage cannot be used to write"
        ),
    ):
        mirrored(ADDRESS, "--output", writes=True)


def test_a_data_set_is_no_storage(memory):
    with mirrors(), pytest.raises(ConfigError, match="'hf:mine' is a data set"):
        mirrored("hf:mine", "--run")


def test_a_search_is_copied_while_it_goes_on(memory, monkeypatch):
    command = ["--config", "quickstart", "--try", "seed=1,2", "--runs", ADDRESS]
    with mirrors():
        options = parse(search.Options, command, "search", "")
        assert options.runs == str(mirror_path(ADDRESS))
        assert mirror._open[0]._thread.is_alive()
    monkeypatch.setattr(MemoryFileSystem, "put_file", lambda *_, **__: 1 / 0)
    with mirrors(), pytest.raises(ZeroDivisionError):
        parse(search.Options, command, "search", "")


def test_locks_are_released(memory):
    with mirrors():
        mirrored(ADDRESS, "run")
    with locked(mirror_path(ADDRESS).parent / ".mirror.lock", pytest.fail):
        pass
