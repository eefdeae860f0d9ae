import errno
import functools
import json
import os
import signal
import stat
from pathlib import Path

import numpy as np
import pytest

from tfxc.core import cli
from tfxc.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MachineError,
    NonFiniteLossError,
    UserError,
)
from tfxc.core.storage import files
from tfxc.core.storage.files import atomic_file, write_array, write_errors, write_json
from tfxc.core.storage.ownership import MARKER, atomic_folder
from tfxc.core.storage.reading import checksum, read_array, read_json

MISHAPS = [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ValueError("bug"), SystemExit(3)]


def names(folder):
    """Everything in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())


folder_of_letters = functools.partial(atomic_folder, kind="folder of letters")


def content(path):
    """What a file, or the files of a folder, hold; None where there is nothing."""
    if path.is_dir():
        return {p.name: p.read_text() for p in path.iterdir() if p.name != MARKER}
    return path.read_text() if path.exists() else None


# errors


def test_message():
    error = UserError("4 labels expected, found 3.", fix="fix it.", where="a.txt:2")
    assert str(error) == "a.txt:2: 4 labels expected, found 3. Fix it."
    assert str(UserError("bad")) == "bad"
    assert str(UserError("bad", where=Path("x") / "y")) == f"x{os.sep}y: bad"
    assert (error.problem, error.fix, error.where) == (
        "4 labels expected, found 3.",
        "fix it.",
        "a.txt:2",
    )


def test_omission_dots_and_question_marks_stay():
    error = UserError("the cell starts with 'a, b, ...", fix='write "reader": ...')
    assert str(error) == """the cell starts with 'a, b, ... Write "reader": ..."""
    assert str(UserError("no key x, or y?", fix="say y")) == "no key x, or y? Say y."


@pytest.mark.parametrize("kind", [DataError, ConfigError, CheckpointError, NonFiniteLossError])
def test_errors_are_value_errors(kind):
    assert issubclass(kind, UserError) and issubclass(kind, ValueError)


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (DataError("bad", where="a.txt:1", fix="fix"), 2, "tfxc: a.txt:1: bad. Fix."),
        (KeyboardInterrupt(), 130, "tfxc: stopped by SIGINT"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"),
            2,
            "tfxc: a/b: no such file or directory. Check the path.",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "a"),
            1,
            "tfxc: a: the disk is full. Free some space or choose another folder.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a"),
            1,
            "tfxc: a: permission denied. Check its permissions.",
        ),
    ],
)
def test_exit_codes(capsys, raised, code, message):
    def main(argv):
        raise raised

    with pytest.raises(SystemExit) as caught:
        cli.run(main, [])
    assert caught.value.code == code
    found = capsys.readouterr()
    assert found.err == message + "\n" and not found.out


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_searches_wait_asleep(monkeypatch, given, expected):
    """Before a command loads a native module, unless the user has chosen."""
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    seen = []
    with pytest.raises(SystemExit):
        cli.run(lambda argv: seen.append(os.environ["OMP_WAIT_POLICY"]), [])
    assert seen == [expected]


def test_a_bug_keeps_its_traceback():
    def main(argv):
        raise KeyError("bug")

    with pytest.raises(KeyError):
        cli.run(main, [])


@pytest.mark.parametrize("code", [0, 2, None])
def test_a_command_decides_its_exit_code(code):
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda argv: code, [])
    assert caught.value.code == code


# files


@pytest.mark.parametrize("before", [None, "old"])
def test_atomic_file(tmp_path, before):
    path = tmp_path / "deep" / "a.txt"
    if before:
        path.parent.mkdir()
        path.write_text(before)
    with atomic_file(path) as stream:
        stream.write("né")
        assert content(path) == before
    assert path.read_text(encoding="utf-8") == "né"
    assert names(path.parent) == ["a.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with atomic_file(path, "wb") as stream:
        stream.write(b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("mishap", MISHAPS, ids=repr)
@pytest.mark.parametrize("before", [None, "old"])
def test_atomic_file_that_fails_leaves_nothing(tmp_path, before, mishap):
    path = tmp_path / "a.txt"
    if before:
        path.write_text(before)
    expected = UserError if isinstance(mishap, OSError) else type(mishap)
    with pytest.raises(expected), atomic_file(path) as stream:
        stream.write("new")
        stream.flush()
        raise mishap
    assert content(path) == before
    assert names(tmp_path) == (["a.txt"] if before else [])


@pytest.mark.parametrize("mishap", MISHAPS, ids=repr)
@pytest.mark.parametrize("before", [None, {"b.txt": "old"}])
def test_atomic_folder_that_fails_leaves_nothing(tmp_path, before, mishap):
    path = tmp_path / "a"
    if before:
        with folder_of_letters(path) as scratch:
            (scratch / "b.txt").write_text("old")
    expected = UserError if isinstance(mishap, OSError) else type(mishap)
    with pytest.raises(expected), folder_of_letters(path) as scratch:
        (scratch / "c.txt").write_text("new")
        raise mishap
    assert content(path) == before
    assert names(tmp_path) == (["a"] if before else [])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(20, dtype=np.float32)[::2],
        np.zeros((0, 3)),
        np.array(True),
    ],
    ids=["rows", "columns", "strided", "empty", "scalar"],
)
def test_write_array(array, tmp_path, monkeypatch):
    """The same file as NumPy's own."""
    monkeypatch.setattr(files, "_AT_ONCE", 5)
    write_array(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_atomic_folder(tmp_path):
    path = tmp_path / "deep" / "a"
    for text in ("one", "two"):
        with folder_of_letters(path) as scratch:
            (scratch / f"{text}.txt").write_text(text)
        assert content(path) == {f"{text}.txt": text}
        assert names(path.parent) == ["a"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_a_folder_that_cannot_be_moved_in_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a"
    with folder_of_letters(path) as scratch:
        (scratch / "b.txt").write_text("old")
    replace, calls = os.replace, []

    def full_the_second_time(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full_the_second_time)
    with pytest.raises(UserError, match="the disk is full"), folder_of_letters(path) as scratch:
        (scratch / "b.txt").write_text("new")
    assert content(path) == {"b.txt": "old"}
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"a.txt: cannot write: the disk is full. Free some space"),
        (errno.EDQUOT, r"quota is used up"),
        (errno.EACCES, r"permission denied.*Choose a folder you may write to"),
        (errno.EROFS, r"the file system is read-only"),
    ],
)
@pytest.mark.parametrize(
    ("atomic", "step"),
    [
        (atomic_file, "mkdir"),
        (atomic_file, "fsync"),
        (atomic_file, "replace"),
        (folder_of_letters, "mkdir"),
        (folder_of_letters, "replace"),
    ],
)
def test_refused_writes_are_user_errors(tmp_path, monkeypatch, atomic, step, number, message):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    owner = Path if step == "mkdir" else os
    monkeypatch.setattr(owner, step, refuse)
    with pytest.raises(UserError, match=message), atomic(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("atomic", [atomic_file, folder_of_letters])
def test_a_file_in_place_of_the_folder(tmp_path, atomic):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "deeper" / "a"):
        with pytest.raises(UserError, match="there is a file where a folder"), atomic(path):
            pass
    assert names(tmp_path) == ["file"]


def test_a_file_is_never_replaced_by_a_folder_or_the_other_way_round(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    for atomic, name in ((folder_of_letters, "file"), (atomic_file, "folder")):
        with pytest.raises(UserError, match=f"there is a {name} where"), atomic(tmp_path / name):
            pass
    assert (tmp_path / "file").read_text() == "kept"
    assert (tmp_path / "folder").is_dir()


def test_other_os_errors_pass_unchanged():
    with pytest.raises(FileNotFoundError), write_errors("a"):
        raise FileNotFoundError(errno.ENOENT, "absent")


def test_checksum(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")  # the example of FIPS 180-2
    assert checksum(path).startswith(
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a"
    )


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 7.45 GiB for an array"), None])
def test_too_little_memory_is_one_line(capsys, error):
    if error is None:
        import tensorflow as tf

        message = "OOM when allocating tensor with shape[2000000000,32] and type float"
        error = tf.errors.ResourceExhaustedError(None, None, message)

    def main(argv):
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run(main, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 1 and line.startswith("tfxc: not enough memory (")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_clean_up_and_say_so(tmp_path, capsys, number):
    def main(argv):
        with atomic_file(tmp_path / "a") as stream:
            stream.write("half")
            signal.raise_signal(number)

    earlier = signal.signal(number, signal.SIG_DFL)  # nohup, which may run the tests, ignores it
    try:
        with pytest.raises(SystemExit) as caught:
            cli.run(main, [])
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, earlier)
    assert caught.value.code == 128 + number
    assert capsys.readouterr().err == f"tfxc: stopped by {signal.Signals(number).name}\n"
    assert not list(tmp_path.iterdir())


def test_an_ignored_signal_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.run(lambda argv: signal.raise_signal(signal.SIGHUP), [])
        assert not caught.value.code
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_files_never_hold_what_json_has_not(tmp_path, value):
    write_json(tmp_path / "a.json", {"loss": value, "rows": [1, (value, 2.5)], "name": "ä"})
    expected = {"loss": None, "rows": [1, [None, 2.5]], "name": "ä"}
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == expected


def test_write_json_is_whole_or_not_there(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert not list(tmp_path.iterdir())


# What stands at the path, and what the message says.
UNREADABLE = {
    "missing": (lambda path: None, DataError, "no such file"),
    "a folder": (lambda path: path.mkdir(), DataError, "it is a folder, not a file"),
    "a pipe": (os.mkfifo, DataError, "it is a named pipe, not a file"),
    "a loop": (lambda path: path.symlink_to(path), DataError, "too many levels"),
    "empty": (lambda path: path.touch(), DataError, "damaged, or of another format"),
    "garbage": (lambda path: path.write_bytes(b"\xff\xfe{["), DataError, "damaged"),
}


@pytest.mark.parametrize("read", [read_json, read_array])
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_one_clear_error(tmp_path, name, read):
    make, kind, message = UNREADABLE[name]
    make(path := tmp_path / "a")
    with pytest.raises(kind, match=message) as caught:
        read(path, fix="train again")
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("Train again.")


def test_a_file_that_the_machine_refuses(tmp_path, monkeypatch):
    (path := tmp_path / "a.json").write_text("{}")

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(MachineError, match=r"a\.json: cannot read: permission denied"):
        read_json(path)


def test_json_of_another_type(tmp_path):
    (path := tmp_path / "a.json").write_text("[1]")
    with pytest.raises(DataError, match="not a JSON object"):
        read_json(path)
