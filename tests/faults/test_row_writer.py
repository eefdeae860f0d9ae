"""Rows in a file, whatever happens on the way: kills, full disks, damage, two writers."""

import errno
import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.commands.calls import call
from tests.data.sources.examples import write_jsonl
from tests.small_runs import config_tree, make_run
from tfxc.commands import distill, encode
from tfxc.core.errors import DataError, MachineError, UserError
from tfxc.data.reading.parsing.row_file import read_progress, unfinished_files
from tfxc.data.store import row_writer
from tfxc.data.store.row_writer import RowWriter

ROWS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


def saved(array):
    """The bytes that NumPy itself writes."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def writer_of(folder, **changes):
    arguments = {"dtype": "float32", "computation": {"of": "a"}, "num_rows": 40}
    return RowWriter(folder / "v.npy", **{**arguments, "row_shape": (3,), **changes})


class Stop(BaseException):
    """Ctrl-C at a chosen place."""


def begin(folder, rows=slice(0, 15), **changes):
    """Leaves a file of which only some rows are written."""
    with pytest.raises(Stop), writer_of(folder, **changes) as writer:
        writer.write(rows.start, ROWS[rows])
        raise Stop


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("shape", [(40,), (40, 3), (40, 2, 5), (40, 0), (0, 3)])
@pytest.mark.parametrize("known", [True, False])
def test_the_bytes_are_those_of_numpy(tmp_path, dtype, shape, known):
    random = np.random.default_rng(1)
    array = random.integers(-9, 9, shape).astype(dtype)
    order, sizes = random.permutation(len(array)), {"num_rows": len(array), "row_shape": shape[1:]}
    with writer_of(tmp_path, dtype=dtype, **(sizes if known else dict.fromkeys(sizes))) as writer:
        writer.write(order[:25], array[order[:25]])
        for place in order[25:]:
            writer.write(int(place), array[place : place + 1])
    assert names(tmp_path) == ["v.npy"]
    assert (tmp_path / "v.npy").read_bytes() == saved(array)


SCRIPT = """
import os, sys
import numpy as np
from tfxc.data.store import row_writer
row_writer._SECONDS_BETWEEN_FLUSHES = 0.0
rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
num_rows, stop = eval(sys.argv[2]), int(sys.argv[3])
with row_writer.RowWriter(
    sys.argv[1], dtype="float32", computation={"of": "a"}, num_rows=num_rows, row_shape=(3,)
) as writer:
    print(int(writer.done.sum()))
    for start in range(0, 40, 4):
        if start == stop:
            row_writer.os.replace = lambda *_: os.kill(os.getpid(), 9)  # in the midst of a flush
        if not writer.is_done(start, start + 4):
            writer.write(start, rows[start : start + 4])
"""


@pytest.mark.parametrize("num_rows", [40, None])
def test_killed_twice_is_the_same_bytes_and_leaves_nothing(tmp_path, num_rows):
    found = []
    for stop in (12, 28, 99):
        arguments = (tmp_path / "v.npy", num_rows, stop)
        command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
        process = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert process.returncode == (0 if stop == 99 else -9), process.stderr
        found.append(names(tmp_path))
    left = [".v.npy.progress", ".v.npy.progress.new", ".v.npy.unfinished"]
    assert found == [left, left, ["v.npy"]], "one unfinished file at any time, and none at the end"
    assert (tmp_path / "v.npy").read_bytes() == saved(ROWS)


@pytest.mark.parametrize("sizes", [{}, {"num_rows": None}, {"row_shape": None}])
def test_stopped_twice_goes_on(tmp_path, sizes):
    begin(tmp_path, **sizes)
    begin(tmp_path, slice(30, 40), **sizes)
    description, done = read_progress(tmp_path / "v.npy")
    assert description["computation"] == {"of": "a"}
    assert np.flatnonzero(done).tolist() == [*range(15), *range(30, 40)]
    with writer_of(tmp_path, **sizes) as writer:
        assert writer.is_done(0, 15) and not writer.done[15:30].any() and writer.is_done(30, 40)
        writer.write(15, ROWS[15:30])
    assert names(tmp_path) == ["v.npy"] and (tmp_path / "v.npy").read_bytes() == saved(ROWS)


@pytest.mark.parametrize(
    "changes",
    [{"computation": {"of": "b"}}, {"dtype": "float16"}, {"num_rows": 41}, {"row_shape": (4,)}],
)
def test_another_computation_starts_anew(tmp_path, capsys, changes):
    begin(tmp_path)
    with pytest.raises(Stop), writer_of(tmp_path, **changes) as writer:
        assert not writer.done.any()
        raise Stop
    assert "v.npy: starting over; the unfinished file" in capsys.readouterr().err
    assert names(tmp_path) == [], "what is not even started leaves nothing"


def test_work_that_cannot_be_repeated_leaves_nothing(tmp_path):
    begin(tmp_path, computation=None)
    assert names(tmp_path) == []
    begin(tmp_path)
    unfinished_files(tmp_path / "v.npy")[1].unlink()  # a kill before the first flush
    with writer_of(tmp_path, computation=None) as writer:
        assert not writer.done.any()
        writer.write(0, ROWS)
    assert names(tmp_path) == ["v.npy"]


def test_any_damage_to_what_is_known_starts_anew(tmp_path, capsys):
    begin(tmp_path)
    path = unfinished_files(tmp_path / "v.npy")[1]
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert read_progress(tmp_path / "v.npy") == (None, None), place
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert read_progress(tmp_path / "v.npy") == (None, None), length
    with writer_of(tmp_path) as writer:
        assert not writer.done.any()
        writer.write(0, ROWS)
    assert "is damaged" in capsys.readouterr().err
    assert (tmp_path / "v.npy").read_bytes() == saved(ROWS)


def test_two_writers(tmp_path):
    with writer_of(tmp_path) as first:
        with pytest.raises(UserError, match=r"v\.npy: another process is writing.*Wait until"):
            writer_of(tmp_path).__enter__()
        first.write(0, ROWS)
    assert (tmp_path / "v.npy").read_bytes() == saved(ROWS)


def test_the_other_writer_finishes_while_this_one_opens_its_file(tmp_path, monkeypatch):
    """The file that was opened is the finished one by then, and must not be written to."""
    other, try_lock = writer_of(tmp_path).__enter__(), row_writer.try_lock
    other.write(0, ROWS)

    def late(descriptor):
        other.__exit__(None, None, None)
        return try_lock(descriptor)

    monkeypatch.setattr(row_writer, "try_lock", late)
    with pytest.raises(UserError, match="another process"):
        writer_of(tmp_path).__enter__()
    assert names(tmp_path) == ["v.npy"] and (tmp_path / "v.npy").read_bytes() == saved(ROWS)


@pytest.mark.parametrize(
    ("start", "rows"),
    [(0, ROWS[:, :2]), (38, ROWS[:3]), ([0, 40], ROWS[:2]), (0, ROWS[:3, :, None])],
)
def test_rows_that_do_not_fit(tmp_path, start, rows):
    expected = r"a row of the file has the shape \(3,\), and there are 40 of them"
    with pytest.raises(DataError, match=expected), writer_of(tmp_path) as writer:
        writer.write(start, rows)


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "v.npy").mkdir()
    with pytest.raises(UserError, match="there is a folder where a file is to be written"):
        writer_of(tmp_path).__enter__()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="there is a file where a folder is to be written"):
        writer_of(tmp_path / "file").__enter__()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(row_writer, "try_lock", refuse)
    with writer_of(tmp_path) as writer:
        writer.write(0, ROWS)
    assert (tmp_path / "v.npy").read_bytes() == saved(ROWS)


# full disks


@pytest.mark.parametrize("row_shape", [(3,), None])
def test_the_space_is_reserved_before_any_row(tmp_path, file_limit, row_shape):
    file_limit(500)
    written = []
    expected = r"v\.npy: cannot write: the file would be too large"
    with pytest.raises(MachineError, match=expected):  # noqa: SIM117 (the first raises as well)
        with writer_of(tmp_path, row_shape=row_shape) as writer:
            writer.write(0, ROWS[:1])
            written.append(1)
    assert not written
    assert names(tmp_path) == []
    file_limit(5000)
    with writer_of(tmp_path, row_shape=row_shape) as writer:
        writer.write(0, ROWS)
    assert (tmp_path / "v.npy").read_bytes() == saved(ROWS)


def test_the_reserved_space_is_taken(tmp_path):
    with writer_of(tmp_path, num_rows=100_000) as writer:
        found = os.fstat(writer._file)
        assert found.st_blocks * 512 >= found.st_size >= 1_200_000


@pytest.mark.parametrize("missing", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_file_systems_that_cannot_reserve(tmp_path, monkeypatch, missing):
    def refuse(*_):
        raise OSError(missing, "no")

    if missing is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    with writer_of(tmp_path) as writer:
        writer.write(0, ROWS)
    assert (tmp_path / "v.npy").read_bytes() == saved(ROWS)
    (tmp_path / "v.npy").unlink()
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(row_writer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MachineError, match="the disk is full: 608 bytes needed, 100 bytes free"):
        writer_of(tmp_path).__enter__()
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_on_the_way(tmp_path, file_limit):
    """Where the number of rows is not known nothing can be reserved; what is done stays."""
    file_limit(500)
    with pytest.raises(MachineError, match="cannot write"), writer_of(tmp_path, num_rows=None) as w:
        for start in range(0, 40, 4):
            w.write(start, ROWS[start : start + 4])
    file_limit(5000)
    with writer_of(tmp_path, num_rows=None) as writer:
        assert writer.is_done(0, 28) and len(writer.done) == 28
        writer.write(28, ROWS[28:])
    assert names(tmp_path) == ["v.npy"] and (tmp_path / "v.npy").read_bytes() == saved(ROWS)


# the commands


def signal_at(monkeypatch, write, number=signal.SIGTERM):
    """Sends a signal to this process at a writer's n-th ``write``; returns the calls so far."""
    calls, original = [], RowWriter.write

    def written(self, *arguments):
        calls.append(self.path.name)
        original(self, *arguments)
        if len(calls) == write:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(RowWriter, "write", written)
    return calls


@pytest.fixture
def student(tmp_path):
    """Two teachers and the command that distils them."""
    classes = ["fox", "hen", "owl"]
    for split, count in (("train", 150), ("dev", 10)):
        texts = [(f"the butter {n} flour {classes[n % 3]}", [classes[n % 3]]) for n in range(count)]
        write_jsonl(tmp_path / f"{split}.jsonl", texts)
    parts = {"text_features": {"name": "tfidf"}, "names": classes}
    teachers = [make_run(tmp_path / f"teacher-{seed}", seed=seed, **parts) for seed in range(2)]
    data = {"name": "student", "text_features": {"name": "tfidf"}, "shard_examples": 40}
    encoder = {"name": "bag_mlp", "hidden": [4]}
    tree = config_tree(tmp_path, encoder, run="student", data=data, training={"epochs": 1})
    (tmp_path / "student.json").write_text(json.dumps(tree))
    command = ["--config", tmp_path / "student.json", "--prepared", tmp_path / "prepared"]
    return [*command, "--teacher", teachers[0], "--teacher", teachers[1]]


@pytest.mark.slow  # `encode` is stopped in the same way below
def test_stopped_while_the_teachers_are_asked(student, tmp_path, capsys, monkeypatch):
    """150 examples are three batches for each of two teachers: six writes."""
    run, counts = tmp_path / "student", []
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with monkeypatch.context() as patch:
            calls = signal_at(patch, 2, number)
            outcome = call(capsys, distill, *student)
        assert outcome.code == code, outcome.err
        assert "finished examples are saved; run the same command again to resume" in outcome.out
        assert "Traceback" not in outcome.err and not (run / "teacher_logits.npy").exists()
        counts.append((len(calls), len([*run.glob(".*unfinished")])))
    assert counts == [(2, 1), (2, 1)]
    with monkeypatch.context() as patch:
        calls = signal_at(patch, 99)
        assert call(capsys, distill, *student).code == 0
    assert len(calls) == 2, "the other four were done"
    assert not [*run.glob(".teacher*"), *run.glob("*-sum-*")]
    found = (run / "teacher_logits.npy").read_bytes()
    assert call(capsys, distill, *student, "--fresh").code == 0
    assert (run / "teacher_logits.npy").read_bytes() == found


@pytest.mark.slow
def test_teachers_that_are_trained_again(student, tmp_path, capsys, monkeypatch):
    """What was asked of the old ones is not gone on with, nor is a student of theirs."""
    run, weights = tmp_path / "student", tmp_path / "teacher-0" / "model.weights.h5"
    old = weights.read_bytes()
    with monkeypatch.context() as patch:
        signal_at(patch, 4)
        assert call(capsys, distill, *student).code == 143
    assert len([*run.glob("teacher_logits-sum-*.npy")]) == 1
    weights.write_bytes((tmp_path / "teacher-1" / "model.weights.h5").read_bytes())
    with monkeypatch.context() as patch:
        calls = signal_at(patch, 99)
        assert call(capsys, distill, *student).code == 0
    assert len(calls) == 6 and not [*run.glob("*-sum-*"), *run.glob(".teacher*")]
    logits = (run / "teacher_logits.npy").read_bytes()
    (run / "summary.json").unlink()
    weights.write_bytes(old)
    problem = call(capsys, distill, *student).problem()
    assert "teacher_logits.npy of the student is missing, or belongs to other" in problem
    assert (run / "teacher_logits.npy").read_bytes() == logits
    for path in (*run.glob("*.h5"), *run.glob("checkpoints/*")):
        path.unlink()  # nothing has been learnt from them
    assert call(capsys, distill, *student).code == 0
    assert (run / "teacher_logits.npy").read_bytes() != logits


def test_no_space_for_the_logits(student, tmp_path, capsys, file_limit, monkeypatch):
    """The space of both teachers' sums is there before one of them is asked."""
    reserved, calls = [], signal_at(monkeypatch, 99)

    def full(_descriptor, _offset, size):
        reserved.append(size)
        if len(reserved) == 2:
            raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        outcome = call(capsys, distill, *student)
    assert outcome.code == 1 and outcome.err.splitlines()[-1].startswith("tfxc: ")
    assert "the disk is full: 1,928 bytes needed" in outcome.err.splitlines()[-1]
    assert reserved == [1928, 1928] and not calls
    run = tmp_path / "student"
    assert [path.name for path in run.glob("*logits*")] == ["teacher_logits.npy.json"]
    assert call(capsys, distill, *student).code == 0


def test_encode_stopped_twice(tmp_path, capsys, monkeypatch):
    run = make_run(tmp_path / "run", text_features={"name": "tfidf"})
    (tmp_path / "texts.txt").write_text("".join(f"butter tea {n}\n" for n in range(10)))
    command = ["--run", run, tmp_path / "texts.txt", "--batch-size", 2, "--output"]
    assert call(capsys, encode, *command, tmp_path / "whole.npy").code == 0
    found = []
    for stop in (2, 2, 99):
        with monkeypatch.context() as patch:
            calls = signal_at(patch, stop)
            outcome = call(capsys, encode, *command, tmp_path / "out" / "v.npy")
        found.append((outcome.code, len(calls), names(tmp_path / "out")))
    left = [".v.npy.progress", ".v.npy.unfinished"]
    assert found == [(143, 2, left), (143, 2, left), (0, 1, ["v.npy"])]
    assert (tmp_path / "out" / "v.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    with monkeypatch.context() as patch:
        signal_at(patch, 2)
        assert call(capsys, encode, *command, tmp_path / "out" / "v.npy").code == 143
    (tmp_path / "texts.txt").write_text("".join(f"butter flour {n}\n" for n in range(10)))
    outcome = call(capsys, encode, *command, tmp_path / "out" / "v.npy")
    assert outcome.code == 0 and "starting over" in outcome.err
    assert names(tmp_path / "out") == ["v.npy"]
