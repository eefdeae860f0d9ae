"""Large variables of a checkpoint, in slices."""

import numpy as np
import pytest
import tensorflow as tf

from tfxc.ops.tables import large_weights
from tfxc.ops.tables.saved_tables import is_large, read_tables, table_shapes, write_tables


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.setattr(large_weights, "_PIECE", 2**12)
    draw = np.random.default_rng(0)
    shapes = {"one": (700, 16), "two": (40, 10, 20)}
    return {
        name: tf.Variable(draw.normal(size=shape).astype(np.float32))
        for name, shape in shapes.items()
    }


def _change(tables):
    for variable in tables.values():
        variable.scatter_sub(tf.IndexedSlices(tf.ones([1, *variable.shape[1:]]), [39]))


def _address(variable):
    return np.asarray(memoryview(variable.read_value_no_copy())).ctypes.data


def test_what_was_written_is_read_in_place(tables, tmp_path):
    _change(tables)  # from here on no array shares their memory
    expected = {name: variable.numpy().copy() for name, variable in tables.items()}
    places = {name: _address(variable) for name, variable in tables.items()}
    write_tables(tmp_path / "ckpt-1.tables", tables)
    _change(tables)
    read_tables(tmp_path / "ckpt-1.tables", tables)
    for name, variable in tables.items():
        np.testing.assert_array_equal(variable.numpy(), expected[name])
        assert _address(variable) == places[name]


def test_slices_are_read_one_at_a_time(tables, tmp_path, monkeypatch):
    write_tables(tmp_path / "t", tables)
    read, restore = [], tf.raw_ops.RestoreV2
    monkeypatch.setattr(
        tf.raw_ops, "RestoreV2", lambda **given: read.append(restore(**given)) or read[-1]
    )
    read_tables(tmp_path / "t", {"one": tables["one"]})
    assert [rows.shape[0] for (rows,) in read] == [64] * 10 + [60]


def test_what_is_not_there_or_of_another_shape_is_refused(tables, tmp_path):
    write_tables(tmp_path / "t", {"one": tables["one"]})
    assert table_shapes(tmp_path / "t") == {"one": [700, 16]}
    assert table_shapes(tmp_path / "other") == {}
    with pytest.raises(ValueError, match=r"two has the shape None, not \(40, 10, 20\)"):
        read_tables(tmp_path / "t", tables)
    with pytest.raises(ValueError, match=r"the shape \[700, 16\], not \(40, 10, 20\)"):
        read_tables(tmp_path / "t", {"one": tables["two"]})


def test_which_are_large(tables):
    assert is_large(tables["one"]) and is_large(tables["two"])
    assert not is_large(tf.Variable(tf.zeros((700, 16), tf.bfloat16)))
    assert not is_large(tf.Variable(0)) and not is_large(tf.Variable(tf.zeros((8, 16))))
