"""Feature sets: written, stopped, gone on with, read, and refused."""

import errno
import json
import os

import numpy as np
import pytest

from tests.data.store.feature_sets.examples import files, vectors, write_set
from tfxc.core.errors import ConfigError, DataError, MachineError, UserError
from tfxc.core.storage import checksums
from tfxc.data.reading.parsing.feature_set import (
    FEATURES,
    LABELS,
    SETTINGS,
    FeatureSet,
    is_feature_set,
)
from tfxc.data.store import row_writer
from tfxc.data.store.feature_sets.writer import FeatureWriter

NAMES = list("abcdefg")
UNFINISHED, PROGRESS = f".{FEATURES}.unfinished", f".{FEATURES}.progress"


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "set")


def writer_of(folder, count=43, **changes):
    arguments = {"labels": np.arange(count) % 7, "num_features": 5, "num_labels": 7, **changes}
    return FeatureWriter(folder, **arguments)


class Stop(BaseException):
    """Ctrl-C at a chosen place."""


def begin(folder, rows=slice(10, 20), **changes):
    """Leaves a set of 43 rows of which only some are written."""
    with pytest.raises(Stop), writer_of(folder, **changes) as writer:
        writer.write(rows.start, vectors(43)[rows])
        raise Stop
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numpy_reads_what_is_written(tmp_path, dtype):
    folder = write_set(tmp_path / "set", dtype=dtype, label_names=NAMES)
    assert sorted(files(folder)) == sorted([
        checksums.FILE, SETTINGS, FEATURES, LABELS, "labels.txt",
    ])  # fmt: skip
    stored = np.load(folder / FEATURES)
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, vectors(43).astype(dtype))
    np.testing.assert_array_equal(np.load(folder / LABELS), np.arange(43) % 7)
    found = FeatureSet(folder)
    assert (found.num_examples, found.num_features, found.num_labels) == (43, 5, 7)
    assert found.label_names == NAMES and is_feature_set(folder)
    rows = np.empty((6, 5), np.float32)
    found.read(37, rows)
    np.testing.assert_array_equal(rows, stored[37:].astype(np.float32))
    blocks = list(found.blocks(10))
    assert [first for first, _, _ in blocks] == [0, 10, 20, 30, 40]
    np.testing.assert_array_equal(np.concatenate([block for _, block, _ in blocks]), stored)
    assert found.label_counts().tolist() == np.bincount(np.arange(43) % 7).tolist()


def test_stopped_and_resumed_is_the_same_bytes(tmp_path, folder):
    stopped = begin(tmp_path / "stopped")
    assert PROGRESS in files(stopped) and FEATURES not in files(stopped)
    with writer_of(stopped) as writer:
        assert writer.is_done(10, 20) and not writer.done[:10].any() and not writer.done[20:].any()
        writer.write(20, vectors(43)[20:])
        writer.write(0, vectors(43)[:10])
    assert files(stopped) == files(folder)
    with writer_of(stopped) as writer:  # a third time does nothing
        assert writer.finished and writer.is_done(0, 43)
    assert files(stopped) == files(folder)


def test_settings_that_json_changes_are_still_the_same(tmp_path):
    settings = {"image_shape": (4, 4, 3), "factor": np.float64(0.1).item(), "of": {"a": (1,)}}
    begin(tmp_path / "set", settings=settings)
    with writer_of(tmp_path / "set", settings=settings) as writer:
        assert writer.is_done(10, 20)


def test_what_a_kill_leaves_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(row_writer, "_SECONDS_BETWEEN_FLUSHES", 0.0)
    writer = writer_of(tmp_path / "set").__enter__()
    writer.write(5, vectors(43)[5:9])
    os.close(writer._rows._file)  # killed: nothing is tidied up
    with writer_of(tmp_path / "set") as again:
        assert np.flatnonzero(again.done).tolist() == [5, 6, 7, 8]
    with pytest.raises(DataError, match=r"incomplete: 39 of 43 rows are missing, the first is"):
        FeatureSet(tmp_path / "set")


def test_killed_before_the_checksums(folder):
    """The last file to be written is missing: a reader refuses, the same command writes it."""
    expected = (folder / checksums.FILE).read_bytes()
    (folder / checksums.FILE).unlink()
    with pytest.raises(DataError, match=r"checksums\.json: no such file"):
        FeatureSet(folder)
    with writer_of(folder) as writer:
        assert writer.finished
    assert (folder / checksums.FILE).read_bytes() == expected
    assert FeatureSet(folder).num_examples == 43


def test_half_written_says_how_to_go_on(tmp_path, folder, capsys):
    begin(tmp_path / "started", slice(0, 20))
    expected = r"23 of 43 rows are missing, the first is row 20\. Run the command .* ag"
    with pytest.raises(DataError, match=expected):
        FeatureSet(tmp_path / "started")
    (tmp_path / "started" / PROGRESS).write_bytes(b"?")
    with pytest.raises(DataError, match="the record of its finished rows is missing or damaged"):
        FeatureSet(tmp_path / "started")
    with writer_of(tmp_path / "started") as writer:
        assert not writer.done.any()
        writer.write(0, vectors(43))
    assert "starting over; the unfinished file is" in capsys.readouterr().err
    assert files(tmp_path / "started") == files(folder)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"labels": np.arange(43) % 6}, "labels_sha256"),
        ({"num_labels": 8}, r"num_labels \(7 -> 8\)"),
        ({"dtype": "float16"}, "dtype"),
        ({"settings": {"encoder": "b"}}, r"encoder \(None -> b\)"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_set_in_the_folder_is_refused(tmp_path, changes, key, finished):
    folder = write_set(tmp_path / "set") if finished else begin(tmp_path / "set")
    before = files(folder)
    with pytest.raises(UserError, match=rf"or settings; changed: .*{key}.*another folder"):
        writer_of(folder, **changes).__enter__()
    assert files(folder) == before


def test_arrays_of_others_are_not_overwritten(tmp_path):
    np.save(tmp_path / FEATURES, vectors(3))
    with pytest.raises(UserError, match=r"arrays that tfxc did not write: features\.npy"):
        writer_of(tmp_path).__enter__()
    assert np.load(tmp_path / FEATURES).shape == (3, 5)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="there is a file where a folder is to be written"):
        writer_of(tmp_path / "file").__enter__()


def no_space(*_):
    raise OSError(errno.ENOSPC, "full")


def test_two_writers_and_a_small_disk(tmp_path, monkeypatch):
    with writer_of(tmp_path / "set") as writer:
        with pytest.raises(UserError, match="another process is writing"):
            writer_of(tmp_path / "set").__enter__()
        writer.write(0, vectors(43))
    assert FeatureSet(tmp_path / "set").num_examples == 43
    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(MachineError, match=r"the disk is full: 988 bytes needed, .* free"):
        writer_of(tmp_path / "other").__enter__()
    assert files(tmp_path / "other") == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_their_row(tmp_path, folder, value):
    rows = vectors(43)
    rows[[17, 30], 2] = value
    expected = r"row 17 \(counted from 0\) has a feature that is NaN or infinite"
    with pytest.raises(DataError, match=expected):
        write_set(tmp_path / "other", rows)
    stored = np.load(folder / FEATURES, mmap_mode="r+")
    stored[17, 2] = value
    stored.flush()
    checksums.record(folder)  # as if it had been written so
    with pytest.raises(DataError, match=rf"features\.npy: {expected}"):
        list(FeatureSet(folder).blocks(10))


def test_large_finite_values_are_fine_and_too_large_ones_for_float16_are_not(tmp_path):
    rows = np.full((43, 5), 3e38, np.float32)
    write_set(tmp_path / "set", rows)
    assert next(FeatureSet(tmp_path / "set").blocks())[1].max() == rows.max()
    with pytest.raises(DataError, match=r"row 0 .* is NaN or infinite"):
        write_set(tmp_path / "other", rows, dtype="float16")


@pytest.mark.parametrize(("label", "row"), [(7, 12), (-1, 40)])
def test_labels_out_of_range_name_their_row(tmp_path, folder, label, row):
    labels = np.arange(43) % 7
    labels[row] = label
    expected = rf"row {row} .* has label {label}, but the labels go from 0 to 6 \(7 are declared\)"
    with pytest.raises(DataError, match=expected):
        writer_of(tmp_path / "other", labels=labels)
    np.save(folder / LABELS, labels.astype(np.int32))
    checksums.record(folder)  # as if it had been written so
    for read in (FeatureSet(folder).label_counts, lambda: list(FeatureSet(folder).blocks())):
        with pytest.raises(DataError, match=rf"labels\.npy: {expected}"):
            read()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": []}, DataError, "instead of one integer per example"),
        ({"labels": [[1]]}, DataError, r"the labels are int64 \(1, 1\)"),
        ({"labels": [0.5]}, DataError, "the labels are float64"),
        ({"label_names": ["a"]}, DataError, "there are 1 label names for 7 labels"),
        ({"num_labels": 2**31}, DataError, "2,147,483,648 labels, more than"),
        ({"dtype": "int8"}, ConfigError, "dtype: must be float32 or float16, not 'int8'"),
    ],
)
def test_arguments_that_cannot_be(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        writer_of(tmp_path / "set", **changes)
    assert not (tmp_path / "set").exists()


def test_rows_of_another_width_or_beyond_the_end(tmp_path):
    with writer_of(tmp_path / "set") as writer:
        for first, rows in ((0, vectors(3, 4)), (42, vectors(2))):
            with pytest.raises(DataError, match="do not fit into 43 rows of length 5"):
                writer.write(first, rows)


def edit(folder, **changes):
    tree = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps({**tree, **changes}))


def cut(folder, name, size):
    os.truncate(folder / name, size)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: [path.unlink() for path in f.iterdir()], "json: it is empty"),
        (lambda f: (f / SETTINGS).unlink(), r"it has no features\.json"),
        (lambda f: (f / SETTINGS).write_text("{"), r"features\.json: .* damaged"),
        (lambda f: edit(f, num_labels=0), r"features\.json: .* damaged"),
        (lambda f: edit(f, format_version=9), "has format 9, but this tfxc reads format 1"),
        (lambda f: edit(f, dtype="float16"), r"float32 \(43, 5\) instead of float16 \(43, 5\)"),
        (lambda f: edit(f, num_features=6), r"float32 \(43, 5\) instead of float32 \(43, 6\)"),
        (lambda f: (f / FEATURES).unlink(), r"features\.npy: no such file"),
        (lambda f: (f / FEATURES).write_bytes(b"no"), r"features\.npy: this is not an array of"),
        (lambda f: cut(f, FEATURES, 900), r"features\.npy: .* has 900 bytes instead of 988"),
        (lambda f: cut(f, FEATURES, 999), r"features\.npy: .* has 999 bytes instead of 988"),
        (lambda f: np.save(f / FEATURES, np.asfortranarray(vectors(43))), "in Fortran order"),
        (lambda f: np.save(f / LABELS, np.zeros(42, np.int32)),
         r"labels\.npy: .* int32 \(42,\) instead of int32 \(43,\) as features.json says"),
        (lambda f: np.save(f / LABELS, np.zeros(43)), r"labels\.npy: the array is float64"),
    ],
)  # fmt: skip
def test_damaged_sets(folder, damage, message):
    damage(folder)
    with pytest.raises(DataError, match=message):
        FeatureSet(folder)


def test_no_folder_and_a_file(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        FeatureSet(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="it is a file"):
        FeatureSet(tmp_path / "file")


def test_a_shortened_file_is_not_gone_on_with(tmp_path, folder, capsys):
    begin(tmp_path / "started")
    cut(tmp_path / "started", UNFINISHED, 300)
    with writer_of(tmp_path / "started") as writer:
        assert not writer.done.any()
        writer.write(0, vectors(43))
    assert "starting over" in capsys.readouterr().err and files(tmp_path / "started") == files(
        folder
    )
