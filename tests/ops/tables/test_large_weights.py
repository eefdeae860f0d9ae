"""Weights that are read without a copy of them."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.tables import large_weights
from tfxc.ops.tables.large_weights import LargeWeights, assign_in_pieces, without_starts


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
    variable = keras.Variable(np.zeros((1024, 64), np.float32))
    place = _address(variable)
    for value in (1, 2):
        assign_in_pieces(variable, np.full((1024, 64), value, np.float32))
        assert float(tf.reduce_sum(variable.value)) == value * 1024 * 64
        assert _address(variable) == place


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
