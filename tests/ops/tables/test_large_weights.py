"""Weights that are started, read and written without a copy of them."""

import contextlib
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.processes import Started, finish
from tfxc.heads.sampled.head import Sampled
from tfxc.ops.tables import large_weights
from tfxc.ops.tables.large_weights import (
    LargeWeights,
    assign_in_pieces,
    pieces_of,
    without_starts,
)
from tfxc.ops.tables.row_start import RowStart
from tfxc.runs.checkpoint_files import CheckpointFiles
from tfxc.runs.weights_file import write_weights


class _Table(LargeWeights):
    def build(self, _shape=None):
        self.table = self.add_weight((10, 3), "ones", name="table")
        self.bias = self.add_weight((3,), "ones", name="bias")
        self.scale = self.add_weight((), "ones", name="scale")

    def call(self, rows):
        return tf.matmul(rows, self.table) * self.scale + self.bias


def test_no_start():
    with without_starts():
        table = _Table()
        table.build()
    assert not table.table.numpy().any() and not table.bias.numpy().any()
    again = _Table()
    again.build()
    assert again.table.numpy().all()


@pytest.mark.parametrize("piece", [1, 12, 36, 10_000])  # less than a row, 1, 3 and all rows
def test_what_was_saved_is_read(piece, monkeypatch):
    monkeypatch.setattr(large_weights, "_PIECE", piece)
    one, other = _Table(), _Table()
    one.build(), other.build()
    for variable in one.weights:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    store = {}
    one.save_own_variables(store)
    before = other.table.value
    other.load_own_variables(store)
    for variable, expected in zip(other.weights, one.weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected.numpy())
    assert other.table.value is before


def test_some_rows_do_not_copy_the_others(monkeypatch):
    """The memory of the variable stays where it is, also after it was read."""
    monkeypatch.setattr(large_weights, "_PIECE", 2**16)
    # Not from an array: its memory is NumPy's, which TensorFlow leaves at the first assignment.
    variable = keras.Variable("zeros", shape=(1024, 64), dtype="float32")
    place = _address(variable)
    for value in (1, 2):
        assign_in_pieces(variable, np.full((1024, 64), value, np.float32))
        assert float(tf.reduce_sum(variable.value)) == value * 1024 * 64
        assert _address(variable) == place


class _Drawn(LargeWeights):
    def build(self, _shape=None):
        self.table = self.add_weight((1000, 8), RowStart("normal", 1.0, seed=3), name="table")


def test_a_start_in_pieces_is_that_of_the_whole(monkeypatch):
    whole = _Drawn()
    whole.build()
    monkeypatch.setattr(large_weights, "_PIECE", 8 * 4 * 96)
    drawn = []
    rows = RowStart.rows
    monkeypatch.setattr(RowStart, "rows", lambda *given: drawn.append(given[2:]) or rows(*given))
    pieces = _Drawn()
    pieces.build()
    assert drawn == pieces_of((1000, 8)) and drawn[0] == (0, 96) and drawn[-1] == (960, 1000)
    np.testing.assert_array_equal(pieces.table.numpy(), whole.table.numpy())
    with keras.StatelessScope(initialize_variables=False):
        _Drawn().build()
    assert len(drawn) == 11, "weights that do not exist are not drawn"


def test_a_start_can_be_read_without_a_copy(monkeypatch):
    monkeypatch.setattr(large_weights, "_PIECE", 2**12)
    layer = _Drawn()
    layer.build()
    value = layer.table.value.read_value()  # first: ``_address`` would make it share the memory
    place = _address(layer.table)
    assert np.asarray(memoryview(value)).ctypes.data == place
    del value
    layer.table.value.scatter_sub(tf.IndexedSlices(tf.ones((1, 8)), [5]))
    assert _address(layer.table) == place


@pytest.mark.parametrize("distributed", [False, True])
def test_what_is_written_in_pieces_is_what_keras_writes(distributed, tmp_path, monkeypatch):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"] if not distributed else ["CPU:0", "CPU:1"])
    with strategy.scope() if distributed else contextlib.nullcontext():
        model, other = _model(), _model()
    values = np.arange(30, dtype=np.float32).reshape(10, 3)
    model.layers[0].table.assign(values)
    model.save_weights(tmp_path / "whole.weights.h5")
    monkeypatch.setattr(large_weights, "_PIECE", 24)
    model.save_weights(tmp_path / "pieces.weights.h5")
    with (
        h5py.File(tmp_path / "whole.weights.h5") as one,
        h5py.File(tmp_path / "pieces.weights.h5") as two,
    ):
        name = next(name for name in _names(one) if name.endswith("vars/0"))
        np.testing.assert_array_equal(two[name][()], values)
        assert _names(one) == _names(two) and one[name].dtype == two[name].dtype
    other.load_weights(tmp_path / "pieces.weights.h5")
    for copy in large_weights.copies_of(other.layers[0].table.value):
        np.testing.assert_array_equal(copy.numpy(), values)


def _peak():
    """MB that this process has had in memory at most."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def print_peaks(folder):
    """By how much the peak has risen after each phase of a large table's life."""
    tf.zeros(()), CheckpointFiles(folder, "small", [tf.Variable(0.0)]).save(1)
    before = _peak()
    made = keras.Sequential([Sampled(4_000_000)])
    made.layers[0].build((None, 32))
    made.built = True
    print("start", _peak() - before)
    kernel = made.layers[0].kernel.value
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(kernel, [3, 5]) ** 2)
    kernel.scatter_sub(tape.gradient(loss, kernel))
    files = CheckpointFiles(folder, "ckpt", [kernel])
    files.save(1)
    files.restore(1)
    print("checkpoint", _peak() - before)
    write_weights(made, folder / "one.weights.h5")
    made.load_weights(folder / "one.weights.h5")
    print("weights", _peak() - before)


def test_a_large_table_is_in_memory_once(tmp_path):
    """488 MB, in a process of its own: a second table would show as 976."""
    (output,) = finish(Started(print_peaks, tmp_path))
    found = dict(line.split() for line in output.splitlines())
    assert set(found) == {"start", "checkpoint", "weights"}
    for phase, rise in found.items():
        assert 480 < float(rise) < 880, phase


def _address(variable):
    return np.asarray(memoryview(variable.value.read_value_no_copy())).ctypes.data


def test_a_large_weight_is_never_read_as_a_whole(tmp_path, monkeypatch):
    """From the file that Keras writes; a data set in another file is refused as Keras does."""
    monkeypatch.setattr(large_weights, "_PIECE", 24)
    model, path = _model(), tmp_path / "one.weights.h5"
    model.layers[0].table.assign(np.arange(30).reshape(10, 3))
    model.save_weights(path)
    read, other = [], _model()
    slices = h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda s, key: read.append(slices(s, key)) or read[-1]
    )
    other.load_weights(path)
    np.testing.assert_array_equal(other.layers[0].table, model.layers[0].table)
    assert [array.shape for array in read[:5]] == [(2, 3)] * 5
    monkeypatch.undo()
    with h5py.File(path, "r+") as file:
        place = next(name for name in _names(file) if name.endswith("vars/0"))
        del file[place]
        file[place] = h5py.ExternalLink(str(tmp_path / "two.weights.h5"), "/secret")
    with pytest.raises((ValueError, KeyError)):
        _model().load_weights(path)


def _model():
    model = keras.Sequential([_Table()])
    model.build((None, 10))
    return model


def _names(file):
    found = []
    file.visit(found.append)
    return found


def test_other_shapes_are_refused(monkeypatch):
    monkeypatch.setattr(large_weights, "_PIECE", 12)
    table = _Table()
    table.build()
    with pytest.raises(ValueError, match="shape"):
        assign_in_pieces(table.table, np.ones((9, 3), np.float32))
    with pytest.raises(ValueError, match="3"):
        table.load_own_variables({"0": np.ones((10, 3))})
